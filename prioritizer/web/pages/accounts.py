"""The people of the site, for administrators."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from prioritizer.access import Person, Role
from prioritizer.db.accounts import people, sessions
from prioritizer.errors import NotAllowed
from prioritizer.web.http.context import Admin, Context, RequestContext, Text
from prioritizer.web.pages.oidc import base_of
from prioritizer.web.pages.own_account import in_person

routes = APIRouter(prefix="/people")


class AccountAction(StrEnum):
    """What can be done to a person."""

    DISABLE = "disable"
    ENABLE = "enable"
    SIGN_OUT = "sign-out"
    ROLE = "role"


def page(context: RequestContext, person: Person, status: int = 200, **more: Any) -> HTMLResponse:
    """Everybody who may sign in, every token, and what was just done."""
    everybody, tokens = people.listed(context.engine, context.access.lifetime, context.now), sessions.listed_tokens(context.engine)
    return context.render("people.html", status, person=person, people=everybody, tokens=tokens, roles=list(Role), **more)


@routes.get("", response_class=HTMLResponse)
def show(context: Context, person: Admin) -> Response:
    """The people of the site."""
    return page(context, person)


@routes.post("", response_class=HTMLResponse)
def invite(context: Context, request: Request, person: Admin, role: Annotated[Role, Form()], name: Text = "") -> Response:
    """A one-time link for a new person, or for one who forgot the password; it is on this answer and nowhere else."""
    in_person(person)
    name = name.strip().lower()
    if not name:
        return page(context, person, 422, fault="say for whom the link is")
    try:
        secret = people.invite(context.engine, name, role, person.name, context.now)
    except NotAllowed as error:
        return page(context, person, 422, fault=str(error))
    return page(context, person, link=f"{base_of(request, context.backend.settings().web)}/welcome/{secret}", invited=name)


@routes.post("/{name}/{step}")
def change(context: Context, person: Admin, name: str, step: AccountAction, role: Annotated[Role, Form()] = Role.READER) -> Response:
    """Disable, enable, sign out everywhere, or another role. A program may take away, and give nothing."""
    if step in (AccountAction.ENABLE, AccountAction.ROLE):
        in_person(person)
    match step:
        case AccountAction.DISABLE:
            people.disable(context.engine, name, person.name, context.now)
        case AccountAction.ENABLE:
            people.enable(context.engine, name, person.name, context.now)
        case AccountAction.SIGN_OUT:
            people.end_sessions(context.engine, name, person.name, context.now)
        case AccountAction.ROLE:
            people.set_role(context.engine, name, role, person.name, context.now)
    return RedirectResponse("/people", 303)
