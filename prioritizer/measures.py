"""How good is it, and how sure are we: figures with bootstrap 95 % intervals, resampled by patient."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prioritizer import calibration

Float64 = NDArray[np.float64]
RESAMPLES = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A value with its bootstrap 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f}-{self.high:.3f})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cases:
    """Calibrated probabilities with labels (0 or 1) and the patient of each case."""

    probabilities: Float64
    labels: Float64
    patients: Sequence[str]


def roc_auc(labels: Float64, scores: Float64) -> float:
    """Area under the ROC curve by ranks (Mann-Whitney), ties counted half; NaN when a class is missing."""
    positive = labels == 1
    n_pos, n_neg = int(positive.sum()), int((~positive).sum())
    if not n_pos or not n_neg:
        return float("nan")
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2.0)[inverse]
    return float((ranks[positive].sum() - n_pos * (n_pos + 1) / 2) / (n_pos * n_neg))


def average_precision(labels: Float64, scores: Float64) -> float:
    """Area under the precision-recall curve, as the mean precision at each positive; ties share the end of their block."""
    order = np.argsort(-scores, kind="stable")
    sorted_labels, sorted_scores = labels[order], scores[order]
    block_end = np.searchsorted(-sorted_scores, -sorted_scores, side="right")
    precision = np.cumsum(sorted_labels)[block_end - 1] / block_end
    return float(precision[sorted_labels == 1].mean())


def sensitivity(labels: Float64, flagged: NDArray[np.bool_]) -> float:
    """Share of positives flagged."""
    return float(flagged[labels == 1].mean()) if (labels == 1).any() else float("nan")


def specificity(labels: Float64, flagged: NDArray[np.bool_]) -> float:
    """Share of negatives not flagged."""
    return float((~flagged[labels == 0]).mean()) if (labels == 0).any() else float("nan")


def calibration_line(probabilities: Float64, labels: Float64) -> tuple[float, float]:
    """Calibration slope and intercept: the logistic regression of the label on the logit of the probability (Cox 1958)."""
    clipped = np.clip(probabilities, 1e-6, 1 - 1e-6)
    x = np.stack([np.log(clipped / (1 - clipped)), np.ones_like(clipped)], axis=1)

    def loss(at: Float64) -> float:
        return calibration.log_loss(x @ at, labels)

    # From zero, where every case has weight; from slope 1 a confident and wrong model has no curvature to step by.
    weights = np.zeros(2)
    for _ in range(100):
        p = calibration.sigmoid(x @ weights)
        hessian = (x * (p * (1 - p))[:, None]).T @ x / len(labels) + 1e-9 * np.eye(2)
        step = np.linalg.solve(hessian, x.T @ (p - labels) / len(labels))
        while loss(weights - step) > loss(weights) and np.abs(step).max() > 1e-10:
            step = step / 2
        weights = weights - step
        if np.abs(step).max() < 1e-8:
            break
    return float(weights[0]), float(weights[1])


def figures(cases: Cases, threshold: float, seed: int = 0) -> dict[str, Figure]:
    """All figures of a split at a threshold that was fixed elsewhere."""
    measures: dict[str, Callable[[Float64, Float64], float]] = {
        "roc_auc": roc_auc,
        "pr_auc": average_precision,
        "sensitivity": lambda y, p: sensitivity(y, p >= threshold),
        "specificity": lambda y, p: specificity(y, p >= threshold),
        "share_raised": lambda y, p: float((p >= threshold).mean()),
        "brier": lambda y, p: calibration.brier(p, y),
        "ece": lambda y, p: calibration.expected_calibration_error(p, y),
        "calibration_slope": lambda y, p: calibration_line(p, y)[0],
        "calibration_intercept": lambda y, p: calibration_line(p, y)[1],
    }
    samples = _resamples(cases, seed)
    found = {}
    for name, measure in measures.items():
        drawn = np.array([measure(cases.labels[i], cases.probabilities[i]) for i in samples])
        low, high = np.nanpercentile(drawn, [2.5, 97.5])
        found[name] = Figure(value=measure(cases.labels, cases.probabilities), low=float(low), high=float(high))
    return found


def _resamples(cases: Cases, seed: int) -> list[NDArray[np.int64]]:
    """Case indices of RESAMPLES draws of whole patients with replacement, each holding both classes."""
    rng = np.random.default_rng(seed)
    index_of: dict[str, list[int]] = {}
    for index, patient in enumerate(cases.patients):
        index_of.setdefault(patient, []).append(index)
    groups = [np.array(group) for group in index_of.values()]
    draws: list[NDArray[np.int64]] = []
    while len(draws) < RESAMPLES:
        chosen = np.concatenate([groups[g] for g in rng.integers(0, len(groups), len(groups))])
        if 0 < cases.labels[chosen].sum() < len(chosen):
            draws.append(chosen)
    return draws
