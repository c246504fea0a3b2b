"""What arrives enters the ledger once, is on the list at once, and opens a study that was read; our own results change nothing."""

from __future__ import annotations

from datetime import timedelta

import sqlalchemy as sa

from prioritizer.db.activity import refused_associations, senders
from prioritizer.db.processing import deliver as processing_deliver
from prioritizer.db.processing import receive as processing_receive
from prioritizer.db.processing import requeue
from prioritizer.db.processing import score as processing_score
from prioritizer.db.schema.tables import studies
from prioritizer.db.worklist import deadlines, reading, rows
from prioritizer.states import InstanceState
from tests.support.ledger_states import (
    LATER,
    bring_instance_to,
    finish_unscored,
    instance_state,
    pixels_are_gone,
)
from tests.support.ledgers import (
    LEASE,
    NOW,
    POLICY,
    deliver,
    film,
    kinds,
    listed,
    own_object,
    publish,
    receive,
    score_next,
    scored,
)


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
        refused_associations.record_notice(ledger, "n1.json", notice, NOW, NOW)
    (row,) = senders.newest_notices(ledger, 9).rows
    assert (row.kind, row.address, row.calling_ae, row.detail) == ("refused-association", "10.0.0.1", "X", {"code": "peer"})


def test_a_notice_of_a_hostile_title_is_entered_too(ledger: sa.Engine):
    refused_associations.record_notice(ledger, "n1.json", {"kind": "quarantined", "calling_ae": "A\0B", "detail": "\0"}, NOW, NOW)
    assert senders.newest_notices(ledger, 9).rows[0].calling_ae == "A\N{REPLACEMENT CHARACTER}B"


def test_the_ledger_knows_which_files_it_expects(ledger: sa.Engine):
    receive(ledger, film(1), film(2))
    pixels_are_gone(ledger, "1.2.3.2")
    assert processing_receive.known_instances(ledger) == {"1.2.3.1": True, "1.2.3.2": False}
