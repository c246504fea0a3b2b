"""What every route works with: the daemon, the access policy, the templates; and how a route asks for a right."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from threading import BoundedSemaphore
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from fastapi import Depends, Form, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.params import Depends as Dependency
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, select_autoescape

from prioritizer import __version__
from prioritizer.access import May, Person
from prioritizer.db.list_order.order import Wanted
from prioritizer.db.schema.events import THROUGH
from prioritizer.db.worklist import preferences
from prioritizer.db.worklist import rows as worklist_rows
from prioritizer.db.worklist.counts import WorklistCounts
from prioritizer.ranking.deadlines import Stage
from prioritizer.web.http.auth import AccessPolicy, SignInLimits
from prioritizer.web.http.backend import Backend
from prioritizer.web.live.change_feed import ChangeFeed
from prioritizer.web.live.counts import DAYS, CachedCounts
from prioritizer.web.live.prefetch import Prefetch
from prioritizer.web.view import wording

FOLDER = Path(__file__).parents[1]


def assets_of(folder: Path) -> str:
    """A short digest of every file that pages fetch: it stands in their addresses, so that a browser may keep them permanently."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


ASSETS = assets_of(FOLDER / "static")
COUNTED_FOR = timedelta(seconds=10)
MAX_KEPT = 1000
MAX_TRIED = 3
"""Files that are looked at or wait for it; more would hold the threads that answer the list."""
Text = Annotated[str, Form(max_length=4096, pattern=r"^[^\x00]*$")]


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestContext:
    """What a route works with."""

    backend: Backend
    access: AccessPolicy
    templates: Environment
    change_feed: ChangeFeed
    cached_counts: CachedCounts
    zone: ZoneInfo | None
    """Of the times on pages; None: the machine's."""
    prefetch: Prefetch = field(default_factory=Prefetch)
    limits: SignInLimits = field(default_factory=SignInLimits)
    counts_of_views: dict[tuple[str, str], tuple[datetime, int]] = field(default_factory=dict)
    """Of saved lists, by person and query: when it was counted, and how many."""
    tried_at_once: BoundedSemaphore = field(default_factory=lambda: BoundedSemaphore(MAX_TRIED))

    @property
    def engine(self) -> sa.Engine:
        """The ledger's."""
        return self.backend.engine

    @property
    def now(self) -> datetime:
        """This moment."""
        return self.backend.now()

    @property
    def shows_ai(self) -> bool:
        """Whether studies that are moved up may be shown as such."""
        return self.backend.settings().site.stage is not Stage.SHADOW

    @property
    def heat_map_scale(self) -> float:
        """Contribution to the logit that heat maps draw strongest."""
        images = self.backend.images()
        return images.scale if images is not None else 1.0

    def counts(self) -> WorklistCounts:
        """The counts above the list: fifty pages ask for the same ones."""
        return self.cached_counts.now().counts

    def shows_ai_to(self, person: Person) -> bool:
        """True for who may see what AI does: in stage shadow only those who measure it."""
        return self.shows_ai or person.may(May.CALIBRATE)

    def counted(self, person: str, query: str, wanted: Wanted) -> int:
        """How many studies a saved list holds: counted now and then, not by every page that names it."""
        kept = self.counts_of_views.get((person, query))
        if kept is None or not timedelta(0) <= self.now - kept[0] < COUNTED_FOR:
            if len(self.counts_of_views) >= MAX_KEPT:
                self.counts_of_views.clear()
            kept = self.counts_of_views[person, query] = (self.now, worklist_rows.count(self.engine, wanted, self.now))
        return kept[1]

    def frequency(self) -> str:
        """What raising does now, and how often it was right here, in words."""
        if not self.shows_ai:
            return ""
        tally = self.cached_counts.now()
        meaning = wording.meaning_words(self.backend.settings().site.stage, suspended=tally.suspended)
        return wording.frequency_words(*tally.confirmed, DAYS, meaning)

    def forget(self) -> None:
        """Something was changed here: the next page counts again."""
        self.cached_counts.forget()
        self.backend.decisions.settings_changed()

    def part(self, name: str, /, **values: Any) -> HTMLResponse:
        """A piece of a page."""
        return HTMLResponse(self.templates.get_template(name).render({"now": self.now} | values))

    def render(self, name: str, /, status: int = 200, **values: Any) -> HTMLResponse:
        """A template with the frame around it."""
        off, since = self.backend.operation.ai_off()
        site = self.backend.settings().site
        frame = {
            "site": site,
            "version": __version__,
            "assets": ASSETS,
            "ai_off": off,
            "ai_off_since": since,
            "listening": self.backend.operation.listening(),
            "shadow": site.stage is Stage.SHADOW,
            "now": self.now,
            "person": None,
            "theme": "",
        }
        if person := values.get("person"):
            frame["theme"] = preferences.of(self.engine, person.name).get("theme", "")
        return HTMLResponse(self.templates.get_template(name).render(frame | values), status)


def request_context(backend: Backend) -> RequestContext:
    """What the routes of an application work with."""
    templates = Environment(loader=FileSystemLoader(FOLDER / "templates"), autoescape=select_autoescape(default=True))
    zone = backend.settings().page_zone
    templates.filters["clock"] = lambda at: at.astimezone(zone).strftime("%H:%M")
    templates.filters["span"] = wording.span
    templates.filters["beside"] = wording.beside
    templates.filters["moment"] = lambda at: at.astimezone(zone).strftime("%Y-%m-%d %H:%M:%S")
    tallies = CachedCounts(
        backend.engine, backend.now, backend.policy, lambda: timedelta(minutes=backend.settings().ranking.neutral_minutes)
    )
    return RequestContext(
        backend=backend,
        access=AccessPolicy(engine=backend.engine, settings=backend.configured, now=backend.now),
        templates=templates,
        change_feed=ChangeFeed(backend.engine, backend.now, looked=lambda changed: tallies.renew(changed=changed)),
        cached_counts=tallies,
        zone=zone,
    )


def context_of(request: Request) -> RequestContext:
    """That of the application that answers."""
    found: RequestContext = request.app.state.context
    return found


def needs(right: May, *, touch: bool = True) -> Dependency:
    """What a route is given: the person who asks. Without the right the route is never reached. `touch`: they are there."""

    async def admitted(request: Request) -> Person:
        person = await run_in_threadpool(context_of(request).access.admit, request, right, touch=touch)
        THROUGH.set(person.by if person.token else "")
        return person

    dependency: Dependency = Depends(admitted)
    return dependency


Context = Annotated[RequestContext, Depends(context_of)]
Viewer = Annotated[Person, needs(May.SEE)]
BackgroundViewer = Annotated[Person, needs(May.SEE, touch=False)]
"""For what an open page asks by itself: nobody needs to be before it."""
Admin = Annotated[Person, needs(May.PEOPLE)]
