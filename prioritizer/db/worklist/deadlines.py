"""What passes by itself: claims end, studies become overdue and expire."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa

from prioritizer.db.schema import connect
from prioritizer.db.schema.columns import NO_READER
from prioritizer.db.schema.events import Kind, record
from prioritizer.db.schema.tables import studies
from prioritizer.db.worklist.reading import held_in_order, set_values
from prioritizer.states import ReadingState


def end_expired_claims(engine: sa.Engine, now: datetime) -> int:
    """Claims whose lease ran out become OPEN again; returns how many."""
    with connect.writing(engine) as tx:
        rows = tx.execute(
            sa.select(studies.c.study_uid, studies.c.reader)
            .where(studies.c.reading_state == ReadingState.CLAIMED, studies.c.reader_until <= now)
            .order_by(studies.c.study_uid)
            .with_for_update()
        ).all()
        for row in rows:
            set_values(tx, row.study_uid, reading_state=ReadingState.OPEN, **NO_READER)
            record(tx, Kind.LEASE_ENDED, f"the claim of {row.reader} ran out", now, study=row.study_uid, holder=row.reader)
        return len(rows)


def mark_overdue(engine: sa.Engine, now: datetime) -> int:
    """Unread studies past their deadline are marked and told once; returns how many are newly overdue."""
    with connect.writing(engine) as tx:
        late = sa.and_(
            studies.c.listed, studies.c.reading_state != ReadingState.READ, studies.c.overdue_at.is_(None),
            ~studies.c.stat, studies.c.due_at < now,
        )  # fmt: skip
        rows = held_in_order(tx, late)
        for uid in rows:
            set_values(tx, uid, overdue_at=now)
            record(tx, Kind.OVERDUE, "overdue", now, study=uid)
        return len(rows)


def expire(engine: sa.Engine, older_than: datetime, now: datetime) -> int:
    """Unread studies whose last image arrived before `older_than` move to their own view, with an alarm; returns how many do now.

    One that a person pinned or opened again since then stays: they put it on the list.
    """
    with connect.writing(engine) as tx:
        old = sa.and_(
            studies.c.listed, studies.c.reading_state != ReadingState.READ, studies.c.expired_at.is_(None),
            studies.c.last_received_at < older_than, sa.or_(studies.c.listed_since.is_(None), studies.c.listed_since < older_than),
        )  # fmt: skip
        rows = held_in_order(tx, old)
        for uid in rows:
            set_values(tx, uid, expired_at=now)
            record(tx, Kind.EXPIRED, "open for longer than the site allows: moved to the view of expired studies", now, study=uid)
        return len(rows)
