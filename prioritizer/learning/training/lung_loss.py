"""A second loss that makes the map point: what raises the risk should lie in the lungs.

For training films with pneumonia and a lung mask: of the contributions of the closed-form map that raise the logit (after its ReLU), the
share that lies outside the lungs. The mask goes through the same geometric changes as the film and is averaged over the cells of the map.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from prioritizer.learning.cohorts.labelled_image import LabelledImage
from prioritizer.learning.cohorts.lung_masks import read_mask


def read_masks(images: Sequence[LabelledImage], size: int) -> tuple[Tensor, Tensor]:
    """The lung masks of these images at the side `size`: uint8 (N, 1, S, S), 0 or 255, and which images have one: bool (N,)."""
    masks = torch.zeros(len(images), 1, size, size, dtype=torch.uint8)
    known = torch.zeros(len(images), dtype=torch.bool)
    for index, image in enumerate(images):
        if image.mask is None:
            continue
        masks[index, 0] = torch.from_numpy(read_mask(image.mask, size))
        known[index] = True
    return masks, known


def outside_lungs(contributions: Tensor, masks: Tensor, counted: Tensor) -> Tensor:
    """Mean share of the positive contributions (N, h, w) outside the lungs, over the films `counted` (N,); 0 where none is.

    `masks` are float (N, 1, S, S), 1 inside. A film to which nothing contributes counts as 0.
    """
    raised = contributions.float().clamp_min(0)
    lungs = functional.adaptive_avg_pool2d(masks, (raised.shape[-2], raised.shape[-1]))[:, 0]
    outside = (raised * (1 - lungs)).sum(dim=(1, 2)) / raised.sum(dim=(1, 2)).clamp_min(1e-6)
    weights = counted.to(outside.dtype)
    share: Tensor = (outside * weights).sum() / weights.sum().clamp_min(1)
    return share


def some_without_lungs(pictures: Tensor, masks: Tensor, masked: Tensor, share: float, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """About `share` of the pictures (N, 1, S, S) that have a mask, with the lungs painted over, and which: bool (N,).

    In one grey, that of the picture's mean or any. Nothing is left to see there: what stands around the lungs should say nothing.
    """
    chosen = masked.cpu() & (torch.rand(len(pictures), generator=rng) < share)
    mean = pictures.mean(dim=(1, 2, 3))
    any_grey = torch.rand(len(pictures), generator=rng)
    grey = torch.where(torch.rand(len(pictures), generator=rng) < 0.5, mean, any_grey).view(-1, 1, 1, 1)
    painted = chosen.view(-1, 1, 1, 1) & (masks >= 0.5)
    return torch.where(painted, grey, pictures), chosen
