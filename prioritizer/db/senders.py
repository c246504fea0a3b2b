"""Who sends to us: when each was heard last, how much today. Read only."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa

from prioritizer.db import connect
from prioritizer.db.tables import notices, studies

BACK = timedelta(days=30)
"""Further back nobody looks: a sender that was silent for so long is told as such."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """What one AE title sent."""

    calling_ae: str
    last: datetime | None
    """None: nothing in the last 30 days."""
    today: int
    """Studies since the day began."""


def heard(engine: sa.Engine, titles: set[str], day: datetime, now: datetime) -> list[Sent]:
    """The given AE titles and every other that sent something today."""
    recent = sa.select(studies.c.calling_ae, sa.func.count(), sa.func.max(studies.c.last_received_at)).where(
        studies.c.last_received_at >= day
    )
    found = {}
    with connect.reading(engine) as tx:
        for title, count, last in tx.execute(recent.group_by(studies.c.calling_ae)):
            found[title] = Sent(calling_ae=title, last=last, today=count)
        for title in titles - found.keys():
            before = sa.select(studies.c.last_received_at).where(studies.c.calling_ae == title, studies.c.last_received_at >= now - BACK)
            last = tx.scalar(before.order_by(studies.c.last_received_at.desc()).limit(1))
            found[title] = Sent(calling_ae=title, last=last, today=0)
    return [found[title] for title in sorted(found)]


def refused_since(engine: sa.Engine, since: datetime) -> int:
    """Notices of the listener since then: associations, objects and conflicts refused."""
    with connect.reading(engine) as tx:
        return tx.scalar(sa.select(sa.func.count()).select_from(notices).where(notices.c.at >= since)) or 0
