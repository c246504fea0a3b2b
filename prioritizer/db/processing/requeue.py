"""Failed work is tried again, or discarded with a reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from prioritizer.config.policy import SitePolicy
from prioritizer.db.activity.queues import failed_ones
from prioritizer.db.in_force.calibration import PolicyInForce, in_force
from prioritizer.db.list_order.placement import replace_study
from prioritizer.db.schema import connect
from prioritizer.db.schema.events import Kind, record
from prioritizer.db.schema.instance_rows import SET_ASIDE
from prioritizer.db.schema.tables import instances
from prioritizer.errors import NotAllowed, NotFound
from prioritizer.states import INSTANCE_TRANSITIONS, InstanceState, states_before

AGAIN = (InstanceState.FAILED, InstanceState.INELIGIBLE)
"""What a person may have scored again: a score that there is would come out the same."""
DISCARDED = "discarded"
"""The reason of an instance that failed and that a person gave up: no other bundle looks at it by itself."""
MAX_REASON = 300
A_TURN = 50
"""Studies that one transaction takes back, so that films may come in between."""


def requeue(engine: sa.Engine, uid: str, actor: str, policy: SitePolicy, now: datetime) -> int:
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
    rules: PolicyInForce,
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


def requeue_failed(engine: sa.Engine, actor: str, policy: SitePolicy, now: datetime) -> Requeued:
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


def discard_failed(engine: sa.Engine, uid: str, actor: str, reason: str, policy: SitePolicy, now: datetime) -> int:
    """Give up what FAILED of a study (or one instance): not scored, with why; returns how many instances.

    The study stays on the list, by what its other images say or in order of arrival. Raises NotFound, NotAllowed.
    """
    reason = " ".join(reason.split())
    if not 0 < len(reason) <= MAX_REASON:
        raise NotAllowed(f"say why it is discarded, in at most {MAX_REASON} characters; it is kept")
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
