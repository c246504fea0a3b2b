"""A study is published after its quiet time, and of its results the newest is sent to every destination."""

from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa

from prioritizer.config.policy import QuietTime
from prioritizer.db.activity import queues
from prioritizer.db.processing import deliver as processing_deliver
from prioritizer.db.processing import receive as processing_receive
from prioritizer.db.processing import score as processing_score
from prioritizer.db.processing.deliver import ClaimedDelivery
from prioritizer.db.schema import connect
from prioritizer.db.schema.tables import studies
from prioritizer.db.worklist import counts, rows, study
from prioritizer.errors import NotAllowed
from prioritizer.states import DeliveryState, InstanceState
from tests.support.ledger_states import (
    LATER,
    another_sent_and_the_same_again,
    bring_instance_to,
    newer_revision,
    the_same_again,
)
from tests.support.ledgers import (
    AT_ONCE,
    LEASE,
    NOW,
    POLICY,
    deliver,
    deliveries_of,
    film,
    kinds,
    policy_with,
    publish,
    receive,
    result_of,
    score_next,
    score_of,
    scored,
)


def test_a_study_is_published_after_its_quiet_time(ledger: sa.Engine):
    receive(ledger, film())
    claim = processing_score.claim_instance(ledger, "w", LEASE)
    assert claim is not None
    patient = policy_with(POLICY, quiet=QuietTime(quiet=timedelta(hours=1), ceiling=timedelta(hours=2)))
    processing_score.finish_scored(ledger, claim, score_of(0.2), patient, NOW)
    assert processing_deliver.claim_study(ledger, "w", LEASE, NOW) is None


def test_another_image_starts_the_quiet_time_again_up_to_the_ceiling(ledger: sa.Engine):
    scored(ledger)
    patient = policy_with(POLICY, quiet=QuietTime(quiet=timedelta(hours=1), ceiling=timedelta(hours=2)))
    processing_receive.receive(ledger, [processing_receive.Arrival(instance=film(2))], patient, NOW)
    with connect.reading(ledger) as tx:
        not_before, publish_by = tx.execute(sa.select(studies.c.not_before, studies.c.publish_by)).one()
    assert (not_before, publish_by) == (NOW + AT_ONCE.ceiling, NOW + AT_ONCE.ceiling)


def test_a_study_with_an_image_still_to_score_waits_until_the_ceiling(ledger: sa.Engine):
    receive(ledger, film(1), film(2))
    score_next(ledger, 0.2)
    assert processing_deliver.claim_study(ledger, "w", LEASE, NOW) is None
    assert processing_deliver.claim_study(ledger, "w", LEASE, NOW + AT_ONCE.ceiling) is not None


@pytest.mark.parametrize("state", [InstanceState.FAILED, InstanceState.INELIGIBLE])
def test_an_unscored_study_is_not_published(ledger: sa.Engine, state: InstanceState):
    bring_instance_to(ledger, state)
    assert processing_deliver.claim_study(ledger, "w", LEASE, LATER) is None


def test_a_published_study_is_not_published_again(ledger: sa.Engine):
    scored(ledger)
    publish(ledger)
    assert processing_deliver.claim_study(ledger, "w", LEASE, LATER) is None


def test_the_same_object_again_sends_nothing(ledger: sa.Engine):
    scored(ledger)
    publish(ledger, "2.25.1")
    deliver(ledger)
    receive(ledger, film(2))
    score_next(ledger, 0.1)
    publish(ledger, "2.25.1")
    assert deliveries_of(ledger) == {"2.25.1": "SENT"}


def test_a_newer_revision_retracts_what_was_not_sent(ledger: sa.Engine):
    scored(ledger)
    publish(ledger, "2.25.1", ("fast", "slow"))
    deliver(ledger, destination="fast")
    newer_revision(ledger)
    states = {(row.result_uid, row.destination): row.state for row in rows.unfinished_deliveries(ledger, "1.2.3")}
    assert states == {("2.25.1", "fast"): "SENT", ("2.25.1", "slow"): "RETRACTED", ("2.25.2", "pacs"): "PENDING"}


def test_what_was_retracted_is_sent_after_all_when_it_is_the_result_again_and_the_other_is_not(ledger: sa.Engine):
    scored(ledger)
    publish(ledger, "2.25.1")
    newer_revision(ledger)
    the_same_again(ledger)
    assert deliveries_of(ledger) == {"2.25.1": "PENDING", "2.25.2": "RETRACTED"}
    deliver(ledger)
    assert deliveries_of(ledger) == {"2.25.1": "SENT", "2.25.2": "RETRACTED"}


def test_what_was_sent_before_another_is_sent_again_when_it_is_the_result_again(ledger: sa.Engine):
    scored(ledger)
    publish(ledger)
    deliver(ledger)
    another_sent_and_the_same_again(ledger)
    assert deliveries_of(ledger) == {"2.25.1": "PENDING", "2.25.2": "SENT"}
    said = [event.said for event in study.why(ledger, "1.2.3")]
    assert "pacs holds result 2.25.2, sent last; the study's result is 2.25.1 again" in said
    deliver(ledger)
    assert deliveries_of(ledger) == {"2.25.1": "SENT", "2.25.2": "SENT"}


def test_a_newer_result_that_was_not_sent_is_retracted_when_the_earlier_is_the_result_again(ledger: sa.Engine):
    scored(ledger)
    publish(ledger)
    deliver(ledger)
    newer_revision(ledger)
    the_same_again(ledger)
    assert deliveries_of(ledger) == {"2.25.1": "SENT", "2.25.2": "RETRACTED"}


def test_of_two_destinations_only_the_one_that_was_sent_another_is_sent_the_first_again(ledger: sa.Engine):
    scored(ledger)
    publish(ledger, "2.25.1", ("fast", "slow"))
    for name in ("fast", "slow"):
        deliver(ledger, destination=name)
    receive(ledger, film(2))
    score_next(ledger, 0.9)
    publish(ledger, "2.25.2", ("fast", "slow"))
    deliver(ledger, destination="fast")
    the_same_again(ledger)
    states = {(row.result_uid[-1], row.destination): row.state for row in rows.unfinished_deliveries(ledger, "1.2.3")}
    assert states == {("1", "fast"): "PENDING", ("1", "slow"): "SENT", ("2", "fast"): "SENT", ("2", "slow"): "RETRACTED"}


def test_a_refusal_is_counted_in_a_row_and_a_silent_peer_is_none(ledger: sa.Engine):
    scored(ledger)
    publish(ledger)

    def claimed() -> ClaimedDelivery:
        claim = processing_deliver.claim_delivery(ledger, "pacs", "w", LEASE)
        assert claim is not None
        return claim

    processing_deliver.put_delivery_back(ledger, claimed(), timedelta(0), "busy", NOW)
    processing_deliver.put_delivery_back(ledger, claimed(), timedelta(0), "0xC000", NOW, refusals=1)
    again = claimed()
    assert again.refusals == 1
    processing_deliver.put_delivery_back(ledger, again, timedelta(0), "0xC000", NOW, refusals=2)
    (row,) = rows.unfinished_deliveries(ledger)
    assert (row.state, row.attempts, row.reason_text) == ("PENDING", 2, "refused, 0xC000")
    assert claimed().refusals == 2


def test_a_revision_that_came_while_publishing_is_published_next(ledger: sa.Engine):
    scored(ledger)
    first = processing_deliver.claim_study(ledger, "w", LEASE, NOW)
    assert first is not None
    receive(ledger, film(2))
    score_next(ledger, 0.9)
    assert processing_deliver.finish_published(ledger, first, result_of("2.25.1"), ["pacs"], NOW)
    second = processing_deliver.claim_study(ledger, "w", LEASE, NOW)
    assert second is not None
    assert (second.revision, second.probability) == (2, 0.9)


def test_a_result_that_cannot_be_built_says_why_and_ends(ledger: sa.Engine):
    scored(ledger)
    claim = processing_deliver.claim_study(ledger, "w", LEASE, NOW)
    assert claim is not None
    assert processing_deliver.finish_published(ledger, claim, None, (), NOW, "the image is not in the spool")
    with connect.reading(ledger) as tx:
        assert tx.scalar(sa.select(studies.c.publish_error)) == "the image is not in the spool"
    assert [(one.study_uid, one.again) for one in queues.unpublished(ledger, NOW, 10)] == [("1.2.3", False)]
    assert queues.why_unpublished(ledger, "1.2.3") == "the image is not in the spool"
    assert processing_deliver.claim_study(ledger, "w", LEASE, LATER) is None


def test_a_study_put_back_waits_for_its_time(ledger: sa.Engine):
    scored(ledger)
    claim = processing_deliver.claim_study(ledger, "w", LEASE, NOW)
    assert claim is not None
    processing_deliver.put_study_back(ledger, claim, timedelta(hours=1), "later", NOW)
    assert [(one.reason_text, one.again) for one in queues.unpublished(ledger, NOW, 10)] == [("later", True)]
    assert kinds(ledger).count("not-published") == 1
    assert processing_deliver.claim_study(ledger, "w", LEASE, NOW) is None


def test_a_refused_delivery_is_parked_until_it_is_requeued(ledger: sa.Engine):
    scored(ledger)
    publish(ledger)
    deliver(ledger, DeliveryState.REJECTED)
    assert processing_deliver.claim_delivery(ledger, "pacs", "w", LEASE) is None
    assert counts.counts(ledger).rejected == 1
    assert processing_deliver.requeue_deliveries(ledger, "1.2.3", "op", NOW) == 1
    again = processing_deliver.claim_delivery(ledger, "pacs", "w", LEASE)
    assert again is not None
    assert again.attempts == 1


def test_a_sent_delivery_is_not_requeued(ledger: sa.Engine):
    scored(ledger)
    publish(ledger)
    deliver(ledger)
    with pytest.raises(NotAllowed):
        processing_deliver.requeue_deliveries(ledger, "1.2.3", "op", NOW)
