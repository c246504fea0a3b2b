"""Stored pixel values to model input, and to what people see, in the order of DESIGN section 4.

The grey scale is one table over stored values (`grey_scale`), the shape, the turn and the shutter are `geometry`; resizing
(`resampling`) is the only step that looks at more than one pixel.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from prioritizer.imaging.geometry import AS_STORED, Geometry, as_stored, outside_of, true_shape, upright
from prioritizer.imaging.grey_scale import (
    ROBUST_RANGE,
    WINDOW_FUNCTIONS,
    Float32,
    Float64,
    GreyScale,
    Lut,
    Mask,
    Window,
    Words,
    grey_table,
    histogram,
    is_padding,
    modality_values,
    raw_words,
    robust_range,
    stored_values,
    through_lut,
    through_window,
)
from prioritizer.imaging.resampling import BAND, SINGLE_THREADED, resampling_weights, shrink

__all__ = [
    "BAND", "ROBUST_RANGE", "SINGLE_THREADED", "TONES", "WINDOW_FUNCTIONS", "Film", "Float32", "Float64", "GreyScale", "Lut",
    "Preprocessing", "Window", "display_picture", "equalised", "film", "grey_table", "histogram", "modality_values", "normalised",
    "raw_words", "resampling_weights", "robust_range", "shrink", "square_picture", "stored_values", "through_lut", "through_window",
]  # fmt: skip

TONES = 256
"""Levels of the histogram by which a picture is equalised."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocessing:
    """The part of the bundle card that says what the network expects. Its `id` names it in every score."""

    id: str
    size: int
    resize: str
    """`squash`: both sides become `size`, as the training images were. `pad`: black bars keep the aspect."""
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    tone: str = "as-is"
    """`equalised`: every picture gets the same distribution of grey (see `equalised`). `as-is`: its own."""


def _fitted_size(shape: tuple[float, float], spec: Preprocessing) -> tuple[int, int]:
    """Height and width of the picture inside the square that the network sees."""
    if spec.resize == "squash":
        return spec.size, spec.size
    height, width = (max(round(side * spec.size / max(shape)), 1) for side in shape)
    return height, width


def square_picture(pixels: NDArray[np.generic], grey: GreyScale, spec: Preprocessing, geometry: Geometry = AS_STORED) -> Float32:
    """The picture the network sees before normalising: float32, shape (size, size), 0 (black) .. 1 (white).

    What a display shutter hides is black and takes no part in the tones.
    """
    words = raw_words(pixels)
    rows, columns = words.shape
    outside = outside_of(rows, columns, geometry)
    table = grey_table(grey, robust_range(words, grey, outside))
    height, width = _fitted_size(true_shape(rows, columns, geometry), spec)
    sides = as_stored(height, width, geometry)
    picture = upright(shrink(words, table, *sides, outside), geometry)
    if spec.tone == "equalised":
        hidden = None if outside is None else upright(_mostly(outside, *sides), geometry)
        picture = equalised(picture, hidden)
    if (height, width) == (spec.size, spec.size):
        return picture
    square = np.zeros((spec.size, spec.size), dtype=np.float32)
    top, left = (spec.size - height) // 2, (spec.size - width) // 2
    square[top : top + height, left : left + width] = picture
    return square


def _mostly(outside: Mask, height: int, width: int) -> Mask:
    """A mask resampled: True where more than half of what a pixel covers is."""
    table = np.zeros(256, dtype=np.float32)
    table[1] = 1.0
    return shrink(outside.view(np.uint8), table, height, width) > 0.5


def equalised(picture: Float32, outside: Mask | None = None) -> Float32:
    """Each grey replaced by the share of the picture's core that is darker: float32, same shape, 0..1.

    Histogram equalisation (Hummel 1975): whatever window, gamma or tone curve a device applied, the result is the same, up to the
    rounding of the grey levels. The core leaves out a tenth at each side, where collimation and markers differ between sites, and
    what lies `outside` a shutter, which is black afterwards.
    """
    rows, columns = (max(side // 10, 1) if side > 2 else 0 for side in picture.shape)
    core = picture[rows : picture.shape[0] - rows, columns : picture.shape[1] - columns]
    if outside is not None:
        core = core[~outside[rows : picture.shape[0] - rows, columns : picture.shape[1] - columns]]
    # Bins centred on the 256 levels of an 8-bit file; within a bin the share grows linearly, so a deeper file has no steps.
    edges = (np.arange(TONES + 1) - 0.5) / (TONES - 1)
    counts = np.bincount(np.rint(core * (TONES - 1)).astype(np.int64).ravel(), minlength=TONES)
    share = np.concatenate([[0.0], np.cumsum(counts)]) / max(core.size, 1)
    toned: Float32 = np.interp(picture, edges, share).astype(np.float32)
    if outside is not None:
        toned[outside] = 0.0
    return toned


def normalised(pictures: Float32, spec: Preprocessing) -> Float32:
    """Pictures (N, size, size), 0..1, to model input float32 (N, 3, size, size): (x - mean) / std per channel."""
    mean = np.asarray(spec.mean, dtype=np.float32).reshape(1, 3, 1, 1)
    std = np.asarray(spec.std, dtype=np.float32).reshape(1, 3, 1, 1)
    return np.ascontiguousarray((pictures[:, None, :, :] - mean) / std, dtype=np.float32)


def _shown_size(words: Words, geometry: Geometry, longest_side: int) -> tuple[int, int]:
    """Height and width of the upright radiograph in its true shape, never larger than it is stored."""
    shape = true_shape(words.shape[0], words.shape[1], geometry)
    factor = min(1.0, longest_side / max(shape))
    height, width = (max(round(side * factor), 1) for side in shape)
    return height, width


def display_picture(pixels: NDArray[np.generic], grey: GreyScale, longest_side: int, geometry: Geometry = AS_STORED) -> NDArray[np.uint8]:
    """The radiograph as people see it, upright and in its true shape, at most `longest_side` pixels: uint8, shape (rows, columns)."""
    words = raw_words(pixels)
    outside = outside_of(words.shape[0], words.shape[1], geometry)
    table = grey_table(grey, robust_range(words, grey, outside))
    picture = _drawn(words, table, _shown_size(words, geometry, longest_side), geometry, outside)
    shown: NDArray[np.uint8] = np.rint(picture * 255.0).clip(0, 255).astype(np.uint8)
    return shown


def _drawn(words: Words, table: Float32, size: tuple[int, int], geometry: Geometry, outside: Mask | None) -> Float32:
    level = 0.0 if geometry.shutter is None else geometry.shutter.level
    return upright(shrink(words, table, *as_stored(*size, geometry), outside, level), geometry)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Film:
    """A radiograph to be looked at, its tones not yet cut to a window."""

    values: NDArray[np.uint16]
    """Shape (rows, columns): 0 and 65535 are the darkest and brightest value in the image."""
    low: float
    high: float
    """The window that the header gives, as shares of that range: `low` is drawn black, `high` white."""


def film(pixels: NDArray[np.generic], grey: GreyScale, longest_side: int, geometry: Geometry = AS_STORED) -> Film:
    """The radiograph at most `longest_side` pixels, as `display_picture` lays it, with all its tones: a reader can change the window.

    A VOI LUT or a sigmoid is no window that could be moved: it is applied, and what it gives is the range.
    """
    words = raw_words(pixels)
    outside = outside_of(words.shape[0], words.shape[1], geometry)
    bent = grey.voi_lut is not None or (grey.window is not None and grey.window.function == "SIGMOID")
    if bent:
        table, low, high = grey_table(grey), 0.0, 1.0
    else:
        table, low, high = _wide_table(words, grey, outside)
    picture = _drawn(words, table, _shown_size(words, geometry, longest_side), geometry, outside)
    values: NDArray[np.uint16] = np.rint(picture * 65535.0).clip(0, 65535).astype(np.uint16)
    return Film(values=values, low=low, high=high)


def _wide_table(words: Words, grey: GreyScale, outside: Mask | None) -> tuple[Float32, float, float]:
    """Every tone that the image holds, linear, and the header's window in it."""
    stored = stored_values(grey)
    modality = modality_values(grey, stored)
    present = (histogram(words, grey.bits_allocated, outside)[: modality.size] > 0) & ~is_padding(grey, stored)
    inside = modality[present] if present.any() else modality
    least, span = float(inside.min()), max(float(inside.max() - inside.min()), 1e-12)
    if grey.window is not None:
        half = (grey.window.width - (1 if grey.window.function == "LINEAR" else 0)) / 2
        middle = grey.window.center - (0.5 if grey.window.function == "LINEAR" else 0)
        through_window(modality[:1], grey.window)  # a window that means nothing is refused here as everywhere
        low, high = middle - half, middle + half
    else:
        low, high = robust_range(words, grey, outside) or (float(modality.min()), float(modality.max()))
    table = grey_table(replace(grey, window=None), (least, least + span))
    low, high = (low - least) / span, (high - least) / span
    return (table, 1.0 - high, 1.0 - low) if grey.inverted else (table, low, high)
