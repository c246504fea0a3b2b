"""What is like the training data passes, what is not does not, and the limit holds its promise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prioritizer import eligibility, layout, likeness, phantoms
from prioritizer.eligibility import Rules, Strictness, Verdict
from prioritizer.layout import Layout
from prioritizer.learning import layouts
from prioritizer.likeness import Likeness, Sample


def drawn(n: int, seed: int, shift: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    hidden = rng.normal(size=(n, 6))
    return (hidden @ np.random.default_rng(0).normal(size=(6, 40)) + 0.1 * rng.normal(size=(n, 40)) + shift).astype(np.float32)


def laid(n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, 98))


def sample(n: int, seed: int) -> Sample:
    return Sample(embeddings=drawn(n, seed), layouts=laid(n, seed))


def usual(seed: int = 1, count: int = 400) -> Layout:
    return layouts.fit(laid(count, seed), 0)


def fitted(n: int, seed: int, **asked: object) -> Likeness:
    return likeness.fit(sample(n, seed), sample(n, seed + 1), usual(), **asked)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([0.01, 0.02, 0.1]))
def test_false_alarms_on_fresh_images_stay_near_what_was_set(seed: int, share: float):
    # So many that the bound is four times the error of a limit set on some films and of a share counted among others.
    guard = fitted(2400, seed, directions=8, false_alarms=share)
    assert (guard.distance(drawn(6000, seed + 2), laid(6000, seed + 2)) > 1).mean() <= share + 0.03


def test_a_shift_inside_and_one_outside_the_usual_directions_are_both_seen():
    guard = fitted(800, 1, directions=6)
    along = guard.directions[0] * guard.spread
    rest = np.random.default_rng(5).normal(size=40)
    rest -= guard.directions.T @ (guard.directions @ rest)
    inside = guard.centre + 12 * np.sqrt(guard.variances[0]) * along
    outside = guard.centre + rest * guard.spread
    ordinary = np.repeat(guard.layout.centre[None], 3, axis=0)
    assert (guard.distance(np.stack([guard.centre, inside, outside]), ordinary) > 1).tolist() == [False, True, True]


def test_an_unusual_layout_is_seen_whatever_the_network_says():
    guard = fitted(800, 1, directions=6)
    odd = guard.layout.centre + 8.0
    assert guard.distance(guard.centre[None], odd[None])[0] > 1


def test_an_embedding_that_is_no_number_is_infinitely_far():
    guard = fitted(100, 1, directions=6)
    broken = np.full((1, 40), np.nan, dtype=np.float32)
    assert np.isinf(guard.distance(broken, laid(1, 3))).all()
    assert np.isinf(guard.distance(drawn(1, 1), np.full((1, 98), np.nan))).all()


def test_features_that_never_vary_do_no_harm():
    training, held = drawn(100, 1), drawn(100, 2)
    training[:, 3], held[:, 3] = 5.0, 5.0
    guard = likeness.fit(
        Sample(embeddings=training, layouts=laid(100, 1)), Sample(embeddings=held, layouts=laid(100, 2)), usual(), directions=6
    )
    assert np.isfinite(guard.distance(held, laid(100, 2))).all()


def test_too_few_images_make_no_guard():
    with pytest.raises(ValueError, match="too few"):
        likeness.fit(sample(1, 1), sample(5, 2), usual())


def test_the_density_of_one_part_is_the_mahalanobis_distance():
    features = laid(2000, 4) @ np.random.default_rng(0).normal(size=(98, 98))
    one = layouts.fit(features, 0)
    single = Layout(centre=one.centre, directions=one.directions, weights=np.ones(1), means=one.means[:1], roots=one.roots[:1])
    along = (features[:50] - one.centre) @ one.directions.T.astype(np.float64) - one.means[0]
    covariance = np.linalg.inv(one.roots[0].astype(np.float64) @ one.roots[0].T.astype(np.float64))
    expected = np.sqrt(np.einsum("ni,ij,nj->n", along, np.linalg.inv(covariance), along) / along.shape[1])
    np.testing.assert_allclose(single.distance(features[:50]), expected, rtol=1e-4)


def test_a_few_pictures_make_a_layout_of_fewer_parts():
    assert np.isfinite(layouts.fit(laid(6, 0), 0).distance(laid(3, 1))).all()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 50), gamma=st.floats(0.6, 1.6), low=st.floats(0, 0.2), high=st.floats(0.8, 1.0))
def test_window_and_tone_curve_hardly_move_the_layout(seed: int, gamma: float, low: float, high: float):
    picture = phantoms.picture(224, seed=seed).astype(np.float32) / 255
    other = (low + (high - low) * picture**gamma).astype(np.float32)
    # Turned upside down it is far: the measure that tone must stay well below.
    turned = np.abs(layout.features(picture) - layout.features(picture[::-1])).mean()
    assert np.abs(layout.features(picture) - layout.features(other)).mean() < 0.25 * turned


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
