"""A calibration takes effect: one transaction changes the states, scores and places every unread study again and says so."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from prioritizer.config.policy import SitePolicy
from prioritizer.db.decisions import calibrations
from prioritizer.db.in_force.calibration import PolicyInForce, active_row, in_force
from prioritizer.db.list_order.placement import high_suspended, lock_study, put_in_place, recompute_risk, standing_of
from prioritizer.db.processing.daemon_start import hold_unread
from prioritizer.db.processing.out_of_distribution import count_owed
from prioritizer.db.processing.result_revisions import bump_revision
from prioritizer.db.schema import connect
from prioritizer.db.schema.events import Kind, record
from prioritizer.earlier_keys import with_earlier_keys
from prioritizer.errors import NotAllowed
from prioritizer.ranking import deadlines
from prioritizer.states import CalibrationState
from prioritizer.study import AIState

OWN = "the bundle's own"


@dataclass(frozen=True, slots=True, kw_only=True)
class Activated:
    """What an activation did."""

    calibration: str
    """The id of what applies now."""
    before: str
    activation: int
    scored_again: int
    """Unread studies whose scores were made again from their logits."""
    moved: int
    """Of these, those that stand elsewhere now."""
    published_again: int
    """Of these, those whose mark changed: a new result goes to the PACS."""
    unscored: int = 0
    """Studies that lost every score, because their images are unlike the training data and what is in force leaves such out."""
    left_out: int = 0
    """Images of unread studies that were left unscored as unlike the training data, and are to be scored now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Who decided, and what the site asks of a decision."""

    who: str
    second_person: bool = False
    """Another person than the maker must have approved."""
    against_advice: str = ""
    """Why it is activated although its report advises against it."""


def activate(
    engine: sa.Engine, name: str, decision: Decision, policy: SitePolicy, now: datetime, *, expected: int | None = None
) -> Activated:
    """Put a calibration in force. Raises NotAllowed with what stands in the way, CalibrationChanged when it is not what was stored.

    `expected` is the activation that the person was shown; where another is in force by now, nothing is done.
    """
    with connect.writing(engine) as tx:
        before = in_force(tx, policy, alone=True)
        calibrations.as_expected(tx, before, policy.bundle_digest, expected)
        chosen = calibrations.row_of(tx, name)
        _may(chosen, decision, policy)
        extra = {"against_advice": decision.against_advice} if decision.against_advice else {}
        return _put_in_force(tx, before, chosen, decision.who, policy, now, back=False, **extra)


def roll_back(
    engine: sa.Engine, who: str, policy: SitePolicy, now: datetime, *, to_own: bool = False, expected: int | None = None
) -> Activated:
    """Put in force again what applied before the calibration that is active, or with `to_own` the bundle's own. Raises NotAllowed.

    `expected` is the activation that the person was shown: who presses "go back" twice, or after somebody else, goes one step.
    """
    with connect.writing(engine) as tx:
        before = in_force(tx, policy, alone=True)
        calibrations.as_expected(tx, before, policy.bundle_digest, expected)
        chosen = _before_the_active(tx, policy, to_own=to_own)
        return _put_in_force(tx, before, chosen, who, policy, now, back=True)


def goes_back_to(engine: sa.Engine, policy: SitePolicy, *, to_own: bool = False) -> calibrations.CalibrationRow | None:
    """What going back would put in force; None for the bundle's own. Read only. Raises NotAllowed where there is nothing to go back to."""
    with connect.reading(engine) as tx:
        return _before_the_active(tx, policy, to_own=to_own, held=False)


def _before_the_active(tx: sa.Connection, policy: SitePolicy, *, to_own: bool, held: bool = True) -> calibrations.CalibrationRow | None:
    if active_row(tx, policy.bundle_digest) is None:
        raise NotAllowed("the bundle's own calibration applies: there is nothing to go back to")
    earlier = calibrations.in_order(tx, policy.bundle_digest)[:-1]
    if to_own or not earlier or earlier[-1].calibration is None:
        return None
    return calibrations.row_of(tx, earlier[-1].calibration, held=held)


def _may(chosen: calibrations.CalibrationRow, decision: Decision, policy: SitePolicy) -> None:
    if chosen.bundle_digest != policy.bundle_digest:
        raise NotAllowed(f"calibration {chosen.id} was made for bundle {chosen.bundle_digest[:12]}, this is {policy.bundle_digest[:12]}")
    if chosen.state == CalibrationState.ACTIVE:
        raise NotAllowed(f"calibration {chosen.id} is active already")
    if decision.second_person and (not chosen.agreed_by or chosen.agreed_by.casefold() == chosen.made_by.casefold()):
        raise NotAllowed(
            f"a second person must approve first: `prioritizer calibration approve {chosen.id}`, by anyone but {chosen.made_by} "
            "(calibration.second_person)"
        )
    if chosen.verdict == calibrations.ADVISED_AGAINST and not decision.against_advice.strip():
        raise NotAllowed(f"its report says: {chosen.verdict_said} To activate it all the same give --against-advice REASON; it is kept")


def _put_in_force(
    tx: sa.Connection,
    before: PolicyInForce,
    chosen: calibrations.CalibrationRow | None,
    who: str,
    policy: SitePolicy,
    now: datetime,
    *,
    back: bool,
    **extra: str,
) -> Activated:
    left = active_row(tx, policy.bundle_digest)
    calibrations.take_its_place(tx, policy, before, chosen, who, now, back=back)
    rules = in_force(tx, policy, alone=True)
    assert rules.calibration is not None
    counts = _score_and_place_again(tx, rules, now) | {"left_out": count_owed(tx, rules)}
    done = Activated(
        calibration=rules.calibration.id,
        before=left.id if left is not None else policy.own.id if policy.own else "",
        activation=rules.activation,
        **counts,
    )
    words = "went back to" if back else "activated"
    said = f"{words} calibration {done.calibration} from {done.before} (activation {done.activation})"
    facts: dict[str, Any] = {"from": done.before, "to": done.calibration, "activation": done.activation, **counts, **extra}
    facts |= {"sha256": chosen.sha256, "verdict": chosen.verdict} if chosen else {"own": True}
    said += f": {done.scored_again} studies scored again"
    more = f"; {done.left_out} images that were unlike the training data are to be scored" if done.left_out else ""
    more += f"; {done.unscored} studies unlike the training data lost their score" if done.unscored else ""
    record(tx, Kind.CALIBRATION_ACTIVATED, f"{said}, {done.moved} moved{more}", now, actor=who, **with_earlier_keys(facts))
    return done


def _score_and_place_again(tx: sa.Connection, rules: PolicyInForce, now: datetime) -> dict[str, int]:
    """Every unread scored study by the calibration that now applies."""
    rows = [lock_study(tx, uid) for uid in hold_unread(tx)]
    marks = {row.study_uid: (row.band, row.deciding_instance) for row in rows if row.ai_state == AIState.SCORED}
    for uid in marks:
        recompute_risk(tx, uid, rules, now)
    bands = {uid: deadlines.band_of(standing_of(lock_study(tx, uid)), rules.policy.ranking) for uid in marks}
    suspended = high_suspended(tx, rules.policy.ranking, bands)
    moved = sum(put_in_place(tx, uid, rules.policy.ranking, now, suspended=suspended) for uid in marks)
    shown_again = unscored = 0
    for uid, mark in marks.items():
        after = lock_study(tx, uid)
        if after.ai_state != AIState.SCORED:
            unscored += 1
        elif (after.band, after.deciding_instance) != mark:
            bump_revision(tx, uid, rules.policy.quiet, now)
            shown_again += 1
    return {"scored_again": len(marks) - unscored, "moved": moved, "published_again": shown_again, "unscored": unscored}
