"""Work is taken once, by one worker, on both databases; what a dead worker held is taken over."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import timedelta

import pytest
import sqlalchemy as sa

from prioritizer.db.processing import daemon_start, deliver, score
from prioritizer.db.worklist import deadlines, reading, rows
from prioritizer.errors import NotAllowed, Transient
from prioritizer.ranking.study_risk import study_risk
from prioritizer.states import DeliveryState, InstanceState
from tests.support.ledgers import (
    LEASE,
    NOW,
    POLICY,
    RUN_OUT,
    deliveries_of,
    film,
    kinds,
    listed,
    publish,
    receive,
    result_of,
    score_next,
    score_of,
    scored,
    together,
)

WORKERS = 8


def take_all(claim: Callable[[str], str | None], worker: str) -> list[str]:
    """Everything that one worker gets until nothing is left."""
    taken = []
    while (uid := claim(worker)) is not None:
        taken.append(uid)
    return taken


def test_eight_workers_take_every_instance_once(ledger: sa.Engine):
    receive(ledger, *(film(number) for number in range(40)))

    def claim(worker: str) -> str | None:
        found = score.claim_instance(ledger, worker, LEASE)
        return None if found is None else found.instance.sop_instance_uid

    taken = together(*(lambda w=w: take_all(claim, f"w{w}") for w in range(WORKERS)))
    assert Counter(uid for share in taken for uid in share) == {f"1.2.3.{number}": 1 for number in range(40)}


def test_eight_publishers_take_every_study_once(ledger: sa.Engine):
    for number in range(12):
        scored(ledger, f"1.2.{number}")

    def claim(worker: str) -> str | None:
        found = deliver.claim_study(ledger, worker, LEASE, NOW)
        return None if found is None else found.study_uid

    taken = together(*(lambda w=w: take_all(claim, f"w{w}") for w in range(WORKERS)))
    assert Counter(uid for share in taken for uid in share) == {f"1.2.{number}": 1 for number in range(12)}


def test_eight_senders_take_every_delivery_once(ledger: sa.Engine):
    for number in range(12):
        scored(ledger, f"1.2.{number}")
        publish(ledger, f"2.25.{number}")

    def claim(worker: str) -> str | None:
        found = deliver.claim_delivery(ledger, "pacs", worker, LEASE)
        return None if found is None else found.result.sop_instance_uid

    taken = together(*(lambda w=w: take_all(claim, f"w{w}") for w in range(WORKERS)))
    assert Counter(uid for share in taken for uid in share) == {f"2.25.{number}": 1 for number in range(12)}


def test_eight_readers_claim_and_one_has_the_study(ledger: sa.Engine):
    receive(ledger, film())

    def claim(reader: str) -> bool:
        try:
            reading.claim(ledger, "1.2.3", reader, LEASE, NOW)
        except NotAllowed:
            return False
        return True

    won = together(*(lambda r=r: claim(f"r{r}") for r in range(WORKERS)))
    assert won.count(True) == 1
    assert rows.study(ledger, "1.2.3").reader == f"r{won.index(True)}"
    assert kinds(ledger).count("claimed") == 1


def test_eight_readers_read_and_one_has_read_it(ledger: sa.Engine):
    receive(ledger, film())

    def read(reader: str) -> bool:
        try:
            reading.read(ledger, "1.2.3", reader, NOW)
        except NotAllowed:
            return False
        return True

    assert together(*(lambda r=r: read(f"r{r}") for r in range(WORKERS))).count(True) == 1
    assert kinds(ledger).count("read") == 1


def test_the_same_file_received_twice_at_once_is_entered_once(ledger: sa.Engine):
    def enter() -> int:
        try:
            return receive(ledger, film())
        except Transient:  # the loser looks at its arrivals again
            return receive(ledger, film())

    assert sum(together(*[enter] * WORKERS)) == 1  # type: ignore[arg-type]
    assert rows.study(ledger, "1.2.3").instances == 1


def test_two_images_of_a_study_scored_at_once_overlook_neither(ledger: sa.Engine):
    studies = [f"1.2.{number}" for number in range(10)]
    for study in studies:
        receive(ledger, film(1, study), film(2, study))
        claims = [score.claim_instance(ledger, f"w{n}", LEASE) for n in (1, 2)]

        def finish(claim: score.ClaimedInstance | None) -> bool:
            assert claim is not None
            probability = 0.9 if claim.instance.sop_instance_uid.endswith(".1") else 0.1
            return score.finish_scored(ledger, claim, score_of(probability), POLICY, NOW)

        assert together(*(lambda c=c: finish(c) for c in claims)) == [True, True]
    assert {rows.study(ledger, study).risk for study in studies} == {study_risk([0.9, 0.1])}
    assert {rows.study(ledger, study).band for study in studies} == {"HIGH"}


def test_reranking_twice_at_once_ends_with_one_order(ledger: sa.Engine):
    for number in range(10):
        scored(ledger, f"1.2.{number}", probability=0.9 if number % 2 else 0.1, at=NOW + timedelta(minutes=number))
    before = listed(ledger)
    jobs = [lambda: daemon_start.rerank_open(ledger, POLICY, "test", NOW), lambda: deadlines.mark_overdue(ledger, NOW + timedelta(days=1))]
    together(*jobs * 4)
    assert listed(ledger) == before


# --- leases ------------------------------------------------------------------------------------------------------------


def test_a_lease_that_ran_out_is_taken_over_and_the_first_worker_finishes_nothing(ledger: sa.Engine):
    receive(ledger, film())
    first = score.claim_instance(ledger, "first", RUN_OUT)
    second = score.claim_instance(ledger, "second", LEASE)
    assert first is not None
    assert second is not None
    assert second.attempts == 2
    assert not score.finish_scored(ledger, first, score_of(0.9), POLICY, NOW)
    assert not score.finish_unscored(ledger, first, InstanceState.FAILED, "x", "x", POLICY, NOW)
    assert rows.study(ledger, "1.2.3").ai_state == "WAITING"
    assert score.finish_scored(ledger, second, score_of(0.1), POLICY, NOW)
    assert rows.study(ledger, "1.2.3").risk == 0.1


def test_a_late_worker_cannot_give_back_what_another_holds(ledger: sa.Engine):
    receive(ledger, film())
    first = score.claim_instance(ledger, "first", RUN_OUT)
    assert first is not None
    assert score.claim_instance(ledger, "second", LEASE) is not None
    score.put_back(ledger, first, timedelta(0), NOW)
    assert score.claim_instance(ledger, "third", LEASE) is None


def test_a_publisher_whose_lease_ran_out_publishes_nothing(ledger: sa.Engine):
    scored(ledger)
    first = deliver.claim_study(ledger, "first", RUN_OUT, NOW)
    second = deliver.claim_study(ledger, "second", LEASE, NOW)
    assert first is not None
    assert second is not None
    assert not deliver.finish_published(ledger, first, result_of("2.25.1"), ["pacs"], NOW)
    assert deliveries_of(ledger) == {}
    assert deliver.finish_published(ledger, second, result_of("2.25.2"), ["pacs"], NOW)
    assert deliveries_of(ledger) == {"2.25.2": "PENDING"}


def test_a_sender_whose_lease_ran_out_finishes_nothing(ledger: sa.Engine):
    scored(ledger)
    publish(ledger)
    first = deliver.claim_delivery(ledger, "pacs", "first", RUN_OUT)
    second = deliver.claim_delivery(ledger, "pacs", "second", LEASE)
    assert first is not None
    assert second is not None
    assert not deliver.finish_delivery(ledger, first, DeliveryState.REJECTED, "no", NOW)
    assert deliver.finish_delivery(ledger, second, DeliveryState.SENT, "", NOW)
    assert deliveries_of(ledger) == {"2.25.1": "SENT"}


def test_a_delivery_that_was_put_back_waits_for_its_time(ledger: sa.Engine):
    scored(ledger)
    publish(ledger)
    claim = deliver.claim_delivery(ledger, "pacs", "w", LEASE)
    assert claim is not None
    deliver.put_delivery_back(ledger, claim, timedelta(hours=1), "PACS is down", NOW)
    assert deliver.claim_delivery(ledger, "pacs", "w", LEASE) is None
    (row,) = rows.unfinished_deliveries(ledger)
    assert (row.state, row.attempts, row.reason_text, row.not_before) == ("PENDING", 1, "PACS is down", NOW + timedelta(hours=1))


def test_a_delivery_whose_time_has_come_is_taken_again(ledger: sa.Engine):
    scored(ledger)
    publish(ledger)
    claim = deliver.claim_delivery(ledger, "pacs", "w", LEASE)
    assert claim is not None
    deliver.put_delivery_back(ledger, claim, timedelta(seconds=1), "busy", NOW)
    again = deliver.claim_delivery(ledger, "pacs", "w", LEASE)
    assert again is not None
    assert (again.attempts, again.result.data) == (2, claim.result.data)


def test_one_destination_does_not_wait_for_another(ledger: sa.Engine):
    scored(ledger)
    publish(ledger, destinations=("dead", "alive"))
    claim = deliver.claim_delivery(ledger, "dead", "w", LEASE)
    assert claim is not None
    deliver.put_delivery_back(ledger, claim, timedelta(hours=1), "down", NOW)
    assert deliver.claim_delivery(ledger, "alive", "w", LEASE) is not None


def test_new_instances_are_scored_before_those_tried_before(ledger: sa.Engine):
    receive(ledger, film(1, at=NOW), film(2, at=NOW + timedelta(seconds=1)))
    troubled = score.claim_instance(ledger, "w", LEASE)
    assert troubled is not None
    score.put_back(ledger, troubled, timedelta(0), NOW)
    assert score_next(ledger, 0.1).instance.sop_instance_uid == "1.2.3.2"
    assert score_next(ledger, 0.1).instance.sop_instance_uid == "1.2.3.1"


def test_instances_are_scored_in_order_of_arrival(ledger: sa.Engine):
    order = [3, 1, 2]
    receive(ledger, *(film(number, at=NOW + timedelta(seconds=place)) for place, number in enumerate(order)))
    assert [score_next(ledger, 0.1).instance.sop_instance_uid for _ in order] == [f"1.2.3.{number}" for number in order]


@pytest.mark.parametrize("lease", [RUN_OUT, LEASE])
def test_a_claimed_instance_is_the_one_that_was_received(ledger: sa.Engine, lease: timedelta):
    sent = film(view_codes=("R-10206",), patient_orientation=("L", "F"), priority="HIGH", patient_name="Zoë^山田")
    receive(ledger, sent)
    claim = score.claim_instance(ledger, "w", lease)
    assert claim is not None
    assert claim.instance == sent
