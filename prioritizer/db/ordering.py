"""The order of the list and the views of it, for those who show it and those who take the next study from it: one definition."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from prioritizer.db.tables import studies
from prioritizer.study import ReadingState


class Order(StrEnum):
    """By deadline (STAT, due_at, arrival), or by arrival alone after STAT."""

    DEADLINE = "deadline"
    ARRIVAL = "arrival"


class View(StrEnum):
    """Which studies: the list, those open for too long, those read."""

    OPEN = "open"
    EXPIRED = "expired"
    READ = "read"


ORDER_FIELDS = ("due_at", "first_received_at", "study_uid")
"""The columns that order studies within their class; all of them are static, so a page's end is a place and not a number."""


def in_view(view: View) -> sa.ColumnElement[bool]:
    """Studies of this view."""
    unread = [ReadingState.OPEN, ReadingState.CLAIMED]
    if view is View.READ:
        return sa.and_(studies.c.listed, studies.c.reading_state == ReadingState.READ)
    expired = studies.c.expired_at.is_not(None) if view is View.EXPIRED else studies.c.expired_at.is_(None)
    return sa.and_(studies.c.listed, studies.c.reading_state.in_(unread), expired)


def _within_class(order: Order) -> list[sa.Column[Any]]:
    return [studies.c[name] for name in (ORDER_FIELDS if order is Order.DEADLINE else ORDER_FIELDS[1:])]


def order_keys(order: Order) -> list[sa.ColumnElement[Any]]:
    """What ORDER BY holds."""
    return [studies.c.stat.desc(), *_within_class(order)]


def stands_after(order: Order, stat: bool, values: Mapping[str, Any]) -> sa.ColumnElement[bool]:
    """Studies that stand behind the one with these values of ORDER_FIELDS."""
    same = sa.and_(studies.c.stat == stat, _beyond(order, values))
    return sa.or_(same, ~studies.c.stat) if stat else same


def stands_before(order: Order, stat: bool, values: Mapping[str, Any]) -> sa.ColumnElement[bool]:
    """Studies that stand before the one with these values of ORDER_FIELDS."""
    keys = _within_class(order)
    same = sa.and_(studies.c.stat == stat, sa.tuple_(*keys) < _literals(keys, values))
    return same if stat else sa.or_(same, studies.c.stat)


def _beyond(order: Order, values: Mapping[str, Any]) -> sa.ColumnElement[bool]:
    keys = _within_class(order)
    return sa.tuple_(*keys) > _literals(keys, values)


def _literals(keys: list[sa.Column[Any]], values: Mapping[str, Any]) -> sa.Tuple:
    return sa.tuple_(*(sa.literal(values[key.name], key.type) for key in keys))
