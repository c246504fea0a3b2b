"""People, one-time links, sessions and tokens on both databases: good once, good for a while, never after they ended."""

from __future__ import annotations

from datetime import timedelta
from threading import BoundedSemaphore

import pytest
import sqlalchemy as sa

from prioritizer.access import Lifetime, May, Person, Role
from prioritizer.db.accounts import people
from prioritizer.db.accounts import sessions as accounts_sessions
from prioritizer.db.schema import connect
from prioritizer.db.schema.people_tables import invitations as invitation_table
from prioritizer.db.schema.people_tables import people as people_table
from prioritizer.db.schema.people_tables import sessions, tokens
from prioritizer.db.schema.tables import events
from prioritizer.errors import NotAllowed, NotFound
from tests.support.ledgers import NOW, together

PASSWORD = "four grey herons fly"
LIFE = Lifetime(idle=timedelta(minutes=30), most=timedelta(hours=12))


def let_in(ledger: sa.Engine, name: str, role: Role = Role.READER) -> str:
    return people.accept(ledger, people.invite(ledger, name, role, "boss", NOW), name, PASSWORD, NOW)


def told(ledger: sa.Engine, kind: str) -> list[str]:
    with connect.reading(ledger) as tx:
        return list(tx.scalars(sa.select(events.c.said).where(events.c.kind == kind).order_by(events.c.id)))


def test_a_link_lets_in_once(ledger: sa.Engine):
    assert not people.has_administrator(ledger)
    secret = people.invite(ledger, "", Role.ADMIN, "prioritizer", NOW)
    found = people.invitation(ledger, secret, NOW)
    assert (found.person, found.role) == ("", Role.ADMIN)
    assert people.accept(ledger, secret, "ito", PASSWORD, NOW) == "ito"
    assert people.has_administrator(ledger)
    with pytest.raises(NotAllowed, match="used"):
        people.accept(ledger, secret, "second", PASSWORD, NOW)
    with pytest.raises(NotAllowed, match="used"):
        people.invitation(ledger, secret, NOW)
    assert [row.name for row in people.listed(ledger)] == ["ito"]


@pytest.mark.parametrize(("secret", "after"), [("", 0), ("nonsense", 0), ("good", 25)])
def test_a_link_that_is_over_or_never_was_lets_nobody_in(ledger: sa.Engine, secret: str, after: int):
    good = people.invite(ledger, "ito", Role.READER, "boss", NOW)
    with pytest.raises(NotAllowed):
        people.accept(ledger, good if secret == "good" else secret, "ito", PASSWORD, NOW + timedelta(hours=after))
    assert not people.listed(ledger)


def test_a_second_link_for_the_same_person_ends_the_first(ledger: sa.Engine):
    first, second = (people.invite(ledger, "ito", Role.READER, "boss", NOW) for _ in range(2))
    with pytest.raises(NotAllowed):
        people.invitation(ledger, first, NOW)
    assert people.invitation(ledger, second, NOW).person == "ito"


def test_a_weak_password_leaves_the_link_good(ledger: sa.Engine):
    secret = people.invite(ledger, "ito", Role.READER, "boss", NOW)
    with pytest.raises(NotAllowed, match="12 characters"):
        people.accept(ledger, secret, "ito", "short", NOW)
    assert people.accept(ledger, secret, "ito", PASSWORD, NOW) == "ito"


def test_the_first_administrators_link_takes_nobodys_name(ledger: sa.Engine):
    let_in(ledger, "ito")
    secret = people.invite(ledger, "", Role.ADMIN, "prioritizer", NOW)
    with pytest.raises(NotAllowed, match="exists already"):
        people.accept(ledger, secret, "ito", PASSWORD, NOW)
    assert people.listed(ledger)[0].role == Role.READER


def test_two_who_use_one_link_at_once(ledger: sa.Engine):
    secret = people.invite(ledger, "", Role.ADMIN, "prioritizer", NOW)

    def accept(name: str) -> str:
        try:
            return people.accept(ledger, secret, name, PASSWORD, NOW)
        except NotAllowed:
            return ""

    answers = together(*(lambda n=n: accept(f"person-{n}") for n in range(4)))
    assert sum(answer != "" for answer in answers) == 1
    assert len(people.listed(ledger)) == 1


def test_a_link_for_who_forgot_the_password_keeps_the_role_and_ends_the_sessions(ledger: sa.Engine):
    let_in(ledger, "ito", Role.PHYSICIST)
    held = accounts_sessions.begin(ledger, "ito", "10.1.2.3", NOW)
    people.accept(ledger, people.invite(ledger, "ito", Role.READER, "boss", NOW), "", "another long sentence", NOW)
    assert accounts_sessions.by_session(ledger, held, LIFE, NOW) is None
    assert people.check_password(ledger, "ito", "another long sentence")
    assert not people.check_password(ledger, "ito", PASSWORD)
    assert people.listed(ledger)[0].role == Role.PHYSICIST


def test_passwords_are_checked(ledger: sa.Engine):
    let_in(ledger, "ito")
    people.add(ledger, "robot", Role.READER, "boss", NOW)
    assert people.check_password(ledger, "ito", PASSWORD)
    for name, password in (("ito", PASSWORD + "x"), ("ito", ""), ("nobody", PASSWORD), ("robot", ""), ("robot", PASSWORD), ("", "")):
        assert not people.check_password(ledger, name, password)


def test_a_hash_with_old_parameters_is_renewed(ledger: sa.Engine):
    from argon2 import PasswordHasher

    let_in(ledger, "ito")
    old = PasswordHasher(time_cost=1, memory_cost=1024, parallelism=1).hash(PASSWORD)
    with connect.writing(ledger) as tx:
        tx.execute(people_table.update().values(password=old))
    assert people.check_password(ledger, "ito", PASSWORD)
    with connect.reading(ledger) as tx:
        kept = tx.scalar(sa.select(people_table.c.password))
    assert kept != old
    assert "argon2id" in kept
    assert people.check_password(ledger, "ito", PASSWORD)


def test_a_session_lives_and_ends(ledger: sa.Engine):
    let_in(ledger, "ito", Role.PHYSICIST)
    secret = accounts_sessions.begin(ledger, "ito", "10.1.2.3", NOW)
    found = accounts_sessions.by_session(ledger, secret, LIFE, NOW)
    assert found is not None
    assert (found.name, found.role, found.by) == ("ito", Role.PHYSICIST, "session")
    assert found.may(May.CALIBRATE)
    assert not found.may(May.PEOPLE)
    assert accounts_sessions.by_session(ledger, secret, LIFE, NOW + timedelta(minutes=29)) is not None
    assert accounts_sessions.by_session(ledger, secret, LIFE, NOW + timedelta(minutes=50)) is not None, "a request keeps it alive"
    assert accounts_sessions.by_session(ledger, secret, LIFE, NOW + timedelta(minutes=81)) is None, "idle"
    accounts_sessions.end(ledger, found, NOW)
    assert accounts_sessions.by_session(ledger, secret, LIFE, NOW) is None
    assert told(ledger, "signed-out") == ["signed out"]


def test_no_request_keeps_a_session_alive_for_ever(ledger: sa.Engine):
    let_in(ledger, "ito")
    secret, now = accounts_sessions.begin(ledger, "ito", "10.1.2.3", NOW), NOW
    while accounts_sessions.by_session(ledger, secret, LIFE, now) is not None:
        now += timedelta(minutes=20)
        assert now < NOW + timedelta(days=1)
    assert now == NOW + timedelta(hours=12)


def test_the_ledger_holds_no_secret(ledger: sa.Engine):
    let_in(ledger, "ito")
    link = people.invite(ledger, "berg", Role.READER, "ito", NOW)
    session = accounts_sessions.begin(ledger, "ito", "10.1.2.3", NOW)
    token, _ = accounts_sessions.make_token(ledger, "ito", "export", [May.SEE], "ito", NOW, timedelta(days=1))
    with connect.reading(ledger) as tx:
        kept = "".join(
            str(row) for table in (people_table, sessions, tokens, invitation_table, events) for row in tx.execute(sa.select(table))
        )
    assert not [secret for secret in (PASSWORD, link, session, token) if secret in kept]
    for digest in (people.digest(session), people.digest(token), people.digest(link)):
        assert accounts_sessions.by_session(ledger, digest, LIFE, NOW) is None
        assert accounts_sessions.by_token(ledger, digest, NOW) is None


def test_who_is_disabled_is_out_at_once(ledger: sa.Engine):
    let_in(ledger, "boss", Role.ADMIN)
    let_in(ledger, "ito")
    session = accounts_sessions.begin(ledger, "ito", "10.1.2.3", NOW)
    token, _ = accounts_sessions.make_token(ledger, "ito", "export", [May.SEE], "ito", NOW, timedelta(days=1))
    people.disable(ledger, "ito", "boss", NOW)
    assert accounts_sessions.by_session(ledger, session, LIFE, NOW) is None
    assert accounts_sessions.by_token(ledger, token, NOW) is None
    assert accounts_sessions.by_proxy(ledger, "ito") is None
    assert not people.check_password(ledger, "ito", PASSWORD)
    with pytest.raises(NotAllowed):
        accounts_sessions.begin(ledger, "ito", "10.1.2.3", NOW)
    people.enable(ledger, "ito", "boss", NOW)
    assert people.check_password(ledger, "ito", PASSWORD)
    assert accounts_sessions.by_token(ledger, token, NOW) is None, "a revoked token stays revoked"
    assert accounts_sessions.by_session(ledger, session, LIFE, NOW) is None


def test_another_role_counts_in_running_sessions(ledger: sa.Engine):
    let_in(ledger, "boss", Role.ADMIN)
    let_in(ledger, "ito", Role.PHYSICIST)
    session = accounts_sessions.begin(ledger, "ito", "10.1.2.3", NOW)
    token, _ = accounts_sessions.make_token(ledger, "ito", "recalibrate", [May.SEE, May.CALIBRATE], "ito", NOW, timedelta(days=1))
    people.set_role(ledger, "ito", Role.READER, "boss", NOW)
    for found in (accounts_sessions.by_session(ledger, session, LIFE, NOW), accounts_sessions.by_token(ledger, token, NOW)):
        assert found is not None
        assert found.may(May.SEE)
        assert not found.may(May.CALIBRATE)


def test_the_last_administrator_stays(ledger: sa.Engine):
    let_in(ledger, "boss", Role.ADMIN)
    let_in(ledger, "ito")
    with pytest.raises(NotAllowed, match="last administrator"):
        people.disable(ledger, "boss", "boss", NOW)
    with pytest.raises(NotAllowed, match="last administrator"):
        people.set_role(ledger, "boss", Role.READER, "boss", NOW)
    people.set_role(ledger, "ito", Role.ADMIN, "boss", NOW)
    people.disable(ledger, "boss", "ito", NOW)
    with pytest.raises(NotAllowed, match="last administrator"):
        people.disable(ledger, "ito", "ito", NOW)


def test_two_administrators_who_disable_each_other_at_once(ledger: sa.Engine):
    let_in(ledger, "boss", Role.ADMIN)
    let_in(ledger, "chief", Role.ADMIN)

    def disable(name: str, by: str) -> bool:
        try:
            people.disable(ledger, name, by, NOW)
        except NotAllowed:
            return False
        return True

    assert sorted(together(lambda: disable("boss", "chief"), lambda: disable("chief", "boss"))) == [False, True]


def test_a_token_has_scopes_an_end_and_an_owner(ledger: sa.Engine):
    let_in(ledger, "ito")
    let_in(ledger, "berg")
    secret, row = accounts_sessions.make_token(ledger, "ito", "night export", [May.SEE], "ito", NOW, timedelta(days=2))
    assert secret.startswith("prio_")
    found = accounts_sessions.by_token(ledger, secret, NOW)
    assert found is not None
    assert (found.name, found.rights) == ("ito", {May.SEE})
    assert accounts_sessions.by_token(ledger, secret, NOW + timedelta(days=2)) is None
    berg = Person(name="berg", role=Role.READER, rights=frozenset({May.SEE}))
    with pytest.raises(NotFound):
        accounts_sessions.revoke(ledger, row.id, berg, NOW)
    accounts_sessions.revoke(ledger, row.id, found, NOW)
    assert accounts_sessions.by_token(ledger, secret, NOW) is None
    with pytest.raises(NotAllowed, match="before"):
        accounts_sessions.revoke(ledger, row.id, found, NOW)
    assert told(ledger, "token-made") == [f"token {row.id} for ito: night export (see)"]


@pytest.mark.parametrize(
    ("name", "purpose", "scopes", "days"),
    [
        ("ito", "x", [May.PEOPLE], 1),
        ("ito", "x", [], 1),
        ("ito", " ", [May.SEE], 1),
        ("ito", "x", [May.SEE], 400),
        ("ito", "x", [May.SEE], 0),
        ("nobody", "x", [May.SEE], 1),
    ],
)
def test_tokens_that_are_not_made(ledger: sa.Engine, name: str, purpose: str, scopes: list[May], days: int):
    let_in(ledger, "ito")
    with pytest.raises((NotAllowed, NotFound)):
        accounts_sessions.make_token(ledger, name, purpose, scopes, "ito", NOW, timedelta(days=days))
    assert not accounts_sessions.listed_tokens(ledger)


def test_a_refused_sign_in_is_written_down_without_what_was_typed_by_mistake(ledger: sa.Engine):
    accounts_sessions.refused(ledger, "ito", "10.1.2.3", NOW)
    accounts_sessions.refused(ledger, "My Password 1!", "10.1.2.3", NOW)
    assert told(ledger, "sign-in-refused") == [
        "sign-in refused for ito from 10.1.2.3",
        "sign-in refused for a name that cannot exist from 10.1.2.3",
    ]


def test_sessions_that_ran_out_are_not_open(ledger: sa.Engine):
    let_in(ledger, "ito")
    for before in (timedelta(hours=13), timedelta(minutes=31), timedelta(minutes=29), timedelta(0)):
        accounts_sessions.begin(ledger, "ito", "10.1.2.3", NOW - before)
    assert people.listed(ledger, LIFE, NOW)[0].open_sessions == 2


def test_the_last_session_of_a_person_tells_for_good_when_they_were_here(ledger: sa.Engine):
    let_in(ledger, "ito")
    for days in (400, 300):
        accounts_sessions.begin(ledger, "ito", "10.1.2.3", NOW - timedelta(days=days))
    assert accounts_sessions.forget(ledger, NOW - timedelta(days=30)) == 1
    assert people.listed(ledger)[0].last_seen == NOW - timedelta(days=300)


def test_the_first_administrators_link_is_worth_nothing_once_there_is_one(ledger: sa.Engine):
    logged = people.invite(ledger, "", Role.ADMIN, "prioritizer", NOW)
    later = people.invite(ledger, "root", Role.ADMIN, "command line", NOW)
    assert people.invitation(ledger, logged, NOW).role == Role.ADMIN
    people.accept(ledger, later, "root", PASSWORD, NOW)
    with pytest.raises(NotAllowed, match="never was"):
        people.accept(ledger, logged, "mallory", PASSWORD, NOW)
    with connect.reading(ledger) as tx:
        assert not tx.scalar(sa.select(sa.func.count()).select_from(invitation_table).where(invitation_table.c.person == ""))


def test_a_link_made_while_there_is_an_administrator_makes_no_second_one(ledger: sa.Engine):
    let_in(ledger, "boss", Role.ADMIN)
    late = people.invite(ledger, "", Role.ADMIN, "prioritizer", NOW)
    with pytest.raises(NotAllowed, match="never was"):
        people.invitation(ledger, late, NOW)


def test_a_link_that_never_was_costs_no_password_work(ledger: sa.Engine, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(people, "WAITING", BoundedSemaphore(1))
    assert people.WAITING.acquire(blocking=False)
    with pytest.raises(NotAllowed, match="never was"):
        people.accept(ledger, "nonsense", "ito", PASSWORD, NOW)
    secret = people.invite(ledger, "ito", Role.READER, "boss", NOW)
    with pytest.raises(people.Busy):
        people.accept(ledger, secret, "ito", PASSWORD, NOW)
    people.WAITING.release()
    assert people.accept(ledger, secret, "ito", PASSWORD, NOW) == "ito"


def test_old_sessions_are_forgotten(ledger: sa.Engine):
    let_in(ledger, "ito")
    accounts_sessions.begin(ledger, "ito", "10.1.2.3", NOW - timedelta(days=40))
    accounts_sessions.begin(ledger, "ito", "10.1.2.3", NOW)
    assert accounts_sessions.forget(ledger, NOW - timedelta(days=30)) == 1
    assert people.listed(ledger)[0].open_sessions == 1
