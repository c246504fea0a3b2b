"""Instances, studies and deliveries brought to a state, step by step."""

from __future__ import annotations

from datetime import timedelta

import sqlalchemy as sa

from prioritizer.db.processing import score as processing_score
from prioritizer.db.processing.score import ClaimedInstance
from prioritizer.db.worklist import study
from prioritizer.states import InstanceState
from tests.support.ledgers import (
    LEASE,
    NOW,
    POLICY,
    deliver,
    film,
    publish,
    receive,
    score_next,
    score_of,
)

LATER = NOW + timedelta(hours=1)


def instance_state(ledger: sa.Engine) -> str:
    return study.study_instances(ledger, "1.2.3")[0].state


def finish_unscored(ledger: sa.Engine, claim: ClaimedInstance, state: InstanceState) -> bool:
    return processing_score.finish_unscored(ledger, claim, state, "x", f"it is {state}", POLICY, NOW)


def bring_instance_to(ledger: sa.Engine, state: InstanceState) -> ClaimedInstance:
    receive(ledger, film())
    claim = processing_score.claim_instance(ledger, "w", LEASE)
    assert claim is not None
    if state is InstanceState.SCORED:
        processing_score.finish_scored(ledger, claim, score_of(0.2), POLICY, NOW)
    elif state is not InstanceState.RECEIVED:
        finish_unscored(ledger, claim, state)
    return claim


def newer_revision(ledger: sa.Engine) -> None:
    receive(ledger, film(2))
    score_next(ledger, 0.9)
    publish(ledger, "2.25.2")


def the_same_again(ledger: sa.Engine) -> None:
    receive(ledger, film(3))
    score_next(ledger, 0.1)
    publish(ledger, "2.25.1")


def another_sent_and_the_same_again(ledger: sa.Engine) -> None:
    newer_revision(ledger)
    deliver(ledger)
    the_same_again(ledger)


def pixels_are_gone(ledger: sa.Engine, uid: str) -> None:
    with ledger.begin() as tx:
        tx.exec_driver_sql(f"UPDATE instances SET pixels_deleted_at = 1 WHERE sop_instance_uid = '{uid}'")
