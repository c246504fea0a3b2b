"""Is it doing what it should? Turn-around beside order of arrival, what was raised and what came of it, drift, and when to ring whom.

Everything is computed from studies of one period as the ledger holds them. A figure that rests on too little says so by its interval,
and a drift index beside what chance alone gives it.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prioritizer.operating_point import Share
from prioritizer.study import AIState, Finding

Float64 = NDArray[np.float64]
AGES = ((0.0, 1.0), (1.0, 6.0), (6.0, 18.0), (18.0, 40.0), (40.0, 65.0), (65.0, 121.0))
MOST_GROUPS = 12
BINS = 10
FLOOR = 1e-4
"""Share that an empty bin counts as."""
AXES = 3
"""Principal axes of the reference's embeddings along which drift is looked for."""
LEAST_FOR_DRIFT = 100
ASSUMPTION = (
    "Label-free: taken from the probabilities alone, assuming that they are calibrated for these studies. It sees a change of the mix, "
    "not that the network reads a film wrongly."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One study of the period."""

    arrived: datetime
    began: datetime | None
    """When its reader took it up; None where it is unread."""
    read: datetime | None
    stat: bool
    raised: bool
    overdue: bool
    ai_state: str
    reason: str
    """Why AI did not score it, as a word."""
    risk: float | None
    sender: str
    age_years: float | None
    sex: str
    finding: str | None = None
    """What a reader found: present or absent; None where nobody said."""
    blind: bool | None = None
    """The reader knew neither AI's result nor the order it gave."""


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
class Drift:
    """Population stability index of this period against the reference (Siddiqi 2006): sum of (a - b) ln(a / b) over tenths."""

    of: str
    value: float
    by_chance: float
    """What two samples of this size from one population give on average: (bins - 1)(1/n + 1/m)."""
    n: int
    reference: int

    @property
    def beyond_chance(self) -> float:
        """The index less what chance gives."""
        return max(self.value - self.by_chance, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """When somebody must act."""

    name: str
    threshold: float
    owner: str
    action: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Passed:
    """How the list was worked by: claims, and the studies left standing on the way to them, by band. Never by person."""

    claims: int = 0
    skipped: Mapping[str, int] = field(default_factory=dict)
    """Left for the next one by a reader who had seen their row or page."""
    passed_by: Mapping[str, int] = field(default_factory=dict)
    """Free and standing before a study that was claimed out of order."""


NONE_PASSED = Passed()


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """A figure that left its range."""

    name: str
    said: str
    owner: str
    action: str


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


def waits(studies: Sequence[Seen]) -> list[Waits]:
    """Turn-around of STAT, raised, other and all studies that were read."""
    read = [study for study in studies if study.read is not None]
    if not read:
        return []
    own = np.array([_minutes(study.arrived, study.read) for study in read])
    fifo = np.array([_minutes(study.arrived, moment) for study, moment in zip(read, in_order_of_arrival(read), strict=True)])
    kinds: tuple[tuple[str, Callable[[Seen], bool]], ...] = (
        ("STAT", lambda s: s.stat),
        ("raised", lambda s: s.raised and not s.stat),
        ("order of arrival", lambda s: not s.raised and not s.stat),
        ("all", lambda s: True),
    )
    found = []
    for name, belongs in kinds:
        mine = np.array([belongs(study) for study in read])
        if mine.any():
            found.append(Waits(group=name, n=int(mine.sum()), **_told(own[mine], ""), **_told(fifo[mine], "fifo_")))
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
    """The index of one number over tenths of the reference; None where either is too small to say anything."""
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
    """The largest index along the first principal axes of the reference; (N, D) and (M, D)."""
    if min(len(reference), len(current)) < LEAST_FOR_DRIFT:
        return None
    middle = reference.mean(axis=0)
    axes = np.linalg.svd(reference - middle, full_matrices=False)[2][:AXES]
    found = [psi((reference - middle) @ axis, (current - middle) @ axis, "embeddings") for axis in axes]
    return max((one for one in found if one is not None), key=lambda one: one.value)


def agreement(studies: Sequence[Seen], *, blind: bool | None = None) -> dict[str, Share]:
    """Sensitivity, specificity and positive predictive value of raising by what readers found; `blind`: of these readings only."""
    said = [s for s in studies if s.finding in (Finding.PRESENT, Finding.ABSENT) and s.ai_state == AIState.SCORED]
    said = [s for s in said if blind is None or s.blind is blind]
    sick, well = [s for s in said if s.finding == Finding.PRESENT], [s for s in said if s.finding == Finding.ABSENT]
    raised = [s for s in said if s.raised]
    return {
        "sensitivity": Share(hits=sum(s.raised for s in sick), of=len(sick)),
        "specificity": Share(hits=sum(not s.raised for s in well), of=len(well)),
        "ppv": Share(hits=sum(s.finding == Finding.PRESENT for s in raised), of=len(raised)),
    }


def label_free(studies: Sequence[Seen]) -> dict[str, float]:
    """The same from the probabilities alone, for calibrated ones; NaN where nothing was scored or raised."""
    scored = [s for s in studies if s.ai_state == AIState.SCORED and s.risk is not None]
    risk = np.array([s.risk for s in scored], dtype=np.float64)
    raised = np.array([s.raised for s in scored], dtype=np.bool_)
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            "sensitivity": float(np.float64(risk[raised].sum()) / risk.sum()),
            "specificity": float(np.float64((1 - risk[~raised]).sum()) / (1 - risk).sum()),
            "ppv": float(np.float64(risk[raised].sum()) / raised.sum()),
        }


def group_of_age(age: float | None) -> str:
    """`1-5 years`, or that it is not known."""
    if age is None:
        return "age not known"
    low, high = next(((low, high) for low, high in AGES if low <= age < high), AGES[-1])
    return "under 1 year" if high <= 1 else f"{low:g} to {high - 1:g} years" if high < AGES[-1][1] else f"{low:g} years and over"


KINDS: Mapping[str, Callable[[Seen], str]] = {
    "scanner": lambda s: s.sender or "not known",
    "age": lambda s: group_of_age(s.age_years),
    "sex": lambda s: s.sex or "not known",
}


def by_group(studies: Sequence[Seen]) -> list[dict[str, Any]]:
    """Share raised, confirmed, missed and not scored by scanner, age and sex; the largest groups of each."""
    found = []
    for kind, name_of in KINDS.items():
        groups: dict[str, list[Seen]] = {}
        for study in studies:
            groups.setdefault(name_of(study), []).append(study)
        for name, mine in sorted(groups.items(), key=lambda item: -len(item[1]))[:MOST_GROUPS]:
            found.append({"kind": kind, "group": name, **outcome(mine)})
    return found


def outcome(studies: Sequence[Seen]) -> dict[str, Any]:
    """How many arrived, were scored, raised, confirmed, missed, not scored."""
    scored = [s for s in studies if s.ai_state == AIState.SCORED]
    return {
        "arrived": len(studies),
        "scored": len(scored),
        "raised": share(Share(hits=sum(s.raised for s in scored), of=len(scored))),
        "confirmed": sum(s.raised and s.finding == Finding.PRESENT for s in scored),
        "not_confirmed": sum(s.raised and s.finding == Finding.ABSENT for s in scored),
        "missed": sum(not s.raised and s.finding == Finding.PRESENT for s in scored),
        "not_scored": share(Share(hits=sum(s.ai_state in (AIState.NOT_SCORED, AIState.FAILED) for s in studies), of=len(studies))),
    }


def share(found: Share) -> dict[str, Any]:
    """A share with its exact 95 % interval, for machines; None where nothing was counted."""
    if not found.of:
        return {"value": None, "low": None, "high": None, "hits": 0, "of": 0}
    return {"value": found.value, "low": found.low, "high": found.high, "hits": found.hits, "of": found.of}


def board(studies: Sequence[Seen], drifts: Sequence[Drift], rules: Sequence[Rule], passed: Passed = NONE_PASSED) -> dict[str, Any]:
    """Everything the board shows, for machines: what `json.dumps` takes."""
    words = {name: {key: share(value) for key, value in agreement(studies, blind=blind).items()} for name, blind in BLIND.items()}
    free = {key: None if np.isnan(value) else value for key, value in label_free(studies).items()}
    found: dict[str, Any] = {
        **outcome(studies),
        "read": sum(s.read is not None for s in studies),
        "overdue": share(Share(hits=sum(s.overdue for s in studies), of=len(studies))),
        "waits": [asdict(one) for one in waits(studies)],
        "reasons": dict(
            Counter(s.reason or s.ai_state.lower() for s in studies if s.ai_state in (AIState.NOT_SCORED, AIState.FAILED)).most_common()
        ),
        "groups": by_group(studies),
        "passed": {"claims": passed.claims, "skipped": _by_mark(passed.skipped), "passed_by": _by_mark(passed.passed_by)},
        "words": words,
        "label_free": {**free, "assumption": ASSUMPTION},
        "drift": [{**asdict(one), "beyond_chance": one.beyond_chance} for one in drifts],
    }
    return {**found, "alarms": [asdict(one) for one in left(found, rules)]}


def _by_mark(bands: Mapping[str, int]) -> dict[str, int]:
    raised = bands.get("HIGH", 0)
    return {"raised": raised, "others": sum(bands.values()) - raised}


BLIND: Mapping[str, bool | None] = {"all": None, "blinded": True, "not blinded": False}


def left(found: Mapping[str, Any], rules: Sequence[Rule]) -> list[Left]:
    """The figures that left their range. A share alarms when its whole interval lies beyond the threshold, never by a few cases."""
    said: list[Left] = []
    drifts = {f"psi-{one['of']}": one for one in found["drift"]}
    for rule in rules:
        text = ""
        if rule.name in drifts and drifts[rule.name]["beyond_chance"] > rule.threshold:
            one = drifts[rule.name]
            text = (
                f"the {one['of']} have drifted: index {one['value']:.2f}, {one['by_chance']:.2f} of it by chance, limit {rule.threshold:g}"
            )
        elif rule.name in ABOVE:
            text = _above(rule, ABOVE[rule.name][0], found[ABOVE[rule.name][1]])
        elif rule.name in BELOW:
            text = _below(rule, found["words"]["all"][BELOW[rule.name]])
        if text:
            said.append(Left(name=rule.name, said=text, owner=rule.owner, action=rule.action))
    return said


ABOVE = {"overdue": ("overdue", "overdue"), "not-scored": ("not scored", "not_scored"), "raised": ("raised", "raised")}
BELOW = {"sensitivity": "sensitivity", "specificity": "specificity", "ppv": "ppv"}
NAMES = ("psi-scores", "psi-embeddings", *ABOVE, *BELOW)


def _above(rule: Rule, word: str, told: Mapping[str, Any]) -> str:
    if told["of"] == 0 or told["low"] <= rule.threshold:
        return ""
    return f"{told['hits']} of {told['of']} studies were {word} (95 % {told['low']:.2f} to {told['high']:.2f}), limit {rule.threshold:g}"


def _below(rule: Rule, told: Mapping[str, Any]) -> str:
    if told["of"] == 0 or told["high"] >= rule.threshold:
        return ""
    name = rule.name.upper() if rule.name == "ppv" else rule.name
    interval = f"95 % {told['low']:.2f} to {told['high']:.2f}, n = {told['of']}"
    return f"{name} by readers' words {told['value']:.2f} ({interval}), limit {rule.threshold:g}"
