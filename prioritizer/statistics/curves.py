"""ROC, precision-recall and decision curve of cases, each with a 95 % band by patient."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prioritizer.statistics.intervals import Cases, Float64, resamples

DRAWS = 200
GRID = np.linspace(0, 1, 101)
THRESHOLDS = np.linspace(0.01, 0.8, 80)
"""Where net benefit is taken: beyond 0.8 one missed pneumonia would be worth less than a quarter of a false alarm."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BandedCurve:
    """A curve over `x` with the 2.5th and 97.5th percentile of its redrawings: float64, one shape."""

    x: Float64
    y: Float64
    low: Float64
    high: Float64


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DecisionCurve:
    """Net benefit of raising by the model, of raising every study, and of none (0), over threshold probabilities."""

    model: BandedCurve
    everything: Float64
    share: float
    """Of the cases that are positive."""

    @property
    def useful(self) -> tuple[float, float] | None:
        """The widest run of thresholds over which the model's lower bound beats raising all and raising none; None where nowhere."""
        better = self.model.low > np.maximum(self.everything, 0.0)
        edges = np.flatnonzero(np.diff(np.concatenate([[0], better.astype(int), [0]])))
        runs = [(start, end - 1) for start, end in zip(edges[::2], edges[1::2], strict=True)]
        if not runs:
            return None
        start, end = max(runs, key=lambda run: run[1] - run[0])
        return float(self.model.x[start]), float(self.model.x[end])


def roc(cases: Cases, seed: int = 0) -> BandedCurve:
    """Sensitivity over 1 - specificity."""
    return _banded(cases, GRID, _sensitivity_at, seed)


def precision_recall(cases: Cases, seed: int = 0) -> BandedCurve:
    """Precision over sensitivity: of the studies raised to catch so many positives, the share that are positive."""
    return _banded(cases, GRID[1:], _precision_at, seed)


def decision(cases: Cases, seed: int = 0, thresholds: Float64 = THRESHOLDS) -> DecisionCurve:
    """Net benefit TP/n - FP/n * t/(1-t) (Vickers and Elkin 2006): t is the probability above which one would want the study early."""
    share = float(cases.labels.mean())
    odds = thresholds / (1 - thresholds)
    return DecisionCurve(model=_banded(cases, thresholds, net_benefit, seed), everything=share - (1 - share) * odds, share=share)


def net_benefit(labels: Float64, probabilities: Float64, thresholds: Float64) -> Float64:
    """Net benefit of raising all cases at or above each threshold: float64, shape of `thresholds`."""
    ordered = np.argsort(probabilities)
    below = np.searchsorted(probabilities[ordered], thresholds, side="left")
    kept = np.concatenate([[0.0], np.cumsum(labels[ordered])])[below]
    caught = labels.sum() - kept
    alarms = (len(labels) - below) - caught
    benefit: Float64 = (caught - alarms * thresholds / (1 - thresholds)) / len(labels)
    return benefit


def _sensitivity_at(labels: Float64, scores: Float64, rates: Float64) -> Float64:
    """Sensitivity at each rate of false alarms, straight lines between the corners."""
    _, blocks = np.unique(-scores, return_inverse=True)
    caught = np.concatenate([[0.0], np.cumsum(np.bincount(blocks, labels))]) / labels.sum()
    alarms = np.concatenate([[0.0], np.cumsum(np.bincount(blocks, 1 - labels))]) / (1 - labels).sum()
    # Where several corners stand at one rate, np.interp takes the last, which is the highest.
    found: Float64 = np.interp(rates, alarms, caught)
    return found


def _precision_at(labels: Float64, scores: Float64, recalls: Float64) -> Float64:
    """Precision at the highest threshold that reaches each sensitivity."""
    _, blocks = np.unique(-scores, return_inverse=True)
    caught, raised = np.cumsum(np.bincount(blocks, labels)), np.cumsum(np.bincount(blocks))
    at = np.searchsorted(caught / labels.sum(), recalls - 1e-12)
    found: Float64 = (caught / raised)[np.minimum(at, len(caught) - 1)]
    return found


def _banded(cases: Cases, x: Float64, curve: Callable[[Float64, Float64, Float64], Float64], seed: int) -> BandedCurve:
    found = curve(cases.labels, cases.probabilities, x)
    samples: Sequence[NDArray[np.int64]] = resamples(cases, seed, DRAWS)
    drawn = np.array([curve(cases.labels[i], cases.probabilities[i], x) for i in samples])
    low, high = np.percentile(drawn, [2.5, 97.5], axis=0)
    return BandedCurve(x=x, y=found, low=low, high=high)
