"""The same for programs: the list, a study, every step and the reader's word as JSON, described by OpenAPI.

A list is paged by place: each answer holds the address of the next page, and no study is lost or told twice while others arrive or move.
Errors are application/problem+json (RFC 9457). What AI made of a study is shown as on the page: asked for, and written down.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, File, Form, Query, Request, Response, UploadFile
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from prioritizer.access import Person
from prioritizer.db.accounts import audit_notes
from prioritizer.db.order.cursor import place_of
from prioritizer.db.worklist import changes, feedback, reading
from prioritizer.db.worklist import rows as worklist_rows
from prioritizer.db.worklist.rows import InstanceRow, Row
from prioritizer.errors import NotAllowed, NotFound
from prioritizer.ranking.deadlines import Stage
from prioritizer.study import Finding
from prioritizer.web.http.context import Desk, Here, Listening, Seeing
from prioritizer.web.pages.actions import Reading, do_step
from prioritizer.web.pages.board import may_see_board
from prioritizer.web.pages.study import Far, ai_of, far_of, why_hidden
from prioritizer.web.pages.upload import MayTry, try_one
from prioritizer.web.pages.worklist import list_of, manner_of, news_of, wanted_of
from prioritizer.web.view import history
from prioritizer.web.view.list_query import Address, Asked, text_of
from prioritizer.web.view.wording import due_of, place_words

MOST_ROWS = 1000
Since = Annotated[str, Query(max_length=9000)]
OfList = Annotated[str, Query(max_length=2000)]
"""The query of a list's address."""
Images = Annotated[int | None, Query(ge=0, lt=2**31)]


class Problem(BaseModel):
    """RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    code: str = ""


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The errors that an operation answers with."""
    of_problem = {"content": {"application/problem+json": {"schema": Problem.model_json_schema()}}}
    return {status: {"description": "problem", **of_problem} for status in (400, 401, 403, 413, 422, 503, *statuses)}


routes = APIRouter(prefix="/api", responses=problems())
"""Every operation needs a session or a bearer token with the right that it names."""


class Study(BaseModel):
    """A study as the list shows it. Moments are ISO 8601 in UTC."""

    study_uid: str
    patient_id: str
    patient_name: str
    patient_birth_date: str
    patient_sex: str
    age_years: float | None
    accession_number: str
    study_description: str
    modality: str
    calling_ae: str
    first_received_at: datetime
    instances: int
    entries: int
    """How often something to look at came; the step `read` takes it as `seen`."""
    stat: bool
    pinned_by: str | None
    ai_state: str
    ai_reason: str
    raised: bool
    """False too where marks are not shown: in stage shadow."""
    due_at: datetime
    overdue_at: datetime | None
    place_reason: str
    reading_state: str
    reader: str | None
    reader_since: datetime | None
    reader_until: datetime | None
    read_at: datetime | None
    identity: str
    """What must be confirmed about whose study it is, a line each; empty where nothing must, and where names are masked."""


class Listing(BaseModel):
    """One page of a list."""

    studies: list[Study]
    next: str
    """The address of the next page; empty on the last one."""
    mark: str
    """Ask `/api/changes` with it for what changed since."""
    as_of: datetime


class Image(BaseModel):
    """One object of a study."""

    sop_instance_uid: str
    modality: str
    view: str
    state: str
    reason: str
    reason_text: str
    received_at: datetime
    scored_at: datetime | None
    bundle_digest: str | None
    calibration_id: str | None
    engine: str | None
    precision: str | None
    warnings: list[str]
    out_of_distribution: float | None
    """How far it lies from the training data, as a share of the limit in force: above 1 is beyond. Null where that is not known."""
    own_limit: bool
    """That limit is the site's own, of the calibration in force; else it is the bundle's."""


class Happened(BaseModel):
    """A line of a study's history."""

    at: datetime
    kind: str
    actor: str
    who: str
    """The actor, with the token that a program did it with."""
    said: str
    sop_instance_uid: str | None


class Delivery(BaseModel):
    """A result on its way to a destination."""

    result_uid: str
    destination: str
    state: str
    attempts: int
    reason_text: str
    created_at: datetime
    sent_at: datetime | None
    not_before: datetime | None


class Said(BaseModel):
    """A reader's word. `seen`: AI's result had been shown to them; `ranked`: the list had told whether the study was raised."""

    id: int
    reader: str
    at: datetime
    finding: Finding
    note: str
    seen: bool
    ranked: bool
    withdrawn_at: datetime | None


class Opinion(BaseModel):
    """What AI made of a study, as far as it may be shown to who asks."""

    state: str
    hidden: str
    """Why the probability is not here; empty where it is."""
    probability: float | None
    t_high: float | None
    """Studies are raised from this probability."""
    seen_at: datetime | None
    deciding_instance: str | None


class Whole(BaseModel):
    """A study with everything that happened to it."""

    study: Study
    ai: Opinion
    images: list[Image]
    events: list[Happened]
    deliveries: list[Delivery]
    words: list[Said]
    """Those of others only after one's own, or for who may calibrate."""


class Word(BaseModel):
    """What a reader says of a study: the finding, not agreement with AI."""

    finding: Finding
    note: str = Field(default="", max_length=feedback.LONGEST_NOTE, pattern=r"^[^\x00]*$")
    blind: bool = False
    """The study was opened from a list without AI and in order of arrival."""


class Told(BaseModel):
    """One change."""

    study_uid: str
    said: str
    at: datetime


class News(BaseModel):
    """What changed in a list since a mark, one's own steps left out."""

    mark: str
    new: int
    moved_up: int
    moved_down: int
    taken: int
    freed: int
    read: int
    expired: int
    scored: int
    grown: int
    """More images came to studies that had stood there."""
    stat: int
    overdue: int
    reordered: bool
    more: bool
    told: list[Told]


class AddressOfProgram(Address):
    """The parameters of the list, and how many studies a page holds."""

    limit: int = Field(default=200, ge=1, le=MOST_ROWS)


def study_of(desk: Desk, row: Row, asked: Asked | None = None) -> Study:
    """A row as this site shows it, on the list that was asked for."""
    manner = manner_of(desk, asked)
    values = {name: getattr(row, name) for name in Study.model_fields if name != "raised"}
    if manner.masked:
        values |= dict.fromkeys(("patient_id", "patient_name", "patient_birth_date", "accession_number", "identity"), "")
    values |= {"due_at": due_of(row, manner), "place_reason": place_words(row, manner)}
    if manner.neutral is not None and row.overdue_at is not None:
        values["overdue_at"] = values["due_at"] if values["due_at"] < desk.now else None
    return Study(**values, raised=manner.marks and row.band == "HIGH")


@routes.get("/worklist", responses=problems(404, 409))
def show_worklist(desk: Here, person: Seeing, address: Annotated[AddressOfProgram, Query()]) -> Listing:
    """The list, in the order and with the filters of the page's own address."""
    asked = Asked(address)
    audit_notes.list_given(desk.engine, person, desk.now)
    mark = changes.mark_now(desk.engine, desk.now)
    wanted = wanted_of(desk, asked, person)
    rows = worklist_rows.rows(desk.engine, wanted, now=desk.now, limit=address.limit + 1, after=asked.place)
    more = len(rows) > address.limit
    following = address.model_copy(update={"after": place_of(wanted, rows[address.limit - 1]).text()}) if more else None
    return Listing(
        studies=[study_of(desk, row, asked) for row in rows[: address.limit]],
        next=f"/api/worklist{text_of(following)}" if following else "",
        mark=str(mark),
        as_of=desk.now,
    )


@routes.get("/changes", responses=problems(409))
def show_changes(
    desk: Here,
    person: Listening,
    since: Since,
    list: OfList = "",  # noqa: A002 - the name in the address
    shown: Annotated[str, Query(max_length=4100)] = "",
) -> News:
    """What changed since a mark in a list, given as the query of its address. `shown`: Study UIDs with commas between, told of anyhow."""
    found = news_of(desk, list_of(list), person, since, shown)
    counts = {name: getattr(found, name) for name in News.model_fields if name not in ("mark", "told")}
    told = [Told(study_uid=one.study_uid, said=one.said, at=one.at) for one in found.told]
    return News(mark=str(found.mark), told=told, **counts)


@routes.post("/next", responses={204: {"description": "nobody waits"}, **problems(409)})
def take_next(desk: Here, person: Reading, list: OfList = "") -> Study | None:  # noqa: A002
    """Claim the first study of a list that nobody has."""
    lease = timedelta(minutes=desk.page.settings().ranking.claim_minutes)
    asked = list_of(list)
    found = reading.claim_next(desk.engine, person.name, lease, desk.now, wanted_of(desk, asked, person), ())
    desk.forget()
    if found is None:
        return Response(status_code=204)  # type: ignore[return-value]
    return study_of(desk, worklist_rows.study(desk.engine, found), asked)


@routes.get("/studies/{study_uid}", responses=problems(404))
def show_study(desk: Here, person: Seeing, study_uid: str) -> Whole:
    """One study. That it was looked at is an event."""
    reading.opened(desk.engine, study_uid, person.name, desk.now, audit_notes.GIVEN_EVERY if person.token else reading.ONE_LOOK)
    return whole(desk, person, study_uid)


def whole(desk: Desk, person: Person, study_uid: str) -> Whole:
    """Everything of a study that may be shown to this person."""
    row = worklist_rows.study(desk.engine, study_uid)
    instances = worklist_rows.study_instances(desk.engine, study_uid)
    said = feedback.said_of(desk.engine, study_uid)
    ai = ai_of(desk, person, row, instances, said)
    happened = history.told_to(person, row, manner_of(desk), said, worklist_rows.why(desk.engine, study_uid))
    hears = history.may_hear_others(person, row, said)
    far = far_of(desk, instances)
    images = [image_of(one, far.get(one.sop_instance_uid, Far(share=None))) for one in instances]
    return Whole(
        study=study_of(desk, row),
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
            for one in worklist_rows.unfinished_deliveries(desk.engine, study_uid)
        ],
        words=[Said(**{name: getattr(word, name) for name in Said.model_fields}) for word in said if hears or word.reader == person.name],
    )


def image_of(one: InstanceRow, far: Far) -> Image:
    """An object of a study, with how far it lies from the training data."""
    values: dict[str, Any] = {name: getattr(one, name, None) for name in Image.model_fields}
    return Image(**values | {"warnings": one.warnings or [], "out_of_distribution": far.share, "own_limit": far.own_limit})


@routes.post("/studies/{study_uid}/reveal", responses=problems(404, 409))
def reveal(desk: Here, person: Seeing, study_uid: str) -> Whole:
    """Show AI's result to who asks; that it was shown is kept before it is."""
    if hidden := why_hidden(desk, person, feedback.said_of(desk.engine, study_uid)):
        raise NotAllowed(hidden)
    feedback.revealed(desk.engine, study_uid, person.eyes[0], desk.now)
    return whole(desk, person, study_uid)


@routes.post("/studies/{study_uid}/feedback", status_code=201, responses=problems(404, 409))
def say(desk: Here, person: Reading, study_uid: str, word: Word) -> Whole:
    """Say what was found. An earlier word of the same person is withdrawn, not lost."""
    ranked = not word.blind and desk.page.settings().site.stage is not Stage.SHADOW
    feedback.say(desk.engine, study_uid, person.name, word.finding, desk.now, ranked=ranked, note=word.note, eyes=person.eyes)
    return whole(desk, person, study_uid)


@routes.delete("/studies/{study_uid}/feedback", status_code=204, response_class=Response, responses=problems(404, 409))
def withdraw(desk: Here, person: Reading, study_uid: str) -> None:
    """Take one's word back."""
    feedback.withdraw(desk.engine, study_uid, person.name, desk.now)


@routes.post("/studies/{study_uid}/{step}", responses=problems(404, 409))
def take_step(desk: Here, person: Reading, study_uid: str, step: reading.Step, seen: Images = None) -> Study:
    """Claim, release, take over, read, pin or unpin. `seen`: the `entries` looked at; read is refused where more came since."""
    do_step(desk, person, study_uid, step, list_of(""), seen)
    return study_of(desk, worklist_rows.study(desk.engine, study_uid))


@routes.get("/board/{period}", responses=problems(409))
def show_board(desk: Here, person: Seeing, period: str = "latest") -> dict[str, Any]:
    """The board of a period: `latest`, or a month as 2026-11. Shares carry their exact 95 % interval."""
    may_see_board(desk, person)
    computed_at, found = desk.page.board(period)
    return {"computed_at": computed_at, **found}


class TriedFile(BaseModel):
    """What AI makes of a file that is no study. Without a probability, `reason` says why."""

    reason: str
    warnings: list[str]
    probability: float | None
    t_high: float
    """Studies are raised from this probability."""
    bundle: str
    calibration: str


@routes.post("/try", responses=problems(409))
def try_file(desk: Here, person: MayTry, file: Annotated[UploadFile, File()], *, outside: Annotated[bool, Form()] = False) -> TriedFile:
    """Score a DICOM, PNG or JPEG file. Nothing of it is kept or ranked."""
    tried = try_one(desk, person, file.file.read(), outside=outside)
    values = {name: getattr(tried, name) for name in TriedFile.model_fields if name != "warnings"}
    return TriedFile(**values, warnings=list(tried.warnings))


@routes.get("/openapi.json", include_in_schema=False)
def description(request: Request, person: Seeing) -> JSONResponse:
    """What can be asked here, OpenAPI 3.1."""
    return JSONResponse(request.app.openapi())


@routes.api_route("/{rest:path}", methods=["GET", "POST", "PUT", "PATCH", "DELETE"], include_in_schema=False)
def nothing_here(rest: str) -> None:
    """A program is told in its own language that there is nothing."""
    raise NotFound(f"/api/{quote(rest)} is not here, or not asked that way; /api/openapi.json describes what is")
