"""Other bytes under a SOP Instance UID that is already held: entered, shown on the study, settled by a person.

The copy lies in the spool's conflicts/ from before it was acknowledged; `differing_copies` says what it was judged to be.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from prioritizer import patient_identity
from prioritizer.db.instances.identity import hold
from prioritizer.db.list_order.placement import lock_study
from prioritizer.db.processing.result_revisions import retract_unsent
from prioritizer.db.schema import connect
from prioritizer.db.schema.instance_rows import HEADER, Arrival, instance_of, row_of
from prioritizer.db.schema.tables import differing_copies, instances, studies
from prioritizer.errors import NotAllowed
from prioritizer.patient_identity import Particulars
from prioritizer.states import COPY_TRANSITIONS, CopyState, states_before
from prioritizer.study import ANOTHER_PATIENT, Instance

BEING_TAKEN = "the newer copy was confirmed and is being put in its place"
STANDS_ALONE = "only a copy is left of image ...{tail}, which came again for {whom}: the first is lost, confirm whose it is"
NOT_LONG = timedelta(minutes=5)
"""What was begun no further ahead of the moment asked for was begun just now; anything later was dated by a clock that was ahead."""
ALIAS = "copy."
"""How the key of an instance begins that shares its SOP Instance UID with one of another study; a digest of its file follows."""


class Newer(StrEnum):
    """What may take the place of what a row shows: a copy of one of its images, the patient of the first row, or nothing."""

    COPY = "copy"
    FIRST_ROW = "first row"
    NOTHING = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """An instance as the ledger holds it."""

    instance: Instance
    nameless: bool
    """Its header could not be read when it came."""
    gone: bool
    """Its pixels were deleted after reading."""
    came_first: datetime
    """When the listener acknowledged it first, by its clock of then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A copy that a person must look at."""

    file: str
    sop_instance_uid: str
    study_uid: str
    at: datetime
    particulars: Mapping[str, Any]


def kept_files(engine: sa.Engine) -> set[str]:
    """The names of the copies that were looked at and lie in conflicts/ still."""
    kept = differing_copies.c.state.in_((CopyState.WAITING, CopyState.TAKING, CopyState.KEPT))
    with connect.reading(engine) as tx:
        return set(tx.scalars(sa.select(differing_copies.c.file).where(kept)))


def is_settled(engine: sa.Engine, file: str) -> bool:
    """True where a copy that is sent again says nothing new: it waits, is being taken, or was kept aside and no other was taken since.

    Once another copy of the image was taken, what is sent again is another word against that one.
    """
    with connect.reading(engine) as tx:
        row = tx.execute(sa.select(differing_copies).where(differing_copies.c.file == file)).one_or_none()
        if row is None or row.state not in (CopyState.WAITING, CopyState.TAKING, CopyState.KEPT):
            return False
        others = differing_copies.c.sop_instance_uid == row.sop_instance_uid
        taken = sa.select(sa.literal(1)).where(others, differing_copies.c.state == CopyState.TAKEN)
        since = taken.where(differing_copies.c.settled_at >= row.settled_at) if row.settled_at is not None else taken
        return row.state != CopyState.KEPT or tx.scalar(since.limit(1)) is None


def of_other_bytes(engine: sa.Engine, arrivals: Sequence[Instance]) -> set[str]:
    """The SOP Instance UIDs among these under which the ledger holds other bytes."""
    known = sa.select(instances.c.sop_instance_uid, instances.c.sha256)
    with connect.reading(engine) as tx:
        rows = tx.execute(known.where(instances.c.sop_instance_uid.in_([one.sop_instance_uid for one in arrivals])))
        held = {row.sop_instance_uid: row.sha256 for row in rows}
    return {one.sop_instance_uid for one in arrivals if held.get(one.sop_instance_uid, one.sha256) != one.sha256}


def held(engine: sa.Engine, uid: str) -> Held | None:
    """What the ledger holds under a SOP Instance UID."""
    with connect.reading(engine) as tx:
        row = tx.execute(sa.select(instances).where(instances.c.sop_instance_uid == uid)).one_or_none()
    if row is None:
        return None
    gone = row.pixels_deleted_at is not None
    return Held(instance=instance_of(row), nameless=row.reason == HEADER, gone=gone, came_first=row.receipt_at)


def waiting(engine: sa.Engine, study_uid: str | None = None) -> list[Waiting]:
    """Copies that nobody has decided on, the oldest first; of one study, or of all."""
    columns = [differing_copies.c[name] for name in Waiting.__dataclass_fields__]
    query = sa.select(*columns).where(sa.text("state = 'WAITING'")).order_by(differing_copies.c.entry, differing_copies.c.file)
    if study_uid is not None:
        query = query.where(differing_copies.c.study_uid == study_uid)
    with connect.reading(engine) as tx:
        return [Waiting(**row._mapping) for row in tx.execute(query)]


def being_taken(engine: sa.Engine, begun_before: datetime | None = None) -> list[tuple[str, str]]:
    """The studies of which a copy was confirmed and is not in its place yet, each with who confirmed it."""
    query = sa.select(differing_copies.c.study_uid, differing_copies.c.settled_by).where(sa.text("state = 'TAKING'")).distinct()
    if begun_before is not None:
        # One that a clock ahead dated counts as begun long ago.
        before, after_now = differing_copies.c.settled_at < begun_before, differing_copies.c.settled_at > begun_before + NOT_LONG
        query = query.where(sa.or_(before, after_now))
    with connect.reading(engine) as tx:
        return [(row.study_uid, row.settled_by) for row in tx.execute(query)]


def taken_of(engine: sa.Engine, study_uid: str) -> set[str]:
    """The files of a study's copies that were confirmed and are not in their place yet."""
    mine = (differing_copies.c.study_uid == study_uid) & (differing_copies.c.state == CopyState.TAKING)
    with connect.reading(engine) as tx:
        return set(tx.scalars(sa.select(differing_copies.c.file).where(mine)))


def images_of(engine: sa.Engine, files: Collection[str]) -> dict[str, str]:
    """The SOP Instance UIDs of these copies, by file."""
    query = sa.select(differing_copies.c.file, differing_copies.c.sop_instance_uid).where(differing_copies.c.file.in_(files))
    with connect.reading(engine) as tx:
        return {row.file: row.sop_instance_uid for row in tx.execute(query)}


def in_place_already(
    engine: sa.Engine, study_uid: str, files: Collection[str], read: Callable[[str], Arrival | None]
) -> list[tuple[str, Arrival]]:
    """Those of these copies whose bytes lie in the image's place, though the ledger knows others of it.

    `read`: what lies there, by SOP Instance UID; None where it cannot be said.
    """
    mine = sa.select(differing_copies).where(differing_copies.c.study_uid == study_uid, differing_copies.c.file.in_(files))
    with connect.reading(engine) as tx:
        rows = tx.execute(mine).all()
    found = []
    for row in rows:
        there, known = read(row.sop_instance_uid), held(engine, row.sop_instance_uid)
        if there is None or known is None or there.instance.sha256 == known.instance.sha256:
            continue
        # By way of JSON, as the ledger kept it: a tuple is a list there.
        if json.loads(json.dumps(row_of(there)["attributes"])) == row.particulars:
            found.append((str(row.file), there))
    return found


def begin_taking(engine: sa.Engine, study_uid: str, files: Sequence[str], who: str, now: datetime, shown: str = "") -> None:
    """A person confirmed these copies: they are taken whatever happens, and no result of the study goes out until they are.

    What else was shown is settled with that: older copies stay aside. What comes from now on waits to be confirmed in its own right.
    Raises NotAllowed where what waits is not what was confirmed.
    """
    with connect.writing(engine) as tx:
        lock_study(tx, study_uid)
        is_what_was_shown(tx, study_uid, shown)
        mine = differing_copies.c.study_uid == study_uid
        if len(leave(tx, mine & differing_copies.c.file.in_(files), CopyState.TAKING, who, now)) != len(files):
            raise NotAllowed("what waits to be confirmed changed meanwhile: look at it again")
        if files:
            # Of two copies of one image that were confirmed one after the other, and neither is in its place yet, the later word counts.
            images = sa.select(differing_copies.c.sop_instance_uid).where(mine, differing_copies.c.file.in_(files)).scalar_subquery()
            replaced = (differing_copies.c.state == CopyState.TAKING) & differing_copies.c.sop_instance_uid.in_(images)
            older = sa.or_(differing_copies.c.state == CopyState.WAITING, replaced)
            leave(tx, mine & differing_copies.c.file.not_in(files) & older, CopyState.KEPT, who, now)
            tx.execute(studies.update().where(studies.c.study_uid == study_uid).values(identity=BEING_TAKEN))
            retract_unsent(tx, study_uid, now)
            hold(tx, study_uid)


def wait_again(engine: sa.Engine, study_uid: str, files: Collection[str], now: datetime) -> None:
    """Confirmed copies that cannot be put in their place wait to be confirmed again; the study's results are held until then."""
    mine = (differing_copies.c.study_uid == study_uid) & differing_copies.c.file.in_(files)
    with connect.writing(engine) as tx:
        study = lock_study(tx, study_uid)
        back = set(leave(tx, mine, CopyState.WAITING, "", now))
        if not back:  # another process has settled them meanwhile
            return
        taking = tx.scalar(sa.select(sa.literal(1)).where(differing_copies.c.study_uid == study_uid, sa.text("state = 'TAKING'")).limit(1))
        doubts = [text for text in study.identity.split("\n") if text and (taking or text != BEING_TAKEN)]
        again = sa.select(differing_copies).where(mine, differing_copies.c.file.in_(back)).order_by(differing_copies.c.entry)
        gone = "its file is gone or cannot be read: send it again"
        doubts += [f"{came_again_for(row.sop_instance_uid, row.particulars)}, and {gone}" for row in tx.execute(again)]
        tx.execute(studies.update().where(studies.c.study_uid == study_uid).values(identity=lines_of(doubts)))
        hold(tx, study_uid)


def newer_for(engine: sa.Engine, study_uid: str) -> Newer:
    """What `take` would put in the place of what a row shows."""
    undecided = sa.or_(sa.text("differing_copies.state = 'WAITING'"), sa.text("differing_copies.state = 'TAKING'"))
    waits = (differing_copies.c.study_uid == study_uid) & undecided
    mine = sa.select(differing_copies.c.file).join(instances, instances.c.sop_instance_uid == differing_copies.c.sop_instance_uid)
    with connect.reading(engine) as tx:
        copy = tx.scalar(mine.where(waits, instances.c.study_uid == study_uid).limit(1))
    if copy is not None:
        return Newer.COPY
    return Newer.FIRST_ROW if ANOTHER_PATIENT in study_uid else Newer.NOTHING


def mark_of(engine: sa.Engine, study_uid: str) -> str:
    """What is to be confirmed of a row, as 16 hexadecimal digits: another text, or another copy, is another mark."""
    with connect.reading(engine) as tx:
        return _mark(tx, study_uid)


def _mark(tx: sa.Connection, study_uid: str) -> str:
    waits = sa.select(differing_copies.c.file).where(sa.text("state = 'WAITING'"), differing_copies.c.study_uid == study_uid)
    text = tx.scalar(sa.select(studies.c.identity).where(studies.c.study_uid == study_uid)) or ""
    files = tx.scalars(waits.order_by(differing_copies.c.file)).all()
    return hashlib.sha256("\n".join([text, *files]).encode()).hexdigest()[:16]


def is_what_was_shown(tx: sa.Connection, study_uid: str, shown: str) -> None:
    """Asked by who settles, in the same transaction. `shown`: the mark of what a person was shown, or empty. Raises NotAllowed."""
    if shown and shown != _mark(tx, study_uid):
        raise NotAllowed("something else came since this was shown: look at it again, then confirm it")


def came_again_for(uid: str, attributes: Mapping[str, Any]) -> str:
    """The line of a doubt: which image came again, for whom, by the attributes of the copy."""
    return f"image ...{uid[-12:]} came again for {patient_identity.in_words(particulars_in(attributes))}"


def particulars_in(attributes: Mapping[str, Any]) -> Particulars:
    """The particulars that a copy states, as `differing_copies` keeps them."""
    named = {name: str(attributes.get(name) or "") for name in patient_identity.LABELS if name != "issuer"}
    return Particulars(**named, issuer=str(attributes.get("issuer_of_patient_id") or ""))


def lines_of(doubts: Sequence[str]) -> str:
    """Doubts as they are kept: one line each, none twice."""
    return "\n".join(dict.fromkeys(doubts))[:4000]


def leave(tx: sa.Connection, which: sa.ColumnElement[bool], state: CopyState, who: str, now: datetime) -> list[str]:
    """Those of these copies that may enter this state do; returns their files."""
    may = differing_copies.c.state.in_(states_before(COPY_TRANSITIONS, state))
    done = differing_copies.update().where(which, may).values(state=state, settled_by=who, settled_at=now)
    return list(tx.scalars(done.returning(differing_copies.c.file)))
