"""Turn-around of the studies of a period beside what order of arrival would have given, by group.

A figure that rests on too little says so by its interval.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, tzinfo

import numpy as np
from numpy.typing import NDArray

from prioritizer.monitoring.studies import MAX_AE, MonitoredStudy

Float64 = NDArray[np.float64]
AGES = ((0.0, 1.0), (1.0, 6.0), (6.0, 18.0), (18.0, 40.0), (40.0, 65.0), (65.0, 121.0))
SEXES = ("F", "M", "O")
"""The values of (0010,0040) Patient's Sex; a sender may write anything there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waits:
    """Turn-around from arrival to read, minutes; and what the same readings would have given in order of arrival."""

    group: str
    n: int
    median: float
    p95: float
    longest: float
    fifo_median: float
    fifo_p95: float
    fifo_longest: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Unread:
    """Studies that nobody has read yet: how many, and how long the first of them has waited so far, minutes."""

    group: str
    n: int
    longest: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Passed:
    """How the list was worked by: claims, and the studies left standing on the way to them, by band. Never by person."""

    claims: int = 0
    skipped: Mapping[str, int] = field(default_factory=dict)
    """Left for the next one by a reader who had seen their row or page."""
    passed_by: Mapping[str, int] = field(default_factory=dict)
    """Free and standing before a study that was claimed out of order."""


NONE_PASSED = Passed()


def in_order_of_arrival(studies: Sequence[MonitoredStudy]) -> list[datetime]:
    """When each read study would have been read had every reading gone to STAT and then to whoever had waited longest.

    The readings stay as they were, when begun and when done; only who was read in them changes. So the mean of all stays the same, and
    a reader who was idle stays idle.
    """
    done = sorted(range(len(studies)), key=lambda i: (_began(studies[i]), studies[i].arrived))
    coming = sorted(range(len(studies)), key=lambda i: studies[i].arrived)
    waiting: list[tuple[bool, datetime, int]] = []
    found: list[datetime | None] = [None] * len(studies)
    place = 0
    for slot in done:
        while place < len(coming) and studies[coming[place]].arrived <= _began(studies[slot]):
            one = coming[place]
            heapq.heappush(waiting, (not studies[one].stat, studies[one].arrived, one))
            place += 1
        _, _, taken = heapq.heappop(waiting)
        found[taken] = studies[slot].read
    return [moment for moment in found if moment is not None]


def _began(study: MonitoredStudy) -> datetime:
    """When it was taken up; a clock that went back cannot put that before its arrival."""
    assert study.read is not None
    return max(min(study.began or study.read, study.read), study.arrived)


LATER = "placed later by the site"
GROUPS: tuple[tuple[str, Callable[[MonitoredStudy], bool]], ...] = (
    ("STAT", lambda s: s.stat),
    ("raised", lambda s: s.raised and not s.stat),
    (LATER, lambda s: s.later and not s.stat),
    ("order of arrival", lambda s: not (s.raised or s.later or s.stat)),
    ("all", lambda s: True),
)
"""Every study is in one of them, and in the last."""


def waits(studies: Sequence[MonitoredStudy]) -> list[Waits]:
    """Turn-around of the studies that were read, by group. A study that still waits is not in it: see `unread`."""
    read = [study for study in studies if study.read is not None]
    if not read:
        return []
    own = np.array([_minutes(study.arrived, study.read) for study in read])
    fifo = np.array([_minutes(study.arrived, moment) for study, moment in zip(read, in_order_of_arrival(read), strict=True)])
    found = []
    for name, belongs in GROUPS:
        mine = np.array([belongs(study) for study in read])
        if mine.any():
            found.append(Waits(group=name, n=int(mine.sum()), **_told(own[mine], ""), **_told(fifo[mine], "fifo_")))
    return found


def unread(studies: Sequence[MonitoredStudy], now: datetime) -> list[Unread]:
    """Those that wait at `now`, by group: the longest turn-around of studies that were read hides a study that nobody reads."""
    waiting = [study for study in studies if study.read is None]
    found = []
    for name, belongs in GROUPS:
        mine = [_minutes(study.arrived, now) for study in waiting if belongs(study)]
        if mine:
            found.append(Unread(group=name, n=len(mine), longest=max(mine)))
    return found


def _minutes(arrived: datetime, read: datetime | None) -> float:
    assert read is not None
    return max((read - arrived).total_seconds() / 60, 0.0)


def _told(minutes: Float64, prefix: str) -> dict[str, float]:
    return {
        f"{prefix}median": float(np.median(minutes)),
        f"{prefix}p95": float(np.quantile(minutes, 0.95)),
        f"{prefix}longest": float(minutes.max()),
    }


def week_of(study: MonitoredStudy, zone: tzinfo | None) -> str:
    """The Monday of the week in which it arrived, in the site's zone."""
    day = study.arrived.astimezone(zone).date()
    return f"week of {day - timedelta(days=day.weekday()):%Y-%m-%d}"


def group_of_age(age: float | None) -> str:
    """`1 to 5 years`, or that it is not known."""
    if age is None or not age >= 0:
        return "age not known"
    low, high = next(((low, high) for low, high in AGES if low <= age < high), AGES[-1])
    return "under 1 year" if high <= 1 else f"{low:g} to {high - 1:g} years" if high < AGES[-1][1] else f"{low:g} years and over"


def group_of_sender(title: str) -> str:
    """The calling AE title, whatever a peer called itself: as long as one may be, and every sign of it can be shown."""
    return "".join(sign if sign.isprintable() else "?" for sign in title.strip()[:MAX_AE]) or "not known"


def group_of_sex(sex: str) -> str:
    """F, M or O, or that it is not known."""
    return found if (found := sex.strip().upper()) in SEXES else "not known"


KINDS: Mapping[str, Callable[[MonitoredStudy], str]] = {
    "scanner": lambda s: group_of_sender(s.sender),
    "age": lambda s: group_of_age(s.age_years),
    "sex": lambda s: group_of_sex(s.sex),
}
