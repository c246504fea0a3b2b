"""The people of the site, for administrators."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from prioritizer.access import Person, Role
from prioritizer.db.accounts import people, sessions
from prioritizer.errors import NotAllowed
from prioritizer.web.http.context import Admin, Desk, Here, Text
from prioritizer.web.pages.oidc import base_of
from prioritizer.web.pages.own_account import in_person

routes = APIRouter(prefix="/people")


class Step(StrEnum):
    """What can be done to a person."""

    DISABLE = "disable"
    ENABLE = "enable"
    SIGN_OUT = "sign-out"
    ROLE = "role"


def page(desk: Desk, person: Person, status: int = 200, **more: Any) -> HTMLResponse:
    """Everybody who may sign in, every token, and what was just done."""
    everybody, tokens = people.listed(desk.engine, desk.door.lifetime, desk.now), sessions.listed_tokens(desk.engine)
    return desk.render("people.html", status, person=person, people=everybody, tokens=tokens, roles=list(Role), **more)


@routes.get("", response_class=HTMLResponse)
def show(desk: Here, person: Admin) -> Response:
    """The people of the site."""
    return page(desk, person)


@routes.post("", response_class=HTMLResponse)
def invite(desk: Here, request: Request, person: Admin, role: Annotated[Role, Form()], name: Text = "") -> Response:
    """A one-time link for a new person, or for one who forgot the password; it is on this answer and nowhere else."""
    in_person(person)
    name = name.strip().lower()
    if not name:
        return page(desk, person, 422, fault="say for whom the link is")
    try:
        secret = people.invite(desk.engine, name, role, person.name, desk.now)
    except NotAllowed as error:
        return page(desk, person, 422, fault=str(error))
    return page(desk, person, link=f"{base_of(request, desk.page.settings().web)}/welcome/{secret}", invited=name)


@routes.post("/{name}/{step}")
def change(desk: Here, person: Admin, name: str, step: Step, role: Annotated[Role, Form()] = Role.READER) -> Response:
    """Disable, enable, sign out everywhere, or another role. A program may take away, and give nothing."""
    if step in (Step.ENABLE, Step.ROLE):
        in_person(person)
    match step:
        case Step.DISABLE:
            people.disable(desk.engine, name, person.name, desk.now)
        case Step.ENABLE:
            people.enable(desk.engine, name, person.name, desk.now)
        case Step.SIGN_OUT:
            people.end_sessions(desk.engine, name, person.name, desk.now)
        case Step.ROLE:
            people.set_role(desk.engine, name, role, person.name, desk.now)
    return RedirectResponse("/people", 303)
