"""A calibration with a map for children and one for adults: which map a patient is judged by, and that it survives being stored."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from prioritizer.calibration.maps import AgeGroup, Calibration, age_group, as_document, from_document
from prioritizer.calibration.threshold import ThresholdWish, ages_meant
from prioritizer.clock import utc_now
from prioritizer.config.policy import SitePolicy
from prioritizer.db.in_force.site_policy import _policy, _text
from prioritizer.errors import ConfigError, NotAllowed
from prioritizer.learning.bundling.first_calibration import first_maps
from prioritizer.learning.cohorts.labelled_image import LabelledImage
from prioritizer.learning.evaluation.trials import EvaluationSet, parted_by_age
from prioritizer.ranking.deadlines import Band, RankingPolicy, Standing, band_of
from prioritizer.simulation.site import moved_odds
from prioritizer.study import AIState

ADULTS = Calibration(id="", method="platt", slope=0.5, intercept=1.0, t_high=0.7, t_low=0.2, n=90, events=40, finding="opacity")
BOTH = Calibration(id="c", method="isotonic", slope=2.0, intercept=-1.0, t_high=0.4, t_low=0.1, n=100, events=50, adults=ADULTS)
ONE = replace(BOTH, adults=None)


def test_children_are_under_eighteen():
    assert [age_group(years) for years in (0.0, 17.99, 18.0, 90.0)] == [AgeGroup.CHILDREN] * 2 + [AgeGroup.ADULTS] * 2


def test_the_cases_of_each_map_are_told_apart():
    assert BOTH.cases == "100, 50 with the finding (children); 90, 40 with the finding (adults)"
    assert ONE.cases == "100, 50 with the finding"


def test_each_age_has_its_map_which_is_named_after_it():
    child, adult = BOTH.for_age(3.0), BOTH.for_age(40.0)
    assert (child.id, child.slope, child.t_high) == ("c (children)", 2.0, 0.4)
    assert (adult.id, adult.slope, adult.t_high, adult.finding) == ("c (adults)", 0.5, 0.7, "opacity")
    assert child.adults is None
    assert adult.adults is None
    assert ONE.for_age(40.0) is ONE
    assert [name for name, _ in BOTH.maps()] == ["children", "adults"]
    assert BOTH.raised_from == "0.400 for children, 0.700 for adults"
    assert ONE.raised_from == "0.400"


def test_without_an_age_it_is_the_map_that_raises_from_the_lower_logit():
    logits = [BOTH.of_group(group).logit_at(BOTH.of_group(group).t_high) for group in AgeGroup]
    assert logits[1] < logits[0]
    assert BOTH.for_age(None) == BOTH.of_group(AgeGroup.ADULTS)
    later = BOTH.with_group(AgeGroup.ADULTS, replace(ADULTS, t_high=0.99))
    assert later.for_age(None) == later.of_group(AgeGroup.CHILDREN)


def test_one_map_is_replaced_and_the_other_stays():
    made = replace(ONE, id="local", slope=3.0)
    assert BOTH.with_group(AgeGroup.CHILDREN, made) == replace(BOTH, slope=3.0)
    assert BOTH.with_group(AgeGroup.ADULTS, made) == replace(BOTH, adults=replace(made, id=""))


def test_both_maps_are_stored_and_an_old_document_reads_as_before():
    assert from_document(json.loads(json.dumps(as_document(BOTH)))) == BOTH
    assert "id" not in as_document(BOTH)["adults"]
    assert "adults" not in as_document(ONE)
    assert "finding" not in as_document(ONE)
    with pytest.raises(ValueError, match="slope above 0"):
        from_document(as_document(BOTH) | {"adults": as_document(replace(ADULTS, slope=-1.0))})
    with pytest.raises(ValueError, match="holds a map for adults"):
        from_document(as_document(ONE) | {"adults": as_document(BOTH)})


def test_a_study_is_raised_by_the_threshold_of_its_age():
    policy = RankingPolicy().with_thresholds_of(BOTH)

    def band(risk: float, age: float | None) -> Band:
        return band_of(Standing(study_uid="1", first_received_at=utc_now(), ai_state=AIState.SCORED, risk=risk, age_years=age), policy)

    assert (band(0.5, 3.0), band(0.5, 40.0), band(0.5, None)) == (Band.HIGH, Band.NEUTRAL, Band.NEUTRAL)
    assert (band(0.7, 40.0), band(0.7, None)) == (Band.HIGH, Band.HIGH)
    low = replace(policy, demote_low=True)
    assert low.thresholds(40.0) == (0.7, 0.2)
    assert low.with_thresholds(0.6, 0.3).thresholds(40.0) == (0.6, 0.3)
    assert RankingPolicy().with_thresholds_as(policy).thresholds(40.0) == (0.7, 0.2)


def test_the_policy_that_the_ledger_remembers_keeps_both_thresholds():
    policy = SitePolicy(ranking=RankingPolicy(high=timedelta(minutes=20)), own=BOTH, bundle_digest="d").with_thresholds_of(BOTH)
    assert _policy(_text(policy)) == policy


def test_a_threshold_is_asked_for_one_of_them():
    with pytest.raises(NotAllowed, match="say whose threshold"):
        ages_meant(ThresholdWish(probability=0.3), BOTH)
    with pytest.raises(NotAllowed, match="one map for every age"):
        ages_meant(ThresholdWish(probability=0.3, ages=AgeGroup.ADULTS), ONE)
    assert ages_meant(ThresholdWish(probability=0.3, ages=AgeGroup.ADULTS), BOTH) is AgeGroup.ADULTS
    assert ages_meant(ThresholdWish(probability=0.3), ONE) is None


def test_for_a_simulation_a_risk_keeps_its_distance_from_its_threshold_in_log_odds():
    assert moved_odds(0.7, 0.7, 0.4) == pytest.approx(0.4)
    assert moved_odds(0.9, 0.5, 0.5) == pytest.approx(0.9)
    assert moved_odds(0.1, 0.7, 0.4) < 0.1


# --- of a network -----------------------------------------------------------------------------------------------------


def images(adults: int, children: int) -> list[LabelledImage]:
    """Half of them with pneumonia, one image a patient."""
    ages = [40.0] * adults + [4.0] * children
    return [LabelledImage(path=Path(f"{n}.png"), label=n % 2, patient=str(n), age_years=age) for n, age in enumerate(ages)]


def test_a_network_gets_a_map_for_each_group_that_the_calib_split_carries():
    its = images(60, 80)
    rng = np.random.default_rng(0)
    logits = np.array([(3.0 if one.label else -3.0) + (-4.0 if one.age_years == 40 else 0.0) for one in its]) + rng.normal(0, 2, len(its))
    found = first_maps("net", its, logits, target=0.9, fitted_on="calib")
    assert set(found.fits) == {"children", "adults"}
    children, adults = (found.calibration.of_group(group) for group in AgeGroup)
    assert (children.n, children.events, adults.n, adults.events) == (80, 40, 60, 30)
    for its_map, age in ((children, 4.0), (adults, 40.0)):
        mine = np.array([one.age_years == age for one in its])
        positive = np.array([one.label == 1 for one in its])
        assert np.mean(its_map.probabilities(logits[mine & positive]) >= its_map.t_high) >= 0.9
    # The adults' logits lie four lower, and their threshold with them.
    assert adults.logit_at(adults.t_high) < children.logit_at(children.t_high) - 2


def test_where_one_group_is_too_small_everybody_has_one_map():
    its = images(39, 80)
    found = first_maps("net", its, np.array([one.label * 2.0 - 1 for one in its]), target=0.9, fitted_on="calib")
    assert list(found.fits) == [""]
    assert found.calibration.groups == ()
    assert found.calibration.n == 119


def test_children_and_adults_are_judged_apart_where_they_have_a_map_each():
    its = images(6, 4)
    trial = EvaluationSet(name="films", root=Path(), images=tuple(its), form="", faults=(), own_source=False)
    told: list[str] = []
    assert parted_by_age([trial], [ONE], told.append) == (trial,)
    parts = parted_by_age([trial], [ONE, BOTH], told.append)
    assert [(part.name, part.ages, len(part.images)) for part in parts] == [
        ("films, children", AgeGroup.CHILDREN, 4),
        ("films, adults", AgeGroup.ADULTS, 6),
    ]
    ageless = trial.only(replace(one, age_years=None) for one in its)
    assert [part.ages for part in parted_by_age([ageless], [BOTH], told.append)] == [BOTH.group_of(None)]
    assert told == []
    one_class = trial.only(one for one in its if one.label or one.age_years == 40)
    assert [part.ages for part in parted_by_age([one_class], [BOTH], told.append)] == [AgeGroup.ADULTS]
    assert told == ["films: 2 films of children are of one class and are not judged"]
    with pytest.raises(ConfigError, match="neither the children nor the adults"):
        parted_by_age([trial.only(one for one in its if one.label)], [BOTH], told.append)
