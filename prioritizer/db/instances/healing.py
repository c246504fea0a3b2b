"""The file of an instance: found missing or damaged, and whole again when it is sent again.

Whatever comes under a SOP Instance UID is compared with what the ledger holds of it. A file that was gone, damaged or unreadable is
replaced by the one that came; what could not be scored for want of it is scored then.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from prioritizer.db.in_force.calibration import PolicyInForce
from prioritizer.db.list_order.placement import STALE, lock_study, replace_study
from prioritizer.db.processing.receive import open_again
from prioritizer.db.processing.requeue import DISCARDED
from prioritizer.db.processing.result_revisions import bump_revision, retract_unsent
from prioritizer.db.schema import connect
from prioritizer.db.schema.events import Kind, record
from prioritizer.db.schema.instance_rows import HEADER, OWN_OBJECT, SET_ASIDE, Arrival, instance_of, row_of
from prioritizer.db.schema.tables import instances, studies
from prioritizer.scope.header_rules import may_be_a_radiograph, same_facts
from prioritizer.states import InstanceState, ReadingState
from prioritizer.study import FileFault, Instance

FILE_MISSING = "file-missing"
WANTED_ITS_FILE = frozenset({FILE_MISSING, HEADER, STALE, "unreadable", "truncated", "malformed"})
"""Reasons for which an image has no score that a whole file may end."""


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


def take_file(tx: sa.Connection, row: sa.Row[Any], arrival: Arrival, rules: PolicyInForce, now: datetime, said: str) -> None:
    """The arrival's bytes are this instance's from now on; its arrival and its study stay as they are.

    So does its score, where the image is shown to be the same and is described as before. Where it is described otherwise it is judged
    and scored again. Where the pixels are others, nobody has looked at them: a study that was read is open again, and a result that was
    not sent is not sent.
    """
    study = lock_study(tx, row.study_uid)
    uid, before, new = row.sop_instance_uid, instance_of(row), dict[str, Any]()
    keep = {"study_uid": row.study_uid, "sop_instance_uid": uid, "received_at": row.received_at, "made_by_us": before.made_by_us}
    instance = replace(arrival.instance, **keep)
    values = row_of(Arrival(instance=instance, unreadable=arrival.unreadable))
    values |= {"pixels_deleted_at": None, "file_fault": FileFault.NONE}
    other = not _same_image(before, instance) and row.reason not in (OWN_OBJECT, SET_ASIDE)
    corrected = not same_facts(before, instance) and row.reason not in (OWN_OBJECT, SET_ASIDE, DISCARDED)
    if other:
        values |= {"pixels_version": row.pixels_version + 1, "entry": study.entries + 1}
        new["entries"] = study.entries + 1
    if other or corrected or (row.reason in WANTED_ITS_FILE and row.state != InstanceState.SCORED):
        state = {} if arrival.unreadable else {"state": InstanceState.RECEIVED, "reason": "", "reason_text": ""}
        values |= {"attempts": 0, "not_before": None, "claimed_by": None, "claimed_until": None, **state}
    tx.execute(instances.update().where(instances.c.sop_instance_uid == uid).values(values))
    record(tx, Kind.HEALED, said, now, study=row.study_uid, instance=uid)
    if instance.stat and not study.stat:
        new["stat"] = True
    if study.reading_state != ReadingState.READ and study.expired_at is not None and row.pixels_deleted_at is not None:
        new |= open_again(tx, study, "an image came again", now)
    if other and (may_be_a_radiograph(before) or may_be_a_radiograph(instance)):
        retract_unsent(tx, row.study_uid, now)
        new |= open_again(tx, study, "an image came again with pixels that nobody has looked at", now)
        bump_revision(tx, row.study_uid, rules.policy.quiet, now)
    if new:
        tx.execute(studies.update().where(studies.c.study_uid == row.study_uid).values(new))
    replace_study(tx, row.study_uid, rules, now)


def _same_image(one: Instance, other: Instance) -> bool:
    """True where the encoded pixels of both are the same bytes, drawn in the same way."""
    shown = bool(one.image_sha256) or not (one.has_pixels or other.has_pixels)
    alike = ("image_sha256", "transfer_syntax_uid", "photometric", "number_of_frames")
    return shown and all(getattr(one, name) == getattr(other, name) for name in alike)
