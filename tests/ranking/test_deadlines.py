"""Virtual deadlines: nobody falls out of the list, whatever the model says."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prioritizer.ranking.deadlines import Band, RankingPolicy, Stage, Standing, band_of, high_is_suspended, place, sort_key, study_ai_state
from prioritizer.study import AIState

START = datetime(2026, 11, 22, 8, 0, tzinfo=UTC)
AI_STATES = st.sampled_from(AIState)


@st.composite
def standings(draw: st.DrawFn) -> list[Standing]:
    """Up to 40 studies of one day, arrival times often equal."""
    minutes = draw(st.lists(st.integers(0, 600), min_size=1, max_size=40))
    return [
        Standing(
            study_uid=f"1.2.{number}",
            first_received_at=START + timedelta(minutes=minute),
            stat=draw(st.booleans()) and draw(st.booleans()),
            ai_state=draw(AI_STATES),
            risk=draw(st.none() | st.floats(0, 1)),
        )
        for number, minute in enumerate(minutes)
    ]


@st.composite
def policies(draw: st.DrawFn, **fixed: object) -> RankingPolicy:
    """Any policy that the configuration lets through: high < neutral <= low."""
    high = draw(st.integers(0, 300))
    neutral = high + draw(st.integers(1, 300))
    low = neutral + draw(st.integers(0, 300))
    values = {
        "t_high": draw(st.floats(0, 1)),
        "t_low": draw(st.floats(0, 1)),
        "demote_low": draw(st.booleans()),
        "stage": draw(st.sampled_from(Stage)),
    } | fixed
    return RankingPolicy(high=timedelta(minutes=high), neutral=timedelta(minutes=neutral), low=timedelta(minutes=low), **values)


def ranked(studies: list[Standing], policy: RankingPolicy, *, suspended: bool = False) -> list[Standing]:
    return sorted(studies, key=lambda s: sort_key(s, place(s, policy, high_suspended=suspended).due_at))


def stat_then_fifo(studies: list[Standing]) -> list[Standing]:
    return sorted(studies, key=lambda s: (not s.stat, s.first_received_at, s.study_uid))


@given(standings(), policies(), st.booleans())
def test_a_stat_study_is_never_overtaken_by_ai(studies: list[Standing], policy: RankingPolicy, suspended: bool):
    order = ranked(studies, policy, suspended=suspended)
    stats = [s for s in order if s.stat]
    assert order[: len(stats)] == stat_then_fifo(stats)


@given(standings(), policies(), st.booleans())
def test_no_study_is_overtaken_by_one_that_came_later_than_the_bound(studies: list[Standing], policy: RankingPolicy, suspended: bool):
    order = [s for s in ranked(studies, policy, suspended=suspended) if not s.stat]
    for index, study in enumerate(order):
        allowed = policy.window(band_of(study, policy)) - policy.high
        if policy.stage is not Stage.ACTIVE:
            allowed = timedelta(0)
        overtaken_by = [other.first_received_at - study.first_received_at for other in order[:index]]
        assert max(overtaken_by, default=timedelta(0)) <= max(allowed, timedelta(0))


@given(standings(), policies(demote_low=False))
def test_without_demotion_the_bound_is_neutral_less_high_for_everyone(studies: list[Standing], policy: RankingPolicy):
    order = [s for s in ranked(studies, policy) if not s.stat]
    for index, study in enumerate(order):
        overtaken_by = [other.first_received_at - study.first_received_at for other in order[:index]]
        assert max(overtaken_by, default=timedelta(0)) <= policy.bound


@given(standings(), policies(demote_low=False))
def test_without_demotion_only_raised_studies_overtake(studies: list[Standing], policy: RankingPolicy):
    order = [s for s in ranked(studies, policy) if not s.stat]
    for index, study in enumerate(order):
        for other in order[:index]:
            if other.first_received_at > study.first_received_at:
                assert band_of(other, policy) is Band.HIGH


@given(standings(), policies(), st.randoms(use_true_random=False))
def test_the_order_does_not_depend_on_the_order_of_the_input(studies: list[Standing], policy: RankingPolicy, rng: random.Random):
    shuffled = list(studies)
    rng.shuffle(shuffled)
    assert ranked(shuffled, policy) == ranked(studies, policy)


@given(standings(), policies())
def test_the_order_is_total(studies: list[Standing], policy: RankingPolicy):
    keys = [sort_key(s, place(s, policy).due_at) for s in studies]
    assert len(set(keys)) == len(studies)


@given(standings(), policies(t_high=2.0, t_low=0.0))
def test_a_dead_model_gives_stat_and_order_of_arrival(studies: list[Standing], policy: RankingPolicy):
    assert ranked(studies, policy) == stat_then_fifo(studies)


@given(standings(), policies(), st.sampled_from([AIState.WAITING, AIState.NOT_SCORED, AIState.FAILED]))
def test_studies_without_a_score_stand_in_order_of_arrival(studies: list[Standing], policy: RankingPolicy, state: AIState):
    unscored = [
        Standing(study_uid=s.study_uid, first_received_at=s.first_received_at, stat=s.stat, ai_state=state, risk=s.risk) for s in studies
    ]
    assert ranked(unscored, policy) == stat_then_fifo(unscored)


@given(standings(), policies(), st.sampled_from([Stage.SHADOW, Stage.PILOT]), st.booleans())
def test_shadow_and_pilot_are_stat_and_order_of_arrival(studies: list[Standing], policy: RankingPolicy, stage: Stage, suspended: bool):
    quiet = RankingPolicy(
        high=policy.high, neutral=policy.neutral, low=policy.low, t_high=policy.t_high, stage=stage, demote_low=True, t_low=1.0
    )
    assert ranked(studies, quiet, suspended=suspended) == stat_then_fifo(studies)


@given(standings(), policies(demote_low=False))
def test_suspended_raising_is_order_of_arrival(studies: list[Standing], policy: RankingPolicy):
    assert ranked(studies, policy, suspended=True) == stat_then_fifo(studies)


@given(standings(), policies())
def test_a_new_study_moves_nobody_relative_to_another(studies: list[Standing], policy: RankingPolicy):
    before = ranked(studies[:-1], policy)
    after = [s for s in ranked(studies, policy) if s is not studies[-1]]
    assert before == after


def scored(risk: float | None, *, stat: bool = False, state: AIState = AIState.SCORED) -> Standing:
    return Standing(study_uid="1.2.3", first_received_at=START, stat=stat, ai_state=state, risk=risk)


@pytest.mark.parametrize(
    ("risk", "demote", "band", "minutes"),
    [
        (0.5, False, Band.HIGH, 30),
        (0.499, False, Band.NEUTRAL, 120),
        (0.01, False, Band.NEUTRAL, 120),
        (0.01, True, Band.LOW, 180),
        (0.1, True, Band.NEUTRAL, 120),
        (None, True, Band.NEUTRAL, 120),
    ],
)
def test_risk_decides_band_and_deadline(risk: float | None, demote: bool, band: Band, minutes: int):
    found = place(scored(risk), RankingPolicy(t_high=0.5, t_low=0.1, demote_low=demote))
    assert (found.band, found.due_at) == (band, START + timedelta(minutes=minutes))


@pytest.mark.parametrize(
    ("standing", "policy", "suspended", "reason"),
    [
        (scored(0.9), RankingPolicy(), False, "raised: due 30 min after arrival"),
        (
            scored(0.9),
            RankingPolicy(),
            True,
            "raising is suspended: more than 40% of the last 50 studies were raised, so the order of arrival holds",
        ),
        (scored(0.9, stat=True), RankingPolicy(), False, "STAT: first, in order of arrival"),
        (scored(0.9), RankingPolicy(stage=Stage.PILOT), False, "order of arrival (stage pilot)"),
        (scored(0.0), RankingPolicy(t_low=0.1, demote_low=True), False, "placed later: due 180 min after arrival, as this site wants it"),
        (scored(0.2), RankingPolicy(), False, "order of arrival: due 120 min after arrival"),
    ],
)
def test_every_place_says_why(standing: Standing, policy: RankingPolicy, suspended: bool, reason: str):
    assert place(standing, policy, high_suspended=suspended).reason == reason


@pytest.mark.parametrize(("high", "total", "suspended"), [(20, 50, False), (21, 50, True), (49, 49, False), (0, 50, False), (50, 50, True)])
def test_raising_is_suspended_above_the_share_of_a_full_sample(high: int, total: int, suspended: bool):
    bands = [Band.HIGH] * high + [Band.NEUTRAL] * (total - high)
    assert high_is_suspended(bands, RankingPolicy(max_high_share=0.4, last_n=50)) is suspended


@pytest.mark.parametrize(
    ("received", "scored_", "failed", "ineligible", "state"),
    [
        (1, 0, 0, 0, AIState.WAITING),
        (1, 1, 1, 1, AIState.SCORED),
        (1, 0, 1, 1, AIState.WAITING),
        (0, 0, 1, 1, AIState.FAILED),
        (0, 0, 0, 1, AIState.NOT_SCORED),
    ],
)
def test_the_ai_state_follows_the_instances(received: int, scored_: int, failed: int, ineligible: int, state: AIState):
    assert study_ai_state(received, scored_, failed, ineligible) is state
