"""What augmentation does to a batch, as a function on arrays: the pictures of `data describe` are changed as those of a training."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from prioritizer.learning.training.augment import augmented
from prioritizer.learning.training.recipes import Recipe


def augmentation(recipe: Recipe) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """One draw of the recipe's augmentation: pictures float32 (N, S, S), 0..1, to the same shape; fixed by the recipe's seed."""

    def changed(pictures: NDArray[np.float32]) -> NDArray[np.float32]:
        rng = torch.Generator().manual_seed(recipe.seed)
        batch = augmented(torch.from_numpy(pictures)[:, None], recipe.augment, rng)
        return np.asarray(batch[:, 0].numpy(), dtype=np.float32)

    return changed
