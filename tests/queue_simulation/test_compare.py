"""What a simulation reports: right against the closed formula, in the order that DESIGN section 3 found, and sure of itself by replication."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from prioritizer.queue_simulation.compare import (
    ALL,
    CLASSES,
    FIFO,
    FLAGGED,
    MISSED,
    QUIET,
    STAT,
    STRICT,
    Effect,
    Setting,
    as_drawn,
    classes_of,
    compare,
    over_replications,
    settings_of,
    variants_of,
)
from prioritizer.queue_simulation.scenario import (
    BinormalModel,
    Known,
    Scenario,
    arrivals,
    draw,
    reading_times,
    with_prevalence,
    with_specificity,
)
from prioritizer.queue_simulation.simulate import with_windows
from prioritizer.ranking.deadlines import RankingPolicy

MODEL = BinormalModel(sensitivity=0.9, specificity=0.9)
POLICY = RankingPolicy(t_high=MODEL.t_high, max_high_share=1.0)
BUSY = Scenario(model=MODEL, per_hour=12, days=12, reading_minutes=4.85, prevalence=0.1)
"""One reader, 97 % busy: a list that is always long, where the order matters."""


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def effects(scenario: Scenario = BUSY, neutral: float = 270, replications: int = 4, **given: object) -> dict[str, Effect]:
    """FIFO, strictly by AI, and deadlines with 240 minutes between the windows."""
    tried = settings_of(POLICY, [Setting(name="deadlines", policy=with_windows(POLICY, 30, neutral))])
    return {effect.setting.name: effect for effect in compare(scenario, tried, replications=replications, seed=1, **given)}


@pytest.fixture(scope="module")
def busy() -> dict[str, Effect]:
    return effects()


@pytest.fixture(scope="module")
def drifted() -> dict[str, Effect]:
    """The same with a specificity of 40 %."""
    return effects(change=lambda studies, generator: with_specificity(studies, 0.5, MODEL.t_high, generator))


# --- against what is known -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("cv", [0.0, 1.0])
def test_the_mean_wait_in_order_of_arrival_is_that_of_pollaczek_and_khinchine(cv: float) -> None:
    scenario = Scenario(model=MODEL, per_hour=12, days=30, reading_minutes=3.0, reading_cv=cv, stat_share=0.0)
    found = compare(scenario, settings_of(POLICY, ())[:1], replications=12, seed=3)[0].classes[ALL].mean
    load, service = 0.6, 3.0
    expected = load * service * (1 + cv**2) / (2 * (1 - load)) + service
    assert found.low <= expected <= found.high
    assert found.high - found.low < 0.2 * expected


def test_the_order_leaves_the_mean_wait_over_all_studies_as_it_is(busy: dict[str, Effect]) -> None:
    means = [effect.classes[ALL].mean.value for effect in busy.values()]
    assert max(means) < 1.03 * min(means)


def test_deadlines_win_nearly_what_strict_order_wins_and_cost_the_unflagged_less(busy: dict[str, Effect]) -> None:
    """DESIGN section 3: mean of flagged positives 98, 5, 10; longest of unflagged positives 395, 442, 417."""
    fifo, strict, deadlines = busy[FIFO], busy[STRICT], busy["deadlines"]
    assert strict.classes[FLAGGED].mean.value <= deadlines.classes[FLAGGED].mean.value < 0.5 * fifo.classes[FLAGGED].mean.value
    assert fifo.longest(MISSED) <= deadlines.longest(MISSED) <= strict.longest(MISSED)


def test_when_the_specificity_drifts_the_bound_holds_and_strict_order_lets_the_unflagged_wait(drifted: dict[str, Effect]) -> None:
    """DESIGN section 3, specificity 40 %: 98, 14, 38 and 395, 790, 516."""
    fifo, strict, deadlines = drifted[FIFO], drifted[STRICT], drifted["deadlines"]
    assert strict.classes[FLAGGED].mean.value <= deadlines.classes[FLAGGED].mean.value < fifo.classes[FLAGGED].mean.value
    assert fifo.longest(MISSED) < deadlines.longest(MISSED) < strict.longest(MISSED)
    assert deadlines.furthest_back < strict.furthest_back
    assert deadlines.overtaken <= deadlines.setting.bound == 240
    assert strict.overtaken > 240


def test_a_study_with_pneumonia_gains_when_flagged_and_pays_when_not(busy: dict[str, Effect]) -> None:
    assert busy["deadlines"].gain.low > 0
    assert busy["deadlines"].price.value > 0
    assert (busy[FIFO].gain.value, busy[FIFO].price.value, busy[FIFO].furthest_back, busy[FIFO].raised.value) == (0, 0, 0, 0)


def test_suspended_raising_is_told_and_brings_the_list_back_to_order_of_arrival() -> None:
    flooded = replace(BUSY, days=4, prevalence=0.9)
    rules = replace(POLICY, max_high_share=0.4)
    fifo, deadlines = compare(
        flooded, (settings_of(rules, ())[0], Setting(name="d", policy=with_windows(rules, 30, 120))), replications=2, seed=0
    )
    assert deadlines.suspended.value > 0.9
    assert abs(deadlines.classes[FLAGGED].mean.value - fifo.classes[FLAGGED].mean.value) < 1


def test_the_same_seed_gives_the_same_figures_and_another_gives_others() -> None:
    small = replace(BUSY, days=2)
    tried = settings_of(POLICY, ())
    first, again, other = (compare(small, tried, replications=2, seed=seed)[1].classes[ALL].mean for seed in (5, 5, 6))
    assert first == again != other


def test_a_setting_at_another_threshold_is_judged_on_the_same_studies() -> None:
    tried = [Setting(name=f"{s}", policy=POLICY.with_thresholds(MODEL.threshold_at(s), 0)) for s in (0.5, 0.99)]
    few, many = compare(replace(BUSY, days=3), tried, replications=2, seed=0)
    assert few.classes[ALL].n == many.classes[ALL].n
    assert few.classes[FLAGGED].n < many.classes[FLAGGED].n
    assert few.raised.value < many.raised.value


# --- classes and intervals -----------------------------------------------------------------------------------------


def test_the_first_six_classes_part_the_studies() -> None:
    studies = draw(replace(BUSY, stat_share=0.2, not_scored_share=0.2), rng())
    masks = classes_of(studies, MODEL.t_high)
    assert tuple(masks) == CLASSES
    assert (np.sum([masks[name] for name in CLASSES[:6]], axis=0) == 1).all()
    assert masks[STAT].sum() == studies.stat.sum()


def test_an_interval_over_replications_is_students() -> None:
    figure = over_replications([1.0, 2.0, 3.0])
    assert (figure.value, figure.low, figure.high) == pytest.approx((2.0, 2 - 4.303 / np.sqrt(3), 2 + 4.303 / np.sqrt(3)))
    assert over_replications([1.0, float("nan"), 1.0]).low == 1.0
    assert np.isnan(over_replications([4.0]).low)
    assert np.isnan(over_replications([]).value)


# --- what is drawn -------------------------------------------------------------------------------------------------


def test_the_drawn_studies_have_the_stated_prevalence_shares_and_operating_point() -> None:
    model = BinormalModel(sensitivity=0.8, specificity=0.95)
    studies = draw(Scenario(model=model, days=200, prevalence=0.3, stat_share=0.1, not_scored_share=0.2), rng())
    scored = ~np.isnan(studies.risk)
    flagged = studies.risk >= model.t_high
    assert studies.positive.mean() == pytest.approx(0.3, abs=0.01)
    assert (studies.stat.mean(), scored.mean()) == pytest.approx((0.1, 0.8), abs=0.01)
    assert flagged[scored & studies.positive].mean() == pytest.approx(0.8, abs=0.01)
    assert flagged[scored & ~studies.positive].mean() == pytest.approx(0.05, abs=0.01)


def test_another_threshold_stays_on_the_same_curve() -> None:
    model = BinormalModel(sensitivity=0.8, specificity=0.95)
    risks = model.risks(np.repeat([True, False], 50_000), rng())
    assert (risks[:50_000] >= model.threshold_at(0.95)).mean() == pytest.approx(0.95, abs=0.005)
    assert model.threshold_at(0.8) == pytest.approx(model.t_high)


def test_a_useless_and_a_perfect_model_can_be_simulated() -> None:
    for sensitivity, specificity in ((1.0, 1.0), (0.3, 0.3)):
        model = BinormalModel(sensitivity=sensitivity, specificity=specificity)
        risks = model.risks(np.repeat([True, False], 20_000), rng())
        assert (risks[:20_000] >= model.t_high).mean() == pytest.approx(sensitivity, abs=0.01)
        assert (risks[20_000:] < model.t_high).mean() == pytest.approx(specificity, abs=0.01)


def test_arrivals_follow_the_profile_of_the_day_at_the_stated_rate() -> None:
    profile = (0.0,) * 8 + (1.0,) * 8 + (3.0,) * 8
    found = arrivals(Scenario(model=MODEL, per_hour=10, by_hour=profile, days=300), rng())
    hours = (found // 60).astype(int) % 24
    assert len(found) == pytest.approx(10 * 24 * 300, rel=0.02)
    assert (hours >= 8).all()
    assert (hours >= 16).mean() == pytest.approx(0.75, abs=0.01)
    assert (np.diff(found) >= 0).all()


def test_reading_times_have_the_stated_mean_and_spread_or_are_the_measured_ones() -> None:
    found = reading_times(Scenario(model=MODEL, reading_minutes=5, reading_cv=0.6), 100_000, rng())
    assert (found.mean(), found.std() / found.mean()) == pytest.approx((5, 0.6), rel=0.02)
    measured = reading_times(Scenario(model=MODEL, reading_seen=(2.0, 9.0)), 100, rng())
    assert set(measured) == {2.0, 9.0}


def test_known_probabilities_are_kept_and_missing_labels_drawn_with_them() -> None:
    probabilities = np.repeat([0.2, 0.9, np.nan], 10_000)
    labels = np.full(30_000, np.nan)
    labels[0] = 1
    known = Known(arrived=np.arange(30_000.0), probabilities=probabilities, labels=labels, stat=np.zeros(30_000, dtype=bool))
    studies = draw(Scenario(model=MODEL, known=known), rng())
    assert np.array_equal(studies.risk, probabilities, equal_nan=True)
    assert studies.positive[0]
    assert [studies.positive[i : i + 10_000].mean() for i in (0, 10_000, 20_000)] == pytest.approx([0.2, 0.9, 0.55], abs=0.02)


# --- if the figures were otherwise (R17) ---------------------------------------------------------------------------


def test_the_variants_change_the_prevalence_by_half_and_the_specificity_by_twenty_points() -> None:
    studies = draw(replace(BUSY, days=300), rng())
    flagged = lambda s: (s.risk >= MODEL.t_high)[~np.isnan(s.risk) & ~s.positive].mean()  # noqa: E731
    found = {name: change(studies, rng(1)) for name, change in variants_of(MODEL.t_high)}
    assert [found[name].positive.mean() for name in ("prevalence -50 %", "prevalence +50 %")] == pytest.approx([0.05, 0.15], abs=0.005)
    assert flagged(found["specificity -20 points"]) - flagged(studies) == pytest.approx(0.2, abs=0.01)
    assert np.array_equal(found["specificity -20 points"].arrived, studies.arrived)
    assert as_drawn(studies, rng()) is studies


def test_a_changed_prevalence_leaves_sensitivity_and_specificity_as_they_were() -> None:
    studies = with_prevalence(draw(replace(BUSY, days=300), rng()), 1.5, rng(1))
    scored, flagged = ~np.isnan(studies.risk), studies.risk >= MODEL.t_high
    assert flagged[scored & studies.positive].mean() == pytest.approx(0.9, abs=0.015)
    assert flagged[scored & ~studies.positive].mean() == pytest.approx(0.1, abs=0.015)


def test_more_false_flags_make_the_flagged_wait_longer(busy: dict[str, Effect], drifted: dict[str, Effect]) -> None:
    assert drifted["deadlines"].classes[FLAGGED].mean.value > busy["deadlines"].classes[FLAGGED].mean.value
    assert drifted["deadlines"].classes[QUIET].mean.value > busy["deadlines"].classes[QUIET].mean.value


def test_the_load_says_when_more_arrives_than_can_be_read() -> None:
    assert BUSY.load == pytest.approx(0.97)
    assert replace(BUSY, readers=tuple(2 if 8 <= hour < 14 else 0 for hour in range(24))).load == pytest.approx(1.94)
    assert Scenario(model=MODEL, known=Known(arrived=np.arange(0, 1440, 4.0)), reading_minutes=4).load == pytest.approx(1.0)


def test_the_bound_of_a_setting_is_that_of_its_windows() -> None:
    fifo, strict, deadlines = settings_of(POLICY, [Setting(name="d", policy=with_windows(POLICY, 15, 60))])
    demoted = Setting(name="low", policy=replace(POLICY, demote_low=True, low=timedelta(minutes=200)))
    assert (fifo.bound, strict.bound, deadlines.bound, demoted.bound) == (0, float("inf"), 45, 170)
