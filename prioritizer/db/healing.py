"""The file of an instance: found missing or damaged, and whole again when it is sent again.

Whatever comes under a SOP Instance UID is compared with what the ledger holds of it. A file that was gone, damaged or unreadable is
replaced by the one that came; what could not be scored for want of it is scored then.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from datetime import datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from prioritizer import identity
from prioritizer.db import connect
from prioritizer.db.events import Kind, record
from prioritizer.db.identity import mark
from prioritizer.db.in_force import InForce
from prioritizer.db.instance_rows import HEADER, Arrival, instance_of, row_of
from prioritizer.db.placing import STALE, replace_study
from prioritizer.db.tables import differing_copies, instances, studies
from prioritizer.identity import particulars_of
from prioritizer.study import CopyState, Hold, InstanceState

FILE_MISSING = "file-missing"
WANTED_ITS_FILE = frozenset({FILE_MISSING, HEADER, STALE, "unreadable", "truncated", "malformed"})
"""Reasons for which an image has no score that a whole file may end."""
IN_PLACE = "objects:"
"""How the name of a differing copy begins whose bytes lie in objects/ already: what was held before was gone."""


class FileFault(StrEnum):
    """What is wrong with the file of an instance in the spool."""

    NONE = ""
    MISSING = "missing"
    DAMAGED = "damaged"


def set_fault(engine: sa.Engine, uids: Collection[str], fault: FileFault, now: datetime) -> int:
    """Write down which files are missing or damaged; returns how many are newly so. Whoever sends them again heals them."""
    with connect.writing(engine) as tx:
        wanted = instances.c.sop_instance_uid.in_(uids) & (instances.c.file_fault != fault) & instances.c.pixels_deleted_at.is_(None)
        rows = tx.execute(
            instances.update().where(wanted).values(file_fault=fault).returning(instances.c.sop_instance_uid, instances.c.study_uid)
        ).all()
        for row in rows:
            said = {
                FileFault.MISSING: "its file is not in the spool: send the study again",
                FileFault.DAMAGED: "the bytes of its file changed since it arrived: send the study again",
                FileFault.NONE: "its file is whole again",
            }[fault]
            kind = Kind.HEALED if fault is FileFault.NONE else Kind.FILE_FAULT
            record(tx, kind, said, now, study=row.study_uid, instance=row.sop_instance_uid)
        return len(rows)


def faulty(engine: sa.Engine, fault: FileFault) -> set[str]:
    """The SOP Instance UIDs whose file has this fault."""
    with connect.reading(engine) as tx:
        # The words of the partial index, so that both databases use it.
        found = sa.select(instances.c.sop_instance_uid).where(sa.text("file_fault <> ''"), instances.c.file_fault == fault)
        return set(tx.scalars(found))


def arrived_again(tx: sa.Connection, row: sa.Row[Any], arrival: Arrival, rules: InForce, now: datetime) -> bool:
    """A known instance lies in the inbox: the spool held no file of it. True when the ledger takes these bytes for it.

    The very bytes that the ledger knows lie there after a crash between its commit and the settling of the file.
    """
    if arrival.instance.sha256 == row.sha256:
        if row.file_fault:
            tx.execute(instances.update().where(instances.c.sop_instance_uid == row.sop_instance_uid).values(file_fault=FileFault.NONE))
        return False
    changed = identity.differing(particulars_of(instance_of(row)), particulars_of(arrival.instance))
    take_file(tx, row, arrival, rules, now, "its file arrived again, and is held again")
    if changed:
        _wait_in_place(tx, row, arrival, now)
    return True


def take_file(tx: sa.Connection, row: sa.Row[Any], arrival: Arrival, rules: InForce, now: datetime, said: str) -> None:
    """The arrival's bytes are this instance's from now on. Its arrival, its study and its scores stay as they are."""
    uid = row.sop_instance_uid
    instance = replace(arrival.instance, study_uid=row.study_uid, sop_instance_uid=uid, received_at=row.received_at)
    values = row_of(Arrival(instance=instance, unreadable=arrival.unreadable))
    values |= {"pixels_deleted_at": None, "file_fault": FileFault.NONE}
    if not arrival.unreadable and (row.reason in WANTED_ITS_FILE and row.state != InstanceState.SCORED):
        values |= {"state": InstanceState.RECEIVED, "reason": "", "reason_text": "", "attempts": 0, "not_before": None}
    tx.execute(instances.update().where(instances.c.sop_instance_uid == uid).values(values))
    record(tx, Kind.HEALED, said, now, study=row.study_uid, instance=uid)
    replace_study(tx, row.study_uid, rules, now)


def _wait_in_place(tx: sa.Connection, row: sa.Row[Any], arrival: Arrival, now: datetime) -> None:
    """What was held is gone, and what came in its place states another patient: a person confirms it, nothing is sent meanwhile."""
    stated = particulars_of(arrival.instance)
    text = f"particulars changed, confirm: image ...{row.sop_instance_uid[-12:]} came again for {identity.in_words(stated)}"
    mark(tx, row.study_uid, text, held=Hold.IDENTITY)
    file = IN_PLACE + row.sop_instance_uid
    known = tx.scalar(sa.select(sa.literal(1)).where(differing_copies.c.file == file))
    values = {"at": now, "state": CopyState.WAITING, "particulars": _document(arrival), "settled_at": None, "settled_by": None}
    if known:
        tx.execute(differing_copies.update().where(differing_copies.c.file == file).values(values))
    else:
        keys = {"file": file, "sop_instance_uid": row.sop_instance_uid, "study_uid": row.study_uid}
        tx.execute(differing_copies.insert().values(**keys, **values))
    record(tx, Kind.IDENTITY, "its file came again with other particulars", now, study=row.study_uid, instance=row.sop_instance_uid)


def _document(arrival: Arrival) -> dict[str, Any]:
    values: dict[str, Any] = row_of(arrival)["attributes"]
    return values


def move(tx: sa.Connection, uid: str, old: str, new: str, now: datetime) -> None:
    """An instance belongs to another row of the list; the old one leaves the list where it holds nothing more."""
    tx.execute(instances.update().where(instances.c.sop_instance_uid == uid).values(study_uid=new))
    left = tx.scalar(sa.select(sa.func.count()).select_from(instances).where(instances.c.study_uid == old)) or 0
    tx.execute(studies.update().where(studies.c.study_uid == old).values(instances=left, **({} if left else {"listed": False})))
    record(tx, Kind.IDENTITY, "an image moved to the row of its study", now, study=old, instance=uid, to=new)
    record(tx, Kind.IDENTITY, "an image moved to this row", now, study=new, instance=uid, of=old)
