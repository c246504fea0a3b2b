"""The worklist and the study, for people who read."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from prioritizer.db import reading, worklist
from prioritizer.db.ordering import Order, View
from prioritizer.web import words
from prioritizer.web.desk import Here, Seeing

routes = APIRouter()
PAGE_ROWS = 100


@routes.get("/", response_class=HTMLResponse)
def show_list(desk: Here, person: Seeing, order: Order = Order.DEADLINE, view: View = View.OPEN, after: str = "") -> HTMLResponse:
    """The worklist. The URL carries order, view and page, so reload and a pasted link show the same."""
    page = desk.page
    last = worklist.study(page.engine, after) if after else None
    rows = worklist.rows(page.engine, order=order, view=view, limit=PAGE_ROWS + 1, after=last)
    shown = rows[:PAGE_ROWS]
    return desk.render(
        "worklist.html",
        person=person,
        lines=[words.line(row, desk.now, marks=page.marks) for row in shown],
        order=order,
        view=view,
        counts=worklist.counts(page.engine),
        alarms=worklist.standing_alarms(page.engine),
        next_after=shown[-1].study_uid if len(rows) > PAGE_ROWS else "",
        first_page=not after,
    )


@routes.get("/study/{study_uid}", response_class=HTMLResponse)
def show_study(desk: Here, person: Seeing, study_uid: str) -> HTMLResponse:
    """Why the study stands where it does: its place, its instances, its deliveries, everything that happened."""
    page = desk.page
    reading.opened(page.engine, study_uid, person.name, desk.now)
    row = worklist.study(page.engine, study_uid)
    return desk.render(
        "study.html",
        person=person,
        line=words.line(row, desk.now, marks=page.marks),
        row=row,
        events=worklist.why(page.engine, study_uid),
        instances=worklist.study_instances(page.engine, study_uid),
        deliveries=worklist.unfinished_deliveries(page.engine, study_uid),
    )
