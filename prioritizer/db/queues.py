"""What waits for each station, since when, and how much it did in the last hour. Read only."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa

from prioritizer.db import connect
from prioritizer.db.events import Kind
from prioritizer.db.tables import deliveries, events, instances

TO_SCORE = "images to score"
"""No destination can be called so."""
LAST = timedelta(hours=1)
# The words of the partial indexes, so that both databases use them.
UNSCORED = sa.text("state = 'RECEIVED'")
UNSENT = sa.text("state = 'PENDING'")


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """What waits."""

    waiting: int
    oldest: datetime | None
    """Since when the oldest does."""


NOTHING = Queue(waiting=0, oldest=None)


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


DONE = {
    "receive": ("studies", (Kind.ARRIVED,)),
    "score": ("images", (Kind.SCORED, Kind.INELIGIBLE, Kind.FAILED)),
    "publish": ("results", (Kind.PUBLISHED,)),
}
"""What each station makes, and the events by which it is counted."""


def done(engine: sa.Engine, now: datetime) -> dict[str, str]:
    """What each station of `DONE` did in the last hour, in words."""
    kinds = [kind for _, found in DONE.values() for kind in found]
    query = sa.select(events.c.kind, sa.func.count()).where(events.c.kind.in_(kinds), events.c.at >= now - LAST).group_by(events.c.kind)
    with connect.reading(engine) as tx:
        counts: dict[str, int] = {row[0]: row[1] for row in tx.execute(query)}
    return {name: f"{sum(counts.get(kind, 0) for kind in found)} {what}" for name, (what, found) in DONE.items()}
