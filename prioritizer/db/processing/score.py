"""The scoring of instances: claim, then exactly one of scored, ineligible, failed or put back."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from prioritizer.calibration.maps import Calibration
from prioritizer.config.policy import SitePolicy
from prioritizer.db.in_force import site_policy
from prioritizer.db.in_force.calibration import in_force
from prioritizer.db.list_order.placement import replace_study
from prioritizer.db.processing import leases
from prioritizer.db.processing.result_revisions import bump_revision
from prioritizer.db.schema import connect
from prioritizer.db.schema.events import Kind, record
from prioritizer.db.schema.instance_rows import instance_of
from prioritizer.db.schema.tables import MADE, instances, scores, studies
from prioritizer.errors import CalibrationChanged
from prioritizer.scope.guard_rules import OUT_OF_DISTRIBUTION
from prioritizer.states import INSTANCE_TRANSITIONS, InstanceState, states_before
from prioritizer.study import Instance, Probability, Score

MAX_DISTANCE = 1e6
"""Distances from the training data are kept up to here: what is no number is infinitely far."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedInstance:
    """An instance that `worker`, a claim of its own, may score until its lease runs out."""

    instance: Instance
    worker: str
    attempts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Distance:
    """How far an image lies from the training data of a bundle, in units of its limit; None where no guard measured it."""

    distance: float | None = None
    bundle_digest: str = ""


NOT_MEASURED = Distance()


def claim_instance(engine: sa.Engine, worker: str, lease: timedelta) -> ClaimedInstance | None:
    """The next instance to score: new before retried, then in order of arrival; None when there is none."""
    with connect.writing(engine) as tx:
        wanted = instances.c.state == InstanceState.RECEIVED
        row = leases.claim_one(tx, instances, wanted, [instances.c.attempts, instances.c.received_at], worker, lease)
    return None if row is None else ClaimedInstance(instance=instance_of(row), worker=row.claimed_by, attempts=row.attempts)


def _leave(
    tx: sa.Connection, claim: ClaimedInstance, state: InstanceState, measured: Distance, reason: str = "", text: str = ""
) -> sa.Row[Any] | None:
    """Move the claimed instance out of RECEIVED; returns its study and version of pixels as they are now, None when the claim was lost."""
    uid = claim.instance.sop_instance_uid
    distance = None if measured.distance is None else min(measured.distance, MAX_DISTANCE)
    left = (
        instances.update()
        .where(leases.owned(instances, uid, claim.worker), instances.c.state.in_(states_before(INSTANCE_TRANSITIONS, state)))
        .values(state=state, reason=reason, reason_text=text, claimed_by=None, claimed_until=None)
        .values(out_of_distribution=distance, measured_by="" if distance is None else measured.bundle_digest)
    )
    return tx.execute(left.returning(instances.c.study_uid, instances.c.pixels_version)).one_or_none()


def finish_scored(engine: sa.Engine, claim: ClaimedInstance, score: Score, policy: SitePolicy, now: datetime) -> bool:
    """Score, state, study risk and place in one commit; False when the claim was lost meanwhile, or AI was turned off.

    A score without a probability gets it here, from its logit, by the calibration that is in force in this very transaction. Where there
    is none, AI was turned off while the network looked: the claim is given back, as no try of this image.
    """
    uid = claim.instance.sop_instance_uid
    with connect.writing(engine) as tx:
        site_policy.remember(tx, policy)
        rules = in_force(tx, policy)
        if rules.fault:
            raise CalibrationChanged(rules.fault)
        calibration = rules.calibration if score.bundle_digest == policy.bundle_digest else None
        if calibration is None and score.probability is None:
            _give_up(tx, claim, timedelta(0), instances.c.attempts - 1, now)
            return False
        measured = Distance(distance=score.out_of_distribution, bundle_digest=score.bundle_digest)
        left = _leave(tx, claim, InstanceState.SCORED, measured)
        if left is None:
            return False
        if calibration is not None:
            age = tx.scalar(sa.select(studies.c.age_years).where(studies.c.study_uid == left.study_uid))
            score = _calibrated(score, calibration.for_age(age), rules.activation)
        _store_score(tx, uid, left.pixels_version, score, now)
        said = f"scored by bundle {score.bundle_digest[:12]}, calibration {score.calibration_id}"
        if score.warnings:
            said += f" ({'; '.join(score.warnings)})"
        record(tx, Kind.SCORED, said, now, study=left.study_uid, instance=uid, probability=score.probability)
        replace_study(tx, left.study_uid, rules, now)
        bump_revision(tx, left.study_uid, policy.quiet, now)
    return True


def _calibrated(score: Score, calibration: Calibration, activation: int) -> Score:
    p = Probability(calibration.probability(score.logit))
    return replace(score, calibration_id=calibration.id, probability=p, activation=activation)


def _store_score(tx: sa.Connection, uid: str, pixels_version: int, score: Score, now: datetime) -> None:
    """Enter a score, unless this very one is there: another bundle took the image back and went before it scored anything."""
    row = {
        "sop_instance_uid": uid,
        "pixels_version": pixels_version,
        "bundle_digest": score.bundle_digest,
        "calibration_id": score.calibration_id,
        "preprocessing_id": score.preprocessing_id,
        "engine": score.engine,
        "precision": score.precision,
        "logit": score.logit,
        "probability": score.probability,
        "saliency": score.saliency,
        "embedding": score.embedding,
        "warnings": list(score.warnings),
        "scored_at": now,
        "activation": score.activation,
    }
    if tx.scalar(sa.select(scores.c.id).where(*(scores.c[name] == row[name] for name in MADE))) is None:
        tx.execute(scores.insert().values(**row))


def finish_unscored(
    engine: sa.Engine,
    claim: ClaimedInstance,
    state: InstanceState,
    reason: str,
    text: str,
    policy: SitePolicy,
    now: datetime,
    measured: Distance = NOT_MEASURED,
) -> bool:
    """INELIGIBLE or FAILED with its reason; the study stays on the list. False when the claim was lost meanwhile."""
    kind = Kind.INELIGIBLE if state is InstanceState.INELIGIBLE else Kind.FAILED
    with connect.writing(engine) as tx:
        rules = in_force(tx, policy)
        if reason == OUT_OF_DISTRIBUTION and measured.distance is not None and not rules.leaves(measured.distance):
            # What left it out went out of force while it was looked at: it is looked at again, as one more try.
            _give_up(tx, claim, timedelta(0), instances.c.attempts, now)
            return False
        left = _leave(tx, claim, state, measured, reason, text)
        if left is None:
            return False
        words = "not scored" if state is InstanceState.INELIGIBLE else "could not be scored"
        record(tx, kind, f"{words}: {text}", now, study=left.study_uid, instance=claim.instance.sop_instance_uid, rule=reason)
        replace_study(tx, left.study_uid, rules, now)
    return True


def put_back(engine: sa.Engine, claim: ClaimedInstance, delay: timedelta, now: datetime, *, counted: bool = True) -> None:
    """Give the claim up; the instance is tried again after `delay`. `counted`: as a try of this image, not as a fault of the machine."""
    with connect.writing(engine) as tx:
        _give_up(tx, claim, delay, instances.c.attempts if counted else instances.c.attempts - 1, now)


def _give_up(tx: sa.Connection, claim: ClaimedInstance, delay: timedelta, attempts: sa.ColumnElement[int], now: datetime) -> None:
    owned = leases.owned(instances, claim.instance.sop_instance_uid, claim.worker)
    tx.execute(instances.update().where(owned).values(claimed_by=None, claimed_until=None, not_before=now + delay, attempts=attempts))
