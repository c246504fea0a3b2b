"""Who did what, newest first. Read only: nothing here can be changed or taken away."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from prioritizer.db import connect
from prioritizer.db.tables import events

OWN = ("prioritizer", "configuration")
"""Actors that are no person."""
NEVER_LISTED = ("arrived", "scored", "placed", "published", "sent", "late-instance", "lease-ended", "overdue")
"""What prioritizer does all day; it stands in the study's own history."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One thing that was done."""

    id: int
    at: datetime
    kind: str
    actor: str
    said: str
    study_uid: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Which entries: of a person, of a kind, of a study; empty for any."""

    actor: str = ""
    kind: str = ""
    study_uid: str = ""
    before: int = 0
    """Older than this entry; 0: from the newest."""


def entries(engine: sa.Engine, asked: Asked, limit: int) -> list[Entry]:
    """The newest entries that fit; what prioritizer does by itself all day is left out unless its kind or a study is asked for."""
    query = sa.select(*(events.c[name] for name in Entry.__dataclass_fields__)).order_by(events.c.id.desc()).limit(limit)
    if asked.actor:
        query = query.where(events.c.actor == asked.actor)
    if asked.kind:
        query = query.where(events.c.kind == asked.kind)
    elif not asked.study_uid:
        query = query.where(events.c.kind.not_in(NEVER_LISTED))
    if asked.study_uid:
        query = query.where(events.c.study_uid == asked.study_uid)
    if asked.before:
        query = query.where(events.c.id < asked.before)
    with connect.reading(engine) as tx:
        return [Entry(**row._mapping) for row in tx.execute(query)]
