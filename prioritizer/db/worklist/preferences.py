"""What each reader has chosen for themselves: theme, columns, lists under a name; and the lists of the site.

What concerns everybody is written down; what concerns the reader alone is not. A search may name a patient, so no address is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from prioritizer.db.schema import connect
from prioritizer.db.schema.events import Kind, record
from prioritizer.db.schema.people_tables import choices, saved_views
from prioritizer.errors import NotAllowed

MAX_VIEWS = 20
MAX_NAME, MAX_QUERY = 64, 500
KEY = [saved_views.c.person, saved_views.c.name]


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedList:
    """A list under a name; `person` is empty for the site's."""

    person: str
    name: str
    query: str


def of(engine: sa.Engine, person: str) -> dict[str, Any]:
    """Everything this person has chosen."""
    with connect.reading(engine) as tx:
        return dict(tx.scalar(sa.select(choices.c.chosen).where(choices.c.person == person)) or {})


def choose(engine: sa.Engine, person: str, what: str, value: str | Sequence[str], now: datetime) -> None:
    """One choice, the others kept."""
    with connect.writing(engine) as tx:
        # The row exists before it is held: two pages of one person that choose at once wait for each other.
        tx.execute(connect.insert(tx, choices).values(person=person, chosen={}, at=now).on_conflict_do_nothing())
        before = tx.scalar(sa.select(choices.c.chosen).where(choices.c.person == person).with_for_update())
        chosen = {**(before or {}), what: value if isinstance(value, str) else list(value)}
        tx.execute(choices.update().where(choices.c.person == person).values(chosen=chosen, at=now))


def views(engine: sa.Engine, person: str) -> list[SavedList]:
    """The site's lists, then those of this person, by name."""
    query = sa.select(saved_views.c.person, saved_views.c.name, saved_views.c.query).where(saved_views.c.person.in_(["", person]))
    with connect.reading(engine) as tx:
        return [SavedList(**row._mapping) for row in tx.execute(query.order_by(saved_views.c.person, saved_views.c.name))]


def save_view(engine: sa.Engine, person: str, name: str, query: str, now: datetime, *, by: str) -> None:
    """Keep a list under a name; an older one of that name is replaced. `by`: who does it. Raises NotAllowed."""
    name = " ".join(name.split())
    if not 0 < len(name) <= MAX_NAME:
        raise NotAllowed(f"a list needs a name of at most {MAX_NAME} characters")
    if len(query) > MAX_QUERY:
        raise NotAllowed("this list has too long an address to be kept")
    others = sa.select(sa.func.count()).select_from(saved_views).where(saved_views.c.person == person, saved_views.c.name != name)
    kept = {"query": query, "made_at": now}
    with connect.writing(engine) as tx:
        if (tx.scalar(others) or 0) >= MAX_VIEWS:
            raise NotAllowed(f"there are {MAX_VIEWS} lists already; delete one first")
        new = connect.insert(tx, saved_views).values(person=person, name=name, **kept)
        tx.execute(new.on_conflict_do_update(index_elements=KEY, set_=kept))
        if not person:
            record(tx, Kind.LIST_SAVED, f"saved the list {name!r} for everybody", now, actor=by)


def delete_view(engine: sa.Engine, person: str, name: str, now: datetime, *, by: str) -> None:
    """Forget a name. `by`: who does it. Raises NotAllowed where there is none."""
    with connect.writing(engine) as tx:
        if not tx.execute(saved_views.delete().where(saved_views.c.person == person, saved_views.c.name == name)).rowcount:
            raise NotAllowed(f"there is no list {name!r}")
        if not person:
            record(tx, Kind.LIST_DELETED, f"deleted the list {name!r} of everybody", now, actor=by)
