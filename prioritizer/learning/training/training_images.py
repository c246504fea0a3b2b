"""What a run trains on: images, labels, masks and how often each is drawn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from prioritizer.learning.training.selection import SelectionSplit

Say = Callable[[str], None]
Tick = Callable[[int, int, str], None]
SMOKE_STEPS = 2
"""Steps an epoch of a smoke run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """What is learned from: pictures (N, 1, S, S), labels (N,), the chance of each picture to be drawn, and the watched split."""

    pictures: Tensor
    labels: Tensor
    boxes: Tensor | None
    """Of the lungs (N, 4), where a change of the pictures needs them."""
    chances: Tensor | None
    watched: SelectionSplit
    masks: Tensor | None = None
    """Of the lungs: uint8 (N, 1, S, S), 255 inside; only where the recipe has a lung loss."""
    masked: Tensor | None = None
    """Which pictures have a mask: bool (N,)."""
    targets: Tensor | None = None
    """What is asked of each picture (N,), 0..1, where that is not its label alone."""

    @property
    def asked(self) -> Tensor:
        """What is asked of each picture (N,)."""
        return self.labels if self.targets is None else self.targets


def step_seed(seed: int, epoch: int, step: int, rank: int) -> int:
    """The seed of one step: every step is random by itself, so that a run resumed at any step goes the same way."""
    return int(np.random.SeedSequence([seed, epoch, step, rank]).generate_state(1, np.uint64)[0] >> np.uint64(1))
