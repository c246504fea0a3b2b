"""The board: is the list doing what it should, and who must act where it is not. A month can be printed."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from prioritizer.access import Person
from prioritizer.db.activity import monitoring
from prioritizer.errors import Forbidden
from prioritizer.web.http.context import Context, RequestContext, Viewer
from prioritizer.web.view import wording

routes = APIRouter()
LATEST = "latest"


@routes.get("/board", response_class=HTMLResponse)
def show_latest(context: Context, person: Viewer) -> HTMLResponse:
    """The last days."""
    return show_period(context, person, LATEST)


@routes.get("/board/{period}", response_class=HTMLResponse)
def show_period(context: Context, person: Viewer, period: str) -> HTMLResponse:
    """A month, or the last days."""
    may_see_board(context, person)
    computed_at, board = context.backend.operation.dashboard(period)
    return context.render(
        "board.html",
        person=person,
        board=board,
        computed_at=computed_at,
        period=period,
        days=context.backend.settings().monitoring.days,
        headline=headline(context, board),
        periods=[name for name in monitoring.periods(context.engine) if name != LATEST],
        most_earlier=monitoring.MAX_EARLIER,
        longest=max((max(one["longest"], one["fifo_longest"]) for one in board["waits"]), default=0.0),
    )


def may_see_board(context: RequestContext, person: Person) -> None:
    """Raises Forbidden in stage shadow to those who read: the board says how often and whom AI would have raised."""
    if not context.shows_ai_to(person):
        raise Forbidden("stage shadow: AI is being measured and readers are told nothing of it; the board is for physicists")


def headline(context: RequestContext, board: dict[str, Any]) -> str:
    """The one line that is read first."""
    raised, alarms = board["raised"], len(board["alarms"])
    verdict = "Nothing left its range." if not alarms else f"{alarms} figure{'s' if alarms > 1 else ''} left the range."
    marks = f", {raised['hits']} raised" if context.shows_ai else ""
    counted = f"{board['arrived']} studies arrived, {board['read']} read, {board['overdue']['hits']} overdue{marks}."
    return " ".join(part for part in (verdict, counted, waiting(board)) if part)


def waiting(board: dict[str, Any]) -> str:
    """How long the longest of those that nobody has read has waited; nothing where all were read, or an old board did not ask."""
    longest = [one["longest"] for one in board.get("unread", ())]
    earlier = board.get("earlier", {}).get("longest")
    longest += [] if earlier is None else [earlier]
    return f"Not read yet: the longest has waited for {wording.span(timedelta(minutes=max(longest)))}." if longest else ""
