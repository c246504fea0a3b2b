"""What the sandboxed children do with a spooled file: each function is one task, takes a path and returns small arrays."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from prioritizer.dicom.read.codecs import CODECS
from prioritizer.dicom.read.decode import read_frame
from prioritizer.dicom.result import secondary_capture
from prioritizer.dicom.result.secondary_capture import CaptureFacts, CaptureObject
from prioritizer.imaging import preprocessing
from prioritizer.imaging.display import Shown
from prioritizer.imaging.geometry import AS_STORED, Geometry

LOSSY = frozenset(syntax for syntax, codec in CODECS.items() if not codec.lossless)
"""Transfer syntaxes that may lose: JPEG 2000 without a word may be either."""
FILM_SIDE = 1600
"""Pixels of the longer side of the film on the study page: it is a preview, and says so."""
DISPLAY_SIDE = 1024
"""Pixels of the longer side of the picture that goes back to the PACS."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ModelInput:
    """What the network sees of an image."""

    picture: NDArray[np.float32]
    """Shape (size, size), 0 (black) to 1 (white)."""
    warnings: tuple[str, ...] = ()
    """What was passed over or put right to draw it, by the header and by the pixels; without patient data."""


def model_input(path: Path, spec: preprocessing.Preprocessing) -> ModelInput:
    """The picture the network sees and what people must know of how it was drawn. Raises Unprocessable."""
    frame = read_frame(path)
    return ModelInput(picture=preprocessing.square_picture(frame.pixels, frame.grey, spec, frame.geometry), warnings=frame.warnings)


def model_picture(path: Path, spec: preprocessing.Preprocessing) -> NDArray[np.float32]:
    """The picture the network sees alone: float32 (size, size), 0..1. Raises Unprocessable."""
    return model_input(path, spec).picture


def display_picture(path: Path, longest_side: int = DISPLAY_SIDE) -> NDArray[np.uint8]:
    """The radiograph as people see it: uint8 (rows, columns). Raises Unprocessable."""
    frame = read_frame(path)
    return preprocessing.display_picture(frame.pixels, frame.grey, longest_side, frame.geometry)


def film_png(path: Path, longest_side: int = FILM_SIDE) -> Shown:
    """The radiograph with all its tones, as a PNG that a browser reads without loss. Raises Unprocessable."""
    frame = read_frame(path)
    return full_range_png(frame.pixels, frame.grey, longest_side, frame.geometry)


def full_range_png(
    stored: NDArray[np.generic], grey: preprocessing.GreyScale, longest_side: int = FILM_SIDE, geometry: Geometry = AS_STORED
) -> Shown:
    """Stored grey values with all their tones: red is the high byte of a tone, green the low one."""
    found = preprocessing.film(stored, grey, longest_side, geometry)
    packed = np.empty((*found.values.shape, 3), dtype=np.uint8)
    packed[:, :, 0], packed[:, :, 1], packed[:, :, 2] = found.values >> 8, found.values & 255, 0
    return Shown(png=_png(packed), rows=found.values.shape[0], columns=found.values.shape[1], low=found.low, high=found.high)


def display_png(path: Path, longest_side: int = FILM_SIDE) -> bytes:
    """The radiograph as it is shown without a script: the header's window, 8 bits. Raises Unprocessable."""
    return _png(display_picture(path, longest_side))


def _png(picture: NDArray[np.uint8]) -> bytes:
    data = BytesIO()
    Image.fromarray(picture).save(data, "PNG", compress_level=1)
    return data.getvalue()


def capture(path: Path, saliency: NDArray[np.float32] | None, facts: CaptureFacts) -> CaptureObject:
    """The result object of a scored instance. Raises Unprocessable."""
    return secondary_capture.build(path, display_picture(path), saliency, facts)


LOSS = 2.0
"""Mean difference of 255 grey levels that lossy compression of a radiograph makes at the most where it is still the same picture."""


def same_pixels(one: Path, other: Path) -> bool:
    """True when both files render alike and hold the same stored values, or one of them what lossy compression left of them.

    Raises Unprocessable.
    """
    first, second = read_frame(one), read_frame(other)
    if first.pixels.shape != second.pixels.shape:
        return False
    drawn = [display_picture(path, 256).astype(np.float32) for path in (one, other)]
    if drawn[0].shape != drawn[1].shape:
        return False
    if {first.transfer_syntax, second.transfer_syntax} & LOSSY:
        return float(np.abs(drawn[0] - drawn[1]).mean()) <= LOSS
    return np.array_equal(first.pixels, second.pixels) and np.array_equal(drawn[0], drawn[1])


def warm_up() -> None:
    """Import what the tasks need, so that the first radiograph does not wait for it."""
    preprocessing.square_picture(
        np.zeros((64, 64), dtype=np.uint16),
        preprocessing.GreyScale(bits_allocated=16, bits_stored=12, signed=False),
        preprocessing.Preprocessing(id="warm-up", size=32, resize="squash", mean=(0.0,) * 3, std=(1.0,) * 3),
    )
