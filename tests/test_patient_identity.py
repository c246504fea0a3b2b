"""Particulars of patients: empty never contradicts, a number is told with its issuer, a caret more is no other name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prioritizer.patient_identity import LABELS, Particulars, another_patient, differing, same_patient

ONE = Particulars(patient_id="A-1", issuer="HOSP", patient_name="Muster^Anna", patient_birth_date="20200101", patient_sex="F")
texts = st.sampled_from(["", " ", "a", "A", "b", "a^", "é", "e\N{COMBINING ACUTE ACCENT}"])
some = st.builds(Particulars, **dict.fromkeys(LABELS, texts))


@given(some)
def test_nobody_is_another_patient_than_themselves(one: Particulars):
    assert differing(one, one) == ()


@given(some, some)
def test_it_does_not_matter_which_came_first(one: Particulars, other: Particulars):
    assert differing(one, other) == differing(other, one)
    assert same_patient(one, other) == same_patient(other, one)
    assert not (same_patient(one, other) and another_patient(one, other))


@given(some)
def test_what_states_nothing_contradicts_nobody(one: Particulars):
    assert differing(one, Particulars()) == ()


@pytest.mark.parametrize(
    ("change", "is_another"),
    [
        ({"patient_id": "A-2"}, True),
        ({"patient_birth_date": "20200102"}, True),
        ({"issuer": "ELSEWHERE"}, True),
        ({"patient_name": "Probe^Oto"}, False),
        ({"patient_sex": "M"}, False),
    ],
)
def test_number_issuer_and_birth_date_make_another_patient(change: dict[str, str], is_another: bool):
    other = Particulars(**{**{name: getattr(ONE, name) for name in LABELS}, **change})
    assert differing(ONE, other) == tuple(change)
    assert another_patient(ONE, other) is is_another


@pytest.mark.parametrize("name", ["Muster^Anna^^", "MUSTER^ANNA", "Muster^Anna^Maria", "Muster, Anna", "Muster^Anna=\u4e8c^\u4e00"])
def test_a_caret_a_middle_name_or_another_script_is_no_other_name(name: str):
    assert differing(ONE, Particulars(patient_name=name)) == ()
