"""What a reader does from the list and from a study: next, claim, release, read, open again, pin; lists under a name, columns.

Every step is a form that works without JavaScript; with it, the same forms are sent by a key.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Form
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from prioritizer.access import May, Person
from prioritizer.db.worklist import feedback, preferences, reading, rows
from prioritizer.errors import NotAllowed
from prioritizer.states import ReadingState
from prioritizer.study import ReaderFinding, study_instance_uid
from prioritizer.web.http.context import Context, RequestContext, Text, Viewer, needs
from prioritizer.web.pages.own_account import InPerson
from prioritizer.web.view import wording
from prioritizer.web.view.list_query import ListQuery, without_place
from prioritizer.web.view.list_view import COLUMNS, list_of, manner_of, study_address, wanted_of

routes = APIRouter()
Reading = Annotated[Person, needs(May.READ)]
Operating = Annotated[Person, needs(May.OPERATE)]


def back_to(asked: ListQuery, study_uid: str) -> Response:
    """The list, drawn again, with the row selected."""
    return RedirectResponse(f"/{asked.query(at=study_uid, after=asked.address.after)}", 303)


def to_study(study_uid: str, asked: ListQuery, read: str = "") -> Response:
    """The study's page, which knows from which list it was opened, and which study was read just before."""
    address = study_address(study_uid, asked)
    return RedirectResponse(address + (f"{'&' if '?' in address else '?'}{urlencode({'read': read})}" if read else ""), 303)


@routes.post("/next")
def next_study(context: Context, person: Reading, list: Text = "", passing: Annotated[Sequence[str], Form()] = ()) -> Response:  # noqa: A002
    """Claim the first study that nobody has and open it; the ones in `passing` are skipped, which is kept."""
    return take_next(context, person, list, passing)


def take_next(context: RequestContext, person: Person, list: str, passing: Sequence[str] = (), read: str = "") -> Response:  # noqa: A002
    """The same. `read`: the study that was read on the way, so that its reader may still open it again."""
    asked = list_of(list)
    lease = timedelta(minutes=context.backend.settings().ranking.claim_minutes)
    found = reading.claim_next(context.engine, person.name, lease, context.now, wanted_of(context, asked, person), passing)
    context.forget()
    if found is not None:
        return to_study(found, asked, read)
    told = {"list": without_place(asked).query()} | ({"read": "1"} if read else {})
    return RedirectResponse(f"/nothing-left?{urlencode(told)}", 303)


@routes.get("/nothing-left", response_class=HTMLResponse)
def nothing_left(context: Context, person: Viewer, list: str = "", *, read: bool = False) -> HTMLResponse:  # noqa: A002 - the name in the address
    """Said in words: a list that is only drawn again looks as if the key had not been heard."""
    said = ("The study is read. " if read else "") + "Every study of this list is read, or somebody has it."
    back = list_of(list).query(after="", at="")
    return context.render("message.html", person=person, title="Nothing is left to read here", said=said, back=back)


@routes.post("/study/{study_uid}/identity")
def settle_identity(
    context: Context,
    person: Operating,
    study_uid: str,
    take: Text = "no",
    shown: Text = "",
    list: Text = "",  # noqa: A002
) -> Response:
    """An administrator says whose study it is: what is shown stays, or what came since takes its place."""
    context.backend.decisions.settle_identity(study_uid, take == "yes", person.name, shown)
    context.forget()
    return to_study(study_instance_uid(study_uid) if take == "yes" else study_uid, list_of(list))


@routes.post("/study/{study_uid}/{step}")
def take_step(
    context: Context,
    person: Reading,
    study_uid: str,
    step: reading.ReadingAction,
    list: Text = "",  # noqa: A002 - the name in the form
    to: Text = "",
    note: Text = "",
    seen: Annotated[int | None, Form(ge=0, lt=2**31)] = None,
) -> Response:
    """Claim, release, take over, read, open again, pin or unpin, then back to the page it was done from. `seen`: its number of images."""
    asked = list_of(list)
    if to == "next":
        wanted_of(context, asked, person)  # a list that cannot be gone on with is told before anything is done
    if step is reading.ReadingAction.READ:
        keep_note(context, person, study_uid, note)
    do_step(context, person, study_uid, step, asked, seen)
    if to == "next":
        return take_next(context, person, list, read=study_uid if step is reading.ReadingAction.READ else "")
    return to_study(study_uid, asked) if to == "study" else back_to(asked, study_uid)


def keep_note(context: RequestContext, person: Person, study_uid: str, note: str) -> None:
    """A note that was typed and not said yet goes with the finding that was said. Raises NotAllowed where none was: nothing is lost."""
    typed = " ".join(note.split())
    mine = feedback.standing_of(context.engine, study_uid, person.name)
    if not typed or (mine is not None and mine.note == typed):
        return
    if mine is None:
        raise NotAllowed(f"your note is not kept yet: go back and say with it what you found, or clear it. It reads: {typed}")
    feedback.say(
        context.engine, study_uid, person.name, ReaderFinding(mine.finding), context.now, ranked=mine.ranked, note=typed, eyes=person.eyes
    )


@routes.get("/study/{study_uid}/release", response_class=HTMLResponse)
def ask_before_release(context: Context, person: Operating, study_uid: str, list: str = "") -> HTMLResponse:  # noqa: A002
    """Before somebody's claim is taken away: whose it is, since when, and what becomes of what they did."""
    asked = list_of(list)
    row = rows.study(context.engine, study_uid)
    if not wording.reader_words(row, context.now) or row.reading_state == ReadingState.READ:
        raise NotAllowed("nobody has this study")
    line = wording.line(row, context.now, manner_of(context, asked))
    return context.render("release.html", person=person, row=row, line=line, kept=asked.query(after=asked.address.after, at=""))


def do_step(
    context: RequestContext, person: Person, study_uid: str, step: reading.ReadingAction, asked: ListQuery, seen: int | None = None
) -> None:
    """One step with a study, and the counts are taken again."""
    lease = timedelta(minutes=context.backend.settings().ranking.claim_minutes)
    policy = context.backend.policy()
    match step:
        case reading.ReadingAction.CLAIM | reading.ReadingAction.TAKE_OVER:
            over = step is reading.ReadingAction.TAKE_OVER
            reading.claim(
                context.engine, study_uid, person.name, lease, context.now, take_over=over, wanted=wanted_of(context, asked, person)
            )
        case reading.ReadingAction.RELEASE:
            reading.release(context.engine, study_uid, person.name, context.now, force=person.may(May.OPERATE))
        case reading.ReadingAction.READ:
            reading.read(context.engine, study_uid, person.name, context.now, seen=seen)
        case reading.ReadingAction.REOPEN:
            reading.reopen(context.engine, study_uid, person.name, context.now)
        case reading.ReadingAction.PIN | reading.ReadingAction.UNPIN:
            reading.pin(context.engine, study_uid, person.name, policy, context.now, remove=step is reading.ReadingAction.UNPIN)
    context.forget()


@routes.post("/views")
def save_view(context: Context, person: InPerson, name: Text = "", list: Text = "", whose: Text = "mine") -> Response:  # noqa: A002
    """Keep a list under a name, for oneself or, by an administrator, for the site."""
    asked = without_place(list_of(list))
    if whose == "site" and not person.may(May.OPERATE):
        raise NotAllowed("lists of the site are made by an administrator")
    preferences.save_view(context.engine, "" if whose == "site" else person.name, name, asked.query(), context.now, by=person.name)
    return RedirectResponse(f"/{asked.query()}", 303)


@routes.post("/views/delete")
def delete_view(context: Context, person: InPerson, name: Text = "", whose: Text = "mine") -> Response:
    """Forget a list's name."""
    if whose == "site" and not person.may(May.OPERATE):
        raise NotAllowed("lists of the site are taken away by an administrator")
    preferences.delete_view(context.engine, "" if whose == "site" else person.name, name, context.now, by=person.name)
    return RedirectResponse("/", 303)


@routes.post("/columns")
def choose_columns(
    context: Context,
    person: InPerson,
    columns: Annotated[Sequence[str], Form()] = (),
    every: Annotated[Sequence[str], Form()] = (),
    places: Annotated[Sequence[int], Form()] = (),
    list: Text = "",  # noqa: A002 - the name in the form
) -> Response:
    """Which columns, in which order, for this reader. `places`: the place of each of `every` column, the chosen and the others."""
    place = dict(zip(every, places, strict=False))
    wanted = sorted((name for name in columns if name in COLUMNS), key=lambda name: place.get(name, 0))
    preferences.choose(context.engine, person.name, "columns", wanted, context.now)
    return RedirectResponse(f"/{list_of(list).query()}", 303)
