"""Writes down what changes nothing in the ledger and that somebody may ask for all the same: a test of a way, a list for a program."""

from __future__ import annotations

from datetime import datetime, timedelta

import sqlalchemy as sa

from prioritizer.access import Person
from prioritizer.db.schema import connect
from prioritizer.db.schema.events import Kind, record
from prioritizer.db.schema.tables import events

GIVEN_EVERY = timedelta(minutes=5)
"""A program that asks every second writes one entry in this time: that it looks matters, not how often."""


def way_tested(engine: sa.Engine, person: str, way: str, now: datetime, *, sent: bool) -> None:
    """Somebody walked a way by hand; `sent`: with a phantom image, which is a study there afterwards."""
    with connect.writing(engine) as tx:
        what = "C-ECHO and a phantom image" if sent else "C-ECHO"
        record(tx, Kind.WAY_TESTED, f"tested the way to {way}: {what}", now, actor=person, way=way, sent=sent)


def list_given(engine: sa.Engine, person: Person, now: datetime) -> None:
    """A program was given names off the list: once a token and `GIVEN_EVERY`. A person who looks at their list is none."""
    if not person.token:
        return
    actor = person.eyes[0]
    lately = sa.and_(events.c.kind == Kind.LIST_GIVEN, events.c.at > now - GIVEN_EVERY, events.c.actor == actor)
    with connect.reading(engine) as tx:
        if tx.scalar(sa.select(sa.literal(1)).select_from(events).where(lately).limit(1)):
            return
    with connect.writing(engine) as tx:
        record(tx, Kind.LIST_GIVEN, "was given the list", now, actor=actor)
