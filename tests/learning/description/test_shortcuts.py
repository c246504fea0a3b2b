"""The control that sees no picture, and the figure from which its knowledge is taken away."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prioritizer.learning.description import shortcuts
from prioritizer.statistics.measures import roc_auc

RNG = np.random.default_rng(5)


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(-3, 3)), min_size=2, max_size=60))
def test_equal_weights_give_the_plain_roc_auc(cases: list[tuple[int, int]]) -> None:
    labels, scores = np.array(cases, dtype=np.float64).T
    np.testing.assert_allclose(shortcuts.weighted_auc(labels, scores), roc_auc(labels, scores))


def test_a_weight_of_two_is_an_image_given_twice() -> None:
    labels, scores, weights = np.array([1, 0, 1, 0]), np.array([0.9, 0.8, 0.3, 0.1]), np.array([1, 2, 1, 1])
    twice = shortcuts.weighted_auc(np.repeat(labels, weights), np.repeat(scores, weights))
    assert shortcuts.weighted_auc(labels, scores, weights) == pytest.approx(twice)


def test_weights_are_clipped() -> None:
    weights = shortcuts.matched_weights(np.array([1, 0, 1]), np.array([0.0, 1.0, 0.5]))
    np.testing.assert_allclose(weights, [20.0, 20.0, 2.0])


def test_matching_takes_a_shortcut_away_and_leaves_the_disease() -> None:
    n = 4000
    labels = RNG.integers(0, 2, n)
    shortcut = labels + RNG.normal(0, 0.9, n)
    disease = labels + RNG.normal(0, 0.9, n)
    chance = shortcuts.propensity(shortcut[:, None], labels, [str(i) for i in range(n)], seed=0, trees=False)
    assert shortcuts.weighted_auc(labels, shortcut) > 0.75
    assert shortcuts.matched_auc(labels, shortcut, chance) == pytest.approx(0.5, abs=0.05)
    assert shortcuts.matched_auc(labels, disease, chance) == pytest.approx(shortcuts.weighted_auc(labels, disease), abs=0.04)


@pytest.mark.parametrize("trees", [False, True])
def test_no_image_is_judged_by_a_model_that_saw_its_patient(trees: bool) -> None:
    patients = np.repeat(np.arange(150), 4)
    labels = np.repeat(RNG.integers(0, 2, 150), 4)
    features = patients[:, None] + RNG.normal(0, 0.01, (600, 1))
    chance = shortcuts.propensity(features, labels, [str(p) for p in patients], seed=1, trees=trees)
    assert shortcuts.weighted_auc(labels, chance) < 0.6


def test_a_propensity_repeats_and_lives_with_missing_numbers() -> None:
    labels = RNG.integers(0, 2, 80)
    features = np.stack([labels + RNG.normal(0, 1, 80), np.full(80, np.nan)], axis=1)
    features[::7, 0] = np.nan
    patients = [str(i) for i in range(80)]
    first = shortcuts.propensity(features, labels, patients, seed=2)
    np.testing.assert_array_equal(first, shortcuts.propensity(features, labels, patients, seed=2))
    assert np.isfinite(first).all()


def test_one_patient_a_class_leaves_only_the_share() -> None:
    chance = shortcuts.propensity(np.arange(4.0)[:, None], [1, 1, 1, 0], ["a", "a", "a", "b"], seed=0)
    np.testing.assert_allclose(chance, 0.75)


def test_the_interval_widens_when_images_share_patients() -> None:
    labels = np.repeat(RNG.integers(0, 2, 40), 5)
    scores = np.repeat(RNG.normal(0, 1, 40), 5) + labels * 0.5
    alone = shortcuts.auc_figure(labels, scores, [str(i) for i in range(200)])
    shared = shortcuts.auc_figure(labels, scores, [str(i // 5) for i in range(200)])
    assert alone.low < alone.value < alone.high
    assert shared.high - shared.low > 1.5 * (alone.high - alone.low)
