"""The simulated reading room: every study is read once, nobody idles, and the list keeps the promises of the real one."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prioritizer.queue_simulation.scenario import Studies
from prioritizer.queue_simulation.simulate import (
    SimulatedRun,
    in_order_of_arrival,
    overtaken_by,
    readers_at,
    simulate,
    strictly_by_ai,
    with_windows,
)
from prioritizer.ranking.deadlines import RankingPolicy, Stage

T_HIGH, T_LOW = 0.5, 0.1
DAY_AND_NIGHT = (1,)
OFFICE_HOURS = tuple(2 if 8 <= hour < 18 else 0 for hour in range(24))
FEW_AT_NIGHT = tuple(3 if 8 <= hour < 18 else 1 for hour in range(24))


def studies_of(rows: list[tuple[int, int, bool, float | None]], ai: float = 1.0) -> Studies:
    """(minute of arrival, minutes of reading, STAT, risk) of each study, sorted by arrival; scored `ai` minutes after it."""
    arrived, reading, stat, risk = zip(*sorted(rows, key=lambda row: row[0]), strict=True)
    risks = np.array([math.nan if value is None else value for value in risk])
    at = np.array(arrived, dtype=np.float64)
    return Studies(
        arrived=at,
        reading=np.array(reading, dtype=np.float64),
        positive=np.zeros(len(at), dtype=bool),
        stat=np.array(stat),
        risk=risks,
        scored_at=np.where(np.isnan(risks), np.nan, at + ai),
    )


@st.composite
def days(draw: st.DrawFn, stat: bool = True) -> Studies:
    """Up to 40 studies over a day and a half, arrival times often equal, some never scored."""
    row = st.tuples(
        st.integers(0, 2000) | st.integers(500, 600),
        st.integers(1, 30),
        st.booleans() if stat else st.just(False),
        st.none() | st.sampled_from([0.0, 0.3, 0.5, 0.9]),
    )
    return studies_of(draw(st.lists(row, min_size=1, max_size=40)), ai=draw(st.sampled_from([0.0, 1.0, 45.0])))


POLICIES = st.builds(
    lambda high, more, demote, last_n, share: RankingPolicy(
        high=timedelta(minutes=high),
        neutral=timedelta(minutes=high + more),
        low=timedelta(minutes=high + more + 60),
        t_high=T_HIGH,
        t_low=T_LOW,
        demote_low=demote,
        last_n=last_n,
        max_high_share=share,
    ),
    st.integers(0, 200),
    st.integers(1, 300),
    st.booleans(),
    st.integers(1, 50),
    st.sampled_from([0.0, 0.4, 1.0]),
)
READERS = st.sampled_from([DAY_AND_NIGHT, (3,), OFFICE_HOURS, FEW_AT_NIGHT])


def waiting(studies: Studies, run: SimulatedRun, number: int) -> np.ndarray:
    """Who waits at the moment in which study `number` is taken."""
    return (studies.arrived <= run.begun[number]) & (run.turn > run.turn[number])


@given(days(), READERS, POLICIES)
def test_every_arrival_is_read_once_and_never_before_it_arrived(studies: Studies, readers: tuple[int, ...], policy: RankingPolicy) -> None:
    run = simulate(studies, readers, policy)
    assert sorted(run.turn.tolist()) == list(range(len(studies)))
    assert (run.begun >= studies.arrived).all()
    assert run.finished == pytest.approx(run.begun + studies.reading)


@given(days(), READERS, POLICIES)
def test_never_are_more_studies_read_at_once_than_readers_are_at_work_when_one_is_begun(
    studies: Studies, readers: tuple[int, ...], policy: RankingPolicy
) -> None:
    run = simulate(studies, readers, policy)
    for moment in run.begun.tolist():
        assert ((run.begun <= moment) & (run.finished > moment)).sum() <= max(readers)
        assert readers_at(readers, moment) > 0


@given(days(), READERS, POLICIES)
def test_no_reader_at_work_idles_while_a_study_waits(studies: Studies, readers: tuple[int, ...], policy: RankingPolicy) -> None:
    run = simulate(studies, readers, policy)
    hours = 60.0 * np.arange(int(run.begun.max() // 60) + 1)
    for moment in np.concatenate([studies.arrived, run.finished, hours]).tolist():
        if ((studies.arrived <= moment) & (run.begun > moment)).any():
            assert ((run.begun <= moment) & (run.finished > moment)).sum() >= readers_at(readers, moment)


@given(days(), READERS, POLICIES)
def test_without_flags_or_demotion_the_list_is_stat_and_order_of_arrival(
    studies: Studies, readers: tuple[int, ...], policy: RankingPolicy
) -> None:
    quiet = replace(policy, t_high=2.0, demote_low=False)
    run, fifo = simulate(studies, readers, quiet), simulate(studies, readers, in_order_of_arrival(policy))
    assert run.turn.tolist() == fifo.turn.tolist()
    assert (overtaken_by(studies, fifo) == 0).all()
    assert not fifo.raised.any()


@given(days(), READERS, POLICIES)
def test_nobody_is_overtaken_by_an_arrival_after_the_bound(studies: Studies, readers: tuple[int, ...], policy: RankingPolicy) -> None:
    run = simulate(studies, readers, policy)
    furthest = policy.low if policy.demote_low else policy.neutral
    assert overtaken_by(studies, run).max() <= (furthest - policy.high) / timedelta(minutes=1)


@given(days(), POLICIES)
def test_a_study_without_a_score_is_overtaken_only_within_neutral_less_high(studies: Studies, policy: RankingPolicy) -> None:
    run = simulate(studies, DAY_AND_NIGHT, policy)
    assert overtaken_by(studies, run)[np.isnan(studies.risk)].max(initial=0) <= policy.bound / timedelta(minutes=1)


@given(days(), READERS, POLICIES)
def test_no_other_study_is_taken_while_a_stat_study_waits(studies: Studies, readers: tuple[int, ...], policy: RankingPolicy) -> None:
    for rules in (policy, in_order_of_arrival(policy), strictly_by_ai(policy)):
        run = simulate(studies, readers, rules)
        for number in np.flatnonzero(~studies.stat):
            assert not (waiting(studies, run, int(number)) & studies.stat).any()


def in_turn(studies: Studies, policy: RankingPolicy) -> list[int]:
    """One reader, done the slow way: whenever the reader is free, STAT is taken, then what is flagged by now, then the oldest."""

    def key(number: int, now: float) -> tuple[int, int]:
        flagged = studies.risk[number] >= policy.t_high and studies.scored_at[number] <= now
        return (0 if studies.stat[number] else 1 if flagged else 2), number

    left, now, turns = set(range(len(studies))), 0.0, []
    while left:
        now = max(now, min(studies.arrived[i] for i in left))
        turns.append(min((i for i in left if studies.arrived[i] <= now), key=lambda i: key(i, now)))
        left.remove(turns[-1])
        now += studies.reading[turns[-1]]
    return turns


@given(days(), POLICIES)
def test_strictly_by_ai_is_what_a_reader_does_who_always_takes_the_oldest_flagged_study(studies: Studies, policy: RankingPolicy) -> None:
    run = simulate(studies, DAY_AND_NIGHT, strictly_by_ai(policy))
    assert np.argsort(run.turn).tolist() == in_turn(studies, policy)


@given(days(), READERS, POLICIES)
def test_deadlines_with_an_endless_neutral_window_are_strictly_by_ai(
    studies: Studies, readers: tuple[int, ...], policy: RankingPolicy
) -> None:
    endless = with_windows(replace(policy, demote_low=False, max_high_share=1.0), 0, 10_000_000)
    assert simulate(studies, readers, endless).turn.tolist() == simulate(studies, readers, strictly_by_ai(policy)).turn.tolist()


@settings(max_examples=30)
@given(days(stat=False), POLICIES)
def test_the_order_changes_nothing_about_how_much_work_is_done_when(studies: Studies, policy: RankingPolicy) -> None:
    same = replace(studies, reading=np.full(len(studies), 7.0))
    ends = [np.sort(simulate(same, DAY_AND_NIGHT, rules).finished) for rules in (policy, in_order_of_arrival(policy))]
    assert ends[0] == pytest.approx(ends[1])


def test_a_flagged_study_passes_those_that_wait_and_not_the_one_that_is_read() -> None:
    studies = studies_of([(0, 10, False, 0.0), (1, 10, False, 0.0), (2, 10, False, 0.9)])
    run = simulate(studies, DAY_AND_NIGHT, RankingPolicy(t_high=T_HIGH))
    assert run.begun.tolist() == [0, 20, 10]
    assert run.raised.tolist() == [False, False, True]
    assert run.due.tolist() == [120, 121, 32]
    assert overtaken_by(studies, run).tolist() == [0, 1, 0]


def test_a_study_stands_in_order_of_arrival_until_its_score_comes() -> None:
    rows = [(0, 10, False, 0.0), (1, 10, False, 0.0), (2, 10, False, 0.9)]
    assert simulate(studies_of(rows, ai=9), DAY_AND_NIGHT, RankingPolicy(t_high=T_HIGH)).turn.tolist() == [0, 1, 2]
    assert simulate(studies_of(rows, ai=8), DAY_AND_NIGHT, RankingPolicy(t_high=T_HIGH)).turn.tolist() == [0, 2, 1]


def test_in_shadow_and_pilot_the_simulated_list_is_in_order_of_arrival_too() -> None:
    studies = studies_of([(0, 10, False, 0.0), (1, 10, False, 0.0), (2, 10, False, 0.9)])
    assert simulate(studies, DAY_AND_NIGHT, RankingPolicy(t_high=T_HIGH, stage=Stage.PILOT)).turn.tolist() == [0, 1, 2]


def test_too_many_flags_suspend_raising_as_in_the_ledger() -> None:
    studies = studies_of([(minute, 60, False, 0.9) for minute in range(20)])
    run = simulate(studies, DAY_AND_NIGHT, RankingPolicy(t_high=T_HIGH, max_high_share=0.4, last_n=5))
    # Five are needed to judge, the one being scored counts as it stood before: of the first five, four are HIGH.
    assert run.suspended.tolist() == [False] * 4 + [True] * 16
    assert run.due[3:6].tolist() == [33, 124, 125]


def test_readers_take_nothing_before_they_open() -> None:
    run = simulate(studies_of([(60, 5, False, 0.0), (61, 5, False, 0.9)]), OFFICE_HOURS, RankingPolicy(t_high=T_HIGH))
    assert run.begun.tolist() == [480, 480]


def test_a_low_study_waits_longer_only_where_the_site_demotes() -> None:
    studies = studies_of([(0, 30, False, 0.3), (1, 30, False, 0.0), (2, 30, False, 0.3)])
    for demote, turn in ((True, [0, 2, 1]), (False, [0, 1, 2])):
        rules = RankingPolicy(t_high=T_HIGH, t_low=T_LOW, demote_low=demote)
        assert simulate(studies, DAY_AND_NIGHT, rules).turn.tolist() == turn
