"""Lung masks beside the images: a PNG named as its image, of the same shape, squashed to a square like the image."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from prioritizer.errors import ConfigError
from prioritizer.learning.cohorts.labelled_image import LabelledImage

INSIDE = 127
"""Masks hold 255 for lung, 0 for none, 127 for what may be either, which counts as lung."""


def read_mask(path: Path, side: int) -> NDArray[np.uint8]:
    """The mask in a file, squashed to (side, side): 255 times the share of each pixel that is lung. Raises ConfigError, naming the file."""
    try:
        with Image.open(path) as opened:
            inside = Image.fromarray((np.asarray(opened.convert("L")) >= INSIDE).astype(np.uint8) * 255)
    except (OSError, ValueError, SyntaxError) as error:
        raise ConfigError((f"{path}: is no readable lung mask (PNG)",)) from error
    return np.array(inside.resize((side, side), Image.Resampling.BOX))


def with_masks(images: Sequence[LabelledImage], folder: Path) -> tuple[LabelledImage, ...]:
    """The images, each with its mask below `folder` where it has one. Raises ConfigError where none of them has."""
    there = {path.name: path for path in folder.glob("*.png")}
    found = tuple(replace(image, mask=there.get(f"{image.path.stem}.png")) for image in images)
    if images and all(image.mask is None for image in found):
        named = f"{images[0].path.stem}.png"
        raise ConfigError((f"{folder}: holds no mask of these images; a mask is a PNG named as its image, such as {named}",))
    return found


def facts(images: Sequence[LabelledImage]) -> dict[str, Any]:
    """How many of the images have a mask, and one SHA-256 over the names and bytes of all masks, in the order of the images."""
    masks = [image.mask for image in images if image.mask is not None]
    digest = hashlib.sha256()
    for mask in masks:
        digest.update(f"{mask.name}\0".encode())
        digest.update(hashlib.sha256(mask.read_bytes()).digest())
    return {"images": len(masks), "sha256": digest.hexdigest()}
