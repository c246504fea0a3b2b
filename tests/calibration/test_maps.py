"""Every map keeps the order of the logits, is found again when it was applied, and changes nothing where nothing is wrong."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.optimize import minimize
from scipy.special import expit, logit
from sklearn.isotonic import IsotonicRegression

from prioritizer.calibration.local_fit import (
    INTERCEPT,
    ISOTONIC,
    MIN_COUNT,
    NONE,
    PLATT,
    SHRUNK,
    TEMPERATURE,
    Fit,
    Sample,
    first_map,
    fitted,
)
from prioritizer.calibration.maps import Calibration, as_document, fit_isotonic, from_document
from prioritizer.statistics.calibration_error import expected_calibration_error
from prioritizer.statistics.logistic import (
    MIN_SLOPE,
    SLOPE_SPREAD,
    fit_intercept,
    fit_platt,
    fit_shrunk_slope,
    log_loss,
    odds_of,
    shift_to,
)

BEFORE = Calibration(id="before", method="temperature", slope=0.8, intercept=0.2, t_high=0.6, t_low=0.1, n=500, events=100)
BENT = replace(BEFORE, slope=1.2, knots=((-3.0, 0.05), (-1.0, 0.2), (0.5, 0.2), (2.0, 0.9)))
LOGITS = hnp.arrays(np.float64, st.integers(4, 60), elements=st.floats(-30, 30))


@st.composite
def cohorts(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Logits with ties, and labels of both classes."""
    n = draw(st.integers(6, 50))
    logits = np.array(
        draw(st.lists(st.one_of(st.floats(-20, 20).map(lambda x: round(x, 4)), st.sampled_from([-1.0, 0.0, 2.0])), min_size=n, max_size=n))
    )
    labels = np.array(draw(st.lists(st.booleans(), min_size=n, max_size=n).filter(lambda found: 0 < sum(found) < len(found))), dtype=float)
    return logits, labels


def drawn(n: int, seed: int = 0, shift: float = 0.0, slope: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, n)
    return logits, (rng.random(n) < expit(slope * logits + shift)).astype(float)


ALL = [NONE, INTERCEPT, TEMPERATURE, SHRUNK, PLATT, ISOTONIC]


def test_the_methods_here_are_all_there_are() -> None:
    assert set(ALL) == set(MIN_COUNT)


# --- order ---------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(cohorts(), st.sampled_from(ALL), st.sampled_from([BEFORE, BENT]))
def test_every_fitted_map_keeps_the_order_of_the_logits(cohort: tuple[np.ndarray, np.ndarray], method: str, before: Calibration) -> None:
    found = fitted(method, before, *cohort).probabilities(np.linspace(-40, 40, 400))
    assert (np.diff(found) >= -1e-12).all()
    assert ((found >= 0) & (found <= 1)).all()


def test_a_model_that_is_the_wrong_way_round_is_flattened_and_never_turned() -> None:
    logits, labels = drawn(400)
    assert fit_platt(-logits, labels)[0] == MIN_SLOPE
    assert fit_shrunk_slope(-10 * logits, labels)[0] == MIN_SLOPE


# --- stability -----------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(cohorts(), st.sampled_from([INTERCEPT, ISOTONIC]))
def test_fitting_again_on_what_was_fitted_changes_nothing(cohort: tuple[np.ndarray, np.ndarray], method: str) -> None:
    logits, labels = cohort
    once = fitted(method, BEFORE, logits, labels)
    twice = fitted(method, Calibration(id="", method="", slope=1, intercept=0, t_high=1, t_low=0), once.log_odds(logits), labels)
    assert np.allclose(twice.probabilities(once.log_odds(logits)), once.probabilities(logits), atol=2e-3)


@pytest.mark.parametrize("method", ALL)
@pytest.mark.parametrize("seed", range(3))
def test_recalibrating_a_calibrated_cohort_changes_little(method: str, seed: int) -> None:
    logits, labels = drawn(20_000, seed)
    right = replace(BEFORE, slope=1.0, intercept=0.0)
    again = fitted(method, right, logits, labels)
    grid = np.linspace(-4, 4, 50)
    assert np.abs(again.probabilities(grid) - right.probabilities(grid)).max() < (0.08 if method == ISOTONIC else 0.02)


@pytest.mark.parametrize("method", [INTERCEPT, TEMPERATURE, SHRUNK, PLATT])
def test_a_second_fit_moves_less_than_the_first(method: str) -> None:
    logits, labels = drawn(300, slope=1.4, shift=0.7)
    once = fitted(method, BEFORE, logits, labels)
    twice = fitted(method, once, logits, labels)
    assert (
        np.abs(twice.log_odds(logits) - once.log_odds(logits)).max() < 0.3 * np.abs(once.log_odds(logits) - BEFORE.log_odds(logits)).max()
    )


# --- each method against its definition ----------------------------------------------------------------------------


@pytest.mark.parametrize("weight", [0.25, 4.0])
def test_an_intercept_undoes_the_shift_of_a_class_weight(weight: float) -> None:
    logits, labels = drawn(20_000)
    trained = logits + np.log(weight)  # what weighting the positives in the loss does to a network that learned well
    assert fit_intercept(trained, labels) == pytest.approx(-np.log(weight), abs=0.06)


@settings(max_examples=50, deadline=None)
@given(LOGITS, st.floats(0.01, 0.99))
def test_a_shift_reaches_the_prevalence(logits: np.ndarray, prevalence: float) -> None:
    moved = expit(logits + shift_to(logits, prevalence)).mean()
    assert moved == pytest.approx(prevalence, abs=1e-6)


@settings(max_examples=40, deadline=None)
@given(cohorts())
def test_platt_is_the_minimum_that_scipy_finds_for_its_smoothed_targets(cohort: tuple[np.ndarray, np.ndarray]) -> None:
    logits, labels = cohort
    k, n = labels.sum(), len(labels)
    targets = np.where(labels == 1, (k + 1) / (k + 2), 1 / (n - k + 2))
    oracle = minimize(lambda at: log_loss(at[0] * logits + at[1], targets), (1.0, 0.0), bounds=((MIN_SLOPE, None), (-30, 30)))
    slope, intercept = fit_platt(logits, labels)
    assert log_loss(slope * logits + intercept, targets) <= oracle.fun + 1e-6


def test_the_shrunk_slope_is_the_minimum_with_its_penalty_and_lies_towards_one() -> None:
    logits, labels = drawn(60, slope=2.5)

    def penalised(at: np.ndarray) -> float:
        return len(labels) * log_loss(at[0] * logits + at[1], labels) + (at[0] - 1) ** 2 / (2 * SLOPE_SPREAD**2)

    slope, intercept = fit_shrunk_slope(logits, labels)
    assert (slope, intercept) == pytest.approx(tuple(minimize(penalised, (1.0, 0.0)).x), abs=1e-3)
    assert 1 < slope < fit_platt(logits, labels)[0] + 1


@settings(max_examples=80, deadline=None)
@given(cohorts())
def test_pooling_adjacent_violators_is_sklearns_up_to_the_edges(cohort: tuple[np.ndarray, np.ndarray]) -> None:
    logits, labels = cohort
    edge = 1 / (len(labels) + 2)
    oracle = IsotonicRegression(out_of_bounds="clip").fit(logits, labels)
    found = replace(BEFORE, slope=1.0, intercept=0.0, knots=fit_isotonic(logits, labels))
    assert np.allclose(found.probabilities(logits), np.clip(oracle.predict(logits), edge, 1 - edge), atol=1e-9)


def test_equal_logits_are_one_case_and_beyond_the_ends_the_ends_hold() -> None:
    knots = fit_isotonic(np.array([0.0, 0.0, 1.0, 1.0]), np.array([0.0, 1.0, 1.0, 1.0]))
    assert knots == ((0.0, 0.5), (1.0, 1 - 1 / 6))
    found = replace(BEFORE, slope=1.0, intercept=0.0, knots=knots)
    assert found.probabilities([-99.0, 0.5, 99.0]) == pytest.approx([0.5, (0.5 + 5 / 6) / 2, 5 / 6])


@settings(max_examples=60, deadline=None)
@given(cohorts())
def test_isotonic_regression_never_says_never(cohort: tuple[np.ndarray, np.ndarray]) -> None:
    assert all(0 < p < 1 for _, p in fit_isotonic(*cohort))


# --- the map as a thing --------------------------------------------------------------------------------------------


@given(st.lists(st.floats(-50, 50), min_size=1, max_size=20), st.sampled_from([BEFORE, BENT]))
def test_one_logit_and_many_give_the_same(logits: list[float], calibration: Calibration) -> None:
    assert calibration.probabilities(logits) == pytest.approx([calibration.probability(x) for x in logits], abs=1e-15)


@given(st.floats(-20, 20), st.sampled_from([BEFORE, BENT]))
def test_the_logit_at_a_probability_is_the_first_that_reaches_it(x: float, calibration: Calibration) -> None:
    p = calibration.probability(x)
    at = calibration.logit_at(p)
    assert at <= x + 1e-6
    if np.isfinite(at):
        assert calibration.probability(at) == pytest.approx(p, abs=1e-9)


def test_a_probability_that_no_logit_reaches_is_infinitely_far() -> None:
    assert BENT.logit_at(1 - 1e-9) == np.inf
    assert BENT.logit_at(1e-9) == -np.inf
    assert (BEFORE.logit_at(1.0), BEFORE.logit_at(0.0)) == (np.inf, -np.inf)


@given(st.floats(-10, 10), st.floats(0.1, 3), st.floats(-3, 3), st.sampled_from([BEFORE, BENT]))
def test_moving_a_map_moves_its_log_odds(x: float, slope: float, intercept: float, calibration: Calibration) -> None:
    assert calibration.moved(slope, intercept, "m").log_odds(x) == pytest.approx(slope * calibration.log_odds(x) + intercept)


@pytest.mark.parametrize("calibration", [BEFORE, BENT])
def test_a_calibration_survives_its_document(calibration: Calibration) -> None:
    assert from_document(json.loads(json.dumps(as_document(calibration)))) == calibration


def test_an_old_document_is_read_and_an_unknown_one_is_refused() -> None:
    old = {
        "id": "x",
        "method": "temperature",
        "slope": 0.9,
        "intercept": 0.0,
        "t_high": 0.8,
        "t_low": 0.1,
        "fitted_on": "c",
        "n": 5,
        "events": 2,
    }
    assert from_document(old).knots == ()
    assert "knots" not in as_document(from_document(old))
    with pytest.raises(ValueError, match="newer"):
        from_document(old | {"spline": []})


@pytest.mark.parametrize(
    "wrong",
    [
        {"slope": -1.0},
        {"slope": 0.0},
        {"intercept": float("nan")},
        {"knots": [[0, 0.5], [0, 0.6]]},
        {"knots": [[0, 0.5], [1, 0.4]]},
        {"knots": [[0, 0.0]]},
    ],
)
def test_a_document_that_would_turn_the_order_round_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"calibration|knots"):
        from_document(as_document(BEFORE) | wrong)


def test_log_odds_undo_the_sigmoid() -> None:
    assert odds_of(np.array([0.1, 0.5, 0.99])) == pytest.approx(logit([0.1, 0.5, 0.99]))


@pytest.mark.parametrize("equal_mass", [False, True])
def test_both_calibration_errors_see_a_shift(equal_mass: bool) -> None:
    logits, labels = drawn(5000)
    error = partial(expected_calibration_error, labels=labels, equal_mass=equal_mass)
    assert error(expit(logits)) < 0.03
    assert error(expit(logits + 2)) > 0.15


def test_equally_filled_bins_hold_equally_many() -> None:
    from prioritizer.statistics.calibration_error import reliability

    logits, labels = drawn(205)
    assert {b.count for b in reliability(expit(logits) ** 4, labels, equal_mass=True)} == {20, 21}


# --- the choice for a bundle ---------------------------------------------------------------------------------------


def map_of(logits: np.ndarray, labels: np.ndarray) -> Fit:
    return first_map(Sample(logits=logits, labels=labels, patients=[str(index) for index in range(len(labels))]))


def test_a_network_that_is_calibrated_gets_no_map() -> None:
    assert map_of(*drawn(500, 1)).winner == "none"


def test_a_network_that_is_too_sure_gets_a_temperature() -> None:
    logits, labels = drawn(800, 1)
    found = map_of(3 * logits, labels)
    assert found.winner == "temperature"
    assert found.after.slope == pytest.approx(1 / 3, abs=0.08)


def test_a_network_that_was_trained_with_a_class_weight_gets_a_free_intercept() -> None:
    logits, labels = drawn(800, 1)
    found = map_of(logits + 2, labels)
    assert found.winner == "intercept"
    assert found.after.intercept == pytest.approx(-2, abs=0.3)


def test_too_few_cases_change_nothing_and_the_rule_says_why() -> None:
    found = map_of(*drawn(20, 1))
    assert found.winner == "none"
    assert [trial.method for trial in found.trials if trial.allowed] == ["none"]
    assert all("wants" in trial.why for trial in found.trials if not trial.allowed)
