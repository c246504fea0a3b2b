"""Children and adults on one list, each judged by a map of their own: scoring, an age that comes later, activating and going back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa

from prioritizer.calibration.cohort_lint import CohortImage
from prioritizer.calibration.maps import AgeGroup, Calibration
from prioritizer.calibration.threshold import ThresholdWish
from prioritizer.config.policy import SitePolicy, policy_of
from prioritizer.config.sections import Site, Store
from prioritizer.config.settings import Settings
from prioritizer.db.decisions import activation, calibrations
from prioritizer.db.decisions.activation import Decision
from prioritizer.db.decisions.calibrations import CandidateVerdict
from prioritizer.db.decisions.what_if import places_by
from prioritizer.db.in_force import local_calibration
from prioritizer.db.in_force.local_calibration import Local
from prioritizer.db.processing import daemon_start
from prioritizer.db.processing import score as processing_score
from prioritizer.db.worklist import rows, study
from prioritizer.errors import ConfigError, NotAllowed
from prioritizer.inference.bundle import open_bundle
from prioritizer.ranking import moves
from prioritizer.ranking.deadlines import Stage
from prioritizer.recalibration import threshold_proposal
from prioritizer.recalibration.cohort import Gathered
from prioritizer.recalibration.outcome import RecalibrationOutcome, RecalibrationRequest
from prioritizer.recalibration.recalibrate import _ages_possible, _by_age
from prioritizer.recalibration.report import facts, write
from prioritizer.statistics.subgroups import Traits
from prioritizer.study import Logit
from tests.support.ledgers import LEASE, NOW, film, policy_with, receive, score_of, site_policy

BUNDLE = "d" * 64
OWN = Calibration(
    id="own", method="platt", slope=1.0, intercept=0.0, t_high=0.5, t_low=0.1, n=500, events=100,
    adults=Calibration(id="", method="platt", slope=1.0, intercept=-2.0, t_high=0.2, t_low=0.1, n=200, events=50, finding="opacity"),
)  # fmt: skip
SITE = site_policy(bundle_digest=BUNDLE, own=OWN, max_high_share=1.0).with_thresholds_of(OWN)
FIT = CandidateVerdict(word="fit to activate", said="It separates well.", report="report.html")
AGES = {"1.2.1": 3.0, "1.2.2": 40.0, "1.2.3": None}


def score(ledger: sa.Engine, logit: float, policy: SitePolicy = SITE) -> None:
    claim = processing_score.claim_instance(ledger, "scorer", LEASE)
    assert claim is not None
    made = score_of(None, logit=Logit(logit), bundle_digest=BUNDLE)
    assert processing_score.finish_scored(ledger, claim, made, policy, NOW)


def arrived(ledger: sa.Engine, logit: float) -> None:
    """A child, an adult and somebody whose age is not known, each with the same logit."""
    for uid, age in AGES.items():
        receive(ledger, film(1, uid, age_years=age), policy=SITE)
        score(ledger, logit)


def bands(ledger: sa.Engine) -> list[str]:
    return [rows.study(ledger, uid).band for uid in AGES]


def maps_of(ledger: sa.Engine) -> list[str | None]:
    return [study.study_instances(ledger, uid)[0].calibration_id for uid in AGES]


# --- on the list ------------------------------------------------------------------------------------------------------


def test_each_study_is_judged_by_the_map_of_its_age(ledger: sa.Engine) -> None:
    arrived(ledger, 0.3)
    risks = [rows.study(ledger, uid).risk for uid in AGES]
    child, adult = (OWN.of_group(group).probability(0.3) for group in AgeGroup)
    assert OWN.group_of(None) is AgeGroup.CHILDREN, "the children's map raises from a logit of 0, the adults' from 0.61"
    assert risks == pytest.approx([child, adult, child])
    assert bands(ledger) == ["HIGH", "NEUTRAL", "HIGH"]
    assert maps_of(ledger) == ["own (children)", "own (adults)", "own (children)"]


def test_an_adult_whose_risk_is_lower_than_a_childs_may_be_raised_where_the_child_is_not(ledger: sa.Engine) -> None:
    arrived(ledger, 0.7)
    assert rows.study(ledger, "1.2.2").risk < 0.5
    assert bands(ledger) == ["HIGH", "HIGH", "HIGH"]


def test_an_age_that_a_later_image_brings_changes_the_map_and_the_place(ledger: sa.Engine) -> None:
    arrived(ledger, 0.3)
    receive(ledger, film(2, "1.2.3", age_years=70.0), policy=SITE)
    assert maps_of(ledger)[2] == "own (adults)"
    assert rows.study(ledger, "1.2.3").risk == pytest.approx(OWN.of_group(AgeGroup.ADULTS).probability(0.3))
    assert bands(ledger)[2] == "NEUTRAL"
    events = [event.said for event in study.why(ledger, "1.2.3")]
    assert any("calibration own (children) -> own (adults)" in said for said in events)


def test_one_map_is_put_in_force_and_taken_back_and_the_other_ages_stay(ledger: sa.Engine) -> None:
    arrived(ledger, 0.3)
    before = [(row.risk, row.due_at) for row in (rows.study(ledger, uid) for uid in AGES)]
    made = replace(OWN.with_group(AgeGroup.ADULTS, OWN.of_group(AgeGroup.ADULTS).moved(1.0, 2.0, "intercept")), id="local")
    calibrations.add(ledger, BUNDLE, made, FIT, "anna", NOW)
    foreseen = places_by(ledger, SITE, made)
    done = activation.activate(ledger, "local", Decision(who="berta"), SITE, NOW)
    assert (done.scored_again, done.moved) == (3, 1)
    assert foreseen.raised == (2, 3)
    moved = moves.shifts(foreseen.standings, foreseen.before, foreseen.after, then=foreseen.then)
    assert {shift.study_uid: shift.after for shift in moved} == {"1.2.2": 2, "1.2.3": 3}
    assert bands(ledger) == ["HIGH", "HIGH", "HIGH"]
    assert maps_of(ledger) == ["local (children)", "local (adults)", "local (adults)"], "adults are now raised from the lower logit"
    activation.roll_back(ledger, "berta", SITE, NOW)
    assert bands(ledger) == ["HIGH", "NEUTRAL", "HIGH"]
    assert [(row.risk, row.due_at) for row in (rows.study(ledger, uid) for uid in AGES)] == before


def test_a_restart_or_a_reload_places_by_both_thresholds(ledger: sa.Engine) -> None:
    arrived(ledger, 0.3)
    assert daemon_start.rerank_open(ledger, SITE, "a restart", NOW) == 0
    assert bands(ledger) == ["HIGH", "NEUTRAL", "HIGH"]


def test_who_moves_is_judged_by_the_map_of_each_age() -> None:
    made = replace(OWN.with_group(AgeGroup.ADULTS, OWN.of_group(AgeGroup.ADULTS).moved(1.0, 2.0, "intercept")), id="local")
    known = [
        moves.Listed(study_uid=str(number), at=NOW, logits=(0.3,), age_years=age) for number, age in enumerate((3.0, 40.0, None, 41.0))
    ]
    found = moves.moves(known, OWN, made, policy_with(SITE, stage=Stage.ACTIVE).ranking)
    moved = {move.study_uid: move for move in found}
    assert {uid for uid, move in moved.items() if move.bands[0] is not move.bands[1]} <= {"1", "3"}
    assert moved["1"].probabilities[1] > moved["1"].probabilities[0]


# --- another threshold ------------------------------------------------------------------------------------------------


def test_a_threshold_is_proposed_for_one_age_group(ledger: sa.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threshold_proposal, "REPLICATIONS", 2)
    shipped = open_bundle(None)
    two = replace(shipped, calibration=replace(OWN, id="two"))
    monkeypatch.setattr(threshold_proposal, "open_bundle", lambda folder: two)
    monkeypatch.setattr("prioritizer.simulation.site.open_bundle", lambda folder: two)
    settings = Settings(site=Site(stage=Stage.ACTIVE), store=Store(data=tmp_path))
    policy = policy_of(settings, two)
    for number in range(36):
        receive(ledger, film(1, f"1.3.{number}", age_years=40.0 if number % 2 else 4.0), policy=policy)
        claim = processing_score.claim_instance(ledger, "scorer", LEASE)
        assert claim is not None
        made = score_of(None, logit=Logit(number / 10 - 2), bundle_digest=two.digest)
        assert processing_score.finish_scored(ledger, claim, made, policy, NOW)
    with pytest.raises(NotAllowed, match="say whose threshold"):
        threshold_proposal.propose(ledger, settings, ThresholdWish(probability=0.3), "anna", NOW)
    row = threshold_proposal.propose(ledger, settings, ThresholdWish(probability=0.3, ages=AgeGroup.ADULTS), "anna", NOW)
    made_map = row.calibration
    assert (made_map.t_high, made_map.of_group(AgeGroup.ADULTS).t_high) == (0.5, 0.3)
    page = Path(row.report).read_text()
    assert "The threshold for adults" in page
    assert "proposed: 0.3000" in page
    assert "cannot be simulated" not in page


# --- recalibrating ----------------------------------------------------------------------------------------------------


def cohort(adults: int, children: int, *, seed: int = 0) -> Gathered:
    """Images whose logits of adults lie two too low for the map in force; one a patient, a third with pneumonia."""
    rng = np.random.default_rng(seed)
    images = []
    for number in range(adults + children):
        age = 50.0 if number < adults else 5.0
        label = int(number % 3 == 0)
        logit = float(rng.normal(1.5 if label else -1.5, 1.2) - (2.0 if number < adults else 0.0))
        images.append(CohortImage(file=f"{number}.dcm", label=label, patient=str(number), logit=logit, traits=Traits(age_years=age)))
    return Gathered(images=tuple(images), findings=(), form="made", labelled=True)


def recalibrated(gathered: Gathered | None, **asked: object) -> RecalibrationOutcome:
    request = RecalibrationRequest(cohort=Path("local"), by="anna", **asked)
    return _by_age(request, replace(open_bundle(None), digest=BUNDLE), OWN, gathered, NOW)


def test_a_cohort_of_adults_fits_the_map_for_adults_and_leaves_the_other(tmp_path: Path) -> None:
    outcome = recalibrated(cohort(150, 12))
    assert (outcome.ages, outcome.also) == (AgeGroup.ADULTS, ())
    assert outcome.entered is not None
    assert outcome.entered.of_group(AgeGroup.CHILDREN) == replace(OWN.of_group(AgeGroup.CHILDREN), id=f"{outcome.entered.id} (children)")
    adults = outcome.entered.of_group(AgeGroup.ADULTS)
    assert (adults.n, adults.finding) == (150, "opacity")
    assert adults.logit_at(0.33) < OWN.of_group(AgeGroup.ADULTS).logit_at(0.33) - 1
    page = write(outcome, tmp_path / "report.html").read_text()
    assert "of children" in page
    assert "stays as it is" in page
    assert facts(outcome)["counts"] == {"files": 162, "analysed": 150}


def test_a_cohort_of_both_makes_one_candidate_with_both_maps(tmp_path: Path) -> None:
    outcome = recalibrated(cohort(150, 120))
    assert [outcome.ages, *(one.ages for one in outcome.also)] == [AgeGroup.CHILDREN, AgeGroup.ADULTS]
    assert outcome.entered is not None
    assert all(one.entered == outcome.entered for one in outcome.also)
    assert (outcome.entered.n, outcome.entered.of_group(AgeGroup.ADULTS).n) == (120, 150)
    assert outcome.advice.word == "activate with care"
    assert outcome.advice.said.startswith("Children: ")
    assert " Adults: " in outcome.advice.said
    page = write(outcome, tmp_path / "report.html").read_text()
    assert "Children: which map" in page
    assert "Adults: which map" in page
    assert page.count(f"prioritizer calibration activate {outcome.entered.id}") == 1


def test_the_map_of_an_age_group_can_be_asked_for(tmp_path: Path) -> None:
    outcome = recalibrated(cohort(150, 120), ages=AgeGroup.CHILDREN)
    assert (outcome.ages, outcome.also) == (AgeGroup.CHILDREN, ())
    assert outcome.entered is not None
    assert outcome.entered.adults == OWN.adults


def test_too_few_of_either_are_refused_with_their_numbers() -> None:
    outcome = recalibrated(cohort(30, 12))
    assert outcome.entered is None
    assert "10 patients with pneumonia, 20 are needed" in outcome.refused


def test_a_prevalence_without_labels_says_whose_it_is() -> None:
    with pytest.raises(ConfigError, match="--ages children or --ages adults"):
        _ages_possible(RecalibrationRequest(cohort=None, prevalence=0.1), OWN)
    with pytest.raises(ConfigError, match="one map for every age"):
        _ages_possible(RecalibrationRequest(cohort=None, prevalence=0.1, ages=AgeGroup.ADULTS), replace(OWN, adults=None))
    _ages_possible(RecalibrationRequest(cohort=None, prevalence=0.1, ages=AgeGroup.ADULTS), OWN)
    outcome = recalibrated(None, prevalence=0.1, ages=AgeGroup.ADULTS)
    assert outcome.entered is not None
    assert outcome.entered.of_group(AgeGroup.ADULTS).intercept != OWN.of_group(AgeGroup.ADULTS).intercept
    assert outcome.entered.intercept == OWN.intercept


# --- the limit of the guard that a site makes its own ------------------------------------------------------------------


def unlike_the_training(gathered: Gathered, by: float) -> Gathered:
    """The same cohort from a device that the bundle does not know: distances around `by` times its limit."""
    rng = np.random.default_rng(5)
    return replace(gathered, images=tuple(replace(one, unlike=float(by * rng.uniform(0.9, 1.1))) for one in gathered.images))


def test_a_recalibration_fits_the_limit_of_the_guard_to_the_cohort_and_it_goes_with_the_candidate(
    ledger: sa.Engine, tmp_path: Path
) -> None:
    outcome = recalibrated(unlike_the_training(cohort(150, 0), 1.5))
    assert outcome.entered is not None
    limit = outcome.entered.local_limit
    assert limit is not None
    assert 1.5 < limit <= 1.65
    assert f"{limit:.2f} times the bundle" in write(outcome, tmp_path / "report.html").read_text()
    assert recalibrated(unlike_the_training(cohort(150, 0), 0.5)).entered.local_limit == 1.0  # type: ignore[union-attr]
    assert recalibrated(cohort(150, 0)).entered.local_limit is None  # type: ignore[union-attr]

    assert local_calibration.local(ledger, SITE) == Local(holds_back=True, limit=None)
    for verdict, found in (
        (replace(FIT, word="activate with care"), Local(holds_back=True, limit=None)),
        (FIT, Local(holds_back=False, limit=limit)),
    ):
        name = f"local-{verdict.word[:3]}"
        calibrations.add(ledger, BUNDLE, replace(outcome.entered, id=name), verdict, "anna", NOW)
        activation.activate(ledger, name, Decision(who="berta"), SITE, NOW)
        assert local_calibration.local(ledger, SITE) == found
        assert calibrations.applying(ledger, SITE).calibration == replace(outcome.entered, id=name)
    activation.roll_back(ledger, "berta", SITE, NOW)
    activation.roll_back(ledger, "berta", SITE, NOW)
    assert local_calibration.local(ledger, SITE).limit is None
