"""The figures in the card are those that scikit-learn gives."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, recall_score, roc_auc_score

from prioritizer.statistics.intervals import Cases, Figure
from prioritizer.statistics.measures import average_precision, calibration_line, figures, roc_auc, sensitivity, specificity

SCORES = hnp.arrays(np.float64, 25, elements=st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9, 1.0]))
LABELS = hnp.arrays(np.bool_, 25).filter(lambda labels: 0 < labels.sum() < 25)


def cases(n: int = 120, seed: int = 0) -> Cases:
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, n)
    labels = (rng.random(n) < expit(logits)).astype(np.float64)
    return Cases(probabilities=expit(logits), labels=labels, patients=[f"p{i // 2}" for i in range(n)])


@settings(max_examples=100, deadline=None)
@given(SCORES, LABELS)
def test_the_roc_area_is_sklearns_with_ties(scores: np.ndarray, labels: np.ndarray):
    assert roc_auc(labels.astype(float), scores) == pytest.approx(roc_auc_score(labels, scores))


@settings(max_examples=100, deadline=None)
@given(SCORES, LABELS)
def test_average_precision_is_sklearns_with_ties(scores: np.ndarray, labels: np.ndarray):
    assert average_precision(labels.astype(float), scores) == pytest.approx(average_precision_score(labels, scores))


@settings(max_examples=50, deadline=None)
@given(SCORES, LABELS)
def test_sensitivity_and_specificity_are_the_recalls_of_the_classes(scores: np.ndarray, labels: np.ndarray):
    flagged = scores >= 0.5
    assert sensitivity(labels.astype(float), flagged) == pytest.approx(recall_score(labels, flagged))
    assert specificity(labels.astype(float), flagged) == pytest.approx(recall_score(~labels, ~flagged))


def test_a_missing_class_has_no_figure():
    ones = np.ones(3)
    assert np.isnan(roc_auc(ones, np.array([0.1, 0.2, 0.3])))
    assert np.isnan(specificity(ones, np.array([True, False, True])))


def test_the_calibration_line_is_the_unpenalised_logistic_regression():
    found = cases(400)
    logit = np.log(found.probabilities / (1 - found.probabilities))
    oracle = LogisticRegression(C=1e12, tol=1e-10, max_iter=1000).fit(logit[:, None], found.labels)
    assert calibration_line(found.probabilities, found.labels) == pytest.approx((oracle.coef_[0, 0], oracle.intercept_[0]), abs=1e-4)


def test_every_value_lies_in_its_interval():
    for name, figure in figures(cases(), threshold=0.5).items():
        assert figure.low <= figure.value <= figure.high, name


def test_the_same_seed_gives_the_same_intervals():
    assert figures(cases(), threshold=0.5, seed=3) == figures(cases(), threshold=0.5, seed=3)


def test_patients_are_resampled_whole():
    one = cases(60, seed=1)
    doubled = Cases(
        probabilities=np.repeat(one.probabilities, 4),
        labels=np.repeat(one.labels, 4),
        patients=[f"p{i}" for i in range(60) for _ in range(4)],
    )
    independent = Cases(probabilities=doubled.probabilities, labels=doubled.labels, patients=[str(i) for i in range(240)])
    by_patient, by_image = figures(doubled, threshold=0.5)["roc_auc"], figures(independent, threshold=0.5)["roc_auc"]
    assert by_patient.high - by_patient.low > 1.5 * (by_image.high - by_image.low)


def test_a_figure_is_written_with_its_interval():
    assert str(Figure(value=0.9512, low=0.9, high=0.98)) == "0.951 (0.900-0.980)"


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_calibration_line_of_a_confident_model_is_that_of_an_unpenalised_logistic_regression(sign: float) -> None:

    rng = np.random.default_rng(7)
    labels = rng.integers(0, 2, 300).astype(float)
    logits = sign * 4.0 * (labels - 0.5) + rng.normal(0, 3.0, 300)
    oracle = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(logits[:, None], labels)
    slope, intercept = calibration_line(1 / (1 + np.exp(-logits)), labels)
    assert slope == pytest.approx(oracle.coef_[0, 0], abs=1e-3)
    assert intercept == pytest.approx(oracle.intercept_[0], abs=1e-3)
    assert np.sign(slope) == sign
