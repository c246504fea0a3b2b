"""The counts above the list."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from prioritizer.db.list_order.order import View, in_view, is_overdue
from prioritizer.db.schema import connect
from prioritizer.db.schema.tables import deliveries, studies
from prioritizer.ranking.deadlines import RankingPolicy
from prioritizer.states import DeliveryState


@dataclass(frozen=True, slots=True, kw_only=True)
class WorklistCounts:
    """The figures above the list."""

    open: int
    overdue: int
    overdue_by_arrival: int
    """Past the deadline that arrival alone gives: what a list without AI tells."""
    raised: int
    waiting: int
    not_scored: int
    failed: int
    expired: int
    unsent: int
    rejected: int
    recent: int
    """Arrived within `RECENT`."""
    claims: Mapping[str, int]
    """Open studies that each reader has."""
    oldest: datetime | None
    last_arrival: datetime | None
    last_sender: str


RECENT = timedelta(hours=4)
NEUTRAL = RankingPolicy().neutral


def counts(engine: sa.Engine, now: datetime | None = None, neutral: timedelta = NEUTRAL) -> WorklistCounts:
    """Counts over the open list, the deliveries and the last arrival. `neutral`: the window of a study that is not raised."""
    now = now or datetime.now(UTC)

    def when(condition: sa.ColumnElement[bool]) -> sa.ColumnElement[int]:
        return sa.func.coalesce(sa.func.sum(sa.case((condition, 1), else_=0)), 0)

    with connect.reading(engine) as tx:
        listed = tx.execute(
            sa.select(
                sa.func.count(),
                when(is_overdue(now)),
                when(is_overdue(now, neutral)),
                when(studies.c.band == "HIGH"),
                when(studies.c.ai_state == "WAITING"),
                when(studies.c.ai_state == "NOT_SCORED"),
                when(studies.c.ai_state == "FAILED"),
                when(studies.c.first_received_at >= now - RECENT),
                sa.func.min(studies.c.first_received_at),
            ).where(in_view(View.OPEN))
        ).one()
        expired = tx.scalar(sa.select(sa.func.count()).select_from(studies).where(in_view(View.EXPIRED)))
        unfinished = sa.text("state IN ('PENDING', 'REJECTED')")  # the words of the partial index
        each = sa.select(deliveries.c.state, sa.func.count()).where(unfinished).group_by(deliveries.c.state)
        sent: dict[str, int] = {row[0]: row[1] for row in tx.execute(each)}
        newest = sa.select(studies.c.last_received_at, studies.c.calling_ae).order_by(studies.c.last_received_at.desc()).limit(1)
        last = tx.execute(newest).one_or_none()
        held = sa.select(studies.c.reader, sa.func.count()).where(in_view(View.OPEN), studies.c.reader_until > now)
        claims = {row[0]: row[1] for row in tx.execute(held.group_by(studies.c.reader))}
    return WorklistCounts(
        open=listed[0], overdue=listed[1], overdue_by_arrival=listed[2], raised=listed[3], waiting=listed[4], not_scored=listed[5],
        failed=listed[6], recent=listed[7], oldest=listed[8], expired=expired or 0, unsent=sent.get(DeliveryState.PENDING, 0),
        rejected=sent.get(DeliveryState.REJECTED, 0), claims=claims, last_arrival=last[0] if last else None,
        last_sender=last[1] if last else "",
    )  # fmt: skip
