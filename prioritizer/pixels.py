"""Stored pixel values to model input, in the order of DESIGN section 4.

Every grey-scale step of DICOM (modality LUT, VOI LUT or window, inversion, padding) is a function of one stored value, so it
is computed once per *possible* stored value, in float64, and the image is looked up in that table. The table is the whole
grey-scale pipeline; resizing is the only step that looks at more than one pixel.

Sources: PS3.3 C.7.6.3 (Image Pixel), C.11.1 (Modality LUT), C.11.2 (VOI LUT), C.7.5.1.1.2 (Pixel Padding).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from prioritizer.errors import Unprocessable

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

WINDOW_FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")
ROBUST_RANGE = (0.005, 0.995)
"""Quantiles shown as black and white when a file deeper than 8 bits states no window: collimation edges and lead markers
otherwise take the whole range. An 8-bit file without a window is shown as it is stored."""
BAND = 8
"""Target rows or columns resampled together: few enough that the dense weights hold few zeros."""
TONES = 256
"""Levels of the histogram by which a picture is equalised."""
SINGLE_THREADED = 2**18
"""Multiplications a matrix product may have before OpenBLAS shares it among threads. On a busy machine those wait for each
other: 230 ms instead of 4 for one film."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lut:
    """A DICOM look-up table: `first` is the first value mapped, values below and above take the end entries."""

    first: int
    entries: NDArray[np.uint16]
    bits: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """(0028,1050) Window Center and (0028,1051) Window Width with (0028,1056) VOI LUT Function."""

    center: float
    width: float
    function: str = "LINEAR"


@dataclass(frozen=True, slots=True, kw_only=True)
class GreyScale:
    """What the header says about how stored values become grey."""

    bits_allocated: int
    bits_stored: int
    signed: bool
    inverted: bool = False
    """MONOCHROME1, or Presentation LUT Shape INVERSE: the smallest value after the VOI is white."""
    slope: float = 1.0
    intercept: float = 0.0
    modality_lut: Lut | None = None
    voi_lut: Lut | None = None
    window: Window | None = None
    padding: tuple[int, int] | None = None
    """Inclusive range of stored values that are no anatomy; drawn black."""


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


def stored_values(grey: GreyScale) -> NDArray[np.int64]:
    """Every raw word of the allocated size and the stored value it means: shape (2**bits_allocated,).

    Bits above (0028,0101) Bits Stored are masked off: old devices keep overlays there.
    """
    if grey.bits_allocated not in (8, 16):
        raise Unprocessable("bits", f"Bits Allocated {grey.bits_allocated} is not 8 or 16")
    if not 1 <= grey.bits_stored <= grey.bits_allocated:
        raise Unprocessable("bits", f"Bits Stored {grey.bits_stored} does not fit Bits Allocated {grey.bits_allocated}")
    words: NDArray[np.int64] = np.arange(2**grey.bits_allocated, dtype=np.int64) & (2**grey.bits_stored - 1)
    if not grey.signed:
        return words
    half = 2 ** (grey.bits_stored - 1)
    signed: NDArray[np.int64] = np.where(words >= half, words - 2 * half, words)
    return signed


def through_lut(values: Float64, lut: Lut) -> Float64:
    """Values mapped through `lut`; those outside take its first or last entry (PS3.3 C.11.1.1)."""
    if not len(lut.entries) or not 1 <= lut.bits <= 16:
        raise Unprocessable("lut", f"a look-up table of {len(lut.entries)} entries of {lut.bits} bits is not allowed")
    index = np.clip(np.rint(values) - lut.first, 0, len(lut.entries) - 1).astype(np.int64)
    mapped: Float64 = lut.entries[index].astype(np.float64)
    return mapped


def modality_values(grey: GreyScale, stored: NDArray[np.int64]) -> Float64:
    """Stored values through the Modality LUT, or through Rescale Slope and Intercept."""
    if grey.modality_lut is not None:
        return through_lut(stored.astype(np.float64), grey.modality_lut)
    limit = 1e30  # a float64 holds the whole pipeline below it without overflow
    if not (0 < abs(grey.slope) < limit and abs(grey.intercept) < limit):
        raise Unprocessable("rescale", "Rescale Slope or Intercept is zero or not a number")
    return stored.astype(np.float64) * grey.slope + grey.intercept


def through_window(values: Float64, window: Window) -> Float64:
    """Values mapped to 0..1 by the window (PS3.3 C.11.2.1.2.1 LINEAR, C.11.2.1.3 SIGMOID and LINEAR_EXACT)."""
    c, w = window.center, window.width
    if window.function not in WINDOW_FUNCTIONS:
        raise Unprocessable("window", "VOI LUT Function is none of LINEAR, LINEAR_EXACT, SIGMOID")
    if not (math.isfinite(c) and math.isfinite(w)):
        raise Unprocessable("window", "Window Center or Window Width is not a number")
    if 0 < w < 1e-9:
        raise Unprocessable("window", "Window Width is too small to be meant")
    if window.function == "LINEAR":
        if w < 1:
            raise Unprocessable("window", "Window Width below 1 is not allowed for LINEAR (PS3.3 C.11.2.1.2)")
        if w == 1:
            return (values > c - 0.5).astype(np.float64)
        return np.clip((values - (c - 0.5)) / (w - 1) + 0.5, 0.0, 1.0)
    if w <= 0:
        raise Unprocessable("window", "Window Width must be above 0 (PS3.3 C.11.2.1.3)")
    if window.function == "LINEAR_EXACT":
        return np.clip((values - c) / w + 0.5, 0.0, 1.0)
    return 1.0 / (1.0 + np.exp(np.clip(-4.0 * (values - c) / w, -700.0, 700.0)))


def grey_table(grey: GreyScale, shown_range: tuple[float, float] | None = None) -> Float32:
    """The whole grey-scale pipeline as a table: raw word -> 0 (black) .. 1 (white), float32, shape (2**bits_allocated,).

    `shown_range` is the range of modality values drawn black to white when the header gives neither VOI LUT nor window.
    """
    stored = stored_values(grey)
    modality = modality_values(grey, stored)
    if grey.voi_lut is not None:
        shown = through_lut(modality, grey.voi_lut) / (2.0**grey.voi_lut.bits - 1)
    elif grey.window is not None:
        shown = through_window(modality, grey.window)
    else:
        low, high = shown_range if shown_range is not None else (float(modality.min()), float(modality.max()))
        shown = np.clip((modality - low) / max(high - low, 1e-12), 0.0, 1.0)
    shown = np.clip(shown, 0.0, 1.0)
    if grey.inverted:
        shown = 1.0 - shown
    if grey.padding is not None:
        low, high = sorted(grey.padding)
        shown[(stored >= low) & (stored <= high)] = 0.0
    return shown.astype(np.float32)


def raw_words(pixels: NDArray[np.generic]) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """The same bits seen as unsigned words, the index into `grey_table`."""
    if pixels.dtype.itemsize not in (1, 2) or pixels.dtype.kind not in "iu":
        raise Unprocessable("bits", f"decoded pixels are {pixels.dtype}, not 8 or 16 bit integers")
    unsigned = pixels.dtype.newbyteorder("=").str.replace("i", "u")
    native = pixels if pixels.dtype.isnative else pixels.astype(pixels.dtype.newbyteorder("="))
    return native.view(unsigned)


def robust_range(words: NDArray[np.uint8] | NDArray[np.uint16], grey: GreyScale) -> tuple[float, float] | None:
    """Range of modality values to show when the header names none; None where the stored range is to be shown as it is."""
    if grey.window is not None or grey.voi_lut is not None:
        return None
    if grey.bits_stored <= 8:
        return None
    counts = np.bincount(words.ravel(), minlength=2**grey.bits_allocated).astype(np.float64)
    stored = stored_values(grey)
    if grey.padding is not None:
        low, high = sorted(grey.padding)
        counts[(stored >= low) & (stored <= high)] = 0.0
    modality = modality_values(grey, stored)
    order = np.argsort(modality, kind="stable")
    share = np.cumsum(counts[order])
    if share[-1] == 0:
        return None
    share /= share[-1]
    low_at, high_at = (int(np.searchsorted(share, q)) for q in ROBUST_RANGE)
    return float(modality[order][low_at]), float(modality[order][min(high_at, len(order) - 1)])


@lru_cache(maxsize=64)
def resampling_weights(length: int, target: int) -> tuple[tuple[int, ...], tuple[int, ...], Float32]:
    """Antialiased triangle filter from `length` to `target` samples: first source row, past-last source row, dense weights.

    Equal to Pillow's BILINEAR: centre (i + 0.5) * scale, support max(scale, 1), rows normalised to sum 1.
    """
    scale = length / target
    support = max(scale, 1.0)
    weights = np.zeros((target, length), dtype=np.float64)
    starts, ends = [], []
    for i in range(target):
        centre = (i + 0.5) * scale
        start = max(int(centre - support + 0.5), 0)
        end = min(int(centre + support + 0.5), length)
        row = np.maximum(1.0 - np.abs((np.arange(start, end) - centre + 0.5) / support), 0.0)
        weights[i, start:end] = row / row.sum()
        starts.append(start)
        ends.append(end)
    return tuple(starts), tuple(ends), weights.astype(np.float32)


def shrink(words: NDArray[np.uint8] | NDArray[np.uint16], table: Float32, height: int, width: int) -> Float32:
    """Raw words looked up in `table` and resampled to (height, width), float32, 0..1.

    Worked in bands of target rows, so the float picture of the full size never exists.
    """
    if table.size < 2 ** (8 * words.dtype.itemsize):
        raise Unprocessable("bits", "decoded pixels are wider than Bits Allocated")
    rows_from, rows_to, down = resampling_weights(words.shape[0], height)
    columns_from, columns_to, across = resampling_weights(words.shape[1], width)
    narrow_first = np.empty((height, words.shape[1]), dtype=np.float32)
    for top in range(0, height, BAND):
        bottom = min(top + BAND, height)
        start, end = rows_from[top], rows_to[bottom - 1]
        # Every word is inside the table; checking each again ("raise") would triple the time.
        grey = np.take(table, words[start:end], mode="wrap")
        tile = max(SINGLE_THREADED // ((bottom - top) * (end - start)), 1)
        for left in range(0, words.shape[1], tile):
            np.matmul(down[top:bottom, start:end], grey[:, left : left + tile], out=narrow_first[top:bottom, left : left + tile])
    picture = np.empty((height, width), dtype=np.float32)
    for left in range(0, width, BAND):
        right = min(left + BAND, width)
        start, end = columns_from[left], columns_to[right - 1]
        tile = max(SINGLE_THREADED // ((right - left) * (end - start)), 1)
        for top in range(0, height, tile):
            picture[top : top + tile, left:right] = narrow_first[top : top + tile, start:end] @ across[left:right, start:end].T
    return picture


def _fitted_size(rows: int, columns: int, spec: Preprocessing) -> tuple[int, int]:
    """Height and width of the picture inside the square that the network sees."""
    if spec.resize == "squash":
        return spec.size, spec.size
    longest = max(rows, columns)
    return max(round(rows * spec.size / longest), 1), max(round(columns * spec.size / longest), 1)


def square_picture(pixels: NDArray[np.generic], grey: GreyScale, spec: Preprocessing) -> Float32:
    """The picture the network sees before normalising: float32, shape (size, size), 0 (black) .. 1 (white)."""
    words = raw_words(pixels)
    table = grey_table(grey, robust_range(words, grey))
    height, width = _fitted_size(words.shape[0], words.shape[1], spec)
    picture = shrink(words, table, height, width)
    if spec.tone == "equalised":
        picture = equalised(picture)
    if (height, width) == (spec.size, spec.size):
        return picture
    square = np.zeros((spec.size, spec.size), dtype=np.float32)
    top, left = (spec.size - height) // 2, (spec.size - width) // 2
    square[top : top + height, left : left + width] = picture
    return square


def equalised(picture: Float32) -> Float32:
    """Each grey replaced by the share of the picture's core that is darker: float32, same shape, 0..1.

    Histogram equalisation (Hummel 1975): whatever window, gamma or tone curve a device applied, the result is the same, up to the
    rounding of the grey levels. The core leaves out a tenth at each side, where collimation and markers differ between sites.
    """
    rows, columns = (max(side // 10, 1) if side > 2 else 0 for side in picture.shape)
    core = picture[rows : picture.shape[0] - rows, columns : picture.shape[1] - columns]
    # Bins centred on the 256 levels of an 8-bit file; within a bin the share grows linearly, so a deeper file has no steps.
    edges = (np.arange(TONES + 1) - 0.5) / (TONES - 1)
    counts = np.bincount(np.rint(core * (TONES - 1)).astype(np.int64).ravel(), minlength=TONES)
    share = np.concatenate([[0.0], np.cumsum(counts)]) / max(core.size, 1)
    toned: Float32 = np.interp(picture, edges, share).astype(np.float32)
    return toned


def normalised(pictures: Float32, spec: Preprocessing) -> Float32:
    """Pictures (N, size, size), 0..1, to model input float32 (N, 3, size, size): (x - mean) / std per channel."""
    mean = np.asarray(spec.mean, dtype=np.float32).reshape(1, 3, 1, 1)
    std = np.asarray(spec.std, dtype=np.float32).reshape(1, 3, 1, 1)
    return np.ascontiguousarray((pictures[:, None, :, :] - mean) / std, dtype=np.float32)


def display_picture(pixels: NDArray[np.generic], grey: GreyScale, longest_side: int) -> NDArray[np.uint8]:
    """The radiograph as people see it, aspect kept, at most `longest_side` pixels: uint8, shape (rows, columns)."""
    words = raw_words(pixels)
    table = grey_table(grey, robust_range(words, grey))
    factor = min(1.0, longest_side / max(words.shape))
    height, width = (max(round(side * factor), 1) for side in words.shape)
    shown: NDArray[np.uint8] = np.rint(shrink(words, table, height, width) * 255.0).clip(0, 255).astype(np.uint8)
    return shown


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Film:
    """A radiograph to be looked at, its tones not yet cut to a window."""

    values: NDArray[np.uint16]
    """Shape (rows, columns): 0 and 65535 are the darkest and brightest value in the image."""
    low: float
    high: float
    """The window that the header gives, as shares of that range: `low` is drawn black, `high` white."""


def film(pixels: NDArray[np.generic], grey: GreyScale, longest_side: int) -> Film:
    """The radiograph at most `longest_side` pixels, aspect kept, with all its tones, so that a reader can change the window.

    A VOI LUT or a sigmoid is no window that could be moved: it is applied, and what it gives is the range.
    """
    words = raw_words(pixels)
    factor = min(1.0, longest_side / max(words.shape))
    height, width = (max(round(side * factor), 1) for side in words.shape)
    bent = grey.voi_lut is not None or (grey.window is not None and grey.window.function == "SIGMOID")
    if bent:
        table, low, high = grey_table(grey), 0.0, 1.0
    else:
        table, low, high = _wide_table(words, grey)
    values: NDArray[np.uint16] = np.rint(shrink(words, table, height, width) * 65535.0).clip(0, 65535).astype(np.uint16)
    return Film(values=values, low=low, high=high)


def _wide_table(words: NDArray[np.uint8] | NDArray[np.uint16], grey: GreyScale) -> tuple[Float32, float, float]:
    """Every tone that the image holds, linear, and the header's window in it."""
    stored = stored_values(grey)
    modality = modality_values(grey, stored)
    present = np.bincount(words.ravel(), minlength=modality.size)[: modality.size] > 0
    if grey.padding is not None:
        low_pad, high_pad = sorted(grey.padding)
        present &= ~((stored >= low_pad) & (stored <= high_pad))
    inside = modality[present] if present.any() else modality
    least, span = float(inside.min()), max(float(inside.max() - inside.min()), 1e-12)
    if grey.window is not None:
        half = (grey.window.width - (1 if grey.window.function == "LINEAR" else 0)) / 2
        middle = grey.window.center - (0.5 if grey.window.function == "LINEAR" else 0)
        through_window(modality[:1], grey.window)  # a window that means nothing is refused here as everywhere
        low, high = middle - half, middle + half
    else:
        low, high = robust_range(words, grey) or (float(modality.min()), float(modality.max()))
    table = grey_table(replace(grey, window=None), (least, least + span))
    low, high = (low - least) / span, (high - least) / span
    return (table, 1.0 - high, 1.0 - low) if grey.inverted else (table, low, high)
