"""Sensitivity and specificity where readers speak of some studies rather than of others."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prioritizer.monitoring.agreement import agreement, asked_for, spoken
from prioritizer.monitoring.dashboard import Rule, board
from prioritizer.monitoring.studies import MonitoredStudy, StandingFeedback
from prioritizer.monitoring.verification import NEEDED, VerificationGroup, corrected

NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
LIMIT = (Rule(name="sensitivity", threshold=0.8, owner="physicist", action="look"),)
SENSITIVITY, SPECIFICITY = 0.7, 0.9


def one(*, raised: bool, finding: str, patient: str = "", asked: bool = False) -> MonitoredStudy:
    """A scored study; `finding` is empty where nobody said what they found."""
    return MonitoredStudy(
        arrived=NOON, began=None, read=NOON + timedelta(minutes=9), stat=False, raised=raised, overdue=False, ai_state="SCORED", reason="",
        risk=0.5, sender="DX1", age_years=3.0, sex="F", patient=patient, asked=asked,
        said=(StandingFeedback(finding=finding, blind=False, raised=raised),) if finding else (),
    )  # fmt: skip


def period(words_on_raised: float, words_on_others: float, seed: int = 0, sensitivity: float = SENSITIVITY) -> list[MonitoredStudy]:
    """A month of 4000 studies, a tenth with the finding; readers speak of this share of each band."""
    rng = np.random.default_rng(seed)
    sick = rng.random(4000) < 0.1
    raised = rng.random(4000) < np.where(sick, sensitivity, 1 - SPECIFICITY)
    speaks = rng.random(4000) < np.where(raised, words_on_raised, words_on_others)
    return [
        one(raised=bool(mark), finding=("present" if ill else "absent") if said else "")
        for ill, mark, said in zip(sick, raised, speaks, strict=True)
    ]


VOLUNTARY = [(1.0, 1.0), (0.9, 0.9), (0.9, 0.3), (0.9, 0.1), (0.5, 0.02)]


@pytest.mark.parametrize(("on_raised", "on_others"), VOLUNTARY)
def test_figures_do_not_hang_on_which_studies_readers_speak_of(on_raised: float, on_others: float) -> None:
    found = [agreement(period(on_raised, on_others, seed)) for seed in range(12)]
    for name, truth in (("sensitivity", SENSITIVITY), ("specificity", SPECIFICITY)):
        assert sum(one[name].low <= truth <= one[name].high for one in found) >= 9, name
    assert np.mean([one["specificity"].value for one in found]) == pytest.approx(SPECIFICITY, abs=0.01)


@pytest.mark.parametrize(("on_raised", "on_others"), VOLUNTARY)
def test_the_alarm_does_not_go_quiet_where_few_of_the_others_are_spoken_of(on_raised: float, on_others: float) -> None:
    alarms = [bool(board(period(on_raised, on_others, seed), NOON, rules=LIMIT)["alarms"]) for seed in range(5)]
    assert all(alarms)


def test_no_alarm_where_readers_speak_of_enough_of_a_good_network() -> None:
    for on_raised, on_others in ((1.0, 1.0), (0.9, 0.3)):
        assert not board(period(on_raised, on_others, sensitivity=0.95), NOON, rules=LIMIT)["alarms"]


def test_a_figure_that_rests_on_too_few_is_not_given_and_says_of_which() -> None:
    studies = [one(raised=True, finding="present")] * 40 + [one(raised=False, finding="absent")] * 3 + [one(raised=False, finding="")] * 50
    found = board(studies, NOON, rules=LIMIT)
    told = found["words"]["all"]["sensitivity"]
    assert (told["value"], told["why"]) == (None, f"not yet: 3 of {NEEDED} needed among studies that were not moved up")
    assert (told["hits"], told["of"]) == (40, 40)
    (alarm,) = found["alarms"]
    assert alarm["said"].startswith("sensitivity is not known: not yet: 3 of 30")


def test_where_nobody_says_anything_nothing_alarms() -> None:
    found = board([one(raised=True, finding="")] * 40, NOON, rules=LIMIT)
    assert not found["alarms"]
    assert found["words"]["all"]["sensitivity"]["why"] == f"not yet: 0 of {NEEDED} needed among studies that were moved up"


def test_how_many_of_each_band_have_a_word_is_told_blinded_apart() -> None:
    studies = [one(raised=True, finding="present")] * 4 + [one(raised=False, finding="")] * 6 + [one(raised=False, finding="absent")]
    assert spoken(studies) == {"raised": {"studies": 4, "spoken": 4, "present": 4}, "others": {"studies": 7, "spoken": 1, "present": 0}}
    assert spoken(studies, blind=True)["raised"] == {"studies": 4, "spoken": 0, "present": 0}


def test_words_on_many_studies_of_few_patients_leave_more_open() -> None:
    def wide(patients: int) -> float:
        bands = [(True, "present", 60), (True, "absent", 60), (False, "absent", 120), (False, "present", 12)]
        studies = [
            one(raised=raised, finding=finding, patient=f"{finding} {raised} {number % patients}")
            for raised, finding, count in bands
            for number in range(count)
        ]
        found = agreement(studies)["sensitivity"]
        return found.high - found.low

    assert wide(3) > 1.5 * wide(1000)


BANDS = st.integers(0, 500).flatmap(
    lambda n: st.integers(0, n).flatmap(
        lambda k: st.builds(VerificationGroup, studies=st.just(n), spoken=st.just(k), present=st.integers(0, k), worth=st.just(float(k)))
    )
)


@given(BANDS, BANDS)
def test_a_figure_is_a_share_within_its_interval_or_says_why_it_is_none(raised: VerificationGroup, rest: VerificationGroup) -> None:
    for found in corrected(raised, rest):
        assert 0 <= found.low <= found.high <= 1
        assert found.why or found.low <= found.value <= found.high


@given(BANDS, BANDS)
def test_where_all_were_spoken_of_the_figure_is_the_plain_share(raised: VerificationGroup, rest: VerificationGroup) -> None:
    every = [VerificationGroup(studies=band.spoken, spoken=band.spoken, present=band.present, worth=band.worth) for band in (raised, rest)]
    for found in corrected(*every):
        if found.of:
            assert found.value == pytest.approx(found.hits / found.of)


# --- studies of which a finding is asked for -----------------------------------------------------------------------------


def test_a_finding_is_asked_for_on_the_stated_share_and_always_on_the_same() -> None:
    uids = [f"1.2.840.{number}" for number in range(20_000)]
    asked = [uid for uid in uids if asked_for(uid, 0.05)]
    assert len(asked) == pytest.approx(1000, abs=120)
    assert set(asked) <= {uid for uid in uids if asked_for(uid, 0.1)}
    assert not any(asked_for(uid, 0.0) for uid in uids[:100])
    assert all(asked_for(uid, 1.0) for uid in uids[:100])


def test_the_board_counts_asked_and_given_and_tells_their_figures_apart() -> None:
    studies = [one(raised=False, finding="absent", asked=True)] * 35 + [one(raised=True, finding="present", asked=True)] * 5
    studies += [one(raised=False, finding="", asked=True)] * 3 + [one(raised=False, finding="present")] * 10
    found = board(studies, NOON)
    assert found["asked"] == {"asked": 43, "given": 40}
    assert found["spoken"]["asked for"]["others"] == {"studies": 38, "spoken": 35, "present": 0}
