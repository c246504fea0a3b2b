"""What stands before every page: requests of other sites, oversized, slow and unasked uploads are refused, answers get their headers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from types import MappingProxyType

from fastapi import HTTPException, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, PlainTextResponse, Response

from prioritizer.config.settings import Settings
from prioritizer.errors import PrioritizerError
from prioritizer.web.http.auth import HEADERS, App, Message, Receive, Send, hosts_of, is_foreign

KEPT = {"Cache-Control": "public, max-age=31536000, immutable"}
"""Of files whose address holds their digest."""
WITH_OWN_PICTURES = {
    "Content-Security-Policy": HEADERS["Content-Security-Policy"].replace("img-src 'self'", "img-src 'self' data:")
}  # fmt: skip
"""Of the one page whose pictures stand in it, because nothing of them is kept."""
MAX_BYTES = 256 * 1024
"""Of a request. A form here has a few lines; only what takes files may take more."""
BODY_S = 30.0
"""Seconds in which the body of a request must be here, and besides"""
SLOWEST = 512 * 1024
"""bytes a second of what it may have at most: 64 MiB have two minutes and a half."""
Gate = Callable[[Request], Callable[[], None]]
"""Who may send what this path takes? Returns what gives the place back. Raises what stands in the way."""


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


def for_programs(request: Request) -> bool:
    """True where a program asks."""
    return request.url.path.startswith("/api/")


def problem(status: int, title: str, said: str, headers: Mapping[str, str] = MappingProxyType({}), code: str = "") -> JSONResponse:
    """What went wrong, for programs (RFC 9457)."""
    more = {"WWW-Authenticate": "Bearer"} if status == 401 else {}
    told = {"type": "about:blank", "title": title, "status": status, "detail": said} | ({"code": code} if code else {})
    return JSONResponse(told, status, {**headers, **more}, "application/problem+json")


def too_much(most: int) -> str:
    """Why a request was refused."""
    return f"more than {most // 1024} KiB were sent; this page takes no more"


class Body:
    """The body of a request, ended where it grows beyond what it may be, whatever it said of its length, or where it does not come."""

    def __init__(self, receive: Receive, most: int) -> None:
        self._receive, self._most = receive, most
        self._until = asyncio.get_running_loop().time() + BODY_S + most / SLOWEST
        self._seen = 0
        self._whole = False

    async def __call__(self) -> Message:
        """ASGI's receive. Raises HTTPException."""
        if self._whole:  # What comes now is that the browser left, whenever that is.
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._until):
                message = await self._receive()
        except TimeoutError as error:
            raise HTTPException(408, "the request came too slowly and was given up; nothing was done") from error
        self._seen += len(message.get("body", b""))
        self._whole = not message.get("more_body", False)
        if self._seen > self._most:
            raise HTTPException(413, too_much(self._most))
        return message


class RequestLimits:
    """Refuses what needs no page to be refused, and puts the security headers on every answer, streams and errors included."""

    def __init__(
        self,
        app: App,
        *,
        settings: Callable[[], Settings],
        uploads: Mapping[str, Callable[[], int]],
        gate: Gate,
        explain: Callable[[Request, Exception], Response],
    ) -> None:
        """`uploads`: bytes that a path which takes files may be sent, once `gate` let the sender in."""
        self._app, self._settings, self._uploads, self._gate, self._explain = app, settings, uploads, gate, explain

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request, hardened = Request(scope), self._hardened(scope, send)
        most = self._uploads.get(scope["path"], lambda: MAX_BYTES)()
        refusal = self._refusal(request, most)
        if refusal is not None:
            await refusal(scope, receive, hardened)
        elif scope["method"] == "POST" and scope["path"] in self._uploads:
            await self._take(request, Body(receive, most), hardened)
        else:
            await self._app(scope, Body(receive, most), hardened)

    def _hardened(self, scope: Message, send: Send) -> Send:
        async def hardened(message: Message) -> None:
            if message["type"] == "http.response.start":
                added = headers_of(scope, message["status"], secure=self._settings().web.secure)
                if any(key.lower() == b"content-security-policy" for key, _ in message["headers"]):
                    added = {key: value for key, value in added.items() if key != "Content-Security-Policy"}
                kept = [(key, value) for key, value in message["headers"] if key.decode().title() not in {h.title() for h in added}]
                message["headers"] = kept + [(key.lower().encode(), value.encode()) for key, value in added.items()]
            await send(message)

        return hardened

    def _refusal(self, request: Request, most: int) -> Response | None:
        """What is answered without asking a page; None where one is asked."""
        said = request.headers.get("content-length", "")
        if is_foreign(request.method, request.headers, hosts_of(request, self._settings())):
            status, title, why = 403, "Not from here", "this request was sent by another site"
        elif "\0" in request.scope["path"] or b"%00" in request.scope.get("query_string", b""):
            status, title, why = 400, "Not an address", "an address holds no NUL"
        elif said.isdecimal() and int(said) > most:
            status, title, why = 413, "Too large", too_much(most)
        else:
            return None
        return problem(status, title, why) if for_programs(request) else PlainTextResponse(why, status)

    async def _take(self, request: Request, body: Receive, send: Send) -> None:
        """A file: who sends it is asked before the first byte of it is read. The place is free again when the answer begins."""
        try:
            release = await run_in_threadpool(self._gate, request)
        except PrioritizerError as error:
            refused = await run_in_threadpool(self._explain, request, error)
            await refused(request.scope, body, send)
            return
        held = [release]

        async def sent(message: Message) -> None:
            while held:
                held.pop()()
            await send(message)

        try:
            await self._app(request.scope, body, sent)
        finally:
            while held:
                held.pop()()
