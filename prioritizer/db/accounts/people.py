"""Who may sign in: people, their passwords and the one-time links by which they come. What is secret is kept as a digest only."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from threading import BoundedSemaphore
from typing import Any

import sqlalchemy as sa
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerifyMismatchError

from prioritizer import access
from prioritizer.access import Lifetime, Role
from prioritizer.db.schema import connect
from prioritizer.db.schema.events import Kind, record
from prioritizer.db.schema.people_tables import invitations, people, sessions, tokens
from prioritizer.errors import Busy, NotAllowed, NotFound

INVITATION_LASTS = timedelta(hours=24)
HASHER = PasswordHasher()
"""Argon2id with the parameters that argon2-cffi holds for sound; a hash of older ones is renewed when its owner signs in."""
AT_ONCE, WAITING = BoundedSemaphore(2), BoundedSemaphore(10)
"""Passwords that are looked at at one moment, 64 MiB and four processors each, and requests that wait for it or do it: no flood of
sign-ins takes the memory of the machine or the threads that answer the list."""
PATIENCE_S = 2.0
NOBODY = HASHER.hash(secrets.token_urlsafe(16))
"""Verified against where there is no such person: a wrong name takes as long as a wrong password."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonRow:
    """One person as the administrator sees them."""

    name: str
    role: str
    made_at: datetime
    made_by: str
    disabled_at: datetime | None
    has_password: bool
    last_seen: datetime | None
    open_sessions: int


@contextmanager
def _in_turn() -> Iterator[None]:
    """Where passwords are looked at. Raises Busy."""
    if not WAITING.acquire(blocking=False):
        raise Busy(seconds=3)
    try:
        if not AT_ONCE.acquire(timeout=PATIENCE_S):
            raise Busy(seconds=3)
        try:
            yield
        finally:
            AT_ONCE.release()
    finally:
        WAITING.release()


def _hash(password: str) -> str:
    with _in_turn():
        return HASHER.hash(password)


def digest(secret: str) -> str:
    """What the ledger keeps of a secret of 256 random bits: its SHA-256 needs neither salt nor delay."""
    return hashlib.sha256(secret.encode()).hexdigest()


def listed(engine: sa.Engine, lifetime: Lifetime | None = None, now: datetime | None = None) -> list[PersonRow]:
    """Everybody, by name. Sessions count as open while `lifetime` leaves them so; without it, until somebody ended them."""
    alive: sa.ColumnElement[bool] = sessions.c.ended_at.is_(None)
    if lifetime is not None and now is not None:
        alive = sa.and_(alive, sessions.c.began_at > now - lifetime.most, sessions.c.seen_at > now - lifetime.idle)
    seen = sa.select(sa.func.max(sessions.c.seen_at)).where(sessions.c.person == people.c.name).scalar_subquery()
    running = (sa.select(sa.func.count()).select_from(sessions).where(sessions.c.person == people.c.name, alive)).scalar_subquery()
    columns = (people.c.name, people.c.role, people.c.made_at, people.c.made_by, people.c.disabled_at)
    query = sa.select(*columns, (people.c.password != "").label("has_password"), seen.label("last_seen"), running.label("open_sessions"))
    with connect.reading(engine) as tx:
        return [PersonRow(**row._mapping) for row in tx.execute(query.order_by(people.c.name))]


def has_administrator(engine: sa.Engine) -> bool:
    """True where somebody can sign in with a password and let others in."""
    with connect.reading(engine) as tx:
        return _has_administrator(tx)


def _has_administrator(tx: sa.Connection) -> bool:
    able = sa.and_(people.c.role == Role.ADMIN, people.c.password != "", people.c.disabled_at.is_(None))
    return bool(tx.scalar(sa.select(sa.func.count()).select_from(people).where(able)))


def invite(engine: sa.Engine, person: str, role: Role, by: str, now: datetime, lasts: timedelta = INVITATION_LASTS) -> str:
    """A secret that lets `person` set a password once, as `role`; earlier links of the same person end. Raises NotAllowed."""
    if person and (fault := access.faults_of_name(person)):
        raise NotAllowed(fault)
    secret = secrets.token_urlsafe(32)
    with connect.writing(engine) as tx:
        tx.execute(invitations.delete().where(invitations.c.person == person, invitations.c.used_at.is_(None)))
        values = {"person": person, "role": role, "made_at": now, "made_by": by, "ends_at": now + lasts}
        tx.execute(invitations.insert().values(key=digest(secret), **values))
        record(tx, Kind.INVITED, f"invited {person or 'the first administrator'} as {role}", now, actor=by)
    return secret


def add(engine: sa.Engine, name: str, role: Role, by: str, now: datetime) -> None:
    """Somebody without a password: whom the proxy of the site signs in, or for whom a program acts. Raises NotAllowed."""
    if fault := access.faults_of_name(name):
        raise NotAllowed(fault)
    with connect.writing(engine) as tx:
        if tx.scalar(sa.select(sa.func.count()).select_from(people).where(people.c.name == name)):
            raise NotAllowed(f"{name} exists already")
        tx.execute(people.insert().values(name=name, role=role, made_at=now, made_by=by))
        record(tx, Kind.PERSON_MADE, f"let {name} in as {role}", now, actor=by)


@dataclass(frozen=True, slots=True, kw_only=True)
class Invitation:
    """A one-time link that is still good."""

    person: str
    role: Role
    ends_at: datetime


def invitation(engine: sa.Engine, secret: str, now: datetime) -> Invitation:
    """What a one-time link is good for. Raises NotAllowed where it is used, over or unknown, without saying which."""
    with connect.reading(engine) as tx:
        return _good(tx, secret, now)


def _good(tx: sa.Connection, secret: str, now: datetime) -> Invitation:
    row = tx.execute(sa.select(invitations).where(invitations.c.key == digest(secret)).with_for_update()).one_or_none()
    # The first administrator's link stands in a log: once there is one, who finds it there is nobody.
    if row is None or row.used_at is not None or now >= row.ends_at or (not row.person and _has_administrator(tx)):
        raise NotAllowed("this link was used, is over, or never was; ask for a new one")
    return Invitation(person=row.person, role=Role(row.role), ends_at=row.ends_at)


def accept(engine: sa.Engine, secret: str, name: str, password: str, now: datetime) -> str:
    """Use a one-time link: the person exists after this, with this password. Returns the name. Raises NotAllowed with the reason.

    A link for somebody who exists sets a new password and ends all their sessions; their role stays.
    """
    name = invitation(engine, secret, now).person or name
    if fault := access.faults_of_name(name) or access.faults_of_password(password, name):
        raise NotAllowed(fault)
    hashed = _hash(password)
    with connect.writing(engine) as tx:
        found = _good(tx, secret, now)
        row = tx.execute(sa.select(people).where(people.c.name == name).with_for_update()).one_or_none()
        if row is not None and not found.person:
            raise NotAllowed(f"{name} exists already; choose another name")
        tx.execute(invitations.update().where(invitations.c.key == digest(secret)).values(used_at=now))
        if row is None:
            tx.execute(people.insert().values(name=name, role=found.role, password=hashed, made_at=now, made_by="one-time link"))
            record(tx, Kind.PERSON_MADE, f"{name} came as {found.role}", now, actor=name)
        else:
            tx.execute(people.update().where(people.c.name == name).values(password=hashed))
            _end_sessions(tx, name, "password changed", now)
            record(tx, Kind.PASSWORD_SET, f"{name} set a new password by a one-time link", now, actor=name)
        if _has_administrator(tx):
            tx.execute(invitations.delete().where(invitations.c.person == "", invitations.c.used_at.is_(None)))
    return name


def agreed(password: str, again: str) -> str:
    """The password, where it was typed twice alike. Raises NotAllowed."""
    if password != again:
        raise NotAllowed("the two passwords differ")
    return password


def check_password(engine: sa.Engine, name: str, password: str) -> bool:
    """True where this person may sign in with this password. Takes as long where the person does not exist. Raises Busy."""
    with connect.reading(engine) as tx:
        row = tx.execute(sa.select(people).where(people.c.name == name)).one_or_none()
    known = row.password if row is not None and row.password and row.disabled_at is None else ""
    try:
        with _in_turn():
            HASHER.verify(known or NOBODY, password)
    except (VerifyMismatchError, InvalidHashError):
        return False
    if known and HASHER.check_needs_rehash(known):
        renewed = _hash(password)
        with connect.writing(engine) as tx:
            tx.execute(people.update().where(people.c.name == name, people.c.password == known).values(password=renewed))
    return bool(known)


def set_password(engine: sa.Engine, name: str, password: str, now: datetime, *, keep: str = "") -> None:
    """A new password; every session of the person ends but the one with the key `keep`. Raises NotAllowed with the reason."""
    if fault := access.faults_of_password(password, name):
        raise NotAllowed(fault)
    hashed = _hash(password)
    with connect.writing(engine) as tx:
        _person(tx, name)
        tx.execute(people.update().where(people.c.name == name).values(password=hashed))
        _end_sessions(tx, name, "password changed", now, keep=keep)
        record(tx, Kind.PASSWORD_SET, f"{name} changed the password", now, actor=name)


def set_role(engine: sa.Engine, name: str, role: Role, by: str, now: datetime) -> None:
    """Another role, at once and for every session of the person. Raises NotAllowed where no administrator would be left."""
    with connect.writing(engine) as tx:
        admins = _administrators(tx)
        row = _person(tx, name)
        if role is not Role.ADMIN and admins == {name}:
            raise NotAllowed(f"{name} is the last administrator; make another one first")
        tx.execute(people.update().where(people.c.name == name).values(role=role))
        record(tx, Kind.ROLE_SET, f"{name}: {row.role} -> {role}", now, actor=by)


def disable(engine: sa.Engine, name: str, by: str, now: datetime) -> None:
    """The person can no longer sign in; sessions and tokens end now. Raises NotAllowed where no administrator would be left."""
    with connect.writing(engine) as tx:
        admins = _administrators(tx)
        _person(tx, name)
        if admins == {name}:
            raise NotAllowed(f"{name} is the last administrator; make another one first")
        tx.execute(people.update().where(people.c.name == name).values(disabled_at=now))
        tx.execute(tokens.update().where(tokens.c.person == name, tokens.c.revoked_at.is_(None)).values(revoked_at=now))
        _end_sessions(tx, name, f"disabled by {by}", now)
        record(tx, Kind.PERSON_DISABLED, f"disabled {name}", now, actor=by)


def enable(engine: sa.Engine, name: str, by: str, now: datetime) -> None:
    """The person may sign in again; tokens that were revoked stay so."""
    with connect.writing(engine) as tx:
        _person(tx, name)
        tx.execute(people.update().where(people.c.name == name).values(disabled_at=None))
        record(tx, Kind.PERSON_ENABLED, f"enabled {name}", now, actor=by)


def end_sessions(engine: sa.Engine, name: str, by: str, now: datetime) -> int:
    """Sign the person out everywhere; returns how many sessions ended."""
    with connect.writing(engine) as tx:
        _person(tx, name)
        ended = _end_sessions(tx, name, f"ended by {by}", now)
        record(tx, Kind.SIGNED_OUT, f"{ended} sessions of {name} ended", now, actor=by)
        return ended


def _person(tx: sa.Connection, name: str) -> sa.Row[Any]:
    row = tx.execute(sa.select(people).where(people.c.name == name).with_for_update()).one_or_none()
    if row is None:
        raise NotFound(f"nobody is called {name} here")
    return row


def _administrators(tx: sa.Connection) -> set[str]:
    """Who is one now. Their rows are held first and in one order: two cannot each be taken for the one who is left, nor wait in a ring."""
    query = sa.select(people.c.name).where(people.c.role == Role.ADMIN, people.c.disabled_at.is_(None))
    return set(tx.scalars(query.order_by(people.c.name).with_for_update()))


def _end_sessions(tx: sa.Connection, name: str, by: str, now: datetime, keep: str = "") -> int:
    running = sa.and_(sessions.c.person == name, sessions.c.ended_at.is_(None), sessions.c.key != keep)
    return tx.execute(sessions.update().where(running).values(ended_at=now, ended_by=by)).rowcount
