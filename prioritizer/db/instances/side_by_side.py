"""What two patients under one row state, side by side: for the person who confirms whose study it is. Holds patient data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from prioritizer import patient_identity
from prioritizer.db.instances import differing_copies
from prioritizer.db.instances.identity import keys_under, particulars_of_row
from prioritizer.db.schema import connect
from prioritizer.db.schema.tables import studies
from prioritizer.patient_identity import Particulars
from prioritizer.study import ANOTHER_PATIENT, study_instance_uid


@dataclass(frozen=True, slots=True, kw_only=True)
class Stated:
    """One row, or one copy of an image that came again, and what it states of its patient."""

    what: str
    particulars: Particulars
    arrived: datetime
    study_uid: str = ""
    """The key of another row under the same Study Instance UID."""
    differs: Sequence[str] = ()
    """The fields in which it contradicts what the row shows."""


def side_by_side(engine: sa.Engine, study_uid: str) -> list[Stated]:
    """What a row shows, first; then the other rows under its Study Instance UID, then the copies that wait, in the order they came."""
    uid = study_instance_uid(study_uid)
    with connect.reading(engine) as tx:
        under = sa.select(studies).where(studies.c.study_uid.in_(keys_under(uid)) | (studies.c.study_uid == study_uid))
        rows = tx.execute(under.order_by(studies.c.first_received_at)).all()
    shown = next(row for row in rows if row.study_uid == study_uid)
    others = [row for row in rows if row is not shown and row.listed]
    found = [_of_row(shown, "shown here")]
    found += [_of_row(row, "another row" if ANOTHER_PATIENT in row.study_uid else "the first row") for row in others]
    for copy in differing_copies.waiting(engine, study_uid):
        what = f"image ...{copy.sop_instance_uid[-12:]}, came again"
        found.append(Stated(what=what, particulars=differing_copies.particulars_in(copy.particulars), arrived=copy.at))
    first = found[0].particulars
    return [_compared(one, first) for one in found]


def _of_row(row: sa.Row[Any], what: str) -> Stated:
    return Stated(what=what, particulars=particulars_of_row(row), arrived=row.first_received_at, study_uid=row.study_uid)


def _compared(one: Stated, shown: Particulars) -> Stated:
    differs = patient_identity.differing(shown, one.particulars)
    return Stated(what=one.what, particulars=one.particulars, arrived=one.arrived, study_uid=one.study_uid, differs=differs)
