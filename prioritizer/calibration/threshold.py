"""Another threshold on the same map: by a probability, by a sensitivity on the bundle's report films, or by flags a day here."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from prioritizer.calibration.maps import AgeGroup, Calibration
from prioritizer.calibration.operating_point import Trade, by_flags, probability_at
from prioritizer.errors import NotAllowed
from prioritizer.statistics.logistic import Float64

MIN_SCORED = 30
"""Scored studies of this site without which nothing is said of flags a day."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ThresholdWish:
    """What a person asks of the threshold: one of three."""

    probability: float | None = None
    sensitivity: float | None = None
    flags_per_day: float | None = None
    ages: AgeGroup | None = None
    """Whose threshold, where a calibration has a map for each age group."""

    def __post_init__(self) -> None:
        given = [value for value in (self.probability, self.sensitivity, self.flags_per_day) if value is not None]
        if len(given) != 1:
            raise NotAllowed("say one of three: a probability, a target sensitivity, or flags a day")
        if not np.isfinite(given[0]):
            raise NotAllowed("a threshold is asked for by a finite number")
        for share, name in ((self.probability, "the probability"), (self.sensitivity, "the target sensitivity")):
            if share is not None and not 0 < share < 1:
                raise NotAllowed(f"{name} lies between 0 and 1, for example {0.3 if name.endswith('probability') else 0.95:g}")
        if self.flags_per_day is not None and self.flags_per_day <= 0:
            raise NotAllowed("flags a day are more than 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenHere:
    """The scored studies of this site's last days: logits float64 (N,), and how many days they fill."""

    logits: Float64
    days: float


def ages_meant(wish: ThresholdWish, calibration: Calibration) -> AgeGroup | None:
    """Whose threshold is meant; None where one map is for everybody. Raises NotAllowed where it is not said, or there is no such map."""
    if calibration.groups and wish.ages is None:
        raise NotAllowed("say whose threshold: that for children or that for adults; they have a map each here")
    if wish.ages is not None and not calibration.groups:
        raise NotAllowed(f"the calibration in force has one map for every age, none for {wish.ages} alone")
    return wish.ages


def threshold_of(wish: ThresholdWish, before: Calibration, trade: Trade | None, seen: SeenHere) -> tuple[float, str]:
    """The probability from which studies are raised, and how it was found. Raises NotAllowed where it cannot be said."""
    if wish.probability is not None:
        return wish.probability, f"a probability of {wish.probability:g}, as asked"
    if wish.sensitivity is not None:
        if trade is None:
            raise NotAllowed("the bundle's card does not say what other thresholds would have given; ask by probability or flags a day")
        enough = trade.logit[trade.sensitivity >= wish.sensitivity]
        if not len(enough):
            raise NotAllowed(f"no threshold of the bundle's card has a sensitivity of {wish.sensitivity:g}")
        return before.probability(float(enough.max())), f"sensitivity {wish.sensitivity:g} on the bundle's own report films, not on yours"
    assert wish.flags_per_day is not None
    n = len(seen.logits)
    if n < MIN_SCORED:
        raise NotAllowed(f"{n} studies were scored here in the last {seen.days:.0f} days, {MIN_SCORED} are needed for flags a day")
    share = wish.flags_per_day * seen.days / n
    if share > 1:
        raise NotAllowed(f"{wish.flags_per_day:g} flags a day are more than the {n / seen.days:.1f} studies that are scored here a day")
    found = probability_at(before, by_flags(seen.logits, np.ones(n), share))
    return found, f"at most {wish.flags_per_day:g} flags a day among the {n} studies scored here in the last {seen.days:.1f} days"


def with_threshold(before: Calibration, t_high: float) -> Calibration:
    """The same map, raised from another probability. Raises NotAllowed where nothing changes."""
    if t_high == before.t_high:
        raise NotAllowed(f"studies are raised from a probability of {t_high:.4f} already")
    return replace(before, t_high=t_high, t_low=min(before.t_low, t_high))
