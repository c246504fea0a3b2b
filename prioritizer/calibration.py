"""From the network's logit to a probability that means what it says at a site.

An affine map of the logit: probability = sigmoid(slope * logit + intercept). Temperature scaling (Guo et al. 2017) is slope = 1/T
with intercept 0; Platt scaling (1999) frees both.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """A fitted map with the thresholds that go with it; `id` names it in every score."""

    id: str
    method: str
    slope: float
    intercept: float
    t_high: float
    """Probability at or above which a study is placed in the HIGH band."""
    t_low: float
    """Probability below which a study may be placed in the LOW band, where a site demotes."""
    fitted_on: str = ""
    n: int = 0
    events: int = 0

    def probability(self, logit: float) -> float:
        """Calibrated probability of pneumonia for one logit."""
        return float(sigmoid(np.asarray(self.slope * logit + self.intercept)))


def sigmoid(x: Float64) -> Float64:
    """1 / (1 + exp(-x)) without overflow."""
    return np.exp(-np.logaddexp(0.0, -x))


def log_loss(logits: Float64, labels: Float64) -> float:
    """Mean negative log likelihood of labels (0 or 1) under sigmoid(logits), in nats."""
    return float(np.mean(np.logaddexp(0.0, logits) - labels * logits))


def fit_temperature(logits: Float64, labels: Float64) -> float:
    """The slope 1/T that minimises the log loss; Newton on one convex parameter, bracketed to 0.01..100."""
    log_slope = 0.0
    for _ in range(100):
        slope = np.exp(log_slope)
        p = sigmoid(slope * logits)
        gradient = float(np.mean((p - labels) * logits)) * slope
        curvature = float(np.mean(p * (1 - p) * logits**2)) * slope**2 + abs(gradient)
        step = gradient / max(curvature, 1e-12)
        log_slope = float(np.clip(log_slope - np.clip(step, -1, 1), np.log(0.01), np.log(100)))
        if abs(step) < 1e-10:
            break
    return float(np.exp(log_slope))


def threshold_at_sensitivity(probabilities: Float64, labels: Float64, target: float) -> float:
    """The highest threshold whose sensitivity on these cases is at least `target`."""
    positive = np.sort(probabilities[labels == 1])
    if not len(positive):
        raise ValueError("no positive case: no threshold has a sensitivity")
    allowed_misses = int(np.floor((1 - target) * len(positive) + 1e-9))
    return float(positive[min(allowed_misses, len(positive) - 1)])


@dataclass(frozen=True, slots=True, kw_only=True)
class ReliabilityBin:
    """Cases of like probability: mean predicted, observed positive rate, count."""

    predicted: float
    observed: float
    count: int


def reliability(probabilities: Float64, labels: Float64, bins: int = 10) -> tuple[ReliabilityBin, ...]:
    """P(positive) against the observed positive rate in `bins` equal-width bins; empty bins are left out."""
    index = np.minimum((probabilities * bins).astype(int), bins - 1)
    found = []
    for b in range(bins):
        inside = index == b
        if inside.any():
            found.append(
                ReliabilityBin(
                    predicted=float(probabilities[inside].mean()), observed=float(labels[inside].mean()), count=int(inside.sum())
                )
            )
    return tuple(found)


def expected_calibration_error(probabilities: Float64, labels: Float64, bins: int = 10) -> float:
    """Count-weighted mean of |predicted - observed| over the reliability bins of P(positive)."""
    return sum(b.count * abs(b.predicted - b.observed) for b in reliability(probabilities, labels, bins)) / len(labels)


def brier(probabilities: Float64, labels: Float64) -> float:
    """Mean squared difference of probability and label."""
    return float(np.mean((probabilities - labels) ** 2))
