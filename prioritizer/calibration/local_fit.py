"""Which local calibration a cohort can carry, and whether it is better than changing nothing.

The number of cases decides what may be fitted at all (Van Calster et al., BMC Med 2019: an intercept first, a slope with more cases,
a flexible curve only with many); of what may be fitted, cross-validation by patient decides, and a simpler map is preferred unless a
freer one is better by more than one standard error.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from prioritizer.calibration.map_fits import fitted_map
from prioritizer.calibration.maps import Calibration
from prioritizer.errors import CohortUnfit
from prioritizer.statistics.intervals import Figure
from prioritizer.statistics.logistic import (
    Float64,
    fit_intercept,
    fit_shrunk_slope,
    fit_soft,
    fit_temperature,
    log_losses,
    odds_of,
    shift_to,
    sigmoid,
)
from prioritizer.statistics.measures import mean_figure

MINED_FALSE_POSITIVES = 0.15
"""Share of text-mined positives that radiologists read as normal in the set that was looked at: 26 of 172."""
MAX_ROUNDS, SETTLED = 200, 1e-6
AS_IT_IS = Calibration(id="none", method="none", slope=1.0, intercept=0.0, t_high=1.0, t_low=0.0)
"""The logits are the log odds."""
NONE, SHIFT, INTERCEPT, TEMPERATURE = "none", "prevalence shift", "intercept", "temperature"
SHRUNK, PLATT, ISOTONIC = "intercept and shrunk slope", "platt", "isotonic"
FOLDS = 10
MIN_CLASS = 20
"""Positives, and negatives, below which nothing is fitted: the intercept's standard error is then 0.3 and more."""
MIN_COUNT = {NONE: 0, INTERCEPT: 20, TEMPERATURE: 50, SHRUNK: 50, PLATT: 100, ISOTONIC: 200}
"""Patients of the rarer class that each method wants: 20 for a shift, 50 a parameter for what is not pulled towards the map before."""
MIN_ISOTONIC = 1000
"""Cases below which isotonic regression follows the noise."""
MODERATE = 200
"""Positives, and negatives, below which moderate calibration cannot be judged (Van Calster)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Logits and labels (0 or 1), float64 (N,), with the patient of each case."""

    logits: Float64
    labels: Float64
    patients: Sequence[str]
    false_positives: float = 0.0
    """Share of the positive labels that are false, as stated: of text-mined ones for example."""

    def patients_with(self, label: int) -> int:
        """How many patients have an image with this label: repeated images of one patient are one piece of evidence."""
        return len({patient for patient, own in zip(self.patients, self.labels, strict=True) if own == label})

    @property
    def rarer(self) -> int:
        """Patients of the rarer class."""
        return min(self.patients_with(0), self.patients_with(1))

    @property
    def prevalence(self) -> float:
        """Share of positive cases, less the positive labels that are false."""
        return float(self.labels.mean()) * (1 - self.false_positives)

    @property
    def mislabelled(self) -> float:
        """P(positive label | negative case): what makes `false_positives` of the positive labels."""
        return self.false_positives * float(self.labels.mean()) / (1 - self.prevalence) if self.false_positives else 0.0

    def as_labelled(self, odds: Float64) -> Float64:
        """From log odds of the finding to log odds of a positive label."""
        if not self.false_positives:
            return odds
        p = sigmoid(odds)
        return odds_of(p + (1 - p) * self.mislabelled)


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodTrial:
    """One method: whether the number of cases allows it, why, and how it did on cases it was not fitted on."""

    method: str
    allowed: bool
    why: str
    log_loss: Figure | None = None
    """Cross-validated, nats a case."""
    gain: Figure | None = None
    """Cross-validated log loss of changing nothing less that of this method: above 0 is better."""
    held_out: Float64 | None = None
    """Log odds of each case from a map that was fitted without its patient."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """The outcome: every method, the winner, and the map for the site."""

    trials: tuple[MethodTrial, ...]
    winner: str
    after: Calibration
    """The winning map for the site's prevalence; its thresholds are still those of the map before."""
    held_out: Float64
    """Log odds of the winner on each case, at the cohort's mix, fitted without its patient."""
    before: Float64
    """Log odds of each case by the map before, at the cohort's mix."""
    offset: float
    """Log odds of the cohort's prevalence less those of the site's: 0 where the cohort was not enriched."""


RULE = (
    f"Allowed by the patients of the rarer class: from {MIN_CLASS} an intercept, from {MIN_COUNT[SHRUNK]} an intercept and a slope "
    f"pulled towards the one before, and a temperature, from {MIN_COUNT[PLATT]} Platt, "
    f"isotonic from {MIN_COUNT[ISOTONIC]} and {MIN_ISOTONIC} cases. Of these, by log loss in {FOLDS}-fold cross-validation by patient, "
    "the simplest within one standard error of the best; "
    "changing nothing is the simplest of all. An intercept alone gives way to the pulled slope where that has the lower loss: it is held "
    "back already, by as much as the number of cases asks."
)


def require_enough(sample: Sample) -> None:
    """Raises CohortUnfit naming what is missing when the cohort cannot carry a fit."""
    have = {"patients with pneumonia": sample.patients_with(1), "patients without": sample.patients_with(0)}
    missing = [f"{count} {what}, {MIN_CLASS} are needed" for what, count in have.items() if count < MIN_CLASS]
    if missing:
        raise CohortUnfit((*missing, "collect more, or give --prevalence alone for a shift that needs no labels"))


def allowance(method: str, sample: Sample) -> tuple[bool, str]:
    """Whether the cohort may carry the method, and why."""
    rarer, n = sample.rarer, len(sample.labels)
    if method == ISOTONIC and n < MIN_ISOTONIC:
        return False, f"locked: {n} cases, wants {MIN_ISOTONIC}"
    if rarer < MIN_COUNT[method]:
        return False, f"locked: {rarer} patients in the rarer class, wants {MIN_COUNT[method]}"
    return True, "always compared" if method == NONE else f"{rarer} patients in the rarer class, wants {MIN_COUNT[method]}"


def fitted(method: str, before: Calibration, logits: Float64, labels: Float64) -> Calibration:
    """The map of the named method. Intercept and shrunk slope start from the map before, the others from the logits."""
    odds = before.log_odds(logits)
    if method == NONE:
        return before
    if method == INTERCEPT:
        return before.moved(1.0, fit_intercept(odds, labels), INTERCEPT)
    if method == SHRUNK:
        return before.moved(*fit_shrunk_slope(odds, labels), SHRUNK)
    return fitted_map(method, logits, labels)


def fitted_to(method: str, before: Calibration, sample: Sample, chosen: NDArray[np.bool_] | None = None) -> Calibration:
    """The map of the named method on the cases `chosen` (N,), or all.

    Where some positive labels are false, each is worth the chance that it is true, by expectation and maximisation (Dempster, Laird and
    Rubin 1977) with the share of false ones held; isotonic regression then gives way to Platt.
    """
    at = np.ones(len(sample.labels), dtype=bool) if chosen is None else chosen
    logits, labels = sample.logits[at], sample.labels[at]
    if not sample.false_positives or method == NONE:
        return fitted(method, before, logits, labels)
    worth = labels * (1 - sample.false_positives)
    found = before
    for _ in range(MAX_ROUNDS):
        found = _fitted_softly(method, before, logits, worth)
        p = found.probabilities(logits)
        new = labels * p / (p + (1 - p) * sample.mislabelled)
        moved = float(np.abs(new - worth).max())
        worth = new
        if moved < SETTLED:
            break
    return found


def _fitted_softly(method: str, before: Calibration, logits: Float64, worth: Float64) -> Calibration:
    """The same with labels between 0 and 1."""
    if method == INTERCEPT:
        return before.moved(1.0, fit_intercept(before.log_odds(logits), worth), INTERCEPT)
    if method == SHRUNK:
        return before.moved(*fit_shrunk_slope(before.log_odds(logits), worth), SHRUNK)
    if method == TEMPERATURE:
        return replace(AS_IT_IS, method=TEMPERATURE, slope=fit_temperature(logits, worth))
    slope, intercept = fit_soft(logits, worth)
    return replace(AS_IT_IS, method=method, slope=slope, intercept=intercept)


def folds_of(sample: Sample, seed: int, count: int = FOLDS) -> NDArray[np.int64]:
    """The fold of each case: no patient in two, patients with and without a positive image in like shares; int (N,)."""
    rng = np.random.default_rng(seed)
    positive = {patient for patient, label in zip(sample.patients, sample.labels, strict=True) if label == 1}
    fold: dict[str, int] = {}
    for group in (sorted(positive), sorted(set(sample.patients) - positive)):
        for place, index in enumerate(rng.permutation(len(group))):
            fold[group[index]] = place % count
    return np.array([fold[patient] for patient in sample.patients])


def held_out_odds(fit: Callable[[NDArray[np.bool_]], Calibration], sample: Sample, folds: NDArray[np.int64]) -> Float64:
    """Log odds of each case from a map that was fitted on the other folds."""
    found = np.empty(len(sample.labels))
    for number in np.unique(folds):
        test = folds == number
        found[test] = fit(~test).log_odds(sample.logits[test])
    return found


def recalibrate(sample: Sample, before: Calibration, prevalence: float | None = None, seed: int = 0) -> Fit:
    """Fit, cross-validate and choose. Raises CohortUnfit.

    `prevalence` is the share of pneumonia among the site's studies where the cohort was enriched: everything is then fitted and judged at
    the cohort's mix and moved back by the difference of the log odds (Prentice and Pyke 1979).
    """
    require_enough(sample)
    return _chosen(sample, before, 0.0 if prevalence is None else _odds(sample.prevalence) - _odds(prevalence), seed)


def first_map(sample: Sample, seed: int = 0) -> Fit:
    """The map of a new network, by the same rule from its logits as they are; with too few cases nothing is changed."""
    return _chosen(sample, AS_IT_IS, 0.0, seed)


def _chosen(sample: Sample, before: Calibration, offset: float, seed: int) -> Fit:
    here = before.moved(1.0, offset, before.method)
    folds = folds_of(sample, seed)
    trials = tuple(_trial(method, sample, here, folds, seed) for method in MIN_COUNT)
    winner = _simplest_near_the_best([trial for trial in trials if trial.allowed], sample, seed)
    after = fitted_to(winner.method, here, sample).moved(1.0, -offset, winner.method)
    assert winner.held_out is not None
    return Fit(
        trials=trials,
        winner=winner.method,
        after=after,
        held_out=winner.held_out,
        before=here.log_odds(sample.logits),
        offset=offset,
    )


def shifted_to(logits: Float64, before: Calibration, prevalence: float) -> Calibration:
    """The map before, moved so that the mean probability of these unlabelled, consecutive images is the known prevalence."""
    return before.moved(1.0, shift_to(before.log_odds(logits), prevalence), SHIFT)


def shifted_from_its_own(before: Calibration, prevalence: float) -> Calibration:
    """The map before, moved by the difference to the prevalence it was fitted at (Elkan 2001). Raises CohortUnfit where that is unknown."""
    mix = before.events / before.n if before.prevalence is None and before.n else before.prevalence or 0.0
    if not 0 < mix < 1:
        raise CohortUnfit((f"calibration {before.id} does not say at which prevalence it was fitted", "give --cohort"))
    return before.moved(1.0, _odds(prevalence) - _odds(mix), SHIFT)


def _trial(method: str, sample: Sample, here: Calibration, folds: NDArray[np.int64], seed: int) -> MethodTrial:
    allowed, why = allowance(method, sample)
    if not allowed:
        return MethodTrial(method=method, allowed=False, why=why)
    odds = held_out_odds(lambda chosen: fitted_to(method, here, sample, chosen), sample, folds)
    losses, unchanged = (log_losses(sample.as_labelled(one), sample.labels) for one in (odds, here.log_odds(sample.logits)))
    return MethodTrial(
        method=method,
        allowed=True,
        why=why,
        log_loss=mean_figure(losses, sample.patients, seed),
        gain=mean_figure(unchanged - losses, sample.patients, seed),
        held_out=odds,
    )


def _simplest_near_the_best(trials: list[MethodTrial], sample: Sample, seed: int) -> MethodTrial:
    """The first, that is simplest, whose loss exceeds the least by no more than the standard error of the difference, by patient.

    A pulled slope is held back once already: beside it an intercept is not preferred for being simpler, only for a lower loss. Else a
    cohort whose slope is half of what it should be keeps it in one of five draws.
    """
    losses = {trial.method: log_losses(sample.as_labelled(trial.held_out), sample.labels) for trial in trials if trial.held_out is not None}
    means = {method: float(its.mean()) for method, its in losses.items()}
    best = min(means, key=lambda method: means[method])
    for trial in trials:
        worse = mean_figure(losses[trial.method] - losses[best], sample.patients, seed)
        if trial.method == best or worse.value <= (worse.high - worse.low) / (2 * 1.96):
            break
    if trial.method == INTERCEPT and SHRUNK in means and means[SHRUNK] < means[INTERCEPT]:
        return next(other for other in trials if other.method == SHRUNK)
    return trial


def _odds(share: float) -> float:
    return math.log(share / (1 - share)) if 0 < share < 1 else float(odds_of(np.asarray(share)))
