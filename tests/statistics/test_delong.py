"""The variance of a ROC area is DeLong's, by patient, and the paired test is that of two areas on the same cases."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import roc_auc_score

from prioritizer.statistics import delong

SCORES = hnp.arrays(np.float64, 24, elements=st.sampled_from([0.0, 0.2, 0.4, 0.6, 0.8, 1.0]))
LABELS = hnp.arrays(np.bool_, 24).filter(lambda labels: 2 <= labels.sum() <= 22)


def drawn(n: int = 200, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = (rng.random(n) < 0.4).astype(float)
    common = rng.normal(0, 1, n) + labels
    return labels, common + rng.normal(0, 0.7, n), common + 0.4 * labels + rng.normal(0, 0.7, n)


def by_definition(labels: np.ndarray, scores: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Areas and covariance as the paper writes them: psi over all pairs, V10 and V01, S10/m + S01/n."""
    v10, v01 = [], []
    for score in scores:
        x, y = score[labels == 1], score[labels == 0]
        psi = (y[None, :] < x[:, None]) + 0.5 * (y[None, :] == x[:, None])
        v10.append(psi.mean(axis=1))
        v01.append(psi.mean(axis=0))
    covariance = np.cov(v10).reshape(len(scores), -1) / len(v10[0]) + np.cov(v01).reshape(len(scores), -1) / len(v01[0])
    return np.array([v.mean() for v in v10]), covariance


@settings(max_examples=100, deadline=None)
@given(SCORES, SCORES, LABELS)
def test_areas_and_covariance_are_those_of_the_paper_with_ties(one: np.ndarray, other: np.ndarray, labels: np.ndarray):
    found, covariance = delong.areas(labels.astype(float), [one, other])
    wanted, wanted_covariance = by_definition(labels, [one, other])
    cross = covariance - wanted_covariance
    # One patient in both sums: without groups each image is its own patient, and no patient stands in both classes.
    assert found == pytest.approx(wanted)
    assert np.abs(cross).max() < 1e-12
    assert found[0] == pytest.approx(roc_auc_score(labels, one))


def test_the_interval_is_about_that_of_the_bootstrap():
    labels, score, _ = drawn(400)
    rng = np.random.default_rng(1)
    areas = []
    for _ in range(1500):
        index = rng.integers(0, 400, 400)
        areas.append(roc_auc_score(labels[index], score[index]))
    low, high = np.percentile(areas, [2.5, 97.5])
    figure = delong.area(labels, score)
    assert figure.low == pytest.approx(low, abs=0.01)
    assert figure.high == pytest.approx(high, abs=0.01)


def test_copies_of_a_patients_film_add_no_certainty():
    labels, score, _ = drawn(60)
    patients = [f"p{i}" for i in range(60)]
    once = delong.area(labels, score, patients)
    four = delong.area(np.repeat(labels, 4), np.repeat(score, 4), list(np.repeat(patients, 4)))
    alone = delong.area(np.repeat(labels, 4), np.repeat(score, 4))
    assert (four.value, four.low, four.high) == pytest.approx((once.value, once.low, once.high))
    assert alone.high - alone.low < 0.6 * (four.high - four.low)


def test_the_paired_test_sees_what_two_separate_intervals_do_not():
    labels, first, second = drawn(600, seed=3)
    found = delong.difference(labels, first, second)
    apart = delong.area(labels, first), delong.area(labels, second)
    assert found.p < 0.001
    assert found.figure.low > 0
    assert apart[0].high > apart[1].low - 0.02


def test_a_network_does_not_differ_from_itself():
    labels, first, _ = drawn()
    found = delong.difference(labels, first, first)
    assert (found.figure.value, found.figure.low, found.figure.high) == (0, 0, 0)
    assert np.isnan(found.p)


def test_under_no_difference_p_is_small_as_often_as_it_says():
    rng = np.random.default_rng(5)
    small = 0
    for _ in range(300):
        labels = np.repeat([0.0, 1.0], 40)
        common = labels + rng.normal(0, 1, 80)
        small += delong.difference(labels, common + rng.normal(0, 1, 80), common + rng.normal(0, 1, 80)).p < 0.05
    assert 5 <= small <= 30


def test_one_positive_has_an_area_but_no_interval_to_trust():
    figure = delong.area(np.array([1.0, 0, 0, 0]), np.array([0.4, 0.1, 0.2, 0.5]))
    assert np.isnan(figure.value)
