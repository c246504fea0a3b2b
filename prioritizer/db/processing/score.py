"""The scoring of instances: claim, then exactly one of scored, ineligible, failed or put back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from prioritizer.calibration.maps import Calibration
from prioritizer.db.activity.queues import failed_ones
from prioritizer.db.in_force import ranking_policy
from prioritizer.db.in_force.calibration import InForce, called_back, in_force
from prioritizer.db.order.order import View, in_view
from prioritizer.db.order.placement import high_suspended, put_in_place, replace_study
from prioritizer.db.processing import leases
from prioritizer.db.processing.receive import Quiet
from prioritizer.db.processing.result_revisions import bump_revision
from prioritizer.db.schema import connect
from prioritizer.db.schema.events import Kind, record
from prioritizer.db.schema.instance_rows import OWN_OBJECT, SET_ASIDE, instance_of
from prioritizer.db.schema.tables import MADE, instances, scores, studies
from prioritizer.errors import CalibrationChanged, NotAllowed, NotFound
from prioritizer.ranking.deadlines import Policy
from prioritizer.scope.header_rules import OUT_OF_DISTRIBUTION
from prioritizer.study import INSTANCE_TRANSITIONS, Instance, InstanceState, Probability, ReadingState, Score, states_before

AGAIN = (InstanceState.FAILED, InstanceState.INELIGIBLE)
"""What a person may have scored again: a score that there is would come out the same."""
DISCARDED = "discarded"
"""The reason of an instance that failed and that a person gave up: no other bundle looks at it by itself."""
FURTHEST = 1e6
"""Distances from the training data are kept up to here: what is no number is infinitely far."""
LONGEST_REASON = 300
A_TURN = 50
"""Studies that one transaction takes back, so that films may come in between."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedInstance:
    """An instance that `worker`, a claim of its own, may score until its lease runs out."""

    instance: Instance
    worker: str
    attempts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """How far an image lies from the training data of a bundle, in units of its limit; None where no guard measured it."""

    distance: float | None = None
    bundle_digest: str = ""


NOT_MEASURED = Measured()


def claim_instance(engine: sa.Engine, worker: str, lease: timedelta) -> ClaimedInstance | None:
    """The next instance to score: new before retried, then in order of arrival; None when there is none."""
    with connect.writing(engine) as tx:
        wanted = instances.c.state == InstanceState.RECEIVED
        row = leases.claim_one(tx, instances, wanted, [instances.c.attempts, instances.c.received_at], worker, lease)
    return None if row is None else ClaimedInstance(instance=instance_of(row), worker=row.claimed_by, attempts=row.attempts)


def _leave(
    tx: sa.Connection, claim: ClaimedInstance, state: InstanceState, measured: Measured, reason: str = "", text: str = ""
) -> sa.Row[Any] | None:
    """Move the claimed instance out of RECEIVED; returns its study and version of pixels as they are now, None when the claim was lost."""
    uid = claim.instance.sop_instance_uid
    distance = None if measured.distance is None else min(measured.distance, FURTHEST)
    left = (
        instances.update()
        .where(leases.owned(instances, uid, claim.worker), instances.c.state.in_(states_before(INSTANCE_TRANSITIONS, state)))
        .values(state=state, reason=reason, reason_text=text, claimed_by=None, claimed_until=None)
        .values(out_of_distribution=distance, measured_by="" if distance is None else measured.bundle_digest)
    )
    return tx.execute(left.returning(instances.c.study_uid, instances.c.pixels_version)).one_or_none()


def finish_scored(engine: sa.Engine, claim: ClaimedInstance, score: Score, policy: Policy, quiet: Quiet, now: datetime) -> bool:
    """Score, state, study risk and place in one commit; False when the claim was lost meanwhile.

    The probability is made here, from the logit, with the calibration that is active in this very transaction.
    """
    uid = claim.instance.sop_instance_uid
    with connect.writing(engine) as tx:
        ranking_policy.remember(tx, policy)
        rules = in_force(tx, policy)
        if rules.fault:
            raise CalibrationChanged(rules.fault)
        measured = Measured(distance=score.out_of_distribution, bundle_digest=score.bundle_digest)
        left = _leave(tx, claim, InstanceState.SCORED, measured)
        if left is None:
            return False
        if rules.calibration is not None and score.bundle_digest == policy.bundle_digest:
            age = tx.scalar(sa.select(studies.c.age_years).where(studies.c.study_uid == left.study_uid))
            score = _calibrated(score, rules.calibration.for_age(age), rules.activation)
        _store_score(tx, uid, left.pixels_version, score, now)
        said = f"scored by bundle {score.bundle_digest[:12]}, calibration {score.calibration_id}"
        if score.warnings:
            said += f" ({'; '.join(score.warnings)})"
        record(tx, Kind.SCORED, said, now, study=left.study_uid, instance=uid, probability=score.probability)
        replace_study(tx, left.study_uid, rules, now)
        bump_revision(tx, left.study_uid, quiet, now)
    return True


def _calibrated(score: Score, calibration: Calibration, activation: int) -> Score:
    p = Probability(calibration.probability(score.logit))
    return replace(score, calibration_id=calibration.id, probability=p, activation=activation)


def _store_score(tx: sa.Connection, uid: str, pixels_version: int, score: Score, now: datetime) -> None:
    """Enter a score, unless this very one is there: another bundle took the image back and went before it scored anything."""
    row = {
        "sop_instance_uid": uid,
        "pixels_version": pixels_version,
        "bundle_digest": score.bundle_digest,
        "calibration_id": score.calibration_id,
        "preprocessing_id": score.preprocessing_id,
        "engine": score.engine,
        "precision": score.precision,
        "logit": score.logit,
        "probability": score.probability,
        "saliency": score.saliency,
        "embedding": score.embedding,
        "warnings": list(score.warnings),
        "scored_at": now,
        "activation": score.activation,
    }
    if tx.scalar(sa.select(scores.c.id).where(*(scores.c[name] == row[name] for name in MADE))) is None:
        tx.execute(scores.insert().values(**row))


def finish_unscored(
    engine: sa.Engine,
    claim: ClaimedInstance,
    state: InstanceState,
    reason: str,
    text: str,
    policy: Policy,
    now: datetime,
    measured: Measured = NOT_MEASURED,
) -> bool:
    """INELIGIBLE or FAILED with its reason; the study stays on the list. False when the claim was lost meanwhile."""
    kind = Kind.INELIGIBLE if state is InstanceState.INELIGIBLE else Kind.FAILED
    with connect.writing(engine) as tx:
        rules = in_force(tx, policy)
        if reason == OUT_OF_DISTRIBUTION and measured.distance is not None and not rules.leaves(measured.distance):
            # What left it out went out of force while it was looked at: it is looked at again, as one more try.
            _give_up(tx, claim, timedelta(0), instances.c.attempts, now)
            return False
        left = _leave(tx, claim, state, measured, reason, text)
        if left is None:
            return False
        words = "not scored" if state is InstanceState.INELIGIBLE else "could not be scored"
        record(tx, kind, f"{words}: {text}", now, study=left.study_uid, instance=claim.instance.sop_instance_uid, rule=reason)
        replace_study(tx, left.study_uid, rules, now)
    return True


def put_back(engine: sa.Engine, claim: ClaimedInstance, delay: timedelta, now: datetime, *, counted: bool = True) -> None:
    """Give the claim up; the instance is tried again after `delay`. `counted`: as a try of this image, not as a fault of the machine."""
    with connect.writing(engine) as tx:
        _give_up(tx, claim, delay, instances.c.attempts if counted else instances.c.attempts - 1, now)


def _give_up(tx: sa.Connection, claim: ClaimedInstance, delay: timedelta, attempts: sa.ColumnElement[int], now: datetime) -> None:
    owned = leases.owned(instances, claim.instance.sop_instance_uid, claim.worker)
    tx.execute(instances.update().where(owned).values(claimed_by=None, claimed_until=None, not_before=now + delay, attempts=attempts))


def requeue(engine: sa.Engine, uid: str, actor: str, policy: Policy, now: datetime) -> int:
    """Score again what is FAILED or INELIGIBLE of a study (or one instance); returns how many instances."""
    with connect.writing(engine) as tx:
        rules = in_force(tx, policy)
        rows = tx.execute(
            sa.select(
                instances.c.sop_instance_uid,
                instances.c.study_uid,
                instances.c.state,
                instances.c.reason,
                instances.c.pixels_deleted_at,
            ).where(sa.or_(instances.c.study_uid == uid, instances.c.sop_instance_uid == uid))
        ).all()
        if not rows:
            raise NotFound(f"no study or instance {uid} in the ledger")
        again = [row for row in rows if row.state in AGAIN and row.reason != SET_ASIDE]
        if not again:
            raise NotAllowed(f"{uid} holds no failed or unscored instance; there is nothing to score again")
        gone = [row for row in again if row.pixels_deleted_at is not None]
        if gone:
            raise NotAllowed(f"the pixels of {uid} were deleted after reading; send the study again")
        score_again(tx, [(row.sop_instance_uid, row.study_uid) for row in again], actor, rules, now)
        return len(again)


def score_again(
    tx: sa.Connection,
    named: Sequence[tuple[str, str]],
    actor: str,
    rules: InForce,
    now: datetime,
    said: str = "to be scored again",
    attempts: int = 0,
) -> None:
    """Instances, each with its study, wait for their score once more; with `attempts` 1 after those that wait for their first."""
    for uid, study_uid in named:
        tx.execute(
            instances.update()
            .where(instances.c.sop_instance_uid == uid)
            .values(state=InstanceState.RECEIVED, reason="", reason_text="", attempts=attempts, not_before=None)
        )
        record(tx, Kind.REQUEUED, said, now, study=study_uid, instance=uid, actor=actor)
    for study_uid in sorted({study_uid for _, study_uid in named}):
        replace_study(tx, study_uid, rules, now)


@dataclass(frozen=True, slots=True, kw_only=True)
class Requeued:
    """What was asked to be scored again, counted in images."""

    again: int
    gone: int
    """Those that cannot be: their pixels were deleted after reading."""


def requeue_failed(engine: sa.Engine, actor: str, policy: Policy, now: datetime) -> Requeued:
    """Score again every image that failed and still has its pixels, some studies at a time, so that films may come in between."""
    wanted = failed_ones(instances.c.sop_instance_uid, instances.c.study_uid, instances.c.pixels_deleted_at)
    with connect.reading(engine) as tx:
        rows = tx.execute(wanted).all()
    uids = sorted({row.study_uid for row in rows if row.pixels_deleted_at is None})
    again = 0
    for first in range(0, len(uids), A_TURN):
        with connect.writing(engine) as tx:
            rules = in_force(tx, policy)
            still = instances.c.study_uid.in_(uids[first : first + A_TURN]) & instances.c.pixels_deleted_at.is_(None)
            ones = sa.select(instances.c.sop_instance_uid, instances.c.study_uid).where(still, instances.c.state == InstanceState.FAILED)
            found = [(row.sop_instance_uid, row.study_uid) for row in tx.execute(ones)]
            score_again(tx, found, actor, rules, now)
            again += len(found)
    return Requeued(again=again, gone=sum(row.pixels_deleted_at is not None for row in rows))


def discard_failed(engine: sa.Engine, uid: str, actor: str, reason: str, policy: Policy, now: datetime) -> int:
    """Give up what FAILED of a study (or one instance): not scored, with why; returns how many instances.

    The study stays on the list, by what its other images say or in order of arrival. Raises NotFound, NotAllowed.
    """
    reason = " ".join(reason.split())
    if not 0 < len(reason) <= LONGEST_REASON:
        raise NotAllowed(f"say why it is discarded, in at most {LONGEST_REASON} characters; it is kept")
    text, state = f"{DISCARDED}: {reason}", InstanceState.INELIGIBLE
    meant = sa.or_(instances.c.study_uid == uid, instances.c.sop_instance_uid == uid)
    may = (instances.c.state == InstanceState.FAILED) & instances.c.state.in_(states_before(INSTANCE_TRANSITIONS, state))
    with connect.writing(engine) as tx:
        rules = in_force(tx, policy)
        told = instances.update().where(meant, may).values(state=state, reason=DISCARDED, reason_text=text)
        rows = tx.execute(told.returning(instances.c.sop_instance_uid, instances.c.study_uid)).all()
        if not rows:
            there = tx.scalar(sa.select(sa.literal(1)).where(sa.select(instances.c.state).where(meant).exists()))
            raise NotAllowed(f"{uid} holds no failed image that could be discarded") if there else NotFound(f"no study or image {uid}")
        for row in rows:
            said = f"not scored: {text}"
            record(tx, Kind.INELIGIBLE, said, now, study=row.study_uid, instance=row.sop_instance_uid, actor=actor, rule=DISCARDED)
        replace_study(tx, rows[0].study_uid, rules, now)
        return len(rows)


def another_bundle(engine: sa.Engine, policy: Policy, now: datetime) -> int:
    """When this bundle takes over from another: open studies that the other scored or refused are scored again; returns how many.

    A bundle that served before counts one more activation, so that what it scores now is told from what it scored then.
    """
    if policy.own is None:
        return 0
    with connect.writing(engine) as tx:
        last = tx.scalar(sa.select(scores.c.bundle_digest).order_by(scores.c.id.desc()).limit(1))
        if last is None or last == policy.bundle_digest:
            return 0
        in_force(tx, policy, alone=True)
        number = called_back(tx, policy.bundle_digest)
        said = f"bundle {policy.bundle_digest[:12]} serves now, after bundle {last[:12]} (activation {number})"
        record(tx, Kind.BUNDLE_CHANGED, said, now, before=last, to=policy.bundle_digest, activation=number)
        uids = tx.scalars(_judged().order_by(studies.c.study_uid)).all()
    for first in range(0, len(uids), A_TURN):
        with connect.writing(engine) as tx:
            rules = in_force(tx, policy)
            for uid in uids[first : first + A_TURN]:
                _judge_again(tx, uid)
                replace_study(tx, uid, rules, now)
    return len(uids)


def _judged() -> sa.Select[str]:
    """Open studies with an image that a bundle scored, or left out as beyond its scope."""
    by_bundle = instances.c.state.in_((InstanceState.SCORED, InstanceState.INELIGIBLE)) & (instances.c.reason != OWN_OBJECT)
    found = sa.select(sa.literal(1)).where(instances.c.study_uid == studies.c.study_uid, by_bundle).exists()
    return sa.select(studies.c.study_uid).where(in_view(View.OPEN), found)


def _judge_again(tx: sa.Connection, study_uid: str) -> None:
    """What was outside another bundle's scope may be inside this one's."""
    tx.execute(
        instances.update()
        .where(
            instances.c.study_uid == study_uid, instances.c.state == InstanceState.INELIGIBLE,
            instances.c.reason.not_in((OWN_OBJECT, SET_ASIDE, DISCARDED)), instances.c.pixels_deleted_at.is_(None),
        )
        .values(state=InstanceState.RECEIVED, reason="", reason_text="", attempts=0, not_before=None)
    )  # fmt: skip


def hold_unread(tx: sa.Connection) -> Sequence[str]:
    """Every unread study's UID, the rows held in one order until the commit."""
    unread = sa.select(studies.c.study_uid).where(studies.c.reading_state != ReadingState.READ)
    return tx.scalars(unread.order_by(studies.c.study_uid).with_for_update()).all()


def place_unread(tx: sa.Connection, policy: Policy, now: datetime) -> int:
    """Every unread study takes the place that these rules, as they are in force, give it; returns how many moved."""
    suspended = high_suspended(tx, policy)
    return sum(put_in_place(tx, uid, policy, now, suspended=suspended) for uid in hold_unread(tx))


def rerank_open(engine: sa.Engine, policy: Policy, why: str, now: datetime, actor: str = "prioritizer") -> int:
    """Every unread study takes the place that `policy` gives it, in one transaction; returns how many moved."""
    with connect.writing(engine) as tx:
        ranking_policy.remember(tx, policy)
        policy = in_force(tx, policy).policy
        moved = place_unread(tx, policy, now)
        if moved:
            record(tx, Kind.RERANKED, f"{moved} studies re-ranked: {why}", now, actor=actor)
        return moved
