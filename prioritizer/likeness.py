"""Is this image like the training data? Two distances, each with a limit fixed on images that no weight was fitted on.

Tags cannot say everything: a lateral sent as AP, a hand sent as CHEST, an adult among children, an inverted film. The network's own
features at several depths say how a picture looks and what is on it: Mahalanobis inside the directions in which training images
differ from each other (Lee et al. 2018), and what is left outside these directions (Wang et al. 2022). The network was taught to
overlook age and hospital, so what is left outside is joined with how unusual the layout of the picture is (`layout`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from prioritizer.layout import Layout

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

WEIGHTS = (1.0, 2.0)
"""Of the distance outside and of that of the layout, where they are joined."""
INSIDE_SHARE = 0.1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Likeness:
    """A fitted guard for embeddings of length D, with K directions, and for the layout of pictures."""

    centre: Float32
    """Shape (D,)."""
    spread: Float32
    """Standard deviation of each feature over the training images, shape (D,); never 0."""
    directions: Float32
    """Orthonormal rows, shape (K, D), of the standardised features."""
    variances: Float32
    """Variance along each direction, shape (K,)."""
    layout: Layout
    usual: tuple[tuple[float, float], tuple[float, float]]
    """Mean and standard deviation, on images in scope, of the distance outside and of that of the layout."""
    limits: tuple[float, float]
    """Of the distance inside and of the two others joined."""
    false_alarms: float
    """Share of in-scope images that it was set to refuse."""

    def distance(self, embeddings: Float32, layouts: Float64) -> Float64:
        """Distance over the limit of embeddings (N, D) and layout features (N, 98): float64 (N,). Above 1: unlike the training data.

        A picture whose embedding holds a value that is no number is infinitely far.
        """
        parts = np.stack(self.parts(embeddings, layouts)) / np.array(self.limits)[:, None]
        distance: Float64 = parts.max(axis=0)
        return np.where(np.isfinite(distance), distance, np.inf)

    def parts(self, embeddings: Float32, layouts: Float64) -> tuple[Float64, Float64]:
        """The distance inside the directions, and that outside joined with that of the layout in standard deviations: float64 (N,)."""
        inside, outside = self.depths(embeddings)
        standard = [(d - mean) / spread for d, (mean, spread) in zip((outside, self.layout.distance(layouts)), self.usual, strict=True)]
        return inside, np.average(standard, axis=0, weights=WEIGHTS)

    def depths(self, embeddings: Float32) -> tuple[Float64, Float64]:
        """Root mean square Mahalanobis distance inside the directions, and of the rest outside them: two of float64 (N,)."""
        standard = (np.asarray(embeddings, dtype=np.float64) - self.centre) / self.spread
        along = standard @ self.directions.T.astype(np.float64)
        rest = np.maximum((standard**2).sum(axis=1) - (along**2).sum(axis=1), 0.0)
        inside = np.sqrt((along**2 / self.variances).mean(axis=1))
        outside = np.sqrt(rest / max(standard.shape[1] - len(self.directions), 1))
        return inside, outside


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sample:
    """What a guard is fitted on: embeddings (N, D) and layout features (N, 98) of the same pictures."""

    embeddings: Float32
    layouts: Float64


def fit(training: Sample, held_out: Sample, layout: Layout, *, directions: int = 64, false_alarms: float = 0.02) -> Likeness:
    """The guard of training pictures with its limits from pictures of other patients in scope; `layout` was fitted on the same.

    The distance inside gets INSIDE_SHARE of the false alarms, the other the rest. Variances are shrunk a tenth towards their mean,
    so that a direction in which few images differ does not decide alone.
    """
    count = min(directions, len(training.embeddings) - 1, training.embeddings.shape[1])
    if count < 1 or len(held_out.embeddings) < 2:
        raise ValueError(f"{len(training.embeddings)} training and {len(held_out.embeddings)} held-out pictures are too few for a guard")
    data = training.embeddings.astype(np.float64)
    centre, spread = data.mean(axis=0), data.std(axis=0)
    spread = np.maximum(spread, max(float(spread.max()), 1e-12) * 1e-3)
    _, singular, rows = np.linalg.svd((data - centre) / spread, full_matrices=False)
    variances = singular[:count] ** 2 / (len(data) - 1)
    bare = Likeness(
        centre=centre.astype(np.float32),
        spread=spread.astype(np.float32),
        directions=rows[:count].astype(np.float32),
        variances=(0.9 * variances + 0.1 * variances.mean()).astype(np.float32),
        layout=layout,
        usual=((0.0, 1.0), (0.0, 1.0)),
        limits=(1.0, 1.0),
        false_alarms=false_alarms,
    )
    distances = bare.depths(held_out.embeddings)[1], layout.distance(held_out.layouts)
    outside, laid = ((float(d.mean()), max(float(d.std()), 1e-9)) for d in distances)
    ready = replace(bare, usual=(outside, laid))
    shares = (INSIDE_SHARE * false_alarms, (1 - INSIDE_SHARE) * false_alarms)
    inside, joined = (
        max(float(np.quantile(part, 1 - share)), 1e-9)
        for part, share in zip(ready.parts(held_out.embeddings, held_out.layouts), shares, strict=True)
    )
    return replace(ready, limits=(inside, joined))
