"""How far stated probabilities are from what happened."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from prioritizer.statistics.logistic import Float64


@dataclass(frozen=True, slots=True, kw_only=True)
class ReliabilityBin:
    """Cases of like probability: mean predicted, observed positive rate, count."""

    predicted: float
    observed: float
    count: int


def reliability(probabilities: Float64, labels: Float64, bins: int = 10, *, equal_mass: bool = False) -> tuple[ReliabilityBin, ...]:
    """P(positive) against the observed positive rate in `bins` bins of equal width, or of equally many cases; empty ones are left out.

    Cases of one probability stay in one bin: parted, they would stand in the order of the files, which is often that of the labels.
    """
    if equal_mass:
        order = np.argsort(probabilities, kind="stable")
        rising = probabilities[order]
        last = np.cumsum([len(part) for part in np.array_split(order, bins) if len(part)]) - 1
        groups = [part for part in np.split(order, np.unique(np.searchsorted(rising, rising[last], side="right"))) if len(part)]
    else:
        index = np.minimum((probabilities * bins).astype(int), bins - 1)
        groups = [part for b in range(bins) if len(part := np.flatnonzero(index == b))]
    return tuple(
        ReliabilityBin(predicted=float(probabilities[part].mean()), observed=float(labels[part].mean()), count=len(part)) for part in groups
    )


def expected_calibration_error(probabilities: Float64, labels: Float64, bins: int = 10, *, equal_mass: bool = False) -> float:
    """Count-weighted mean of |predicted - observed| over the reliability bins of P(positive)."""
    found = reliability(probabilities, labels, bins, equal_mass=equal_mass)
    return sum(b.count * abs(b.predicted - b.observed) for b in found) / len(labels)


def brier(probabilities: Float64, labels: Float64) -> float:
    """Mean squared difference of probability and label."""
    return float(np.mean((probabilities - labels) ** 2))
