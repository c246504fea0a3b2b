"""What each reader has chosen for themselves: theme, columns, lists under a name; and the lists of the site."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from prioritizer.db import connect
from prioritizer.db.tables import choices, saved_views
from prioritizer.errors import NotAllowed

MOST_VIEWS = 20
LONGEST_NAME, LONGEST_QUERY = 64, 500


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
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
        before = tx.scalar(sa.select(choices.c.chosen).where(choices.c.person == person).with_for_update())
        chosen = {**(before or {}), what: value if isinstance(value, str) else list(value)}
        if before is None:
            tx.execute(choices.insert().values(person=person, chosen=chosen, at=now))
        else:
            tx.execute(choices.update().where(choices.c.person == person).values(chosen=chosen, at=now))


def views(engine: sa.Engine, person: str) -> list[View]:
    """The site's lists, then those of this person, by name."""
    query = sa.select(saved_views.c.person, saved_views.c.name, saved_views.c.query).where(saved_views.c.person.in_(["", person]))
    with connect.reading(engine) as tx:
        return [View(**row._mapping) for row in tx.execute(query.order_by(saved_views.c.person, saved_views.c.name))]


def save_view(engine: sa.Engine, person: str, name: str, query: str, now: datetime) -> None:
    """Keep a list under a name; an older one of that name is replaced. Raises NotAllowed."""
    name = " ".join(name.split())
    if not 0 < len(name) <= LONGEST_NAME:
        raise NotAllowed(f"a list needs a name of at most {LONGEST_NAME} characters")
    if len(query) > LONGEST_QUERY:
        raise NotAllowed("this list has too long an address to be kept")
    key = (saved_views.c.person == person, saved_views.c.name == name)
    with connect.writing(engine) as tx:
        tx.execute(saved_views.delete().where(*key))
        if (tx.scalar(sa.select(sa.func.count()).select_from(saved_views).where(saved_views.c.person == person)) or 0) >= MOST_VIEWS:
            raise NotAllowed(f"there are {MOST_VIEWS} lists already; delete one first")
        tx.execute(saved_views.insert().values(person=person, name=name, query=query, made_at=now))


def delete_view(engine: sa.Engine, person: str, name: str) -> None:
    """Forget a name. Raises NotAllowed where there is none."""
    with connect.writing(engine) as tx:
        if not tx.execute(saved_views.delete().where(saved_views.c.person == person, saved_views.c.name == name)).rowcount:
            raise NotAllowed(f"there is no list {name!r}")
