"""Who did what, newest first. Read only: nothing here can be changed or taken away."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from prioritizer.db import connect
from prioritizer.db.events import ITSELF, who
from prioritizer.db.tables import events

OWN = (ITSELF, "configuration")
"""Actors that are no person."""
NEVER_LISTED = ("arrived", "scored", "placed", "published", "sent", "late-instance", "more-images", "lease-ended", "overdue")
"""What prioritizer does all day; it stands in the study's own history."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One thing that was done."""

    id: int
    at: datetime
    kind: str
    actor: str
    """The person, or prioritizer itself."""
    who: str
    """The same with the token that a program did it with."""
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


COLUMNS = ("id", "at", "kind", "actor", "said", "study_uid", "detail")


def entries(engine: sa.Engine, asked: Asked, limit: int) -> list[Entry]:
    """The newest entries that fit; what prioritizer does by itself all day is left out unless its kind or a study is asked for."""
    query = sa.select(*(events.c[name] for name in COLUMNS)).order_by(events.c.id.desc()).limit(limit)
    if asked.actor:
        # What was shown to a program stands under its own name, the person's with the token behind it.
        query = query.where(sa.or_(events.c.actor == asked.actor, events.c.actor.startswith(f"{asked.actor} (token ", autoescape=True)))
    if asked.kind:
        query = query.where(events.c.kind == asked.kind)
    elif not asked.study_uid:
        query = query.where(events.c.kind.not_in(NEVER_LISTED))
    if asked.study_uid:
        query = query.where(events.c.study_uid == asked.study_uid)
    if asked.before:
        query = query.where(events.c.id < asked.before)
    with connect.reading(engine) as tx:
        return [_entry(dict(row._mapping)) for row in tx.execute(query)]


def _entry(row: dict[str, Any]) -> Entry:
    detail = row.pop("detail")
    return Entry(**row, who=who(row["actor"], detail))
