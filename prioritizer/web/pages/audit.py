"""The audit log: who did what, who looked at which study."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query
from fastapi.responses import HTMLResponse

from prioritizer.access import May, Person
from prioritizer.db.audit import audit_log
from prioritizer.db.audit.audit_log import AuditFilter
from prioritizer.db.schema.events import Kind
from prioritizer.web.http.context import Context, needs

routes = APIRouter()
Auditor = Annotated[Person, needs(May.AUDIT)]
PAGE_ROWS = 200
Short = Annotated[str, Query(max_length=80)]


@routes.get("/audit", response_class=HTMLResponse)
def show(
    context: Context,
    person: Auditor,
    actor: Short = "",
    kind: Kind | Literal[""] = "",
    study: Short = "",
    before: Annotated[int, Query(ge=0, lt=2**53)] = 0,
) -> HTMLResponse:
    """The newest entries, or those before a given one."""
    asked = AuditFilter(actor=actor.strip(), kind=kind, study_uid=study.strip(), before=before)
    found = audit_log.entries(context.engine, asked, PAGE_ROWS + 1)
    last = found[PAGE_ROWS - 1].id if len(found) > PAGE_ROWS else 0
    return context.render("audit.html", person=person, entries=found[:PAGE_ROWS], asked=asked, kinds=sorted(Kind), older=last)
