"""How good is it, and how sure are we: figures with 95 % intervals by patient, exact for shares, bootstrapped for the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prioritizer.statistics import calibration_error, logistic
from prioritizer.statistics.intervals import RESAMPLES, Cases, Figure, Float64, interval, resamples
from prioritizer.statistics.proportion import clusters_of, proportion_interval


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
        return logistic.log_loss(x @ at, labels)

    # From zero, where every case has weight; from slope 1 a confident and wrong model has no curvature to step by.
    weights = np.zeros(2)
    for _ in range(100):
        p = logistic.sigmoid(x @ weights)
        hessian = (x * (p * (1 - p))[:, None]).T @ x / len(labels) + 1e-9 * np.eye(2)
        step = np.linalg.solve(hessian, x.T @ (p - labels) / len(labels))
        while loss(weights - step) > loss(weights) and np.abs(step).max() > 1e-10:
            step = step / 2
        weights = weights - step
        if np.abs(step).max() < 1e-8:
            break
    return float(weights[0]), float(weights[1])


NAMES = {
    "roc_auc": "ROC-AUC of the probabilities",
    "pr_auc": "PR-AUC of the probabilities",
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
    "ppv": "Positive predictive value",
    "npv": "Negative predictive value",
    "f1": "F1",
    "accuracy": "Accuracy",
    "share_raised": "Share raised",
    "false_discovery": "False discovery rate",
    "false_omission": "False omission rate",
    "brier": "Brier score",
    "brier_reliability": "Brier: reliability (0 is right)",
    "brier_resolution": "Brier: resolution (more is better)",
    "brier_uncertainty": "Brier: uncertainty (of the cohort alone)",
    "log_loss": "Log loss, nats",
    "ece": "Calibration error of P(positive), ten equal widths",
    "ece_equal_mass": "Calibration error of P(positive), ten equal counts",
    "ece_at_prior": "The same, equal widths, with the mean set to this cohort's share",
    "calibration_slope": "Calibration slope (1 is right)",
    "calibration_intercept": "Calibration intercept beside the slope",
    "calibration_in_the_large": "Calibration in the large (0 is right)",
}
"""Every figure by its key, in the order of reports."""
BIASED = ("ece", "ece_equal_mass", "ece_at_prior", "brier_reliability", "brier_resolution")
"""Figures that resampling itself only enlarges, since a drawn case stands in its bin twice: that is taken off their intervals."""


def brier_parts(probabilities: Float64, labels: Float64) -> tuple[float, float, float]:
    """Reliability, resolution and uncertainty in ten bins of equally many cases (Murphy 1973).

    Brier = reliability - resolution + uncertainty, up to the spread of the probabilities inside the bins.
    """
    mean = float(labels.mean())
    bins = calibration_error.reliability(probabilities, labels, equal_mass=True)
    reliability = sum(b.count * (b.predicted - b.observed) ** 2 for b in bins) / len(labels)
    resolution = sum(b.count * (b.observed - mean) ** 2 for b in bins) / len(labels)
    return reliability, resolution, mean * (1 - mean)


def values(cases: Cases, threshold: float) -> dict[str, float]:
    """Every figure of NAMES at a threshold that was fixed elsewhere; NaN where it cannot be computed."""
    p, y = cases.probabilities, cases.labels
    slope, intercept = calibration_line(p, y)
    odds = logistic.odds_of(np.clip(p, 1e-6, 1 - 1e-6))
    in_the_large = logistic.fit_intercept(odds, y)
    reliability, resolution, uncertainty = brier_parts(p, y)
    found = {
        "roc_auc": roc_auc(y, p),
        "pr_auc": average_precision(y, p) if (y == 1).any() else float("nan"),
        **_at_threshold(y, p >= threshold),
        "brier": calibration_error.brier(p, y),
        "brier_reliability": reliability,
        "brier_resolution": resolution,
        "brier_uncertainty": uncertainty,
        "log_loss": logistic.log_loss(logistic.odds_of(p), y),
        "ece": calibration_error.expected_calibration_error(p, y),
        "ece_equal_mass": calibration_error.expected_calibration_error(p, y, equal_mass=True),
        # Another share of pneumonia alone makes a calibration error, which is no fault of the map.
        "ece_at_prior": calibration_error.expected_calibration_error(logistic.sigmoid(odds + in_the_large), y),
        "calibration_slope": slope,
        "calibration_intercept": intercept,
        "calibration_in_the_large": in_the_large,
    }
    return {name: found[name] for name in NAMES}


def _at_threshold(labels: Float64, flagged: NDArray[np.bool_]) -> dict[str, float]:
    """What follows from the four counts."""
    positive = labels == 1
    tp, fp = float((flagged & positive).sum()), float((flagged & ~positive).sum())
    fn, tn = float(positive.sum()) - tp, float((~positive).sum()) - fp
    return {
        "sensitivity": _share(tp, tp + fn),
        "specificity": _share(tn, tn + fp),
        "ppv": _share(tp, tp + fp),
        "npv": _share(tn, tn + fn),
        "f1": _share(2 * tp, 2 * tp + fp + fn),
        "accuracy": _share(tp + tn, len(labels)),
        "share_raised": _share(tp + fp, len(labels)),
        "false_discovery": _share(fp, tp + fp),
        "false_omission": _share(fn, tn + fn),
    }


def _share(part: float, whole: float) -> float:
    return part / whole if whole else float("nan")


def drawn_values(cases: Cases, threshold: float, samples: Sequence[NDArray[np.int64]]) -> dict[str, Float64]:
    """Every figure on every sample of case indices, shape (len(samples),) each: two models drawn alike can be subtracted."""
    rows = [values(cases.only(index), threshold) for index in samples]
    return {name: np.array([row[name] for row in rows]) for name in NAMES}


def figures(cases: Cases, threshold: float, seed: int = 0, draws: int = RESAMPLES) -> dict[str, Figure]:
    """All figures of a split at a threshold that was fixed elsewhere."""
    found = figures_of(values(cases, threshold), drawn_values(cases, threshold, resamples(cases, seed, draws)))
    return found | share_figures(cases, threshold)


def share_figures(cases: Cases, threshold: float) -> dict[str, Figure]:
    """Shares with exact intervals by patient: cases drawn again cannot show what was never seen, such as a miss where there was none."""
    flagged, positive = cases.probabilities >= threshold, cases.labels == 1
    every = np.ones_like(flagged)
    among = {
        "sensitivity": (flagged, positive),
        "specificity": (~flagged, ~positive),
        "ppv": (positive, flagged),
        "npv": (~positive, ~flagged),
        "accuracy": (flagged == positive, every),
        "share_raised": (flagged, every),
    }
    return {name: _share_figure(hits, of, cases.patients) for name, (hits, of) in among.items()}


def _share_figure(hits: NDArray[np.bool_], among: NDArray[np.bool_], patients: Sequence[str]) -> Figure:
    of = np.flatnonzero(among)
    if not len(of):
        return Figure(value=float("nan"), low=float("nan"), high=float("nan"))
    clusters = clusters_of(hits[of], [patients[i] for i in of.tolist()])
    low, high = proportion_interval(int(hits[of].sum()), len(of), clusters=clusters)
    return Figure(value=float(hits[of].mean()), low=low, high=high)


def figures_of(found: dict[str, float], drawn: dict[str, Float64]) -> dict[str, Figure]:
    """Values with the 95 % intervals of what was drawn for them."""
    return {name: interval(value, drawn[name], centred=name in BIASED) for name, value in found.items()}


def roc_auc_figure(scores: Float64, labels: Float64, patients: Sequence[str], seed: int = 0) -> Figure:
    """ROC-AUC of any scores that rise with the risk, with its interval by patient."""
    cases = Cases(probabilities=scores, labels=labels, patients=patients)
    drawn = np.array([roc_auc(labels[index], scores[index]) for index in resamples(cases, seed)])
    return interval(roc_auc(labels, scores), drawn)


def mean_figure(values: Float64, patients: Sequence[str], seed: int = 0) -> Figure:
    """The mean of one value a case, with its interval by patient."""
    _, index = np.unique(np.asarray(patients, dtype=np.str_), return_inverse=True)
    sums, counts = np.bincount(index, weights=values), np.bincount(index)
    drawn = np.random.default_rng(seed).integers(0, len(sums), (RESAMPLES, len(sums)))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return Figure(value=float(values.mean()), low=float(low), high=float(high))


@dataclass(frozen=True, slots=True, kw_only=True)
class SmoothCurve:
    """Observed rate over predicted probability as a smooth line with its 95 % band, by patient."""

    predicted: Float64
    observed: Float64
    low: Float64
    high: Float64


def smooth_reliability(cases: Cases, seed: int = 0, *, width: float = 0.08, draws: int = 200) -> SmoothCurve:
    """A kernel smooth (normal, standard deviation `width` of probability) of label on probability, where there are cases."""
    p = cases.probabilities
    start, end = (float(edge) for edge in np.quantile(p, [0.01, 0.99]))
    grid = np.linspace(start, end, 60)
    weights = np.exp(-0.5 * ((grid[:, None] - p[None, :]) / width) ** 2)

    def line(index: NDArray[np.int64]) -> Float64:
        found: Float64 = weights[:, index] @ cases.labels[index] / np.maximum(weights[:, index].sum(axis=1), 1e-12)
        return found

    drawn = np.array([line(index) for index in resamples(cases, seed, draws)])
    low, high = np.percentile(drawn, [2.5, 97.5], axis=0)
    return SmoothCurve(predicted=grid, observed=line(np.arange(len(p))), low=low, high=high)
