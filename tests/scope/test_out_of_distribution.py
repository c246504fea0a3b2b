"""What is like the training data passes, what is not does not, and the limit holds its promise; the site decides what that means."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prioritizer.imaging import phantoms
from prioritizer.scope import guard_rules, layout_features
from prioritizer.scope import out_of_distribution as scope_out_of_distribution
from prioritizer.scope.layout_features import Layout
from prioritizer.scope.out_of_distribution import Figures, Likeness, Population
from prioritizer.scope.verdict import PopulationRule, ScopeRules, ScopeVerdict, Strictness

SITES = {"here": 0.0, "there": 3.0}


def drawn(n: int, seed: int, shift: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    hidden = rng.normal(size=(n, 6))
    return (hidden @ np.random.default_rng(0).normal(size=(6, 40)) + 0.1 * rng.normal(size=(n, 40)) + shift).astype(np.float32)


def of_sites(n: int, seed: int) -> dict[str, np.ndarray]:
    return {site: drawn(n, seed + 10_000 * number, shift) for number, (site, shift) in enumerate(SITES.items())}


def fitted(n: int, seed: int, **asked: object) -> Population:
    return scope_out_of_distribution.fit_population(of_sites(n, seed), of_sites(n, seed + 1), **asked)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([0.01, 0.02, 0.1]))
def test_false_alarms_on_fresh_images_of_either_site_stay_near_what_was_set(seed: int, share: float):
    # So many that the bound is six standard deviations of a share of 0.1.
    population = fitted(8000, seed, directions=8, false_alarms=share)
    for found in of_sites(8000, seed + 2).values():
        assert (population.distance(found) > 1).mean() <= share + 0.03


def test_a_site_between_those_of_the_training_is_like_neither():
    population = fitted(800, 1, directions=6)
    assert (population.distance(drawn(200, 5, shift=1.5)) > 1).mean() > 0.9


def test_a_shift_inside_and_one_outside_the_usual_directions_are_both_seen():
    population = fitted(800, 1, directions=6)
    along = population.directions[0] * population.spread
    rest = np.random.default_rng(5).normal(size=40)
    rest -= population.directions.T @ (population.directions @ rest)
    inside = population.centres[0] + 12 * np.sqrt(population.variances[0]) * along
    outside = population.centres[0] + rest * population.spread
    found = population.distance(np.stack([population.centres[0], population.centres[1], inside, outside]))
    assert (found > 1).tolist() == [False, False, True, True]


def test_a_class_that_differs_more_within_has_its_own_limit():
    def wider(n: int, seed: int) -> np.ndarray:
        return 3 * drawn(n, seed)

    apart = scope_out_of_distribution.fit_population(
        {"with": wider(800, 1), "without": drawn(800, 2)}, {"with": wider(800, 3), "without": drawn(800, 4)}, directions=6
    )
    assert (apart.distance(wider(2000, 5)) > 1).mean() <= 0.05
    assert (apart.distance(drawn(2000, 6)) > 1).mean() <= 0.05


def test_a_group_with_few_held_out_images_sets_no_limit_by_them():
    training = of_sites(800, 1)
    few = {"here": drawn(scope_out_of_distribution.MIN_HELD_OUT - 1, 7) * 5, "there": drawn(800, 77, SITES["there"])}
    population = scope_out_of_distribution.fit_population(training, few, directions=6)
    assert population.limits[0] == pytest.approx(population.limits[1])


def test_a_site_without_held_out_images_shares_the_limit_of_the_others():
    training = of_sites(800, 1)
    population = scope_out_of_distribution.fit_population(training, {"there": drawn(800, 77, SITES["there"])}, directions=6)
    assert population.limits[0] == pytest.approx(population.limits[1])


def test_an_embedding_that_is_no_number_is_infinitely_far():
    broken = np.full((1, 40), np.nan, dtype=np.float32)
    assert np.isinf(fitted(100, 1, directions=6).distance(broken)).all()


def test_features_that_never_vary_do_no_harm():
    training, held = of_sites(100, 1), of_sites(100, 2)
    for found in (*training.values(), *held.values()):
        found[:, 3] = 5.0
    population = scope_out_of_distribution.fit_population(training, held, directions=6)
    assert np.isfinite(population.distance(held["here"])).all()


def test_too_few_images_make_no_population():
    with pytest.raises(ValueError, match="too few"):
        scope_out_of_distribution.fit_population({"here": drawn(1, 1)}, {"here": drawn(5, 2)})


# --- the limit of a site -------------------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(st.integers(50, 400), st.integers(0, 100), st.sampled_from([0.01, 0.02, 0.1]))
def test_at_most_the_stated_share_of_a_local_cohort_lies_beyond_its_limit(n: int, seed: int, share: float):
    distances = np.random.default_rng(seed).gamma(4, 0.5, n)
    limit = scope_out_of_distribution.local_limit(distances, share)
    assert limit is not None
    assert (distances > limit).mean() <= share
    assert limit >= 1


def test_a_cohort_like_the_training_data_keeps_the_limit_of_the_bundle():
    assert scope_out_of_distribution.local_limit(np.full(100, 0.4)) == 1.0


def test_a_few_images_set_no_local_limit_and_broken_ones_do_not_count():
    assert scope_out_of_distribution.local_limit(np.full(49, 2.0)) is None
    assert scope_out_of_distribution.local_limit(np.concatenate([np.full(49, 2.0), [np.inf, np.nan]])) is None
    assert scope_out_of_distribution.local_limit(np.concatenate([np.full(50, 2.0), [np.inf, np.nan]])) == 2.0


# --- the guard of older bundles ------------------------------------------------------------------------------------


def older() -> Likeness:
    plain = Layout(
        centre=np.zeros(98, np.float32), directions=np.eye(98, dtype=np.float32), weights=np.ones(1, np.float32),
        means=np.zeros((1, 98), np.float32), roots=np.eye(98, dtype=np.float32)[None],
    )  # fmt: skip
    return Likeness(
        centre=np.zeros(4, np.float32), spread=np.ones(4, np.float32), directions=np.eye(4, dtype=np.float32)[:2],
        variances=np.ones(2, np.float32), layout=plain, usual=((1.0, 1.0), (1.0, 1.0)), limits=(3.0, 3.0), false_alarms=0.02,
    )  # fmt: skip


def test_one_distance_of_an_older_guard_stands_for_both_questions():
    figures = older().figures(np.full(4, 9, np.float32), np.zeros((64, 64), np.float32))
    assert figures.one_measure
    assert figures.image_kind == figures.out_of_distribution > 1


def test_an_unusual_layout_is_seen_whatever_the_network_says():
    found = older().distance(np.zeros((2, 4), np.float32), np.stack([np.zeros(98), np.full(98, 9.0)]))
    assert (found > 1).tolist() == [False, True]


def test_an_older_guard_is_infinitely_far_from_what_is_no_number():
    assert np.isinf(older().distance(np.full((1, 4), np.nan, np.float32), np.zeros((1, 98)))).all()
    assert np.isinf(older().distance(np.zeros((1, 4), np.float32), np.full((1, 98), np.nan))).all()


def test_the_density_of_one_part_is_the_mahalanobis_distance():
    rng = np.random.default_rng(0)
    root = np.triu(rng.normal(size=(98, 98)) / 20 + np.eye(98))
    mean, found = rng.normal(size=98), rng.normal(size=(50, 98))
    single = Layout(centre=np.zeros(98), directions=np.eye(98), weights=np.ones(1), means=mean[None], roots=root[None])
    expected = np.sqrt(np.einsum("ni,ij,nj->n", found - mean, root @ root.T, found - mean) / 98)
    np.testing.assert_allclose(single.distance(found), expected, rtol=1e-4)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 50), gamma=st.floats(0.6, 1.6), low=st.floats(0, 0.2), high=st.floats(0.8, 1.0))
def test_window_and_tone_curve_hardly_move_the_layout(seed: int, gamma: float, low: float, high: float):
    picture = phantoms.picture(224, seed=seed).astype(np.float32) / 255
    other = (low + (high - low) * picture**gamma).astype(np.float32)
    # Turned upside down it is far: the measure that tone must stay well below.
    turned = np.abs(layout_features.features(picture) - layout_features.features(picture[::-1])).mean()
    assert np.abs(layout_features.features(picture) - layout_features.features(other)).mean() < 0.25 * turned


# --- what the site makes of it -------------------------------------------------------------------------------------

PLAIN = ScopeVerdict(reason=None)
HAND = Figures(image_kind=1.7, out_of_distribution=3.0)
STRANGER = Figures(image_kind=0.2, out_of_distribution=1.4)


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
def test_the_site_decides_what_another_kind_of_image_means(strictness: Strictness, distance: float, eligible: bool, warned: bool):
    verdict = guard_rules.with_guard(PLAIN, Figures(image_kind=distance), ScopeRules(image_kind=strictness))
    assert verdict.eligible is eligible
    assert any("not a frontal chest radiograph" in said for said in verdict.warnings) is warned
    if not eligible:
        assert verdict.reason.rule == "image_kind"
        assert "not a frontal chest radiograph" in verdict.reason.sentence


@pytest.mark.parametrize(
    ("rule", "holds_back", "eligible", "warned"),
    [
        (PopulationRule.UNTIL_CALIBRATED, False, True, True),
        (PopulationRule.UNTIL_CALIBRATED, True, False, False),
        (PopulationRule.ENFORCE, False, False, False),
        (PopulationRule.FLAG, True, True, True),
        (PopulationRule.OFF, True, True, False),
    ],
)
def test_another_population_is_a_reason_only_until_the_site_is_calibrated(rule: str, holds_back: bool, eligible: bool, warned: bool):
    verdict = guard_rules.with_guard(PLAIN, STRANGER, ScopeRules(out_of_distribution=rule), holds_back=holds_back)
    assert verdict.eligible is eligible
    assert any("1.40 times the limit" in said for said in verdict.warnings) is warned
    if not eligible:
        assert verdict.reason.rule == "out_of_distribution"
        assert "unlike the training data" in verdict.reason.sentence


def test_the_kind_of_an_image_is_told_before_its_population():
    assert guard_rules.with_guard(PLAIN, HAND, ScopeRules(), holds_back=True).reason.rule == "image_kind"
    flagged = ScopeRules(image_kind=Strictness.FLAG, out_of_distribution=PopulationRule.FLAG)
    assert len(guard_rules.with_guard(PLAIN, HAND, flagged).warnings) == 2


def test_a_limit_of_the_site_takes_the_place_of_the_bundles():
    assert guard_rules.with_guard(PLAIN, STRANGER, ScopeRules(), holds_back=True, local_limit=1.5) == PLAIN
    assert "1.17 times the limit" in guard_rules.with_guard(PLAIN, STRANGER, ScopeRules(), local_limit=1.2).warnings[0]


def test_the_one_measure_of_an_older_guard_is_told_once_and_by_the_stricter_rule():
    old = Figures(image_kind=1.4, out_of_distribution=1.4, one_measure=True)
    flagged = ScopeRules(image_kind=Strictness.FLAG, out_of_distribution=PopulationRule.FLAG)
    assert not guard_rules.with_guard(PLAIN, old, ScopeRules()).eligible
    assert len(guard_rules.with_guard(PLAIN, old, flagged).warnings) == 1
    assert "unlike the training data" in guard_rules.with_guard(PLAIN, old, flagged).warnings[0]
    assert not guard_rules.with_guard(PLAIN, old, ScopeRules(image_kind=Strictness.FLAG), holds_back=True).eligible
