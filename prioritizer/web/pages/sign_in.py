"""Coming and going: sign-in, the one-time link, sign-out."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import unquote, urlencode, urlsplit

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Match

from prioritizer.access import MIN_PASSWORD
from prioritizer.db.accounts import people, sessions
from prioritizer.errors import NotAllowed, PrioritizerError
from prioritizer.web.http.auth import SAFE, address_of, hosts_of
from prioritizer.web.http.context import Context, RequestContext, Text, context_of

routes = APIRouter()
WRONG = "Name and password do not fit together, or this person may not sign in here."
"""The same for a wrong name and a wrong password: nobody learns who exists."""


def inside(path: str) -> str:
    """The place to go after signing in: a path of this site, or the list."""
    return path if path.startswith("/") and not path.startswith("//") and "\\" not in path else "/"


def came_from(request: Request) -> str:
    """The page of this site on which a button was pressed; the list where it is not known, or cannot be asked for."""
    said = urlsplit(request.headers.get("referer", ""))
    ours = said.netloc in hosts_of(request, context_of(request).backend.configured())
    return inside(said.path + (f"?{said.query}" if said.query else "")) if ours and _is_page(request, said.path) else "/"


def _is_page(request: Request, path: str) -> bool:
    asked = {"type": "http", "method": "GET", "path": unquote(path), "root_path": "", "headers": []}
    return any(route.matches(asked)[0] is Match.FULL for route in request.app.routes)


def sign_in_first(request: Request) -> Response:
    """To the form, and from there back to the page that was asked for, or on which a step was taken that was not done."""
    if request.method in SAFE:
        told = {"to": request.url.path + (f"?{request.url.query}" if request.url.query else "")}
    else:
        told = {"to": came_from(request), "lost": "true"}
    return RedirectResponse(f"/sign-in?{urlencode(told)}", 303)


def form(context: RequestContext, status: int = 200, **values: Any) -> HTMLResponse:
    """The form; where others sign people in, what to do instead."""
    first = status == 200 and not people.has_administrator(context.engine)
    return context.render("sign_in.html", status, auth=context.backend.settings().web.auth, first=first, **values)


@routes.get("/sign-in", response_class=HTMLResponse)
def sign_in_page(context: Context, request: Request, to: str = "/", *, lost: bool = False) -> Response:
    """Where a stranger begins. `lost`: what they just did was not done."""
    if context.access.recognise(request) is not None:
        return RedirectResponse(inside(to), 303)
    return form(context, to=inside(to), lost=lost)


def is_right(context: RequestContext, name: str, password: str, address: str) -> bool:
    """True for the right password. It counts as a failed try of this place until it is known not to be one. Raises TooManyTries."""
    context.limits.begin(name, address)
    try:
        right = people.check_password(context.engine, name, password)
    except PrioritizerError:
        context.limits.take_back(name, address)
        raise
    if right:
        context.limits.take_back(name, address)
    else:
        sessions.refused(context.engine, name, address, context.now)
    return right


@routes.post("/sign-in", response_class=HTMLResponse)
def sign_in(
    context: Context, request: Request, name: Text = "", password: Text = "", to: Text = "/", *, lost: Annotated[bool, Form()] = False
) -> Response:
    """Begin a session. The browser gets a new secret, whatever it sent."""
    settings = context.backend.settings()
    if settings.web.auth != "local":
        raise NotAllowed(f"people are signed in by the {'proxy' if settings.web.auth == 'proxy' else 'identity provider'} of the site")
    name, address = name.strip().lower(), address_of(request, settings)
    if not is_right(context, name, password, address):
        return form(context, 401, to=inside(to), lost=lost, fault=WRONG, name=name)
    response = RedirectResponse(inside(to), 303)
    context.access.let_in(response, sessions.begin(context.engine, name, address, context.now))
    return response


@routes.post("/sign-out")
def sign_out(context: Context, request: Request) -> Response:
    """End the session, in the browser and in the ledger."""
    person = context.access.recognise(request)
    if person is not None and person.session:
        sessions.end(context.engine, person, context.now)
    response = RedirectResponse("/sign-in", 303)
    context.access.let_out(response)
    return response


@routes.get("/welcome/{secret}", response_class=HTMLResponse)
def welcome(context: Context, secret: str) -> Response:
    """What a one-time link is good for; looking at it does not use it."""
    found = people.invitation(context.engine, secret, context.now)
    return context.render("welcome.html", secret=secret, invited=found, shortest=MIN_PASSWORD)


@routes.post("/welcome/{secret}", response_class=HTMLResponse)
def accept(context: Context, request: Request, secret: str, password: Text = "", again: Text = "", name: Text = "") -> Response:
    """Use the link: set the password and sign in."""
    now = context.now
    found = people.invitation(context.engine, secret, now)
    try:
        who = people.accept(context.engine, secret, name.strip().lower(), people.agreed(password, again), now)
    except NotAllowed as error:
        told = {"secret": secret, "invited": found, "shortest": MIN_PASSWORD, "fault": str(error), "name": name}
        return context.render("welcome.html", 422, **told)
    response = RedirectResponse("/", 303)
    context.access.let_in(response, sessions.begin(context.engine, who, address_of(request, context.backend.settings()), now))
    return response
