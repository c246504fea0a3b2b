"""Stored pixel values to grey, 0 (black) to 1 (white), in the order of DESIGN section 4.

Every grey-scale step of DICOM (modality LUT, VOI LUT or window, inversion, padding) is a function of one stored value, so it
is computed once per *possible* stored value, in float64, and the image is looked up in that table.

Sources: PS3.3 C.7.6.3 (Image Pixel), C.11.1 (Modality LUT), C.11.2 (VOI LUT), C.7.5.1.1.2 (Pixel Padding).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prioritizer.errors import Unprocessable

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Words = NDArray[np.uint8] | NDArray[np.uint16]
Mask = NDArray[np.bool_]

WINDOW_FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")
ROBUST_RANGE = (0.005, 0.995)
"""Quantiles shown as black and white when a file deeper than 8 bits states no window: collimation edges and lead markers
otherwise take the whole range. An 8-bit file without a window is shown as it is stored."""
STRIP = 2**20
"""Pixels that are counted at once."""


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
    shift: int = 0
    """Bits below the stored ones, where (0028,0102) High Bit puts the value at the upper end of the word."""
    overshoot: bool = False
    """What goes beyond (0028,0101) Bits Stored is a lossy codec's overshoot, to be clipped, and no overlay, to be masked off."""


def stored_values(grey: GreyScale) -> NDArray[np.int64]:
    """Every raw word of the allocated size and the stored value it means: shape (2**bits_allocated,).

    Bits above (0028,0101) Bits Stored are masked off: old devices keep overlays there. A lossy codec's overshoot is clipped instead.
    """
    if grey.bits_allocated not in (8, 16):
        raise Unprocessable("bits", f"Bits Allocated {grey.bits_allocated} is not 8 or 16")
    if not 1 <= grey.bits_stored <= grey.bits_allocated:
        raise Unprocessable("bits", f"Bits Stored {grey.bits_stored} does not fit Bits Allocated {grey.bits_allocated}")
    values = word_values(grey, grey.bits_allocated - grey.shift if grey.overshoot else grey.bits_stored, grey.shift)
    low, high = stored_range(grey)
    clipped: NDArray[np.int64] = np.clip(values, low, high)
    return clipped


def word_values(grey: GreyScale, bits: int | None = None, shift: int = 0) -> NDArray[np.int64]:
    """What `bits` bits of every raw word (all of them, where None) mean above `shift` others: shape (2**bits_allocated,)."""
    bits = grey.bits_allocated if bits is None else bits
    words: NDArray[np.int64] = np.arange(2**grey.bits_allocated, dtype=np.int64)
    values: NDArray[np.int64] = (words >> shift) & (2**bits - 1)
    return np.where(values >= 2 ** (bits - 1), values - 2**bits, values) if grey.signed else values


def within_padding(grey: GreyScale) -> Mask:
    """Which raw words, each as a whole, lie within Pixel Padding: bool, shape (2**bits_allocated,).

    Devices that pad with 65535 do so in images of 12 bits too: such a value is none of a pixel, and is compared before masking.
    """
    if grey.padding is None:
        return np.zeros(2**grey.bits_allocated, dtype=np.bool_)
    (low, high), words = sorted(grey.padding), word_values(grey)
    within: Mask = (words >= low) & (words <= high)
    return within


def is_padding(grey: GreyScale, stored: NDArray[np.int64]) -> Mask:
    """Which raw words are no anatomy, by the value they mean, or as a whole where no value can be what the header names."""
    if grey.padding is None:
        return np.zeros(stored.shape, dtype=np.bool_)
    (low, high), (least, most) = sorted(grey.padding), stored_range(grey)
    found: Mask = (stored >= low) & (stored <= high)
    return found if least <= low and high <= most else found | within_padding(grey)


def stored_range(grey: GreyScale) -> tuple[int, int]:
    """The lowest and highest value that Bits Stored and Pixel Representation allow."""
    half: int = 2 ** (grey.bits_stored - 1)
    return (-half, half - 1) if grey.signed else (0, 2 * half - 1)


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
    shown[is_padding(grey, stored)] = 0.0
    return shown.astype(np.float32)


def raw_words(pixels: NDArray[np.generic]) -> Words:
    """The same bits seen as unsigned words, the index into `grey_table`."""
    if pixels.dtype.itemsize not in (1, 2) or pixels.dtype.kind not in "iu":
        raise Unprocessable("bits", f"decoded pixels are {pixels.dtype}, not 8 or 16 bit integers")
    unsigned = pixels.dtype.newbyteorder("=").str.replace("i", "u")
    native = pixels if pixels.dtype.isnative else pixels.astype(pixels.dtype.newbyteorder("="))
    return native.view(unsigned)


def histogram(words: Words, bits_allocated: int, outside: Mask | None = None) -> NDArray[np.int64]:
    """How often each raw word occurs, less what lies `outside` a display shutter: int64, shape (2**bits_allocated,) or longer.

    Counted in strips: numpy widens what it counts to 64 bits, 2 GiB for an image of 16384 x 16384.
    """
    counts = np.zeros(2 ** max(bits_allocated, 8 * words.dtype.itemsize), dtype=np.int64)
    strip = max(STRIP // max(words.shape[1], 1), 1)
    for top in range(0, words.shape[0], strip):
        rows = words[top : top + strip]
        counted = rows.ravel() if outside is None else rows[~outside[top : top + strip]]
        counts += np.bincount(counted, minlength=counts.size)
    return counts


def robust_range(words: Words, grey: GreyScale, outside: Mask | None = None) -> tuple[float, float] | None:
    """Range of modality values to show when the header names none; None where the stored range is to be shown as it is.

    What lies `outside` a display shutter does not count.
    """
    if grey.window is not None or grey.voi_lut is not None:
        return None
    if grey.bits_stored <= 8:
        return None
    counts = histogram(words, grey.bits_allocated, outside).astype(np.float64)
    stored = stored_values(grey)
    counts[is_padding(grey, stored)] = 0.0
    modality = modality_values(grey, stored)
    order = np.argsort(modality, kind="stable")
    share = np.cumsum(counts[order])
    if share[-1] == 0:
        return None
    share /= share[-1]
    low_at, high_at = (int(np.searchsorted(share, q)) for q in ROBUST_RANGE)
    return float(modality[order][low_at]), float(modality[order][min(high_at, len(order) - 1)])
