"""Who may do what: roles, the rights of each, and what a session, a token or an invitation is worth at a moment.

Four questions are kept apart. Who is it (a password, a token, the site's identity provider)? May this role do it? Is the proof
still good? Was it written down? The first is answered at the edges, the last by the ledger, the other two here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum


class Role(StrEnum):
    """What a person is here. Each may do what the one before may, and more."""

    READER = "reader"
    PHYSICIST = "physicist"
    ADMIN = "admin"


class May(StrEnum):
    """A right. Every page, verb and answer that needs one names it, and tokens are given single ones."""

    SEE = "see"
    """The list, studies, figures."""
    READ = "read"
    """Claim, release one's own, take over, mark as read, say what was found."""
    TRY = "try"
    """Score an uploaded file; nothing of it is kept."""
    CALIBRATE = "calibrate"
    """Make, approve, activate and roll back calibrations, thresholds and windows."""
    OPERATE = "operate"
    """Requeue, retry, release another's claim, test peers."""
    AUDIT = "audit"
    """Who did what."""
    PEOPLE = "people"
    """Invite, disable, change roles, end sessions, revoke tokens."""


_READER = frozenset({May.SEE, May.READ, May.TRY})
_PHYSICIST = _READER | {May.CALIBRATE}
RIGHTS: dict[Role, frozenset[May]] = {Role.READER: _READER, Role.PHYSICIST: _PHYSICIST, Role.ADMIN: frozenset(May)}
NAME = re.compile(r"^[a-z0-9][a-z0-9._-]{0,63}$")
MIN_PASSWORD, MAX_PASSWORD = 12, 256
MIN_SIGNS = 5
"""Different characters of a password: `aaaaaaaaaaaa` is none."""
COMMON = ("password", "passwort", "radiology", "prioritizer", "hospital", "123456", "qwerty", "letmein", "welcome")


def through(name: str, token: str) -> str:
    """How a person's program is named where it is told apart from its owner."""
    return f"{name} (token {token})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Somebody who proved who they are. `rights` are those of the role, or fewer where a token carries fewer."""

    name: str
    role: Role
    rights: frozenset[May]
    by: str = "session"
    """What proved it: session, token or proxy."""
    session: str = ""
    """The session's key in the ledger; empty for the others."""
    token: str = ""
    """The number of the token that a program carries; empty for a person at a page."""

    @property
    def eyes(self) -> tuple[str, ...]:
        """To whom a result was shown that this one may have seen, the one it is shown to first.

        What a program saw, its owner has not seen; what its owner saw, the owner's word through a program may rest on.
        """
        return (through(self.name, self.token), self.name) if self.token else (self.name,)

    def may(self, right: May) -> bool:
        """True where the person has this right."""
        return right in self.rights


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifetime:
    """How long a sign-in lasts: so long without a request, and so long at most."""

    idle: timedelta = timedelta(minutes=30)
    most: timedelta = timedelta(hours=12)

    def is_over(self, began: datetime, last_seen: datetime, now: datetime) -> bool:
        """True at and after the end; a clock that was set back ends it too."""
        return now >= began + self.most or now >= last_seen + self.idle or now < began - self.idle


def rights_of(role: Role, scopes: frozenset[May] | None = None) -> frozenset[May]:
    """The rights of a role, cut to the scopes of a token: a token never has more than its owner."""
    return RIGHTS[role] if scopes is None else RIGHTS[role] & scopes


def faults_of_name(name: str) -> str:
    """Why this cannot be a user name; empty where it can."""
    if NAME.fullmatch(name):
        return ""
    return "a user name has 1 to 64 small letters, digits, dots, dashes or underscores, and begins with a letter or digit"


def faults_of_password(password: str, name: str) -> str:
    """Why this password is refused, in words; empty where it is not. Length counts, no recipe of signs (NIST SP 800-63B 5.1.1)."""
    if len(password) < MIN_PASSWORD:
        return f"the password needs at least {MIN_PASSWORD} characters; a sentence is easy to keep"
    if len(password) > MAX_PASSWORD:
        return f"the password is longer than {MAX_PASSWORD} characters"
    plain = password.lower()
    if len(set(plain)) < MIN_SIGNS:
        return f"the password has fewer than {MIN_SIGNS} different characters"
    if len(name) > 2 and name in plain:
        return "the password holds the user name"
    left = plain
    for word in COMMON:
        left = left.replace(word, "")
    if len(left) < MIN_PASSWORD - MIN_SIGNS - 1:
        return "the password is made of words that are tried first"
    return ""
