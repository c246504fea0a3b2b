"""Three state machines, each walked exactly as its table says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from enum import StrEnum

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from prioritizer.calibration.maps import Calibration
from prioritizer.db.processing import daemon_start as processing_start
from prioritizer.db.processing import deliver as processing_deliver
from prioritizer.db.processing import requeue
from prioritizer.db.processing import score as processing_score
from prioritizer.db.processing.deliver import ClaimedDelivery
from prioritizer.db.processing.score import ClaimedInstance
from prioritizer.db.schema import connect
from prioritizer.db.schema.tables import deliveries, instances, scores, studies
from prioritizer.db.worklist import deadlines, reading, rows
from prioritizer.errors import NotAllowed
from prioritizer.states import DELIVERY_TRANSITIONS, INSTANCE_TRANSITIONS, READING_TRANSITIONS, DeliveryState, InstanceState, ReadingState
from tests.support.ledger_states import (
    LATER,
    another_sent_and_the_same_again,
    bring_instance_to,
    finish_unscored,
    instance_state,
    newer_revision,
    the_same_again,
)
from tests.support.ledgers import (
    LEASE,
    NOW,
    POLICY,
    deliveries_of,
    film,
    own_object,
    publish,
    receive,
    score_next,
    score_of,
    scored,
)


def arrows(table: Mapping[StrEnum, frozenset[StrEnum]]) -> set[tuple[str, str]]:
    return {(start, end) for start, ends in table.items() for end in ends}


# --- instance: RECEIVED -> SCORED | INELIGIBLE | FAILED, requeue ----------------------------------------------------------


ANOTHER = replace(
    POLICY,
    bundle_digest="e" * 64,
    own=Calibration(id="own", method="temperature", slope=1.0, intercept=0.0, t_high=0.5, t_low=0.1, n=500, events=100),
)


def another_bundle_without_pixels(ledger: sa.Engine) -> None:
    with connect.writing(ledger) as tx:
        tx.exec_driver_sql("UPDATE instances SET pixels_deleted_at = received_at")
    processing_start.another_bundle(ledger, ANOTHER, NOW)


INSTANCE_VERBS: dict[str, Callable[[sa.Engine, ClaimedInstance], object]] = {
    "score": lambda db, claim: processing_score.finish_scored(db, claim, score_of(0.2), POLICY, NOW),
    "ineligible": lambda db, claim: finish_unscored(db, claim, InstanceState.INELIGIBLE),
    "fail": lambda db, claim: finish_unscored(db, claim, InstanceState.FAILED),
    "put back": lambda db, claim: processing_score.put_back(db, claim, timedelta(0), NOW),
    "requeue": lambda db, claim: requeue.requeue(db, "1.2.3", "op", POLICY, NOW),
    "receive again": lambda db, claim: receive(db, film()),
    "discard": lambda db, claim: requeue.discard_failed(db, "1.2.3", "op", "a wedge", POLICY, NOW),
    "another bundle": lambda db, claim: processing_start.another_bundle(db, ANOTHER, NOW),
    "another bundle, pixels gone": lambda db, claim: another_bundle_without_pixels(db),
    "rerank": lambda db, claim: processing_start.rerank_open(db, POLICY, "test", NOW),
}


def empty(ledger: sa.Engine) -> None:
    with connect.writing(ledger) as tx:
        for table in ("deliveries", "results", "scores", "events", "instances", "terms", "studies"):
            tx.exec_driver_sql(f"DELETE FROM {table}")


def test_an_instance_walks_exactly_as_its_table_says(ledger: sa.Engine):
    seen = set()
    for start in InstanceState:
        for verb in INSTANCE_VERBS.values():
            empty(ledger)
            claim = bring_instance_to(ledger, start)
            with suppress(NotAllowed):
                verb(ledger, claim)
            seen.add((start, instance_state(ledger)))
    assert {(a, b) for a, b in seen if a != b} == arrows(INSTANCE_TRANSITIONS)


# --- study: OPEN -> CLAIMED -> READ, back by release, lease or late image ----------------------------------------------------


READING_VERBS: dict[str, Callable[[sa.Engine], object]] = {
    "claim": lambda db: reading.claim(db, "1.2.3", "Dr. B", LEASE, NOW),
    "take over": lambda db: reading.claim(db, "1.2.3", "Dr. B", LEASE, NOW, take_over=True),
    "release": lambda db: reading.release(db, "1.2.3", "Dr. A", NOW),
    "read": lambda db: reading.read(db, "1.2.3", "Dr. A", NOW),
    "late image": lambda db: receive(db, film(2)),
    "our own object": lambda db: receive(db, own_object(db, 3)),
    "same image": lambda db: receive(db, film()),
    "lease ends": lambda db: deadlines.end_expired_claims(db, LATER),
    "pin": lambda db: reading.pin(db, "1.2.3", "Dr. A", POLICY, NOW),
    "overdue": lambda db: deadlines.mark_overdue(db, NOW + timedelta(days=9)),
    "expire": lambda db: deadlines.expire(db, NOW + timedelta(days=9), NOW),
    "requeue": lambda db: requeue.requeue(db, "1.2.3", "op", POLICY, NOW),
}


def test_a_reading_walks_exactly_as_its_table_says(ledger: sa.Engine):
    seen = set()
    for start in ReadingState:
        for verb in READING_VERBS.values():
            empty(ledger)
            receive(ledger, film())
            if start is ReadingState.CLAIMED:
                reading.claim(ledger, "1.2.3", "Dr. A", LEASE, NOW)
            if start is ReadingState.READ:
                reading.read(ledger, "1.2.3", "Dr. A", NOW)
            with suppress(NotAllowed):
                verb(ledger)
            seen.add((start, rows.study(ledger, "1.2.3").reading_state))
    assert {(a, b) for a, b in seen if a != b} == arrows(READING_TRANSITIONS)


# --- delivery: PENDING -> SENT -> COMMITTED, REJECTED, RETRACTED --------------------------------------------------------------


DELIVERY_VERBS: dict[str, Callable[[sa.Engine, ClaimedDelivery], object]] = {
    "sent": lambda db, claim: processing_deliver.finish_delivery(db, claim, DeliveryState.SENT, "", NOW),
    "rejected": lambda db, claim: processing_deliver.finish_delivery(db, claim, DeliveryState.REJECTED, "no", NOW),
    "put back": lambda db, claim: processing_deliver.put_delivery_back(db, claim, timedelta(0), "busy", NOW),
    "requeue": lambda db, claim: processing_deliver.requeue_deliveries(db, "1.2.3", "op", NOW),
    "newer revision": lambda db, claim: newer_revision(db),
    "the same object again": lambda db, claim: the_same_again(db),
    "another sent, and the same again": lambda db, claim: another_sent_and_the_same_again(db),
}


def test_a_delivery_walks_exactly_as_its_table_says(ledger: sa.Engine):
    seen = {(DeliveryState.SENT, DeliveryState.COMMITTED)}  # no destination is asked for storage commitment yet
    for start in (DeliveryState.PENDING, DeliveryState.SENT, DeliveryState.REJECTED, DeliveryState.RETRACTED):
        for verb in DELIVERY_VERBS.values():
            empty(ledger)
            scored(ledger)
            publish(ledger)
            claim = processing_deliver.claim_delivery(ledger, "pacs", "w", LEASE)
            assert claim is not None
            if start in (DeliveryState.SENT, DeliveryState.REJECTED):
                processing_deliver.finish_delivery(ledger, claim, start, "", NOW)
            if start is DeliveryState.RETRACTED:
                receive(ledger, film(9))
                score_next(ledger, 0.9)
                publish(ledger, "2.25.9")
            with suppress(NotAllowed):
                verb(ledger, claim)
            seen.add((start, DeliveryState(deliveries_of(ledger)["2.25.1"])))
    assert {(a, b) for a, b in seen if a != b} == arrows(DELIVERY_TRANSITIONS)


def test_a_delivery_is_not_committed_before_it_was_sent(ledger: sa.Engine):
    scored(ledger)
    publish(ledger)
    claim = processing_deliver.claim_delivery(ledger, "pacs", "w", LEASE)
    assert claim is not None
    assert not processing_deliver.finish_delivery(ledger, claim, DeliveryState.COMMITTED, "", NOW)
    assert deliveries_of(ledger) == {"2.25.1": "PENDING"}


@pytest.mark.parametrize(
    "column", [instances.c.state, studies.c.reading_state, studies.c.ai_state, studies.c.band, deliveries.c.state], ids=str
)
def test_the_database_refuses_an_unknown_state(ledger: sa.Engine, column: sa.Column):
    scored(ledger)
    publish(ledger)
    with pytest.raises(IntegrityError), connect.writing(ledger) as tx:
        tx.execute(column.table.update().values({column: "LOST"}))


def test_the_database_refuses_a_probability_that_is_none(ledger: sa.Engine):
    scored(ledger)
    with pytest.raises(IntegrityError), connect.writing(ledger) as tx:
        tx.execute(scores.update().values(probability=1.5))
