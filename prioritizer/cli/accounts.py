"""The verbs of the administrator: who may sign in, as what, and which programs act for them."""

from __future__ import annotations

import getpass
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from prioritizer.access import May, Person, Role
from prioritizer.cli.exit_codes import out, print_json, talk, verb
from prioritizer.cli.options import AsJson, ConfigFile, ledger_of
from prioritizer.clock import utc_now

if TYPE_CHECKING:
    from datetime import datetime

    from prioritizer.config.settings import Settings

app = typer.Typer()
people = typer.Typer(help="Who may sign in: invite, change roles, disable, sign out, tokens for programs.", no_args_is_help=True)
app.add_typer(people, name="people")

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of a person, small letters.")]
Who = Annotated[str, typer.Option("--as", help="Who does this; it is recorded.", show_default="the user signed in here")]


def moment(at: datetime | None, otherwise: str) -> str:
    """A moment in the machine's zone, or the word for none."""
    return at.astimezone().strftime("%Y-%m-%d %H:%M") if at else otherwise


def link_of(settings: Settings, secret: str) -> str:
    """The address of a one-time link on this machine; behind a proxy the host is the proxy's."""
    scheme = "https" if settings.web.tls_certificate else "http"
    host = settings.web.host if settings.web.host not in ("0.0.0.0", "::") else "HOST"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{settings.web.port}/welcome/{secret}"


@people.command("list")
@verb
def list_(config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Everybody who may sign in."""
    from rich.table import Table

    from prioritizer.db.accounts import people as ledger

    engine, _ = ledger_of(config)
    rows = ledger.listed(engine)
    if as_json:
        print_json(
            [
                {
                    "name": row.name,
                    "role": row.role,
                    "made_at": row.made_at.isoformat(),
                    "made_by": row.made_by,
                    "disabled_at": row.disabled_at.isoformat() if row.disabled_at else None,
                    "last_seen": row.last_seen.isoformat() if row.last_seen else None,
                    "open_sessions": row.open_sessions,
                }
                for row in rows
            ]
        )
        return
    table = Table("name", "role", "since", "last seen", "sessions", box=None)
    for row in rows:
        role = row.role + (f", disabled {moment(row.disabled_at, '')}" if row.disabled_at else "")
        table.add_row(row.name, role, moment(row.made_at, ""), moment(row.last_seen, "never"), str(row.open_sessions))
    out.print(table if rows else "Nobody may sign in yet: prioritizer people invite NAME --role admin")


@people.command()
@verb
def invite(
    name: Name,
    role: Annotated[Role, typer.Option(help="What the person is here.")] = Role.READER,
    who: Who = getpass.getuser(),
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Make a one-time link by which NAME sets a password: for a new person, or a forgotten password. Good for 24 hours."""
    from prioritizer.db.accounts import people as ledger

    engine, settings = ledger_of(config)
    link = link_of(settings, ledger.invite(engine, name, role, who, utc_now()))
    if as_json:
        print_json({"name": name, "role": role.value, "link": link})
        return
    out.print(link, markup=False, highlight=False, soft_wrap=True)
    talk.print(f"Give it to {name}. It works once, within 24 hours, and is shown only here.")


@people.command()
@verb
def add(
    name: Name,
    role: Annotated[Role, typer.Option(help="What the person is here.")] = Role.READER,
    who: Who = getpass.getuser(),
    config: ConfigFile = None,
) -> None:
    """Let NAME in without a password: for web.auth = "proxy", or for a program that uses a token."""
    from prioritizer.db.accounts import people as ledger

    engine, _ = ledger_of(config)
    ledger.add(engine, name, role, who, utc_now())
    talk.print(f"{name} is {role.value} now; without a password, so by proxy or token only")


@people.command()
@verb
def role(
    name: Name,
    role: Annotated[Role, typer.Argument(help="The new role.")],
    who: Who = getpass.getuser(),
    config: ConfigFile = None,
) -> None:
    """Give NAME another role, at once and in every session."""
    from prioritizer.db.accounts import people as ledger

    engine, _ = ledger_of(config)
    ledger.set_role(engine, name, role, who, utc_now())
    talk.print(f"{name} is {role.value} now")


@people.command()
@verb
def disable(name: Name, who: Who = getpass.getuser(), config: ConfigFile = None) -> None:
    """NAME can no longer sign in; sessions and tokens end now."""
    from prioritizer.db.accounts import people as ledger

    engine, _ = ledger_of(config)
    ledger.disable(engine, name, who, utc_now())
    talk.print(f"{name} is disabled; sessions and tokens have ended")


@people.command()
@verb
def enable(name: Name, who: Who = getpass.getuser(), config: ConfigFile = None) -> None:
    """NAME may sign in again. Revoked tokens stay revoked."""
    from prioritizer.db.accounts import people as ledger

    engine, _ = ledger_of(config)
    ledger.enable(engine, name, who, utc_now())
    talk.print(f"{name} may sign in again")


@people.command("sign-out")
@verb
def sign_out(name: Name, who: Who = getpass.getuser(), config: ConfigFile = None) -> None:
    """End every session of NAME."""
    from prioritizer.db.accounts import people as ledger

    engine, _ = ledger_of(config)
    talk.print(f"{ledger.end_sessions(engine, name, who, utc_now())} sessions of {name} ended")


@people.command()
@verb
def token(
    name: Name,
    purpose: Annotated[str, typer.Option(help="What it is for; it is recorded.")],
    scope: Annotated[list[May] | None, typer.Option(help="What it may do, several times for several.", show_default="see")] = None,
    days: Annotated[int, typer.Option(min=1, max=366, help="Days it lasts.")] = 90,
    who: Who = getpass.getuser(),
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Make a token for a program that acts as NAME. Its secret is printed once."""
    from prioritizer.db.accounts import sessions

    engine, _ = ledger_of(config)
    secret, row = sessions.make_token(engine, name, purpose, scope or [May.SEE], who, utc_now(), timedelta(days=days))
    if as_json:
        print_json({"id": row.id, "token": secret, "person": name, "scopes": row.scopes, "ends_at": row.ends_at.isoformat()})
        return
    out.print(secret, markup=False, highlight=False, soft_wrap=True)
    talk.print(f"Token {row.id}, until {moment(row.ends_at, '')}. It is shown only here. Use: Authorization: Bearer TOKEN")


@people.command()
@verb
def tokens(config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Every token, without its secret."""
    from rich.table import Table

    from prioritizer.db.accounts import sessions

    engine, _ = ledger_of(config)
    rows = sessions.listed_tokens(engine)
    if as_json:
        print_json(
            [
                {
                    "id": row.id,
                    "person": row.person,
                    "purpose": row.purpose,
                    "scopes": row.scopes,
                    "ends_at": row.ends_at.isoformat(),
                    "used_at": row.used_at.isoformat() if row.used_at else None,
                    "revoked_at": row.revoked_at.isoformat() if row.revoked_at else None,
                }
                for row in rows
            ]
        )
        return
    table = Table("token", "acts as", "for", "scopes", "last used", "until", box=None)
    for row in rows:
        until = f"revoked {moment(row.revoked_at, '')}" if row.revoked_at else moment(row.ends_at, "")
        table.add_row(row.id, row.person, row.purpose, ", ".join(row.scopes), moment(row.used_at, "never"), until)
    out.print(table if rows else "No tokens.")


@people.command()
@verb
def revoke(
    token_id: Annotated[str, typer.Argument(metavar="ID", help="Id of a token.")], who: Who = getpass.getuser(), config: ConfigFile = None
) -> None:
    """A token is worth nothing from now on."""
    from prioritizer.access import RIGHTS
    from prioritizer.db.accounts import sessions

    engine, _ = ledger_of(config)
    sessions.revoke(engine, token_id, Person(name=who, role=Role.ADMIN, rights=RIGHTS[Role.ADMIN], by="cli"), utc_now())
    talk.print(f"token {token_id} is revoked")
