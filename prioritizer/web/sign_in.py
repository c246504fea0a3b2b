"""Coming and going: sign-in, the one-time link, sign-out."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from prioritizer.access import SHORTEST_PASSWORD
from prioritizer.db import people, signing_in
from prioritizer.errors import NotAllowed
from prioritizer.web.desk import Here, Text
from prioritizer.web.security import address_of

routes = APIRouter()
WRONG = "Name and password do not fit together, or this person may not sign in here."
"""The same for a wrong name and a wrong password: nobody learns who exists."""


def inside(path: str) -> str:
    """The place to go after signing in: a path of this site, or the list."""
    return path if path.startswith("/") and not path.startswith("//") and "\\" not in path else "/"


def sign_in_first(request: Request) -> Response:
    """To the form, and from there back to the page that was asked for."""
    asked = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    target = request.url_for("sign_in_page").include_query_params(to=asked if request.method == "GET" else "/")
    return RedirectResponse(f"{target.path}?{target.query}", 303)


@routes.get("/sign-in", response_class=HTMLResponse)
def sign_in_page(desk: Here, request: Request, to: str = "/") -> Response:
    """The form; where the proxy signs people in, what to do instead."""
    if desk.door.recognise(request) is not None:
        return RedirectResponse(inside(to), 303)
    return desk.render("sign_in.html", to=inside(to), auth=desk.page.settings().web.auth, first=not people.has_administrator(desk.engine))


@routes.post("/sign-in", response_class=HTMLResponse)
def sign_in(desk: Here, request: Request, name: Text = "", password: Text = "", to: Text = "/") -> Response:
    """Begin a session. The browser gets a new secret, whatever it sent."""
    settings, now = desk.page.settings(), desk.now
    if settings.web.auth != "local":
        raise NotAllowed(f"people are signed in by the {'proxy' if settings.web.auth == 'proxy' else 'identity provider'} of the house")
    name, address = name.strip().lower(), address_of(request, settings)
    desk.limits.check(name, address, now)
    if not people.check_password(desk.engine, name, password):
        desk.limits.failed(name, address)
        signing_in.refused(desk.engine, name, address, now)
        return desk.render("sign_in.html", 401, to=inside(to), auth="local", first=False, fault=WRONG, name=name)
    response = RedirectResponse(inside(to), 303)
    desk.door.let_in(response, signing_in.begin(desk.engine, name, address, now))
    return response


@routes.post("/sign-out")
def sign_out(desk: Here, request: Request) -> Response:
    """End the session, in the browser and in the ledger."""
    person = desk.door.recognise(request)
    if person is not None and person.session:
        signing_in.end(desk.engine, person, desk.now)
    response = RedirectResponse("/sign-in", 303)
    desk.door.let_out(response)
    return response


@routes.get("/welcome/{secret}", response_class=HTMLResponse)
def welcome(desk: Here, secret: str) -> Response:
    """What a one-time link is good for; looking at it does not use it."""
    found = people.invitation(desk.engine, secret, desk.now)
    return desk.render("welcome.html", secret=secret, invited=found, shortest=SHORTEST_PASSWORD)


@routes.post("/welcome/{secret}", response_class=HTMLResponse)
def accept(desk: Here, request: Request, secret: str, password: Text = "", again: Text = "", name: Text = "") -> Response:
    """Use the link: set the password and sign in."""
    now = desk.now
    found = people.invitation(desk.engine, secret, now)
    try:
        who = people.accept(desk.engine, secret, name.strip().lower(), people.agreed(password, again), now)
    except NotAllowed as error:
        told = {"secret": secret, "invited": found, "shortest": SHORTEST_PASSWORD, "fault": str(error), "name": name}
        return desk.render("welcome.html", 422, **told)
    response = RedirectResponse("/", 303)
    desk.door.let_in(response, signing_in.begin(desk.engine, who, address_of(request, desk.page.settings()), now))
    return response
