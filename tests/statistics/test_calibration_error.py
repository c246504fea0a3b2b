"""A probability means what it says, by the figures of libraries that others trust."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.optimize import minimize_scalar
from scipy.special import expit
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, recall_score
from sklearn.metrics import log_loss as sklearn_log_loss

from prioritizer.calibration.maps import Calibration, threshold_at_sensitivity
from prioritizer.statistics.calibration_error import brier, expected_calibration_error, reliability
from prioritizer.statistics.logistic import fit_temperature, log_loss, sigmoid

LOGITS = hnp.arrays(np.float64, st.integers(4, 60), elements=st.floats(-30, 30))


def cases(seed: int, n: int = 400, temperature: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Logits and labels; the labels were drawn at sigmoid(logit / temperature)."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0.5, 2.5, n)
    return logits, (rng.random(n) < expit(logits / temperature)).astype(np.float64)


def fitted(**values: float) -> Calibration:
    usual = {"slope": 0.5, "intercept": -0.1, "t_high": 0.5, "t_low": 0.1}
    return Calibration(id="c", method="temperature", **(usual | values))


@given(LOGITS)
def test_sigmoid_is_scipys(logits: np.ndarray):
    assert np.allclose(sigmoid(logits), expit(logits), rtol=1e-12, atol=0)


def test_sigmoid_does_not_overflow():
    assert sigmoid(np.array([-1e6, 0.0, 1e6])).tolist() == [0.0, 0.5, 1.0]


def test_log_loss_is_sklearns():
    logits, labels = cases(1)
    assert log_loss(logits, labels) == pytest.approx(sklearn_log_loss(labels, expit(logits)), abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_the_temperature_is_scipys_minimum(seed: int, temperature: float):
    logits, labels = cases(seed, temperature=temperature)
    oracle = minimize_scalar(
        lambda s: log_loss(np.exp(s) * logits, labels), bounds=(np.log(0.01), np.log(100)), method="bounded", options={"xatol": 1e-10}
    )
    assert fit_temperature(logits, labels) == pytest.approx(np.exp(oracle.x), rel=1e-5)


def test_a_temperature_that_was_applied_is_found_again():
    logits, labels = cases(2, n=20_000, temperature=2.0)
    assert fit_temperature(logits, labels) == pytest.approx(0.5, rel=0.05)


@settings(max_examples=50, deadline=None)
@given(LOGITS, st.randoms(use_true_random=False))
def test_a_temperature_never_makes_the_loss_worse(logits: np.ndarray, rng):
    labels = np.array([float(rng.random() < 0.5) for _ in logits])
    slope = fit_temperature(logits, labels)
    assert 0.01 <= slope <= 100 + 1e-9
    assert log_loss(slope * logits, labels) <= log_loss(logits, labels) + 1e-9


def test_perfectly_separated_cases_end_inside_the_bracket_and_not_at_infinity():
    assert 10 < fit_temperature(np.array([-3.0, -1.0, 2.0, 4.0]), np.array([0.0, 0.0, 1.0, 1.0])) <= 100


def test_the_probability_is_the_affine_map_through_the_sigmoid():
    assert fitted().probability(2.0) == pytest.approx(expit(0.9))


@given(st.lists(st.floats(-50, 50), min_size=2, max_size=20))
def test_calibration_keeps_the_order_of_the_logits(logits: list[float]):
    ordered = sorted(logits)
    probabilities = [fitted().probability(logit) for logit in ordered]
    assert probabilities == sorted(probabilities)


@settings(max_examples=100, deadline=None)
@given(
    hnp.arrays(np.float64, 30, elements=st.floats(0, 1)),
    hnp.arrays(np.bool_, 30).filter(lambda labels: labels.any()),
    st.floats(0, 1),
)
def test_a_threshold_reaches_its_sensitivity_and_no_higher_one_does(probabilities: np.ndarray, labels: np.ndarray, target: float):
    threshold = threshold_at_sensitivity(probabilities, labels.astype(float), target)
    assert recall_score(labels, probabilities >= threshold) >= target - 1e-9
    higher = sorted(p for p in probabilities[labels] if p > threshold)
    assert not higher or recall_score(labels, probabilities >= higher[0]) < target + 1e-9


def test_without_positives_there_is_no_threshold():
    with pytest.raises(ValueError, match="no positive case"):
        threshold_at_sensitivity(np.array([0.1, 0.9]), np.array([0.0, 0.0]), 0.9)


@pytest.mark.parametrize("seed", range(3))
def test_reliability_is_sklearns_calibration_curve(seed: int):
    logits, labels = cases(seed)
    probabilities = expit(logits)
    observed, predicted = calibration_curve(labels, probabilities, n_bins=10)
    found = reliability(probabilities, labels, bins=10)
    assert [b.observed for b in found] == pytest.approx(observed)
    assert [b.predicted for b in found] == pytest.approx(predicted)
    assert sum(b.count for b in found) == len(labels)


def test_a_probability_of_one_falls_into_the_last_bin():
    (only,) = reliability(np.array([1.0, 0.95]), np.array([1.0, 1.0]))
    assert only.count == 2


def test_the_calibration_error_bins_the_probability_of_pneumonia():
    # Binning the predicted class of a binary score instead gives 0.5 here: half the cases are negative and known to be.
    probabilities, labels = np.array([0.0, 0.0, 1.0, 1.0]), np.array([0.0, 0.0, 1.0, 1.0])
    assert expected_calibration_error(probabilities, labels) == 0


def test_the_calibration_error_is_the_weighted_gap():
    probabilities = np.array([0.15, 0.15, 0.15, 0.85])
    labels = np.array([0.0, 1.0, 1.0, 1.0])
    assert expected_calibration_error(probabilities, labels) == pytest.approx((3 * (2 / 3 - 0.15) + 0.15) / 4)


def test_a_confident_and_right_model_has_a_small_calibration_error():
    logits, labels = cases(7, n=20_000)
    assert expected_calibration_error(expit(logits), labels) < 0.02


def test_the_brier_score_is_sklearns():
    logits, labels = cases(3)
    assert brier(expit(logits), labels) == pytest.approx(brier_score_loss(labels, expit(logits)))


def test_cases_of_one_probability_stay_in_one_bin_whatever_their_order():
    labels = np.repeat([0.0, 1.0], 50)
    (only,) = reliability(np.full(100, 0.5), labels, equal_mass=True)
    assert (only.predicted, only.observed, only.count) == (0.5, 0.5, 100)
    assert expected_calibration_error(np.full(100, 0.5), labels, equal_mass=True) == 0
    mixed = np.concatenate([np.full(35, 0.2), np.full(65, 0.8)])
    assert [b.count for b in reliability(mixed, labels, equal_mass=True)] == [35, 65]
