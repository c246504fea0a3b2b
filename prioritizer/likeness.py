"""Is this image like the training data? A distance in the network's own features, with a limit fixed on images it never saw.

Tags cannot say everything: a lateral sent as AP, a hand sent as CHEST, an inverted film, a device nobody trained on. The features
of several depths say how a picture looks (texture, sharpness, size of structures) and what is on it. Two distances are taken from
them: Mahalanobis inside the directions in which training images differ from each other (Lee et al. 2018), and what is left outside
these directions (Wang et al. 2022), each divided by its limit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Likeness:
    """A fitted guard for embeddings of length D, with K directions."""

    centre: Float32
    """Shape (D,)."""
    spread: Float32
    """Standard deviation of each feature over the training images, shape (D,); never 0."""
    directions: Float32
    """Orthonormal rows, shape (K, D), of the standardised features."""
    variances: Float32
    """Variance along each direction, shape (K,)."""
    inside_limit: float
    outside_limit: float
    false_alarms: float
    """Share of in-scope images that it was set to refuse."""

    def distance(self, embeddings: Float32) -> Float64:
        """Distance over the limit of each embedding (N, D): float64 (N,). Above 1 the image is unlike the training data.

        An embedding that holds a value that is no number is infinitely far.
        """
        inside, outside = self.parts(embeddings)
        distance: Float64 = np.maximum(inside / self.inside_limit, outside / self.outside_limit)
        return np.where(np.isfinite(distance), distance, np.inf)

    def parts(self, embeddings: Float32) -> tuple[Float64, Float64]:
        """Root mean square Mahalanobis distance inside the directions, and of the rest outside them: two of float64 (N,)."""
        standard = (np.asarray(embeddings, dtype=np.float64) - self.centre) / self.spread
        along = standard @ self.directions.T.astype(np.float64)
        rest = np.maximum((standard**2).sum(axis=1) - (along**2).sum(axis=1), 0.0)
        inside = np.sqrt((along**2 / self.variances).mean(axis=1))
        outside = np.sqrt(rest / max(standard.shape[1] - len(self.directions), 1))
        return inside, outside


def fit(training: Float32, held_out: Float32, *, directions: int = 64, false_alarms: float = 0.01) -> Likeness:
    """The guard of embeddings `training` (N, D) with its limits from `held_out` (M, D), images of other patients in scope.

    Each of the two distances gets half of the false alarms. Variances are shrunk a tenth towards their mean, so that a direction in
    which few images differ does not decide alone.
    """
    count = min(directions, len(training) - 1, training.shape[1])
    if count < 1 or len(held_out) < 2:
        raise ValueError(f"{len(training)} training and {len(held_out)} held-out embeddings are too few for a guard")
    data = training.astype(np.float64)
    centre, spread = data.mean(axis=0), data.std(axis=0)
    spread = np.maximum(spread, max(float(spread.max()), 1e-12) * 1e-3)
    _, singular, rows = np.linalg.svd((data - centre) / spread, full_matrices=False)
    variances = singular[:count] ** 2 / (len(data) - 1)
    shrunk = 0.9 * variances + 0.1 * variances.mean()
    bare = Likeness(
        centre=centre.astype(np.float32),
        spread=spread.astype(np.float32),
        directions=rows[:count].astype(np.float32),
        variances=shrunk.astype(np.float32),
        inside_limit=1.0,
        outside_limit=1.0,
        false_alarms=false_alarms,
    )
    inside, outside = (float(np.quantile(part, 1 - false_alarms / 2)) for part in bare.parts(held_out))
    return Likeness(
        centre=bare.centre,
        spread=bare.spread,
        directions=bare.directions,
        variances=bare.variances,
        inside_limit=max(inside, 1e-9),
        outside_limit=max(outside, 1e-9),
        false_alarms=false_alarms,
    )
