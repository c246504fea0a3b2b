"""Received instances enter the ledger; the receive worker's only write."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from prioritizer.config.policy import SitePolicy
from prioritizer.db.in_force import site_policy
from prioritizer.db.in_force.calibration import PolicyInForce, in_force
from prioritizer.db.instances import identity
from prioritizer.db.list_order.placement import put_in_place, replace_study
from prioritizer.db.processing.result_revisions import retract_unsent
from prioritizer.db.schema import connect
from prioritizer.db.schema.clock_steps import bring_to_present
from prioritizer.db.schema.columns import NO_READER
from prioritizer.db.schema.events import Kind, record
from prioritizer.db.schema.instance_rows import Arrival, holds_a_radiograph, row_of
from prioritizer.db.schema.tables import differing_copies, instances, results, studies
from prioritizer.errors import Contended
from prioritizer.patient_identity import in_words, particulars_of
from prioritizer.ranking import deadlines
from prioritizer.ranking.deadlines import Standing
from prioritizer.scope.header_rules import may_be_a_radiograph
from prioritizer.states import ReadingState
from prioritizer.study import AIState, FileFault, Hold, Instance

__all__ = ["Arrival", "enter", "known_instances", "receive"]


NOT_TAKEN = (sa.exc.SQLAlchemyError, UnicodeError, OverflowError)
"""What may be raised where an instance is entered: it is tried again, and the others go on."""
NOT_STORED = "its header holds values that the ledger cannot store"
NO_RESULT_OF_OURS = "it says that prioritizer made it, and this ledger knows no such result: listed, never scored"


def is_of_the_values(error: BaseException) -> bool:
    """True where an error of `NOT_TAKEN` says that the values cannot be stored, now or later; False where it may be the moment's."""
    if isinstance(error, sa.exc.DBAPIError):
        return isinstance(error, sa.exc.DataError | sa.exc.InterfaceError | sa.exc.ProgrammingError | sa.exc.NotSupportedError)
    return isinstance(error, sa.exc.StatementError | UnicodeError | OverflowError)


def receive(
    engine: sa.Engine,
    arrivals: Sequence[Arrival],
    policy: SitePolicy,
    now: datetime,
    *,
    held: Hold = Hold.NONE,
    doubt: str = "",
) -> int:
    """Enter the arrivals, each once however often it is handed in; returns how many were new.

    `held`: what holds back the results of the studies whose first radiographs these are. A row that holds one keeps what it has.
    `doubt`: what must be confirmed of each new one before a result goes out; `{tail}` and `{whom}` stand for its UID's end and its patient.
    """
    try:
        with connect.writing(engine) as tx:
            site_policy.remember(tx, policy)
            rules = in_force(tx, policy)
            bring_to_present(tx, rules, now)
            entered = [arrival for arrival in arrivals if enter(tx, arrival, rules, now, held=held)]
            for arrival in entered if doubt else ():
                _doubt(tx, arrival.instance, doubt)
            return len(entered)
    except IntegrityError as error:
        raise Contended("another process entered the same study at the same moment; its arrivals are looked at again") from error


def _doubt(tx: sa.Connection, instance: Instance, doubt: str) -> None:
    uid = instance.sop_instance_uid
    key = tx.scalar(sa.select(instances.c.study_uid).where(instances.c.sop_instance_uid == uid))
    text = doubt.format(tail=uid[-12:], whom=in_words(particulars_of(instance)))
    identity.mark(tx, str(key), text, held=may_be_a_radiograph(instance))


def enter(tx: sa.Connection, arrival: Arrival, rules: PolicyInForce, now: datetime, *, held: Hold = Hold.NONE) -> bool:
    """One arrival in the caller's transaction; True when its instance is new."""
    known = tx.execute(sa.select(instances).where(instances.c.sop_instance_uid == arrival.instance.sop_instance_uid)).one_or_none()
    if known is not None:
        if known.file_fault and known.sha256 == arrival.instance.sha256:
            # A crash came between the ledger's commit and the settling of the file.
            whole = instances.update().where(instances.c.sop_instance_uid == known.sop_instance_uid).values(file_fault=FileFault.NONE)
            tx.execute(whole)
        return False
    if arrival.instance.made_by_us and not _is_a_result(tx, arrival.instance.sop_instance_uid):
        arrival = replace(arrival, instance=replace(arrival.instance, made_by_us=False), set_aside=NO_RESULT_OF_OURS)
    # Nothing arrives later than now: a clock that was ahead would hide what it dated.
    sent = replace(arrival.instance, received_at=min(arrival.instance.received_at, now))
    instance, study = belong(tx, sent, rules.policy, now, held)
    values = row_of(replace(arrival, instance=instance)) | {"entry": _entry(study, instance), "receipt_at": arrival.instance.received_at}
    tx.execute(instances.insert().values(**values))
    if _asks_for_a_place(study, arrival):
        replace_study(tx, instance.study_uid, rules, now)
    return True


def belong(tx: sa.Connection, sent: Instance, policy: SitePolicy, now: datetime, held: Hold) -> tuple[Instance, sa.Row[Any] | None]:
    """The instance in its row of the list, which it opens or joins, and the row as it was before; the instance itself is not entered."""
    key, study, others = identity.row_for(tx, sent)
    instance = replace(sent, study_uid=key)
    if study is None:
        _open_study(tx, instance, sent, policy, now, held)
        if others:
            identity.mark_two_patients(tx, key, particulars_of(instance), others, now)
    elif not instance.made_by_us:  # our own object coming back from the PACS is recorded, and nothing else changes
        _add_to_study(tx, study, instance, policy, now)
        if not held and study.held == Hold.REBUILT and may_be_a_radiograph(instance):
            # A new image: its result is none of before. Where whose study it is waits to be confirmed, that is asked.
            of_now = sa.case((studies.c.identity == "", Hold.NONE), else_=Hold.IDENTITY)
            tx.execute(studies.update().where(studies.c.study_uid == key).values(held=of_now))
        elif held and not study.held and may_be_a_radiograph(instance) and not holds_a_radiograph(tx, key):
            # The row was opened by a report or the like that came after the ledger was lost: its image is one of before.
            tx.execute(studies.update().where(studies.c.study_uid == key).values(held=held))
    return instance, study


def _is_a_result(tx: sa.Connection, uid: str) -> bool:
    """True for an object that this ledger built: a header alone may say that of anything, and nothing is hidden by what it says."""
    return tx.scalar(sa.select(sa.literal(1)).where(results.c.sop_instance_uid == uid)) is not None


def _entry(study: sa.Row[Any] | None, instance: Instance) -> int:
    if instance.made_by_us:
        return 0
    return 1 if study is None else study.entries + 1


def move(tx: sa.Connection, row: sa.Row[Any], sent: Instance, rules: PolicyInForce, now: datetime) -> str:
    """An instance of a row that names no study belongs to the study that `sent` names; returns that study's key.

    Its old row leaves the list where it holds nothing more; what was built of it and not sent is not sent.
    """
    old = tx.execute(sa.select(studies).where(studies.c.study_uid == row.study_uid).with_for_update()).one()
    instance, study = belong(tx, replace(sent, received_at=row.received_at), rules.policy, now, Hold(old.held))
    mine, key = instances.c.sop_instance_uid == row.sop_instance_uid, instance.study_uid
    tx.execute(instances.update().where(mine).values(study_uid=key, entry=_entry(study, instance)))
    copies = differing_copies.c.sop_instance_uid == row.sop_instance_uid
    tx.execute(differing_copies.update().where(copies, differing_copies.c.study_uid == old.study_uid).values(study_uid=key))
    for doubt in filter(None, old.identity.split("\n")):
        identity.mark(tx, key, doubt, held=old.held == Hold.IDENTITY)
    left = tx.scalar(sa.select(sa.func.count()).select_from(instances).where(instances.c.study_uid == old.study_uid)) or 0
    gone = {} if left else {"listed": False, "identity": "", "held": Hold.NONE, "published_revision": studies.c.revision}
    tx.execute(studies.update().where(studies.c.study_uid == old.study_uid).values(instances=left, **gone))
    retract_unsent(tx, old.study_uid, now)
    record(tx, Kind.IDENTITY, "an image moved to the row of its study", now, study=old.study_uid, instance=row.sop_instance_uid, to=key)
    record(tx, Kind.IDENTITY, "an image moved to this row", now, study=key, instance=row.sop_instance_uid, of=old.study_uid)
    replace_study(tx, old.study_uid, rules, now)
    return key


def _asks_for_a_place(study: sa.Row[Any] | None, arrival: Arrival) -> bool:
    """True where what AI says of the study changes with the arrival itself, before it is scored."""
    if arrival.unreadable or arrival.set_aside:
        return True
    if study is None or arrival.instance.made_by_us:
        return False
    if study.ai_state == AIState.SCORED and arrival.instance.age_years not in (None, study.age_years):
        return True  # it may bring the age by which its map is chosen
    # A study that was read kept the scores of its day; open again, it stands by the calibration of today.
    return study.ai_state in (AIState.NOT_SCORED, AIState.FAILED) or study.reading_state == ReadingState.READ


def _open_study(tx: sa.Connection, instance: Instance, sent: Instance, policy: SitePolicy, now: datetime, held: Hold) -> None:
    standing = Standing(study_uid=instance.study_uid, first_received_at=instance.received_at, stat=instance.stat)
    place = deadlines.place(standing, policy.ranking)
    tx.execute(
        studies.insert().values(
            study_uid=instance.study_uid,
            **identity.texts_of(instance),
            calling_ae=instance.calling_ae,
            first_received_at=instance.received_at,
            last_received_at=instance.received_at,
            instances=1,
            entries=1,
            listed=True,
            stat=instance.stat,
            band=place.band,
            due_at=place.due_at,
            place_reason=place.reason,
            held=held,
        )
    )
    identity.find_by(tx, instance.study_uid, sent)
    record(tx, Kind.ARRIVED, f"arrived from {instance.calling_ae}; {place.reason}", now, study=instance.study_uid)


def _add_to_study(tx: sa.Connection, study: sa.Row[Any], instance: Instance, policy: SitePolicy, now: datetime) -> None:
    new: dict[str, Any] = {
        "instances": studies.c.instances + 1,
        "entries": studies.c.entries + 1,
        "first_received_at": min(study.first_received_at, instance.received_at) if study.listed else instance.received_at,
        "last_received_at": max(study.last_received_at, instance.received_at),
        "listed": True,
        "stat": study.stat or instance.stat,
    }
    new |= identity.after(tx, study, instance, now) if study.listed else identity.texts_of(instance)
    identity.find_by(tx, study.study_uid, instance)
    if study.revision > study.published_revision and study.publish_by is not None:
        new["not_before"] = min(now + policy.quiet.quiet, study.publish_by)
    if may_be_a_radiograph(instance):
        read = study.reading_state == ReadingState.READ
        if study.listed and not read and instance.received_at > study.last_received_at + policy.quiet.quiet:
            record(tx, Kind.GREW, "more images arrived later", now, study=instance.study_uid)
        new |= open_again(tx, study, "another image arrived", now)
    tx.execute(studies.update().where(studies.c.study_uid == instance.study_uid).values(**new))
    if new["stat"] != study.stat or new["first_received_at"] != study.first_received_at or not study.listed:
        put_in_place(tx, instance.study_uid, policy.ranking, now)


def open_again(tx: sa.Connection, study: sa.Row[Any], what: str, now: datetime) -> dict[str, Any]:
    """What pixels that nobody looked at do to where the study stands. A report or a presentation state does nothing of this."""
    if study.reading_state == ReadingState.READ:
        record(tx, Kind.LATE, f"{what} after the study was read: open again", now, study=study.study_uid)
        return {"reading_state": ReadingState.OPEN, "read_at": None, "expired_at": None, "listed_since": now, **NO_READER}
    if study.expired_at is not None:
        # A study that is sent to again is nothing old that may stand apart.
        record(tx, Kind.LATE, f"{what}: on the list again", now, study=study.study_uid)
        return {"expired_at": None, "listed_since": now}
    return {}


def known_instances(engine: sa.Engine) -> dict[str, bool]:
    """Every SOP instance UID of the ledger, with whether its pixels should still be in the spool."""
    with connect.reading(engine) as tx:
        rows = tx.execute(sa.select(instances.c.sop_instance_uid, instances.c.pixels_deleted_at.is_(None)))
        return {row[0]: row[1] for row in rows}
