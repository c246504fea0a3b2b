"""Three state machines, each walked exactly as its table says; nothing acknowledged is lost between two calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from enum import StrEnum

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from prioritizer.calibration.maps import Calibration
from prioritizer.config.policy import QuietTime
from prioritizer.db.activity import queues, senders
from prioritizer.db.instances import retention
from prioritizer.db.instances.retention import Deadlines
from prioritizer.db.order.order import View
from prioritizer.db.processing import deliver as processing_deliver
from prioritizer.db.processing import housekeeping, requeue
from prioritizer.db.processing import receive as processing_receive
from prioritizer.db.processing import score as processing_score
from prioritizer.db.processing import start as processing_start
from prioritizer.db.processing.deliver import ClaimedDelivery
from prioritizer.db.processing.housekeeping import Alarm
from prioritizer.db.processing.score import ClaimedInstance
from prioritizer.db.schema import connect
from prioritizer.db.schema.events import Kind, record
from prioritizer.db.schema.tables import deliveries, instances, scores, studies
from prioritizer.db.worklist import counts, deadlines, reading, rows, study
from prioritizer.errors import ConfigError, NotAllowed, NotFound, Transient
from prioritizer.ranking.deadlines import Stage
from prioritizer.ranking.study_risk import study_risk
from prioritizer.states import DELIVERY_TRANSITIONS, INSTANCE_TRANSITIONS, READING_TRANSITIONS, DeliveryState, InstanceState, ReadingState
from tests.support.ledgers import (
    AT_ONCE,
    LEASE,
    NOW,
    POLICY,
    RUN_OUT,
    deliver,
    deliveries_of,
    film,
    kinds,
    listed,
    opened_again,
    own_object,
    policy_with,
    publish,
    receive,
    result_of,
    score_next,
    score_of,
    scored,
    site_policy,
)

LATER = NOW + timedelta(hours=1)


def arrows(table: Mapping[StrEnum, frozenset[StrEnum]]) -> set[tuple[str, str]]:
    return {(start, end) for start, ends in table.items() for end in ends}


# --- instance: RECEIVED -> SCORED | INELIGIBLE | FAILED, requeue ----------------------------------------------------------


def instance_state(ledger: sa.Engine) -> str:
    return study.study_instances(ledger, "1.2.3")[0].state


def finish_unscored(ledger: sa.Engine, claim: ClaimedInstance, state: InstanceState) -> bool:
    return processing_score.finish_unscored(ledger, claim, state, "x", f"it is {state}", POLICY, NOW)


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


def bring_instance_to(ledger: sa.Engine, state: InstanceState) -> ClaimedInstance:
    receive(ledger, film())
    claim = processing_score.claim_instance(ledger, "w", LEASE)
    assert claim is not None
    if state is InstanceState.SCORED:
        processing_score.finish_scored(ledger, claim, score_of(0.2), POLICY, NOW)
    elif state is not InstanceState.RECEIVED:
        finish_unscored(ledger, claim, state)
    return claim


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


# --- receiving ---------------------------------------------------------------------------------------------------------------


def test_a_received_study_is_on_the_list_at_once_in_the_neutral_band(ledger: sa.Engine):
    receive(ledger, film())
    row = rows.study(ledger, "1.2.3")
    assert listed(ledger) == ["1.2.3"]
    assert (row.band, row.ai_state, row.due_at) == ("NEUTRAL", "WAITING", NOW + POLICY.ranking.neutral)


def test_receiving_again_changes_nothing(ledger: sa.Engine):
    assert receive(ledger, film()) == 1
    before = rows.study(ledger, "1.2.3")
    assert receive(ledger, film(at=LATER, patient_name="Other^Name")) == 0
    assert receive(ledger, film(), film()) == 0
    assert rows.study(ledger, "1.2.3") == before
    assert kinds(ledger) == ["arrived"]


def test_two_copies_in_one_batch_are_entered_once(ledger: sa.Engine):
    assert receive(ledger, film(), film()) == 1


def test_an_unreadable_instance_is_listed_with_its_reason(ledger: sa.Engine):
    receive(ledger, film(), unreadable="the header cannot be read")
    row = rows.study(ledger, "1.2.3")
    assert (row.ai_state, row.ai_reason) == ("FAILED", "the header cannot be read")
    assert listed(ledger) == ["1.2.3"]
    assert processing_score.claim_instance(ledger, "w", LEASE) is None


def test_a_new_image_of_an_unscored_study_is_waited_for(ledger: sa.Engine):
    receive(ledger, film(), unreadable="the header cannot be read")
    receive(ledger, film(2))
    assert rows.study(ledger, "1.2.3").ai_state == "WAITING"


def test_an_image_with_a_stat_order_makes_its_study_stat(ledger: sa.Engine):
    receive(ledger, film(1, "1.2.1"), film())
    receive(ledger, film(2, priority="HIGH"))
    assert listed(ledger) == ["1.2.3", "1.2.1"]
    assert rows.study(ledger, "1.2.3").due_at == NOW


def test_what_only_says_that_it_is_a_result_is_listed_with_its_reason_and_never_scored(ledger: sa.Engine):
    receive(ledger, film(1, made_by_us=True))
    assert listed(ledger) == ["1.2.3"]
    assert processing_score.claim_instance(ledger, "w", LEASE) is None
    assert instance_state(ledger) == "INELIGIBLE"
    row = rows.study(ledger, "1.2.3")
    assert (row.ai_state, row.ai_reason) == ("NOT_SCORED", processing_receive.NO_RESULT_OF_OURS)


def test_an_image_that_says_that_it_is_a_result_opens_a_read_study(ledger: sa.Engine):
    scored(ledger)
    reading.read(ledger, "1.2.3", "Dr. A", NOW)
    receive(ledger, film(7, made_by_us=True))
    assert rows.study(ledger, "1.2.3").reading_state == "OPEN"


def test_our_own_object_changes_nothing_of_its_study(ledger: sa.Engine):
    scored(ledger)
    publish(ledger)
    reading.read(ledger, "1.2.3", "Dr. A", NOW)
    before = rows.study(ledger, "1.2.3")
    receive(ledger, own_object(ledger, at=LATER, priority="STAT"))
    assert rows.study(ledger, "1.2.3") == before
    assert processing_deliver.claim_study(ledger, "w", LEASE, LATER) is None


def test_our_own_object_says_nothing_about_an_unscored_study(ledger: sa.Engine):
    claim = bring_instance_to(ledger, InstanceState.INELIGIBLE)
    receive(ledger, own_object(ledger))
    requeue.requeue(ledger, claim.instance.sop_instance_uid, "op", POLICY, NOW)
    again = processing_score.claim_instance(ledger, "w", LEASE)
    assert again is not None
    finish_unscored(ledger, again, InstanceState.INELIGIBLE)
    assert rows.study(ledger, "1.2.3").ai_reason == "it is INELIGIBLE"


def test_a_film_lists_a_study_that_an_earlier_version_did_not_list_by_its_own_arrival(ledger: sa.Engine):
    receive(ledger, film(1, patient_name="Ours"))
    with ledger.begin() as tx:
        tx.execute(sa.update(studies).values(listed=False))
    receive(ledger, film(2, at=LATER))
    row = rows.study(ledger, "1.2.3")
    assert listed(ledger) == ["1.2.3"]
    assert (row.first_received_at, row.due_at, row.patient_name) == (LATER, LATER + POLICY.ranking.neutral, "Muster^Anna")


def test_a_late_image_opens_a_read_study_again(ledger: sa.Engine):
    scored(ledger)
    reading.read(ledger, "1.2.3", "Dr. A", NOW)
    receive(ledger, film(2, at=LATER))
    row = rows.study(ledger, "1.2.3")
    assert listed(ledger) == ["1.2.3"]
    assert (row.reader, row.read_at, row.instances) == (None, None, 2)
    assert kinds(ledger).count("late-instance") == 1


def test_a_late_image_is_scored_and_published_as_a_new_revision(ledger: sa.Engine):
    scored(ledger)
    publish(ledger, "2.25.1")
    deliver(ledger)
    receive(ledger, film(2))
    score_next(ledger, 0.8)
    claim = processing_deliver.claim_study(ledger, "w", LEASE, NOW)
    assert claim is not None
    assert (claim.revision, claim.source_instance_uid, claim.probability, claim.band) == (2, "1.2.3.2", 0.8, "HIGH")


def test_an_expired_study_with_a_late_image_is_on_the_list_again(ledger: sa.Engine):
    scored(ledger)
    deadlines.expire(ledger, LATER, LATER)
    reading.read(ledger, "1.2.3", "Dr. A", LATER)
    receive(ledger, film(2, at=LATER + timedelta(hours=1)))
    deadlines.expire(ledger, LATER, LATER)
    assert listed(ledger) == ["1.2.3"]


def test_a_notice_is_entered_once(ledger: sa.Engine):
    notice = {"kind": "refused-association", "address": "10.0.0.1", "calling_ae": "X", "reason": "not listed", "code": "peer"}
    for _ in range(2):
        processing_receive.record_notice(ledger, "n1.json", notice, NOW, NOW)
    (row,) = senders.newest_notices(ledger, 9).rows
    assert (row.kind, row.address, row.calling_ae, row.detail) == ("refused-association", "10.0.0.1", "X", {"code": "peer"})


def test_a_notice_of_a_hostile_title_is_entered_too(ledger: sa.Engine):
    processing_receive.record_notice(ledger, "n1.json", {"kind": "quarantined", "calling_ae": "A\0B", "detail": "\0"}, NOW, NOW)
    assert senders.newest_notices(ledger, 9).rows[0].calling_ae == "A\N{REPLACEMENT CHARACTER}B"


def pixels_are_gone(ledger: sa.Engine, uid: str) -> None:
    with ledger.begin() as tx:
        tx.exec_driver_sql(f"UPDATE instances SET pixels_deleted_at = 1 WHERE sop_instance_uid = '{uid}'")


def test_the_ledger_knows_which_files_it_expects(ledger: sa.Engine):
    receive(ledger, film(1), film(2))
    pixels_are_gone(ledger, "1.2.3.2")
    assert processing_receive.known_instances(ledger) == {"1.2.3.1": True, "1.2.3.2": False}


# --- scoring -----------------------------------------------------------------------------------------------------------------


def test_a_score_carries_its_provenance(ledger: sa.Engine):
    scored(ledger)
    (row,) = study.study_instances(ledger, "1.2.3")
    assert (row.bundle_digest, row.calibration_id, row.engine, row.precision) == ("d" * 64, "c1", "openvino-1", "f32")


def test_the_highest_probability_decides_the_study(ledger: sa.Engine):
    receive(ledger, *(film(number) for number in range(3)))
    for probability in (0.2, 0.9, 0.4):
        score_next(ledger, probability)
    row = rows.study(ledger, "1.2.3")
    assert row.risk == pytest.approx(study_risk([0.2, 0.9, 0.4]))
    assert 0.8 < row.risk < 0.9
    assert (row.band, row.due_at) == ("HIGH", NOW + POLICY.ranking.high)


def test_an_image_out_of_scope_does_not_lower_its_study(ledger: sa.Engine):
    receive(ledger, film(1), film(2))
    score_next(ledger, 0.9)
    claim = processing_score.claim_instance(ledger, "w", LEASE)
    assert claim is not None
    finish_unscored(ledger, claim, InstanceState.INELIGIBLE)
    row = rows.study(ledger, "1.2.3")
    assert (row.ai_state, row.ai_reason, row.risk) == ("SCORED", "", 0.9)


@pytest.mark.parametrize(("state", "ai_state"), [(InstanceState.FAILED, "FAILED"), (InstanceState.INELIGIBLE, "NOT_SCORED")])
def test_an_unscored_study_stays_listed_in_its_place_with_the_reason(ledger: sa.Engine, state: InstanceState, ai_state: str):
    receive(ledger, film(1, "1.2.1", NOW - timedelta(minutes=1)))
    assert score_next(ledger, 0.1)
    bring_instance_to(ledger, state)
    row = rows.study(ledger, "1.2.3")
    assert (row.ai_state, row.ai_reason, row.band) == (ai_state, f"it is {state}", "NEUTRAL")
    assert listed(ledger) == ["1.2.1", "1.2.3"]


def test_requeued_instances_are_scored_again(ledger: sa.Engine):
    bring_instance_to(ledger, InstanceState.FAILED)
    assert requeue.requeue(ledger, "1.2.3", "op", POLICY, NOW) == 1
    assert rows.study(ledger, "1.2.3").ai_state == "WAITING"
    claim = score_next(ledger, 0.9)
    assert claim.attempts == 1
    assert rows.study(ledger, "1.2.3").band == "HIGH"


def test_a_scored_study_has_nothing_to_requeue(ledger: sa.Engine):
    scored(ledger)
    with pytest.raises(NotAllowed):
        requeue.requeue(ledger, "1.2.3", "op", POLICY, NOW)


def test_an_unknown_study_cannot_be_requeued(ledger: sa.Engine):
    with pytest.raises(NotFound):
        requeue.requeue(ledger, "9.9", "op", POLICY, NOW)
    with pytest.raises(NotFound):
        processing_deliver.requeue_deliveries(ledger, "9.9", "op", NOW)


def test_an_instance_without_pixels_cannot_be_requeued(ledger: sa.Engine):
    bring_instance_to(ledger, InstanceState.FAILED)
    pixels_are_gone(ledger, "1.2.3.1")
    with pytest.raises(NotAllowed, match="send the study again"):
        requeue.requeue(ledger, "1.2.3", "op", POLICY, NOW)


def test_too_many_raised_studies_suspend_raising(ledger: sa.Engine):
    policy = site_policy(t_high=0.5, last_n=5, max_high_share=0.4)
    for number in range(6):
        receive(ledger, film(1, f"1.2.{number}", NOW + timedelta(seconds=number)))
        score_next(ledger, 0.9, policy)
    assert rows.raising_is_suspended(ledger, policy)
    assert rows.study(ledger, "1.2.0").due_at == NOW + policy.ranking.high
    last = rows.study(ledger, "1.2.5")
    assert last.due_at == last.first_received_at + policy.ranking.neutral
    assert "raising is suspended" in last.place_reason


def test_reranking_moves_every_open_study_in_one_transaction(ledger: sa.Engine, monkeypatch: pytest.MonkeyPatch):
    for number in range(4):
        scored(ledger, f"1.2.{number}", 0.9, NOW + timedelta(minutes=number))
    before = rows.rows(ledger)
    shadow = site_policy(t_high=0.5, stage=Stage.SHADOW)
    put_in_place = processing_start.put_in_place

    def dies_at_the_third(tx, uid, *rest, **more):
        if uid == "1.2.2":
            raise RuntimeError("power cut")
        return put_in_place(tx, uid, *rest, **more)

    with monkeypatch.context() as patched:
        patched.setattr(processing_start, "put_in_place", dies_at_the_third)
        with pytest.raises(RuntimeError):
            processing_start.rerank_open(ledger, shadow, "stage", NOW)
    assert rows.rows(ledger) == before
    assert processing_start.rerank_open(ledger, shadow, "stage", NOW) == 4


def test_reranking_with_the_same_policy_moves_nothing(ledger: sa.Engine):
    for number, probability in enumerate((0.9, 0.1, 0.6)):
        scored(ledger, f"1.2.{number}", probability)
    assert processing_start.rerank_open(ledger, POLICY, "again", NOW) == 0


def test_a_dead_model_leaves_the_list_in_order_of_arrival(ledger: sa.Engine):
    for number, probability in enumerate((0.1, 0.9, 0.2, 0.8)):
        scored(ledger, f"1.2.{number}", probability, NOW + timedelta(minutes=number))
    assert listed(ledger) == ["1.2.1", "1.2.3", "1.2.0", "1.2.2"]
    processing_start.rerank_open(ledger, site_policy(t_high=2.0), "AI is off", NOW)
    assert listed(ledger) == ["1.2.0", "1.2.1", "1.2.2", "1.2.3"]


def test_read_studies_are_not_reranked(ledger: sa.Engine):
    scored(ledger, probability=0.9)
    reading.read(ledger, "1.2.3", "Dr. A", NOW)
    assert processing_start.rerank_open(ledger, site_policy(t_high=2.0), "AI is off", NOW) == 0


# --- reading -----------------------------------------------------------------------------------------------------------------


def test_the_loser_of_a_claim_is_told_who_won(ledger: sa.Engine):
    receive(ledger, film())
    reading.claim(ledger, "1.2.3", "Dr. A", LEASE, NOW)
    with pytest.raises(NotAllowed, match=r"Dr\. A has had this study"):
        reading.claim(ledger, "1.2.3", "Dr. B", LEASE, NOW)


def test_a_claim_can_be_taken_over_and_that_is_told(ledger: sa.Engine):
    receive(ledger, film())
    reading.claim(ledger, "1.2.3", "Dr. A", LEASE, NOW)
    reading.claim(ledger, "1.2.3", "Dr. B", LEASE, NOW, take_over=True)
    assert rows.study(ledger, "1.2.3").reader == "Dr. B"
    assert kinds(ledger) == ["arrived", "claimed", "taken-over"]
    with pytest.raises(NotAllowed, match=r"Dr\. B has this study"):
        reading.read(ledger, "1.2.3", "Dr. A", NOW)


def test_claiming_ones_own_again_renews_it_silently(ledger: sa.Engine):
    receive(ledger, film())
    reading.claim(ledger, "1.2.3", "Dr. A", LEASE, NOW)
    reading.claim(ledger, "1.2.3", "Dr. A", LEASE, NOW + timedelta(minutes=2))
    row = rows.study(ledger, "1.2.3")
    assert (row.reader_since, row.reader_until) == (NOW, NOW + timedelta(minutes=2) + LEASE)
    assert kinds(ledger) == ["arrived", "claimed"]


def test_a_claim_that_ran_out_is_free_for_another(ledger: sa.Engine):
    receive(ledger, film())
    reading.claim(ledger, "1.2.3", "Dr. A", LEASE, NOW)
    reading.claim(ledger, "1.2.3", "Dr. B", LEASE, LATER)
    assert rows.study(ledger, "1.2.3").reader == "Dr. B"


def test_a_claim_that_ran_out_is_ended_and_told(ledger: sa.Engine):
    receive(ledger, film())
    reading.claim(ledger, "1.2.3", "Dr. A", LEASE, NOW)
    assert deadlines.end_expired_claims(ledger, NOW) == 0
    assert deadlines.end_expired_claims(ledger, NOW + LEASE) == 1
    assert (rows.study(ledger, "1.2.3").reading_state, kinds(ledger)[-1]) == ("OPEN", "lease-ended")


def test_only_its_reader_releases_a_study(ledger: sa.Engine):
    receive(ledger, film())
    reading.claim(ledger, "1.2.3", "Dr. A", LEASE, NOW)
    with pytest.raises(NotAllowed, match=r"Dr\. A has this study"):
        reading.release(ledger, "1.2.3", "Dr. B", NOW)
    reading.release(ledger, "1.2.3", "Dr. B", NOW, force=True)
    assert rows.study(ledger, "1.2.3").reading_state == "OPEN"


def test_a_read_study_leaves_the_list_and_stays_in_its_view(ledger: sa.Engine):
    receive(ledger, film())
    reading.read(ledger, "1.2.3", "Dr. A", NOW)
    assert (listed(ledger), listed(ledger, view=View.READ)) == ([], ["1.2.3"])
    with pytest.raises(NotAllowed, match=r"read before, by Dr\. A"):
        reading.read(ledger, "1.2.3", "Dr. B", NOW)


def test_a_pin_is_taken_back(ledger: sa.Engine):
    receive(ledger, film())
    reading.pin(ledger, "1.2.3", "Dr. A", POLICY, NOW)
    reading.pin(ledger, "1.2.3", "Dr. A", POLICY, NOW, remove=True)
    row = rows.study(ledger, "1.2.3")
    assert (row.stat, row.pinned_by, row.due_at) == (False, None, NOW + POLICY.ranking.neutral)
    assert kinds(ledger) == ["arrived", "pinned", "placed", "unpinned", "placed"]


def test_taking_a_pin_back_leaves_the_orders_own_stat(ledger: sa.Engine):
    receive(ledger, film(priority="STAT"))
    reading.pin(ledger, "1.2.3", "Dr. A", POLICY, NOW)
    reading.pin(ledger, "1.2.3", "Dr. A", POLICY, NOW, remove=True)
    assert rows.study(ledger, "1.2.3").stat
    with pytest.raises(NotAllowed, match="its order is STAT"):
        reading.pin(ledger, "1.2.3", "Dr. A", POLICY, NOW, remove=True)


@pytest.mark.parametrize(
    "verb",
    [
        lambda db: reading.claim(db, "9.9", "Dr. A", LEASE, NOW),
        lambda db: reading.release(db, "9.9", "Dr. A", NOW),
        lambda db: reading.read(db, "9.9", "Dr. A", NOW),
        lambda db: reading.pin(db, "9.9", "Dr. A", POLICY, NOW),
    ],
)
def test_an_unknown_study_is_not_found(ledger: sa.Engine, verb: Callable[[sa.Engine], None]):
    with pytest.raises(NotFound):
        verb(ledger)


def test_a_study_past_its_deadline_is_overdue_once(ledger: sa.Engine):
    receive(ledger, film())
    due = NOW + POLICY.ranking.neutral
    assert deadlines.mark_overdue(ledger, due) == 0
    assert deadlines.mark_overdue(ledger, due + timedelta(seconds=1)) == 1
    assert deadlines.mark_overdue(ledger, due + timedelta(seconds=2)) == 0
    assert kinds(ledger) == ["arrived", "overdue"]


def test_an_overdue_study_stays_overdue_when_only_the_words_change(ledger: sa.Engine):
    receive(ledger, film())
    deadlines.mark_overdue(ledger, LATER + POLICY.ranking.neutral)
    processing_start.rerank_open(ledger, site_policy(stage=Stage.PILOT), "stage", LATER)
    assert rows.study(ledger, "1.2.3").overdue_at is not None


@pytest.mark.parametrize("state", ["stat", "read"])
def test_stat_and_read_studies_are_never_overdue(ledger: sa.Engine, state: str):
    receive(ledger, film(priority="STAT" if state == "stat" else ""))
    if state == "read":
        reading.read(ledger, "1.2.3", "Dr. A", NOW)
    assert deadlines.mark_overdue(ledger, NOW + timedelta(days=9)) == 0


def test_a_study_open_for_too_long_moves_to_its_own_view(ledger: sa.Engine):
    receive(ledger, film())
    assert deadlines.expire(ledger, NOW, NOW) == 0
    assert deadlines.expire(ledger, LATER, LATER) == 1
    assert deadlines.expire(ledger, LATER, LATER) == 0
    assert (listed(ledger), listed(ledger, view=View.EXPIRED)) == ([], ["1.2.3"])
    assert counts.counts(ledger).expired == 1


# --- publishing and delivering --------------------------------------------------------------------------------------------------


def test_a_study_is_published_after_its_quiet_time(ledger: sa.Engine):
    receive(ledger, film())
    claim = processing_score.claim_instance(ledger, "w", LEASE)
    assert claim is not None
    patient = policy_with(POLICY, quiet=QuietTime(quiet=timedelta(hours=1), ceiling=timedelta(hours=2)))
    processing_score.finish_scored(ledger, claim, score_of(0.2), patient, NOW)
    assert processing_deliver.claim_study(ledger, "w", LEASE, NOW) is None


def test_another_image_starts_the_quiet_time_anew_up_to_the_ceiling(ledger: sa.Engine):
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


# --- retention and alarms ---------------------------------------------------------------------------------------------------------


def deletable(ledger: sa.Engine) -> list[str]:
    return retention.mark_deletable(ledger, Deadlines(LATER), LATER)


def test_pixels_of_a_read_and_delivered_study_may_go(ledger: sa.Engine):
    scored(ledger)
    publish(ledger)
    deliver(ledger)
    reading.read(ledger, "1.2.3", "Dr. A", NOW)
    assert deletable(ledger) == ["1.2.3.1"]


@pytest.mark.parametrize("left", ["read", "publish", "deliver", "delivered", "score"])
def test_pixels_with_work_left_are_never_returned(ledger: sa.Engine, left: str):
    receive(ledger, film())
    if left != "score":
        score_next(ledger, 0.2)
    if left not in ("score", "publish"):
        publish(ledger)
    if left not in ("score", "publish", "deliver"):
        deliver(ledger, DeliveryState.REJECTED if left == "delivered" else DeliveryState.SENT)
    if left != "read":
        reading.read(ledger, "1.2.3", "Dr. A", NOW)
    assert deletable(ledger) == []


def test_a_study_read_just_now_keeps_its_pixels(ledger: sa.Engine):
    bring_instance_to(ledger, InstanceState.FAILED)
    reading.read(ledger, "1.2.3", "Dr. A", LATER)
    assert deletable(ledger) == []


def test_where_nothing_is_published_no_result_is_waited_for(ledger: sa.Engine):
    scored(ledger)
    reading.read(ledger, "1.2.3", "Dr. A", NOW)
    assert deletable(ledger) == []
    claim = processing_deliver.claim_study(ledger, "w", timedelta(seconds=60), LATER)
    assert claim is not None
    processing_deliver.finish_published(ledger, claim, None, (), LATER)
    assert deletable(ledger) == ["1.2.3.1"]


def test_deleted_pixels_are_told_and_not_returned_again(ledger: sa.Engine):
    bring_instance_to(ledger, InstanceState.INELIGIBLE)
    reading.read(ledger, "1.2.3", "Dr. A", NOW)
    assert deletable(ledger) == ["1.2.3.1"]
    assert deletable(ledger) == []
    assert kinds(ledger)[-1] == "pixels-deleted"


def test_the_oldest_read_study_goes_first(ledger: sa.Engine):
    for number, minutes in ((1, 5), (2, 1), (3, 3)):
        receive(ledger, film(1, f"1.2.{number}"), unreadable="no header")
        reading.read(ledger, f"1.2.{number}", "Dr. A", NOW + timedelta(minutes=minutes))
    assert deletable(ledger) == ["1.2.2.1", "1.2.3.1", "1.2.1.1"]


def test_an_alarm_stands_since_its_first_moment_until_its_cause_is_gone(ledger: sa.Engine):
    def ring(*alarms: Alarm, at: datetime = NOW) -> list[tuple[str, datetime, str]]:
        housekeeping.stand(ledger, ["disk", "overdue"], alarms, at)
        return [(name, since, said) for name, since, said, _ in rows.standing_alarms(ledger)]

    assert ring(Alarm(name="disk", said="90 %", mend="free it")) == [("disk", NOW, "90 %")]
    assert ring(Alarm(name="disk", said="95 %", mend="free it"), at=LATER) == [("disk", NOW, "95 %")]
    assert ring(at=LATER) == []


def test_an_alarm_of_another_job_is_left_alone(ledger: sa.Engine):
    housekeeping.stand(ledger, ["disk"], [Alarm(name="disk", said="x", mend="y")], NOW)
    housekeeping.stand(ledger, ["overdue"], [], NOW)
    assert len(rows.standing_alarms(ledger)) == 1


def test_every_file_is_scrubbed_in_turn(ledger: sa.Engine):
    receive(ledger, *(film(number) for number in range(3)))
    pixels_are_gone(ledger, "1.2.3.1")
    seen, last = [], ""
    while found := housekeeping.digest_of(ledger, last):
        last = found[0]
        seen.append(last)
    assert seen == ["1.2.3.0", "1.2.3.2"]


# --- crashes and outages --------------------------------------------------------------------------------------------------------------


class Line:
    """One study's way through the ledger, a call at a time; a worker that dies leaves its lease to run out."""

    STEPS = ("receive", "claim instance", "score", "claim study", "publish", "claim delivery", "deliver")

    def __init__(self, ledger: sa.Engine, worker: str, lease: timedelta) -> None:
        self.ledger, self.worker, self.lease = ledger, worker, lease
        self.calls = (
            self.receive, self.claim_instance, self.score, self.claim_study, self.publish, self.claim_delivery, self.deliver,
        )  # fmt: skip
        self.instance = self.study = self.delivery = None

    def walk(self, steps: int) -> None:
        for call in self.calls[:steps]:
            call()

    def receive(self) -> None:
        receive(self.ledger, film())

    def claim_instance(self) -> None:
        self.instance = processing_score.claim_instance(self.ledger, self.worker, self.lease)

    def score(self) -> None:
        if self.instance is not None:
            assert processing_score.finish_scored(self.ledger, self.instance, score_of(0.9), POLICY, NOW)

    def claim_study(self) -> None:
        self.study = processing_deliver.claim_study(self.ledger, self.worker, self.lease, NOW)

    def publish(self) -> None:
        if self.study is not None:
            assert processing_deliver.finish_published(self.ledger, self.study, result_of("2.25.1"), ["pacs"], NOW)

    def claim_delivery(self) -> None:
        self.delivery = processing_deliver.claim_delivery(self.ledger, "pacs", self.worker, self.lease)

    def deliver(self) -> None:
        if self.delivery is not None:
            assert processing_deliver.finish_delivery(self.ledger, self.delivery, DeliveryState.SENT, "", NOW)


@pytest.mark.parametrize("steps", range(len(Line.STEPS) + 1), ids=["start", *Line.STEPS])
def test_a_crash_after_any_call_loses_nothing_and_doubles_nothing(ledger: sa.Engine, steps: int):
    Line(ledger, "dies", RUN_OUT).walk(steps)
    again = opened_again(ledger)
    Line(again, "next", LEASE).walk(len(Line.STEPS))
    row = rows.study(again, "1.2.3")
    assert (row.instances, row.risk, row.band) == (1, 0.9, "HIGH")
    assert deliveries_of(again) == {"2.25.1": "SENT"}
    assert [kind for kind in kinds(again) if kind != "placed"] == ["arrived", "scored", "published", "sent"]
    again.dispose()


def test_a_transaction_that_breaks_off_leaves_nothing(ledger: sa.Engine):
    receive(ledger, film())

    def dies() -> None:
        with connect.writing(ledger) as tx:
            record(tx, Kind.READ, "read", NOW, study="1.2.3")
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError):
        dies()
    assert kinds(ledger) == ["arrived"]


@pytest.mark.parametrize("url", ["postgresql://nobody@127.0.0.1:1/none", "sqlite:////proc/nowhere/ledger.sqlite3"])
def test_a_database_that_does_not_answer_is_transient(url: str):
    try:
        engine = connect.open_ledger(url)
    except OSError:
        return  # SQLite's folder cannot be made: told at start, before anything is acknowledged
    with pytest.raises(Transient):
        receive(engine, film())


def test_an_unknown_database_is_a_fault_of_the_configuration():
    with pytest.raises(ConfigError, match="mysql is not supported"):
        connect.open_ledger("mysql://h/d")


def test_sqlite_commits_are_durable(ledger: sa.Engine):
    if ledger.dialect.name != "sqlite":
        pytest.skip("Postgres commits are durable by its own default")
    with connect.reading(ledger) as tx:
        pragmas = {name: tx.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("journal_mode", "synchronous", "foreign_keys")}
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}
