"""Who did what, newest first. Read only: nothing here can be changed or taken away."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from prioritizer.access import through
from prioritizer.db.schema import connect
from prioritizer.db.schema.events import ITSELF, who
from prioritizer.db.schema.people_tables import tokens
from prioritizer.db.schema.tables import AUDITED, BY_ITSELF, events
from prioritizer.errors import NotFound

OWN = (ITSELF, "configuration")
"""Actors that are no person."""


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
class AuditFilter:
    """Which entries: of a person, of a kind, of a study; empty for any."""

    actor: str = ""
    kind: str = ""
    study_uid: str = ""
    before: int = 0
    """Older than this entry; 0: from the newest."""


NEWEST = (events.c.at.desc(), events.c.id.desc())
COLUMNS = ("id", "at", "kind", "actor", "said", "study_uid", "detail")


def entries(engine: sa.Engine, asked: AuditFilter, limit: int) -> list[Entry]:
    """The newest entries that fit; what prioritizer does by itself all day is left out unless its kind or a study is asked for.

    Raises NotFound where there is no entry to go on from.
    """
    query = sa.select(*(events.c[name] for name in COLUMNS)).order_by(*NEWEST).limit(limit)
    if asked.kind:
        query = query.where(events.c.kind == asked.kind)
    if asked.study_uid:
        query = query.where(events.c.study_uid == asked.study_uid)
    if not asked.study_uid and asked.kind not in BY_ITSELF:
        query = query.where(sa.text(AUDITED))
    with connect.reading(engine) as tx:
        if asked.before:
            query = query.where(_before(tx, asked.before))
        # One range of an index each: a person's, and one for what was shown to each program of that person under its own name.
        each = [query.where(events.c.actor == name) for name in _names(tx, asked.actor)] if asked.actor else [query]
        found = [_entry(dict(row._mapping)) for one in each for row in tx.execute(one)]
    return sorted(found, key=lambda entry: (entry.at, entry.id), reverse=True)[:limit]


def _before(tx: sa.Connection, entry: int) -> sa.ColumnElement[bool]:
    at = tx.scalar(sa.select(events.c.at).where(events.c.id == entry))
    if at is None:
        raise NotFound(f"there is no entry {entry} to go on from: load the audit log again from its beginning")
    return sa.and_(events.c.at <= at, sa.or_(events.c.at < at, events.c.id < entry))


def _names(tx: sa.Connection, person: str) -> list[str]:
    return [person, *(through(person, token) for token in tx.scalars(sa.select(tokens.c.id).where(tokens.c.person == person)))]


def _entry(row: dict[str, Any]) -> Entry:
    detail = row.pop("detail")
    return Entry(**row, who=who(row["actor"], detail))
