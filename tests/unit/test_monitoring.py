"""Turn-around, drift and alarms, on made studies whose answer is known."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prioritizer.monitoring import (
    Rule,
    Seen,
    agreement,
    board,
    group_of_age,
    in_order_of_arrival,
    label_free,
    psi,
    psi_of_embeddings,
    waits,
)

NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
PLAIN = Seen(
    arrived=NOON, began=None, read=None, stat=False, raised=False, overdue=False, ai_state="SCORED", reason="", risk=0.2, sender="DX1",
    age_years=3.0, sex="F",
)  # fmt: skip


def study(arrived: float, begun: float | None = None, read: float | None = None, **other: object) -> Seen:
    def at(minutes: float | None) -> datetime | None:
        return None if minutes is None else NOON + timedelta(minutes=minutes)

    return replace(PLAIN, arrived=NOON + timedelta(minutes=arrived), began=at(begun), read=at(read), **other)  # type: ignore[arg-type]


def test_readings_given_to_the_longest_waiting() -> None:
    # b overtook a: in order of arrival a has b's reading and b has a's.
    a, b, c = study(0, 20, 25), study(5, 10, 15, raised=True), study(30, 31, 40)
    assert in_order_of_arrival([a, b, c]) == [b.read, a.read, c.read]


def test_nobody_is_read_before_arriving_in_the_other_order_either() -> None:
    a, late, stat = study(0, 1, 5), study(6, 7, 12), study(13, 13, 20, stat=True)
    assert in_order_of_arrival([a, late, stat]) == [a.read, late.read, stat.read]


def test_stat_is_read_first_in_order_of_arrival_too() -> None:
    a, stat = study(0, 10, 15), study(5, 20, 25, stat=True)
    assert in_order_of_arrival([a, stat]) == [stat.read, a.read]


READINGS = st.lists(
    st.tuples(st.floats(0, 500), st.floats(0, 60), st.floats(0, 30), st.booleans(), st.booleans()), min_size=1, max_size=40
).map(lambda rows: [study(at, at + wait, at + wait + took, stat=stat, raised=raised) for at, wait, took, stat, raised in rows])


@given(READINGS)
def test_an_order_gives_to_some_what_it_takes_from_others(studies: list[Seen]) -> None:
    moments = in_order_of_arrival(studies)
    assert sorted(moments) == sorted(study.read for study in studies if study.read)
    assert all(moment >= study.arrived for moment, study in zip(moments, studies, strict=True))
    told = {one.group: one for one in waits(studies)}
    assert told["all"].n == len(studies) == sum(one.n for name, one in told.items() if name != "all")


@given(READINGS)
def test_studies_that_were_read_in_order_of_arrival_have_no_other_order(studies: list[Seen]) -> None:
    begun = sorted(s.began for s in studies if s.began)
    done = sorted(s.read for s in studies if s.read)
    first_come = sorted(studies, key=lambda s: s.arrived)
    served = [replace(s, stat=False, began=b, read=max(b, r)) for s, b, r in zip(first_come, begun, done, strict=True)]
    if all(s.began and s.began >= s.arrived for s in served):
        for one in waits(served):
            assert (one.median, one.p95, one.longest) == pytest.approx((one.fifo_median, one.fifo_p95, one.fifo_longest))


def test_drift_is_told_beside_what_chance_gives() -> None:
    rng = np.random.default_rng(1)
    same = psi(rng.normal(size=1000), rng.normal(size=500), "scores")
    moved = psi(rng.normal(size=1000), rng.normal(0.8, 1, size=500), "scores")
    assert same is not None
    assert moved is not None
    assert same.value == pytest.approx(same.by_chance, abs=0.03)
    assert moved.beyond_chance > 0.25 > same.beyond_chance
    assert psi(rng.normal(size=99), rng.normal(size=500), "scores") is None


def test_the_index_is_that_of_the_book() -> None:
    # Siddiqi 2006: two bins, 50:50 against 30:70.
    reference = np.repeat([0.0, 1.0], 500)
    current = np.repeat([0.0, 1.0], [300, 700])
    found = psi(reference, current, "scores")
    assert found is not None
    assert found.value == pytest.approx((0.3 - 0.5) * np.log(0.3 / 0.5) + (0.7 - 0.5) * np.log(0.7 / 0.5))


def test_a_shift_along_a_principal_axis_is_found() -> None:
    rng = np.random.default_rng(2)
    reference = rng.normal(size=(400, 16)) * np.linspace(3, 0.1, 16)
    still, moved = rng.normal(size=(400, 16)) * np.linspace(3, 0.1, 16), rng.normal(size=(400, 16)) * np.linspace(3, 0.1, 16)
    moved[:, 0] += 3
    assert psi_of_embeddings(reference, moved).beyond_chance > 0.25  # type: ignore[union-attr]
    assert psi_of_embeddings(reference, still).beyond_chance < 0.1  # type: ignore[union-attr]


SAID = [
    replace(PLAIN, raised=raised, finding=finding, blind=blind)
    for raised, finding, blind, count in (
        (True, "present", True, 6), (True, "absent", True, 4), (False, "present", False, 2), (False, "absent", False, 8), (True, None, None, 5),
    )
    for _ in range(count)
]  # fmt: skip


def test_agreement_with_readers_blinded_apart() -> None:
    every = agreement(SAID)
    assert {name: (s.hits, s.of) for name, s in every.items()} == {"sensitivity": (6, 8), "specificity": (8, 12), "ppv": (6, 10)}
    assert {name: (s.hits, s.of) for name, s in agreement(SAID, blind=True).items()} == {
        "sensitivity": (6, 6), "specificity": (0, 4), "ppv": (6, 10),
    }  # fmt: skip
    assert agreement(SAID, blind=False)["ppv"].of == 0


def test_figures_without_labels_are_those_of_calibrated_probabilities() -> None:
    rng = np.random.default_rng(3)
    risks = rng.random(20000)
    studies = [replace(PLAIN, risk=float(risk), raised=bool(risk > 0.6)) for risk in risks]
    sick = rng.random(20000) < risks
    found = label_free(studies)
    assert found["sensitivity"] == pytest.approx(np.mean(risks[sick] > 0.6), abs=0.02)
    assert found["specificity"] == pytest.approx(np.mean(risks[~sick] <= 0.6), abs=0.02)
    assert found["ppv"] == pytest.approx(np.mean(sick[risks > 0.6]), abs=0.02)


@pytest.mark.parametrize(
    ("age", "words"),
    [
        (None, "age not known"),
        (0.3, "under 1 year"),
        (1.0, "1 to 5 years"),
        (17.9, "6 to 17 years"),
        (90.0, "65 years and over"),
        (130.0, "65 years and over"),
    ],
)
def test_ages_are_told_as_people_say_them(age: float | None, words: str) -> None:
    assert group_of_age(age) == words


def rule(name: str, threshold: float) -> Rule:
    return Rule(name=name, threshold=threshold, owner="Dr Ito", action="look")


@pytest.mark.parametrize(
    ("name", "threshold", "alarms"),
    [
        ("sensitivity", 0.99, True),
        ("sensitivity", 0.7, False),
        ("ppv", 0.99, True),
        ("raised", 0.3, True),
        ("raised", 0.5, False),
        ("overdue", 0.0, False),
    ],
)
def test_an_alarm_needs_the_whole_interval(name: str, threshold: float, alarms: bool) -> None:
    found = board(SAID, [], [rule(name, threshold)])
    assert [one["name"] for one in found["alarms"]] == ([name] if alarms else [])
    if alarms:
        assert (found["alarms"][0]["owner"], found["alarms"][0]["action"]) == ("Dr Ito", "look")


def test_drift_alarms_beyond_chance() -> None:
    rng = np.random.default_rng(4)
    drift = psi(rng.normal(size=1000), rng.normal(2, 1, size=500), "scores")
    assert drift is not None
    assert [one["name"] for one in board([], [drift], [rule("psi-scores", 0.25)])["alarms"]] == ["psi-scores"]
    assert not board([], [drift], [rule("psi-embeddings", 0.25)])["alarms"]


@given(READINGS)
def test_a_board_is_json(studies: list[Seen]) -> None:
    found = json.loads(json.dumps(board(studies, [], []), allow_nan=False))
    assert found["arrived"] == found["read"] == len(studies)
    assert sum(one["arrived"] for one in found["groups"] if one["kind"] == "sex") == len(studies)


def test_a_board_of_nothing() -> None:
    found = json.loads(json.dumps(board([], [], []), allow_nan=False))
    assert (found["arrived"], found["waits"], found["raised"]["value"]) == (0, [], None)
