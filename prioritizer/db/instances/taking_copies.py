"""A copy that a person or the pixels settled enters its study."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from prioritizer import patient_identity
from prioritizer.config.policy import SitePolicy
from prioritizer.db.in_force.calibration import in_force
from prioritizer.db.instances import healing
from prioritizer.db.instances.differing_copies import ALIAS, BEING_TAKEN, came_again_for, is_what_was_shown, leave, lines_of
from prioritizer.db.instances.identity import after, find_by, mark, particulars_of_row, texts_of
from prioritizer.db.list_order.placement import lock_study, put_in_place
from prioritizer.db.processing.receive import enter, move
from prioritizer.db.processing.result_revisions import retract_unsent
from prioritizer.db.schema import connect
from prioritizer.db.schema.events import Kind, record
from prioritizer.db.schema.instance_rows import OWN_OBJECT, SET_ASIDE, Arrival, instance_of, row_of
from prioritizer.db.schema.tables import differing_copies, instances, studies
from prioritizer.errors import NotAllowed
from prioritizer.patient_identity import particulars_of
from prioritizer.states import CopyState
from prioritizer.study import Hold, Instance, SOPInstanceUID, names_a_study, study_instance_uid


def enter_same(engine: sa.Engine, file: str, arrival: Arrival, policy: SitePolicy, now: datetime) -> None:
    """The same image again, differently encoded: an order's STAT and what the row lacks are taken from it, nothing else."""
    with connect.writing(engine) as tx:
        rules = in_force(tx, policy)
        row = _row(tx, arrival.instance.sop_instance_uid)
        study = lock_study(tx, row.study_uid)
        instance = replace(arrival.instance, study_uid=row.study_uid)
        _complete(tx, study, instance, now)
        if instance.stat and not study.stat:
            put_in_place(tx, row.study_uid, rules.policy.ranking, now)
        _enter(tx, file, arrival, row.study_uid, CopyState.SAME, now)


def _complete(tx: sa.Connection, study: sa.Row[Any], instance: Instance, now: datetime) -> None:
    """What a row lacks, and an order's STAT, are taken from an image that came again for the same patient."""
    new = after(tx, study, instance, now) | ({"stat": True} if instance.stat else {})
    if new:
        tx.execute(studies.update().where(studies.c.study_uid == study.study_uid).values(**new))
        find_by(tx, study.study_uid, instance)


def enter_waiting(engine: sa.Engine, file: str, arrival: Arrival, policy: SitePolicy, now: datetime, *, same_pixels: bool = False) -> None:
    """Other particulars, other pixels or another description under a SOP Instance UID of the same study: it waits on the row.

    Where the particulars differ no result is sent meanwhile: it might be another patient's. Where they do not it is this patient's, and
    an order's STAT counts at once. An image that named no study moves to the row of its study first.
    """
    with connect.writing(engine) as tx:
        rules = in_force(tx, policy)
        row = _row(tx, arrival.instance.sop_instance_uid)
        changed = patient_identity.differing(particulars_of(instance_of(row)), particulars_of(arrival.instance))
        if not changed and not names_a_study(row.study_uid) and names_a_study(arrival.instance.study_uid):
            move(tx, row, replace(instance_of(row), study_uid=arrival.instance.study_uid), rules, now)
            row = _row(tx, arrival.instance.sop_instance_uid)
        study = lock_study(tx, row.study_uid)
        if not changed and arrival.instance.stat and not study.stat:
            tx.execute(studies.update().where(studies.c.study_uid == row.study_uid).values(stat=True))
            put_in_place(tx, row.study_uid, rules.policy.ranking, now)
        tail = arrival.instance.sop_instance_uid[-12:]
        if changed:
            text = f"particulars changed, confirm: {came_again_for(arrival.instance.sop_instance_uid, row_of(arrival)['attributes'])}"
            what = f"other particulars ({', '.join(patient_identity.LABELS[name] for name in changed)})"
        elif same_pixels:
            text = f"other description, confirm: image ...{tail} came again described otherwise, compressed with loss; the first is shown"
            what = "another description"
        else:
            text = f"other pixels, confirm: image ...{tail} came again with another picture of the same patient; the first is shown"
            what = "other pixels"
        mark(tx, row.study_uid, text, held=bool(changed))
        said = f"the same SOP instance arrived again with {what}: the first stays until a person has confirmed one of them"
        record(tx, Kind.CONFLICT, said, now, study=row.study_uid, instance=row.sop_instance_uid)
        _enter(tx, file, arrival, row.study_uid, CopyState.WAITING, now)


def enter_in_its_study(engine: sa.Engine, file: str, arrival: Arrival, policy: SitePolicy, now: datetime) -> None:
    """The same SOP Instance UID in another study, or for another patient: listed there, never scored, both rows marked."""
    sent = arrival.instance
    alias = SOPInstanceUID(ALIAS + hashlib.sha256(file.encode()).hexdigest()[:48])
    reason = "its SOP Instance UID is that of an image of another study, which is held: not scored; send it again under a UID of its own"
    with connect.writing(engine) as tx:
        rules = in_force(tx, policy)
        first = _row(tx, sent.sop_instance_uid)
        aside = Arrival(instance=replace(sent, sop_instance_uid=alias), unreadable=arrival.unreadable, set_aside=reason)
        enter(tx, aside, rules, now)
        key = tx.scalar(sa.select(instances.c.study_uid).where(instances.c.sop_instance_uid == alias))
        tx.execute(instances.update().where(instances.c.sop_instance_uid == alias).values(pixels_deleted_at=now))
        tail = sent.sop_instance_uid[-12:]
        named = f"of study {study_instance_uid(first.study_uid)}" if names_a_study(first.study_uid) else "that names no study"
        text = f"its image ...{tail} has the SOP Instance UID of an image {named}"
        mark(tx, str(key), text)
        other = f"SOP Instance UID ...{tail} came also in study {sent.study_uid} for {patient_identity.in_words(particulars_of(sent))}"
        mark(tx, first.study_uid, other)
        said = "the same SOP Instance UID came in two studies: both are listed, the first is scored"
        for study in (str(key), first.study_uid):
            record(tx, Kind.CONFLICT, said, now, study=study, instance=sent.sop_instance_uid)
        _enter(tx, file, arrival, str(key), CopyState.WAITING, now)


def enter_taken(engine: sa.Engine, file: str, arrival: Arrival, policy: SitePolicy, now: datetime, said: str) -> None:
    """The copy took the place of a file that was gone, damaged or unreadable."""
    with connect.writing(engine) as tx:
        rules = in_force(tx, policy)
        row = _row(tx, arrival.instance.sop_instance_uid)
        if not names_a_study(row.study_uid) and names_a_study(arrival.instance.study_uid):
            move(tx, row, arrival.instance, rules, now)
            row = _row(tx, arrival.instance.sop_instance_uid)
        _complete(tx, lock_study(tx, row.study_uid), replace(arrival.instance, study_uid=row.study_uid), now)
        _enter(tx, file, arrival, row.study_uid, CopyState.TAKEN, now)
        healing.take_file(tx, row, arrival, rules, now, said)


def settle(
    engine: sa.Engine,
    study_uid: str,
    taken: Mapping[str, Arrival],
    who: str,
    policy: SitePolicy,
    now: datetime,
    *,
    shown: str = "",
) -> set[str]:
    """A person confirmed whose study it is. `shown`: the mark of what they were shown.

    `taken`: the copies, by file, whose bytes are in the place of what was held; returns those that were still to be settled: another
    process may have settled them meanwhile, and something else been confirmed since. Without any, what the row shows was confirmed, and
    every copy that waits stays aside.

    Where another image of the row states another patient than was taken, that is confirmed next; so is what came since.
    """
    with connect.writing(engine) as tx:
        rules = in_force(tx, policy)
        study = lock_study(tx, study_uid)
        is_what_was_shown(tx, study_uid, shown)
        taking = (differing_copies.c.study_uid == study_uid) & (differing_copies.c.state == CopyState.TAKING)
        begun = set(tx.scalars(sa.select(differing_copies.c.file).where(taking)))
        if begun and not taken:
            raise NotAllowed("the newer copy was confirmed and is being put in its place: look again in a minute")
        mine = {file: arrival for file, arrival in taken.items() if file in begun}
        if taken and not mine:
            return set()
        for file, arrival in mine.items():
            row = _row(tx, arrival.instance.sop_instance_uid)
            healing.take_file(tx, row, arrival, rules, now, "the copy was confirmed and took its place")
            _correct_row(tx, row.study_uid, arrival.instance, now)
            leave(tx, differing_copies.c.file == file, CopyState.TAKEN, who, now)
        if mine:
            since = [text for text in study.identity.split("\n") if text and (begun - mine.keys() or text != BEING_TAKEN)]
            doubts, what = [*since, *_still_stated(tx, lock_study(tx, study_uid))], "the newer particulars were taken"
        else:
            left = leave(tx, differing_copies.c.study_uid == study_uid, CopyState.KEPT, who, now)
            if not study.identity and not left:
                raise NotAllowed("nothing of this study waits to be confirmed")
            doubts, what = [], "what is shown was kept"
        held = study.held if study.held == Hold.REBUILT else Hold.IDENTITY if doubts else Hold.NONE
        tx.execute(studies.update().where(studies.c.study_uid == study_uid).values(identity=lines_of(doubts), held=held))
        record(tx, Kind.IDENTITY_SETTLED, f"whose study it is was confirmed: {what}", now, study=study_uid, actor=who)
        return set(mine)


def _still_stated(tx: sa.Connection, study: sa.Row[Any]) -> list[str]:
    """The images of a row that state another patient than the row does, a line each."""
    mine = sa.select(instances).where(instances.c.study_uid == study.study_uid, instances.c.reason.not_in((OWN_OBJECT, SET_ASIDE)))
    lines = []
    for row in tx.execute(mine.order_by(instances.c.entry)):
        stated = particulars_of(instance_of(row))
        if patient_identity.another_patient(particulars_of_row(study), stated):
            lines.append(
                f"particulars changed, confirm: image ...{row.sop_instance_uid[-12:]} still states {patient_identity.in_words(stated)}"
            )
    return lines


def _correct_row(tx: sa.Connection, study_uid: str, instance: Instance, now: datetime) -> None:
    texts = texts_of(instance)
    # Of another patient nothing of the former stays; of the same one what is not stated does.
    shown = lock_study(tx, study_uid)
    other = patient_identity.another_patient(particulars_of_row(shown), particulars_of(instance))
    stated = {name: value for name, value in texts.items() if value not in ("", None) or (other and name in patient_identity.LABELS)}
    changed = [label for name, label in patient_identity.LABELS.items() if name in stated and stated[name] != shown._mapping[name]]
    tx.execute(studies.update().where(studies.c.study_uid == study_uid).values(**stated, revision=studies.c.revision + 1, not_before=now))
    retract_unsent(tx, study_uid, now)
    find_by(tx, study_uid, instance)
    if changed:
        record(tx, Kind.CORRECTED, f"corrected: {', '.join(changed)}", now, study=study_uid)


def _enter(tx: sa.Connection, file: str, arrival: Arrival, study_uid: str, state: CopyState, now: datetime) -> None:
    number = (tx.scalar(sa.select(sa.func.max(differing_copies.c.entry))) or 0) + 1
    values = {"study_uid": study_uid, "state": state, "at": now, "entry": number, "particulars": row_of(arrival)["attributes"]}
    row = connect.insert(tx, differing_copies).values(file=file, sop_instance_uid=arrival.instance.sop_instance_uid, **values)
    tx.execute(row.on_conflict_do_update(index_elements=["file"], set_=values))


def _row(tx: sa.Connection, uid: str) -> sa.Row[Any]:
    return tx.execute(sa.select(instances).where(instances.c.sop_instance_uid == uid).with_for_update()).one()
