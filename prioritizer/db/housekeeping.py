"""Alarms that stand until their cause is gone, and retention by state."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from prioritizer.db import connect
from prioritizer.db.events import Kind, record
from prioritizer.db.tables import alarms, deliveries, instances, studies
from prioritizer.study import AIState, DeliveryState, InstanceState, ReadingState

CLAIMABLE = (instances, studies, deliveries)


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """What an operator must know, and the mend."""

    name: str
    said: str
    mend: str


def stand(engine: sa.Engine, managed: Sequence[str], standing: Sequence[Alarm], now: datetime) -> None:
    """Of the alarms named in `managed`, exactly `standing` stand after this; each since the first time it was set."""
    wanted = {alarm.name: alarm for alarm in standing}
    with connect.reading(engine) as tx:
        before = {row.name: row for row in tx.execute(sa.select(alarms).where(alarms.c.name.in_(managed)))}
    same = all(name in before and (before[name].said, before[name].mend) == (a.said, a.mend) for name, a in wanted.items())
    if same and before.keys() == wanted.keys():
        return
    with connect.writing(engine) as tx:
        tx.execute(alarms.delete().where(alarms.c.name.in_(managed), alarms.c.name.not_in(list(wanted))))
        for name, alarm in wanted.items():
            done = tx.execute(alarms.update().where(alarms.c.name == name).values(said=alarm.said, mend=alarm.mend))
            if not done.rowcount:
                tx.execute(alarms.insert().values(name=name, since=now, said=alarm.said, mend=alarm.mend))


def deletable_pixels(engine: sa.Engine, read_before: datetime, limit: int = 100) -> list[tuple[str, str]]:
    """Instances of studies read before `read_before` with nothing left to score or send: (SOP instance UID, study UID), oldest first."""
    unsent = (
        sa.select(sa.literal(1))
        .where(
            deliveries.c.study_uid == studies.c.study_uid,
            deliveries.c.state.in_([DeliveryState.PENDING, DeliveryState.REJECTED]),
        )
        .exists()
    )
    settled = sa.or_(studies.c.revision == studies.c.published_revision, studies.c.ai_state != AIState.SCORED)
    query = (
        sa.select(instances.c.sop_instance_uid, instances.c.study_uid)
        .join(studies, studies.c.study_uid == instances.c.study_uid)
        .where(
            studies.c.reading_state == ReadingState.READ,
            studies.c.read_at < read_before,
            settled,
            instances.c.state != InstanceState.RECEIVED,
            instances.c.pixels_deleted_at.is_(None),
            ~unsent,
        )
        .order_by(studies.c.read_at)
        .limit(limit)
    )
    with connect.reading(engine) as tx:
        return [(row.sop_instance_uid, row.study_uid) for row in tx.execute(query)]


def claim_holders(engine: sa.Engine) -> set[str]:
    """Every worker that holds a claim on an instance, a study or a delivery."""
    with connect.reading(engine) as tx:
        held = [sa.select(table.c.claimed_by).where(table.c.claimed_by.is_not(None)) for table in CLAIMABLE]
        return {worker for query in held for worker in tx.scalars(query)}


def end_claims(engine: sa.Engine, workers: Collection[str]) -> int:
    """Give back at once what these workers hold, for they are gone; returns how many claims."""
    with connect.writing(engine) as tx:
        return sum(
            tx.execute(table.update().where(table.c.claimed_by.in_(workers)).values(claimed_by=None, claimed_until=None)).rowcount
            for table in CLAIMABLE
        )


def mark_pixels_deleted(engine: sa.Engine, deleted: Sequence[tuple[str, str]], now: datetime) -> None:
    """The ledger no longer expects these files in the spool."""
    with connect.writing(engine) as tx:
        for uid, study_uid in deleted:
            tx.execute(instances.update().where(instances.c.sop_instance_uid == uid).values(pixels_deleted_at=now))
            record(tx, Kind.PIXELS_DELETED, "pixels deleted after reading and delivery", now, study=study_uid, instance=uid)


def digest_of(engine: sa.Engine, after_uid: str) -> tuple[str, str] | None:
    """The next instance whose file can be checked: (SOP instance UID, SHA-256); None at the end."""
    query = (
        sa.select(instances.c.sop_instance_uid, instances.c.sha256)
        .where(instances.c.sop_instance_uid > after_uid, instances.c.pixels_deleted_at.is_(None))
        .order_by(instances.c.sop_instance_uid)
        .limit(1)
    )
    with connect.reading(engine) as tx:
        row = tx.execute(query).one_or_none()
    return None if row is None else (row.sop_instance_uid, row.sha256)
