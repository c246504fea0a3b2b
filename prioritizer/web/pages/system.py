"""The operator's page: does it work, what needs somebody, who sends and receives, and tests of every way in and out."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Query
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from prioritizer import __version__
from prioritizer.access import May, Person
from prioritizer.config.settings import Settings
from prioritizer.db.accounts import audit_notes
from prioritizer.db.activity import queues, senders
from prioritizer.db.activity.queues import NOTHING, Queue
from prioritizer.db.in_force.settings import holding
from prioritizer.db.processing import deliver, requeue
from prioritizer.db.worklist import rows
from prioritizer.errors import NotAllowed
from prioritizer.web.http.context import Desk, Here, Proved, Seeing, Text, needs
from prioritizer.web.view.alarms import repairs
from prioritizer.web.view.list_view import alarms_for

routes = APIRouter(prefix="/system")
Operator = Annotated[Person, needs(May.OPERATE)]
Watching = Annotated[Person, needs(May.OPERATE, touch=False)]
Title = Annotated[str, Query(min_length=1, max_length=16, pattern=r"^[^\x00]+$")]
Since = Annotated[float, Query(gt=0, lt=2e9)]
"""A moment, seconds of Unix time."""
OURSELVES = "listener"
LONGEST_WAIT = timedelta(minutes=10)
"""So long a page looks again by itself for what a device sends."""
MOST_SHOWN = 50


class Again(StrEnum):
    """What is tried again for a study."""

    SCORE = "score"
    SCORE_ALL = "score-all"
    SEND = "send"
    SEND_ALL = "send-all"


@routes.get("", response_class=HTMLResponse)
def show(desk: Here, person: Seeing) -> HTMLResponse:
    """Everything at a glance; what changes something is for administrators."""
    return page(desk, person)


def page(desk: Desk, person: Person, proofs: list[Proved] | None = None, tested: str = "", done: str = "") -> HTMLResponse:
    """The page, with what a test just showed or what was just done."""
    settings, now = desk.page.settings(), desk.now
    faults, alarms, counts = desk.page.ready(), alarms_for(desk, person), desk.counts()
    day = now.astimezone(desk.zone).replace(hour=0, minute=0, second=0, microsecond=0).astimezone(UTC)
    heard = senders.heard(desk.engine, {peer.ae_title for peer in settings.peers if peer.ae_title != "*"}, day, now)
    return desk.render(
        "system.html",
        person=person,
        verdict=verdict(faults, len(alarms)),
        faults=faults,
        repairs=repairs(alarms),
        counts=counts,
        heard=heard,
        notes={peer.ae_title: peer for peer in settings.peers},
        any_peer=next((peer for peer in settings.peers if peer.ae_title == "*"), None),
        last_refusal=senders.last_refusals(desk.engine, {one.calling_ae for one in heard}, now),
        refusals=senders.newest_notices(desk.engine, MOST_SHOWN),
        refused_today=senders.refused_since(desk.engine, day),
        destinations=settings.destinations,
        deliveries=queues.unfinished_deliveries(desk.engine, MOST_SHOWN),
        failed=queues.failed_instances(desk.engine, MOST_SHOWN),
        unconfirmed=rows.unconfirmed(desk.engine, MOST_SHOWN),
        masked=settings.reading.mask_patients,
        stations=turning(desk),
        room=desk.page.room(),
        card=desk.page.card(),
        settings=settings,
        shown=in_force(settings),
        version=__version__,
        ruled=holding(desk.engine, desk.page.policy()).active,
        may_operate=person.may(May.OPERATE),
        proofs=proofs,
        tested=tested,
        done=done,
        ourselves=OURSELVES,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Turning:
    """One station as the page shows it."""

    name: str
    queue: Queue | None
    """None for a station that has none of its own."""
    done: str
    """In the last hour."""
    turned: datetime
    failures: int


def turning(desk: Desk) -> list[Turning]:
    """Every station with what waits for it. Several that score share one queue."""
    room, waiting, did = desk.page.room(), queues.queues(desk.engine), queues.done(desk.engine, desk.now)
    found = []
    for name, turned, failures in desk.page.stations():
        kind, _, which = name.partition("-")
        queue = {"receive": Queue(waiting=room.inbox, oldest=room.oldest), "score": waiting.get(queues.TO_SCORE, NOTHING),
                 "deliver": waiting.get(which, NOTHING)}.get(kind)  # fmt: skip
        found.append(Turning(name=name, queue=queue, done=did.get(kind, ""), turned=turned, failures=failures))
    return found


def verdict(faults: list[str], alarms: int) -> str:
    """The first line: works or not, and how much needs somebody."""
    works = "Working." if not faults else "Not everything works."
    needs = "Nothing needs you." if not alarms else "One thing needs you." if alarms == 1 else f"{alarms} things need you."
    return f"{works} {needs}"


def in_force(settings: Settings) -> list[tuple[str, str]]:
    """The settings that decide what readers see."""
    ranking = settings.ranking
    return [
        ("stage", str(settings.site.stage)),
        ("deadline of a raised study", f"{ranking.high_minutes:g} min"),
        ("deadline of every other study", f"{ranking.neutral_minutes:g} min"),
        ("most that may be raised", f"{ranking.max_high_share:.0%} of the last {ranking.last_n}"),
        ("a claim lasts", f"{ranking.claim_minutes:g} min"),
        ("AI's result is shown to readers", settings.reading.reveal),
        ("result that goes to the PACS", settings.publish.overlay),
        ("pixels are kept after reading", f"{settings.store.keep_read_days:g} days"),
        ("storing is refused below", f"{settings.listener.min_free_mib} MiB or {settings.listener.min_free_share:.0%} of the disk free"),
    ]


@routes.post("/test", response_class=HTMLResponse)
def walk(desk: Here, person: Operator, name: Text, *, send: Annotated[bool, Form()] = False) -> HTMLResponse:
    """Walk one way from the bottom up: C-ECHO, and with `send` a phantom image."""
    known = {OURSELVES, *(destination.name for destination in desk.page.settings().destinations)}
    if name not in known:
        raise NotAllowed(f"there is no way called {name!r} to test")
    audit_notes.way_tested(desk.engine, person.name, name, desk.now, sent=send)
    return page(desk, person, desk.page.examine(name, send), name)


@routes.get("/waiting", response_class=HTMLResponse)
def wait_for_test(desk: Here, person: Operator, title: Title, since: Since | None = None) -> Response:
    """Wait for what a device sends: somebody stands at it. The moment from which on is kept in the address."""
    if since is None:
        return RedirectResponse(f"/system/waiting?{urlencode({'title': title, 'since': f'{desk.now.timestamp():.3f}'})}", 303)
    return desk.render("waiting.html", person=person, **what_came(desk, title, since))


@routes.get("/waiting/now", response_class=HTMLResponse)
def look_for_test(desk: Here, person: Watching, title: Title, since: Since) -> HTMLResponse:
    """The same, for a page that asks again by itself."""
    return desk.part("came.html", **what_came(desk, title, since))


def what_came(desk: Desk, title: str, since: float) -> dict[str, Any]:
    """What a device sent since then. `again`: nothing was stored yet, and it is worth looking again."""
    began = datetime.fromtimestamp(since, UTC)
    found = senders.came(desk.engine, title, began)
    again = not found.images and desk.now - began < LONGEST_WAIT
    return {"title": title, "since": since, "began": began, "came": found, "again": again, "settings": desk.page.settings()}


@routes.post("/again/{what}", response_class=HTMLResponse)
def again(desk: Here, person: Operator, what: Again, study: Text = "") -> Response:
    """Score a study or one image again, or every image that failed, or send a study's result again, or every refused one."""
    if what is Again.SCORE_ALL:
        found = requeue.requeue_failed(desk.engine, person.name, desk.page.policy(), desk.now)
        desk.forget()
        return page(desk, person, done=words_of(found))
    if what is Again.SCORE:
        requeue.requeue(desk.engine, study, person.name, desk.page.policy(), desk.now)
    elif what is Again.SEND_ALL:
        deliver.requeue_all(desk.engine, person.name, desk.now)
    else:
        deliver.requeue_deliveries(desk.engine, study, person.name, desk.now)
    desk.forget()
    return RedirectResponse("/system", 303)


@routes.post("/give-up")
def give_up(desk: Here, person: Operator, study: Text, reason: Text = "") -> Response:
    """Results that were refused for good are given up; why is kept."""
    deliver.discard_deliveries(desk.engine, study, person.name, reason, desk.now)
    desk.forget()
    return RedirectResponse("/system", 303)


@routes.post("/discard")
def discard(desk: Here, person: Operator, image: Text, reason: Text = "") -> Response:
    """An image that failed is given up; why is kept. Its study stays on the list."""
    requeue.discard_failed(desk.engine, image, person.name, reason, desk.page.policy(), desk.now)
    desk.forget()
    return RedirectResponse("/system#failed", 303)


def words_of(found: requeue.Requeued) -> str:
    """What scoring all again did."""
    images = "No image waits" if not found.again else "1 image waits" if found.again == 1 else f"{found.again} images wait"
    gone = f" Of {found.gone} the pixels were deleted after reading: send those again, or discard them." if found.gone else ""
    return f"{images} for a score again.{gone}"
