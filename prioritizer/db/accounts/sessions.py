"""Sessions and tokens: begun, recognised, ended. The ledger keeps digests, so that a copy of it signs in nobody."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa

from prioritizer import access
from prioritizer.access import Lifetime, May, Person, Role
from prioritizer.db.accounts.people import digest
from prioritizer.db.schema import connect
from prioritizer.db.schema.events import Kind, record
from prioritizer.db.schema.people_tables import people, sessions, tokens
from prioritizer.errors import NotAllowed, NotFound

SEEN_EVERY = timedelta(seconds=60)
"""How exactly the last request of a session or token is kept: not every page that is looked at writes."""
TOKEN_PREFIX = "prio_"  # noqa: S105 - what every token begins with
"""So that a token that stands in a log or a repository by mistake is found."""
MAX_TOKEN = timedelta(days=366)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRow:
    """One token, without its secret."""

    id: str
    person: str
    purpose: str
    scopes: list[str]
    made_at: datetime
    made_by: str
    ends_at: datetime
    used_at: datetime | None
    revoked_at: datetime | None


def begin(engine: sa.Engine, name: str, address: str, now: datetime) -> str:
    """A new session of a person who proved who they are; returns the secret for the browser, never one that it sent."""
    secret = secrets.token_urlsafe(32)
    with connect.writing(engine) as tx:
        held = tx.execute(sa.select(people.c.disabled_at).where(people.c.name == name)).one_or_none()
        if held is None or held.disabled_at is not None:
            raise NotAllowed(f"{name} cannot sign in here")
        tx.execute(sessions.insert().values(key=digest(secret), person=name, began_at=now, seen_at=now, address=address))
        record(tx, Kind.SIGNED_IN, f"signed in from {address}", now, actor=name)
    return secret


def refused(engine: sa.Engine, name: str, address: str, now: datetime) -> None:
    """A sign-in that failed is written down, with the name as it was typed where it could be one."""
    typed = name if not access.faults_of_name(name) else "a name that cannot exist"
    with connect.writing(engine) as tx:
        record(tx, Kind.SIGN_IN_REFUSED, f"sign-in refused for {typed} from {address}", now, actor="page")


def by_session(engine: sa.Engine, secret: str, lifetime: Lifetime, now: datetime, *, touch: bool = True) -> Person | None:
    """The person whose browser holds this secret; None where the session is over, ended, or never was. `touch`: they are there."""
    joined = sessions.join(people, people.c.name == sessions.c.person)
    query = sa.select(sessions, people.c.role, people.c.disabled_at).select_from(joined).where(sessions.c.key == digest(secret))
    with connect.reading(engine) as tx:
        row = tx.execute(query).one_or_none()
    if row is None or row.ended_at is not None or row.disabled_at is not None or lifetime.is_over(row.began_at, row.seen_at, now):
        return None
    if touch and now - row.seen_at >= SEEN_EVERY:
        with connect.writing(engine) as tx:
            tx.execute(sessions.update().where(sessions.c.key == row.key, sessions.c.ended_at.is_(None)).values(seen_at=now))
    role = Role(row.role)
    return Person(name=row.person, role=role, rights=access.rights_of(role), session=row.key)


def by_proxy(engine: sa.Engine, name: str) -> Person | None:
    """The person whom the proxy of the site names; None where nobody of that name may come in here."""
    with connect.reading(engine) as tx:
        row = tx.execute(sa.select(people).where(people.c.name == name.strip().lower())).one_or_none()
    if row is None or row.disabled_at is not None:
        return None
    role = Role(row.role)
    return Person(name=row.name, role=role, rights=access.rights_of(role), by="proxy")


def end(engine: sa.Engine, person: Person, now: datetime) -> None:
    """The person signs out: the secret is worth nothing after this."""
    with connect.writing(engine) as tx:
        running = sa.and_(sessions.c.key == person.session, sessions.c.ended_at.is_(None))
        if tx.execute(sessions.update().where(running).values(ended_at=now, ended_by=person.name)).rowcount:
            record(tx, Kind.SIGNED_OUT, "signed out", now, actor=person.name)


def make_token(
    engine: sa.Engine, name: str, purpose: str, scopes: Iterable[May], by: str, now: datetime, lasts: timedelta
) -> tuple[str, TokenRow]:
    """A token for a program that acts as `name`; its secret is shown this once. Raises NotAllowed or NotFound."""
    wanted = sorted(set(scopes))
    if not wanted or not purpose.strip():
        raise NotAllowed("a token needs a purpose and at least one scope")
    if not timedelta(0) < lasts <= MAX_TOKEN:
        raise NotAllowed(f"a token lasts at most {MAX_TOKEN.days} days")
    secret = TOKEN_PREFIX + secrets.token_urlsafe(32)
    row = TokenRow(
        id=secrets.token_hex(4), person=name, purpose=purpose.strip(), scopes=list(wanted), made_at=now, made_by=by,
        ends_at=now + lasts, used_at=None, revoked_at=None,
    )  # fmt: skip
    with connect.writing(engine) as tx:
        owner = tx.execute(sa.select(people.c.role, people.c.disabled_at).where(people.c.name == name)).one_or_none()
        if owner is None:
            raise NotFound(f"nobody is called {name} here")
        lacking = [right for right in wanted if right not in access.RIGHTS[Role(owner.role)]]
        if owner.disabled_at is not None or lacking:
            raise NotAllowed(f"{name} is disabled" if owner.disabled_at is not None else f"{name} has no right to {', '.join(lacking)}")
        values = {field: getattr(row, field) for field in TokenRow.__dataclass_fields__}
        tx.execute(tokens.insert().values(key=digest(secret), **values))
        record(tx, Kind.TOKEN_MADE, f"token {row.id} for {name}: {row.purpose} ({', '.join(wanted)})", now, actor=by)
    return secret, row


def by_token(engine: sa.Engine, secret: str, now: datetime) -> Person | None:
    """The person as whom a program acts; None where the token is over, revoked, or never was."""
    joined = tokens.join(people, people.c.name == tokens.c.person)
    query = sa.select(tokens, people.c.role, people.c.disabled_at).select_from(joined).where(tokens.c.key == digest(secret))
    with connect.reading(engine) as tx:
        row = tx.execute(query).one_or_none()
    if row is None or row.revoked_at is not None or row.disabled_at is not None or now >= row.ends_at:
        return None
    if row.used_at is None or now - row.used_at >= SEEN_EVERY:
        with connect.writing(engine) as tx:
            tx.execute(tokens.update().where(tokens.c.key == row.key).values(used_at=now))
    role = Role(row.role)
    scopes = frozenset(May(scope) for scope in row.scopes)
    return Person(name=row.person, role=role, rights=access.rights_of(role, scopes), by=f"token {row.id}", token=row.id)


def listed_tokens(engine: sa.Engine, person: str | None = None) -> list[TokenRow]:
    """Tokens that are good or were, newest first; of one person, or of all."""
    query = sa.select(*(tokens.c[name] for name in TokenRow.__dataclass_fields__)).order_by(tokens.c.made_at.desc(), tokens.c.id)
    if person is not None:
        query = query.where(tokens.c.person == person)
    with connect.reading(engine) as tx:
        return [TokenRow(**row._mapping) for row in tx.execute(query)]


def revoke(engine: sa.Engine, token_id: str, by: Person, now: datetime) -> None:
    """The token is worth nothing after this; one's own, or anybody's with the right to `people`. Raises NotFound, NotAllowed."""
    with connect.writing(engine) as tx:
        row = tx.execute(sa.select(tokens).where(tokens.c.id == token_id).with_for_update()).one_or_none()
        if row is None or (row.person != by.name and not by.may(May.PEOPLE)):
            raise NotFound(f"no token {token_id} of yours")
        if row.revoked_at is not None:
            raise NotAllowed(f"token {token_id} was revoked before")
        tx.execute(tokens.update().where(tokens.c.id == token_id).values(revoked_at=now))
        record(tx, Kind.TOKEN_REVOKED, f"token {token_id} revoked", now, actor=by.name)


def forget(engine: sa.Engine, before: datetime) -> int:
    """Sessions last seen before this moment leave the table, but for a person's newest, which tells when they were here last.

    The audit keeps that they were. Returns how many.
    """
    later = sessions.alias()
    newer = sa.tuple_(later.c.seen_at, later.c.key) > sa.tuple_(sessions.c.seen_at, sessions.c.key)
    followed = sa.exists().where(later.c.person == sessions.c.person, newer)
    with connect.writing(engine) as tx:
        return tx.execute(sessions.delete().where(sessions.c.seen_at < before, followed)).rowcount
