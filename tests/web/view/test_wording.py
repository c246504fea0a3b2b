"""What people read: no number, no finding, nothing that says normal."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prioritizer.db.worklist.rows import WorklistRow
from prioritizer.ranking.deadlines import EARLIER, Band, RankingPolicy, Stage, Standing, in_short, place
from prioritizer.states import ReadingState
from prioritizer.study import AIState
from prioritizer.web.view.wording import (
    Line,
    Manner,
    ai_words,
    beside,
    due_words,
    frequency_words,
    image_words,
    line,
    meaning_words,
    patient_words,
    person_words,
    reader_words,
    span,
    study_words,
)

NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
FORBIDDEN = re.compile(r"\b(normal|negative|low|clear|unremarkable|no finding|pneumonia|healthy|probab\w*|0\.\d+)\b", re.IGNORECASE)


def row(**values: object) -> WorklistRow:
    """A scored study that arrived half an hour ago; `values` say what is different."""
    usual: dict[str, object] = {
        "study_uid": "1.2.3", "patient_id": "4711", "patient_name": "Muster^Anna^^Dr", "patient_birth_date": "20230101",
        "patient_sex": "F", "age_years": 3.0, "accession_number": "A1", "study_description": "Thorax", "modality": "CR",
        "calling_ae": "DX1", "first_received_at": NOON - timedelta(minutes=30), "instances": 2, "entries": 2, "stat": False, "pinned_by": None,
        "ai_state": "SCORED", "ai_reason": "", "risk": 0.03, "band": "NEUTRAL", "due_at": NOON + timedelta(minutes=90),
        "overdue_at": None, "place_reason": "order of arrival", "reading_state": "OPEN", "reader": None, "reader_since": None,
        "reader_until": None, "read_at": None,
    }  # fmt: skip
    return WorklistRow(**(usual | values))


def texts(found: Line) -> str:
    return " | ".join(str(getattr(found, name)) for name in Line.__dataclass_fields__ if name != "arrived")


@given(
    st.sampled_from(AIState),
    st.sampled_from(Band),
    st.sampled_from(ReadingState),
    st.booleans(),
    st.booleans(),
    st.integers(-600, 600),
    st.floats(0, 1),
    st.sampled_from(Stage),
)
def test_nothing_says_normal_or_a_finding(
    ai: AIState, band: Band, reading: ReadingState, stat: bool, marks: bool, left: int, risk: float, stage: Stage
):
    standing = Standing(study_uid="1.2.3", first_received_at=NOON, stat=stat, ai_state=ai, risk=risk)
    reason = place(standing, RankingPolicy(t_high=0.7, t_low=0.3, demote_low=True, stage=stage)).reason
    shown = row(
        ai_state=ai, band=band, reading_state=reading, stat=stat, risk=risk, place_reason=reason, reader="Dr. A",
        due_at=NOON + timedelta(minutes=left), reader_since=NOON, reader_until=NOON + timedelta(minutes=5), read_at=NOON,
    )  # fmt: skip
    assert not FORBIDDEN.search(texts(line(shown, NOON, Manner(marks=marks))))


@given(st.sampled_from(AIState), st.sampled_from(Band), st.integers(-600, 600))
def test_without_marks_nothing_is_raised(ai: AIState, band: Band, left: int):
    shown = line(row(ai_state=ai, band=band, due_at=NOON + timedelta(minutes=left)), NOON, Manner(marks=False))
    assert "raised" not in texts(shown).lower()
    assert shown.tone != "raised"


@pytest.mark.parametrize("band", ["NEUTRAL", "LOW"])
def test_neutral_and_low_studies_look_the_same(band: str):
    assert line(row(band=band), NOON, Manner()) == line(row(band="NEUTRAL"), NOON, Manner())


@pytest.mark.parametrize(
    ("values", "marks", "words"),
    [
        ({"band": "HIGH", "place_reason": "raised: due 30 min after arrival"}, True, (">^", "raised", "RAISED due in 1 h 30")),
        ({"band": "HIGH", "place_reason": "order of arrival (stage pilot)"}, True, (">^", "raised", "RAISED, not moved, due in 1 h 30")),
        ({"band": "HIGH"}, False, ("", "neutral", "due in 1 h 30")),
        ({}, True, ("", "neutral", "due in 1 h 30")),
        ({"stat": True, "due_at": NOON - timedelta(hours=1)}, True, ("!!", "alarm", "STAT now, 30 min")),
        ({"due_at": NOON - timedelta(minutes=12)}, True, ("!!", "alarm", "OVERDUE 12 min")),
        ({"due_at": NOON}, True, ("", "neutral", "due in 0 s")),
        ({"reading_state": "READ", "read_at": NOON - timedelta(seconds=5), "stat": True}, True, ("", "read", "read 5 s ago")),
        ({"reading_state": "READ"}, True, ("", "read", "read")),
    ],
)
def test_glyph_tone_and_deadline_go_together(values: dict[str, object], marks: bool, words: tuple[str, str, str]):
    assert due_words(row(**values), NOON, Manner(marks=marks)) == words


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"ai_state": "WAITING"}, "waiting"),
        ({"ai_state": "FAILED", "ai_reason": "no pixels"}, "failed: no pixels"),
        ({"ai_state": "NOT_SCORED", "ai_reason": "lateral view"}, "not scored: lateral view"),
        ({"band": "HIGH"}, "raised"),
        ({}, "-"),
        ({"ai_reason": "no pixels"}, "- (one image failed: no pixels)"),
    ],
)
def test_the_ai_column_gives_a_state_or_a_reason(values: dict[str, object], words: str):
    assert ai_words(row(**values), Manner()) == words


@pytest.mark.parametrize(
    ("name", "age", "sex", "patient", "person"),
    [
        ("Muster^Anna", 3.0, "F", "Muster, Anna", "3 years F"),
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", 1.5, "M", "Yamada, Tarou", "18 months M"),
        ("", None, "", "(no name)", "age ?"),
        ("^^^", 0.0, "", "(no name)", "0 days"),
        ("^Anna", 0.0, "", "Anna", "0 days"),
    ],
)
def test_a_patient_is_named_as_the_hospital_writes_it(name: str, age: float | None, sex: str, patient: str, person: str):
    shown = row(patient_name=name, age_years=age, patient_sex=sex)
    assert (patient_words(shown, Manner()), person_words(shown)) == (patient, person)


@pytest.mark.parametrize(("instances", "words"), [(1, "1 image"), (2, "2 images")])
def test_a_study_is_said_with_its_images(instances: int, words: str):
    found = row(instances=instances)
    assert (study_words(found), image_words(found)) == ("CR Thorax", words)


@given(st.sampled_from(AIState), st.floats(0, 1), st.booleans(), st.booleans(), st.sampled_from(Stage))
def test_the_reason_of_a_place_begins_with_a_few_words_that_say_when_it_is_earlier(
    ai: AIState, risk: float, stat: bool, suspended: bool, stage: Stage
):
    policy = RankingPolicy(t_high=0.7, t_low=0.3, demote_low=True, stage=stage)
    standing = Standing(study_uid="1.2.3", first_received_at=NOON, stat=stat, ai_state=ai, risk=risk)
    found = place(standing, policy, high_suspended=suspended)
    assert in_short(found.reason) in ("STAT", "raised", "order of arrival", "placed later", "raising is suspended")
    assert found.reason.startswith(EARLIER) == (not stat and found.due_at < NOON + policy.neutral)


@pytest.mark.parametrize(
    ("form", "words"),
    [("family-first", "Muster, Anna Maria Dr"), ("given-first", "Anna Maria Dr Muster"), ("as-sent", "Muster^Anna^Maria^Dr")],
)
def test_a_name_is_written_as_the_house_writes_names(form: str, words: str):
    assert patient_words(row(patient_name="Muster^Anna^Maria^Dr=M"), Manner(name_format=form)) == words
    assert patient_words(row(patient_name=""), Manner(name_format=form)) == "(no name)"


@pytest.mark.parametrize(
    ("groups", "words"),
    [
        ("alphabetic", "Yamada, Tarou"),
        ("ideographic", "山田 太郎"),
        ("phonetic", "やまだ たろう"),
        ("all", "Yamada, Tarou = 山田 太郎 = やまだ たろう"),
    ],
)
def test_a_name_is_shown_by_the_group_that_the_house_reads(groups: str, words: str):
    name = "Yamada^Tarou=山田^太郎=やまだ^たろう"
    assert patient_words(row(patient_name=name), Manner(name_groups=groups)) == words
    assert patient_words(row(patient_name="Muster^Anna"), Manner(name_groups=groups)) == "Muster, Anna"
    assert patient_words(row(patient_name="=山田^太郎"), Manner(name_groups="alphabetic")) == "山田 太郎"


def test_where_nothing_is_scored_the_ai_column_says_off():
    assert ai_words(row(ai_state="WAITING"), Manner(ai_off=True)) == "off"
    assert ai_words(row(), Manner(ai_off=True)) == "-", "what was scored before stays"


@pytest.mark.parametrize(
    ("stage", "suspended", "words"),
    [
        (Stage.ACTIVE, False, "raised = placed earlier"),
        (Stage.ACTIVE, True, "raised = would be placed earlier; raising is suspended now, newly raised studies stay in order of arrival"),
        (Stage.PILOT, False, "raised = would be placed earlier; in stage pilot the list stays in order of arrival"),
    ],
)
def test_raised_means_placed_earlier_only_where_it_does(stage: Stage, suspended: bool, words: str):
    assert meaning_words(stage, suspended=suspended) == words


CLAIM = {"reading_state": "CLAIMED", "reader": "Dr. A", "reader_since": NOON - timedelta(minutes=3)}


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, ""),
        ({**CLAIM, "reader_until": NOON + timedelta(minutes=1)}, "Dr. A 3 min"),
        ({**CLAIM, "reader_until": NOON - timedelta(minutes=1)}, ""),
        ({"reading_state": "READ", "reader": "Dr. A", "read_at": NOON - timedelta(hours=2)}, "Dr. A 2 h 00"),
    ],
)
def test_a_reader_is_shown_while_the_claim_lasts(values: dict[str, object], words: str):
    assert reader_words(row(**values), NOON) == words


@pytest.mark.parametrize(
    ("seconds", "words"), [(-5, "0 s"), (40, "40 s"), (60, "1 min"), (719, "11 min"), (6480, "1 h 48"), (266400, "3 d 2 h")]
)
def test_a_span_has_two_units_at_most(seconds: int, words: str):
    assert span(timedelta(seconds=seconds)) == words


def test_a_masked_page_tells_nobody_apart_by_name_number_or_birth():
    shown = line(row(study_uid="1.2.840.99.123456"), NOON, Manner(masked=True))
    assert shown.patient == "study ..123456"
    assert not re.search(r"Muster|4711|2023|A1", texts(shown).replace(shown.study_uid, ""))


@pytest.mark.parametrize(
    ("date", "form", "words"),
    [("20230105", "%Y-%m-%d", "2023-01-05"), ("20230105", "%d.%m.%Y", "05.01.2023"), ("2023", "%Y-%m-%d", "2023")],
)
def test_a_birth_date_is_written_as_the_house_writes_dates(date: str, form: str, words: str):
    assert line(row(patient_birth_date=date), NOON, Manner(date_format=form)).born == f"4711 {words}"


def test_how_often_raising_is_right_needs_enough_words_of_readers():
    assert frequency_words(20, 29, 90) == (
        "raised = placed earlier; how often that is right is not yet known here (29 of 30 raised studies that readers spoke of in 90 days)."
    )
    assert frequency_words(61, 100, 90).startswith(
        "raised = placed earlier; of 100 raised here in the last 90 days, 61 were confirmed (95 % 51 to "
    )


@pytest.mark.parametrize(
    ("value", "other", "shown"), [(0.9088, 0.9102, "0.909"), (0.5, 0.91, "0.50"), (0.91, 0.91, "0.91"), (0.9100004, 0.9100001, "0.91")]
)
def test_a_probability_has_the_digits_that_distinguish_it_from_the_threshold(value: float, other: float, shown: str):
    assert beside(value, other) == shown
