"""One's own account: password, tokens, theme."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from prioritizer.access import MIN_PASSWORD, May, Person
from prioritizer.db.accounts import people, sessions
from prioritizer.db.worklist import preferences
from prioritizer.errors import Forbidden, NotAllowed
from prioritizer.web.http.auth import address_of
from prioritizer.web.http.context import Context, RequestContext, Text, Viewer
from prioritizer.web.pages.sign_in import came_from, is_right

routes = APIRouter()
Theme = Literal["", "light", "dark"]
"""What a person reads by; empty: as their system has it."""


def in_person(person: Viewer) -> Person:
    """Somebody at the page. Raises Forbidden for a program: it cannot make or end what lets people in, nor change their pages."""
    if person.token:
        raise Forbidden("this is done by a person who signed in, not with a token")
    return person


InPerson = Annotated[Person, Depends(in_person)]


def page(context: RequestContext, person: Person, status: int = 200, **more: Any) -> HTMLResponse:
    """The account with what was just done, or what stood in the way."""
    mine = sessions.listed_tokens(context.engine, person.name)
    return context.render("account.html", status, person=person, tokens=mine, scopes=sorted(person.rights), shortest=MIN_PASSWORD, **more)


@routes.get("/account", response_class=HTMLResponse)
def account(context: Context, person: Viewer) -> Response:
    """Who I am here, my tokens, my password."""
    return page(context, person)


@routes.post("/account/password", response_class=HTMLResponse)
def change_password(
    context: Context, request: Request, person: InPerson, old: Text = "", password: Text = "", again: Text = ""
) -> Response:
    """A new password; every other session of mine ends."""
    if not person.session:
        raise NotAllowed("passwords are changed on the page, by a person who signed in with one")
    if not is_right(context, person.name, old, address_of(request, context.backend.configured())):
        return page(context, person, 422, fault="the old password is not right")
    try:
        people.set_password(context.engine, person.name, people.agreed(password, again), context.now, keep=person.session)
    except NotAllowed as error:
        return page(context, person, 422, fault=str(error))
    return page(context, person, done="The password is changed. Your other sessions have ended.")


@routes.post("/account/tokens", response_class=HTMLResponse)
def make_token(
    context: Context,
    person: InPerson,
    purpose: Text = "",
    days: Annotated[int, Form(ge=1, le=366)] = 90,
    scopes: Annotated[tuple[May, ...], Form()] = (),
) -> Response:
    """A token for a program; its secret is on this answer and nowhere else."""
    try:
        secret, row = sessions.make_token(context.engine, person.name, purpose, scopes, person.name, context.now, timedelta(days=days))
    except NotAllowed as error:
        return page(context, person, 422, fault=str(error))
    return page(context, person, secret=secret, made=row)


@routes.post("/account/tokens/{token_id}/revoke")
def revoke(context: Context, person: InPerson, token_id: str) -> Response:
    """The token is worth nothing from now on."""
    sessions.revoke(context.engine, token_id, person, context.now)
    return RedirectResponse("/people" if person.may(May.PEOPLE) else "/account", 303)


@routes.post("/account/theme")
def choose_theme(context: Context, request: Request, person: InPerson, theme: Annotated[Theme, Form()] = "") -> Response:
    """Dark, light or as the system has it, from the next page on, on whatever screen; back to the page it was chosen on."""
    preferences.choose(context.engine, person.name, "theme", theme, context.now)
    return RedirectResponse(came_from(request), 303)
