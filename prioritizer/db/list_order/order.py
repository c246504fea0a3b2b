"""The order of the list and the views of it, for those who show it and those who take the next study from it: one definition.

Every order ends in the Study UID, so a page's end is a place (`cursor`) and not a number: pages neither repeat nor lose a study while
others arrive or move. The two orders that people work by have an index of their own over the unread studies; the others sort those.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from prioritizer.db.list_order.search_terms import MIN_LENGTH, searched_words
from prioritizer.db.schema.columns import EPOCH, READ, UNREAD
from prioritizer.db.schema.tables import studies, terms
from prioritizer.states import ReadingState
from prioritizer.study import AIState

HIGHEST = "\U0010ffff"


class Order(StrEnum):
    """By deadline (STAT, due_at, arrival), by arrival alone after STAT, or by what a column shows."""

    DEADLINE = "deadline"
    ARRIVAL = "arrival"
    PATIENT = "patient"
    STUDY = "study"
    SENDER = "from"
    AI = "ai"
    READER = "reader"
    READ = "read"


class View(StrEnum):
    """Which studies: the list, those open for too long, those read."""

    OPEN = "open"
    EXPIRED = "expired"
    READ = "read"


KEYS: Mapping[Order, tuple[str, ...]] = {
    Order.DEADLINE: ("due_at", "first_received_at", "study_uid"),
    Order.ARRIVAL: ("first_received_at", "study_uid"),
    Order.PATIENT: ("patient_name", "first_received_at", "study_uid"),
    Order.STUDY: ("study_description", "due_at", "study_uid"),
    Order.SENDER: ("calling_ae", "due_at", "study_uid"),
    Order.AI: ("ai_state", "due_at", "study_uid"),
    Order.READER: ("reader", "due_at", "study_uid"),
    Order.READ: ("read_at", "study_uid"),
}
"""The columns that order studies; `reader` and `read_at` are empty for a study that nobody has."""
WORKING = (Order.DEADLINE, Order.ARRIVAL)
"""The orders in which STAT stands first, whatever else is asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which studies, in which order. The defaults are the worklist."""

    view: View = View.OPEN
    order: Order = Order.DEADLINE
    backwards: bool = False
    """The other way round; not in the two orders that people work by."""
    text: str = ""
    """Words of the search box."""
    common: tuple[str, ...] = ()
    """Those of them that begin too many words to be looked for (`common_words`)."""
    sender: str = ""
    ai: AIState | None = None
    raised: bool = False
    overdue: bool = False
    neutral: timedelta | None = None
    """On a list without AI: every deadline is arrival and this, or `overdue` would tell what AI thinks."""
    reader: str = ""
    """Claimed or read by this person."""
    hours: float = 0
    """Arrived within so many hours; 0 for any time."""

    @property
    def flipped(self) -> bool:
        """True where the order runs backwards."""
        return self.backwards and self.order not in WORKING


WORKLIST = Wanted()
"""The list as everybody finds it."""


def in_view(view: View) -> sa.ColumnElement[bool]:
    """Studies of this view. The words are those of the partial indexes, so that a database can use them."""
    match view:
        case View.READ:
            return sa.and_(sa.text(READ), sa.true())
        case View.EXPIRED:
            return sa.and_(sa.text(UNREAD), studies.c.expired_at.is_not(None))
        case View.OPEN:
            return sa.and_(sa.text(UNREAD), studies.c.expired_at.is_(None))


def nobody_has(now: datetime) -> sa.ColumnElement[bool]:
    """Studies that are open, or whose claim has run out."""
    return sa.or_(studies.c.reading_state == ReadingState.OPEN, studies.c.reader_until <= now)


def chosen(wanted: Wanted, now: datetime) -> list[sa.ColumnElement[bool]]:
    """The conditions of a list."""
    return [in_view(wanted.view), *lasting(wanted, now), *changing(wanted, now)]


def changing(wanted: Wanted, now: datetime) -> list[sa.ColumnElement[bool]]:
    """Those of its conditions that a study may fulfil now and not later."""
    found = []
    if wanted.ai is not None:
        found.append(studies.c.ai_state == wanted.ai)
    if wanted.raised:
        found.append(studies.c.band == "HIGH")
    if wanted.overdue:
        found.append(is_overdue(now, wanted.neutral))
    if wanted.reader:
        held = sa.or_(studies.c.reading_state == ReadingState.READ, studies.c.reader_until > now)
        found += [studies.c.reader == wanted.reader, held]
    return found


def lasting(wanted: Wanted, now: datetime) -> list[sa.ColumnElement[bool]]:
    """Those that a study fulfils always, or never."""
    found = []
    if wanted.sender:
        found.append(studies.c.calling_ae == wanted.sender)
    if wanted.hours:
        found.append(studies.c.first_received_at >= now - timedelta(hours=wanted.hours))
    words = [word for word in searched_words(wanted.text) if word not in wanted.common]
    if wanted.text.strip() and not words:  # everything would be shown as found by what nothing was looked for
        found.append(sa.false())
    found += [studies.c.study_uid.in_(sa.select(terms.c.study_uid).where(begins(word))) for word in words]
    return found


MAX_FOUND = 5000
"""A word that begins more terms than this is not looked for: each of them would be read."""


def begins(word: str) -> sa.ColumnElement[bool]:
    """Terms that begin with a word. A short one is looked for as a whole, as the names Li, Ng and Yu are."""
    return terms.c.term == word if len(word) < MIN_LENGTH else sa.and_(terms.c.term >= word, terms.c.term < word + HIGHEST)


def common_words(tx: sa.Connection, text: str) -> tuple[str, ...]:
    """The words of a search that begin too many terms."""
    each = ((word, sa.select(terms.c.term).where(begins(word)).offset(MAX_FOUND).limit(1)) for word in searched_words(text))
    return tuple(word for word, query in each if tx.scalar(query) is not None)


def is_overdue(now: datetime, neutral: timedelta | None = None) -> sa.ColumnElement[bool]:
    """Unread studies whose deadline has passed: the one they have, or with `neutral` the one that arrival alone gives."""
    late = studies.c.due_at < now if neutral is None else studies.c.first_received_at < now - neutral
    return sa.and_(studies.c.reading_state != ReadingState.READ, ~studies.c.stat, late)


def key(name: str, view: View) -> sa.ColumnElement[Any]:
    """A column to order by; where nobody is named, or nothing was read, it stands first.

    A read study has both: there the bare column stands, which the index of that view is over.
    """
    column = studies.c[name]
    if name in ("reader", "read_at") and view is not View.READ:
        none: Any = sa.literal("") if name == "reader" else sa.literal(0, sa.BigInteger)
        return sa.type_coerce(sa.func.coalesce(column, none), column.type)
    return column


def order_keys(wanted: Wanted) -> list[sa.ColumnElement[Any]]:
    """What ORDER BY holds."""
    within = [key(name, wanted.view).desc() if wanted.flipped else key(name, wanted.view) for name in KEYS[wanted.order]]
    return [studies.c.stat.desc(), *within] if wanted.order in WORKING else within


def stands_after(wanted: Wanted, at: Mapping[str, Any]) -> sa.ColumnElement[bool]:
    """Studies that stand behind the one with these values of `stat` and the order's columns."""
    beyond = _beyond(wanted, at, forwards=not wanted.flipped)
    if wanted.order not in WORKING:
        return beyond
    same = sa.and_(studies.c.stat == at["stat"], beyond)
    return sa.or_(same, ~studies.c.stat) if at["stat"] else same


def stands_before(wanted: Wanted, at: Mapping[str, Any]) -> sa.ColumnElement[bool]:
    """Studies that stand before the one with these values, in one of the orders that people work by."""
    same = sa.and_(studies.c.stat == at["stat"], _beyond(wanted, at, forwards=False))
    return same if at["stat"] else sa.or_(same, studies.c.stat)


def _beyond(wanted: Wanted, at: Mapping[str, Any], *, forwards: bool) -> sa.ColumnElement[bool]:
    keys = sa.tuple_(*(key(name, wanted.view) for name in KEYS[wanted.order]))
    place = sa.tuple_(*(sa.literal(_filled(name, at[name]), studies.c[name].type) for name in KEYS[wanted.order]))
    return keys > place if forwards else keys < place


def _filled(name: str, value: Any) -> Any:
    if value is not None:
        return value
    return "" if name == "reader" else EPOCH
