"""A raster of stored values looked up and resampled in one pass, antialiased, without the float picture of the full size."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from prioritizer.errors import Unprocessable
from prioritizer.imaging.grey_scale import Float32, Mask, Words

BAND = 8
"""Target rows or columns resampled together: few enough that the dense weights hold few zeros."""
SINGLE_THREADED = 2**18
"""Multiplications a matrix product may have before OpenBLAS shares it among threads. On a busy machine those wait for each
other: 230 ms instead of 4 for one film."""
MAX_KEPT_WEIGHTS = 32
"""Pairs of source and target length whose weights are kept. A pair holds 10 floats for each source sample, 0.7 MB at the longest."""


@dataclass(frozen=True, slots=True, eq=False)
class WeightBand:
    """The weights of a few neighbouring target samples, over the source samples that they see and no others."""

    top: int
    """First target sample."""
    bottom: int
    """Past the last target sample."""
    start: int
    """First source sample."""
    end: int
    """Past the last source sample."""
    weights: Float32
    """Shape (bottom - top, end - start); every row sums to 1."""


@lru_cache(maxsize=MAX_KEPT_WEIGHTS)
def weight_bands(length: int, target: int) -> tuple[WeightBand, ...]:
    """Antialiased triangle filter from `length` to `target` samples, in bands of `BAND` target samples.

    Equal to Pillow's BILINEAR: centre (i + 0.5) * scale, support max(scale, 1), rows normalised to sum 1. A dense matrix would hold
    105 MB for an image of 16384 rows, and a decoder process reads images of many sizes.
    """
    scale = length / target
    support = max(scale, 1.0)
    bands = []
    for top in range(0, target, BAND):
        rows = []
        for i in range(top, min(top + BAND, target)):
            centre = (i + 0.5) * scale
            start = max(int(centre - support + 0.5), 0)
            end = min(int(centre + support + 0.5), length)
            row = np.maximum(1.0 - np.abs((np.arange(start, end) - centre + 0.5) / support), 0.0)
            rows.append((start, end, row / row.sum()))
        first, last = rows[0][0], rows[-1][1]
        weights = np.zeros((len(rows), last - first), dtype=np.float32)
        for i, (start, end, row) in enumerate(rows):
            weights[i, start - first : end - first] = row
        bands.append(WeightBand(top, top + len(rows), first, last, weights))
    return tuple(bands)


def resampling_weights(length: int, target: int) -> Float32:
    """The filter of `weight_bands` as one dense matrix: float32, shape (target, length). For short sides: it is mostly zeros."""
    dense = np.zeros((target, length), dtype=np.float32)
    for band in weight_bands(length, target):
        dense[band.top : band.bottom, band.start : band.end] = band.weights
    return dense


def shrink(words: Words, table: Float32, height: int, width: int, outside: Mask | None = None, level: float = 0.0) -> Float32:
    """Raw words looked up in `table` and resampled to (height, width), float32, 0..1; `level` where they lie `outside` a shutter.

    Worked in bands of target rows, so the float picture of the full size never exists.
    """
    if table.size < 2 ** (8 * words.dtype.itemsize):
        raise Unprocessable("bits", "decoded pixels are wider than Bits Allocated")
    narrow_first = np.empty((height, words.shape[1]), dtype=np.float32)
    bands = weight_bands(words.shape[0], height)
    # One piece of memory for all bands: pages that are given back are fetched and cleared again.
    work = np.empty((max(band.end - band.start for band in bands), words.shape[1]), dtype=np.float32)
    for down in bands:
        # Every word is inside the table; checking each again ("raise") would triple the time.
        grey = np.take(table, words[down.start : down.end], mode="wrap", out=work[: down.end - down.start])
        if outside is not None:
            grey[outside[down.start : down.end]] = level
        tile = max(SINGLE_THREADED // down.weights.size, 1)
        for left in range(0, words.shape[1], tile):
            np.matmul(down.weights, grey[:, left : left + tile], out=narrow_first[down.top : down.bottom, left : left + tile])
    picture = np.empty((height, width), dtype=np.float32)
    for across in weight_bands(words.shape[1], width):
        tile = max(SINGLE_THREADED // across.weights.size, 1)
        for top in range(0, height, tile):
            seen = narrow_first[top : top + tile, across.start : across.end]
            picture[top : top + tile, across.top : across.bottom] = seen @ across.weights.T
    return picture
