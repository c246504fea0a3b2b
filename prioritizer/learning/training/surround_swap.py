"""The lungs of one film in the surround of another: shoulders, borders, tubes and framing then say nothing about the lungs within.

A network can read who was filmed how (a sick child lies, is held, is collimated otherwise) from everything but the lungs. Where the
surround is that of a film drawn at random, this way is closed. The box around both lung fields is what moves; it is warped onto the
box of the other film and blended over its edge, so that position and size of the box carry nothing either.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from prioritizer.learning.evaluation.lungs import lung_fields

MARGIN = 0.03
"""Added around the lung fields at each side, as a share of the picture: a consolidation at the edge is cut from them."""
FEATHER = 0.04
"""Width of the blended edge, as a share of the picture."""


def lung_box(picture: Tensor) -> Tensor:
    """The box around both lung fields of one picture (S, S), or around the template: float32 (4,), left, top, right, bottom in 0..1."""
    mask = lung_fields(picture.numpy()).mask
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    height, width = mask.shape
    box = (columns[0] / width, rows[0] / height, (columns[-1] + 1) / width, (rows[-1] + 1) / height)
    wider = (box[0] - MARGIN, box[1] - MARGIN, box[2] + MARGIN, box[3] + MARGIN)
    return torch.tensor(wider, dtype=torch.float32).clamp(0, 1)


def lung_boxes(pictures: Tensor) -> Tensor:
    """The boxes of pictures (N, 1, S, S): float32 (N, 4)."""
    return torch.stack([lung_box(picture[0]) for picture in pictures])


def in_surrounds(pictures: Tensor, boxes: Tensor, surrounds: Tensor, places: Tensor) -> Tensor:
    """The lung boxes of pictures (N, 1, S, S) set into the boxes `places` (N, 4) of other pictures `surrounds`: (N, 1, S, S)."""
    middle, size = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    middle_there, size_there = (places[:, :2] + places[:, 2:]) / 2, places[:, 2:] - places[:, :2]
    factor = size / size_there
    # Coordinates of affine_grid run from -1 to 1: a point u there is 2 * share - 1.
    offset = (2 * middle - 1) - factor * (2 * middle_there - 1)
    theta = torch.zeros(len(pictures), 2, 3)
    theta[:, 0, 0], theta[:, 1, 1] = factor[:, 0], factor[:, 1]
    theta[:, :, 2] = offset
    grid = functional.affine_grid(theta, list(pictures.shape), align_corners=False)
    warped: Tensor = functional.grid_sample(pictures, grid, padding_mode="border", align_corners=False)
    inside = _softly_inside(places, pictures.shape[-1])
    return inside * warped + (1 - inside) * surrounds


def some_in_surrounds(pictures: Tensor, boxes: Tensor, share: float, rng: torch.Generator) -> Tensor:
    """About `share` of the pictures with the surround of another of the batch, drawn without a look at the label."""
    return exchanged(pictures, boxes, *drawn(len(pictures), share, rng))


def drawn(count: int, share: float, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Which of so many pictures get another surround, bool (N,), and whose each would get: int (N,)."""
    chosen = torch.rand(count, generator=rng) < share
    return chosen, torch.randperm(count, generator=rng)


def exchanged(pictures: Tensor, boxes: Tensor, chosen: Tensor, others: Tensor) -> Tensor:
    """The `chosen` pictures (N, 1, S, S) in the surround of these `others`."""
    swapped = in_surrounds(pictures, boxes, pictures[others], boxes[others])
    return torch.where(chosen.view(-1, 1, 1, 1), swapped, pictures)


def masks_exchanged(masks: Tensor, boxes: Tensor, chosen: Tensor, others: Tensor) -> Tensor:
    """Lung masks (N, 1, S, S), moved as `exchanged` moves the lungs; nothing of the other's surround is lung."""
    swapped = in_surrounds(masks, boxes, torch.zeros_like(masks), boxes[others])
    return torch.where(chosen.view(-1, 1, 1, 1), swapped, masks)


def of_the_other_class(labels: NDArray[np.float64], seed: int = 0) -> NDArray[np.intp]:
    """For each of N labels the index of a random one that differs: who reads the surround of that film is wrong on every film."""
    rng = np.random.default_rng(seed)
    return np.array([rng.choice(np.flatnonzero(labels != label)) for label in labels], dtype=np.intp)


def with_surrounds_of_the_other_class(pictures: Tensor, labels: NDArray[np.float64]) -> Tensor:
    """Each picture (N, 1, S, S) with the surround of a random one of the other class."""
    others = torch.from_numpy(of_the_other_class(labels))
    boxes = lung_boxes(pictures)
    return in_surrounds(pictures, boxes, pictures[others], boxes[others])


def _softly_inside(boxes: Tensor, side: int) -> Tensor:
    """1 inside the boxes (N, 4), 0 outside, a ramp of FEATHER inwards from the edge: float32 (N, 1, side, side)."""
    at = (torch.arange(side) + 0.5) / side
    across = _ramp(at[None] - boxes[:, 0:1]) * _ramp(boxes[:, 2:3] - at[None])
    down = _ramp(at[None] - boxes[:, 1:2]) * _ramp(boxes[:, 3:4] - at[None])
    return (down[:, :, None] * across[:, None, :])[:, None]


def _ramp(depth: Tensor) -> Tensor:
    return (depth / FEATHER).clamp(0, 1)
