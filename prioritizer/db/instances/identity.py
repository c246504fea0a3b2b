"""Which row an instance belongs to, and what a row shows of its patient: no row mixes two people.

A row is one patient's under one Study Instance UID. Two patients under one UID are two rows, each marked. Later objects complete a row,
and correct it where they state the same Patient ID; empty never contradicts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from prioritizer import patient_identity
from prioritizer.db.list_order.search_terms import terms_of
from prioritizer.db.schema.events import Kind, record
from prioritizer.db.schema.instance_rows import holds_a_radiograph
from prioritizer.db.schema.tables import studies, terms
from prioritizer.patient_identity import Particulars, particulars_of
from prioritizer.scope.header_rules import may_be_a_radiograph
from prioritizer.study import ANOTHER_PATIENT, Hold, Instance, StudyUID, row_key, study_instance_uid

MAX_PATIENTS = 9
"""Under one Study Instance UID: a device that gives one UID to more is listed image by image."""
PATIENT = ("patient_id", "issuer", "patient_name", "patient_birth_date", "patient_sex", "accession_number")
TWO_PATIENTS = "the same Study Instance UID came for another patient too"
CORRECTED = ("patient_name", "patient_sex")
"""What a later image of the same Patient ID corrects. An accession number is not: one study may serve two orders."""
OF_IMAGE = ("age_years", "study_description", "modality")
"""What the first image says better than an object that came before it."""


def texts_of(instance: Instance) -> dict[str, Any]:
    """What the list shows of patient and study, as one instance states it."""
    stated = {name: getattr(particulars_of(instance), name) for name in PATIENT}
    return stated | {name: getattr(instance, name) for name in OF_IMAGE}


def particulars_of_row(row: sa.Row[Any]) -> Particulars:
    """What a row shows of its patient."""
    return Particulars(**{name: row._mapping[name] for name in PATIENT})


def keys_under(study_uid: str) -> list[StudyUID]:
    """The keys that rows under a Study Instance UID may have, the first patient's first."""
    return [row_key(study_uid, number) for number in range(1, MAX_PATIENTS + 1)]


def rows_under(tx: sa.Connection, study_uid: str) -> Sequence[sa.Row[Any]]:
    """The rows under a Study Instance UID, one a patient, also one that joined another; held in one order until the commit."""
    keys = keys_under(study_uid)
    found = tx.execute(sa.select(studies).where(studies.c.study_uid.in_(keys)).order_by(studies.c.study_uid).with_for_update()).all()
    return sorted(found, key=lambda row: keys.index(row.study_uid))


def row_for(tx: sa.Connection, instance: Instance) -> tuple[StudyUID, sa.Row[Any] | None, Sequence[sa.Row[Any]]]:
    """The key of the row that an instance belongs to, the row where there is one, and the rows of other patients under its UID."""
    rows = rows_under(tx, instance.study_uid)
    stated = particulars_of(instance)
    standing = [row for row in rows if row.listed or ANOTHER_PATIENT not in row.study_uid]
    fitting = [row for row in standing if instance.made_by_us or not patient_identity.another_patient(particulars_of_row(row), stated)]
    best = next((row for row in fitting if patient_identity.same_patient(particulars_of_row(row), stated)), next(iter(fitting), None))
    joined = [row for row in rows if row not in standing]
    if best is None and any(patient_identity.alike(particulars_of_row(row), stated) for row in joined):
        best = standing[0]  # a person said that this patient is that of the first row
    others = [row for row in standing if row is not best]
    if best is not None:
        return StudyUID(best.study_uid), best, others
    taken = {row.study_uid for row in rows}
    alone = f"{instance.study_uid}{ANOTHER_PATIENT}{hashlib.sha256(instance.sop_instance_uid.encode()).hexdigest()[:12]}"
    return next((key for key in keys_under(instance.study_uid) if key not in taken), StudyUID(alone)), None, others


def mark_two_patients(tx: sa.Connection, key: str, stated: Particulars, others: Sequence[sa.Row[Any]], now: datetime) -> None:
    """A new row stands beside others under the same Study Instance UID: each says so, and a person confirms it."""
    said = "another patient came under the same Study Instance UID: each has a row of their own"
    for row in others:
        mark(tx, row.study_uid, f"{TWO_PATIENTS}, {patient_identity.in_words(stated)}")
        record(tx, Kind.IDENTITY, said, now, study=row.study_uid, other=key)
    mark(tx, key, f"{TWO_PATIENTS}, {patient_identity.in_words(particulars_of_row(others[0]))}")
    record(tx, Kind.IDENTITY, said, now, study=key, other=others[0].study_uid)


def mark(tx: sa.Connection, key: str, text: str, *, held: bool = False) -> None:
    """What a person must confirm of a row, beside what is there to be confirmed already. `held`: no result goes out meanwhile."""
    before = tx.scalar(sa.select(studies.c.identity).where(studies.c.study_uid == key)) or ""
    marks = dict.fromkeys([*filter(None, before.split("\n")), text])
    tx.execute(studies.update().where(studies.c.study_uid == key).values(identity="\n".join(marks)[:4000]))
    if held:
        hold(tx, key)


def hold(tx: sa.Connection, key: str) -> None:
    """No result of the row goes out until it is confirmed whose it is; one that waits for another word waits for that one first."""
    tx.execute(studies.update().where(studies.c.study_uid == key, studies.c.held == Hold.NONE).values(held=Hold.IDENTITY))


def find_by(tx: sa.Connection, key: str, instance: Instance) -> None:
    """Enter what the study is found by, beside what it is found by already."""
    texts = {name: getattr(instance, name) for name in ("patient_id", "patient_name", "accession_number")}
    known = set(tx.scalars(sa.select(terms.c.term).where(terms.c.study_uid == key)))
    new = sorted(terms_of(study_uid=instance.study_uid, **texts) - known)
    if new:
        tx.execute(terms.insert(), [{"term": term, "study_uid": key} for term in new])


def after(tx: sa.Connection, row: sa.Row[Any], instance: Instance, now: datetime) -> dict[str, Any]:
    """What the row shows once this instance has joined it; writes down what was completed or corrected, without patient data."""
    stated, shown = texts_of(instance), {name: row._mapping[name] for name in (*PATIENT, *OF_IMAGE)}
    first_image = may_be_a_radiograph(instance) and not holds_a_radiograph(tx, row.study_uid)
    corrects = patient_identity.same_patient(particulars_of_row(row), particulars_of(instance))
    new: dict[str, Any] = {}
    for name, value in stated.items():
        if value in ("", None) or value == shown[name]:
            continue
        empty = shown[name] in ("", None)
        if empty or (first_image and name in OF_IMAGE) or (corrects and may_be_a_radiograph(instance) and name in CORRECTED):
            new[name] = value
    _say_so(tx, row, new, instance, corrects=corrects, now=now)
    return new


def _joined_by(tx: sa.Connection, row: sa.Row[Any], instance: Instance) -> bool:
    """True where a row of this very patient joined the row: a person said that the two are one."""
    stated = particulars_of(instance)
    joined = [one for one in rows_under(tx, study_instance_uid(row.study_uid)) if not one.listed and ANOTHER_PATIENT in one.study_uid]
    return any(patient_identity.alike(particulars_of_row(one), stated) for one in joined)


def _say_so(tx: sa.Connection, row: sa.Row[Any], new: dict[str, Any], instance: Instance, *, corrects: bool, now: datetime) -> None:
    changed = [patient_identity.LABELS[name] for name in new if name in PATIENT and row._mapping[name]]
    filled = [patient_identity.LABELS[name] for name in new if name in PATIENT and not row._mapping[name]]
    uid = instance.sop_instance_uid
    if changed:
        record(tx, Kind.CORRECTED, f"corrected by a later image: {', '.join(changed)}", now, study=row.study_uid, instance=uid)
    if filled:
        record(tx, Kind.COMPLETED, f"completed by a later object: {', '.join(filled)}", now, study=row.study_uid, instance=uid)
    named = patient_identity.differing(particulars_of_row(row), particulars_of(instance))
    if "patient_name" in named and not corrects and not _joined_by(tx, row, instance):
        text = f"an object under another name joined this study, {patient_identity.in_words(particulars_of(instance))}"
        mark(tx, row.study_uid, text)
        record(tx, Kind.IDENTITY, "an object under another name joined this study", now, study=row.study_uid, instance=uid)
