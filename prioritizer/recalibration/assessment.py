"""What a candidate is worth on the cohort that it was fitted to: everything that the report shows and that is not a figure of the fit.

All probabilities after the fit are cross-fitted: no case of the same patient had a part in them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from prioritizer.calibration.local_fit import Fit, Sample
from prioritizer.calibration.maps import Calibration
from prioritizer.calibration.operating_point import OperatingPoint, reclassified
from prioritizer.statistics import curves, delong
from prioritizer.statistics.calibration_error import ReliabilityBin, reliability
from prioritizer.statistics.curves import DecisionCurve
from prioritizer.statistics.intervals import Cases, Figure
from prioritizer.statistics.logistic import Float64, odds_of, sigmoid
from prioritizer.statistics.measures import SmoothCurve, smooth_reliability
from prioritizer.statistics.subgroups import Subgroup, Traits, subgroups

PREVALENCES = (0.02, 0.05, 0.1, 0.3)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reliability:
    """Observed rate over predicted probability."""

    probabilities: Float64
    smooth: SmoothCurve
    bins: tuple[ReliabilityBin, ...]
    """Ten of equal counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictive:
    """What being moved up means at a prevalence: of 100 studies moved up, and of 100 others, how many have pneumonia."""

    prevalence: float
    among_high: float
    among_others: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Assessment:
    """Before and after, on the same cases."""

    reliability_before: Reliability
    reliability_after: Reliability
    decision: DecisionCurve
    """Of the candidate."""
    net_benefit_before: Float64
    """Of the calibration before, at the thresholds of `decision`."""
    subgroups: tuple[Subgroup, ...]
    auc: Figure
    """Of all cases, by DeLong."""
    predictive: tuple[Predictive, ...]
    moves: tuple[tuple[str, str, int, int], ...]
    """Band before, band after, cases without and with pneumonia."""


def assess(
    sample: Sample,
    fit: Fit,
    point: OperatingPoint,
    before: Calibration,
    after: Calibration,
    traits: Sequence[Traits],
    *,
    prevalence: float | None,
    seed: int,
) -> Assessment:
    """Assess the map `after` beside `before`. `traits`: of each case of `sample`; `prevalence`: one more for which HIGH is explained."""
    then, now = (
        Cases(probabilities=sigmoid(sample.as_labelled(odds)), labels=sample.labels, patients=sample.patients)
        for odds in (fit.before, fit.held_out)
    )
    # The candidate's threshold, moved to the cohort's mix, where these probabilities lie.
    at = float(sigmoid(sample.as_labelled(odds_of(np.array(after.t_high)) + fit.offset)))
    decision = curves.decision(now, seed)
    shares = sorted({*PREVALENCES, *([prevalence] if prevalence else [])})
    return Assessment(
        reliability_before=_reliability(then),
        reliability_after=_reliability(now),
        decision=decision,
        net_benefit_before=curves.net_benefit(then.labels, then.probabilities, decision.model.x),
        subgroups=tuple(subgroups(traits, now, sample.logits, at, seed)),
        auc=delong.area(sample.labels, sample.logits, sample.patients),
        predictive=tuple(_predictive(point.sensitivity.value, point.specificity.value, share) for share in shares),
        moves=tuple(reclassified(_bands(before, sample.logits), _bands(after, sample.logits), sample.labels)),
    )


def _reliability(cases: Cases) -> Reliability:
    bins = tuple(reliability(cases.probabilities, cases.labels, equal_mass=True))
    return Reliability(probabilities=cases.probabilities, smooth=smooth_reliability(cases), bins=bins)


def _predictive(sensitivity: float, specificity: float, prevalence: float) -> Predictive:
    high = sensitivity * prevalence + (1 - specificity) * (1 - prevalence)
    others = (1 - sensitivity) * prevalence + specificity * (1 - prevalence)
    return Predictive(
        prevalence=prevalence,
        among_high=100 * sensitivity * prevalence / high if high else float("nan"),
        among_others=100 * (1 - sensitivity) * prevalence / others if others else float("nan"),
    )


def _bands(calibration: Calibration, logits: Float64) -> list[str]:
    p = calibration.probabilities(logits)
    found: list[str] = np.where(p >= calibration.t_high, "HIGH", np.where(p < calibration.t_low, "LOW", "NEUTRAL")).tolist()
    return found
