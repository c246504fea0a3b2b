"""Virtual deadlines: where a study stands, and why. DESIGN section 3.

The order is `stat DESC, due_at, first_received_at, study_uid`, and `due_at` is arrival plus the window of the band. Keys never
change with time, so a study is overtaken only by studies that arrive within window(own) - window(HIGH) after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from prioritizer.calibration.maps import AgeGroup, Calibration, age_group
from prioritizer.study import AIState


class Band(StrEnum):
    """Where the deadline comes from. NEUTRAL holds everything that is not known to be otherwise."""

    HIGH = "HIGH"
    NEUTRAL = "NEUTRAL"
    LOW = "LOW"


class Stage(StrEnum):
    """How far the site has come: scores only, marks shown, or the list re-ordered."""

    SHADOW = "shadow"
    PILOT = "pilot"
    ACTIVE = "active"


@dataclass(frozen=True, slots=True, kw_only=True)
class RankingPolicy:
    """How studies are ranked: windows, thresholds, stage and the most that may be moved up."""

    high: timedelta = timedelta(minutes=30)
    neutral: timedelta = timedelta(minutes=120)
    low: timedelta = timedelta(minutes=180)
    t_high: float = 0.5
    t_low: float = 0.0
    demote_low: bool = False
    stage: Stage = Stage.ACTIVE
    max_high_share: float = 0.4
    last_n: int = 50
    adults: tuple[float, float] | None = None
    """`t_high` and `t_low` for adults, where the calibration has a map of their own; the others are then those for children."""
    ageless: tuple[float, float] | None = None
    """Those for a patient whose age is not known, where there are two maps."""

    def with_thresholds(self, t_high: float, t_low: float) -> RankingPolicy:
        """The same rules with other thresholds, the same for every age."""
        return replace(self, t_high=t_high, t_low=t_low, adults=None, ageless=None)

    def with_thresholds_of(self, calibration: Calibration) -> RankingPolicy:
        """The same rules with the thresholds of a calibration, by age where it has a map for each."""
        same = self.with_thresholds(calibration.t_high, calibration.t_low)
        if calibration.adults is None:
            return same
        unknown = calibration.for_age(None)
        return replace(same, adults=(calibration.adults.t_high, calibration.adults.t_low), ageless=(unknown.t_high, unknown.t_low))

    def with_thresholds_as(self, other: RankingPolicy) -> RankingPolicy:
        """The same rules with the thresholds of others."""
        return replace(self, t_high=other.t_high, t_low=other.t_low, adults=other.adults, ageless=other.ageless)

    def thresholds(self, age_years: float | None) -> tuple[float, float]:
        """`t_high` and `t_low` for a patient of this age."""
        if self.adults is None or self.ageless is None:
            return self.t_high, self.t_low
        if age_years is None:
            return self.ageless
        return self.adults if age_group(age_years) is AgeGroup.ADULTS else (self.t_high, self.t_low)

    def window(self, band: Band) -> timedelta:
        """Time from arrival to `due_at` in this band."""
        return {Band.HIGH: self.high, Band.NEUTRAL: self.neutral, Band.LOW: self.low}[band]

    @property
    def bound(self) -> timedelta:
        """The most by which AI can put a later arrival ahead of a study that is not demoted."""
        return self.neutral - self.high


EARLIER, LATER = "raised", "placed later"
"""How the reason of a place begins that is earlier or later than the order of arrival gives. Every reason is a few words, then what they
mean."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """Band, deadline and the sentence that explains them."""

    band: Band
    due_at: datetime
    reason: str


def in_short(reason: str) -> str:
    """The few words that the reason of a place begins with."""
    return reason.partition(":")[0].partition(" (")[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What ranking needs to know of a study."""

    study_uid: str
    first_received_at: datetime
    stat: bool = False
    ai_state: AIState = AIState.WAITING
    risk: float | None = None
    age_years: float | None = None
    """Of the patient, where it is known: thresholds may differ by age."""


def band_of(standing: Standing, policy: RankingPolicy) -> Band:
    """The band that the risk alone gives; pending, ineligible and failed studies are NEUTRAL."""
    if standing.ai_state is not AIState.SCORED or standing.risk is None:
        return Band.NEUTRAL
    t_high, t_low = policy.thresholds(standing.age_years)
    if standing.risk >= t_high:
        return Band.HIGH
    if policy.demote_low and standing.risk < t_low:
        return Band.LOW
    return Band.NEUTRAL


def place(standing: Standing, policy: RankingPolicy, *, high_suspended: bool = False) -> Position:
    """Band and deadline of a study. In shadow and pilot every deadline is arrival + the neutral window: the list is FIFO."""
    band = band_of(standing, policy)
    arrival = standing.first_received_at
    neutral = arrival + policy.neutral
    if standing.stat:
        return Position(band=band, due_at=arrival, reason="STAT: first, in order of arrival")
    if policy.stage is not Stage.ACTIVE:
        return Position(band=band, due_at=neutral, reason=f"order of arrival (stage {policy.stage})")
    if band is Band.HIGH and high_suspended:
        share = f"{policy.max_high_share:.0%} of the last {policy.last_n}"
        why = f"raising is suspended: more than {share} studies were raised, so the order of arrival holds"
        return Position(band=band, due_at=neutral, reason=why)
    if band is Band.HIGH:
        return Position(band=band, due_at=arrival + policy.high, reason=f"{EARLIER}: due {minutes(policy.high)} after arrival")
    if band is Band.LOW:
        later = f"{LATER}: due {minutes(policy.low)} after arrival, as this site wants it"
        return Position(band=band, due_at=arrival + policy.low, reason=later)
    return Position(band=band, due_at=neutral, reason=f"order of arrival: due {minutes(policy.neutral)} after arrival")


def sort_key(standing: Standing, due_at: datetime) -> tuple[bool, datetime, datetime, str]:
    """The total order of the list; the database sorts by the same four columns."""
    return (not standing.stat, due_at, standing.first_received_at, standing.study_uid)


def high_is_suspended(recent_bands: Sequence[Band], policy: RankingPolicy) -> bool:
    """True when more than `max_high_share` of the last N scored studies are HIGH; needs at least N of them to judge."""
    if len(recent_bands) < policy.last_n:
        return False
    share = sum(band is Band.HIGH for band in recent_bands) / len(recent_bands)
    return share > policy.max_high_share


def study_ai_state(received: int, scored: int, failed: int, ineligible: int) -> AIState:
    """The AI column from the counts of instances in each state."""
    if scored:
        return AIState.SCORED
    if received:
        return AIState.WAITING
    return AIState.FAILED if failed else AIState.NOT_SCORED


def minutes(span: timedelta) -> str:
    """A span in whole minutes, in words."""
    return f"{round(span.total_seconds() / 60)} min"
