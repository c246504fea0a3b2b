"""Which map a bundle gets: none, temperature, Platt and isotonic fitted on one split, compared on another by a rule stated beforehand."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from prioritizer.calibration import (
    Calibration,
    Float64,
    brier,
    expected_calibration_error,
    fit_isotonic,
    fit_platt,
    fit_temperature,
    log_losses,
)

METHODS = ("none", "temperature", "platt", "isotonic")
"""From the simplest to the freest."""
ECE_ROOM = 0.02
"""Calibration errors of a few hundred cases differ by this much by chance."""
RULE = (
    "Of the maps whose Brier score on the report split lies within one standard error of the best one's (paired by case), and whose "
    f"calibration error is at most {ECE_ROOM} above the least of these, the simplest: none, temperature, Platt, isotonic."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One map, fitted on the first split and measured on the second. It has no threshold yet: t_high is 1, t_low 0."""

    fitted: Calibration
    brier: float
    ece: float
    """Expected calibration error of P(positive) in ten bins of equal width."""
    ece_equal_mass: float
    """The same in ten bins of equally many cases."""
    log_loss: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Every candidate in the order of METHODS, and the one that the rule takes."""

    candidates: tuple[Candidate, ...]
    winner: Calibration
    rule: str = RULE


def fitted_map(method: str, logits: Float64, labels: Float64, *, fitted_on: str = "") -> Calibration:
    """A map of the named method for these logits and labels."""
    slope, intercept = 1.0, 0.0
    if method == "temperature":
        slope = fit_temperature(logits, labels)
    elif method == "platt":
        slope, intercept = fit_platt(logits, labels)
    knots = fit_isotonic(logits, labels) if method == "isotonic" else ()
    n, events = len(labels), int(labels.sum())
    return Calibration(
        id=method,
        method=method,
        slope=slope,
        intercept=intercept,
        knots=knots,
        t_high=1.0,
        t_low=0.0,
        fitted_on=fitted_on,
        n=n,
        events=events,
    )


def choose(logits_fit: Float64, labels_fit: Float64, logits_report: Float64, labels_report: Float64) -> Choice:
    """Fit every method on the first split, measure each on the second, and take one by RULE."""
    maps = [fitted_map(method, logits_fit, labels_fit, fitted_on="the split for fitting") for method in METHODS]
    candidates = tuple(_measured(one, logits_report, labels_report) for one in maps)
    best = min(candidates, key=lambda one: one.brier)
    near = [one for one in candidates if one is best or _within_one_error(one, best, logits_report, labels_report)]
    least = min(one.ece for one in near)
    return Choice(candidates=candidates, winner=next(one.fitted for one in near if one.ece <= least + ECE_ROOM))


def _measured(fitted: Calibration, logits: Float64, labels: Float64) -> Candidate:
    p = fitted.probabilities(logits)
    return Candidate(
        fitted=fitted,
        brier=brier(p, labels),
        ece=expected_calibration_error(p, labels),
        ece_equal_mass=expected_calibration_error(p, labels, equal_mass=True),
        log_loss=float(np.mean(log_losses(fitted.log_odds(logits), labels))),
    )


def _within_one_error(one: Candidate, best: Candidate, logits: Float64, labels: Float64) -> bool:
    worse = (one.fitted.probabilities(logits) - labels) ** 2 - (best.fitted.probabilities(logits) - labels) ** 2
    return bool(worse.mean() <= worse.std() / np.sqrt(len(worse)))
