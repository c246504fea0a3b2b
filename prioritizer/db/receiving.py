"""Received instances enter the ledger; the receive station's only write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from prioritizer import ranking
from prioritizer.db import connect, ranking_policy
from prioritizer.db.events import Kind, record
from prioritizer.db.in_force import InForce, in_force
from prioritizer.db.placing import OWN_OBJECT, put_in_place, replace_study
from prioritizer.db.tables import ECHO, NO_READER, instances, notices, studies, terms
from prioritizer.errors import Transient
from prioritizer.ranking import Policy, Standing
from prioritizer.search import terms_of
from prioritizer.study import AIState, Instance, InstanceState, ReadingState

NOT_IN_ATTRIBUTES = (
    "sop_instance_uid", "study_uid", "series_uid", "sop_class_uid", "transfer_syntax_uid",
    "calling_ae", "called_ae", "address", "received_at", "sha256", "size",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """One instance as read from the spool; `unreadable` says why its header could not be read."""

    instance: Instance
    unreadable: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quiet:
    """When a study is ready to publish: seconds without a new instance, and the ceiling."""

    quiet: timedelta
    ceiling: timedelta


def receive(engine: sa.Engine, arrivals: Sequence[Arrival], policy: Policy, quiet: Quiet, now: datetime) -> int:
    """Enter the arrivals, each once however often it is handed in; returns how many were new."""
    try:
        with connect.writing(engine) as tx:
            ranking_policy.remember(tx, policy)
            rules = in_force(tx, policy)
            return sum(_receive_one(tx, arrival, rules, quiet, now) for arrival in arrivals)
    except IntegrityError as error:
        raise Transient("another process entered the same study at the same moment; its arrivals are looked at again") from error


def _receive_one(tx: sa.Connection, arrival: Arrival, rules: InForce, quiet: Quiet, now: datetime) -> bool:
    instance = arrival.instance
    known = tx.scalar(sa.select(sa.literal(1)).where(instances.c.sop_instance_uid == instance.sop_instance_uid))
    if known:
        return False
    study = tx.execute(sa.select(studies).where(studies.c.study_uid == instance.study_uid).with_for_update()).one_or_none()
    if study is None:
        _open_study(tx, instance, rules.policy, now)
    elif not instance.made_by_us:  # our own object coming back from the PACS is recorded, and nothing else changes
        _add_to_study(tx, study, instance, rules.policy, quiet, now)
    tx.execute(instances.insert().values(**_instance_row(arrival)))
    ai_is_done = study is not None and study.ai_state in (AIState.NOT_SCORED, AIState.FAILED)
    # A study that was read kept the scores of its day; open again, it stands by the calibration of today.
    was_read = study is not None and study.reading_state == ReadingState.READ
    if arrival.unreadable or ((ai_is_done or was_read) and not instance.made_by_us):
        replace_study(tx, instance.study_uid, rules, now)
    return True


def _instance_row(arrival: Arrival) -> dict[str, Any]:
    values = asdict(arrival.instance)
    attributes = {key: value for key, value in values.items() if key not in NOT_IN_ATTRIBUTES}
    row = {key: values[key] for key in NOT_IN_ATTRIBUTES} | {"attributes": attributes}
    if arrival.unreadable:
        row |= {"state": InstanceState.FAILED, "reason": "header", "reason_text": arrival.unreadable}
    elif arrival.instance.made_by_us:
        own = "made by prioritizer itself: recorded, never scored"
        row |= {"state": InstanceState.INELIGIBLE, "reason": OWN_OBJECT, "reason_text": own}
    return row


def _open_study(tx: sa.Connection, instance: Instance, policy: Policy, now: datetime) -> None:
    standing = Standing(study_uid=instance.study_uid, first_received_at=instance.received_at, stat=instance.stat)
    place = ranking.place(standing, policy)
    tx.execute(
        studies.insert().values(
            study_uid=instance.study_uid,
            **_study_texts(instance),
            calling_ae=instance.calling_ae,
            first_received_at=instance.received_at,
            last_received_at=instance.received_at,
            instances=1,
            listed=not instance.made_by_us,
            stat=instance.stat,
            band=place.band,
            due_at=place.due_at,
            place_reason=place.reason,
        )
    )
    if not instance.made_by_us:
        _find_by(tx, instance)
    record(tx, Kind.ARRIVED, f"arrived from {instance.calling_ae}; {place.reason}", now, study=instance.study_uid)


def _find_by(tx: sa.Connection, instance: Instance) -> None:
    """Enter what the study is found by, in the moment it is listed for the first time."""
    texts = {name: getattr(instance, name) for name in ("study_uid", "patient_id", "patient_name", "accession_number")}
    tx.execute(terms.insert(), [{"term": term, "study_uid": instance.study_uid} for term in sorted(terms_of(**texts))])


def _study_texts(instance: Instance) -> dict[str, Any]:
    """What the list shows of patient and study."""
    return {
        "patient_id": instance.patient_id,
        "patient_name": instance.patient_name,
        "patient_birth_date": instance.patient_birth_date,
        "patient_sex": instance.patient_sex,
        "age_years": instance.age_years,
        "accession_number": instance.accession_number,
        "study_description": instance.study_description,
        "modality": instance.modality,
    }


def _add_to_study(tx: sa.Connection, study: sa.Row[Any], instance: Instance, policy: Policy, quiet: Quiet, now: datetime) -> None:
    new: dict[str, Any] = {
        "instances": studies.c.instances + 1,
        "last_received_at": max(study.last_received_at, instance.received_at),
        "listed": True,
        "stat": study.stat or instance.stat,
    }
    if not study.listed:
        new |= _study_texts(instance) | {"first_received_at": instance.received_at}
        _find_by(tx, instance)
    if study.revision > study.published_revision and study.publish_by is not None:
        new["not_before"] = min(now + quiet.quiet, study.publish_by)
    if study.listed and study.reading_state != ReadingState.READ and instance.received_at > study.last_received_at + quiet.quiet:
        record(tx, Kind.GREW, "more images arrived later", now, study=instance.study_uid)
    if study.reading_state == ReadingState.READ:
        new |= {"reading_state": ReadingState.OPEN, "read_at": None, "expired_at": None, **NO_READER}
        record(tx, Kind.LATE, "another image arrived after the study was read: open again", now, study=instance.study_uid)
    elif study.expired_at is not None:
        # A study that is sent to again is nothing old that may stand apart.
        new["expired_at"] = None
        record(tx, Kind.LATE, "another image arrived: on the list again", now, study=instance.study_uid)
    tx.execute(studies.update().where(studies.c.study_uid == instance.study_uid).values(**new))
    if new["stat"] != study.stat or not study.listed:
        put_in_place(tx, instance.study_uid, policy, now)


def record_notice(engine: sa.Engine, name: str, notice: Mapping[str, Any], at: datetime, now: datetime) -> None:
    """Enter one notice of the listener, once however often it is handed in. Of the C-ECHOs of a peer only the newest is kept."""
    columns = ("kind", "address", "calling_ae", "called_ae", "reason")
    # Postgres takes no NUL in a text, and a hostile peer's AE title may hold one.
    texts = {key: str(notice.get(key) or "").replace("\0", "\N{REPLACEMENT CHARACTER}")[:500] for key in columns}
    echo = texts["kind"] == ECHO
    if echo:
        name = f"{ECHO} {texts['calling_ae']} {texts['address']}"[:80]
    with connect.writing(engine) as tx:
        if tx.scalar(sa.select(sa.literal(1)).where(notices.c.name == name)):
            if echo:
                tx.execute(notices.update().where(notices.c.name == name, notices.c.at < at).values(at=at))
            return
        detail = {key: value for key, value in notice.items() if key not in columns}
        tx.execute(notices.insert().values(name=name, at=at, detail=detail, **texts))
        uid = notice.get("sop_instance_uid")
        if notice.get("kind") == "conflict" and uid:
            study = tx.scalar(sa.select(instances.c.study_uid).where(instances.c.sop_instance_uid == uid))
            said = "the same SOP instance arrived again with other bytes: the first stays, the other is kept as a conflict"
            record(tx, Kind.CONFLICT, said, now, study=study, instance=uid)


def known_instances(engine: sa.Engine) -> dict[str, bool]:
    """Every SOP instance UID of the ledger, with whether its pixels should still be in the spool."""
    with connect.reading(engine) as tx:
        rows = tx.execute(sa.select(instances.c.sop_instance_uid, instances.c.pixels_deleted_at.is_(None)))
        return {row[0]: row[1] for row in rows}
