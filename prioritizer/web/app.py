"""The application: every page behind its right, every error explained. Everything it shows comes from `db`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from fastapi.staticfiles import StaticFiles

from prioritizer import __version__
from prioritizer.errors import Forbidden, NotAllowed, NotFound, NotSignedIn, PrioritizerError, TooManyTries, Transient
from prioritizer.web import account, live, machines, people, reading_list, sign_in, study
from prioritizer.web.desk import FOLDER, Page, at_desk, desk_of
from prioritizer.web.security import Armour

STATUSES: tuple[tuple[type[PrioritizerError], int, str], ...] = (
    (NotFound, 404, "Not found"),
    (NotAllowed, 409, "This cannot be done now"),
    (NotSignedIn, 401, "Sign in first"),
    (Forbidden, 403, "Not for you"),
    (TooManyTries, 429, "Too many tries"),
    (Transient, 503, "The list is not available"),
)
"""What each error is over HTTP."""


def page_app(page: Page) -> FastAPI:
    """The application; it binds to no address itself."""
    desk = desk_of(page)

    @asynccontextmanager
    async def open_house(app: FastAPI) -> AsyncIterator[None]:
        desk.pulse.start()
        yield
        desk.pulse.stop()

    app = FastAPI(lifespan=open_house, title="prioritizer", version=__version__, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.desk = desk
    app.mount("/static", StaticFiles(directory=FOLDER / "static"), name="static")
    app.add_middleware(Armour, settings=page.settings)
    for kind, _, _ in STATUSES:
        app.add_exception_handler(kind, explain)
    for part in (sign_in, account, people, study, reading_list, live, machines):
        app.include_router(part.routes)
    return app


def explain(request: Request, error: Exception) -> Response:
    """A page for people, application/problem+json (RFC 9457) for programs: what happened, to what, and the mend."""
    status, title = next((status, title) for kind, status, title in STATUSES if isinstance(error, kind))
    said = str(error)
    if isinstance(error, Transient):
        said += ". Studies are still received and will be listed when it answers. Reload this page."
    headers = {"Retry-After": str(error.seconds)} if isinstance(error, TooManyTries) else {}
    if request.url.path.startswith("/api/"):
        if status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        problem = {"type": "about:blank", "title": title, "status": status, "detail": said, "code": getattr(error, "code", "")}
        return JSONResponse(problem, status, headers, "application/problem+json")
    if isinstance(error, NotSignedIn):
        return sign_in.sign_in_first(request)
    page = at_desk(request).render("message.html", status, title=title, said=said)
    page.headers.update(headers)
    return page
