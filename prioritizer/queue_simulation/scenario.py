"""A reading room on paper: who arrives when, what the model says of them, how long each takes to read.

Everything that chance decides is drawn here, once a replication, so that every way of ordering the list is tried on the same
studies (common random numbers). Times are minutes from midnight of the first day.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]
Flags = NDArray[np.bool_]
HOURS = 24
DAY = HOURS * 60
MIN_DISTANCE = 1e-6
"""Sensitivity and specificity are kept this far from 0 and 1: no curve passes through the corners."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BinormalModel:
    """A model known by its sensitivity and specificity: the equal-variance binormal ROC curve through that point.

    The risk it gives is the share of studies without pneumonia that score lower, 0..1, so the threshold is the specificity.
    """

    sensitivity: float
    specificity: float

    @property
    def separation(self) -> float:
        """Distance of the two normal distributions in standard deviations (d')."""
        return _normal(self.sensitivity) + _normal(self.specificity)

    @property
    def t_high(self) -> float:
        """The risk from which a study is raised."""
        return NormalDist().cdf(_normal(self.specificity))

    def threshold_at(self, sensitivity: float) -> float:
        """The risk above which this share of studies with pneumonia lies, on the same curve."""
        return NormalDist().cdf(self.separation - _normal(sensitivity))

    def specificity_at(self, threshold: float) -> float:
        """Share of studies without pneumonia below a risk."""
        return threshold

    def risks(self, labels: Flags, rng: np.random.Generator) -> Float64:
        """A risk for each study, float64 (N,)."""
        latent = rng.standard_normal(len(labels)) + self.separation * labels
        unit = NormalDist()
        return np.array([unit.cdf(value) for value in latent.tolist()])


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """Arrivals that really happened, float64 (N,), in order. What was not recorded is drawn.

    Where a probability is known, a missing label is drawn with it: the probabilities are taken at their word.
    """

    arrived: Float64
    stat: Flags | None = None
    labels: Float64 | None = None
    """1, 0, or NaN where nobody knows."""
    probabilities: Float64 | None = None
    """NaN: this study was not scored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """The reading room and its traffic."""

    model: BinormalModel
    per_hour: float = 12.0
    """Studies an hour, averaged over the day; Poisson arrivals."""
    by_hour: tuple[float, ...] = ()
    """24 relative rates from midnight; empty: the same at every hour."""
    days: float = 20
    known: Known | None = None
    """In place of drawn arrivals."""
    readers: tuple[int, ...] = (1,)
    """Readers at work: one number, or 24 by hour from midnight. A study begun is finished; none is begun while nobody is at work."""
    reading_minutes: float = 4.0
    reading_cv: float = 0.6
    """Standard deviation of the reading time over its mean; log-normal, 0: every study takes the same."""
    reading_seen: tuple[float, ...] = ()
    """Reading times in minutes that were measured: drawn from with replacement, in place of the log-normal."""
    prevalence: float = 0.1
    stat_share: float = 0.05
    not_scored_share: float = 0.05
    ai_minutes: float = 0.5
    """From arrival to score; until then a study is neutral."""

    @property
    def mean_reading(self) -> float:
        """Minutes a study takes on average."""
        return float(np.mean(self.reading_seen)) if self.reading_seen else self.reading_minutes

    @property
    def load(self) -> float:
        """Minutes of reading that arrive for each minute of a reader at work; from 1 on the list grows without end."""
        capacity = float(np.mean(self.readers))
        if self.known is None:
            return self.per_hour / 60 * self.mean_reading / capacity
        span = np.ceil(max(float(self.known.arrived[-1]), 1.0) / DAY) * DAY - np.floor(float(self.known.arrived[0]) / DAY) * DAY
        return len(self.known.arrived) * self.mean_reading / float(span) / capacity


@dataclass(frozen=True, slots=True, kw_only=True)
class Studies:
    """One replication, every array (N,), in order of arrival."""

    arrived: Float64
    reading: Float64
    """Minutes that reading it takes."""
    positive: Flags
    stat: Flags
    risk: Float64
    """NaN: never scored."""
    scored_at: Float64
    """NaN: never scored."""

    def __len__(self) -> int:
        return len(self.arrived)


def draw(scenario: Scenario, rng: np.random.Generator) -> Studies:
    """One replication of the scenario."""
    known = scenario.known
    arrived = known.arrived if known else arrivals(scenario, rng)
    n = len(arrived)
    stat = known.stat if known and known.stat is not None else rng.random(n) < scenario.stat_share
    positive, risk = _from_probabilities(known, rng) if known and known.probabilities is not None else _from_model(scenario, n, rng)
    return Studies(
        arrived=arrived,
        reading=reading_times(scenario, n, rng),
        positive=positive,
        stat=stat,
        risk=risk,
        scored_at=np.where(np.isnan(risk), np.nan, arrived + scenario.ai_minutes),
    )


def arrivals(scenario: Scenario, rng: np.random.Generator) -> Float64:
    """Minutes of arrival, rising: Poisson, thinned to the day's profile (Lewis and Shedler 1979)."""
    span = scenario.days * DAY
    profile = np.array(scenario.by_hour or (1.0,) * HOURS)
    highest = profile.max() / profile.mean()
    count = rng.poisson(scenario.per_hour / 60 * span * highest)
    moments = np.sort(rng.random(count) * span)
    share = profile[(moments // 60).astype(int) % HOURS] / profile.max()
    kept: Float64 = moments[rng.random(count) < share]
    return kept


def reading_times(scenario: Scenario, n: int, rng: np.random.Generator) -> Float64:
    """Minutes, float64 (N,): measured ones drawn again, or log-normal with the stated mean and coefficient of variation."""
    if scenario.reading_seen:
        return rng.choice(np.array(scenario.reading_seen), n)
    variance = np.log1p(scenario.reading_cv**2)
    found: Float64 = scenario.reading_minutes * np.exp(rng.standard_normal(n) * np.sqrt(variance) - variance / 2)
    return found


def _from_model(scenario: Scenario, n: int, rng: np.random.Generator) -> tuple[Flags, Float64]:
    positive = rng.random(n) < scenario.prevalence
    known = scenario.known
    if known is not None and known.labels is not None:
        positive = np.where(np.isnan(known.labels), positive, known.labels == 1)
    risk = scenario.model.risks(positive, rng)
    risk[rng.random(n) < scenario.not_scored_share] = np.nan
    return positive, risk


def _from_probabilities(known: Known, rng: np.random.Generator) -> tuple[Flags, Float64]:
    assert known.probabilities is not None
    risk = known.probabilities.copy()
    # A study without a score is as likely to have pneumonia as the average of those with one.
    chance = np.where(np.isnan(risk), np.nanmean(risk), risk)
    positive = rng.random(len(risk)) < chance
    if known.labels is not None:
        positive = np.where(np.isnan(known.labels), positive, known.labels == 1)
    return positive, risk


def with_prevalence(studies: Studies, factor: float, rng: np.random.Generator) -> Studies:
    """The same arrivals with `factor` times as many studies with pneumonia; who changes takes the risk of a study of the other kind."""
    positive, scored = studies.positive, ~np.isnan(studies.risk)
    count, others = int(positive.sum()), int((~positive).sum())
    chance = np.where(positive, max(0.0, 1 - factor), min(1.0, max(0.0, factor - 1) * count / max(others, 1)))
    turned = rng.random(len(studies)) < chance
    changed = np.where(turned, ~positive, positive)
    risk = studies.risk.copy()
    for kind in (True, False):
        pool, takers = studies.risk[(positive == kind) & scored], turned & (changed == kind) & scored
        if len(pool):
            risk[takers] = rng.choice(pool, int(takers.sum()))
    return replace(studies, positive=changed, risk=risk)


def with_specificity(studies: Studies, less: float, t_high: float, rng: np.random.Generator) -> Studies:
    """The same studies with the specificity at `t_high` lower by `less`: so many more studies without pneumonia are raised."""
    quiet = ~studies.positive & (studies.risk < t_high)
    scored = int((~studies.positive & ~np.isnan(studies.risk)).sum())
    chance = min(1.0, less * scored / max(int(quiet.sum()), 1))
    raised = quiet & (rng.random(len(studies)) < chance)
    return replace(studies, risk=np.where(raised, t_high, studies.risk))


def _normal(share: float) -> float:
    """The standard normal quantile."""
    return NormalDist().inv_cdf(min(max(share, MIN_DISTANCE), 1 - MIN_DISTANCE))
