"""The number of cases decides what may be fitted, cross-validation what is, and a figure never comes from the cases that made it."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from scipy.stats import beta

from prioritizer.calibration import cohort_lint, local_fit
from prioritizer.calibration.cohort_lint import WHOLE, CohortImage, Twins
from prioritizer.calibration.local_fit import INTERCEPT, ISOTONIC, NONE, PLATT, SHRUNK, TEMPERATURE, Sample, recalibrate
from prioritizer.calibration.maps import Calibration
from prioritizer.calibration.operating_point import Wish, by_flags, kept, operating_point, reclassified
from prioritizer.errors import CohortUnfit
from prioritizer.statistics import intervals, measures
from prioritizer.statistics.calibration_error import expected_calibration_error
from prioritizer.statistics.intervals import Figure
from prioritizer.statistics.logistic import sigmoid

BEFORE = Calibration(id="before", method="platt", slope=1.0, intercept=0.0, t_high=0.6, t_low=0.05, n=500, events=100)


def sample(n: int, share: float = 0.5, shift: float = 0.0, seed: int = 0, separation: float = 3.0, images: int = 1) -> Sample:
    """Cases whose logits are right up to `shift`: two normals of unit variance `separation` apart have a linear log odds."""
    rng = np.random.default_rng(seed)
    labels = (np.arange(n) < round(share * n)).astype(float)
    raw = rng.normal(0, 1, n) + separation * (labels - 0.5)
    return Sample(
        logits=separation * raw + np.log(share / (1 - share)) + shift, labels=labels, patients=[f"p{i // images}" for i in range(n)]
    )


def allowed(cohort: Sample) -> list[str]:
    return [trial.method for trial in recalibrate(cohort, BEFORE).trials if trial.allowed]


# --- what may be fitted --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "share"), [(200, 0.05), (200, 0.95), (38, 0.5)])
def test_under_twenty_of_a_class_nothing_is_fitted_and_the_missing_is_named(n: int, share: float) -> None:
    with pytest.raises(CohortUnfit, match="20 are needed") as refused:
        recalibrate(sample(n, share), BEFORE)
    assert "--prevalence" in str(refused.value)


def test_more_cases_open_more_methods() -> None:
    assert allowed(sample(60)) == [NONE, INTERCEPT]
    assert allowed(sample(120)) == [NONE, INTERCEPT, TEMPERATURE, SHRUNK]
    assert allowed(sample(220)) == [NONE, INTERCEPT, TEMPERATURE, SHRUNK, PLATT]
    assert allowed(sample(1100)) == [NONE, INTERCEPT, TEMPERATURE, SHRUNK, PLATT, ISOTONIC]
    assert ISOTONIC not in allowed(sample(990))


def test_many_images_of_few_patients_are_few() -> None:
    with pytest.raises(CohortUnfit, match="15 patients with pneumonia"):
        recalibrate(sample(300, images=10), BEFORE)


# --- what wins -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_where_nothing_is_wrong_nothing_is_changed(seed: int) -> None:
    assert recalibrate(sample(300, seed=seed), BEFORE).winner in (NONE, TEMPERATURE, INTERCEPT)


def test_a_calibrated_cohort_is_mostly_left_as_it_is() -> None:
    assert sum(recalibrate(sample(300, seed=seed), BEFORE).winner == NONE for seed in range(12)) >= 9


@pytest.mark.parametrize("shift", [-3.0, 2.0])
@pytest.mark.parametrize("seed", range(3))
def test_a_shift_is_repaired_on_cases_it_never_saw(shift: float, seed: int) -> None:
    found = recalibrate(sample(200, shift=shift, seed=seed), BEFORE)
    fresh = sample(4000, shift=shift, seed=99)
    assert expected_calibration_error(sigmoid(found.after.log_odds(fresh.logits)), fresh.labels) <= 0.05
    assert expected_calibration_error(BEFORE.probabilities(fresh.logits), fresh.labels) > 0.05


def test_where_slope_and_intercept_are_wrong_an_intercept_alone_is_not_preferred_for_being_simpler() -> None:
    for seed in range(12):
        its = sample(180, share=0.35, separation=1.2, seed=seed)
        found = recalibrate(replace(its, logits=2 * its.logits - 3), BEFORE)
        losses = {trial.method: trial.log_loss.value for trial in found.trials if trial.log_loss is not None}
        assert losses[SHRUNK] < losses[INTERCEPT]
        assert found.winner in (SHRUNK, TEMPERATURE, PLATT)


def test_the_gain_is_told_with_its_interval() -> None:
    found = recalibrate(sample(200, shift=2.0), BEFORE)
    winner = next(trial for trial in found.trials if trial.method == found.winner)
    assert winner.gain is not None
    assert 0 < winner.gain.low <= winner.gain.value <= winner.gain.high


def test_an_enriched_cohort_is_moved_back_to_the_sites_prevalence() -> None:
    # Right at 10 %, and shown half and half: the very map that applies is right, and stays.
    enriched = sample(400)
    at_site = replace(BEFORE, intercept=float(np.log(0.1 / 0.9)))
    found = recalibrate(enriched, at_site, prevalence=0.1)
    grid = np.linspace(-6, 6, 30)
    assert np.abs(found.after.probabilities(grid) - at_site.probabilities(grid)).max() < 0.05
    assert found.offset == pytest.approx(np.log(9))


def test_no_patient_stands_in_two_folds_and_both_classes_in_all() -> None:
    cohort = sample(300, images=3)
    folds = local_fit.folds_of(cohort, seed=1)
    homes: dict[str, set[int]] = {}
    for patient, fold in zip(cohort.patients, folds, strict=True):
        homes.setdefault(patient, set()).add(int(fold))
    assert all(len(found) == 1 for found in homes.values())
    assert all(0 < cohort.labels[folds == number].mean() < 1 for number in range(10))


def test_the_same_seed_gives_the_same_outcome() -> None:
    assert recalibrate(sample(200, shift=1.0), BEFORE, seed=3).after == recalibrate(sample(200, shift=1.0), BEFORE, seed=3).after


# --- without labels ------------------------------------------------------------------------------------------------


def test_a_prevalence_moves_the_mean_of_unlabelled_images() -> None:
    cohort = sample(300)
    assert local_fit.shifted_to(cohort.logits, BEFORE, 0.2).probabilities(cohort.logits).mean() == pytest.approx(0.2, abs=1e-6)


def test_a_prevalence_alone_moves_by_the_difference_of_the_odds() -> None:
    assert local_fit.shifted_from_its_own(BEFORE, 0.2).intercept == pytest.approx(0.0)
    assert local_fit.shifted_from_its_own(BEFORE, 0.5).intercept == pytest.approx(np.log(4))
    assert local_fit.shifted_from_its_own(replace(BEFORE, prevalence=0.5), 0.5).intercept == pytest.approx(0.0)
    with pytest.raises(CohortUnfit, match="does not say"):
        local_fit.shifted_from_its_own(replace(BEFORE, n=0, events=0), 0.5)


# --- thresholds ----------------------------------------------------------------------------------------------------


def test_the_threshold_reaches_its_target_on_cases_it_was_not_set_by() -> None:
    cohort = sample(1000)
    point = operating_point(cohort, BEFORE, BEFORE, Wish(sensitivity=0.9), None)
    assert point.sensitivity.low < 0.9 < point.sensitivity.high
    assert point.sensitivity.of == 500
    fresh = sample(20_000, seed=5)
    assert (BEFORE.probabilities(fresh.logits[fresh.labels == 1]) >= point.t_high).mean() == pytest.approx(0.9, abs=0.04)


def test_few_positives_carry_no_claim_and_the_same_studies_stay_raised() -> None:
    cohort = sample(90, share=0.4, shift=2.0)
    found = recalibrate(cohort, BEFORE)
    point = operating_point(cohort, BEFORE, found.after, Wish(), None)
    assert "no claim of sensitivity" in point.how
    raised = BEFORE.probabilities(cohort.logits) >= BEFORE.t_high
    assert (found.after.probabilities(cohort.logits) >= point.t_high - 1e-12).tolist() == raised.tolist()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([-2.0, -1.0, 0.0, 0.5, 3.0]), min_size=1, max_size=40), st.floats(0.01, 1))
def test_flags_a_day_are_never_exceeded_and_no_lower_threshold_would_keep_them(logits: list[float], share: float) -> None:
    found = np.array(logits)
    at = by_flags(found, np.ones(len(found)), share)
    assert (found >= at).mean() <= share + 1e-9
    lower = sorted(x for x in found if x < at)
    assert not lower or (found >= lower[-1]).mean() > share


def test_flags_a_day_are_counted_at_the_sites_prevalence() -> None:
    point = operating_point(sample(1000), BEFORE, BEFORE, Wish(flags_per_day=5, studies_per_day=50), 0.1)
    assert point.raised == pytest.approx(0.1, abs=0.02)


def test_keeping_the_threshold_keeps_the_studies_over_a_bent_map() -> None:
    bent = replace(BEFORE, knots=((-2.0, 0.1), (0.0, 0.3), (1.0, 0.3), (3.0, 0.9)))
    t_high, _ = kept(BEFORE, bent)
    logits = np.linspace(-5, 5, 300)
    raised = BEFORE.probabilities(logits) >= BEFORE.t_high
    assert (bent.probabilities(logits)[raised] >= t_high).all()
    assert bent.logit_at(t_high) == pytest.approx(0.0)  # the first of the stretch on which the map ties


def test_moves_between_bands_are_counted_by_label() -> None:
    moves = reclassified(["HIGH", "HIGH", "NEUTRAL"], ["HIGH", "NEUTRAL", "HIGH"], np.array([1.0, 0.0, 1.0]))
    assert moves == [("HIGH", "HIGH", 0, 1), ("HIGH", "NEUTRAL", 1, 0), ("NEUTRAL", "HIGH", 0, 1)]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 60), st.integers(1, 60))
def test_the_exact_interval_is_that_of_the_beta_distribution(k: int, more: int) -> None:
    n = k + more
    low, high = measures.proportion_interval(k, n)
    assert low == pytest.approx(0.0 if k == 0 else beta.ppf(0.025, k, n - k + 1), abs=1e-6)
    assert high == pytest.approx(beta.ppf(0.975, k + 1, n - k), abs=1e-6)


def test_a_smooth_curve_of_a_calibrated_model_runs_along_the_diagonal() -> None:
    cohort = sample(3000)
    found = measures.smooth_reliability(
        intervals.Cases(probabilities=BEFORE.probabilities(cohort.logits), labels=cohort.labels, patients=cohort.patients)
    )
    inner = (found.predicted > 0.15) & (found.predicted < 0.85)
    assert np.abs(found.observed - found.predicted)[inner].max() < 0.12
    assert (found.low <= found.observed + 1e-9).all()
    assert (found.observed <= found.high + 1e-9).all()


def test_the_mean_of_a_case_has_its_interval_by_patient() -> None:
    values = np.array([0.0, 1.0] * 50)
    by_case = measures.mean_figure(values, [str(i) for i in range(100)])
    by_pair = measures.mean_figure(values, [str(i // 2) for i in range(100)])
    assert by_case.value == by_pair.value == 0.5
    assert by_pair.high - by_pair.low < 0.01 < by_case.high - by_case.low


# --- the advice ----------------------------------------------------------------------------------------------------


def figure(value: float, low: float, high: float) -> Figure:
    return Figure(value=value, low=low, high=high)


# --- the lint ------------------------------------------------------------------------------------------------------


def image(number: int, label: int = 0, **values: object) -> CohortImage:
    usual = {
        "file": f"{number}.png",
        "label": label,
        "patient": f"p{number}",
        "sha256": str(number),
        "label_source": "two readers",
        "logit": 0.0,
    }
    return CohortImage(**(usual | values))


def linted(*images: CohortImage, twins: tuple[Twins, ...] = (), **how: object) -> list[tuple[str, str, bool]]:
    usual = {"prevalence": None, "bundle_made": date(2026, 1, 1), "ignore_scope": False}
    return [(f.file, f.what, f.excludes) for f in cohort_lint.lint(images, twins, **(usual | how))]


MIXED = [image(i, label=i % 2) for i in range(10)]


def test_a_clean_cohort_has_no_fault() -> None:
    assert linted(*MIXED) == []


def test_what_cannot_be_read_or_is_out_of_scope_is_left_out_with_its_reason() -> None:
    found = linted(*MIXED, image(20, unreadable="cut short"), image(21, out_of_scope="age 40 years"), prevalence=0.1)
    assert ("20.png", "unreadable", True) in found
    assert ("21.png", "out of scope", True) in found
    assert ("21.png", "out of scope", False) in linted(*MIXED, image(21, out_of_scope="age 40 years"), ignore_scope=True)


def test_of_copies_one_is_kept_and_of_contradictions_none() -> None:
    same, other = Twins(one="0.png", other="2.png", exact=True), Twins(one="1.png", other="4.png", exact=False)
    found = linted(*MIXED, twins=(same, other))
    assert [entry for entry in found if entry[2]] == [
        ("1.png", "contradictory labels", True), ("4.png", "contradictory labels", True), ("2.png", "exact duplicate", True),
    ]  # fmt: skip


def test_several_images_of_a_patient_are_said_and_kept() -> None:
    assert linted(*MIXED, image(11, patient="p0")) == [("0.png", "several images of a patient", False)]


def test_one_class_an_odd_share_and_missing_sources_are_faults_of_the_whole() -> None:
    assert (WHOLE, "one class only", False) in linted(*[image(i) for i in range(5)])
    most = [image(i, label=int(i > 1)) for i in range(10)]
    assert (WHOLE, "implausible prevalence", False) in linted(*most)
    assert linted(*most, prevalence=0.2) == []
    assert linted(*MIXED[:9], image(9, label=1, label_source="")) == [(WHOLE, "label source missing", False)]


def test_images_older_than_the_bundle_are_said() -> None:
    assert linted(*MIXED, image(30, taken_on=date(2025, 5, 1))) == [("30.png", "older than the bundle", False)]


def test_a_probability_is_that_of_scipy() -> None:
    assert BEFORE.probability(1.3) == pytest.approx(expit(1.3))
