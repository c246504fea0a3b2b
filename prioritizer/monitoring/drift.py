"""Drift of scores and embeddings: the population stability index between two periods."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from prioritizer.monitoring.turnaround import Float64

BINS = 10
FLOOR = 1e-4
"""Share that an empty bin counts as."""
AXES = 3
"""Principal axes of the reference's embeddings along which drift is looked for."""
LARGEST_OF_AXES = 0.846
"""Standard deviations by which the largest of `AXES` equal draws lies above their mean on average."""
MIN_FOR_DRIFT = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """Population stability index of this period against the reference (Siddiqi 2006): sum of (a - b) ln(a / b) over tenths."""

    of: str
    value: float
    by_chance: float
    """What two samples of this size from one population give on average: (bins - 1)(1/n + 1/m); of several axes, the largest."""
    n: int
    reference: int

    @property
    def beyond_chance(self) -> float:
        """The index less what chance gives."""
        return max(self.value - self.by_chance, 0.0)


def psi(reference: Float64, current: Float64, of: str) -> Drift | None:
    """The index of one number over tenths of the reference; None where either is too small to say anything.

    What is no finite number is left out; one beyond the reference falls into its last tenth.
    """
    reference, current = reference[np.isfinite(reference)], current[np.isfinite(current)]
    if min(len(reference), len(current)) < MIN_FOR_DRIFT:
        return None
    edges = np.unique(np.quantile(reference, np.linspace(0, 1, BINS + 1)[1:-1]))
    before, after = (_shares(values, edges) for values in (reference, current))
    value = float(np.sum((after - before) * np.log(after / before)))
    return Drift(
        of=of, value=value, by_chance=len(edges) * (1 / len(reference) + 1 / len(current)), n=len(current), reference=len(reference)
    )


def _shares(values: Float64, edges: Float64) -> Float64:
    counted = np.bincount(np.searchsorted(edges, values, side="right"), minlength=len(edges) + 1)
    shares: Float64 = np.maximum(counted / len(values), FLOOR)
    return shares


def psi_of_embeddings(reference: Float64, current: Float64) -> Drift | None:
    """The largest index along the first principal axes of the reference; (N, D) and (M, D).

    By chance the index of one axis is (1/n + 1/m) times a chi-square of bins - 1 degrees of freedom (Yurdakul 2018), and the largest of
    several lies above its mean.
    """
    reference, current = (rows[np.isfinite(rows).all(axis=1)] for rows in (reference, current))
    if min(len(reference), len(current)) < MIN_FOR_DRIFT:
        return None
    middle = reference.mean(axis=0)
    axes = np.linalg.svd(reference - middle, full_matrices=False)[2][:AXES]
    indices = (psi((reference - middle) @ axis, (current - middle) @ axis, "embeddings") for axis in axes)
    largest = max((one for one in indices if one is not None), key=lambda one: one.value)
    bins, size = BINS - 1, 1 / largest.n + 1 / largest.reference
    return replace(largest, by_chance=(bins + LARGEST_OF_AXES * math.sqrt(2 * bins)) * size)
