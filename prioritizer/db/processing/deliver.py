"""Result objects: built once, their bytes stored, the same bytes sent until each destination has them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa

from prioritizer.config.policy import SitePolicy
from prioritizer.db.in_force.settings import ruled
from prioritizer.db.processing import leases
from prioritizer.db.processing.result_revisions import GIVEN_UP, ClaimedStudy, Result, store_result
from prioritizer.db.schema import connect
from prioritizer.db.schema.events import Kind, record
from prioritizer.db.schema.tables import deliveries, instances, results, scores, studies
from prioritizer.errors import NotAllowed, NotFound
from prioritizer.ranking.deadlines import Stage
from prioritizer.states import DELIVERY_TRANSITIONS, DeliveryState, InstanceState, states_before
from prioritizer.study import AIState, Hold

MAX_REASON = 300
REFUSED = "refused"
"""How the reason begins of a delivery that the destination refused and that is tried again; its attempts count the refusals."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedDelivery:
    """One result on its way to one destination."""

    id: int
    worker: str
    attempts: int
    study_uid: str
    destination: str
    result: Result
    refusals: int = 0
    """How often in a row the destination has refused it."""


def claim_study(engine: sa.Engine, worker: str, lease: timedelta, now: datetime) -> ClaimedStudy | None:
    """The next quiet study with something new to publish; None when there is none."""
    waiting = (
        sa.select(sa.literal(1)).where(instances.c.study_uid == studies.c.study_uid, instances.c.state == InstanceState.RECEIVED).exists()
    )
    wanted = sa.and_(
        studies.c.revision > studies.c.published_revision,
        studies.c.ai_state == AIState.SCORED,
        studies.c.held == Hold.NONE,
        sa.or_(~waiting, studies.c.publish_by <= now),
    )
    with connect.writing(engine) as tx:
        row = leases.claim_one(tx, studies, wanted, [studies.c.attempts, studies.c.not_before], worker, lease)
        if row is None:
            return None
        score = tx.execute(
            sa.select(scores).where(scores.c.sop_instance_uid == row.deciding_instance).order_by(scores.c.id.desc()).limit(1)
        ).one()
        mine = instances.c.sop_instance_uid == row.deciding_instance
        source = tx.execute(sa.select(instances.c.receipt_at, instances.c.sha256).where(mine)).one()
    return ClaimedStudy(
        study_uid=row.study_uid,
        revision=row.revision,
        worker=row.claimed_by,
        attempts=row.attempts,
        band=row.band,
        source_instance_uid=row.deciding_instance,
        bundle_digest=score.bundle_digest,
        calibration_id=score.calibration_id,
        activation=score.activation,
        probability=score.probability,
        saliency=score.saliency,
        source_received_at=source.receipt_at,
        source_sha256=source.sha256,
    )


def finish_published(
    engine: sa.Engine,
    claim: ClaimedStudy,
    result: Result | None,
    destinations: Sequence[str],
    now: datetime,
    error: str = "",
    *,
    policy: SitePolicy | None = None,
) -> bool:
    """Store the result and its deliveries and retract unsent older ones, in one commit; False when the claim was lost.

    Without a result, `error` says why there is none; the study page and `status` show it. Where `policy` is given and the rules in
    force say shadow by now, the result is not kept: what was built before a settings override never goes out after it.
    """
    with connect.writing(engine) as tx:
        if policy is not None and ruled(tx, policy).policy.ranking.stage is Stage.SHADOW:
            result = None
        done = tx.execute(
            studies.update()
            .where(leases.owned(studies, claim.study_uid, claim.worker))
            .values(published_revision=claim.revision, claimed_by=None, claimed_until=None, attempts=0, publish_error=error)
        )
        if done.rowcount != 1:
            return False
        if result is not None:
            store_result(tx, claim, result, destinations, now)
        elif error:
            record(tx, Kind.UNPUBLISHED, f"no result is sent: {error}", now, study=claim.study_uid, instance=claim.source_instance_uid)
    return True


def retract_all_unsent(tx: sa.Connection, why: str, now: datetime) -> int:
    """No result that waits is sent any more, of any study; returns how many."""
    unsent = deliveries.c.state.in_(states_before(DELIVERY_TRANSITIONS, DeliveryState.RETRACTED))
    found = tx.execute(sa.select(deliveries.c.id, deliveries.c.study_uid).where(unsent).order_by(deliveries.c.id).with_for_update()).all()
    tx.execute(deliveries.update().where(unsent).values(state=DeliveryState.RETRACTED, reason_text=why, claimed_by=None))
    for study_uid in sorted({row.study_uid for row in found}):
        record(tx, Kind.RETRACTED, f"its unsent results are retracted: {why}", now, study=study_uid)
    return len(found)


def put_study_back(engine: sa.Engine, claim: ClaimedStudy, delay: timedelta, said: str, now: datetime) -> None:
    """The result could not be built now; tried again after `delay`. What stands in the way is kept on the study's row."""
    with connect.writing(engine) as tx:
        owned = leases.owned(studies, claim.study_uid, claim.worker)
        if tx.scalar(sa.select(studies.c.publish_error).where(owned)) != said:
            record(tx, Kind.UNPUBLISHED, f"{said}; it is tried again", now, study=claim.study_uid, instance=claim.source_instance_uid)
        tx.execute(
            studies.update()
            .where(leases.owned(studies, claim.study_uid, claim.worker))
            .values(claimed_by=None, claimed_until=None, not_before=now + delay, publish_error=said)
        )


def claim_delivery(engine: sa.Engine, destination: str, worker: str, lease: timedelta) -> ClaimedDelivery | None:
    """The next object for `destination`: new before retried, then oldest first; None when there is none."""
    held = sa.select(studies.c.study_uid).where(sa.text("held <> ''"))
    mine = sa.and_(deliveries.c.state == DeliveryState.PENDING, deliveries.c.destination == destination)
    wanted = sa.and_(mine, deliveries.c.study_uid.not_in(held))
    order = [deliveries.c.attempts, deliveries.c.created_at]
    with connect.writing(engine) as tx:
        row = leases.claim_one(tx, deliveries, wanted, order, worker, lease)
        if row is None:
            return None
        result = tx.execute(sa.select(results).where(results.c.sop_instance_uid == row.result_uid)).one()
    return ClaimedDelivery(
        id=row.id,
        worker=row.claimed_by,
        attempts=row.attempts,
        study_uid=row.study_uid,
        destination=destination,
        result=Result(
            sop_instance_uid=result.sop_instance_uid,
            sop_class_uid=result.sop_class_uid,
            transfer_syntax_uid=result.transfer_syntax_uid,
            data=result.data,
        ),
        refusals=row.attempts - 1 if row.reason_text.startswith(REFUSED) else 0,
    )


def finish_delivery(engine: sa.Engine, claim: ClaimedDelivery, state: DeliveryState, text: str, now: datetime) -> bool:
    """SENT, or REJECTED with the destination's reason; False when the claim was lost or retracted meanwhile."""
    with connect.writing(engine) as tx:
        done = tx.execute(
            deliveries.update()
            .where(
                leases.owned(deliveries, claim.id, claim.worker),
                deliveries.c.state.in_(states_before(DELIVERY_TRANSITIONS, state)),
            )
            .values(
                state=state,
                reason_text=text,
                claimed_by=None,
                claimed_until=None,
                sent_at=now if state is DeliveryState.SENT else None,
            )
        )
        if done.rowcount != 1:
            return False
        sent = state is DeliveryState.SENT
        said = f"result stored by {claim.destination}" if sent else f"{claim.destination} refused the result permanently: {text}"
        kind = Kind.SENT if sent else Kind.REJECTED
        record(tx, kind, said, now, study=claim.study_uid, instance=claim.result.sop_instance_uid)
    return True


def put_delivery_back(engine: sa.Engine, claim: ClaimedDelivery, delay: timedelta, text: str, now: datetime, *, refusals: int = 0) -> None:
    """The destination did not take it now; the same object is sent again after `delay`.

    `refusals` counts how often in a row it was refused, not merely out of reach; the reason then says so.
    """
    counted = {"attempts": refusals} if refusals else {}
    with connect.writing(engine) as tx:
        tx.execute(
            deliveries.update()
            .where(leases.owned(deliveries, claim.id, claim.worker))
            .values(
                claimed_by=None,
                claimed_until=None,
                not_before=now + delay,
                reason_text=f"{REFUSED}, {text}" if refusals else text,
                **counted,
            )
        )


def requeue_deliveries(engine: sa.Engine, study_uid: str, actor: str, now: datetime) -> int:
    """Send again what was refused permanently or is waiting for its next try; returns how many deliveries."""
    with connect.writing(engine) as tx:
        if not tx.scalar(sa.select(sa.literal(1)).where(studies.c.study_uid == study_uid)):
            raise NotFound(f"no study {study_uid} in the ledger")
        again = deliveries.c.state.in_([DeliveryState.REJECTED, DeliveryState.PENDING])
        done = tx.execute(
            deliveries.update()
            .where(deliveries.c.study_uid == study_uid, again)
            .values(state=DeliveryState.PENDING, attempts=0, not_before=None, reason_text="", claimed_by=None, claimed_until=None)
        )
        if not done.rowcount:
            raise NotAllowed(f"study {study_uid} has no refused or waiting delivery")
        record(tx, Kind.REQUEUED, f"{done.rowcount} deliveries to be sent again", now, study=study_uid, actor=actor)
        return done.rowcount


def discard_deliveries(engine: sa.Engine, study_uid: str, actor: str, reason: str, now: datetime) -> int:
    """Give up what was refused permanently: the alarm ends, the result stays here. Returns how many. Raises NotFound, NotAllowed."""
    reason = " ".join(reason.split())
    if not 0 < len(reason) <= MAX_REASON:
        raise NotAllowed(f"say why these results are given up, in at most {MAX_REASON} characters; it is kept")
    with connect.writing(engine) as tx:
        if not tx.scalar(sa.select(sa.literal(1)).where(studies.c.study_uid == study_uid)):
            raise NotFound(f"no study {study_uid} in the ledger")
        done = tx.execute(
            deliveries.update()
            .where(deliveries.c.study_uid == study_uid, deliveries.c.state == DeliveryState.REJECTED)
            .values(state=DeliveryState.RETRACTED, reason_text=f"{GIVEN_UP} by {actor}: {reason}", claimed_by=None, claimed_until=None)
        )
        if not done.rowcount:
            raise NotAllowed(f"study {study_uid} has no refused delivery that could be given up")
        record(tx, Kind.RETRACTED, f"{done.rowcount} refused deliveries given up: {reason}", now, study=study_uid, actor=actor)
        return done.rowcount


def requeue_all(engine: sa.Engine, actor: str, now: datetime) -> int:
    """Send again every result that was refused permanently; returns of how many studies."""
    with connect.reading(engine) as tx:
        uids = tx.scalars(sa.select(deliveries.c.study_uid).where(deliveries.c.state == DeliveryState.REJECTED).distinct()).all()
    for uid in uids:
        with suppress(NotAllowed):  # somebody else did it meanwhile
            requeue_deliveries(engine, uid, actor, now)
    return len(uids)
