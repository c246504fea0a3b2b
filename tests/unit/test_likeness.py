"""What is like the training data passes, what is not does not, and the limit holds its promise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prioritizer import eligibility, likeness
from prioritizer.eligibility import Rules, Strictness, Verdict


def drawn(n: int, seed: int, shift: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    hidden = rng.normal(size=(n, 6))
    return (hidden @ np.random.default_rng(0).normal(size=(6, 40)) + 0.1 * rng.normal(size=(n, 40)) + shift).astype(np.float32)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([0.01, 0.02, 0.1]))
def test_false_alarms_on_fresh_images_stay_near_what_was_set(seed: int, share: float):
    guard = likeness.fit(drawn(800, seed), drawn(800, seed + 1), directions=8, false_alarms=share)
    assert (guard.distance(drawn(2000, seed + 2)) > 1).mean() <= share + 0.03


def test_a_shift_inside_and_one_outside_the_usual_directions_are_both_seen():
    guard = likeness.fit(drawn(800, 1), drawn(800, 2), directions=6)
    usual = guard.directions[0] * guard.spread
    rest = np.random.default_rng(5).normal(size=40)
    rest -= guard.directions.T @ (guard.directions @ rest)
    inside = guard.centre + 12 * np.sqrt(guard.variances[0]) * usual
    outside = guard.centre + rest * guard.spread
    assert guard.distance(np.stack([guard.centre, inside, outside])).round(1).tolist()[0] <= 1
    assert (guard.distance(np.stack([inside, outside])) > 1).all()


def test_an_embedding_that_is_no_number_is_infinitely_far():
    guard = likeness.fit(drawn(100, 1), drawn(100, 2), directions=6)
    broken = np.full((1, 40), np.nan, dtype=np.float32)
    assert np.isinf(guard.distance(broken)).all()


def test_features_that_never_vary_do_no_harm():
    training, held = drawn(100, 1), drawn(100, 2)
    training[:, 3], held[:, 3] = 5.0, 5.0
    guard = likeness.fit(training, held, directions=6)
    assert np.isfinite(guard.distance(held)).all()


def test_too_few_images_make_no_guard():
    with pytest.raises(ValueError, match="too few"):
        likeness.fit(drawn(1, 1), drawn(5, 2))


@pytest.mark.parametrize(
    ("strictness", "distance", "eligible", "warned"),
    [
        (Strictness.ENFORCE, 1.7, False, False),
        (Strictness.FLAG, 1.7, True, True),
        (Strictness.OFF, 1.7, True, False),
        (Strictness.ENFORCE, 1.0, True, False),
        (Strictness.ENFORCE, float("inf"), False, False),
    ],
)
def test_the_site_decides_what_unlike_means(strictness: Strictness, distance: float, eligible: bool, warned: bool):
    verdict = eligibility.with_likeness(Verdict(reason=None), distance, Rules(likeness=strictness))
    assert verdict.eligible is eligible
    assert any("unlike the training data" in said for said in verdict.warnings) is warned
    if not eligible:
        assert "unlike the training data" in verdict.reason.sentence
