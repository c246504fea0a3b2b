"""The study page: the image first, what AI made of it behind one key, the reader's word in one key."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Form, Query
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from prioritizer import patient_identity
from prioritizer.access import May, Person
from prioritizer.db.activity import queues
from prioritizer.db.instances import differing_copies
from prioritizer.db.instances.differing_copies import Newer
from prioritizer.db.instances.side_by_side import side_by_side
from prioritizer.db.processing import deliver
from prioritizer.db.schema.events import Kind
from prioritizer.db.worklist import feedback, reading, study
from prioritizer.db.worklist import rows as worklist_rows
from prioritizer.db.worklist.rows import WorklistRow
from prioritizer.db.worklist.study import InstanceRow
from prioritizer.errors import Forbidden, NotAllowed, NotFound, Transient
from prioritizer.monitoring import agreement
from prioritizer.ranking.deadlines import Stage
from prioritizer.scope.guard_rules import OUT_OF_DISTRIBUTION
from prioritizer.scope.verdict import PopulationRule
from prioritizer.states import ReadingState
from prioritizer.study import AIState, ReaderFinding
from prioritizer.web.http.backend import Images
from prioritizer.web.http.context import BackgroundViewer, Context, RequestContext, Text, Viewer
from prioritizer.web.pages.actions import Operating, Reading
from prioritizer.web.view import history, wording
from prioritizer.web.view.list_query import ListQuery
from prioritizer.web.view.list_view import list_of, manner_of, study_address, viewers_of
from prioritizer.web.view.study_view import ai_of, far_of, told_already, why_hidden

routes = APIRouter(prefix="/study/{study_uid}")
PNG = "image/png"
JUST = timedelta(minutes=5)
MAX_PREPARED = 4
"""Films of a study that are made ready before it is opened."""


@routes.get("", response_class=HTMLResponse)
def show_study(context: Context, person: Viewer, study_uid: str, list: str = "", read: str = "") -> HTMLResponse:  # noqa: A002 - in the address
    """The page of one study. Opening it is an event. `read`: the study that this reader has just read."""
    asked = list_of(list)
    reading.opened(context.engine, study_uid, person.name, context.now)
    said = feedback.said_of(context.engine, study_uid)
    row, manner = worklist_rows.study(context.engine, study_uid), manner_of(context, asked)
    doubt = ""
    if row.identity:  # the mark first: what comes while the page is drawn is not in it
        doubt = differing_copies.mark_of(context.engine, row.study_uid)
        row = worklist_rows.study(context.engine, study_uid)
    with_study = context.backend.settings().reading.reveal == "with-study" and not asked.address.blind
    if with_study and row.ai_state == AIState.SCORED and not why_hidden(context, person, said):
        feedback.revealed(context.engine, study_uid, person.eyes[0], context.now)
    context.prefetch.opened(person.name, study_uid, lambda: films_after(context, person, asked, study_uid))
    happened = study.why(context.engine, study_uid)
    instances = study.study_instances(context.engine, study_uid)
    mine = feedback.standing_of(context.engine, study_uid, person.name)
    ai = ai_of(context, person, row, instances, said)
    newer = differing_copies.newer_for(context.engine, row.study_uid) if row.identity else Newer.NOTHING
    held_by_other = row.reading_state == "CLAIMED" and row.reader != person.name and bool(wording.reader_words(row, context.now))
    return context.render(
        "study.html",
        person=person,
        asked=asked,
        here=study_address(study_uid, asked),
        line=wording.line(row, context.now, manner),
        masked=manner.masked,
        row=row,
        ai=ai,
        far=far_of(context, instances),
        mine=mine,
        said=[word for word in said if word.reader != person.name] if history.may_hear_others(person, row, said) else [],
        films=[one for one in instances if one.has_film],
        instances=instances,
        can_take=newer is not Newer.NOTHING,
        stated=side_by_side(context.engine, row.study_uid) if row.identity and not manner.masked else [],
        labels=patient_identity.LABELS,
        joins=newer is Newer.FIRST_ROW,
        doubt=doubt,
        events=history.told_to(person, row, manner, said, happened),
        lifted_by_calibration=context.backend.policy().out_of_distribution is PopulationRule.UNTIL_CALIBRATED
        and any(one.reason == OUT_OF_DISTRIBUTION for one in instances),
        left_out=history.left_out(manner, happened),
        deliveries=worklist_rows.unfinished_deliveries(context.engine, study_uid),
        no_result=queues.why_unpublished(context.engine, study_uid) if person.may(May.OPERATE) else "",
        viewers=viewers_of(context, row, manner),
        held_by_other=held_by_other,
        held_by_me=row.reading_state == "CLAIMED" and row.reader == person.name,
        was_read=row.reading_state == "READ",
        just_read=just_read(context, person, read),
        may_read=person.may(May.READ),
        findings=FINDINGS,
        asked_for=person.may(May.READ) and mine is None and agreement.asked_for(study_uid, context.backend.settings().monitoring.ask_share),
        told_already=told_already(context, asked),
        may_operate=person.may(May.OPERATE),
        scale=context.heat_map_scale,
        frequency=context.frequency(),
    )


def just_read(context: RequestContext, person: Person, study_uid: str) -> wording.Line | None:
    """The study that this reader has just read, while a slip may be taken back without looking for it."""
    try:
        row = worklist_rows.study(context.engine, study_uid) if study_uid else None
    except NotFound:
        return None
    mine = row is not None and row.reading_state == ReadingState.READ and row.reader == person.name
    recent = mine and row is not None and row.read_at is not None and context.now - row.read_at < JUST
    return wording.line(row, context.now, manner_of(context)) if row is not None and recent else None


def films_after(context: RequestContext, person: Person, asked: ListQuery, study_uid: str) -> list[str]:
    """The films of the study after this one; none where its reader comes to no other, or while images wait for their score."""
    if person.token or not person.may(May.READ) or context.counts().waiting:
        return []
    following = reading.upcoming(context.engine, context.now, asked.wanted(person.name), [study_uid])
    if following is None:
        return []
    return [one.sop_instance_uid for one in study.study_instances(context.engine, following) if one.has_film][:MAX_PREPARED]


@routes.get("/now", response_class=HTMLResponse)
def show_now(
    context: Context, person: BackgroundViewer, study_uid: str, images: Annotated[int, Query(ge=0, lt=2**31)], *, mine: bool = False
) -> HTMLResponse:
    """What happened to a study while its page was open, that its reader must know. `images`: the entries that the page shows."""
    row = worklist_rows.study(context.engine, study_uid)
    return context.part("now.html", row=row, more=row.entries - images, lost=lost_to(context, person, row) if mine else "")


def lost_to(context: RequestContext, person: Person, row: WorklistRow) -> str:
    """Why a study is no longer the reader's, in words; empty while it is."""
    if row.reading_state == ReadingState.READ:
        return "" if row.reader == person.name else f"{row.reader} has read it"
    if row.reading_state == ReadingState.CLAIMED and row.reader != person.name:
        return f"{row.reader} has taken it over"
    held = row.reading_state == ReadingState.CLAIMED and row.reader_until is not None and row.reader_until > context.now
    return "" if held else why_free(context, person, row)


def why_free(context: RequestContext, person: Person, row: WorklistRow) -> str:
    """How the reader's claim ended: by somebody else, or by itself."""
    ended = [one for one in study.why(context.engine, row.study_uid) if one.kind in (Kind.RELEASED, Kind.LEASE_ENDED)]
    if ended and ended[-1].kind == Kind.RELEASED and ended[-1].actor != person.name:
        return f"{ended[-1].who} released your claim, so others may take it"
    return "your claim has run out, so others may take it"


FINDINGS = (
    (ReaderFinding.PRESENT, "y", "Finding present", "Finding present"),
    (ReaderFinding.ABSENT, "x", "absent", "Finding absent"),
    (ReaderFinding.UNSURE, "s", "can't say", "Finding: can't say"),
)
"""Each finding with its key, the word on its button in a row of them, and what the button is called alone."""


# --- pictures ----------------------------------------------------------------------------------------------------------


def instance_of(context: RequestContext, study_uid: str, sop_instance_uid: str) -> InstanceRow:
    """An image, only through its own study."""
    for one in study.study_instances(context.engine, study_uid):
        if one.sop_instance_uid == sop_instance_uid:
            return one
    raise NotFound("this study has no such image")


def pictures_of(context: RequestContext) -> Images:
    """Where films come from."""
    found = context.backend.images()
    if found is None:
        raise Transient("AI is off and so are the previews; open the study in the viewer")
    return found


@routes.get("/image/{sop_instance_uid}.png")
def show_image(context: Context, person: Viewer, study_uid: str, sop_instance_uid: str) -> Response:
    """The film in the header's window, for a browser without JavaScript."""
    instance_of(context, study_uid, sop_instance_uid)
    reading.opened(context.engine, study_uid, person.name, context.now)
    return Response(context.prefetch.display(pictures_of(context), sop_instance_uid), media_type=PNG)


@routes.get("/film/{sop_instance_uid}.png")
def show_film(context: Context, person: Viewer, study_uid: str, sop_instance_uid: str) -> Response:
    """The film with all its tones; the header's window stands in two headers, as shares of the range."""
    instance_of(context, study_uid, sop_instance_uid)
    reading.opened(context.engine, study_uid, person.name, context.now)
    films = pictures_of(context)
    film = context.prefetch.film(films, sop_instance_uid)
    context.prefetch.shown(films, person.name, study_uid)
    return Response(film.png, media_type=PNG, headers={"X-Window-Low": f"{film.low:.6f}", "X-Window-High": f"{film.high:.6f}"})


Side = Annotated[int, Query(ge=1, le=20000)]


@routes.get("/heat/{sop_instance_uid}.png")
def show_heat(context: Context, person: Viewer, study_uid: str, sop_instance_uid: str, rows: Side = 1, columns: Side = 1) -> Response:
    """The heat map of an image, for a reader to whom AI's result was shown."""
    instance_of(context, study_uid, sop_instance_uid)
    said = feedback.said_of(context.engine, study_uid)
    if why_hidden(context, person, said) or feedback.seen_at(context.engine, study_uid, person.eyes) is None:
        raise Forbidden("the AI result of this study has not been shown to you; ask for it on its page (h)")
    saliency = study.saliency_of(context.engine, sop_instance_uid)
    return Response(pictures_of(context).heat(saliency, rows, columns), media_type=PNG)


# --- steps -------------------------------------------------------------------------------------------------------------


@routes.post("/reveal")
def reveal(context: Context, person: Viewer, study_uid: str, list: Text = "") -> Response:  # noqa: A002
    """Show AI's result to this reader; that it was shown is kept before it is."""
    said = feedback.said_of(context.engine, study_uid)
    if hidden := why_hidden(context, person, said):
        raise NotAllowed(hidden)
    feedback.revealed(context.engine, study_uid, person.eyes[0], context.now)
    return RedirectResponse(study_address(study_uid, list_of(list)), 303)


@routes.post("/say")
def say(
    context: Context,
    person: Reading,
    study_uid: str,
    finding: Annotated[ReaderFinding, Form()],
    list: Text = "",  # noqa: A002 - the name of the form field
    note: Text = "",
) -> Response:
    """The reader's word. What had been seen is read from the events; whether the list told AI's opinion, from the list."""
    asked = list_of(list)
    ranked = asked.ranked and context.backend.settings().site.stage is not Stage.SHADOW
    feedback.say(context.engine, study_uid, person.name, finding, context.now, ranked=ranked, note=note, eyes=person.eyes)
    return RedirectResponse(study_address(study_uid, asked), 303)


@routes.post("/withdraw")
def withdraw(context: Context, person: Reading, study_uid: str, list: Text = "") -> Response:  # noqa: A002
    """Take one's word back."""
    feedback.withdraw(context.engine, study_uid, person.name, context.now)
    return RedirectResponse(study_address(study_uid, list_of(list)), 303)


@routes.post("/send-again")
def send_again(context: Context, person: Operating, study_uid: str, list: Text = "") -> Response:  # noqa: A002
    """Refused or waiting deliveries are tried at once."""
    deliver.requeue_deliveries(context.engine, study_uid, person.name, context.now)
    return RedirectResponse(study_address(study_uid, list_of(list)), 303)
