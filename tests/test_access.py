"""Rights grow with the role, a token never has more than its owner, a sign-in ends, and weak passwords are refused with the reason."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prioritizer.access import RIGHTS, Lifetime, May, Role, faults_of_name, faults_of_password, rights_of

NOW = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)
LIFE = Lifetime(idle=timedelta(minutes=30), most=timedelta(hours=12))


def test_each_role_may_what_the_one_before_may_and_more():
    reader, physicist, admin = (RIGHTS[role] for role in (Role.READER, Role.PHYSICIST, Role.ADMIN))
    assert reader < physicist < admin == frozenset(May)
    assert May.CALIBRATE not in reader
    assert May.PEOPLE not in physicist


@given(st.sampled_from(Role), st.frozensets(st.sampled_from(May)))
def test_a_token_never_has_more_than_its_owner(role: Role, scopes: frozenset[May]):
    assert rights_of(role, scopes) <= RIGHTS[role]
    assert rights_of(role, scopes) <= scopes


@given(st.integers(0, 48 * 3600), st.integers(0, 48 * 3600))
def test_a_sign_in_ends_and_stays_ended(seen: int, asked: int):
    last, now = NOW + timedelta(seconds=seen), NOW + timedelta(seconds=seen + asked)
    over = LIFE.is_over(NOW, last, now)
    assert over == (asked >= 30 * 60 or seen + asked >= 12 * 3600)
    assert not over or LIFE.is_over(NOW, last, now + timedelta(days=1))


def test_a_clock_set_back_far_ends_a_sign_in():
    assert LIFE.is_over(NOW, NOW, NOW - timedelta(hours=1))
    assert not LIFE.is_over(NOW, NOW, NOW - timedelta(seconds=5))


@pytest.mark.parametrize("name", ["ito", "dr.berg", "x-1", "0", "a" * 64])
def test_names_that_can_be(name: str):
    assert not faults_of_name(name)


@pytest.mark.parametrize("name", ["", "Ito", " ito", "dr berg", "-x", "a" * 65, "ito\n", "ünal", "../x", "<b>"])
def test_names_that_cannot_be(name: str):
    assert faults_of_name(name)


@pytest.mark.parametrize(
    ("password", "why"),
    [
        ("", "12 characters"),
        ("short-one", "12 characters"),
        ("aaaaaaaaaaaaaaaa", "different"),
        ("x" * 300, "longer"),
        ("my-berg-secret-9", "user name"),
        ("Password123456", "tried first"),
        ("prioritizer-hospital", "tried first"),
    ],
)
def test_weak_passwords_are_refused_with_the_reason(password: str, why: str):
    assert why in faults_of_password(password, "berg")


@pytest.mark.parametrize(
    "password", ["four grey herons fly", "correct horse battery", "Zm9vYmFyYmF6cXV4", "日本語の長い合言葉です、本当に"]
)
def test_sentences_and_random_signs_are_taken(password: str):
    assert not faults_of_password(password, "berg")
