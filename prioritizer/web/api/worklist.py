"""The same for programs: the list, a study, every step and the reader's word as JSON, described by OpenAPI.

A list is paged by place: each answer holds the address of the next page, and no study is lost or told twice while others arrive or move.
Errors are application/problem+json (RFC 9457). What AI made of a study is shown as on the page: asked for, and written down.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, File, Form, Query, Request, Response, UploadFile
from fastapi.responses import JSONResponse

from prioritizer.access import Person
from prioritizer.db.audit import audit_notes
from prioritizer.db.list_order.cursor import place_of
from prioritizer.db.worklist import changes, feedback, reading, study
from prioritizer.db.worklist import rows as worklist_rows
from prioritizer.db.worklist.rows import WorklistRow
from prioritizer.db.worklist.study import InstanceRow
from prioritizer.errors import NotAllowed, NotFound
from prioritizer.ranking.deadlines import Stage
from prioritizer.web.api.documents import (
    AddressOfProgram,
    ChangeDocument,
    Delivery,
    FeedbackDocument,
    FeedbackRequest,
    Happened,
    Image,
    Images,
    Listing,
    News,
    OfList,
    Opinion,
    Since,
    Study,
    TriedFile,
    Whole,
    problems,
)
from prioritizer.web.http.context import BackgroundViewer, Context, RequestContext, Viewer
from prioritizer.web.pages.actions import Reading, do_step
from prioritizer.web.pages.board import may_see_board
from prioritizer.web.pages.upload import MayTry, try_one
from prioritizer.web.pages.worklist import news_of
from prioritizer.web.view import history
from prioritizer.web.view.list_query import ListQuery, text_of
from prioritizer.web.view.list_view import list_of, manner_of, wanted_of
from prioritizer.web.view.study_view import Far, ai_of, far_of, why_hidden
from prioritizer.web.view.wording import due_of, place_words

routes = APIRouter(prefix="/api", responses=problems())
"""Every operation needs a session or a bearer token with the right that it names."""


def study_of(context: RequestContext, row: WorklistRow, asked: ListQuery | None = None) -> Study:
    """A row as this site shows it, on the list that was asked for."""
    manner = manner_of(context, asked)
    values = {name: getattr(row, name) for name in Study.model_fields if name != "raised"}
    if manner.masked:
        values |= dict.fromkeys(("patient_id", "patient_name", "patient_birth_date", "accession_number", "identity"), "")
    values |= {"due_at": due_of(row, manner), "place_reason": place_words(row, manner)}
    if manner.neutral is not None and row.overdue_at is not None:
        values["overdue_at"] = values["due_at"] if values["due_at"] < context.now else None
    return Study(**values, raised=manner.marks and row.band == "HIGH")


@routes.get("/worklist", responses=problems(404, 409))
def show_worklist(context: Context, person: Viewer, address: Annotated[AddressOfProgram, Query()]) -> Listing:
    """The list, in the order and with the filters of the page's own address."""
    asked = ListQuery(address)
    audit_notes.list_given(context.engine, person, context.now)
    mark = changes.mark_now(context.engine, context.now)
    wanted = wanted_of(context, asked, person)
    rows = worklist_rows.rows(context.engine, wanted, now=context.now, limit=address.limit + 1, after=asked.place)
    more = len(rows) > address.limit
    following = address.model_copy(update={"after": place_of(wanted, rows[address.limit - 1]).text()}) if more else None
    return Listing(
        studies=[study_of(context, row, asked) for row in rows[: address.limit]],
        next=f"/api/worklist{text_of(following)}" if following else "",
        mark=str(mark),
        as_of=context.now,
    )


@routes.get("/changes", responses=problems(409))
def show_changes(
    context: Context,
    person: BackgroundViewer,
    since: Since,
    list: OfList = "",  # noqa: A002 - the name in the address
    shown: Annotated[str, Query(max_length=4100)] = "",
) -> News:
    """What changed since a mark in a list, given as the query of its address. `shown`: Study UIDs with commas between, told of anyhow."""
    found = news_of(context, list_of(list), person, since, shown)
    counts = {name: getattr(found, name) for name in News.model_fields if name not in ("mark", "told")}
    told = [ChangeDocument(study_uid=one.study_uid, said=one.said, at=one.at) for one in found.told]
    return News(mark=str(found.mark), told=told, **counts)


@routes.post("/next", responses={204: {"description": "nobody waits"}, **problems(409)})
def take_next(context: Context, person: Reading, list: OfList = "") -> Study | None:  # noqa: A002
    """Claim the first study of a list that nobody has."""
    lease = timedelta(minutes=context.backend.settings().ranking.claim_minutes)
    asked = list_of(list)
    found = reading.claim_next(context.engine, person.name, lease, context.now, wanted_of(context, asked, person), ())
    context.forget()
    if found is None:
        return Response(status_code=204)  # type: ignore[return-value]
    return study_of(context, worklist_rows.study(context.engine, found), asked)


@routes.get("/studies/{study_uid}", responses=problems(404))
def show_study(context: Context, person: Viewer, study_uid: str) -> Whole:
    """One study. That it was looked at is an event."""
    reading.opened(context.engine, study_uid, person.name, context.now, audit_notes.GIVEN_EVERY if person.token else reading.ONE_LOOK)
    return whole(context, person, study_uid)


def whole(context: RequestContext, person: Person, study_uid: str) -> Whole:
    """Everything of a study that may be shown to this person."""
    row = worklist_rows.study(context.engine, study_uid)
    instances = study.study_instances(context.engine, study_uid)
    said = feedback.said_of(context.engine, study_uid)
    ai = ai_of(context, person, row, instances, said)
    happened = history.told_to(person, row, manner_of(context), said, study.why(context.engine, study_uid))
    hears = history.may_hear_others(person, row, said)
    far = far_of(context, instances)
    images = [image_of(one, far.get(one.sop_instance_uid, Far(share=None))) for one in instances]
    return Whole(
        study=study_of(context, row),
        ai=Opinion(
            state=ai.state,
            hidden=ai.hidden,
            probability=ai.probability,
            t_high=ai.t_high,
            seen_at=ai.seen,
            deciding_instance=ai.deciding.sop_instance_uid if ai.deciding else None,
        ),
        images=images,
        events=[Happened(**{name: getattr(one, name) for name in Happened.model_fields}) for one in happened],
        deliveries=[
            Delivery(**{name: getattr(one, name) for name in Delivery.model_fields})
            for one in worklist_rows.unfinished_deliveries(context.engine, study_uid)
        ],
        words=[
            FeedbackDocument(**{name: getattr(word, name) for name in FeedbackDocument.model_fields})
            for word in said
            if hears or word.reader == person.name
        ],
    )


def image_of(one: InstanceRow, far: Far) -> Image:
    """An object of a study, with how far it lies from the training data."""
    values: dict[str, Any] = {name: getattr(one, name, None) for name in Image.model_fields}
    return Image(**values | {"warnings": one.warnings or [], "out_of_distribution": far.share, "own_limit": far.own_limit})


@routes.post("/studies/{study_uid}/reveal", responses=problems(404, 409))
def reveal(context: Context, person: Viewer, study_uid: str) -> Whole:
    """Show AI's result to who asks; that it was shown is kept before it is."""
    if hidden := why_hidden(context, person, feedback.said_of(context.engine, study_uid)):
        raise NotAllowed(hidden)
    feedback.revealed(context.engine, study_uid, person.eyes[0], context.now)
    return whole(context, person, study_uid)


@routes.post("/studies/{study_uid}/feedback", status_code=201, responses=problems(404, 409))
def say(context: Context, person: Reading, study_uid: str, word: FeedbackRequest) -> Whole:
    """Say what was found. An earlier word of the same person is withdrawn, not lost."""
    ranked = not word.blind and context.backend.settings().site.stage is not Stage.SHADOW
    feedback.say(context.engine, study_uid, person.name, word.finding, context.now, ranked=ranked, note=word.note, eyes=person.eyes)
    return whole(context, person, study_uid)


@routes.delete("/studies/{study_uid}/feedback", status_code=204, response_class=Response, responses=problems(404, 409))
def withdraw(context: Context, person: Reading, study_uid: str) -> None:
    """Take one's word back."""
    feedback.withdraw(context.engine, study_uid, person.name, context.now)


@routes.post("/studies/{study_uid}/{step}", responses=problems(404, 409))
def take_step(context: Context, person: Reading, study_uid: str, step: reading.ReadingAction, seen: Images = None) -> Study:
    """Claim, release, take over, read, pin or unpin. `seen`: the `entries` looked at; read is refused where more came since."""
    do_step(context, person, study_uid, step, list_of(""), seen)
    return study_of(context, worklist_rows.study(context.engine, study_uid))


@routes.get("/board/{period}", responses=problems(409))
def show_board(context: Context, person: Viewer, period: str = "latest") -> dict[str, Any]:
    """The board of a period: `latest`, or a month as 2026-11. Shares carry their exact 95 % interval."""
    may_see_board(context, person)
    computed_at, found = context.backend.operation.dashboard(period)
    return {"computed_at": computed_at, **found}


@routes.post("/try", responses=problems(409))
def try_file(
    context: Context, person: MayTry, file: Annotated[UploadFile, File()], *, outside: Annotated[bool, Form()] = False
) -> TriedFile:
    """Score a DICOM, PNG or JPEG file. Nothing of it is kept or ranked."""
    tried = try_one(context, person, file.file.read(), outside=outside)
    values = {name: getattr(tried, name) for name in TriedFile.model_fields if name != "warnings"}
    return TriedFile(**values, warnings=list(tried.warnings))


@routes.get("/openapi.json", include_in_schema=False)
def description(request: Request, person: Viewer) -> JSONResponse:
    """What can be asked here, OpenAPI 3.1."""
    return JSONResponse(request.app.openapi())


@routes.api_route("/{rest:path}", methods=["GET", "POST", "PUT", "PATCH", "DELETE"], include_in_schema=False)
def nothing_here(rest: str) -> None:
    """A program is told in its own language that there is nothing."""
    raise NotFound(f"/api/{quote(rest)} is not here, or not asked that way; /api/openapi.json describes what is")
