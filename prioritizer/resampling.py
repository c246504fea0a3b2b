"""A raster of stored values looked up and resampled in one pass, antialiased, without the float picture of the full size."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from prioritizer.errors import Unprocessable
from prioritizer.grey_scale import Float32, Mask, Words

BAND = 8
"""Target rows or columns resampled together: few enough that the dense weights hold few zeros."""
SINGLE_THREADED = 2**18
"""Multiplications a matrix product may have before OpenBLAS shares it among threads. On a busy machine those wait for each
other: 230 ms instead of 4 for one film."""


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


def shrink(words: Words, table: Float32, height: int, width: int, outside: Mask | None = None, level: float = 0.0) -> Float32:
    """Raw words looked up in `table` and resampled to (height, width), float32, 0..1; `level` where they lie `outside` a shutter.

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
        if outside is not None:
            grey[outside[start:end]] = level
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
