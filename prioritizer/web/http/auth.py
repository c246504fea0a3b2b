"""Who asks, and may they? Sessions, tokens, the proxy of the site; tries that are counted; requests of other sites."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import sqlalchemy as sa
from fastapi import Request, Response
from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter

from prioritizer.access import Lifetime, May, Person
from prioritizer.config.settings import Settings
from prioritizer.db.accounts import sessions
from prioritizer.errors import Forbidden, NotSignedIn, TooManyTries

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]
Receive = Callable[[], Awaitable[Message]]
App = Callable[[Message, Receive, Send], Awaitable[None]]
COOKIE = "prioritizer_session"
SAFE = ("GET", "HEAD", "OPTIONS")
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin-allow-popups",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
PER_NAME_AND_ADDRESS = RateLimitItemPerMinute(10, 5)
PER_ADDRESS = RateLimitItemPerMinute(40, 5)
"""Failed sign-ins: ten in five minutes for a name from one place, forty from one place. None by name alone: a stranger elsewhere would
lock a reader out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessPolicy:
    """Recognises people by what their request carries."""

    engine: sa.Engine
    settings: Callable[[], Settings]
    now: Callable[[], datetime]

    @property
    def cookie(self) -> str:
        """Its name; with TLS one that no other host and no plain page can set."""
        return f"__Host-{COOKIE}" if self.settings().web.secure else COOKIE

    @property
    def lifetime(self) -> Lifetime:
        """How long a sign-in lasts here."""
        web = self.settings().web
        return Lifetime(idle=timedelta(minutes=web.idle_minutes), most=timedelta(hours=web.session_hours))

    def recognise(self, request: Request, *, touch: bool = True) -> Person | None:
        """Who sent this request; None for a stranger. A token that is not good is never made good by a cookie beside it."""
        scheme, _, secret = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return sessions.by_token(self.engine, secret.strip(), self.now())
        web = self.settings().web
        if web.auth == "proxy":
            name = request.headers.get(web.proxy_header, "") if from_proxy(request, web.proxies) else ""
            return sessions.by_proxy(self.engine, name) if name else None
        held = request.cookies.get(self.cookie, "")
        return sessions.by_session(self.engine, held, self.lifetime, self.now(), touch=touch) if held else None

    def admit(self, request: Request, right: May, *, touch: bool = True) -> Person:
        """Who asks, where they have this right. Raises NotSignedIn and Forbidden. `touch`: they did something, and so are still there."""
        person = self.recognise(request, touch=touch)
        if person is None:
            raise NotSignedIn
        if not person.may(right):
            raise Forbidden(f"{person.name} ({person.role}) has no right to {right.value} here")
        return person

    def let_in(self, response: Response, secret: str) -> None:
        """Give the browser its session; scripts cannot read it, other sites do not send it along."""
        secure = self.settings().web.secure
        age = int(self.lifetime.most.total_seconds())
        response.set_cookie(self.cookie, secret, max_age=age, path="/", httponly=True, samesite="lax", secure=secure)

    def let_out(self, response: Response) -> None:
        """Take it back."""
        response.delete_cookie(self.cookie, path="/", httponly=True, samesite="lax", secure=self.settings().web.secure)


class SignInLimits:
    """Counts failed sign-ins in memory; a restart forgets them, the events of the ledger do not."""

    def __init__(self) -> None:
        self._storage = MemoryStorage()
        self._limiter = FixedWindowRateLimiter(self._storage)

    def begin(self, name: str | None, address: str) -> None:
        """One more, before the password is looked at: of many at once no more are tried than may fail. Raises TooManyTries.

        `name` is None where nobody is named before it is known.
        """
        counted = []
        for limit, *keys in self._of(name, address):
            counted.append(limit.key_for(*keys))
            if not self._limiter.hit(limit, *keys):
                reset = self._limiter.get_window_stats(limit, *keys).reset_time
                self._uncount(counted)
                raise TooManyTries(max(int(reset - time.time()), 1))

    def take_back(self, name: str | None, address: str) -> None:
        """It did not fail."""
        self._uncount([limit.key_for(*keys) for limit, *keys in self._of(name, address)])

    def _uncount(self, keys: list[str]) -> None:
        for key in keys:
            self._storage.decr(key)

    @staticmethod
    def _of(name: str | None, address: str) -> list[tuple[Any, ...]]:
        return [(PER_ADDRESS, address), *([(PER_NAME_AND_ADDRESS, name, address)] if name is not None else [])]


def from_proxy(request: Request, proxies: tuple[str, ...]) -> bool:
    """True where the connection itself comes from an address of the proxy."""
    return request.client is not None and any(same_address(request.client.host, proxy) for proxy in proxies)


def same_address(one: str, other: str) -> bool:
    """True where `one` is `other`, or lies in it where that is a network."""
    try:
        return ipaddress.ip_address(one) in ipaddress.ip_network(other, strict=False)
    except ValueError:
        return one == other


def address_of(request: Request, settings: Settings) -> str:
    """Where the request comes from; what a proxy says of it is believed only of the proxy."""
    direct = request.client.host if request.client else "?"
    if settings.web.behind_proxy and from_proxy(request, settings.web.proxies):
        return request.headers.get("x-forwarded-for", direct).split(",")[-1].strip()
    return direct


def hosts_of(request: Request, settings: Settings) -> tuple[str, ...]:
    """What this site is called by who asks; what a proxy says of it is believed only of the proxy."""
    web, said = settings.web, request.headers.get("x-forwarded-host")
    believed = web.behind_proxy and said is not None and from_proxy(request, web.proxies)
    return (request.headers.get("host", ""), *([said] if said is not None and believed else []))


def is_foreign(method: str, headers: Mapping[str, str], hosts: tuple[str, ...]) -> bool:
    """True for a request that changes something and that a page of another site made a browser send.

    Browsers say where a request comes from (Sec-Fetch-Site, Origin) and pages cannot change it. Programs say neither and carry no
    cookie that somebody else could use; a bearer token is never sent along by a browser.
    """
    if method in SAFE or headers.get("authorization", "").lower().startswith("bearer "):
        return False
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site not in ("same-origin", "none")
    origin = headers.get("origin")
    return origin is not None and urlsplit(origin).netloc not in hosts
