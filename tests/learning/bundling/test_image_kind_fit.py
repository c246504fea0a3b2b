"""What a frontal chest radiograph is can be learned from drawings of chests, and tells them from the same ones shown wrongly."""

from __future__ import annotations

import numpy as np
import pytest

from prioritizer.imaging import phantoms
from prioritizer.learning.bundling import image_kind_fit, other_kinds
from prioritizer.learning.bundling.image_kind_fit import RadiographSet
from prioritizer.scope import image_kind
from prioritizer.scope.image_kind import Classifiers, ImageKind, Usual


def film(seed: int) -> np.ndarray:
    return image_kind.small(phantoms.picture(128, opacity=bool(seed % 2), seed=seed).astype(np.float32) / 255)


def films(first: int, count: int) -> RadiographSet:
    return RadiographSet(pictures=np.stack([film(first + k) for k in range(count)]), sites=("one", "other") * (count // 2))


@pytest.fixture(scope="module")
def kind() -> ImageKind:
    return image_kind_fit.fit(films(0, 60), films(100, 20), seed=1)


def beyond(kind: ImageKind, pictures: list[np.ndarray]) -> float:
    return float((kind.distance(np.stack([image_kind.features(one) for one in pictures])) > 1).mean())


def test_other_drawings_of_chests_pass(kind: ImageKind):
    assert beyond(kind, [film(200 + k) for k in range(20)]) <= 0.1


@pytest.mark.parametrize("name", ["turned by a quarter", "turned by three quarters", "upside down", "inverted", "noise"])
def test_what_is_no_chest_as_it_is_read_is_refused(kind: ImageKind, name: str):
    rng = np.random.default_rng(5)
    shown = [other_kinds.tidy(other_kinds.OTHER_KINDS[name](film(200 + k), rng)) for k in range(20)]
    assert beyond(kind, shown) >= 0.9


def test_the_same_seed_learns_the_same(kind: ImageKind):
    again = image_kind_fit.fit(films(0, 60), films(100, 20), seed=1)
    np.testing.assert_array_equal(again.classifiers.first, kind.classifiers.first)
    assert (again.limit, again.furthest) == (kind.limit, kind.furthest)


def test_a_picture_that_is_no_number_is_infinitely_far(kind: ImageKind):
    broken = np.full((1, image_kind.FEATURES), np.nan)
    assert np.isinf(kind.distance(broken)).all()


def linear() -> Classifiers:
    """One network whose logit is its first feature, where that is positive."""
    eye = np.zeros((1, 2, 1), np.float32)
    eye[0, 0, 0] = 1
    zero = np.zeros((1, 1), np.float32)
    return Classifiers(
        centre=np.zeros(2, np.float32), spread=np.ones(2, np.float32), first=eye, first_bias=zero, second=np.ones((1, 1, 1), np.float32),
        second_bias=zero, last=np.ones((1, 1), np.float32), last_bias=np.zeros(1, np.float32),
    )  # fmt: skip


def test_the_distance_is_0_at_the_middle_and_1_at_the_limit_and_far_from_everything_is_beyond():
    kind = ImageKind(
        classifiers=linear(),
        usual=Usual(centre=np.zeros(2, np.float32), directions=np.eye(2, dtype=np.float32)),
        middle=8,
        limit=4,
        furthest=100,
    )
    found = kind.distance(np.array([[8.0, 0.0], [4.0, 0.0], [2.0, 0.0], [8.0, 1000.0]]))
    np.testing.assert_allclose(found[:3], [np.sqrt(32) / 100, 1.0, 1.5])
    assert found[3] > 1


def test_limits_refuse_the_stated_share_of_films_that_taught_nothing():
    rng = np.random.default_rng(0)
    held = np.stack([rng.uniform(1, 9, 4000), rng.normal(size=4000)], axis=1)
    usual = Usual(centre=held.mean(axis=0).astype(np.float32), directions=np.eye(2, dtype=np.float32))
    kind = image_kind.with_limits(linear(), usual, held, false_alarms=0.05, loosely=1.1)
    assert (kind.distance(held) > 1).mean() == pytest.approx(0.05, abs=0.002)


def test_too_few_films_make_no_limit():
    usual = Usual(centre=np.zeros(2, np.float32), directions=np.eye(2, dtype=np.float32))
    with pytest.raises(ValueError, match="too few"):
        image_kind.with_limits(linear(), usual, np.zeros((1, 2)), false_alarms=0.05, loosely=1.1)


def test_films_are_drawn_alike_often_of_every_site():
    drawn = image_kind_fit.drawn_of_sites(["a"] * 100 + ["b"] * 10, 40, np.random.default_rng(0))
    assert ((drawn < 100).sum(), (drawn >= 100).sum()) == (20, 10)


@pytest.mark.parametrize("name", other_kinds.OTHER_KINDS)
def test_every_other_kind_is_drawn_at_the_side_that_is_looked_at(name: str):
    shown = other_kinds.tidy(other_kinds.OTHER_KINDS[name](film(1), np.random.default_rng(2)))
    assert shown.shape == (image_kind.SIDE, image_kind.SIDE)
    assert shown.dtype == np.float32


def test_a_changed_film_keeps_its_shape_and_range():
    rng = np.random.default_rng(3)
    for _ in range(40):
        shown = other_kinds.changed(film(1), rng)
        assert shown.shape == (image_kind.SIDE, image_kind.SIDE)
        assert 0 <= shown.min() <= shown.max() <= 1
