"""What the board tells of a period, as one document for machines, and the figures that left their range."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, tzinfo
from typing import Any

import numpy as np

from prioritizer.calibration.operating_point import Share
from prioritizer.monitoring.agreement import agreement, label_free, spoken
from prioritizer.monitoring.drift import Drift
from prioritizer.monitoring.studies import MonitoredStudy
from prioritizer.monitoring.turnaround import KINDS, NONE_PASSED, Passed, unread, waits, week_of
from prioritizer.monitoring.verification import NEEDED, Estimate
from prioritizer.statistics.intervals import Figure
from prioritizer.study import AIState, ReaderFinding

MAX_GROUPS = 12
"""Groups of one kind that are told apart. Peers name them, and each is a series for whoever scrapes the figures."""
OTHERS: Mapping[str, str] = {"scanner": "all other scanners", "age": "all other ages", "sex": "any other sex"}
"""What the smaller groups are told as together. Longer than an AE title may be, so that no peer can be called so."""
ASSUMPTION = (
    "Label-free: taken from the probabilities alone, assuming that they are calibrated for these images. It sees a change of the mix, "
    "not that the network reads an image wrongly. A study's highest probability counts for less the more images it has; how alike the "
    "images of one study are is not known, and the intervals allow for it."
)
BLIND: Mapping[str, bool | None] = {"all": None, "blinded": True, "not blinded": False}
ASKED = "asked for"
"""Words on studies of the random sample, whoever saw what: where nearly all of them have one, nothing hangs on who speaks."""
MARGIN = 0.1
"""Where few were spoken of, an interval that reaches further than this below a limit leaves open whether the limit is kept."""
UNSCORED = (AIState.NOT_SCORED, AIState.FAILED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """When somebody must act."""

    name: str
    threshold: float
    owner: str
    action: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """A figure that left its range."""

    name: str
    said: str
    owner: str
    action: str


def board(
    studies: Sequence[MonitoredStudy],
    now: datetime,
    drifts: Sequence[Drift] = (),
    rules: Sequence[Rule] = (),
    passed: Passed = NONE_PASSED,
    zone: tzinfo | None = UTC,
) -> dict[str, Any]:
    """Everything the board shows, for machines: what `json.dumps` takes. `now`: until when those that are unread have waited.

    `zone`: whose weeks are counted; None stands for the machine's.
    """
    asked = [study for study in studies if study.asked]
    groups = {name: (studies, blind) for name, blind in BLIND.items()} | {ASKED: (asked, None)}
    words = {name: {key: share(value) for key, value in agreement(mine, blind=blind).items()} for name, (mine, blind) in groups.items()}
    found: dict[str, Any] = {
        **outcome(studies),
        "read": sum(s.read is not None for s in studies),
        "overdue": share(Share(hits=sum(s.overdue for s in studies), of=len(studies))),
        "waits": [asdict(one) for one in waits(studies)],
        "unread": [asdict(one) for one in unread(studies, now)],
        "reasons": reasons(studies),
        "groups": by_group(studies),
        "beyond": beyond_the_limit(studies, zone),
        "passed": {"claims": passed.claims, "skipped": _by_mark(passed.skipped), "passed_by": _by_mark(passed.passed_by)},
        "words": words,
        "spoken": {name: spoken(mine, blind=blind) for name, (mine, blind) in groups.items()},
        "asked": {"asked": len(asked), "given": sum(study.word() is not None for study in asked)},
        "label_free": {**_free(label_free(studies)), "assumption": ASSUMPTION},
        "drift": [{**asdict(one), "beyond_chance": one.beyond_chance} for one in drifts],
    }
    return {**found, "alarms": [asdict(one) for one in left(found, rules)]}


def reasons(studies: Iterable[MonitoredStudy]) -> dict[str, int]:
    """How many were not scored, by the word that says why; the commonest first."""
    return dict(Counter(s.reason or s.ai_state.lower() for s in studies if s.ai_state in UNSCORED).most_common())


def by_group(studies: Sequence[MonitoredStudy]) -> list[dict[str, Any]]:
    """Share raised, confirmed, missed and not scored by scanner, age and sex; the largest groups of each, then the others as one."""
    return [{"kind": kind, "group": name, **outcome(mine)} for kind in KINDS for name, mine in _grouped(studies, kind)]


def _grouped(studies: Sequence[MonitoredStudy], kind: str) -> list[tuple[str, list[MonitoredStudy]]]:
    """The largest groups of a kind, then the others as one."""
    groups: dict[str, list[MonitoredStudy]] = {}
    for study in studies:
        groups.setdefault(KINDS[kind](study), []).append(study)
    largest = sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
    rest = [study for _, mine in largest[MAX_GROUPS:] for study in mine]
    return [*largest[:MAX_GROUPS], *([(OTHERS[kind], rest)] if rest else [])]


def beyond_the_limit(studies: Sequence[MonitoredStudy], zone: tzinfo | None) -> list[dict[str, Any]]:
    """Images beyond the limit of the training data, and what became of them: in all, by scanner, and by week of arrival."""
    weeks: dict[str, list[MonitoredStudy]] = {}
    for study in sorted(studies, key=lambda one: one.arrived):
        weeks.setdefault(week_of(study, zone), []).append(study)
    rows = [
        ("all", "all", studies),
        *(("scanner", *row) for row in _grouped(studies, "scanner")),
        *(("week", *row) for row in weeks.items()),
    ]
    return [{"kind": kind, "group": name, **_images_beyond(mine)} for kind, name, mine in rows]


def _images_beyond(studies: Sequence[MonitoredStudy]) -> dict[str, Any]:
    drawn, left_out = (sum(getattr(study.beyond, name) for study in studies) for name in ("drawn", "left_out"))
    scored = {raised: sum(study.beyond.scored for study in studies if study.raised is raised) for raised in (True, False)}
    beyond = share(Share(hits=left_out + sum(scored.values()), of=drawn))
    return {"images": drawn, "beyond": beyond, "raised": scored[True], "not_raised": scored[False], "left_unscored": left_out}


def outcome(studies: Sequence[MonitoredStudy]) -> dict[str, Any]:
    """How many arrived, were scored, raised, confirmed, missed, not scored; how many of those drawn are unlike the training data."""
    scored = [s for s in studies if s.ai_state == AIState.SCORED]
    said = Counter((word.raised, word.finding) for word in (s.word() for s in studies) if word is not None)
    return {
        "arrived": len(studies),
        "scored": len(scored),
        "raised": share(Share(hits=sum(s.raised for s in scored), of=len(scored))),
        "confirmed": said[True, ReaderFinding.PRESENT],
        "not_confirmed": said[True, ReaderFinding.ABSENT],
        "missed": said[False, ReaderFinding.PRESENT],
        "not_scored": share(Share(hits=sum(s.ai_state in UNSCORED for s in studies), of=len(studies))),
        "unlike": share(Share(hits=sum(s.unlike for s in studies), of=sum(s.unlike or s.ai_state == AIState.SCORED for s in studies))),
    }


def share(found: Share | Estimate) -> dict[str, Any]:
    """A share with its 95 % interval, for machines; None where nothing was counted, or where `why` says why it is not given."""
    counted: dict[str, Any] = {"hits": found.hits, "of": found.of}
    if isinstance(found, Estimate):
        counted |= {"why": found.why, "uneven": found.uneven}
        if found.why:
            return {"value": None, "low": None, "high": None, **counted}
    elif not found.of:
        return {"value": None, "low": None, "high": None, **counted}
    return {"value": found.value, "low": found.low, "high": found.high, **counted}


def _free(figures: Mapping[str, Figure]) -> dict[str, Any]:
    """Values by name, and their intervals; None where there is none."""
    plain = {name: None if np.isnan(figure.value) else figure.value for name, figure in figures.items()}
    between = {name: [figure.low, figure.high] for name, figure in figures.items() if plain[name] is not None}
    return {**plain, "intervals": between}


def _by_mark(bands: Mapping[str, int]) -> dict[str, int]:
    raised = bands.get("HIGH", 0)
    return {"raised": raised, "others": sum(bands.values()) - raised}


def left(found: Mapping[str, Any], rules: Sequence[Rule]) -> list[Left]:
    """The figures that left their range. A share alarms when its whole interval lies beyond the threshold, never by a few cases.

    Where readers speak of few of the studies that were not moved up, sensitivity and specificity alarm also while that leaves open
    whether they kept their limit: silence would be taken for a good figure.
    """
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
            text = _below(rule, found["words"]["all"][BELOW[rule.name]], speak=_speak(found["spoken"]["all"]))
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


def _below(rule: Rule, told: Mapping[str, Any], *, speak: bool) -> str:
    name = rule.name.upper() if rule.name == "ppv" else rule.name
    if told["value"] is None:
        return f"{name} is not known: {told['why']}, limit {rule.threshold:g}" if told.get("why") and speak else ""
    said = f"{told['value']:.2f} (95 % {told['low']:.2f} to {told['high']:.2f}, n = {told['of']}), limit {rule.threshold:g}"
    if told["high"] < rule.threshold:
        return f"{name} by readers' words {said}"
    if told.get("uneven") and (told["value"] < rule.threshold or told["low"] < rule.threshold - MARGIN):
        return f"{name} may be below its limit, too few words on one band of studies to tell: {said}"
    return ""


def _speak(bands: Mapping[str, Mapping[str, int]]) -> bool:
    """Readers do say what they find here: what is missing is missing from some studies, not from all."""
    return sum(band["spoken"] for band in bands.values()) >= NEEDED
