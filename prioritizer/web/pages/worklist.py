"""The worklist: what stands on it, what changed since it was drawn, and what a reader does from it.

Every step is a form that works without JavaScript; with it, the same forms are sent by a key.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Annotated, Any
from urllib.parse import parse_qs, quote

from fastapi import APIRouter, Header, Query
from fastapi.responses import HTMLResponse

from prioritizer.access import May, Person
from prioritizer.db.list_order.cursor import place_of
from prioritizer.db.list_order.order import WORKING, Order, View, changing
from prioritizer.db.schema import connect
from prioritizer.db.schema.events import Kind
from prioritizer.db.worklist import changes, feedback, study
from prioritizer.db.worklist import rows as worklist_rows
from prioritizer.db.worklist.changes import Asker, Changes, Mark, WorklistChange
from prioritizer.db.worklist.rows import WorklistRow
from prioritizer.errors import NotFound
from prioritizer.states import ReadingState
from prioritizer.web.http.context import BackgroundViewer, Context, RequestContext, Viewer, needs
from prioritizer.web.view import history, wording
from prioritizer.web.view.history import OF_ITS_PLACE
from prioritizer.web.view.list_query import Listed, ListQuery
from prioritizer.web.view.list_view import (
    COLUMNS,
    alarms_for,
    columns,
    is_plain,
    list_of,
    manner_of,
    shown_columns,
    viewers_of,
    views,
    wanted_of,
)

routes = APIRouter()
PAGE_ROWS = 50
Reading = Annotated[Person, needs(May.READ)]
Operating = Annotated[Person, needs(May.OPERATE)]


def asker_of(context: RequestContext, asked: ListQuery, person: Person, shown: str) -> Asker:
    """Who asks for news. A page without AI is not told what moved, what came to a result, or what became overdue by AI's deadline."""
    manner = manner_of(context, asked)
    quiet = () if manner.marks else tuple(kind for kind in UNMARKED if kind is not Kind.OVERDUE or manner.neutral is not None)
    return Asker(reader=person.name, quiet=quiet, shown=[uid for uid in shown.split(",") if uid][:PAGE_ROWS])


def news_of(context: RequestContext, asked: ListQuery, person: Person, since: str, shown: str) -> Changes:
    """What happened to a list since the mark `since`, as far as this person's page may tell. Raises NotAllowed for what is no mark."""
    wanted, asker = wanted_of(context, asked, person), asker_of(context, asked, person, shown)
    return changes.since(context.engine, Mark.parse(since), wanted, asker, context.now)


UNMARKED = (*OF_ITS_PLACE, Kind.SCORED, Kind.INELIGIBLE, Kind.FAILED)


@routes.get("/", response_class=HTMLResponse)
def show_list(context: Context, person: Viewer, asked: Listed) -> HTMLResponse:
    """The worklist. It is drawn once and stays as it is until the reader wants the changes."""
    with connect.one_look(context.engine):
        return drawn(context, person, asked)


def drawn(context: RequestContext, person: Person, asked: ListQuery) -> HTMLResponse:
    """The page of this moment."""
    tally = context.cached_counts.now()
    mark = changes.mark_now(context.engine, context.now)
    wanted, manner = wanted_of(context, asked, person), manner_of(context, asked)
    rows = worklist_rows.rows(context.engine, wanted, now=context.now, limit=PAGE_ROWS + 1, after=asked.place)
    shown, chosen, kept = rows[:PAGE_ROWS], columns(context, person), asked.query(after=asked.address.after, at="")
    following = asked.query(after=place_of(wanted, shown[-1]).text(), at="") if len(rows) > PAGE_ROWS else ""
    shown = with_the_one_that_was_read(context, asked, shown, last=not following)
    return context.render(
        "worklist.html",
        person=person,
        asked=asked,
        mark=mark,
        lines=[wording.line(row, context.now, replace(manner, person=person.name)) for row in shown],
        viewers={row.study_uid: viewers_of(context, row, manner)[:1] for row in shown},
        heading=heading(asked, wanted.common),
        common=wanted.common,
        columns=shown_columns(chosen, asked),
        all_columns={name: COLUMNS[name] for name in [*chosen, *(name for name in COLUMNS if name not in chosen)]},
        chosen_columns=chosen,
        counts=tally.counts,
        overdue=tally.counts.overdue if manner.neutral is None else tally.counts.overdue_by_arrival,
        share=tally.share if manner.marks else None,
        reads=asked.address.view is View.READ,
        changing=bool(changing(wanted, context.now)),
        limit_raised=context.backend.settings().ranking,
        views=views(context, person, asked),
        senders=tally.senders,
        alarms=alarms_for(context, person, manner),
        next_query=following,
        plain_list=is_plain(asked),
        elsewhere=elsewhere(asked),
        may_read=person.may(May.READ),
        selected=asked.address.at,
        sound=context.backend.settings().reading.stat_sound,
        hidden=kept_by_search(asked),
        ai_names=[(state.value, name) for state, name in wording.AI_NAMES.items()],
        from_list=f"?list={quote(kept, safe='')}" if kept else "",
        kept=kept,
        frequency="" if asked.address.blind else context.frequency(),
    )


def with_the_one_that_was_read(context: RequestContext, asked: ListQuery, shown: list[WorklistRow], *, last: bool) -> list[WorklistRow]:
    """The page's rows and, where it stood, the selected one that was read meanwhile: it does not vanish under the reader's eyes."""
    uid = asked.address.at
    if not uid or asked.address.view is not View.OPEN or asked.order not in WORKING or any(row.study_uid == uid for row in shown):
        return shown
    try:
        gone = worklist_rows.study(context.engine, uid)
    except NotFound:
        return shown
    at = next((number for number, row in enumerate(shown) if stands(gone, asked) < stands(row, asked)), len(shown))
    on_this_page = (at > 0 or not asked.address.after) and (at < len(shown) or last)
    return [*shown[:at], gone, *shown[at:]] if gone.reading_state == ReadingState.READ and on_this_page else shown


def stands(row: WorklistRow, asked: ListQuery) -> tuple[bool, datetime, datetime, str]:
    """A row's key in one of the orders that people work by."""
    due = row.due_at if asked.order is Order.DEADLINE else row.first_received_at
    return not row.stat, due, row.first_received_at, row.study_uid


def elsewhere(asked: ListQuery) -> str:
    """Where a search that found nothing on the list may look: among the studies that were read."""
    return asked.query(view=View.READ, order=None, back=False) if asked.address.q and asked.address.view is View.OPEN else ""


@routes.get("/changes", response_class=HTMLResponse)
def show_changes(
    context: Context,
    person: BackgroundViewer,
    since: str,
    list: str = "",  # noqa: A002 - the name in the address
    shown: Annotated[str, Query(max_length=4100)] = "",
) -> HTMLResponse:
    """The pill: what happened to this list since it was drawn. The rows stay where they are. `shown`: the studies that stand there."""
    asked = list_of(list)
    found = news_of(context, asked, person, since, shown)
    return context.part("pill.html", changes=found, said=pill_words(found), asked=asked, names=named(context, found), page_changed=True)


def named(context: RequestContext, found: Changes) -> list[tuple[str, str]]:
    """What happened to each study, in a line, with the patient's name as this page shows names. Of several places only the last is told."""
    manner = manner_of(context)
    of_study: dict[str, list[WorklistChange]] = {}
    for told in found.told:
        of_study.setdefault(told.study_uid, []).append(told)
    lines = []
    for uid, happened in of_study.items():
        placed = [told for told in happened if told.kind == Kind.PLACED]
        said = " · ".join(told.said for told in happened if told.kind != Kind.PLACED or told is placed[-1])
        name = wording.name_words(happened[0].patient_name, manner.name_format, manner.name_groups)
        lines.append((f"study ..{uid[-6:]}" if manner.masked else name, said))
    return lines


def pill_words(found: Changes) -> list[str]:
    """The counts, the urgent first."""
    counted = (
        (found.stat, "STAT"), (found.overdue, "OVERDUE"), (found.new, "new"), (found.moved_up, "moved up"),
        (found.moved_down, "moved down"), (found.grown, "with more images"), (found.read, "read"), (found.expired, "open too long"),
        (found.taken, "claimed"), (found.freed, "free again"), (found.scored, "with a result of AI"),
    )  # fmt: skip
    said = [f"{count} {word}" for count, word in counted if count]
    return said + (["the list was placed again"] if found.reordered else []) + (["and more"] if found.more else [])


@routes.get("/study/{study_uid}/why", response_class=HTMLResponse)
def why_here(
    context: Context,
    person: Viewer,
    study_uid: str,
    list: str = "",  # noqa: A002 - the name in the address
    hx_request: Annotated[str, Header()] = "",
) -> HTMLResponse:
    """One study's way to its place: unfolded in the list, or a page of its own for a browser without scripts."""
    asked = list_of(list)
    row, manner = worklist_rows.study(context.engine, study_uid), manner_of(context, asked)
    happened, said = study.why(context.engine, study_uid), feedback.said_of(context.engine, study_uid)
    told = history.told_to(person, row, manner, said, happened)
    found: dict[str, Any] = {"line": wording.line(row, context.now, manner), "events": told, "left_out": history.left_out(manner, happened)}
    if hx_request:
        return context.part("why.html", **found)
    return context.render("why_page.html", person=person, back=asked.query(at=study_uid, after=asked.address.after), **found)


def kept_by_search(asked: ListQuery) -> list[tuple[str, str]]:
    """What the search form does not ask and must keep."""
    own = ("q", "from", "ai", "after", "at")
    return [(key, values[-1]) for key, values in parse_qs(asked.query().removeprefix("?")).items() if key not in own]


def heading(asked: ListQuery, common: Sequence[str] = ()) -> str:
    """What the list is, in words; people must see when it is not everything, and not by deadline. `common`: words not looked for."""
    a = asked.address
    unsought = f" without {', '.join(map(repr, common))}, which begins too many" if common else ""
    view = {View.OPEN: "Open studies", View.EXPIRED: "Open for too long", View.READ: "Read studies"}[a.view]
    order = {
        "deadline": "STAT first, then by deadline", "arrival": "STAT first, then in order of arrival (FIFO)", "patient": "by patient",
        "study": "by study", "from": "by sender", "ai": "by AI", "reader": "by reader", "read": "by the time of reading",
    }[asked.order]  # fmt: skip
    only = [
        f"found by {a.q!r}{unsought}" if a.q else "", f"from {a.sender}" if a.sender else "",
        f"AI {wording.AI_NAMES[a.ai]}" if a.ai else "", "raised" if a.raised else "",
        "overdue" if a.overdue else "", "mine" if a.mine else "",
        f"arrived in the last {a.hours:g} h" if a.hours else "", "without AI" if a.blind else "",
    ]  # fmt: skip
    kept = [part for part in only if part]
    return f"{view}, {order}" + (", backwards" if asked.back and asked.address.back else "") + (f"; only {', '.join(kept)}" if kept else "")
