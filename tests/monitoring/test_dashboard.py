"""Turn-around, drift and alarms, on made studies whose answer is known."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prioritizer.monitoring.agreement import agreement, label_free
from prioritizer.monitoring.dashboard import MAX_GROUPS, Rule, board
from prioritizer.monitoring.drift import MIN_FOR_DRIFT, psi, psi_of_embeddings
from prioritizer.monitoring.studies import MonitoredStudy, StandingFeedback
from prioritizer.monitoring.turnaround import KINDS, group_of_age, in_order_of_arrival, unread, waits

NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
PLAIN = MonitoredStudy(
    arrived=NOON, began=None, read=None, stat=False, raised=False, overdue=False, ai_state="SCORED", reason="", risk=0.2, sender="DX1",
    age_years=3.0, sex="F",
)  # fmt: skip


def study(arrived: float, begun: float | None = None, read: float | None = None, **other: object) -> MonitoredStudy:
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
def test_an_order_gives_to_some_what_it_takes_from_others(studies: list[MonitoredStudy]) -> None:
    moments = in_order_of_arrival(studies)
    assert sorted(moments) == sorted(study.read for study in studies if study.read)
    assert all(moment >= study.arrived for moment, study in zip(moments, studies, strict=True))
    told = {one.group: one for one in waits(studies)}
    assert told["all"].n == len(studies) == sum(one.n for name, one in told.items() if name != "all")


@given(READINGS)
def test_studies_that_were_read_in_order_of_arrival_have_no_other_order(studies: list[MonitoredStudy]) -> None:
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


def said(finding: str, raised: bool | None, blind: bool = False) -> StandingFeedback:
    return StandingFeedback(finding=finding, blind=blind, raised=raised)


SAID = [
    replace(PLAIN, raised=raised, said=(said(finding, raised, blind),) if finding else ())
    for raised, finding, blind, count in (
        (True, "present", True, 6), (True, "absent", True, 4), (False, "present", False, 2), (False, "absent", False, 8), (True, "", False, 5),
    )
    for _ in range(count)
]  # fmt: skip


def test_agreement_with_readers_blinded_apart() -> None:
    every = agreement(SAID)
    assert {name: (s.hits, s.of) for name, s in every.items()} == {"sensitivity": (6, 8), "specificity": (8, 12), "ppv": (6, 10)}
    # Of the 15 raised 6 in 10 have the finding, of the 10 others 2 in 10.
    assert every["sensitivity"].value == pytest.approx(15 * 0.6 / (15 * 0.6 + 10 * 0.2))
    assert every["specificity"].value == pytest.approx(10 * 0.8 / (10 * 0.8 + 15 * 0.4))
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
    assert found["sensitivity"].value == pytest.approx(np.mean(risks[sick] > 0.6), abs=0.02)
    assert found["specificity"].value == pytest.approx(np.mean(risks[~sick] <= 0.6), abs=0.02)
    assert found["ppv"].value == pytest.approx(np.mean(sick[risks > 0.6]), abs=0.02)


@pytest.mark.parametrize(
    ("age", "words"),
    [
        (None, "age not known"),
        (-0.1, "age not known"),
        (float("nan"), "age not known"),
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
        ("raised", 0.6, False),
        ("overdue", 0.0, False),
    ],
)
def test_an_alarm_needs_the_whole_interval(name: str, threshold: float, alarms: bool) -> None:
    found = board(SAID * 12, NOON, rules=[rule(name, threshold)])
    assert [one["name"] for one in found["alarms"]] == ([name] if alarms else [])
    if alarms:
        assert (found["alarms"][0]["owner"], found["alarms"][0]["action"]) == ("Dr Ito", "look")


def test_drift_alarms_beyond_chance() -> None:
    rng = np.random.default_rng(4)
    drift = psi(rng.normal(size=1000), rng.normal(2, 1, size=500), "scores")
    assert drift is not None
    assert [one["name"] for one in board([], NOON, [drift], [rule("psi-scores", 0.25)])["alarms"]] == ["psi-scores"]
    assert not board([], NOON, [drift], [rule("psi-embeddings", 0.25)])["alarms"]


@given(READINGS)
def test_a_board_is_json(studies: list[MonitoredStudy]) -> None:
    found = json.loads(json.dumps(board(studies, NOON), allow_nan=False))
    assert found["arrived"] == found["read"] == len(studies)
    assert sum(one["arrived"] for one in found["groups"] if one["kind"] == "sex") == len(studies)


def test_a_board_of_nothing() -> None:
    found = json.loads(json.dumps(board([], NOON), allow_nan=False))
    assert (found["arrived"], found["waits"], found["raised"]["value"]) == (0, [], None)


# --- those that wait, and those placed later ------------------------------------------------------------------------------


def test_a_study_that_nobody_reads_is_the_longest() -> None:
    studies = [study(0, 10, 15), study(5, stat=True), study(20, raised=True), study(8), study(9)]
    assert max(one.longest for one in waits(studies)) == 15
    found = {one.group: (one.n, one.longest) for one in unread(studies, NOON + timedelta(days=3))}
    assert found == {"STAT": (1, 4315), "raised": (1, 4300), "order of arrival": (2, 4312), "all": (4, 4315)}
    assert board(studies, NOON + timedelta(days=3))["unread"][0] == {"group": "STAT", "n": 1, "longest": 4315}


def test_where_all_were_read_nothing_waits() -> None:
    assert unread([study(0, 10, 15)], NOON) == []


def test_what_the_site_places_later_is_a_group_of_its_own_and_is_not_called_normal() -> None:
    studies = [study(0, 10, 15), study(0, 100, 180, later=True), study(1, 20, 30, later=True, stat=True), study(5, later=True)]
    read = {one.group: (one.n, one.longest) for one in waits(studies)}
    assert read == {
        "STAT": (1, 29), "placed later by the site": (1, 180), "order of arrival": (1, 15), "all": (3, 180),
    }  # fmt: skip
    assert [one.group for one in unread(studies, NOON)] == ["placed later by the site", "all"]
    assert not any(word in name.lower() for name in read for word in ("low", "normal"))


@given(READINGS, st.lists(st.booleans(), min_size=40, max_size=40))
def test_every_study_is_in_one_group_and_in_all(studies: list[MonitoredStudy], unseen: list[bool]) -> None:
    mixed = [replace(one, read=None, began=None) if alone else one for one, alone in zip(studies, unseen, strict=False)]
    for told in (waits(mixed), unread(mixed, NOON)):
        counts = {one.group: one.n for one in told}
        assert counts.pop("all", 0) == sum(counts.values())


# --- words of readers ---------------------------------------------------------------------------------------------------


def test_a_study_of_which_two_readers_speak_counts_once_by_the_newest_word() -> None:
    both = replace(PLAIN, raised=True, said=(said("present", True), said("absent", True)))
    found = agreement([both])
    assert (found["ppv"].hits, found["ppv"].of) == (0, 1)
    told = board([both], NOON)
    assert (told["confirmed"], told["not_confirmed"]) == (0, 1)


def test_a_blinded_word_is_not_lost_when_another_reader_speaks_later() -> None:
    both = replace(PLAIN, raised=True, said=(said("absent", True, blind=True), said("present", True)))
    assert [agreement([both], blind=blind)["ppv"].hits for blind in (None, True, False)] == [1, 0, 1]
    assert [agreement([both], blind=blind)["ppv"].of for blind in (None, True, False)] == [1, 1, 1]


def test_a_word_is_judged_by_what_ai_said_then_and_the_rest_by_what_it_says_now() -> None:
    # Raised when the reader spoke; since then a new calibration raises it no longer.
    moved = replace(PLAIN, raised=False, risk=0.1, said=(said("present", True),))
    told = board([moved], NOON)
    assert (told["confirmed"], told["missed"], told["raised"]["hits"]) == (1, 0, 0)
    assert told["label_free"]["specificity"] == 1.0


def test_a_word_on_a_study_that_ai_has_not_scored_says_nothing_of_ai() -> None:
    unscored = replace(PLAIN, ai_state="NOT_SCORED", risk=None, said=(said("present", None),))
    assert all(found.of == 0 for found in agreement([unscored]).values())
    assert board([unscored], NOON)["missed"] == 0


# --- at the edges -------------------------------------------------------------------------------------------------------


def test_a_board_of_one_study() -> None:
    found = json.loads(json.dumps(board([study(0, 5, 20, raised=True)], NOON), allow_nan=False))
    assert [(one["group"], one["median"], one["p95"], one["longest"], one["fifo_longest"]) for one in found["waits"]] == [
        ("raised", 20, 20, 20, 20), ("all", 20, 20, 20, 20),
    ]  # fmt: skip
    assert found["raised"] == {"value": 1.0, "low": pytest.approx(0.025), "high": 1.0, "hits": 1, "of": 1}
    assert found["label_free"]["specificity"] == 0.0


def test_a_board_on_which_all_are_raised() -> None:
    found = json.loads(json.dumps(board([study(at, raised=True) for at in range(20)], NOON + timedelta(hours=1)), allow_nan=False))
    assert (found["raised"]["value"], found["raised"]["high"]) == (1.0, 1.0)
    assert found["raised"]["low"] == pytest.approx(0.025 ** (1 / 20)), "Clopper and Pearson at n of n"
    assert found["label_free"] == {
        "sensitivity": 1.0,
        "specificity": 0.0,
        "ppv": pytest.approx(0.2),
        "intervals": found["label_free"]["intervals"],
        "assumption": found["label_free"]["assumption"],
    }


def test_nothing_of_many_has_an_exact_interval_too() -> None:
    found = board([study(at) for at in range(20)], NOON)["raised"]
    assert (found["value"], found["low"]) == (0.0, 0.0)
    assert found["high"] == pytest.approx(1 - 0.025 ** (1 / 20))


@pytest.mark.parametrize("threshold", [0.0, 0.0249, 0.0251])
def test_an_alarm_at_the_edge_of_the_interval(threshold: float) -> None:
    one = [study(0, overdue=True)]
    assert bool(board(one, NOON, rules=[rule("overdue", threshold)])["alarms"]) is (threshold < 0.025)


def test_stat_is_read_first_in_the_order_of_arrival_whenever_a_reader_was_free() -> None:
    # Three readings begin at 10, 20 and 30; the STAT study comes at 15, is read last, and would have been read in the second.
    first, second, stat = study(0, 10, 12), study(1, 20, 22), study(15, 30, 32, stat=True)
    told = {one.group: one for one in waits([first, second, stat])}
    assert (told["STAT"].longest, told["STAT"].fifo_longest) == (17, 7)
    assert told["order of arrival"].fifo_longest == 31


def test_a_study_held_for_long_takes_up_its_readers_time_not_anothers() -> None:
    # Claimed at 1 and read at 100; the other was begun at 50. In order of arrival nothing would have been otherwise.
    held, other = study(0, 1, 100), study(40, 50, 55)
    assert in_order_of_arrival([held, other]) == [held.read, other.read]


# --- drift --------------------------------------------------------------------------------------------------------------


def test_tenths_are_those_of_the_reference_and_an_empty_one_is_no_infinity() -> None:
    reference, beyond = np.linspace(0, 1, 1000), np.full(200, 5.0)
    found = psi(reference, beyond, "scores")
    assert found is not None
    assert np.isfinite(found.value)
    assert found.value == pytest.approx((1 - 0.1) * np.log(1 / 0.1) + 9 * (0.1 - 1e-4) * np.log(0.1 / 1e-4), rel=1e-3)
    assert (found.n, found.reference) == (200, 1000)


def test_what_is_no_number_breaks_no_board() -> None:
    rng = np.random.default_rng(5)
    reference = rng.normal(size=(200, 8))
    current = rng.normal(size=(200, 8))
    current[0, 0], current[1, 3] = np.inf, np.nan
    scores, embeddings = psi(reference[:, 0], current[:, 0], "scores"), psi_of_embeddings(reference, current)
    assert scores is not None
    assert embeddings is not None
    assert (scores.n, embeddings.n) == (199, 198)
    assert np.isfinite([scores.value, embeddings.value]).all()
    assert psi_of_embeddings(reference, np.full((MIN_FOR_DRIFT, 8), np.nan)) is None


def test_the_largest_of_several_axes_is_set_beside_what_chance_gives_the_largest() -> None:
    rng = np.random.default_rng(6)
    drawn = [psi_of_embeddings(rng.normal(size=(200, 4)), rng.normal(size=(200, 4))) for _ in range(200)]
    values = [one.value for one in drawn if one is not None]
    by_chance = next(one.by_chance for one in drawn if one is not None)
    assert np.mean(values) == pytest.approx(by_chance, rel=0.1)


# --- groups -------------------------------------------------------------------------------------------------------------


def test_however_many_scanners_call_the_board_tells_a_few_and_loses_no_study() -> None:
    studies = [replace(PLAIN, sender=f"AE{number}") for number in range(300)] + [PLAIN] * 3
    scanners = [one for one in board(studies, NOON)["groups"] if one["kind"] == "scanner"]
    assert len(scanners) == MAX_GROUPS + 1
    assert (scanners[0]["group"], scanners[0]["arrived"]) == ("DX1", 3)
    assert (scanners[-1]["group"], sum(one["arrived"] for one in scanners)) == ("all other scanners", 303)


@pytest.mark.parametrize(
    ("kind", "sent", "told"),
    [
        ("scanner", "DX1 ", "DX1"),
        ("scanner", "", "not known"),
        ("scanner", "A\r\nB\udcff", "A??B?"),
        ("scanner", "all other scanners", "all other scanne"),
        ("sex", "f", "F"),
        ("sex", "O", "O"),
        ("sex", "Mrs Muster", "not known"),
        ("sex", "", "not known"),
    ],
)
def test_a_group_has_a_name_that_no_sender_can_abuse(kind: str, sent: str, told: str) -> None:
    assert KINDS[kind](replace(PLAIN, **{"sender" if kind == "scanner" else kind: sent})) == told
