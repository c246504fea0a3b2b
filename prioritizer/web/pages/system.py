"""The operator's page: does it work, what needs somebody, who sends and receives, and tests of every way in and out."""

from __future__ import annotations

from collections.abc import Sequence
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
from prioritizer.db.activity import queues, senders
from prioritizer.db.activity.queues import NOTHING, Queue
from prioritizer.db.audit import audit_notes
from prioritizer.db.in_force.settings import holding
from prioritizer.db.processing import deliver, requeue
from prioritizer.db.worklist import rows
from prioritizer.errors import NotAllowed
from prioritizer.web.http.backend import TestedStep
from prioritizer.web.http.context import Context, RequestContext, Text, Viewer, needs
from prioritizer.web.view.alarms import repairs
from prioritizer.web.view.list_view import alarms_for

routes = APIRouter(prefix="/system")
Operator = Annotated[Person, needs(May.OPERATE)]
Watching = Annotated[Person, needs(May.OPERATE, touch=False)]
Title = Annotated[str, Query(min_length=1, max_length=16, pattern=r"^[^\x00]+$")]
Since = Annotated[float, Query(gt=0, lt=2e9)]
"""A moment, seconds of Unix time."""
OURSELVES = "listener"
MAX_WAIT = timedelta(minutes=10)
"""So long a page looks again by itself for what a device sends."""
MAX_SHOWN = 50


class Again(StrEnum):
    """What is tried again for a study."""

    SCORE = "score"
    SCORE_ALL = "score-all"
    SEND = "send"
    SEND_ALL = "send-all"


@routes.get("", response_class=HTMLResponse)
def show(context: Context, person: Viewer) -> HTMLResponse:
    """Everything at a glance; what changes something is for administrators."""
    return page(context, person)


def page(
    context: RequestContext, person: Person, proofs: Sequence[TestedStep] | None = None, tested: str = "", done: str = ""
) -> HTMLResponse:
    """The page, with what a test just showed or what was just done."""
    settings, now = context.backend.settings(), context.now
    faults, alarms, counts = context.backend.operation.faults(), alarms_for(context, person), context.counts()
    day = now.astimezone(context.zone).replace(hour=0, minute=0, second=0, microsecond=0).astimezone(UTC)
    heard = senders.heard(context.engine, {peer.ae_title for peer in settings.peers if peer.ae_title != "*"}, day, now)
    return context.render(
        "system.html",
        person=person,
        verdict=verdict(faults, len(alarms)),
        faults=faults,
        repairs=repairs(alarms),
        counts=counts,
        heard=heard,
        notes={peer.ae_title: peer for peer in settings.peers},
        any_peer=next((peer for peer in settings.peers if peer.ae_title == "*"), None),
        last_refusal=senders.last_refusals(context.engine, {one.calling_ae for one in heard}, now),
        refusals=senders.newest_notices(context.engine, MAX_SHOWN),
        refused_today=senders.refused_since(context.engine, day),
        destinations=settings.destinations,
        deliveries=queues.unfinished_deliveries(context.engine, MAX_SHOWN),
        failed=queues.failed_instances(context.engine, MAX_SHOWN),
        unconfirmed=rows.unconfirmed(context.engine, MAX_SHOWN),
        masked=settings.reading.mask_patients,
        workers=turning(context),
        room=context.backend.operation.spool(),
        card=context.backend.operation.card(),
        settings=settings,
        shown=in_force(settings),
        version=__version__,
        ruled=holding(context.engine, context.backend.policy()).active,
        may_operate=person.may(May.OPERATE),
        proofs=proofs,
        tested=tested,
        done=done,
        ourselves=OURSELVES,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Turning:
    """One worker as the page shows it."""

    name: str
    queue: Queue | None
    """None for a worker that has none of its own."""
    done: str
    """In the last hour."""
    turned: datetime
    failures: int


def turning(context: RequestContext) -> list[Turning]:
    """Every worker with what waits for it. Several that score share one queue."""
    room, waiting, did = context.backend.operation.spool(), queues.queues(context.engine), queues.done(context.engine, context.now)
    found = []
    for worker in context.backend.operation.workers():
        kind, _, which = worker.name.partition("-")
        queue = {"receive": Queue(waiting=room.inbox, oldest=room.oldest), "score": waiting.get(queues.TO_SCORE, NOTHING),
                 "deliver": waiting.get(which, NOTHING)}.get(kind)  # fmt: skip
        found.append(Turning(name=worker.name, queue=queue, done=did.get(kind, ""), turned=worker.last_turn, failures=worker.failures))
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
def walk(context: Context, person: Operator, name: Text, *, send: Annotated[bool, Form()] = False) -> HTMLResponse:
    """Walk one way from the bottom up: C-ECHO, and with `send` a phantom image."""
    known = {OURSELVES, *(destination.name for destination in context.backend.settings().destinations)}
    if name not in known:
        raise NotAllowed(f"there is no way called {name!r} to test")
    audit_notes.way_tested(context.engine, person.name, name, context.now, sent=send)
    return page(context, person, context.backend.operation.examine(name, send), name)


@routes.get("/waiting", response_class=HTMLResponse)
def wait_for_test(context: Context, person: Operator, title: Title, since: Since | None = None) -> Response:
    """Wait for what a device sends: somebody stands at it. The moment from which on is kept in the address."""
    if since is None:
        return RedirectResponse(f"/system/waiting?{urlencode({'title': title, 'since': f'{context.now.timestamp():.3f}'})}", 303)
    return context.render("waiting.html", person=person, **what_came(context, title, since))


@routes.get("/waiting/now", response_class=HTMLResponse)
def look_for_test(context: Context, person: Watching, title: Title, since: Since) -> HTMLResponse:
    """The same, for a page that asks again by itself."""
    return context.part("came.html", **what_came(context, title, since))


def what_came(context: RequestContext, title: str, since: float) -> dict[str, Any]:
    """What a device sent since then. `again`: nothing was stored yet, and it is worth looking again."""
    began = datetime.fromtimestamp(since, UTC)
    found = senders.came(context.engine, title, began)
    again = not found.images and context.now - began < MAX_WAIT
    return {"title": title, "since": since, "began": began, "came": found, "again": again, "settings": context.backend.settings()}


@routes.post("/again/{what}", response_class=HTMLResponse)
def again(context: Context, person: Operator, what: Again, study: Text = "") -> Response:
    """Score a study or one image again, or every image that failed, or send a study's result again, or every refused one."""
    if what is Again.SCORE_ALL:
        found = requeue.requeue_failed(context.engine, person.name, context.backend.policy(), context.now)
        context.forget()
        return page(context, person, done=words_of(found))
    if what is Again.SCORE:
        requeue.requeue(context.engine, study, person.name, context.backend.policy(), context.now)
    elif what is Again.SEND_ALL:
        deliver.requeue_all(context.engine, person.name, context.now)
    else:
        deliver.requeue_deliveries(context.engine, study, person.name, context.now)
    context.forget()
    return RedirectResponse("/system", 303)


@routes.post("/give-up")
def give_up(context: Context, person: Operator, study: Text, reason: Text = "") -> Response:
    """Results that were refused permanently are given up; why is kept."""
    deliver.discard_deliveries(context.engine, study, person.name, reason, context.now)
    context.forget()
    return RedirectResponse("/system", 303)


@routes.post("/discard")
def discard(context: Context, person: Operator, image: Text, reason: Text = "") -> Response:
    """An image that failed is given up; why is kept. Its study stays on the list."""
    requeue.discard_failed(context.engine, image, person.name, reason, context.backend.policy(), context.now)
    context.forget()
    return RedirectResponse("/system#failed", 303)


def words_of(found: requeue.Requeued) -> str:
    """What scoring all again did."""
    images = "No image waits" if not found.again else "1 image waits" if found.again == 1 else f"{found.again} images wait"
    gone = f" Of {found.gone} the pixels were deleted after reading: send those again, or discard them." if found.gone else ""
    return f"{images} for a score again.{gone}"
