"""Two rows under one Study Instance UID are one patient's after all: a person says so, and they become one row.

The row that joined leaves the list and stays in the ledger: its events are never changed, and are told with those of the first row.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa

from prioritizer.config.policy import SitePolicy
from prioritizer.db.in_force.calibration import in_force
from prioritizer.db.instances.differing_copies import is_what_was_shown
from prioritizer.db.instances.identity import TWO_PATIENTS, particulars_of_row, rows_under
from prioritizer.db.list_order.placement import replace_study
from prioritizer.db.processing.result_revisions import retract_unsent
from prioritizer.db.schema import connect
from prioritizer.db.schema.columns import NO_READER
from prioritizer.db.schema.events import Kind, record
from prioritizer.db.schema.people_tables import feedback
from prioritizer.db.schema.tables import deliveries, differing_copies, instances, results, studies, terms
from prioritizer.errors import NotAllowed, NotFound
from prioritizer.patient_identity import in_words
from prioritizer.states import ReadingState
from prioritizer.study import ANOTHER_PATIENT, Hold, study_instance_uid

FOLLOW = (instances, results, deliveries, differing_copies)
"""What belongs to a row of the list by its key alone."""


def join(engine: sa.Engine, key: str, who: str, policy: SitePolicy, now: datetime, shown: str = "") -> str:
    """The row `key` of another patient joins the first row under its Study Instance UID; returns that row's key.

    What readers said of either stays. Where one of the two is unread, the study is. `shown`: the mark of what the person was shown.
    Raises NotFound, NotAllowed.
    """
    if ANOTHER_PATIENT not in key:
        raise NotAllowed("this is the first row under its Study Instance UID: name the one that joins it, its UID ends in ~ and a number")
    first = study_instance_uid(key)
    with connect.writing(engine) as tx:
        rules = in_force(tx, policy)
        rows = {row.study_uid: row for row in rows_under(tx, first)}
        if key not in rows:  # one of more patients than have a number
            alone = sa.select(studies).where(studies.c.study_uid == key).with_for_update()
            rows |= {row.study_uid: row for row in tx.execute(alone)}
        if first not in rows or key not in rows or not rows[key].listed:
            raise NotFound(f"there are no two rows under {first}")
        is_what_was_shown(tx, key, shown)
        begun = sa.select(sa.literal(1)).where(differing_copies.c.study_uid.in_((first, key)), sa.text("state = 'TAKING'"))
        if tx.scalar(begun.limit(1)):
            raise NotAllowed("a copy of one of the two was confirmed and is being put in its place: look again in a minute")
        one, other = rows[first], rows[key]
        behind = sa.case((instances.c.entry > 0, instances.c.entry + one.entries), else_=0)
        tx.execute(instances.update().where(instances.c.study_uid == key).values(entry=behind))
        for table in FOLLOW:
            tx.execute(table.update().where(table.c.study_uid == key).values(study_uid=first))
        # What was built of either alone is not the study's any more.
        for row in (one, other):
            retract_unsent(tx, row.study_uid, now)
        _findings(tx, key, first)
        _terms(tx, key, first)
        several = any(row.listed and row.study_uid not in (first, key) for row in rows.values())
        values = _joined(one, other, now) | _unsure(one, other, several=several)
        tx.execute(studies.update().where(studies.c.study_uid == first).values(values))
        none = {"pinned_by": None, "stat": False}
        gone = {"listed": False, "instances": 0, "identity": "", "held": "", "published_revision": studies.c.revision, **none}
        tx.execute(studies.update().where(studies.c.study_uid == key).values(gone))
        said = "two rows under this Study Instance UID were one patient's, and are one row now"
        record(tx, Kind.IDENTITY_SETTLED, said, now, study=first, actor=who, joined=key)
        replace_study(tx, first, rules, now)
    return first


def _joined(one: sa.Row[Any], other: sa.Row[Any], now: datetime) -> dict[str, Any]:
    values: dict[str, Any] = {
        "instances": one.instances + other.instances,
        "entries": one.entries + other.entries,
        "first_received_at": min(one.first_received_at, other.first_received_at),
        "last_received_at": max(one.last_received_at, other.last_received_at),
        "stat": one.stat or other.stat,
        "pinned_by": one.pinned_by or other.pinned_by,
        "revision": max(one.revision, other.revision) + 1,
    }
    if {one.reading_state, other.reading_state} == {ReadingState.READ}:
        return values
    values |= {"expired_at": None, "listed_since": now}
    if one.reading_state != ReadingState.CLAIMED:
        values |= {"reading_state": ReadingState.OPEN, "read_at": None, **NO_READER}
    return values


def _unsure(one: sa.Row[Any], other: sa.Row[Any], *, several: bool) -> dict[str, Any]:
    """What is still to be confirmed: all but that these two are two patients. `several`: there are more patients under the UID."""
    settled = {f"{TWO_PATIENTS}, {in_words(particulars_of_row(row))}" for row in (one, other)}
    marks = dict.fromkeys(filter(None, f"{one.identity}\n{other.identity}".split("\n")))
    left = [mark for mark in marks if mark not in settled and (several or not mark.startswith(TWO_PATIENTS))]
    holds = {one.held, other.held} - ({Hold.NONE} if left else {Hold.NONE, Hold.IDENTITY})
    return {"identity": "\n".join(left), "held": Hold.REBUILT if Hold.REBUILT in holds else next(iter(holds), Hold.NONE)}


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
