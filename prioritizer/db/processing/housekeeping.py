"""Alarms that stand until their cause is gone, claims of workers that are gone, and digests to be looked at."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from prioritizer.db.schema import connect
from prioritizer.db.schema.tables import alarms, deliveries, instances, studies

CLAIMABLE = (instances, studies, deliveries)


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """What an operator must know, who acts on it, and what they do first."""

    name: str
    said: str
    mend: str


def stand(engine: sa.Engine, managed: Sequence[str], standing: Sequence[Alarm], now: datetime) -> None:
    """Of the alarms named in `managed`, exactly `standing` stand after this; each since the first time it was set."""
    wanted = {alarm.name: alarm for alarm in standing}
    with connect.reading(engine) as tx:
        before = {row.name: row for row in tx.execute(sa.select(alarms).where(alarms.c.name.in_(managed)))}
    same = all(name in before and (before[name].said, before[name].mend) == (alarm.said, alarm.mend) for name, alarm in wanted.items())
    if same and before.keys() == wanted.keys():
        return
    with connect.writing(engine) as tx:
        tx.execute(alarms.delete().where(alarms.c.name.in_(managed), alarms.c.name.not_in(list(wanted))))
        for name, alarm in wanted.items():
            texts = {"said": alarm.said, "mend": alarm.mend}
            done = tx.execute(alarms.update().where(alarms.c.name == name).values(texts))
            if not done.rowcount:
                tx.execute(alarms.insert().values(name=name, since=now, **texts))


def claim_holders(engine: sa.Engine) -> set[str]:
    """Every worker that holds a claim on an instance, a study or a delivery."""
    with connect.reading(engine) as tx:
        held = [sa.select(table.c.claimed_by).where(table.c.claimed_by.is_not(None)) for table in CLAIMABLE]
        return {worker for query in held for worker in tx.scalars(query)}


def end_claims(engine: sa.Engine, workers: Collection[str]) -> int:
    """Give back at once what these workers hold, for they are gone, and count it as no try; returns how many claims."""
    with connect.writing(engine) as tx:
        free: dict[sa.Table, dict[str, Any]] = {
            table: {"claimed_by": None, "claimed_until": None, "attempts": table.c.attempts - 1} for table in CLAIMABLE
        }
        return sum(tx.execute(table.update().where(table.c.claimed_by.in_(workers)).values(free[table])).rowcount for table in CLAIMABLE)


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
