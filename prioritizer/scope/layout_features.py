"""How a picture is laid out, without a network: where its edges run across and where they run down.

A chest fills the frame in its own way: ribs, arms, neck, diaphragm and collimation leave edges of one direction in the same places.
Seen at 56 x 56 pixels after equalising, that says what was taken and of whom, and hardly anything of the device, the window or the
compression. How usual a layout is, is told by the density of a Gaussian mixture.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prioritizer.imaging.preprocessing import equalised, resampling_weights

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

SIDE = 56
CELLS = 7
FLOOR = 1e-3
"""Added to each mean step before its logarithm: about a quarter of one of 256 greys."""


def features(picture: Float32) -> Float64:
    """Logarithms of the mean grey step across and down in 7 x 7 cells of an equalised picture float32 (S, S): float64 (98,)."""
    rows, columns = (resampling_weights(side, SIDE) for side in picture.shape)
    # A picture that was equalised before only changes by rounding.
    small = (rows @ equalised(picture) @ columns.T).astype(np.float64)
    across = np.abs(np.diff(small, axis=1, append=small[:, -1:]))
    down = np.abs(np.diff(small, axis=0, append=small[-1:]))
    wide = SIDE // CELLS
    cells = [step.reshape(CELLS, wide, CELLS, wide).mean(axis=(1, 3)).ravel() for step in (across, down)]
    return np.log(np.concatenate(cells) + FLOOR)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Layout:
    """A Gaussian mixture of C parts over K whitened directions of the features."""

    centre: Float32
    """Shape (98,)."""
    directions: Float32
    """Shape (K, 98): whitening rows, the standard deviations taken off."""
    weights: Float32
    """Shape (C,), sum 1."""
    means: Float32
    """Shape (C, K)."""
    roots: Float32
    """Shape (C, K, K): upper triangular; roots[c] @ roots[c].T is the inverse covariance of part c."""

    def distance(self, found: Float64) -> Float64:
        """How far features (N, 98) lie from what is usual: float64 (N,), about 1 for a usual picture, infinite without a number.

        sqrt(2 * fall / K), where `fall` is how far the log density lies below that at the middle of the densest part: with one
        part the root mean square Mahalanobis distance.
        """
        known = np.isfinite(found).all(axis=1)
        along = (np.where(known.reshape(-1, 1), found, self.centre) - self.centre) @ self.directions.T.astype(np.float64)
        heights = [np.log(float(weight)) + np.log(np.diagonal(root)).sum() for weight, root in zip(self.weights, self.roots, strict=True)]
        parts = [
            height - 0.5 * (((along - mean) @ root.astype(np.float64)) ** 2).sum(axis=1)
            for height, mean, root in zip(heights, self.means.astype(np.float64), self.roots, strict=True)
        ]
        fall = max(heights) - np.logaddexp.reduce(parts, axis=0)
        distance: Float64 = np.sqrt(2 * np.maximum(fall, 0.0) / along.shape[1])
        return np.where(known, distance, np.inf)
