"""The application: every page behind its right, every error explained. Everything it shows comes from `db`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from types import MappingProxyType

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException as StarletteHTTPException

from prioritizer import __version__
from prioritizer.errors import (
    CalibrationChanged,
    Forbidden,
    ModelError,
    NotAllowed,
    NotFound,
    NotSignedIn,
    PrioritizerError,
    TooManyTries,
    Transient,
    Unprocessable,
)
from prioritizer.web.api import decisions, health, worklist
from prioritizer.web.http.backend import Backend
from prioritizer.web.http.context import FOLDER, context_of, request_context
from prioritizer.web.http.request_limits import RequestLimits, for_programs, headers_of, problem
from prioritizer.web.live import event_stream
from prioritizer.web.pages import (
    accounts,
    actions,
    audit,
    board,
    calibrations,
    conformance,
    oidc,
    own_account,
    settings_overrides,
    sign_in,
    study,
    system,
    upload,
)
from prioritizer.web.pages import worklist as pages_worklist

STATUSES: tuple[tuple[type[PrioritizerError], int, str], ...] = (
    (NotFound, 404, "Not found"),
    (NotAllowed, 409, "This cannot be done now"),
    (CalibrationChanged, 409, "This cannot be done now"),
    (ModelError, 409, "This cannot be done now"),
    (NotSignedIn, 401, "Sign in first"),
    (Forbidden, 403, "Not for you"),
    (TooManyTries, 429, "Too many tries"),
    (Unprocessable, 422, "This cannot be shown"),
    (Transient, 503, "The list is not available"),
)
"""What each error is over HTTP."""
PARTS = (
    sign_in,
    own_account,
    accounts,
    study,
    actions,
    pages_worklist,
    event_stream,
    health,
    upload,
    board,
    calibrations,
    settings_overrides,
    system,
    audit,
    conformance,
    oidc,
    decisions,
    worklist,
)


def page_app(backend: Backend) -> FastAPI:
    """The application; it binds to no address itself."""
    context = request_context(backend)

    @asynccontextmanager
    async def open_house(app: FastAPI) -> AsyncIterator[None]:
        context.change_feed.start()
        yield
        context.change_feed.stop()
        context.prefetch.stop()

    app = FastAPI(lifespan=open_house, title="prioritizer", version=__version__, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.context = context
    app.state.end_streams = context.change_feed.stop
    web = backend.settings().web
    app.state.proxies = web.proxies if web.behind_proxy else ()
    app.state.identity_provider = oidc.ready(app, web) if web.auth == "oidc" else None
    app.mount("/static", StaticFiles(directory=FOLDER / "static"), name="static")
    uploads = dict.fromkeys(("/try", "/api/try"), partial(upload.most_bytes, context))
    app.add_middleware(RequestLimits, settings=backend.configured, uploads=uploads, gate=partial(upload.gate, context), explain=explain)
    for kind, _, _ in STATUSES:
        app.add_exception_handler(kind, explain)
    app.add_exception_handler(RequestValidationError, explain_values)
    app.add_exception_handler(StarletteHTTPException, explain_refusal)
    app.add_exception_handler(Exception, explain_fault)
    for part in PARTS:
        app.include_router(part.routes, include_in_schema=part in (worklist, decisions))
    return app


def explain(request: Request, error: Exception) -> Response:
    """What happened, to what, and the mend."""
    status, title = next((status, title) for kind, status, title in STATUSES if isinstance(error, kind))
    said = str(error)
    if isinstance(error, Transient):
        said += ". Studies are still received and will be listed when it answers. Reload this page."
    if isinstance(error, NotSignedIn) and not for_programs(request):
        return sign_in.sign_in_first(request)
    headers = {"Retry-After": str(error.seconds)} if isinstance(error, TooManyTries) else {}
    return error_page(request, status, title, said, headers, getattr(error, "code", ""))


def explain_values(request: Request, error: Exception) -> Response:
    """Which value of the request is not one, and what it may be."""
    assert isinstance(error, RequestValidationError)
    faults = [f"{'.'.join(str(part) for part in fault['loc'][1:]) or fault['loc'][0]}: {fault['msg']}" for fault in error.errors()]
    return error_page(request, 422, "A value of the address or the form is not right", "; ".join(faults))


def explain_refusal(request: Request, error: Exception) -> Response:
    """An address that is not here, a method it does not have, a request that is too large."""
    assert isinstance(error, StarletteHTTPException)
    titles = {404: "There is no such page", 405: "This page is not asked that way", 408: "Too slow", 413: "Too large"}
    return error_page(
        request, error.status_code, titles.get(error.status_code, "This did not work"), str(error.detail), error.headers or {}
    )


def explain_fault(request: Request, error: Exception) -> Response:
    """A fault of ours: nothing of it is told but that it is one. It is answered outside of `RequestLimits`, and sets the headers itself."""
    said = f"prioritizer made a mistake ({type(error).__name__}). Look whether it took effect before you do it again; the log says more."
    answer = error_page(request, 500, "This is our fault", said)
    answer.headers.update(headers_of({"path": request.url.path}, 500, secure=context_of(request).backend.settings().web.secure))
    return answer


def error_page(
    request: Request, status: int, title: str, said: str, headers: Mapping[str, str] = MappingProxyType({}), code: str = ""
) -> Response:
    """A page for people, application/problem+json (RFC 9457) for programs."""
    if for_programs(request):
        return problem(status, title, said, headers, code)
    page = context_of(request).render("message.html", status, title=title, said=said)
    page.headers.update(headers)
    return page
