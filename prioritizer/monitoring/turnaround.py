"""Is it doing what it should? Turn-around beside order of arrival, what was raised and what came of it, and drift.

Everything is computed from studies of one period as the ledger holds them. A figure that rests on too little says so by its interval,
and a drift index beside what chance alone gives it.
"""

from __future__ import annotations

import hashlib
import heapq
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, tzinfo

import numpy as np
from numpy.typing import NDArray

from prioritizer.calibration.operating_point import Share
from prioritizer.monitoring import unlabelled, verification
from prioritizer.monitoring.verification import Estimate
from prioritizer.statistics.measures import Figure
from prioritizer.study import AIState, Finding

Float64 = NDArray[np.float64]
AGES = ((0.0, 1.0), (1.0, 6.0), (6.0, 18.0), (18.0, 40.0), (40.0, 65.0), (65.0, 121.0))
SEXES = ("F", "M", "O")
"""The values of (0010,0040) Patient's Sex; a sender may write anything there."""
LONGEST_AE = 16
"""Characters of an AE title (PS3.5 6.2)."""
BINS = 10
FLOOR = 1e-4
"""Share that an empty bin counts as."""
AXES = 3
"""Principal axes of the reference's embeddings along which drift is looked for."""
LARGEST_OF_AXES = 0.846
"""Standard deviations by which the largest of `AXES` equal draws lies above their mean on average."""
LEAST_FOR_DRIFT = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """A reader's standing word on a study: the finding is there or is not. Who could not say has said nothing here."""

    finding: str
    """present or absent."""
    blind: bool
    """The reader knew neither AI's result nor the order it gave."""
    raised: bool | None
    """AI had raised the study when this was said, or did when it scored later; None where it has not scored it."""


@dataclass(frozen=True, slots=True)
class Beyond:
    """Images of a study by how far they lie from the training data, by the limit that was in force when each was judged."""

    drawn: int = 0
    """Of which that was asked."""
    scored: int = 0
    """Beyond the limit, and scored."""
    left_out: int = 0
    """Beyond the limit, and left unscored for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One study of the period."""

    arrived: datetime
    began: datetime | None
    """When its reader took it up; None where it is unread."""
    read: datetime | None
    stat: bool
    raised: bool
    later: bool = False
    """The site placed it later than the order of arrival."""
    overdue: bool
    ai_state: str
    reason: str
    """Why AI did not score it, as a word."""
    risk: float | None
    """The highest calibrated probability of its images; where it has several, `images` says how many that was the highest of."""
    sender: str
    age_years: float | None
    sex: str
    said: tuple[Said, ...] = ()
    """What readers say, the newest last."""
    images: int | None = None
    """Scored images; None where their number is not known."""
    patient: str = ""
    """Tells patients apart and says nothing of them; empty: of a patient of its own."""
    asked: bool = False
    """It is in the random sample of which a finding is asked for."""
    beyond: Beyond = Beyond()
    """Its images beyond the limit of the training data."""

    @property
    def unlike(self) -> bool:
        """An image of it is of another population or device than in training, scored or not."""
        return self.beyond.scored + self.beyond.left_out > 0

    def word(self, *, blind: bool | None = None) -> Said | None:
        """The one word that counts: the newest, or with `blind` the newest of that kind. So no study counts twice."""
        return next((one for one in reversed(self.said) if blind is None or one.blind is blind), None)


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
class Drift:
    """Population stability index of this period against the reference (Siddiqi 2006): sum of (a - b) ln(a / b) over tenths."""

    of: str
    value: float
    by_chance: float
    """What two samples of this size from one population give on average: (bins - 1)(1/n + 1/m); of several axes, the largest."""
    n: int
    reference: int

    @property
    def beyond_chance(self) -> float:
        """The index less what chance gives."""
        return max(self.value - self.by_chance, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Passed:
    """How the list was worked by: claims, and the studies left standing on the way to them, by band. Never by person."""

    claims: int = 0
    skipped: Mapping[str, int] = field(default_factory=dict)
    """Left for the next one by a reader who had seen their row or page."""
    passed_by: Mapping[str, int] = field(default_factory=dict)
    """Free and standing before a study that was claimed out of order."""


NONE_PASSED = Passed()


def in_order_of_arrival(studies: Sequence[Seen]) -> list[datetime]:
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


def _began(study: Seen) -> datetime:
    """When it was taken up; a clock that went back cannot put that before its arrival."""
    assert study.read is not None
    return max(min(study.began or study.read, study.read), study.arrived)


LATER = "placed later by the site"
GROUPS: tuple[tuple[str, Callable[[Seen], bool]], ...] = (
    ("STAT", lambda s: s.stat),
    ("raised", lambda s: s.raised and not s.stat),
    (LATER, lambda s: s.later and not s.stat),
    ("order of arrival", lambda s: not (s.raised or s.later or s.stat)),
    ("all", lambda s: True),
)
"""Every study is in one of them, and in the last."""


def waits(studies: Sequence[Seen]) -> list[Waits]:
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


def unread(studies: Sequence[Seen], now: datetime) -> list[Unread]:
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


def psi(reference: Float64, current: Float64, of: str) -> Drift | None:
    """The index of one number over tenths of the reference; None where either is too small to say anything.

    What is no finite number is left out; one beyond the reference falls into its last tenth.
    """
    reference, current = reference[np.isfinite(reference)], current[np.isfinite(current)]
    if min(len(reference), len(current)) < LEAST_FOR_DRIFT:
        return None
    edges = np.unique(np.quantile(reference, np.linspace(0, 1, BINS + 1)[1:-1]))
    before, after = (_shares(values, edges) for values in (reference, current))
    value = float(np.sum((after - before) * np.log(after / before)))
    return Drift(
        of=of, value=value, by_chance=len(edges) * (1 / len(reference) + 1 / len(current)), n=len(current), reference=len(reference)
    )


def _shares(values: Float64, edges: Float64) -> Float64:
    counted = np.bincount(np.searchsorted(edges, values, side="right"), minlength=len(edges) + 1)
    shares: Float64 = np.maximum(counted / len(values), FLOOR)
    return shares


def psi_of_embeddings(reference: Float64, current: Float64) -> Drift | None:
    """The largest index along the first principal axes of the reference; (N, D) and (M, D).

    By chance the index of one axis is (1/n + 1/m) times a chi-square of bins - 1 degrees of freedom (Yurdakul 2018), and the largest of
    several lies above its mean.
    """
    reference, current = (rows[np.isfinite(rows).all(axis=1)] for rows in (reference, current))
    if min(len(reference), len(current)) < LEAST_FOR_DRIFT:
        return None
    middle = reference.mean(axis=0)
    axes = np.linalg.svd(reference - middle, full_matrices=False)[2][:AXES]
    indices = (psi((reference - middle) @ axis, (current - middle) @ axis, "embeddings") for axis in axes)
    largest = max((one for one in indices if one is not None), key=lambda one: one.value)
    bins, size = BINS - 1, 1 / largest.n + 1 / largest.reference
    return replace(largest, by_chance=(bins + LARGEST_OF_AXES * math.sqrt(2 * bins)) * size)


def asked_for(study_uid: str, share: float) -> bool:
    """True for this share of all studies, by their UID alone: being asked tells nobody what AI thinks."""
    drawn = int.from_bytes(hashlib.sha256(b"a finding is asked for: " + study_uid.encode()).digest()[:8])
    return drawn < share * 2**64


def agreement(studies: Sequence[Seen], *, blind: bool | None = None) -> dict[str, Estimate | Share]:
    """Sensitivity, specificity and positive predictive value of raising by what readers found; `blind`: by these words only.

    Each study counts once, by its newest standing word of that kind, also where readers disagree. Sensitivity and specificity are those
    of all scored studies, corrected for which of them readers spoke of (`verification`).
    """
    judged = [(study, band, word) for study, band, word in _judged(studies, blind) if band is not None]
    raised, rest = ([one for one in judged if one[1] is band] for band in (True, False))
    sensitivity, specificity = verification.corrected(_band(raised), _band(rest))
    return {"sensitivity": sensitivity, "specificity": specificity, "ppv": _present(raised)}


def spoken(studies: Sequence[Seen], *, blind: bool | None = None) -> dict[str, dict[str, int]]:
    """Of the scored studies of each band, how many there are, of how many a reader said what they found, and in how many it is there."""
    judged = list(_judged(studies, blind))
    bands = {name: _band([one for one in judged if one[1] is raised]) for name, raised in (("raised", True), ("others", False))}
    return {name: {"studies": band.studies, "spoken": band.spoken, "present": band.present} for name, band in bands.items()}


Judged = tuple[Seen, bool | None, Said | None]
"""A study, whether AI raised it, and the word that counts."""


def _judged(studies: Sequence[Seen], blind: bool | None) -> Iterator[Judged]:
    """A study that was spoken of is judged by what AI said then, any other by what it says now."""
    for study in studies:
        word = study.word(blind=blind)
        if word is not None:
            yield study, word.raised, word
        else:
            yield study, study.raised if study.ai_state == AIState.SCORED else None, None


def _present(band: Sequence[Judged]) -> Share:
    """Of those spoken of, the share with the finding, by patient."""
    said = [(study, word) for study, _, word in band if word is not None]
    present = np.array([word.finding == Finding.PRESENT for _, word in said], dtype=np.bool_)
    return Share.of_patients(present, [study.patient or f"study {place}" for place, (study, _) in enumerate(said)])


def _band(band: Sequence[Judged]) -> verification.Band:
    present = _present(band)
    return verification.Band(studies=len(band), spoken=present.of, present=present.hits, worth=present.worth)


def label_free(studies: Sequence[Seen]) -> dict[str, Figure]:
    """The same from the probabilities alone, for calibrated ones (`unlabelled`); NaN where nothing was scored or raised."""
    scored = [s for s in studies if s.ai_state == AIState.SCORED and s.risk is not None]
    return unlabelled.expected(
        unlabelled.Raising(
            highest=np.array([s.risk for s in scored], dtype=np.float64),
            images=np.array([s.images or 0 for s in scored], dtype=np.int64),
            raised=np.array([s.raised for s in scored], dtype=np.bool_),
        )
    )


def week_of(study: Seen, zone: tzinfo | None) -> str:
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
    return "".join(sign if sign.isprintable() else "?" for sign in title.strip()[:LONGEST_AE]) or "not known"


def group_of_sex(sex: str) -> str:
    """F, M or O, or that it is not known."""
    return found if (found := sex.strip().upper()) in SEXES else "not known"


KINDS: Mapping[str, Callable[[Seen], str]] = {
    "scanner": lambda s: group_of_sender(s.sender),
    "age": lambda s: group_of_age(s.age_years),
    "sex": lambda s: group_of_sex(s.sex),
}
