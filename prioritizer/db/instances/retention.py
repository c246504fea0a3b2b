"""What may be deleted, by state, and how fast the spool grows. Nothing unread, unscored or undelivered ever is.

A file is marked in the ledger before it is unlinked, by the very conditions that allow it: an image that came meanwhile, or a study
that was opened again, is not deleted by a question asked before.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa

from prioritizer.db.schema import connect
from prioritizer.db.schema.events import Kind, record
from prioritizer.db.schema.tables import deliveries, differing_copies, instances, results, studies
from prioritizer.states import DeliveryState, InstanceState, ReadingState
from prioritizer.study import AIState, Hold

log = logging.getLogger(__name__)
MEASURED = timedelta(days=7)
"""The growth of the spool is that of so long."""


@dataclass(frozen=True, slots=True)
class Deadlines:
    """What is older than these may be deleted; `unread_before` only at a site where nobody reads here."""

    read_before: datetime
    unread_before: datetime | None = None


def mark_deletable(engine: sa.Engine, deadlines: Deadlines, now: datetime, limit: int = 100) -> list[str]:
    """Mark the pixels that may leave the spool as deleted, oldest first; returns their SOP Instance UIDs, to be unlinked."""
    with connect.writing(engine) as tx:
        chosen = _deletable(deadlines).order_by(sa.func.coalesce(studies.c.read_at, studies.c.last_received_at)).limit(limit)
        rows = tx.execute(chosen.with_for_update(of=[instances, studies], skip_locked=True)).all()
        for row in rows:
            mine = instances.c.sop_instance_uid == row.sop_instance_uid
            tx.execute(instances.update().where(mine).values(pixels_deleted_at=now, file_fault=""))
            said = "pixels deleted after reading and delivery" if row.reading_state == ReadingState.READ else (
                "pixels deleted: the site is in stage shadow, and keeps what is not read here for so long"
            )  # fmt: skip
            record(tx, Kind.PIXELS_DELETED, said, now, study=row.study_uid, instance=row.sop_instance_uid)
        return [row.sop_instance_uid for row in rows]


def _deletable(deadlines: Deadlines) -> sa.Select[tuple[str, str, str]]:
    """Instances with nothing left to read, score, send or decide."""
    unsent = sa.select(sa.literal(1)).where(
        deliveries.c.study_uid == studies.c.study_uid, deliveries.c.state.in_([DeliveryState.PENDING, DeliveryState.REJECTED])
    )
    waits = sa.or_(sa.text("differing_copies.state = 'WAITING'"), sa.text("differing_copies.state = 'TAKING'"))
    undecided = sa.select(sa.literal(1)).where(differing_copies.c.study_uid == studies.c.study_uid, waits)
    published = sa.or_(studies.c.revision == studies.c.published_revision, studies.c.ai_state != AIState.SCORED)
    old = sa.and_(studies.c.reading_state == ReadingState.READ, studies.c.read_at < deadlines.read_before)
    if deadlines.unread_before is not None:
        unread = sa.and_(studies.c.reading_state == ReadingState.OPEN, studies.c.last_received_at < deadlines.unread_before)
        old = sa.or_(old, sa.and_(unread, studies.c.expired_at.is_not(None)))
    return (
        sa.select(instances.c.sop_instance_uid, instances.c.study_uid, studies.c.reading_state)
        .join(studies, studies.c.study_uid == instances.c.study_uid)
        .where(
            old, published, studies.c.held != Hold.IDENTITY, instances.c.state != InstanceState.RECEIVED,
            instances.c.pixels_deleted_at.is_(None), ~unsent.exists(), ~undecided.exists(),
        )
    )  # fmt: skip


def unlink_marked(engine: sa.Engine, uids: Sequence[str], unlink: Callable[[str], object]) -> int:
    """Unlink the files of these instances that are still marked as deleted, also where a crash came between mark and unlink.

    Returns how many the disk did not delete: the others go on.

    The row is held meanwhile: an image that comes again enters before or after this, and its file is never the one that goes.
    """
    left = 0
    for uid in uids:  # each alone: no writer waits for more than one file
        with connect.writing(engine) as tx:
            mine = (instances.c.sop_instance_uid == uid) & instances.c.pixels_deleted_at.is_not(None)
            if not tx.scalar(sa.select(instances.c.sop_instance_uid).where(mine).with_for_update()):
                continue
            try:
                unlink(uid)
            except OSError as error:
                left += 1
                log.error("a file cannot be deleted (%s)", error.strerror or type(error).__name__, extra={"event": "retention-waits"})
    return left


def delete_result_bytes(engine: sa.Engine, sent_before: datetime, now: datetime, limit: int = 100) -> int:
    """Forget the bytes of results that every destination took before then; the same bytes can be built again. Returns how many."""
    unfinished = sa.select(sa.literal(1)).where(
        deliveries.c.result_uid == results.c.sop_instance_uid,
        sa.or_(deliveries.c.state.in_([DeliveryState.PENDING, DeliveryState.REJECTED]), deliveries.c.sent_at >= sent_before),
    )
    old = sa.and_(results.c.data_deleted_at.is_(None), results.c.built_at < sent_before, ~unfinished.exists())
    with connect.writing(engine) as tx:
        chosen = sa.select(results.c.sop_instance_uid).where(old).order_by(results.c.built_at).limit(limit)
        uids = tx.scalars(chosen.with_for_update(skip_locked=True)).all()
        tx.execute(results.update().where(results.c.sop_instance_uid.in_(uids)).values(data=b"", data_deleted_at=now))
        return len(uids)


def growth(engine: sa.Engine, now: datetime) -> float:
    """Bytes a day by which the spool grows: what came in the last week less what was deleted in it; negative where it shrinks."""
    with connect.reading(engine) as tx:
        first = tx.scalar(sa.select(sa.func.min(studies.c.first_received_at))) or now
        since = max(now - MEASURED, first)
        size = sa.func.coalesce(sa.func.sum(instances.c.size), 0)
        recent = sa.select(studies.c.study_uid).where(studies.c.last_received_at > since)
        came = tx.scalar(sa.select(size).where(instances.c.study_uid.in_(recent), instances.c.received_at > since)) or 0
        went = tx.scalar(sa.select(size).where(instances.c.pixels_deleted_at > since)) or 0
    days = max((now - since) / timedelta(days=1), 1.0)
    return float(came - went) / days
