"""What a start of the daemon does to studies: another bundle scores them again, and every unread one is placed by what is in force."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa

from prioritizer.config.policy import SitePolicy
from prioritizer.db.in_force import site_policy
from prioritizer.db.in_force.calibration import called_back, in_force
from prioritizer.db.list_order.order import View, in_view
from prioritizer.db.list_order.placement import high_suspended, put_in_place, replace_study
from prioritizer.db.processing.requeue import A_TURN, DISCARDED
from prioritizer.db.schema import connect
from prioritizer.db.schema.events import Kind, record
from prioritizer.db.schema.instance_rows import OWN_OBJECT, SET_ASIDE
from prioritizer.db.schema.tables import instances, scores, studies
from prioritizer.states import InstanceState, ReadingState


def another_bundle(engine: sa.Engine, policy: SitePolicy, now: datetime) -> int:
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


def place_unread(tx: sa.Connection, policy: SitePolicy, now: datetime) -> int:
    """Every unread study takes the place that these rules, as they are in force, give it; returns how many moved."""
    suspended = high_suspended(tx, policy.ranking)
    return sum(put_in_place(tx, uid, policy.ranking, now, suspended=suspended) for uid in hold_unread(tx))


def rerank_open(engine: sa.Engine, policy: SitePolicy, why: str, now: datetime, actor: str = "prioritizer") -> int:
    """Every unread study takes the place that `policy` gives it, in one transaction; returns how many moved."""
    with connect.writing(engine) as tx:
        site_policy.remember(tx, policy)
        policy = in_force(tx, policy).policy
        moved = place_unread(tx, policy, now)
        if moved:
            record(tx, Kind.RERANKED, f"{moved} studies re-ranked: {why}", now, actor=actor)
        return moved
