"""Images of another population than in training are scored once a calibration allows it, and unscored again once it is gone."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from prioritizer.config.policy import SitePolicy
from prioritizer.config.settings import Settings
from prioritizer.daemon.scheduled_jobs import LEFT_OUT_AGAIN_S, ScheduledJobs
from prioritizer.db.decisions import activation, calibrations
from prioritizer.db.decisions.activation import Activated, Decision
from prioritizer.db.decisions.calibrations import CandidateVerdict
from prioritizer.db.in_force import local_calibration, site_policy
from prioritizer.db.in_force.calibration import PolicyInForce, in_force
from prioritizer.db.in_force.local_calibration import Local
from prioritizer.db.list_order import placement
from prioritizer.db.processing import deliver as processing_deliver
from prioritizer.db.processing import out_of_distribution as processing_out_of_distribution
from prioritizer.db.processing import score
from prioritizer.db.processing.score import Distance
from prioritizer.db.schema import connect
from prioritizer.db.schema.tables import deliveries, instances
from prioritizer.db.worklist import deadlines, reading, rows, study
from prioritizer.dicom.spool.spool import Spool
from prioritizer.ranking.deadlines import Stage
from prioritizer.scope import guard_rules
from prioritizer.scope.out_of_distribution import Figures
from prioritizer.scope.verdict import PopulationRule, ScopeRules
from prioritizer.scope.verdict import ScopeVerdict as Judged
from prioritizer.states import DeliveryState, InstanceState
from prioritizer.study import Logit
from tests.support.calibrations import BUNDLE, FIT, LATER, OWN, SITE, shifted
from tests.support.ledgers import (
    LEASE,
    NOW,
    deliver,
    deliveries_of,
    film,
    opened_again,
    plans_of,
    policy_with,
    publish,
    receive,
    score_of,
)
from tests.support.page_client import at

CARE = CandidateVerdict(word="activate with care", said="Few cases.", report="report.html")
SOON = LATER + timedelta(minutes=1)


def score_waiting(ledger: sa.Engine, distance: float = 1.5, policy: SitePolicy = SITE, logit: float = 2.0) -> int:
    """Score everything that waits as the score station does: beyond the limit it asks what is in force; returns how many images."""
    count = 0
    while (claim := score.claim_instance(ledger, "scorer", LEASE)) is not None:
        count += 1
        its, figures = local_calibration.local(ledger, policy), Figures(out_of_distribution=distance)
        rules = ScopeRules(out_of_distribution=policy.out_of_distribution)
        judged = guard_rules.with_guard(Judged(reason=None), figures, rules, holds_back=its.holds_back, local_limit=its.limit)
        if judged.reason is not None:
            state, measured = InstanceState.INELIGIBLE, Distance(distance=distance, bundle_digest=BUNDLE)
            reason = judged.reason
            assert score.finish_unscored(ledger, claim, state, reason.rule, reason.sentence, policy, NOW, measured)
            continue
        made = score_of(
            OWN.probability(logit), logit=Logit(logit), calibration_id=OWN.id, bundle_digest=BUNDLE, warnings=judged.warnings,
            out_of_distribution=distance,
        )  # fmt: skip
        assert score.finish_scored(ledger, claim, made, policy, NOW)
    return count


def stranger(ledger: sa.Engine, uid: str = "1.2.3", policy: SitePolicy = SITE, distance: float = 1.5) -> str:
    receive(ledger, film(1, uid), policy=policy)
    assert score_waiting(ledger, distance, policy) == 1
    return uid


def activate(ledger: sa.Engine, name: str = "b", verdict: CandidateVerdict = FIT, policy: SitePolicy = SITE, **values: float) -> Activated:
    calibrations.add(ledger, BUNDLE, replace(shifted(name, 0.0), **values), verdict, "anna", NOW)
    return activation.activate(ledger, name, Decision(who="berta"), policy, LATER)


def roll_back(ledger: sa.Engine, policy: SitePolicy = SITE) -> Activated:
    return activation.roll_back(ledger, "berta", policy, LATER)


def judged(ledger: sa.Engine, policy: SitePolicy = SITE) -> int:
    """Turns of the chore until nothing is owed; how many images were then scored."""
    count = 0
    while processing_out_of_distribution.judge_again(ledger, policy, SOON):
        count += score_waiting(ledger, policy=policy)
    return count


def state(ledger: sa.Engine, uid: str = "1.2.3") -> tuple[str, str]:
    (image,) = study.study_instances(ledger, uid)
    return image.state, rows.study(ledger, uid).band


# --- a calibration that was judged fit lifts it ----------------------------------------------------------------------


def test_activating_a_calibration_that_was_judged_fit_has_what_was_left_out_scored_and_placed(ledger: sa.Engine):
    stranger(ledger)
    assert (state(ledger), rows.study(ledger, "1.2.3").ai_state) == (("INELIGIBLE", "NEUTRAL"), "NOT_SCORED")
    done = activate(ledger)
    assert done.left_out == 1
    assert judged(ledger) == 1
    row = rows.study(ledger, "1.2.3")
    assert (state(ledger), row.due_at) == (("SCORED", "HIGH"), NOW + SITE.ranking.high)
    said = [event.said for event in study.why(ledger, "1.2.3") if event.kind == "requeued"]
    assert said == ["to be scored: calibration b, made here and judged fit, is in force"]


def test_what_an_activation_owes_survives_that_the_process_dies_after_it(ledger: sa.Engine):
    stranger(ledger)
    activate(ledger)
    again = opened_again(ledger)
    assert judged(again) == 1
    assert state(again)[0] == "SCORED"
    again.dispose()


def test_nothing_is_owed_without_the_word_fit(ledger: sa.Engine):
    stranger(ledger)
    assert not processing_out_of_distribution.judge_again(ledger, SITE, SOON)
    assert activate(ledger, verdict=CARE).left_out == 0
    assert not processing_out_of_distribution.judge_again(ledger, SITE, SOON)
    assert state(ledger)[0] == "INELIGIBLE"


def test_a_study_that_was_read_is_not_scored_any_more_until_it_is_opened_again(ledger: sa.Engine):
    stranger(ledger)
    reading.claim(ledger, "1.2.3", "ito", LEASE, NOW)
    reading.read(ledger, "1.2.3", "ito", NOW)
    assert activate(ledger).left_out == 0
    assert judged(ledger) == 0
    reading.reopen(ledger, "1.2.3", "ito", SOON)
    assert judged(ledger) == 1


def test_images_whose_pixels_are_gone_stay_as_they_are(ledger: sa.Engine):
    stranger(ledger)
    with ledger.begin() as tx:
        tx.execute(instances.update().values(pixels_deleted_at=NOW))
    assert activate(ledger).left_out == 0
    assert judged(ledger) == 0


def test_what_another_rule_left_out_is_no_part_of_it(ledger: sa.Engine):
    receive(ledger, film(1, "1.2.3"), policy=SITE)
    claim = score.claim_instance(ledger, "scorer", LEASE)
    assert claim is not None
    score.finish_unscored(ledger, claim, InstanceState.INELIGIBLE, "image_kind", "a hand", SITE, NOW, Distance(distance=3.0))
    assert activate(ledger).left_out == 0
    assert judged(ledger) == 0


def test_no_more_images_wait_because_of_it_than_a_turn_holds(ledger: sa.Engine, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(processing_out_of_distribution, "A_TURN", 2)
    for number in range(5):
        stranger(ledger, f"1.2.{number}")
    assert activate(ledger).left_out == 5
    receive(ledger, film(1, "1.3.1"), policy=SITE)
    assert processing_out_of_distribution.judge_again(ledger, SITE, SOON)
    assert score_waiting(ledger) == 2, "one of a scanner, and one that was left out"
    receive(ledger, *(film(1, f"1.3.{number}") for number in (2, 3)), policy=SITE)
    assert processing_out_of_distribution.judge_again(ledger, SITE, SOON), "there is more, and it waits for what came"
    assert score_waiting(ledger) == 2
    assert judged(ledger) == 4


def test_images_left_out_before_distances_were_kept_are_scored_too(ledger: sa.Engine):
    stranger(ledger)
    with ledger.begin() as tx:
        tx.execute(instances.update().values(out_of_distribution=None, measured_by=""))
    assert activate(ledger).left_out == 1
    assert judged(ledger) == 1


def test_where_the_site_always_leaves_them_out_only_those_within_the_local_limit_are_scored(ledger: sa.Engine):
    strict = policy_with(SITE, out_of_distribution=PopulationRule.ENFORCE)
    stranger(ledger, "1.2.3", strict, 1.5)
    stranger(ledger, "1.2.4", strict, 2.5)
    assert activate(ledger, policy=strict, local_limit=2.0).left_out == 1
    assert judged(ledger, strict) == 1
    assert (state(ledger, "1.2.3")[0], state(ledger, "1.2.4")[0]) == ("SCORED", "INELIGIBLE")
    assert not processing_out_of_distribution.judge_again(ledger, strict, SOON)


# --- and what it lifted is held back again once it is gone -------------------------------------------------------------


def test_going_back_leaves_unread_studies_unscored_again_in_the_same_commit(ledger: sa.Engine):
    stranger(ledger)
    activate(ledger)
    judged(ledger)
    publish(ledger)
    roll_back(ledger)
    row = rows.study(ledger, "1.2.3")
    assert (state(ledger), row.risk, row.due_at) == (("INELIGIBLE", "NEUTRAL"), None, NOW + SITE.ranking.neutral)
    assert deliveries_of(ledger) == {"2.25.1": DeliveryState.RETRACTED}
    said = study.why(ledger, "1.2.3")
    assert any("no longer scored" in one.said and "judged fit" in one.said for one in said if one.kind == "not-scored")
    assert not processing_out_of_distribution.judge_again(ledger, SITE, SOON)


def test_going_back_changes_nothing_of_a_study_that_was_read(ledger: sa.Engine):
    stranger(ledger)
    activate(ledger)
    judged(ledger)
    reading.claim(ledger, "1.2.3", "ito", LEASE, NOW)
    reading.read(ledger, "1.2.3", "ito", SOON)
    roll_back(ledger)
    assert state(ledger) == ("SCORED", "HIGH")


def test_going_back_leaves_those_within_the_limit_scored(ledger: sa.Engine):
    stranger(ledger, "1.2.4", distance=0.9)
    activate(ledger)
    roll_back(ledger)
    assert state(ledger, "1.2.4")[0] == "SCORED"


def test_what_was_scored_in_shadow_is_left_out_once_studies_are_moved_and_scored_again_back_in_shadow(ledger: sa.Engine):
    shadow = policy_with(SITE, stage=Stage.SHADOW)
    stranger(ledger, policy=shadow)
    assert state(ledger)[0] == "SCORED"
    assert processing_out_of_distribution.judge_again(ledger, SITE, SOON)
    assert state(ledger) == ("INELIGIBLE", "NEUTRAL")
    assert not processing_out_of_distribution.judge_again(ledger, SITE, SOON)
    assert judged(ledger, shadow) == 1
    assert state(ledger)[0] == "SCORED"


def test_a_site_that_only_warns_leaves_nothing_out(ledger: sa.Engine):
    warns = policy_with(SITE, out_of_distribution=PopulationRule.FLAG)
    stranger(ledger, policy=warns)
    assert state(ledger) == ("SCORED", "HIGH")
    assert not processing_out_of_distribution.judge_again(ledger, warns, SOON)


# --- who does it ---------------------------------------------------------------------------------------------------------


class Watched:
    def ready(self) -> list[str]:
        return []

    def pat_watchdog(self) -> None:
        pass


def test_the_daemon_looks_once_after_every_change_and_seldom_besides(ledger: sa.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    looked: list[SitePolicy] = []
    judge = processing_out_of_distribution.judge_again

    def counted(engine: sa.Engine, policy: SitePolicy, now: Any) -> bool:
        looked.append(policy)
        return judge(engine, policy, now)

    monkeypatch.setattr(processing_out_of_distribution, "judge_again", counted)
    chores = ScheduledJobs(ledger, Spool(tmp_path), Settings, Watched(), policy=lambda: SITE)
    for _ in range(3):
        chores.left_out()
    assert len(looked) == 1
    stranger(ledger)
    activate(ledger)
    chores.left_out()
    assert (len(looked), score_waiting(ledger)) == (2, 1)
    for _ in range(3):
        chores.left_out()
    assert len(looked) == 3
    chores._left_out_again -= LEFT_OUT_AGAIN_S
    chores.left_out()
    assert len(looked) == 4


def test_the_rule_of_the_site_is_kept_with_the_policy_and_one_of_before_is_read(ledger: sa.Engine):
    strict = policy_with(SITE, out_of_distribution=PopulationRule.ENFORCE)
    with ledger.begin() as tx:
        site_policy.remember(tx, strict)
        assert site_policy.remembered(tx) == strict
    document = site_policy._text(SITE).replace('"out_of_distribution": "until-calibrated", ', "")
    assert "out_of_distribution" not in document
    assert site_policy._policy(document) == SITE


# --- one rule for whoever judges an image ----------------------------------------------------------------------------------


def test_a_local_limit_counts_only_where_the_calibration_in_force_was_judged_fit(ledger: sa.Engine):
    activate(ledger, verdict=CARE, local_limit=3.0)
    assert local_calibration.local(ledger, SITE) == Local(holds_back=True, limit=None)
    activate(ledger, "c", local_limit=2.0)
    assert local_calibration.local(ledger, SITE) == Local(holds_back=False, limit=2.0)
    found = calibrations.applying(ledger, SITE)
    assert local_calibration.of(found).limit == 2.0
    assert local_calibration.of(replace(found, fit=False)).limit is None
    assert local_calibration.of(PolicyInForce(policy=SITE, calibration=found.calibration)).limit is None, "no ledger, nothing in force"


def test_nobody_asks_a_calibration_for_its_limit_past_that_rule():
    package = Path(processing_out_of_distribution.__file__).parents[2]
    asking = {
        path.name for path in package.rglob("*.py") if re.search(r"calibration(\(\))?\.local_limit", path.read_text(encoding="utf-8"))
    }
    assert asking == {"calibration.py"}


# --- how far, for people and programs ----------------------------------------------------------------------------------------


def pages(ledger: sa.Engine, uid: str = "1.2.3", policy: SitePolicy = SITE) -> tuple[str, dict[str, Any]]:
    """The study page, and the images of the API's answer."""
    with at(ledger, "ito", policy=lambda: policy) as ito:
        return ito.get(f"/study/{uid}").text, ito.get(f"/api/studies/{uid}").json()["images"][0]


def test_the_study_page_and_the_api_tell_how_far_an_image_lies_as_a_share_of_the_limit_in_force(ledger: sa.Engine):
    stranger(ledger)
    text, image = pages(ledger)
    assert "1.50 times the limit" in text
    assert "which the model came with" in text
    assert 'cx="75.0%"' in text
    assert (image["out_of_distribution"], image["own_limit"]) == (1.5, False)


@pytest.mark.parametrize(("rule", "lifted"), [(PopulationRule.UNTIL_CALIBRATED, True), (PopulationRule.ENFORCE, False)])
def test_the_study_page_says_what_lifts_the_rule_where_a_calibration_does(ledger: sa.Engine, rule: PopulationRule, lifted: bool):
    stranger(ledger)
    text, _ = pages(ledger, policy=policy_with(SITE, out_of_distribution=rule))
    assert ("prioritizer recalibrate" in text) is lifted
    assert ("Each rule of scope is enforced" in text) is not lifted


def test_the_limit_of_a_calibration_that_was_judged_fit_is_the_measure_once_it_is_in_force(ledger: sa.Engine):
    activate(ledger, local_limit=2.0)
    stranger(ledger)
    text, image = pages(ledger)
    assert "75 % of the limit" in text
    assert "this site's calibration sets" in text.replace("&#39;", "'")
    assert (image["out_of_distribution"], image["own_limit"]) == (0.75, True)


@pytest.mark.parametrize("change", [{"out_of_distribution": None, "measured_by": ""}, {"measured_by": "e" * 64}])
def test_what_was_not_measured_by_the_bundle_in_service_is_told_as_unknown(ledger: sa.Engine, change: dict[str, Any]):
    stranger(ledger, distance=0.5)
    with ledger.begin() as tx:
        tx.execute(instances.update().values(**change))
    text, image = pages(ledger)
    assert "Not known" in text
    assert 'class="ruler"' not in text
    assert image["out_of_distribution"] is None


def test_of_an_image_without_any_number_a_program_is_told_a_number(ledger: sa.Engine):
    stranger(ledger, distance=float("inf"))
    text, image = pages(ledger)
    assert "far more than the limit" in text
    assert image["out_of_distribution"] == score.MAX_DISTANCE


def test_what_is_owed_is_looked_up_and_no_ledger_is_read_whole_for_it(ledger: sa.Engine):
    if ledger.dialect.name != "sqlite":
        return
    stranger(ledger)
    plans = plans_of(ledger, lambda: processing_out_of_distribution.judge_again(ledger, SITE, SOON))
    activate(ledger)
    plans += plans_of(ledger, lambda: processing_out_of_distribution.judge_again(ledger, SITE, SOON))
    read = [line for line in plans if "instances" in line]
    assert any("ix_instances_left_out" in line for line in read)
    assert any("ix_instances_scored_beyond" in line for line in read)
    assert not [line for line in read if line.startswith("SCAN") and "INDEX" not in line]


# --- studies of several images, and what goes to the PACS ---------------------------------------------------------------

FLAG = policy_with(SITE, out_of_distribution=PopulationRule.FLAG)


def score_one(ledger: sa.Engine, distance: float, logit: float, policy: SitePolicy = SITE, warnings: tuple[str, ...] = ()) -> None:
    claim = score.claim_instance(ledger, "scorer", LEASE)
    assert claim is not None
    made = score_of(
        OWN.probability(logit), logit=Logit(logit), calibration_id=OWN.id, bundle_digest=BUNDLE, out_of_distribution=distance,
        warnings=warnings,
    )  # fmt: skip
    assert score.finish_scored(ledger, claim, made, policy, NOW)


def two_images(ledger: sa.Engine, first: tuple[float, float], second: tuple[float, float], policy: SitePolicy) -> None:
    """One study of two images, each with its distance and logit."""
    receive(ledger, film(1, "1.2.3"), film(2, "1.2.3"), policy=policy)
    for distance, logit in (first, second):
        score_one(ledger, distance, logit, policy)


def waits_to_be_published(ledger: sa.Engine) -> bool:
    return processing_deliver.claim_study(ledger, "publisher", LEASE, LATER + timedelta(hours=1)) is not None


def test_the_result_of_the_image_that_stays_is_built_again_after_going_back(ledger: sa.Engine):
    activate(ledger)
    two_images(ledger, (0.5, 3.0), (1.5, 1.0), SITE)
    publish(ledger)
    roll_back(ledger)
    row = rows.study(ledger, "1.2.3")
    assert (row.ai_state, row.band) == ("SCORED", "HIGH")
    assert set(deliveries_of(ledger).values()) == {DeliveryState.RETRACTED}
    with ledger.connect() as tx:
        assert tx.scalars(sa.select(deliveries.c.reason_text)).all() == ["an image of the study was left unscored before it was sent"]
    assert waits_to_be_published(ledger)


def test_a_result_that_is_at_the_pacs_is_replaced_where_its_image_is_left_out(ledger: sa.Engine):
    two_images(ledger, (1.5, 3.0), (0.5, -1.5), FLAG)
    publish(ledger)
    deliver(ledger)
    processing_out_of_distribution.judge_again(ledger, SITE, SOON)
    row = rows.study(ledger, "1.2.3")
    assert (row.ai_state, row.band) == ("SCORED", "NEUTRAL")
    assert waits_to_be_published(ledger)


def test_a_study_that_was_read_keeps_the_scores_that_its_reader_saw(ledger: sa.Engine):
    two_images(ledger, (1.5, 3.0), (0.5, -1.5), FLAG)
    reading.claim(ledger, "1.2.3", "ito", LEASE, NOW)
    reading.read(ledger, "1.2.3", "ito", NOW)
    with connect.writing(ledger) as tx:
        placement.replace_study(tx, "1.2.3", in_force(tx, SITE), SOON)
    assert {image.state for image in study.study_instances(ledger, "1.2.3")} == {"SCORED"}


def test_a_distance_that_another_bundle_measured_leaves_nothing_out(ledger: sa.Engine):
    two_images(ledger, (1.5, 3.0), (0.5, -1.5), FLAG)
    with ledger.begin() as tx:
        tx.execute(instances.update().values(measured_by="another"))
    processing_out_of_distribution.judge_again(ledger, SITE, SOON)
    assert {image.state for image in study.study_instances(ledger, "1.2.3")} == {"SCORED"}


# --- what comes first ---------------------------------------------------------------------------------------------------


def test_a_new_image_is_scored_before_all_that_were_left_out(ledger: sa.Engine):
    for number in range(8):
        stranger(ledger, f"1.2.{number}")
    activate(ledger)
    processing_out_of_distribution.judge_again(ledger, SITE, SOON)
    receive(ledger, film(1, "9.9.9"), policy=SITE)
    with ledger.begin() as tx:
        tx.execute(instances.update().where(instances.c.study_uid == "9.9.9").values(received_at=SOON))
    first = score.claim_instance(ledger, "scorer", LEASE)
    assert first is not None
    assert first.instance.study_uid == "9.9.9"


def test_of_those_left_out_the_earliest_are_scored_first(ledger: sa.Engine, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(processing_out_of_distribution, "A_TURN", 2)
    for number in range(4):
        stranger(ledger, f"1.2.{number}")
        with ledger.begin() as tx:
            its = instances.c.study_uid == f"1.2.{number}"
            tx.execute(instances.update().where(its).values(received_at=NOW + timedelta(minutes=10 - number)))
    activate(ledger)
    processing_out_of_distribution.judge_again(ledger, SITE, SOON)
    with ledger.connect() as tx:
        waiting = tx.scalars(sa.select(instances.c.study_uid).where(instances.c.state == InstanceState.RECEIVED)).all()
    assert sorted(waiting) == ["1.2.2", "1.2.3"]


def test_studies_that_left_the_list_are_not_owed(ledger: sa.Engine):
    stranger(ledger)
    deadlines.expire(ledger, NOW + timedelta(hours=1), NOW + timedelta(hours=2))
    assert activate(ledger).left_out == 0
    assert judged(ledger) == 0


# --- what is said -------------------------------------------------------------------------------------------------------


def test_how_far_an_image_lies_is_told_by_the_limit_in_force(ledger: sa.Engine):
    shadow = policy_with(SITE, stage=Stage.SHADOW)
    finding = guard_rules.check_population(Figures(out_of_distribution=1.5))
    assert finding is not None
    receive(ledger, film(1, "1.2.3"), policy=shadow)
    score_one(ledger, 1.5, 2.0, shadow, (finding.sentence, "view not stated"))
    activate(ledger, policy=shadow, local_limit=2.0)
    (image,) = study.study_instances(ledger, "1.2.3")
    assert image.warnings == ["view not stated"]
    roll_back(ledger, shadow)
    (image,) = study.study_instances(ledger, "1.2.3")
    assert sorted(image.warnings) == sorted([finding.sentence, "view not stated"])


def test_what_was_left_out_by_rules_that_are_gone_is_looked_at_again(ledger: sa.Engine):
    receive(ledger, film(1, "1.2.3"), policy=SITE)
    claim = score.claim_instance(ledger, "scorer", LEASE)
    assert claim is not None
    activate(ledger)
    measured = Distance(distance=1.5, bundle_digest=BUNDLE)
    rule = guard_rules.OUT_OF_DISTRIBUTION
    assert not score.finish_unscored(ledger, claim, InstanceState.INELIGIBLE, rule, "unlike", SITE, NOW, measured)
    assert score_waiting(ledger) == 1
    assert state(ledger) == ("SCORED", "HIGH")


def test_going_back_says_how_many_studies_lost_their_score(ledger: sa.Engine):
    activate(ledger)
    receive(ledger, film(1, "1.2.3"), policy=SITE)
    score_one(ledger, 1.5, 2.0)
    done = roll_back(ledger)
    assert (done.unscored, done.scored_again, done.published_again) == (1, 0, 0)
