"""A calibration takes effect in one commit, for the studies that wait and for those being scored, and goes back the same way."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest
import sqlalchemy as sa

from prioritizer.db.decisions import activation, calibrations
from prioritizer.db.decisions.activation import Activated
from prioritizer.db.in_force import local_calibration
from prioritizer.db.processing import daemon_start, deliver, housekeeping
from prioritizer.db.processing import score as processing_score
from prioritizer.db.worklist import reading, rows
from prioritizer.db.worklist import study as worklist_study
from prioritizer.db.worklist.study import InstanceRow
from prioritizer.errors import CalibrationChanged, NotAllowed, NotFound
from prioritizer.ranking.deadlines import Stage
from prioritizer.ranking.study_risk import study_risk
from prioritizer.states import CALIBRATION_TRANSITIONS, CalibrationState
from prioritizer.study import Logit, Probability
from tests.support.calibrations import BUNDLE, LATER, OWN, SITE, UNFIT, activate, candidate, score, shifted
from tests.support.ledgers import LEASE, NOW, deliveries_of, film, kinds, opened_again, policy_with, publish, receive, score_of


def roll_back(ledger: sa.Engine, **how: bool) -> Activated:
    return activation.roll_back(ledger, "berta", SITE, LATER, **how)


def study(ledger: sa.Engine, uid: str, *logits: float) -> str:
    receive(ledger, *(film(number, uid) for number in range(1, len(logits) + 1)), policy=SITE)
    assert all(score(ledger, logit) for logit in logits)
    return uid


def row(ledger: sa.Engine, uid: str = "1.2.3") -> rows.WorklistRow:
    return rows.study(ledger, uid)


def instance(ledger: sa.Engine, uid: str = "1.2.3") -> InstanceRow:
    return worklist_study.study_instances(ledger, uid)[0]


def state_of(ledger: sa.Engine, name: str) -> str:
    return calibrations.find(ledger, name).state


# --- what takes effect ---------------------------------------------------------------------------------------------


def test_without_an_active_calibration_the_bundles_own_applies(ledger: sa.Engine) -> None:
    study(ledger, "1.2.3", -1.0)
    assert (instance(ledger).calibration_id, row(ledger).band, calibrations.applying(ledger, SITE).calibration) == ("own", "NEUTRAL", OWN)


def test_activating_scores_and_places_every_unread_study_again_in_one_commit(ledger: sa.Engine) -> None:
    study(ledger, "1.2.3", -1.0)
    study(ledger, "1.2.4", -5.0)
    done = activate(ledger, candidate(ledger))
    assert (done.before, done.calibration, done.activation, done.scored_again, done.moved) == ("own", "b", 1, 2, 1)
    assert (row(ledger).band, row(ledger, "1.2.4").band) == ("HIGH", "NEUTRAL")
    assert row(ledger).risk == pytest.approx(OWN.probability(1.0))
    assert row(ledger).due_at == NOW + SITE.ranking.high
    assert (instance(ledger).calibration_id, instance(ledger).activation) == ("b", 1)


def test_the_thresholds_of_the_active_calibration_hold_wherever_a_study_is_placed(ledger: sa.Engine) -> None:
    activate(ledger, candidate(ledger, by=0.0, t_high=0.9))
    study(ledger, "1.2.3", 1.0)
    assert row(ledger).band == "NEUTRAL"
    daemon_start.rerank_open(ledger, SITE, "a restart", LATER)
    reading.pin(ledger, "1.2.3", "anna", SITE, LATER)
    reading.pin(ledger, "1.2.3", "anna", SITE, LATER, remove=True)
    receive(ledger, film(2, at=LATER), policy=SITE)
    assert row(ledger).band == "NEUTRAL"


def test_the_earlier_score_stays_beside_the_new_one(ledger: sa.Engine) -> None:
    study(ledger, "1.2.3", -1.0)
    activate(ledger, candidate(ledger))
    with ledger.connect() as connection:
        found = connection.execute(sa.text("SELECT calibration_id, activation, logit FROM scores ORDER BY id")).all()
    assert [tuple(one) for one in found] == [("own", 0, -1.0), ("b", 1, -1.0)]
    assert "recalibrated" in kinds(ledger)


def test_a_study_that_was_read_keeps_its_scores_until_it_is_open_again(ledger: sa.Engine) -> None:
    study(ledger, "1.2.3", -1.0)
    reading.read(ledger, "1.2.3", "dr-a", NOW)
    assert activate(ledger, candidate(ledger)).scored_again == 0
    assert instance(ledger).calibration_id == "own"
    receive(ledger, film(2, at=LATER), policy=SITE)
    assert (instance(ledger).calibration_id, row(ledger).band) == ("b", "HIGH")


def test_of_a_study_of_several_images_the_highest_still_decides(ledger: sa.Engine) -> None:
    study(ledger, "1.2.3", -3.0, -1.0)
    activate(ledger, candidate(ledger))
    assert row(ledger).risk == pytest.approx(study_risk([OWN.probability(-1.0), OWN.probability(1.0)]))


def test_an_image_that_was_looked_at_while_ai_was_turned_off_waits_and_the_try_does_not_count(ledger: sa.Engine) -> None:
    receive(ledger, film(1), policy=SITE)
    claim = processing_score.claim_instance(ledger, "scorer", LEASE)
    assert claim is not None
    without_ai = policy_with(SITE, bundle_digest="", own=None)
    assert not processing_score.finish_scored(ledger, claim, score_of(None, logit=Logit(-1.0)), without_ai, NOW)
    again = processing_score.claim_instance(ledger, "scorer", LEASE)
    assert again is not None
    assert again.attempts == claim.attempts
    assert processing_score.finish_scored(ledger, again, score_of(None, logit=Logit(-1.0)), SITE, NOW)
    assert instance(ledger).probability == pytest.approx(OWN.probability(-1.0))


def test_an_image_being_scored_while_an_activation_commits_ends_with_the_new_calibration(ledger: sa.Engine) -> None:
    receive(ledger, film(1), policy=SITE)
    claim = processing_score.claim_instance(ledger, "scorer", LEASE)
    assert claim is not None
    activate(ledger, candidate(ledger))
    assert processing_score.finish_scored(ledger, claim, score_of(None, logit=Logit(-1.0)), SITE, NOW)
    assert (instance(ledger).calibration_id, row(ledger).band) == ("b", "HIGH")
    assert instance(ledger).probability == pytest.approx(OWN.probability(1.0))


def test_scores_that_commit_beside_an_activation_all_end_with_it(ledger: sa.Engine) -> None:
    names = [candidate(ledger, f"c{number}", by=0.1 * number) for number in range(6)]
    uids = [f"1.2.{number}" for number in range(24)]
    receive(ledger, *(film(1, uid) for uid in uids), policy=SITE)
    faults: list[BaseException] = []

    def scores() -> None:
        other = opened_again(ledger)
        try:
            for _ in uids[::2]:
                score(other, -1.0)
        except BaseException as error:
            faults.append(error)
        other.dispose()

    stations = [threading.Thread(target=scores) for _ in range(2)]
    for station in stations:
        station.start()
    for name in names:
        activate(ledger, name)
    for station in stations:
        station.join()
    assert faults == []
    assert {instance(ledger, uid).calibration_id for uid in uids} == {names[-1]}
    assert {instance(ledger, uid).activation for uid in uids} == {len(names)}


def test_a_new_bundle_never_takes_over_another_bundles_calibration(ledger: sa.Engine) -> None:
    activate(ledger, candidate(ledger))
    other = policy_with(SITE, bundle_digest="e" * 64)
    assert calibrations.applying(ledger, other).calibration == OWN
    with pytest.raises(NotAllowed, match="made for bundle dddddddddddd"):
        activate(ledger, "b", policy=other)


def test_a_calibration_that_raises_too_much_is_suspended_in_the_same_commit(ledger: sa.Engine) -> None:
    cautious = policy_with(SITE, max_high_share=0.5, last_n=5)
    for number in range(6):
        study(ledger, f"1.2.{number}", -1.0)
    activate(ledger, candidate(ledger), policy=cautious)
    assert {(found.band, found.due_at) for found in rows.rows(ledger)} == {("HIGH", NOW + SITE.ranking.neutral)}


def test_in_stage_pilot_an_activation_moves_no_study(ledger: sa.Engine) -> None:
    study(ledger, "1.2.3", -1.0)
    done = activate(ledger, candidate(ledger), policy=policy_with(SITE, stage=Stage.PILOT))
    assert row(ledger).due_at == NOW + SITE.ranking.neutral
    assert done.published_again == 1


# --- going back ----------------------------------------------------------------------------------------------------


def test_rolling_back_walks_back_one_activation_at_a_time_to_the_bundles_own(ledger: sa.Engine) -> None:
    study(ledger, "1.2.3", -1.0)
    for name in (candidate(ledger, "b"), candidate(ledger, "c", by=3.0)):
        activate(ledger, name)
    assert (roll_back(ledger).calibration, state_of(ledger, "c")) == ("b", "RETIRED")
    assert (roll_back(ledger).calibration, row(ledger).band) == ("own", "NEUTRAL")
    assert row(ledger).risk == pytest.approx(OWN.probability(-1.0))
    with pytest.raises(NotAllowed, match="nothing to go back to"):
        roll_back(ledger)


def test_rolling_back_to_the_bundles_own_skips_what_lies_between(ledger: sa.Engine) -> None:
    for name in (candidate(ledger, "b"), candidate(ledger, "c", by=3.0)):
        activate(ledger, name)
    assert roll_back(ledger, to_own=True).calibration == "own"


def test_a_retired_calibration_may_be_activated_again(ledger: sa.Engine) -> None:
    study(ledger, "1.2.3", -1.0)
    activate(ledger, candidate(ledger))
    roll_back(ledger)
    assert (activate(ledger, "b").activation, instance(ledger).activation) == (3, 3)


def test_going_back_makes_another_result_so_that_the_newest_in_the_pacs_is_the_one_that_applies(ledger: sa.Engine) -> None:
    study(ledger, "1.2.3", -1.0)
    publish(ledger, "2.25.1")
    activate(ledger, candidate(ledger))
    publish(ledger, "2.25.2")
    assert roll_back(ledger).published_again == 1
    claim = deliver.claim_study(ledger, "publisher", LEASE, LATER)
    assert claim is not None
    assert (claim.calibration_id, claim.activation, claim.band) == ("own", 2, "NEUTRAL")


def test_a_study_whose_mark_stays_is_not_published_again(ledger: sa.Engine) -> None:
    study(ledger, "1.2.3", -5.0)
    publish(ledger)
    assert activate(ledger, candidate(ledger)).published_again == 0
    assert deliver.claim_study(ledger, "publisher", LEASE, LATER) is None
    assert set(deliveries_of(ledger)) == {"2.25.1"}


# --- who may, and what is kept -------------------------------------------------------------------------------------


def test_a_candidate_that_its_report_advises_against_needs_a_reason_which_is_kept(ledger: sa.Engine) -> None:
    name = candidate(ledger, verdict=UNFIT)
    with pytest.raises(NotAllowed, match="--against-advice"):
        activate(ledger, name)
    activate(ledger, name, against_advice="trial in a closed room")
    with ledger.connect() as connection:
        (said,) = connection.execute(sa.text("SELECT detail FROM events WHERE kind = 'calibration-activated'")).scalars()
    assert "trial in a closed room" in str(said)


def test_where_the_site_asks_for_a_second_person_nobody_activates_without_one(ledger: sa.Engine) -> None:
    name = candidate(ledger)
    with pytest.raises(NotAllowed, match="anyone but anna"):
        activate(ledger, name, second_person=True)
    with pytest.raises(NotAllowed, match="another person"):
        calibrations.approve(ledger, name, "Anna", LATER)
    calibrations.approve(ledger, name, "carla", LATER)
    assert activate(ledger, name, second_person=True).calibration == name


def test_a_rejected_candidate_stays_rejected(ledger: sa.Engine) -> None:
    calibrations.reject(ledger, candidate(ledger), "berta", "wrong cohort", LATER)
    for step in (lambda: activate(ledger, "b"), lambda: calibrations.approve(ledger, "b", "carla", LATER)):
        with pytest.raises(NotAllowed, match="REJECTED"):
            step()


def test_what_is_active_cannot_be_activated_or_rejected(ledger: sa.Engine) -> None:
    activate(ledger, candidate(ledger))
    with pytest.raises(NotAllowed, match="active already"):
        activate(ledger, "b")
    with pytest.raises(NotAllowed, match="cannot become REJECTED"):
        calibrations.reject(ledger, "b", "berta", "", LATER)


def test_the_database_holds_at_most_one_active_calibration_a_bundle(ledger: sa.Engine) -> None:
    activate(ledger, candidate(ledger))
    candidate(ledger, "c")
    with pytest.raises(sa.exc.IntegrityError), ledger.begin() as connection:
        connection.execute(sa.text("UPDATE calibrations SET state = 'ACTIVE' WHERE id = 'c'"))


def test_the_database_knows_no_other_state(ledger: sa.Engine) -> None:
    candidate(ledger)
    with pytest.raises(sa.exc.IntegrityError), ledger.begin() as connection:
        connection.execute(sa.text("UPDATE calibrations SET state = 'MAYBE' WHERE id = 'b'"))


def test_every_change_is_an_event_with_who_from_which_and_to_which(ledger: sa.Engine) -> None:
    name = candidate(ledger)
    calibrations.approve(ledger, name, "carla", LATER)
    activate(ledger, name)
    roll_back(ledger)
    with ledger.connect() as connection:
        found = connection.execute(sa.text("SELECT kind, actor, said FROM events WHERE kind LIKE 'calibration%' ORDER BY id")).all()
    assert [(kind, actor) for kind, actor, _ in found] == [
        ("calibration-made", "anna"),
        ("calibration-approved", "carla"),
        ("calibration-activated", "berta"),
        ("calibration-activated", "berta"),
    ]
    assert "activated calibration b from own" in found[2][2]
    assert "went back to calibration own from b" in found[3][2]


def test_a_calibration_is_found_by_the_end_of_its_id(ledger: sa.Engine) -> None:
    candidate(ledger, "local-2026-a1")
    candidate(ledger, "local-2026-b1")
    assert calibrations.find(ledger, "a1").id == "local-2026-a1"
    with pytest.raises(NotAllowed):
        calibrations.find(ledger, "1")
    with pytest.raises(NotFound):
        calibrations.find(ledger, "nowhere")


# --- a document that is not what was stored ------------------------------------------------------------------------


def change_document(ledger: sa.Engine) -> None:
    with ledger.begin() as connection:
        connection.exec_driver_sql("UPDATE calibrations SET document = replace(document, '\"intercept\":2.0', '\"intercept\":9.0')")


def test_a_changed_document_is_refused_and_nothing_is_scored_or_raised_with_it(ledger: sa.Engine) -> None:
    activate(ledger, candidate(ledger))
    study(ledger, "1.2.3", -1.0)
    change_document(ledger)
    receive(ledger, film(1, "1.2.4"), policy=SITE)
    with pytest.raises(CalibrationChanged, match="not what was stored"):
        score(ledger, -1.0)
    assert "digest differs" in calibrations.applying(ledger, SITE).fault
    daemon_start.rerank_open(ledger, SITE, "a restart", LATER)
    assert {found.band for found in rows.rows(ledger)} == {"NEUTRAL"}


def test_from_a_changed_document_one_may_go_back(ledger: sa.Engine) -> None:
    activate(ledger, candidate(ledger))
    change_document(ledger)
    assert roll_back(ledger).calibration == "own"
    study(ledger, "1.2.3", 3.0)
    assert row(ledger).band == "HIGH"
    with pytest.raises(CalibrationChanged):
        activate(ledger, "b")
    assert calibrations.applying(ledger, SITE).calibration == OWN


def test_a_row_that_was_given_to_another_bundle_is_refused(ledger: sa.Engine) -> None:
    activate(ledger, candidate(ledger, bundle=BUNDLE))
    with ledger.begin() as connection:
        connection.execute(sa.text("UPDATE calibrations SET bundle_digest = '" + "e" * 64 + "'"))
    assert "another bundle" in calibrations.applying(ledger, policy_with(SITE, bundle_digest="e" * 64)).fault


def test_every_transition_of_the_table_and_no_other_is_a_way_through_the_ledger() -> None:
    assert CALIBRATION_TRANSITIONS[CalibrationState.CANDIDATE] == {CalibrationState.ACTIVE, CalibrationState.REJECTED}
    assert CALIBRATION_TRANSITIONS[CalibrationState.REJECTED] == frozenset()


def test_the_probability_in_the_ledger_is_that_of_the_logit_to_the_last_digit(ledger: sa.Engine) -> None:
    activate(ledger, candidate(ledger))
    study(ledger, "1.2.3", -0.123456789)
    assert instance(ledger).probability == Probability(shifted("b", 2.0).probability(-0.123456789))


def test_retention_and_alarms_do_not_mind_calibrations(ledger: sa.Engine) -> None:
    activate(ledger, candidate(ledger))
    assert housekeeping.claim_holders(ledger) == set()


# --- another population --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("stage", "held"), [(Stage.SHADOW, False), (Stage.PILOT, True), (Stage.ACTIVE, True)])
def test_strange_images_are_held_back_where_studies_are_marked_or_moved(ledger: sa.Engine, stage: Stage, held: bool):
    assert local_calibration.local(ledger, policy_with(SITE, stage=stage)).holds_back is held


def test_a_local_calibration_that_was_judged_fit_lets_them_through(ledger: sa.Engine):
    active = policy_with(SITE, stage=Stage.ACTIVE)
    candidate(ledger)
    assert local_calibration.local(ledger, active).holds_back
    activate(ledger, "b")
    assert not local_calibration.local(ledger, active).holds_back
    assert local_calibration.local(ledger, replace(active, bundle_digest="e" * 64)).holds_back
    roll_back(ledger)
    assert local_calibration.local(ledger, active).holds_back


def test_a_calibration_that_was_advised_against_lets_nothing_through(ledger: sa.Engine):
    candidate(ledger, verdict=UNFIT)
    activate(ledger, "b", against_advice="there is nothing better")
    assert local_calibration.local(ledger, policy_with(SITE, stage=Stage.ACTIVE)).holds_back
