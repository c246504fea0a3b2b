"""Which object is a study's result: a new one takes the place of what was not sent, an earlier one may be it again."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from prioritizer.config.policy import QuietTime
from prioritizer.db.schema.events import Kind, record
from prioritizer.db.schema.tables import deliveries, results, studies
from prioritizer.states import DELIVERY_TRANSITIONS, DeliveryState, states_before

GIVEN_UP = "given up"
"""How the reason begins of a delivery that an operator does not want sent any more, whatever comes."""


def store_result(tx: sa.Connection, claim: ClaimedStudy, result: Result, destinations: Sequence[str], now: datetime) -> None:
    """Keep a built result with a delivery for each destination, in the caller's transaction.

    One that is kept already is sent again where another was sent since, or where it was retracted before it was sent.
    """
    if tx.scalar(sa.select(sa.literal(1)).where(results.c.sop_instance_uid == result.sop_instance_uid)):
        # A late instance that changed nothing: the PACS has this very object, it is on its way, it was retracted before it was sent, or
        # another was sent since. Its bytes may have been deleted long after it was sent: they come out the same.
        mine = results.c.sop_instance_uid == result.sop_instance_uid
        tx.execute(results.update().where(mine, results.c.data_deleted_at.is_not(None)).values(data=result.data, data_deleted_at=None))
        _send_after_all(tx, claim.study_uid, result.sop_instance_uid, now)
        return
    retract_unsent(tx, claim.study_uid, now)
    tx.execute(
        results.insert().values(
            sop_instance_uid=result.sop_instance_uid,
            sop_class_uid=result.sop_class_uid,
            transfer_syntax_uid=result.transfer_syntax_uid,
            study_uid=claim.study_uid,
            source_instance_uid=claim.source_instance_uid,
            revision=claim.revision,
            built_at=now,
            sha256=hashlib.sha256(result.data).hexdigest(),
            data=result.data,
        )
    )
    for name in destinations:
        tx.execute(
            deliveries.insert().values(result_uid=result.sop_instance_uid, study_uid=claim.study_uid, destination=name, created_at=now)
        )
    said = f"result {result.sop_instance_uid} built for {', '.join(destinations) or 'no destination'}"
    record(tx, Kind.PUBLISHED, said, now, study=claim.study_uid, instance=claim.source_instance_uid)


def _send_after_all(tx: sa.Connection, study_uid: str, result_uid: str, now: datetime) -> None:
    """What was retracted before it was sent, or sent before another was, is the study's result again."""
    retract_unsent(tx, study_uid, now, but=result_uid)
    mine, others = deliveries.c.result_uid == result_uid, _sent_later()
    held = tx.execute(sa.select(deliveries.c.destination, others.scalar_subquery().label("uid")).where(mine, others.exists())).all()
    retracted = sa.and_(deliveries.c.state == DeliveryState.RETRACTED, ~deliveries.c.reason_text.startswith(GIVEN_UP))
    overtaken = sa.and_(deliveries.c.state == DeliveryState.SENT, others.exists())
    again = {"attempts": 0, "not_before": None, "reason_text": "", "claimed_by": None, "claimed_until": None}
    done = tx.execute(deliveries.update().where(mine, sa.or_(retracted, overtaken)).values(state=DeliveryState.PENDING, **again))
    if done.rowcount:
        record(tx, Kind.REQUEUED, f"result {result_uid} is sent after all", now, study=study_uid)
    for name, other in held:
        said = f"{name} holds result {other}, sent last; the study's result is {result_uid} again"
        record(tx, Kind.REQUEUED, said, now, study=study_uid)


def _sent_later() -> sa.Select[tuple[str]]:
    """The result of the same study that the destination of a delivery was sent last, where that was after this delivery's own."""
    later = deliveries.alias()
    after = sa.or_(
        deliveries.c.sent_at.is_(None),
        later.c.sent_at > deliveries.c.sent_at,
        sa.and_(later.c.sent_at == deliveries.c.sent_at, later.c.id > deliveries.c.id),
    )
    return (
        sa.select(later.c.result_uid)
        .where(
            later.c.study_uid == deliveries.c.study_uid,
            later.c.destination == deliveries.c.destination,
            later.c.result_uid != deliveries.c.result_uid,
            later.c.state.in_((DeliveryState.SENT, DeliveryState.COMMITTED)),
            after,
        )
        .order_by(later.c.sent_at.desc(), later.c.id.desc())
        .limit(1)
        .correlate(deliveries)
    )


REPLACED = "replaced by a newer revision"
"""Why most results are retracted."""


def retract_unsent(tx: sa.Connection, study_uid: str, now: datetime, but: str = "", why: str = REPLACED) -> None:
    """No result of the study that was not sent goes out any more, save the one named in `but`; one that is being built is not kept."""
    tx.execute(studies.update().where(studies.c.study_uid == study_uid).values(claimed_by=None, claimed_until=None))
    unsent = states_before(DELIVERY_TRANSITIONS, DeliveryState.RETRACTED)
    done = tx.execute(
        deliveries.update()
        .where(deliveries.c.study_uid == study_uid, deliveries.c.state.in_(unsent), deliveries.c.result_uid != but)
        .values(state=DeliveryState.RETRACTED, reason_text=f"{why} before it was sent", claimed_by=None)
    )
    if done.rowcount:
        record(tx, Kind.RETRACTED, f"{done.rowcount} unsent older results retracted", now, study=study_uid)


def bump_revision(tx: sa.Connection, study_uid: str, quiet: QuietTime, now: datetime) -> None:
    """The study has something new to publish, after the quiet time and at the latest at the ceiling."""
    row = tx.execute(
        sa.select(studies.c.revision, studies.c.published_revision, studies.c.publish_by).where(studies.c.study_uid == study_uid)
    ).one()
    waiting = row.revision > row.published_revision and row.publish_by is not None
    publish_by = row.publish_by if waiting else now + quiet.ceiling
    tx.execute(
        studies.update()
        .where(studies.c.study_uid == study_uid)
        .values(
            revision=row.revision + 1,
            publish_by=publish_by,
            not_before=min(now + quiet.quiet, publish_by),
            attempts=0,
            publish_error="",
        )
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedStudy:
    """A study to publish: the deciding image's score, as it stood when claimed."""

    study_uid: str
    revision: int
    worker: str
    attempts: int
    band: str
    source_instance_uid: str
    bundle_digest: str
    calibration_id: str
    activation: int
    probability: float
    saliency: bytes
    source_received_at: datetime
    source_sha256: str
    """Of the file that was scored."""
    """When the deciding image was received: the time that its result states."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A built object, ready to send."""

    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    data: bytes
