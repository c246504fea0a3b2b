"""What every page has at hand: the daemon's answers, the doorkeeper, the templates; and how a route asks for a right."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from threading import BoundedSemaphore
from typing import Annotated, Any, Protocol
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from fastapi import Depends, Form, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.params import Depends as Dependency
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, select_autoescape

from prioritizer import __version__
from prioritizer.access import May, Person
from prioritizer.calibration.threshold import ThresholdWish
from prioritizer.config.quiet import Quiet
from prioritizer.config.settings import Settings
from prioritizer.db.order.order import Wanted
from prioritizer.db.schema.events import THROUGH
from prioritizer.db.worklist import preferences
from prioritizer.db.worklist import rows as worklist_rows
from prioritizer.db.worklist.counts import Counts
from prioritizer.file_result import Tried
from prioritizer.imaging.display import Shown
from prioritizer.ranking.deadlines import Policy, Stage
from prioritizer.web.http.auth import Doorkeeper, SignInLimits
from prioritizer.web.live.change_feed import Pulse
from prioritizer.web.live.counts import DAYS, Tallies
from prioritizer.web.live.prefetch import Ahead
from prioritizer.web.view import wording

FOLDER = Path(__file__).parents[1]


def assets_of(folder: Path) -> str:
    """A short digest of every file that pages fetch: it stands in their addresses, so that a browser may keep them for good."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


ASSETS = assets_of(FOLDER / "static")
COUNTED_FOR = timedelta(seconds=10)
MOST_KEPT = 1000
MOST_TRIED = 3
"""Files that are looked at or wait for it; more would hold the threads that answer the list."""
Text = Annotated[str, Form(max_length=4096, pattern=r"^[^\x00]*$")]


class Pictures(Protocol):
    """Where films and heat maps come from; the daemon has them."""

    def film(self, sop_instance_uid: str) -> Shown:
        """A film with all its tones."""

    def display(self, sop_instance_uid: str) -> bytes:
        """The same in the header's window, PNG."""

    def heat(self, saliency: bytes, rows: int, columns: int) -> bytes:
        """A heat map as a layer, PNG."""


class Proved(Protocol):
    """One thing that a test showed."""

    @property
    def what(self) -> str:
        """What was tested."""

    @property
    def ok(self) -> bool:
        """It works."""

    @property
    def said(self) -> str:
        """What was seen."""

    @property
    def mend(self) -> str:
        """What to do where it does not."""


class Trying(Protocol):
    """Where a file is tried that is no study."""

    def __call__(self, data: bytes, *, ignore_scope: bool) -> Tried:
        """What AI makes of it."""


class Simulating(Protocol):
    """Where a ruling is tried before it is saved."""

    def __call__(self, changes: Mapping[str, Any], *, anew: bool) -> dict[str, Any]:
        """What it would do; anew, or as it was shown of the same values. Raises RulingUnfit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpoolRoom:
    """The spool's disk, and what lies in the inbox before the ledger knows it."""

    free_bytes: int
    free_share: float
    """Of the file system, 0..1."""
    inbox: int
    oldest: datetime | None
    """Since when the oldest file of the inbox lies there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What the page asks of the daemon."""

    engine: sa.Engine
    settings: Callable[[], Settings]
    """What is in force: the configuration with the active ruling over it."""
    configured: Callable[[], Settings]
    """The configuration alone."""
    rules_changed: Callable[[], None]
    """Something was ruled on this page: `settings` is read anew."""
    simulated: Simulating
    propose_threshold: Callable[[ThresholdWish, str, int], str]
    """Enter another threshold as a candidate, by whom and over which activation; its id. Raises NotAllowed, ModelError."""
    metrics: Callable[[], bytes]
    ai_off: Callable[[], tuple[str, datetime]]
    listening: Callable[[], bool]
    ready: Callable[[], list[str]]
    now: Callable[[], datetime]
    policy: Callable[[], Policy]
    pictures: Callable[[], Pictures | None]
    """None while there is no bundle."""
    trying: Callable[[], Trying | None]
    """None while AI is off."""
    board: Callable[[str], tuple[datetime, dict[str, Any]]]
    """The board of a period, and when it was computed."""
    settle_identity: Callable[[str, bool, str, str], str]
    """Settle whose study it is: study, whether what came since is taken, who. Raises NotAllowed, NotFound."""
    quiet: Callable[[], Quiet]
    stations: Callable[[], list[tuple[str, datetime, int]]]
    """Name, last turn and failures in a row of each."""
    room: Callable[[], SpoolRoom]
    card: Callable[[], dict[str, Any]]
    """What the bundle says of itself; empty without one."""
    conformance: Callable[[], str]
    """The DICOM conformance statement, Markdown."""
    examine: Callable[[str, bool], list[Proved]]
    """Walk the way to a destination, or to our own listener."""
    scale: Callable[[], float]
    """Contribution to the logit that heat maps draw strongest."""

    @property
    def marks(self) -> bool:
        """Whether raised studies may be shown as such."""
        return self.settings().site.stage is not Stage.SHADOW


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """What a route works with."""

    page: Page
    door: Doorkeeper
    templates: Environment
    pulse: Pulse
    tallies: Tallies
    zone: ZoneInfo | None
    """Of the times on pages; None: the machine's."""
    ahead: Ahead = field(default_factory=Ahead)
    limits: SignInLimits = field(default_factory=SignInLimits)
    counts_of_views: dict[tuple[str, str], tuple[datetime, int]] = field(default_factory=dict)
    """Of saved lists, by person and query: when it was counted, and how many."""
    tried_at_once: BoundedSemaphore = field(default_factory=lambda: BoundedSemaphore(MOST_TRIED))

    @property
    def engine(self) -> sa.Engine:
        """The ledger's."""
        return self.page.engine

    @property
    def now(self) -> datetime:
        """This moment."""
        return self.page.now()

    def counts(self) -> Counts:
        """The counts above the list: fifty pages ask for the same ones."""
        return self.tallies.now().counts

    def shows_ai_to(self, person: Person) -> bool:
        """True for who may see what AI does: in stage shadow only those who measure it."""
        return self.page.marks or person.may(May.CALIBRATE)

    def counted(self, person: str, query: str, wanted: Wanted) -> int:
        """How many studies a saved list holds: counted now and then, not by every page that names it."""
        kept = self.counts_of_views.get((person, query))
        if kept is None or not timedelta(0) <= self.now - kept[0] < COUNTED_FOR:
            if len(self.counts_of_views) >= MOST_KEPT:
                self.counts_of_views.clear()
            kept = self.counts_of_views[person, query] = (self.now, worklist_rows.count(self.engine, wanted, self.now))
        return kept[1]

    def frequency(self) -> str:
        """What raising does now, and how often it was right here, in words."""
        if not self.page.marks:
            return ""
        tally = self.tallies.now()
        meaning = wording.meaning_words(self.page.settings().site.stage, suspended=tally.suspended)
        return wording.frequency_words(*tally.confirmed, DAYS, meaning)

    def forget(self) -> None:
        """Something was changed here: the next page counts anew."""
        self.tallies.forget()
        self.page.rules_changed()

    def part(self, name: str, /, **values: Any) -> HTMLResponse:
        """A piece of a page."""
        return HTMLResponse(self.templates.get_template(name).render({"now": self.now} | values))

    def render(self, name: str, /, status: int = 200, **values: Any) -> HTMLResponse:
        """A template with the frame around it."""
        off, since = self.page.ai_off()
        site = self.page.settings().site
        frame = {
            "site": site,
            "version": __version__,
            "assets": ASSETS,
            "ai_off": off,
            "ai_off_since": since,
            "listening": self.page.listening(),
            "shadow": site.stage is Stage.SHADOW,
            "now": self.now,
            "person": None,
            "theme": "",
        }
        if person := values.get("person"):
            frame["theme"] = preferences.of(self.engine, person.name).get("theme", "")
        return HTMLResponse(self.templates.get_template(name).render(frame | values), status)


def desk_of(page: Page) -> Desk:
    """The desk of an application."""
    templates = Environment(loader=FileSystemLoader(FOLDER / "templates"), autoescape=select_autoescape(default=True))
    zone = page.settings().page_zone
    templates.filters["clock"] = lambda at: at.astimezone(zone).strftime("%H:%M")
    templates.filters["span"] = wording.span
    templates.filters["beside"] = wording.beside
    templates.filters["moment"] = lambda at: at.astimezone(zone).strftime("%Y-%m-%d %H:%M:%S")
    tallies = Tallies(page.engine, page.now, page.policy, lambda: timedelta(minutes=page.settings().ranking.neutral_minutes))
    return Desk(
        page=page,
        door=Doorkeeper(engine=page.engine, settings=page.configured, now=page.now),
        templates=templates,
        pulse=Pulse(page.engine, page.now, looked=lambda changed: tallies.renew(changed=changed)),
        tallies=tallies,
        zone=zone,
    )


def at_desk(request: Request) -> Desk:
    """The desk of the application that answers."""
    found: Desk = request.app.state.desk
    return found


def needs(right: May, *, touch: bool = True) -> Dependency:
    """What a route is given: the person who asks. Without the right the route is never reached. `touch`: they are there."""

    async def admitted(request: Request) -> Person:
        person = await run_in_threadpool(at_desk(request).door.admit, request, right, touch=touch)
        THROUGH.set(person.by if person.token else "")
        return person

    dependency: Dependency = Depends(admitted)
    return dependency


Here = Annotated[Desk, Depends(at_desk)]
Seeing = Annotated[Person, needs(May.SEE)]
Listening = Annotated[Person, needs(May.SEE, touch=False)]
"""For what an open page asks by itself: nobody needs to be before it."""
Admin = Annotated[Person, needs(May.PEOPLE)]
