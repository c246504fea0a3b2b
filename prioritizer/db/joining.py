"""Two rows under one Study Instance UID are one patient's after all: a person says so, and they become one row.

The row that joined leaves the list and stays in the ledger: its events are never changed, and are told with those of the first row.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa

from prioritizer.db import connect
from prioritizer.db.events import Kind, record
from prioritizer.db.in_force import in_force
from prioritizer.db.placing import replace_study
from prioritizer.db.tables import NO_READER, deliveries, differing_copies, feedback, instances, results, studies, terms
from prioritizer.errors import NotAllowed, NotFound
from prioritizer.ranking import Policy
from prioritizer.study import ANOTHER_PATIENT, ReadingState, study_instance_uid

FOLLOW = (instances, results, deliveries, differing_copies)
"""What belongs to a row of the list by its key alone."""


def join(engine: sa.Engine, key: str, who: str, policy: Policy, now: datetime) -> str:
    """The row `key` of another patient joins the first row under its Study Instance UID; returns that row's key.

    What readers said of either stays. Where one of the two is unread, the study is. Raises NotFound, NotAllowed.
    """
    if ANOTHER_PATIENT not in key:
        raise NotAllowed("this is the first row under its Study Instance UID: name the one that joins it, its UID ends in ~ and a number")
    first = study_instance_uid(key)
    with connect.writing(engine) as tx:
        rules = in_force(tx, policy)
        held = sa.select(studies).where(studies.c.study_uid.in_((first, key))).order_by(studies.c.study_uid).with_for_update()
        rows = {row.study_uid: row for row in tx.execute(held)}
        if key not in rows or first not in rows:
            raise NotFound(f"there are no two rows under {first}")
        for table in FOLLOW:
            tx.execute(table.update().where(table.c.study_uid == key).values(study_uid=first))
        _findings(tx, key, first)
        _terms(tx, key, first)
        tx.execute(studies.update().where(studies.c.study_uid == first).values(_joined(rows[first], rows[key])))
        gone = {"listed": False, "instances": 0, "identity": "", "held": "", "published_revision": studies.c.revision}
        tx.execute(studies.update().where(studies.c.study_uid == key).values(gone))
        said = "two rows under this Study Instance UID were one patient's, and are one row now"
        record(tx, Kind.IDENTITY_SETTLED, said, now, study=first, actor=who, joined=key)
        replace_study(tx, first, rules, now)
    return first


def _joined(one: sa.Row[Any], other: sa.Row[Any]) -> dict[str, Any]:
    values: dict[str, Any] = {
        "instances": one.instances + other.instances,
        "first_received_at": min(one.first_received_at, other.first_received_at),
        "last_received_at": max(one.last_received_at, other.last_received_at),
        "stat": one.stat or other.stat,
        "revision": max(one.revision, other.revision) + 1,
        "identity": "",
        "held": "",
    }
    if ReadingState.OPEN in (one.reading_state, other.reading_state) and one.reading_state != ReadingState.CLAIMED:
        values |= {"reading_state": ReadingState.OPEN, "read_at": None, "expired_at": None, **NO_READER}
    return values


def _findings(tx: sa.Connection, key: str, first: str) -> None:
    """A reader has one finding in force for a study: of two, that of the first row."""
    standing = feedback.c.withdrawn_at.is_(None)
    there = sa.select(feedback.c.reader).where(feedback.c.study_uid == first, standing)
    twice = (feedback.c.study_uid == key) & standing & feedback.c.reader.in_(there)
    tx.execute(feedback.update().where(twice).values(withdrawn_at=feedback.c.at))
    tx.execute(feedback.update().where(feedback.c.study_uid == key).values(study_uid=first))


def _terms(tx: sa.Connection, key: str, first: str) -> None:
    there = sa.select(terms.c.term).where(terms.c.study_uid == first)
    new = tx.scalars(sa.select(terms.c.term).where(terms.c.study_uid == key, terms.c.term.not_in(there))).all()
    tx.execute(terms.delete().where(terms.c.study_uid == key))
    if new:
        tx.execute(terms.insert(), [{"term": term, "study_uid": first} for term in new])
