"""What the board tells of a period, as one document for machines, and the figures that left their range."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import numpy as np

from prioritizer.measures import proportion_interval
from prioritizer.monitoring import KINDS, NONE_PASSED, Drift, Passed, Seen, agreement, label_free, unread, waits
from prioritizer.operating_point import Share
from prioritizer.study import AIState, Finding

MOST_GROUPS = 12
"""Groups of one kind that are told apart. Peers name them, and each is a series for whoever scrapes the figures."""
OTHERS: Mapping[str, str] = {"scanner": "all other scanners", "age": "all other ages", "sex": "any other sex"}
"""What the smaller groups are told as together. Longer than an AE title may be, so that no peer can be called so."""
ASSUMPTION = (
    "Label-free: taken from the probabilities alone, assuming that they are calibrated for these studies. It sees a change of the mix, "
    "not that the network reads a film wrongly."
)
BLIND: Mapping[str, bool | None] = {"all": None, "blinded": True, "not blinded": False}
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
    studies: Sequence[Seen], now: datetime, drifts: Sequence[Drift] = (), rules: Sequence[Rule] = (), passed: Passed = NONE_PASSED
) -> dict[str, Any]:
    """Everything the board shows, for machines: what `json.dumps` takes. `now`: until when those that are unread have waited."""
    words = {name: {key: share(value) for key, value in agreement(studies, blind=blind).items()} for name, blind in BLIND.items()}
    free = {key: None if np.isnan(value) else value for key, value in label_free(studies).items()}
    found: dict[str, Any] = {
        **outcome(studies),
        "read": sum(s.read is not None for s in studies),
        "overdue": share(Share(hits=sum(s.overdue for s in studies), of=len(studies))),
        "waits": [asdict(one) for one in waits(studies)],
        "unread": [asdict(one) for one in unread(studies, now)],
        "reasons": reasons(studies),
        "groups": by_group(studies),
        "passed": {"claims": passed.claims, "skipped": _by_mark(passed.skipped), "passed_by": _by_mark(passed.passed_by)},
        "words": words,
        "label_free": {**free, "assumption": ASSUMPTION},
        "drift": [{**asdict(one), "beyond_chance": one.beyond_chance} for one in drifts],
    }
    return {**found, "alarms": [asdict(one) for one in left(found, rules)]}


def reasons(studies: Iterable[Seen]) -> dict[str, int]:
    """How many were not scored, by the word that says why; the commonest first."""
    return dict(Counter(s.reason or s.ai_state.lower() for s in studies if s.ai_state in UNSCORED).most_common())


def by_group(studies: Sequence[Seen]) -> list[dict[str, Any]]:
    """Share raised, confirmed, missed and not scored by scanner, age and sex; the largest groups of each, then the others as one."""
    found = []
    for kind, name_of in KINDS.items():
        groups: dict[str, list[Seen]] = {}
        for study in studies:
            groups.setdefault(name_of(study), []).append(study)
        largest = sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
        rest = [study for _, mine in largest[MOST_GROUPS:] for study in mine]
        for name, mine in [*largest[:MOST_GROUPS], *([(OTHERS[kind], rest)] if rest else [])]:
            found.append({"kind": kind, "group": name, **outcome(mine)})
    return found


def outcome(studies: Sequence[Seen]) -> dict[str, Any]:
    """How many arrived, were scored, raised, confirmed, missed, not scored."""
    scored = [s for s in studies if s.ai_state == AIState.SCORED]
    said = Counter((word.raised, word.finding) for word in (s.word() for s in studies) if word is not None)
    return {
        "arrived": len(studies),
        "scored": len(scored),
        "raised": share(Share(hits=sum(s.raised for s in scored), of=len(scored))),
        "confirmed": said[True, Finding.PRESENT],
        "not_confirmed": said[True, Finding.ABSENT],
        "missed": said[False, Finding.PRESENT],
        "not_scored": share(Share(hits=sum(s.ai_state in UNSCORED for s in studies), of=len(studies))),
    }


def share(found: Share) -> dict[str, Any]:
    """A share with its exact 95 % interval, for machines; None where nothing was counted."""
    if not found.of:
        return {"value": None, "low": None, "high": None, "hits": 0, "of": 0}
    low, high = proportion_interval(found.hits, found.of)
    return {"value": found.value, "low": low, "high": high, "hits": found.hits, "of": found.of}


def _by_mark(bands: Mapping[str, int]) -> dict[str, int]:
    raised = bands.get("HIGH", 0)
    return {"raised": raised, "others": sum(bands.values()) - raised}


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
