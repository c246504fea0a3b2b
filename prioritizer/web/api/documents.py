"""The JSON documents of the API."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import Query
from pydantic import BaseModel, Field

from prioritizer.db.worklist import feedback
from prioritizer.study import ReaderFinding
from prioritizer.web.view.list_query import Address

MAX_ROWS = 1000
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


class FeedbackDocument(BaseModel):
    """A reader's word. `seen`: AI's result had been shown to them; `ranked`: the list had told whether the study was raised."""

    id: int
    reader: str
    at: datetime
    finding: ReaderFinding
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
    words: list[FeedbackDocument]
    """Those of others only after one's own, or for who may calibrate."""


class FeedbackRequest(BaseModel):
    """What a reader says of a study: the finding, not agreement with AI."""

    finding: ReaderFinding
    note: str = Field(default="", max_length=feedback.MAX_NOTE, pattern=r"^[^\x00]*$")
    blind: bool = False
    """The study was opened from a list without AI and in order of arrival."""


class ChangeDocument(BaseModel):
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
    told: list[ChangeDocument]


class AddressOfProgram(Address):
    """The parameters of the list, and how many studies a page holds."""

    limit: int = Field(default=200, ge=1, le=MAX_ROWS)


class TriedFile(BaseModel):
    """What AI makes of a file that is no study. Without a probability, `reason` says why."""

    reason: str
    warnings: list[str]
    probability: float | None
    t_high: float
    """Studies are raised from this probability."""
    bundle: str
    calibration: str
