"""How often each image is drawn: by class, by source, by what gives its file away."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch

from prioritizer.errors import ConfigError
from prioritizer.learning.cohorts.read import LabelledImage
from prioritizer.learning.description import shortcuts
from prioritizer.learning.description.file_facts import FILE_NAMES
from prioritizer.learning.training.recipes import Recipe

MAX_OFTEN = 10.0
"""How much oftener than the average a picture may be drawn by the sampler `unlinked`."""
MAKING = (*FILE_NAMES, "log sharpness", "share white", "share black", "standard deviation", "border mean")
"""Statistics of how a file was made. Brightness of the centre and the middle percentiles are left out: an opacity is bright too."""


def chances(labels: np.ndarray, propensity: np.ndarray, recipe: Recipe, images: Sequence[LabelledImage] = ()) -> torch.Tensor | None:
    """The chance of each picture (N,) for the recipe's sampler; None for a plain shuffle. `images` (N,) are for `sites` and `kinds`."""
    if recipe.sampler == "shuffle":
        return None
    positive = labels == 1
    if recipe.sampler == "balanced":
        weights = np.where(positive, 1 / positive.mean(), 1 / (1 - positive.mean()))
    elif recipe.sampler in ("sites", "kinds"):
        weights = _site_weights(positive, [image.site for image in images])
        if recipe.sampler == "kinds":
            weights = _kinds_alike(weights, [(image.site, image.label, image.subtype) for image in images])
    else:
        weights = np.where(positive, positive.mean() / propensity, (1 - positive.mean()) / (1 - propensity))
        weights = np.minimum(weights / weights.mean(), MAX_OFTEN)
    return torch.from_numpy(weights / weights.sum())


def _site_weights(positive: np.ndarray, sites: Sequence[str]) -> np.ndarray:
    """One over the number of pictures of the same site and class (N,). Raises ConfigError for a site with one class."""
    cells = list(zip(sites, positive.tolist(), strict=True))
    counts = Counter(cells)
    alone = sorted({site for site, _ in counts if len({label for at, label in counts if at == site}) < 2})
    if alone:
        raise ConfigError((f'sampler = "sites": the training images of site {", ".join(alone)} are of one class only',))
    return np.array([1 / counts[cell] for cell in cells])


def _kinds_alike(weights: np.ndarray, kinds: Sequence[tuple[str, int, str]]) -> np.ndarray:
    """The weights (N,), shared out so that every kind (site, class, subtype) of a class of a site has the same sum."""
    sums: dict[tuple[str, int, str], float] = {}
    for kind, weight in zip(kinds, weights, strict=True):
        sums[kind] = sums.get(kind, 0.0) + weight
    of_class = Counter((site, label) for site, label, _ in sums)
    return np.array([weight / sums[kind] / of_class[kind[:2]] for kind, weight in zip(kinds, weights, strict=True)])


def propensity_of(images: Sequence[LabelledImage], seed: int) -> np.ndarray:
    """P(pneumonia | how the file was made) of each image, from a logistic regression that did not see its patient."""
    labels = np.array([image.label for image in images])
    made = shortcuts.file_statistics(images).only(MAKING)
    return shortcuts.propensity(made.values, labels, [image.patient for image in images], seed, trees=False)
