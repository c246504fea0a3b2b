"""Does a map point at what a radiologist boxed, and does it stay in the lungs? Both on masks: boxes drawn in, or a lung mask's file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from prioritizer.learning.cohorts.labelled_image import Box
from prioritizer.learning.cohorts.lung_masks import INSIDE, read_mask

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


def lungs_of(path: Path, side: int = SIDE) -> Mask:
    """The lung mask in a file: bool (side, side); what may be either counts as lung. Raises ConfigError, naming the file."""
    return read_mask(path, side) >= INSIDE


def peak_lies_in(saliency: Float32, mask: Mask) -> bool:
    """True where the highest point of a map (h, w), enlarged as it is drawn, lies on the mask (the pointing game, Zhang et al. 2018)."""
    enlarged = np.asarray(Image.fromarray(saliency.astype(np.float32)).resize((SIDE, SIDE), Image.Resampling.BICUBIC))
    return bool(mask.flat[int(np.argmax(enlarged))])
