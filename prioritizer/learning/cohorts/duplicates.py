"""Films that stand in a cohort twice: the same bytes, or the same picture saved again.

The perceptual hash is the 64-bit DCT hash (Zauner 2010): signs of the low frequencies of a 32 x 32 picture against their median.
Chest radiographs resemble each other far more than photographs do, so a small distance only names a candidate, and the correlation
of the 32 x 32 pictures decides. The thresholds were set on 5,216 radiographs of 2,846 children: of 13.6 million pairs of different
children none is taken for one film (the most alike correlate at 0.978), with a 64-bit difference hash within 4 bits 807,000 are.
docs/learning.md has the figures for copies that were saved again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from prioritizer.imaging import preprocessing
from prioritizer.learning.cohorts.labelled_image import LabelledImage

Float32 = NDArray[np.float32]
THUMBNAIL = preprocessing.Preprocessing(id="thumbnail", size=32, resize="squash", mean=(0.0,) * 3, std=(1.0,) * 3)
MAX_BITS = 8
"""Bits of 64 in which the hashes of a candidate pair may differ."""
MIN_CORRELATION = 0.985
"""Correlation of the 32 x 32 pictures from which a candidate pair is one film."""
BLOCK = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two files that hold one film."""

    one: LabelledImage
    other: LabelledImage
    exact: bool
    """The bytes are the same."""
    correlation: float

    @property
    def contradictory(self) -> bool:
        """The same film with both labels: one of them is wrong."""
        return self.one.label != self.other.label

    @property
    def paths(self) -> tuple[Path, Path]:
        """What `splits.split_by_patient` joins."""
        return self.one.path, self.other.path


@lru_cache(maxsize=1)
def _cosines() -> Float32:
    """The first 8 rows of the DCT-II of 32 samples."""
    n = THUMBNAIL.size
    return np.cos(np.pi * np.outer(np.arange(8), 2 * np.arange(n) + 1) / (2 * n)).astype(np.float32)


def perceptual_hash(thumbnail: Float32) -> NDArray[np.bool_]:
    """64 bits of a picture float32 (32, 32): which low frequencies lie above their median, the mean left out of it."""
    low = (_cosines() @ thumbnail @ _cosines().T).ravel()
    return np.asarray(low > np.median(low[1:]), dtype=np.bool_)


def pairs(images: Sequence[LabelledImage], digests: Sequence[str], thumbnails: Float32) -> tuple[Pair, ...]:
    """Every pair of `images` that is one film, by SHA-256 `digests` or by `thumbnails` float32 (N, 32, 32)."""
    found = []
    standard = _standardised(thumbnails)
    for i, j in _candidates(thumbnails):
        exact = digests[i] == digests[j]
        correlation = 1.0 if exact else float(standard[i] @ standard[j]) / standard.shape[1]
        if exact or correlation >= MIN_CORRELATION:
            found.append(Pair(one=images[i], other=images[j], exact=exact, correlation=correlation))
    return tuple(found)


def _standardised(thumbnails: Float32) -> Float32:
    flat = thumbnails.reshape(len(thumbnails), -1)
    return np.asarray((flat - flat.mean(1, keepdims=True)) / np.maximum(flat.std(1, keepdims=True), 1e-6), dtype=np.float32)


def _candidates(thumbnails: Float32) -> list[tuple[int, int]]:
    """Pairs i < j whose hashes differ in at most MAX_BITS bits, worked in blocks of rows."""
    signs = np.array([np.where(perceptual_hash(one), 1, -1) for one in thumbnails], dtype=np.float32).reshape(-1, 64)
    found: list[tuple[int, int]] = []
    for start in range(0, len(signs), BLOCK):
        near = signs[start : start + BLOCK] @ signs[start:].T >= 64 - 2 * MAX_BITS
        rows, columns = np.nonzero(np.triu(near, 1))
        found.extend(zip((rows + start).tolist(), (columns + start).tolist(), strict=True))
    return found
