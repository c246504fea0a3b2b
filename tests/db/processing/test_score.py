"""A score carries what made it, the deciding image makes the risk of its study, and placing again moves what is open in one transaction."""

from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa

from prioritizer.db.processing import daemon_start as processing_start
from prioritizer.db.processing import deliver as processing_deliver
from prioritizer.db.processing import requeue
from prioritizer.db.processing import score as processing_score
from prioritizer.db.worklist import reading, rows, study
from prioritizer.errors import NotAllowed, NotFound
from prioritizer.ranking.deadlines import Stage
from prioritizer.ranking.study_risk import study_risk
from prioritizer.states import InstanceState
from tests.support.ledger_states import (
    bring_instance_to,
    finish_unscored,
    pixels_are_gone,
)
from tests.support.ledgers import (
    LEASE,
    NOW,
    POLICY,
    film,
    listed,
    receive,
    score_next,
    scored,
    site_policy,
)


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
