"""Who asks, and may they? Sessions, tokens, the proxy of the house; requests of other sites; headers of every answer."""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import sqlalchemy as sa
from fastapi import HTTPException, Request, Response
from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from prioritizer.access import Lifetime, May, Person
from prioritizer.config import Settings
from prioritizer.db import signing_in
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
KEPT = {"Cache-Control": "public, max-age=31536000, immutable"}
"""Of files whose address holds their digest."""
WITH_OWN_PICTURES = {
    "Content-Security-Policy": HEADERS["Content-Security-Policy"].replace("img-src 'self'", "img-src 'self' data:")
}  # fmt: skip
"""Of the one page whose pictures stand in it, because nothing of them is kept."""
PER_NAME_AND_ADDRESS = RateLimitItemPerMinute(10, 5)
PER_ADDRESS = RateLimitItemPerMinute(40, 5)
"""Failed sign-ins: ten in five minutes for a name from one place, forty from one place. None by name alone: a stranger elsewhere would
lock a reader out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Doorkeeper:
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
            return signing_in.by_token(self.engine, secret.strip(), self.now())
        web = self.settings().web
        if web.auth == "proxy":
            name = request.headers.get(web.proxy_header, "") if from_proxy(request, web.proxies) else ""
            return signing_in.by_proxy(self.engine, name) if name else None
        held = request.cookies.get(self.cookie, "")
        return signing_in.by_session(self.engine, held, self.lifetime, self.now(), touch=touch) if held else None

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
        self._limiter = MovingWindowRateLimiter(MemoryStorage())

    def check(self, name: str, address: str, now: datetime) -> None:
        """Raises TooManyTries before the password is looked at."""
        for limit, *keys in self._of(name, address):
            if not self._limiter.test(limit, *keys):
                reset = self._limiter.get_window_stats(limit, *keys).reset_time
                raise TooManyTries(max(int(reset - now.timestamp()), 1))

    def failed(self, name: str, address: str) -> None:
        """One more."""
        for limit, *keys in self._of(name, address):
            self._limiter.hit(limit, *keys)

    @staticmethod
    def _of(name: str, address: str) -> tuple[tuple[Any, ...], ...]:
        return (PER_NAME_AND_ADDRESS, name, address), (PER_ADDRESS, address)


def too_much(most: int) -> str:
    """Why a request was refused."""
    return f"more than {most // 1024} KiB were sent; this page takes no more"


def _counted(receive: Receive, most: int) -> Receive:
    """The same request, ended where it grows beyond what it may be, whatever it said of its length."""
    seen = 0

    async def counted() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > most:
            raise HTTPException(413, too_much(most))
        return message

    return counted


def from_proxy(request: Request, proxies: tuple[str, ...]) -> bool:
    """True where the connection itself comes from an address of the proxy."""
    return request.client is not None and any(_same_address(request.client.host, proxy) for proxy in proxies)


def _same_address(one: str, other: str) -> bool:
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


def is_foreign(method: str, headers: MutableMapping[str, str], hosts: tuple[str, ...]) -> bool:
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


MOST_BYTES = 256 * 1024
"""Of a request. A form here has a few lines; only what takes files may take more."""


def headers_of(scope: Message, status: int, *, secure: bool) -> dict[str, str]:
    """The headers of an answer."""
    found = dict(HEADERS)
    if scope["path"] == "/try":
        found |= WITH_OWN_PICTURES
    if scope["path"].startswith("/static/") and scope.get("query_string") and status == 200:
        found |= KEPT
    if secure:
        found["Strict-Transport-Security"] = "max-age=31536000"
    return found


class Armour:
    """Refuses requests of other sites and oversized ones, and puts the security headers on every answer, streams and errors included."""

    def __init__(self, app: App, *, settings: Callable[[], Settings], uploads: Mapping[str, Callable[[], int]]) -> None:
        self._app, self._settings, self._uploads = app, settings, uploads

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)

        async def hardened(message: Message) -> None:
            if message["type"] == "http.response.start":
                added = headers_of(scope, message["status"], secure=self._settings().web.secure)
                if any(key.lower() == b"content-security-policy" for key, _ in message["headers"]):
                    added = {key: value for key, value in added.items() if key != "Content-Security-Policy"}
                kept = [(key, value) for key, value in message["headers"] if key.decode().title() not in {h.title() for h in added}]
                message["headers"] = kept + [(key.lower().encode(), value.encode()) for key, value in added.items()]
            await send(message)

        hosts = (request.headers.get("host", ""), *([request.headers["x-forwarded-host"]] if self._believed(request) else []))
        if is_foreign(scope["method"], dict(request.headers), hosts):
            await Response("this request was sent by another site", 403)(scope, receive, hardened)
            return
        if "\0" in scope["path"] or b"%00" in scope.get("query_string", b""):
            await Response("an address holds no NUL", 400)(scope, receive, hardened)
            return
        most = self._uploads.get(scope["path"], lambda: MOST_BYTES)()
        said = request.headers.get("content-length", "")
        if said.isdecimal() and int(said) > most:
            await Response(too_much(most), 413)(scope, receive, hardened)
            return
        await self._app(scope, _counted(receive, most), hardened)

    def _believed(self, request: Request) -> bool:
        web = self._settings().web
        return web.behind_proxy and "x-forwarded-host" in request.headers and from_proxy(request, web.proxies)
