"""The worklist: what stands on it, what changed since it was drawn, and what a reader does from it.

Every step is a form that works without JavaScript; with it, the same forms are sent by a key.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Annotated, Any
from urllib.parse import parse_qs, quote

from fastapi import APIRouter, Form, Header
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from prioritizer.access import May, Person
from prioritizer.db import changes, choosing, connect, reading, saying, worklist
from prioritizer.db.changes import Changes, Mark, Told
from prioritizer.db.events import Kind
from prioritizer.db.ordering import View, Wanted
from prioritizer.db.worklist import Row
from prioritizer.errors import NotAllowed
from prioritizer.web import history, words
from prioritizer.web.asking import Asked, Listed, parsed, without_place
from prioritizer.web.desk import Desk, Here, Listening, Seeing, Text, needs
from prioritizer.web.history import OF_ITS_PLACE
from prioritizer.web.words import Manner

routes = APIRouter()
PAGE_ROWS = 50
Reading = Annotated[Person, needs(May.READ)]
COLUMNS = {"study": "Study", "from": "From", "arrived": "Arrived", "ai": "AI", "reader": "Reader", "why": "Why here?"}
"""What may be left out of the list, by what each is called in a choice; due time and patient always stand."""
SITE_VIEWS = (
    ("everything open", ""),
    ("last 4 h", "?hours=4"),
    ("overdue", "?overdue=1"),
    ("my claims", "?mine=1"),
    ("not scored", "?ai=NOT_SCORED"),
    ("failed", "?ai=FAILED"),
    ("open too long", "?view=expired"),
    ("read", "?view=read"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedView:
    """A list under a name, as the menu shows it."""

    name: str
    query: str
    count: int | None
    """How many studies stand in it; None where nobody counts that far."""
    current: bool
    whose: str = ""
    """"site", "mine", or empty for those that come with prioritizer."""


def manner_of(desk: Desk, asked: Asked | None = None) -> Manner:
    """How this page writes."""
    settings = desk.page.settings()
    blind = asked is not None and asked.address.blind
    return Manner(
        marks=desk.page.marks and not blind,
        neutral=timedelta(minutes=settings.ranking.neutral_minutes) if blind else None,
        masked=settings.reading.mask_patients,
        date_format=settings.reading.date_format,
    )


def wanted_of(desk: Desk, asked: Asked, person: Person) -> Wanted:
    """The list for the ledger. Raises NotAllowed where choosing by AI's opinion would tell it on a page that does not."""
    if asked.address.raised and not manner_of(desk, asked).marks:
        raise NotAllowed("this list does not tell which studies were raised, so it cannot be searched by that; take the filter away")
    return asked.wanted(person.name)


def news_of(desk: Desk, asked: Asked, person: Person, found: Changes) -> Changes:
    """What happened as far as this page may tell: on one without AI, not what moved, nor what became overdue by AI's deadline."""
    manner = manner_of(desk, asked)
    if manner.marks:
        return found
    quiet = OF_ITS_PLACE if manner.neutral is not None else tuple(kind for kind in OF_ITS_PLACE if kind is not Kind.OVERDUE)
    told = tuple(one for one in found.told if one.kind not in quiet)
    return replace(found, moved_up=0, moved_down=0, scored=0, told=told)


@routes.get("/", response_class=HTMLResponse)
def show_list(desk: Here, person: Seeing, asked: Listed) -> HTMLResponse:
    """The worklist. It is drawn once and stays as it is until the reader wants the changes."""
    with connect.one_look(desk.engine):
        return drawn(desk, person, asked)


def drawn(desk: Desk, person: Person, asked: Asked) -> HTMLResponse:
    """The page of this moment."""
    tally = desk.tallies.now()
    mark = changes.mark_now(desk.engine, desk.now)
    wanted, manner = wanted_of(desk, asked, person), manner_of(desk, asked)
    last = worklist.study(desk.engine, asked.address.after) if asked.address.after else None
    rows = worklist.rows(desk.engine, wanted, now=desk.now, limit=PAGE_ROWS + 1, after=last)
    shown, chosen, kept = rows[:PAGE_ROWS], columns(desk, person), without_place(asked).query()
    return desk.render(
        "worklist.html",
        person=person,
        asked=asked,
        mark=mark,
        lines=[words.line(row, desk.now, manner) for row in shown],
        viewers={row.study_uid: viewers_of(desk, row)[:1] for row in shown},
        heading=heading(asked),
        columns=shown_columns(chosen, asked),
        all_columns={name: COLUMNS[name] for name in [*chosen, *(name for name in COLUMNS if name not in chosen)]},
        chosen_columns=chosen,
        counts=tally.counts,
        share=tally.share if desk.page.marks else None,
        limit_raised=desk.page.settings().ranking,
        views=views(desk, person, asked),
        senders=tally.senders,
        alarms=worklist.standing_alarms(desk.engine),
        next_query=asked.query(after=shown[-1].study_uid, at="") if len(rows) > PAGE_ROWS else "",
        may_read=person.may(May.READ),
        selected=asked.address.at,
        sound=desk.page.settings().reading.stat_sound,
        hidden=kept_by_search(asked),
        ai_names=[(state.value, name) for state, name in words.AI_NAMES.items()],
        address=lambda uid: address_from(uid, kept),
        why_address=lambda uid: address_from(uid, kept, "/why"),
        kept=kept,
        frequency="" if asked.address.blind else desk.frequency(),
    )


@routes.get("/changes", response_class=HTMLResponse)
def show_changes(desk: Here, person: Listening, since: str, list: str = "") -> HTMLResponse:  # noqa: A002 - the name in the address
    """The pill: what happened to this list since it was drawn. The rows stay where they are."""
    asked = list_of(list)
    wanted = wanted_of(desk, asked, person)
    found = news_of(desk, asked, person, changes.since(desk.engine, Mark.parse(since), wanted, person.name, desk.now))
    return desk.part("pill.html", changes=found, said=pill_words(found), asked=asked, names=named(desk, found), page_changed=True)


def named(desk: Desk, found: Changes) -> list[tuple[str, str]]:
    """What happened to each study, in a line, with the patient's name as this page shows names. Of several places only the last is told."""
    masked = desk.page.settings().reading.mask_patients
    of_study: dict[str, list[Told]] = {}
    for told in found.told:
        of_study.setdefault(told.study_uid, []).append(told)
    lines = []
    for uid, happened in of_study.items():
        placed = [told for told in happened if told.kind == Kind.PLACED]
        said = " · ".join(told.said for told in happened if told.kind != Kind.PLACED or told is placed[-1])
        lines.append((f"study ..{uid[-6:]}" if masked else words.name_words(happened[0].patient_name), said))
    return lines


def pill_words(found: Changes) -> list[str]:
    """The counts, the urgent first."""
    counted = (
        (found.stat, "STAT"), (found.overdue, "OVERDUE"), (found.new, "new"), (found.moved_up, "moved up"),
        (found.moved_down, "moved down"), (found.grown, "with more images"), (found.read, "read"),
        (found.taken, "claimed"), (found.freed, "free again"), (found.scored, "with a result of AI"),
    )  # fmt: skip
    said = [f"{count} {word}" for count, word in counted if count]
    return said + (["the list was placed anew"] if found.reordered else []) + (["and more"] if found.more else [])


@routes.get("/study/{study_uid}/why", response_class=HTMLResponse)
def why_here(
    desk: Here,
    person: Seeing,
    study_uid: str,
    list: str = "",  # noqa: A002 - the name in the address
    hx_request: Annotated[str, Header()] = "",
) -> HTMLResponse:
    """One study's way to its place: unfolded in the list, or a page of its own for a browser without scripts."""
    asked = list_of(list)
    row, manner = worklist.study(desk.engine, study_uid), manner_of(desk, asked)
    happened, said = worklist.why(desk.engine, study_uid), saying.said_of(desk.engine, study_uid)
    told = history.told_to(person, row, manner, said, happened)
    found: dict[str, Any] = {"line": words.line(row, desk.now, manner), "events": told, "left_out": history.left_out(manner, happened)}
    if hx_request:
        return desk.part("why.html", **found)
    return desk.render("why_page.html", person=person, back=asked.query(at=study_uid, after=asked.address.after), **found)


def kept_by_search(asked: Asked) -> list[tuple[str, str]]:
    """What the search form does not ask and must keep."""
    own = ("q", "from", "ai", "after", "at")
    return [(key, values[-1]) for key, values in parse_qs(asked.query().removeprefix("?")).items() if key not in own]


def heading(asked: Asked) -> str:
    """What the list is, in words; people must see when it is not everything, and not by deadline."""
    a = asked.address
    view = {View.OPEN: "Open studies", View.EXPIRED: "Open for too long", View.READ: "Read studies"}[a.view]
    order = {
        "deadline": "STAT first, then by deadline", "arrival": "STAT first, then in order of arrival (FIFO)", "patient": "by patient",
        "study": "by study", "from": "by sender", "ai": "by AI", "reader": "by reader", "read": "by the time of reading",
    }[asked.order]  # fmt: skip
    only = [
        f"found by {a.q!r}" if a.q else "", f"from {a.sender}" if a.sender else "", f"AI {words.AI_NAMES[a.ai]}" if a.ai else "",
        "raised" if a.raised else "", "overdue" if a.overdue else "", "mine" if a.mine else "",
        f"arrived in the last {a.hours:g} h" if a.hours else "", "without AI" if a.blind else "",
    ]  # fmt: skip
    kept = [part for part in only if part]
    return f"{view}, {order}" + (", backwards" if asked.back and asked.address.back else "") + (f"; only {', '.join(kept)}" if kept else "")


def columns(desk: Desk, person: Person) -> list[str]:
    """The columns that this reader chose, in their order."""
    return [name for name in choosing.of(desk.engine, person.name).get("columns") or list(COLUMNS) if name in COLUMNS]


def shown_columns(chosen: Sequence[str], asked: Asked) -> list[str]:
    """Blind, the two that tell AI's opinion are left out."""
    return [name for name in chosen if not (asked.address.blind and name in ("ai", "why"))]


def views(desk: Desk, person: Person, asked: Asked) -> list[SavedView]:
    """The menu of lists: those that come with prioritizer, the site's, the reader's own."""
    here, counts = without_place(asked).query(), desk.counts()
    known = {"everything open": counts.open, "overdue": counts.overdue, "not scored": counts.not_scored, "failed": counts.failed,
             "open too long": counts.expired}  # fmt: skip
    found = [SavedView(name=name, query=query, count=known.get(name), current=here == query) for name, query in SITE_VIEWS]
    for saved in choosing.views(desk.engine, person.name):
        wanted = parsed(saved.query)
        if wanted is None or (wanted.address.raised and not manner_of(desk, wanted).marks):
            continue
        count = worklist.count(desk.engine, wanted.wanted(person.name), desk.now) if wanted.address.view is not View.READ else None
        whose = "mine" if saved.person else "site"
        found.append(SavedView(name=saved.name, query=saved.query, count=count, current=here == saved.query, whose=whose))
    return found


def viewers_of(desk: Desk, row: Row) -> list[tuple[str, str]]:
    """The viewers of the house with their links to one study; what a peer sent is quoted, so that it stays a value."""
    values = {"study_uid": row.study_uid, "accession_number": row.accession_number, "patient_id": row.patient_id}
    quoted = {name: quote(value, safe="") for name, value in values.items()}
    return [(viewer.name, viewer.url.format(**quoted)) for viewer in desk.page.settings().viewers]


# --- steps -----------------------------------------------------------------------------------------------------------


def list_of(query: str) -> Asked:
    """The list that a form was sent from; the plain one where the form does not say."""
    return parsed(query) or parsed("")  # type: ignore[return-value]


def back_to(asked: Asked, study_uid: str) -> Response:
    """The list, drawn anew, with the row selected."""
    return RedirectResponse(f"/{asked.query(at=study_uid, after=asked.address.after)}", 303)


def to_study(study_uid: str, asked: Asked) -> Response:
    """The study's page, which knows from which list it was opened."""
    return RedirectResponse(study_address(study_uid, asked), 303)


def study_address(study_uid: str, asked: Asked, part: str = "") -> str:
    """The address of a study opened from a list."""
    return address_from(study_uid, without_place(asked).query(), part)


def address_from(study_uid: str, query: str, part: str = "") -> str:
    """The same, of a list given as its query."""
    return f"/study/{quote(study_uid, safe='')}{part}" + (f"?list={quote(query, safe='')}" if query else "")


@routes.post("/next")
def take_next(desk: Here, person: Reading, list: Text = "", passing: Annotated[Sequence[str], Form()] = ()) -> Response:  # noqa: A002
    """Claim the first study that nobody has and open it; the ones in `passing` are skipped, which is kept."""
    asked = list_of(list)
    lease = timedelta(minutes=desk.page.settings().ranking.claim_minutes)
    found = reading.claim_next(desk.engine, person.name, lease, desk.now, wanted_of(desk, asked, person), passing)
    desk.forget()
    if found is None:
        return RedirectResponse(f"/{without_place(asked).query()}", 303)
    return to_study(found, asked)


@routes.post("/study/{study_uid}/{step}")
def take_step(
    desk: Here,
    person: Reading,
    study_uid: str,
    step: reading.Step,
    list: Text = "",  # noqa: A002 - the name in the form
    to: Text = "",
    seen: Annotated[int | None, Form(ge=0, lt=2**31)] = None,
) -> Response:
    """Claim, release, take over, read, pin or unpin, then back to the page it was done from. `seen`: how many images that page showed."""
    asked = list_of(list)
    do_step(desk, person, study_uid, step, asked, seen)
    if to == "next":
        return take_next(desk, person, list)
    return to_study(study_uid, asked) if to == "study" else back_to(asked, study_uid)


def do_step(desk: Desk, person: Person, study_uid: str, step: reading.Step, asked: Asked, seen: int | None = None) -> None:
    """One step with a study, and the counts are taken anew."""
    lease = timedelta(minutes=desk.page.settings().ranking.claim_minutes)
    policy = desk.page.policy()
    match step:
        case reading.Step.CLAIM | reading.Step.TAKE_OVER:
            over = step is reading.Step.TAKE_OVER
            reading.claim(desk.engine, study_uid, person.name, lease, desk.now, take_over=over, wanted=wanted_of(desk, asked, person))
        case reading.Step.RELEASE:
            reading.release(desk.engine, study_uid, person.name, desk.now, force=person.may(May.OPERATE))
        case reading.Step.READ:
            reading.read(desk.engine, study_uid, person.name, desk.now, seen=seen)
        case reading.Step.PIN | reading.Step.UNPIN:
            reading.pin(desk.engine, study_uid, person.name, policy, desk.now, remove=step is reading.Step.UNPIN)
    desk.forget()


@routes.post("/views")
def save_view(desk: Here, person: Reading, name: Text = "", list: Text = "", whose: Text = "mine") -> Response:  # noqa: A002
    """Keep a list under a name, for oneself or, by an administrator, for the site."""
    asked = without_place(list_of(list))
    if whose == "site" and not person.may(May.OPERATE):
        raise NotAllowed("lists of the site are made by an administrator")
    choosing.save_view(desk.engine, "" if whose == "site" else person.name, name, asked.query(), desk.now)
    return RedirectResponse(f"/{asked.query()}", 303)


@routes.post("/views/delete")
def delete_view(desk: Here, person: Reading, name: Text = "", whose: Text = "mine") -> Response:
    """Forget a list's name."""
    if whose == "site" and not person.may(May.OPERATE):
        raise NotAllowed("lists of the site are taken away by an administrator")
    choosing.delete_view(desk.engine, "" if whose == "site" else person.name, name)
    return RedirectResponse("/", 303)


@routes.post("/columns")
def choose_columns(
    desk: Here,
    person: Seeing,
    columns: Annotated[Sequence[str], Form()] = (),
    every: Annotated[Sequence[str], Form()] = (),
    places: Annotated[Sequence[int], Form()] = (),
    list: Text = "",  # noqa: A002 - the name in the form
) -> Response:
    """Which columns, in which order, for this reader. `places`: the place of each of `every` column, the chosen and the others."""
    place = dict(zip(every, places, strict=False))
    wanted = sorted((name for name in columns if name in COLUMNS), key=lambda name: place.get(name, 0))
    choosing.choose(desk.engine, person.name, "columns", wanted, desk.now)
    return RedirectResponse(f"/{list_of(list).query()}", 303)
