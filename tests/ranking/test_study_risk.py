"""A study's risk from its images, and what calibrated probabilities say without labels of studies with several."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prioritizer.calibration.maps import Calibration
from prioritizer.monitoring.agreement import label_free
from prioritizer.monitoring.studies import MonitoredStudy
from prioritizer.ranking.study_risk import ImagesOfAStudy, risk_of_logits, study_risk
from prioritizer.statistics.logistic import Float64, odds_of, sigmoid

NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
OWN = Calibration(id="own", method="t", slope=1.0, intercept=0.0, t_high=0.5, t_low=0.1)
PROBABILITIES = st.lists(st.floats(0, 1), min_size=1, max_size=8)


def studies(
    images: int, seed: int = 0, count: int = 6000, *, prevalence: float = 0.15, correlation: float = 0.5
) -> tuple[np.ndarray[tuple[int], np.dtype[np.bool_]], Float64]:
    """Findings, shape (N,), and the probabilities of the images, shape (N, images): each image is perfectly calibrated."""
    rng, separation = np.random.default_rng(seed), 1.73
    sick = rng.random(count) < prevalence
    noise = np.sqrt(correlation) * rng.normal(size=(count, 1)) + np.sqrt(1 - correlation) * rng.normal(size=(count, images))
    prior = np.log(prevalence / (1 - prevalence))
    return sick, sigmoid(prior + np.where(sick, 1, -1)[:, None] * separation**2 / 2 + separation * noise)


def test_no_image_is_no_risk_and_one_image_is_its_own() -> None:
    assert study_risk([]) is None
    assert study_risk([0.37]) == 0.37
    assert risk_of_logits(OWN, (0.3,)) == pytest.approx(OWN.probability(0.3))
    assert risk_of_logits(OWN, ()) is None


@given(PROBABILITIES)
def test_a_study_lies_between_the_mean_and_the_highest_of_its_images(probabilities: list[float]) -> None:
    risk = study_risk(probabilities)
    assert risk is not None
    assert np.mean(probabilities) - 1e-12 <= risk <= max(probabilities)
    assert study_risk(probabilities[::-1]) == pytest.approx(risk), "the order of arrival changes nothing"


@given(PROBABILITIES, st.integers(0, 7), st.floats(0, 1))
def test_a_higher_image_never_lowers_the_study(probabilities: list[float], place: int, higher: float) -> None:
    raised = list(probabilities)
    raised[place % len(raised)] = max(higher, raised[place % len(raised)])
    assert (study_risk(raised) or 0) >= (study_risk(probabilities) or 0) - 1e-12


@given(st.floats(0, 1), st.integers(1, 30))
def test_an_image_that_was_sent_again_lowers_nothing(probability: float, times: int) -> None:
    assert study_risk([probability] * times) == pytest.approx(probability, abs=1e-9)


@pytest.mark.parametrize("images", [2, 3, 6])
def test_the_highest_of_several_is_worth_what_the_findings_say(images: int) -> None:
    sick, p = studies(images, count=400_000)
    model = ImagesOfAStudy(prevalence=0.15, separation=1.73, correlation=0.5)
    risk = sigmoid(model.log_odds_of_highest(odds_of(p.max(axis=1)), images))
    assert risk.mean() == pytest.approx(0.15, abs=0.002)
    for low in (0.02, 0.1, 0.3, 0.6):
        among = (risk >= low) & (risk < low + 0.1)
        assert risk[among].mean() == pytest.approx(sick[among].mean(), abs=0.015)


@pytest.mark.parametrize("correlation", [0.2, 0.5, 0.8, 1.0])
@pytest.mark.parametrize("images", [2, 3])
def test_raising_by_the_risk_keeps_the_sensitivity_and_the_meaning_of_a_mark(images: int, correlation: float) -> None:
    def at(count: int) -> tuple[float, float]:
        sick, p = studies(count, 1, 40_000, correlation=correlation)
        raised = np.array([study_risk(row) or 0 for row in p.tolist()]) >= 0.3
        return float(raised[sick].mean()), float(sick[raised].mean())

    (alone, meaning), (several, its) = at(1), at(images)
    assert several > alone - 0.02
    assert its > meaning - 0.03
    sick, p = studies(images, 1, 40_000, correlation=correlation)
    assert its >= sick[p.max(axis=1) >= 0.3].mean() - 0.001, "the highest alone is raised too often"


def seen(p: Float64, *, raised_from: float = 0.3, images: int | None = None) -> list[MonitoredStudy]:
    return [
        MonitoredStudy(
            arrived=NOON, began=None, read=None, stat=False, raised=bool(risk >= raised_from), overdue=False, ai_state="SCORED", reason="",
            risk=float(risk), sender="", age_years=3.0, sex="F", images=images,
        )
        for risk in p.max(axis=1)
    ]  # fmt: skip


@pytest.mark.parametrize("correlation", [0.15, 0.5, 0.85])
@pytest.mark.parametrize("images", [1, 2, 3])
def test_figures_without_labels_cover_the_truth_for_studies_of_several_images(images: int, correlation: float) -> None:
    covered = dict.fromkeys(("sensitivity", "specificity", "ppv"), 0)
    for seed in range(12):
        sick, p = studies(images, seed, correlation=correlation)
        raised = p.max(axis=1) >= 0.3
        found = label_free(seen(p, images=images))
        truth = {"sensitivity": raised[sick].mean(), "specificity": (~raised[~sick]).mean(), "ppv": sick[raised].mean()}
        for name in covered:
            covered[name] += found[name].low <= truth[name] <= found[name].high
    assert min(covered.values()) >= 9, covered


@pytest.mark.parametrize("images", [1, 2, 3])
def test_where_the_number_of_images_is_not_known_the_intervals_allow_for_several(images: int) -> None:
    sick, p = studies(images)
    found = label_free(seen(p))
    raised = p.max(axis=1) >= 0.3
    assert found["sensitivity"].low <= raised[sick].mean() <= found["sensitivity"].high
    assert found["ppv"].low <= sick[raised].mean() <= found["ppv"].high


def test_an_empty_period_has_no_figures_without_labels() -> None:
    assert all(np.isnan([one.value, one.low, one.high]).all() for one in label_free([]).values())
