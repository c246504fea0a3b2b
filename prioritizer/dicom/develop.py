"""What the sandboxed children do with a spooled file: each function is one task, takes a path and returns small arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from prioritizer import pixels
from prioritizer.dicom import secondary_capture
from prioritizer.dicom.decode import read_frame
from prioritizer.dicom.secondary_capture import CaptureFacts, CaptureObject

DISPLAY_SIDE = 1024
"""Pixels of the longer side of the picture that goes back to the PACS."""


def model_picture(path: Path, spec: pixels.Preprocessing) -> NDArray[np.float32]:
    """The picture the network sees: float32 (size, size), 0..1. Raises Unprocessable."""
    frame = read_frame(path)
    return pixels.square_picture(frame.pixels, frame.grey, spec)


def display_picture(path: Path, longest_side: int = DISPLAY_SIDE) -> NDArray[np.uint8]:
    """The radiograph as people see it: uint8 (rows, columns). Raises Unprocessable."""
    frame = read_frame(path)
    return pixels.display_picture(frame.pixels, frame.grey, longest_side)


def capture(path: Path, saliency: NDArray[np.float32] | None, facts: CaptureFacts) -> CaptureObject:
    """The result object of a scored instance. Raises Unprocessable."""
    return secondary_capture.build(path, display_picture(path), saliency, facts)


def warm_up() -> None:
    """Import what the tasks need, so that the first radiograph does not wait for it."""
    pixels.square_picture(
        np.zeros((64, 64), dtype=np.uint16),
        pixels.GreyScale(bits_allocated=16, bits_stored=12, signed=False),
        pixels.Preprocessing(id="warm-up", size=32, resize="squash", mean=(0.0,) * 3, std=(1.0,) * 3),
    )
