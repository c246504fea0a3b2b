"""Does a map point at what a radiologist boxed, and does it stay in the lungs? Both on masks: boxes drawn in, or a lung mask's file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from prioritizer.learning.labelled import Box
from prioritizer.learning.lung_loss import INSIDE

Float32 = NDArray[np.float32]
Mask = NDArray[np.bool_]
SIDE = 224
"""Masks and enlarged maps have this side in pixels."""


def mask_of(boxes: Sequence[Box]) -> Mask:
    """What the boxes cover: bool (SIDE, SIDE); a pixel counts where its middle lies in a box."""
    at = (np.arange(SIDE) + 0.5) / SIDE
    mask = np.zeros((SIDE, SIDE), dtype=bool)
    for left, top, right, bottom in boxes:
        mask |= ((at >= top) & (at < bottom))[:, None] & ((at >= left) & (at < right))[None]
    return mask


def read_mask(path: Path) -> Mask:
    """The lung mask in a file: bool (SIDE, SIDE); what may be either counts as lung."""
    with Image.open(path) as opened:
        inside = Image.fromarray((np.asarray(opened.convert("L")) >= INSIDE).astype(np.uint8) * 255)
    return np.asarray(inside.resize((SIDE, SIDE), Image.Resampling.BOX)) >= INSIDE


def peak_lies_in(saliency: Float32, mask: Mask) -> bool:
    """True where the highest point of a map (h, w), enlarged as it is drawn, lies on the mask (the pointing game, Zhang et al. 2018)."""
    enlarged = np.asarray(Image.fromarray(saliency.astype(np.float32)).resize((SIDE, SIDE), Image.Resampling.BICUBIC))
    return bool(mask.flat[int(np.argmax(enlarged))])


def at_side(mask: Mask, side: int) -> Mask:
    """A mask at another side in pixels."""
    if mask.shape[-1] == side:
        return mask
    return np.asarray(Image.fromarray(mask.astype(np.uint8) * 255).resize((side, side), Image.Resampling.BOX)) >= INSIDE
