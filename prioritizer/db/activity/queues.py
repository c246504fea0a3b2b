"""What waits for each worker, what could not be done, and how much each did in the last hour. Read only."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Generic, TypeVar

import sqlalchemy as sa

from prioritizer.db.schema import connect
from prioritizer.db.schema.events import ITSELF, Kind
from prioritizer.db.schema.tables import deliveries, events, instances, studies
from prioritizer.db.worklist.rows import DeliveryRow, delivery_columns
from prioritizer.states import InstanceState
from prioritizer.study import HELD_WORDS, AIState

Shown = TypeVar("Shown")

TO_SCORE = "images to score"
"""No destination can be called so."""
LAST = timedelta(hours=1)
LOOK_BACK = timedelta(days=30)
# The words of the partial indexes, so that both databases use them.
UNSCORED = sa.text("state = 'RECEIVED'")
UNSENT = sa.text("state = 'PENDING'")
UNFINISHED = sa.text("state IN ('PENDING', 'REJECTED')")
MAX_COUNTED = 1000
"""Beyond this nobody asks how many: counting would read them all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedInstance:
    """An instance that could not be scored, for the operator."""

    study_uid: str
    sop_instance_uid: str
    calling_ae: str
    reason: str
    reason_text: str
    received_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """What waits."""

    waiting: int
    oldest: datetime | None
    """Since when the oldest does."""


NOTHING = Queue(waiting=0, oldest=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Some(Generic[Shown]):
    """The first of a list, and how many there are in all."""

    rows: list[Shown]
    total: int
    """Counted up to `MAX_COUNTED`; one more stands for more."""
    which: str = "newest"
    """Those that are shown."""

    @property
    def cut(self) -> str:
        """Which part of the list is shown; empty where all of it is."""
        if len(self.rows) >= self.total:
            return ""
        return f"the {self.which} {len(self.rows)} of {self.total if self.total <= MAX_COUNTED else f'more than {MAX_COUNTED}'}"


def counted(tx: sa.Connection, query: sa.Select[Any]) -> int:
    """How many rows a query finds, counted up to one more than `MAX_COUNTED`."""
    some = query.order_by(None).limit(MAX_COUNTED + 1).subquery()
    return tx.scalar(sa.select(sa.func.count()).select_from(some)) or 0


def failed_ones(*columns: sa.ColumnElement[Any]) -> sa.Select[Any]:
    """Instances that are FAILED, found by what was written down when they failed: no index of `instances` holds this state.

    Of one whose header could not be read nothing was written down; it is alone in its study, which failed with it.
    """
    failed = InstanceState.FAILED
    told = sa.select(events.c.sop_instance_uid).where(events.c.kind == Kind.FAILED)
    alone = sa.select(instances.c.sop_instance_uid).join(studies, studies.c.study_uid == instances.c.study_uid)
    either = sa.union(told, alone.where(studies.c.ai_state == failed)).subquery()
    return sa.select(*columns).where(instances.c.sop_instance_uid.in_(sa.select(either.c.sop_instance_uid)), instances.c.state == failed)


def failed_instances(engine: sa.Engine, limit: int) -> Some[FailedInstance]:
    """Images that could not be scored, the newest first."""
    query = failed_ones(*(instances.c[name] for name in FailedInstance.__dataclass_fields__))
    newest = query.order_by(instances.c.received_at.desc(), instances.c.sop_instance_uid).limit(limit)
    with connect.reading(engine) as tx:
        rows = [FailedInstance(**row._mapping) for row in tx.execute(newest)]
        return Some(rows=rows, total=counted(tx, query) if len(rows) == limit else len(rows))


def unfinished_deliveries(engine: sa.Engine, limit: int) -> Some[DeliveryRow]:
    """Results that wait or were refused: the refused ones first, of each the oldest first."""
    query = sa.select(*delivery_columns()).where(UNFINISHED)
    first = query.order_by(deliveries.c.state.desc(), deliveries.c.created_at, deliveries.c.id).limit(limit)
    with connect.reading(engine) as tx:
        rows = [DeliveryRow(**row._mapping) for row in tx.execute(first)]
        return Some(rows=rows, total=counted(tx, query) if len(rows) == limit else len(rows), which="first")


@dataclass(frozen=True, slots=True, kw_only=True)
class Unpublished:
    """A scored study whose result could not be built."""

    study_uid: str
    reason_text: str
    again: bool
    """It is tried again by itself."""


def unpublished(engine: sa.Engine, now: datetime, limit: int) -> list[Unpublished]:
    """Studies of the last 30 days whose result could not be built, the newest failure first."""
    failed = sa.select(events.c.study_uid, sa.func.max(events.c.id).label("newest"))
    recent = failed.where(events.c.kind == Kind.UNPUBLISHED, events.c.at >= now - LOOK_BACK).group_by(events.c.study_uid).subquery()
    again = studies.c.revision > studies.c.published_revision
    query = sa.select(studies.c.study_uid, studies.c.publish_error.label("reason_text"), again.label("again"))
    found = query.join(recent, recent.c.study_uid == studies.c.study_uid).where(studies.c.publish_error != "")
    with connect.reading(engine) as tx:
        return [Unpublished(**row._mapping) for row in tx.execute(found.order_by(recent.c.newest.desc()).limit(limit))]


def why_unpublished(engine: sa.Engine, study_uid: str) -> str:
    """Why a study has no result, or none is sent now; empty where nothing stood in the way."""
    with connect.reading(engine) as tx:
        row = tx.execute(sa.select(studies.c.publish_error, studies.c.held).where(studies.c.study_uid == study_uid)).one_or_none()
    if row is None:
        return ""
    return HELD_WORDS.get(row.held) or row.publish_error or ""


def queues(engine: sa.Engine) -> dict[str, Queue]:
    """Images that wait for their score (`TO_SCORE`), and results by the name of their destination."""
    unscored = sa.select(sa.func.count(), sa.func.min(instances.c.received_at)).select_from(instances).where(UNSCORED)
    unsent = sa.select(deliveries.c.destination, sa.func.count(), sa.func.min(deliveries.c.created_at)).where(UNSENT)
    with connect.reading(engine) as tx:
        count, oldest = tx.execute(unscored).one()
        found = {TO_SCORE: Queue(waiting=count, oldest=oldest)}
        for name, waiting, since in tx.execute(unsent.group_by(deliveries.c.destination)):
            found[name] = Queue(waiting=waiting, oldest=since)
    return found


def results_late(engine: sa.Engine, before: datetime) -> int:
    """Scored studies whose result was due to be built before then, and was not."""
    late = sa.and_(
        sa.text("revision > published_revision"), studies.c.not_before < before, studies.c.ai_state == AIState.SCORED, studies.c.held == ""
    )
    with connect.reading(engine) as tx:
        return counted(tx, sa.select(studies.c.study_uid).where(late))


DONE = {
    "receive": ("studies", (Kind.ARRIVED,)),
    "score": ("images", (Kind.SCORED, Kind.INELIGIBLE, Kind.FAILED)),
    "publish": ("results", (Kind.PUBLISHED,)),
}
"""What each worker makes, and the events by which it is counted."""


def done(engine: sa.Engine, now: datetime) -> dict[str, str]:
    """What each worker of `DONE` did in the last hour, in words."""
    kinds = [kind for _, found in DONE.values() for kind in found]
    # An image that a person gives up is told as not scored, too: no worker did that.
    mine = events.c.kind.in_(kinds) & (events.c.at >= now - LAST) & (events.c.actor == ITSELF)
    query = sa.select(events.c.kind, sa.func.count()).where(mine).group_by(events.c.kind)
    with connect.reading(engine) as tx:
        counts: dict[str, int] = {row[0]: row[1] for row in tx.execute(query)}
    return {name: f"{sum(counts.get(kind, 0) for kind in found)} {what}" for name, (what, found) in DONE.items()}
