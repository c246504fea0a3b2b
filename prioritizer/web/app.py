"""The read-only page of the worklist, the figures and the health answers. Everything it shows comes from `db`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from fastapi.staticfiles import StaticFiles
from jinja2 import Environment, FileSystemLoader, select_autoescape

from prioritizer import __version__
from prioritizer.config import Settings
from prioritizer.db import reading, worklist
from prioritizer.db.worklist import Order, Row, View
from prioritizer.errors import NotFound, Transient
from prioritizer.ranking import Stage
from prioritizer.web import words

HERE = Path(__file__).parent
PAGE_ROWS = 100
NOT_SIGNED_IN = "page, not signed in"
"""Who opened a study, until the page has a sign-in: the event is recorded from the first release all the same."""
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What the page asks of the daemon."""

    engine: sa.Engine
    settings: Callable[[], Settings]
    metrics: Callable[[], bytes]
    ai_off: Callable[[], tuple[str, datetime]]
    listening: Callable[[], bool]
    ready: Callable[[], list[str]]
    now: Callable[[], datetime]

    @property
    def marks(self) -> bool:
        """Whether raised studies may be shown as such."""
        return self.settings().site.stage is not Stage.SHADOW


def page_app(page: Page) -> FastAPI:
    """The application; it binds to no address itself."""
    app = FastAPI(title="prioritizer", version=__version__, docs_url=None, redoc_url=None)
    app.mount("/static", StaticFiles(directory=HERE / "static"), name="static")
    render = _renderer(page)
    _harden(app)
    _explain_errors(app, render)
    _add_pages(app, page, render)
    _add_machine_answers(app, page)
    return app


def _renderer(page: Page) -> Callable[..., HTMLResponse]:
    """A function from template name and values to a page with the frame around it."""
    templates = Environment(loader=FileSystemLoader(HERE / "templates"), autoescape=select_autoescape(default=True))
    zone = ZoneInfo(page.settings().web.time_zone) if page.settings().web.time_zone else None
    templates.filters["clock"] = lambda at: at.astimezone(zone).strftime("%H:%M")
    templates.filters["moment"] = lambda at: at.astimezone(zone).strftime("%Y-%m-%d %H:%M:%S")

    def render(name: str, **values: Any) -> HTMLResponse:
        off, since = page.ai_off()
        frame = {
            "site": page.settings().site,
            "version": __version__,
            "ai_off": off,
            "ai_off_since": since,
            "listening": page.listening(),
            "shadow": page.settings().site.stage is Stage.SHADOW,
            "now": page.now(),
        }
        return HTMLResponse(templates.get_template(name).render(**frame, **values))

    return render


def _harden(app: FastAPI) -> None:
    @app.middleware("http")
    async def harden(request: Request, call_next: Any) -> Response:
        """Every answer carries the security headers."""
        response: Response = await call_next(request)
        response.headers.update(HEADERS)
        return response


def _explain_errors(app: FastAPI, render: Callable[..., HTMLResponse]) -> None:
    @app.exception_handler(NotFound)
    def not_found(request: Request, error: NotFound) -> Response:
        """A page that says what is missing."""
        answer = render("message.html", title="Not found", said=str(error))
        answer.status_code = 404
        return answer

    @app.exception_handler(Transient)
    def unavailable(request: Request, error: Transient) -> Response:
        """A page that says what does not answer, and that intake goes on."""
        said = f"{error}. Studies are still received and will be listed when it answers. Reload this page."
        answer = render("message.html", title="The list is not available", said=said)
        answer.status_code = 503
        return answer


def _add_pages(app: FastAPI, page: Page, render: Callable[..., HTMLResponse]) -> None:
    @app.get("/", response_class=HTMLResponse)
    def show_list(order: Order = Order.DEADLINE, view: View = View.OPEN, after: str = "") -> HTMLResponse:
        """The worklist. The URL carries order, view and page, so reload and a pasted link show the same."""
        last = worklist.study(page.engine, after) if after else None
        rows = worklist.rows(page.engine, order=order, view=view, limit=PAGE_ROWS + 1, after=last)
        shown = rows[:PAGE_ROWS]
        return render(
            "worklist.html",
            lines=[words.line(row, page.now(), marks=page.marks) for row in shown],
            order=order,
            view=view,
            counts=worklist.counts(page.engine),
            alarms=worklist.standing_alarms(page.engine),
            next_after=shown[-1].study_uid if len(rows) > PAGE_ROWS else "",
            first_page=not after,
        )

    @app.get("/study/{study_uid}", response_class=HTMLResponse)
    def show_study(study_uid: str) -> HTMLResponse:
        """Why the study stands where it does: its place, its instances, its deliveries, everything that happened."""
        reading.opened(page.engine, study_uid, NOT_SIGNED_IN, page.now())
        row = worklist.study(page.engine, study_uid)
        return render(
            "study.html",
            line=words.line(row, page.now(), marks=page.marks),
            row=row,
            events=worklist.why(page.engine, study_uid),
            instances=worklist.study_instances(page.engine, study_uid),
            deliveries=worklist.unfinished_deliveries(page.engine, study_uid),
        )


def _add_machine_answers(app: FastAPI, page: Page) -> None:
    @app.get("/api/worklist")
    def api_worklist(order: Order = Order.DEADLINE, view: View = View.OPEN, limit: int = 200) -> list[dict[str, Any]]:
        """The list as JSON, moments in ISO 8601 UTC."""
        return [as_json(row) for row in worklist.rows(page.engine, order=order, view=view, limit=max(1, min(limit, 1000)))]

    @app.get("/metrics")
    def metrics() -> Response:
        """Prometheus text format."""
        return PlainTextResponse(page.metrics(), media_type="text/plain; version=0.0.4")

    @app.get("/healthz")
    def alive() -> Response:
        """The process answers."""
        return JSONResponse({"alive": True, "version": __version__})

    @app.get("/readyz")
    def ready() -> Response:
        """200 when everything works, else 503 with each reason."""
        faults = page.ready()
        return JSONResponse({"ready": not faults, "faults": faults}, status_code=503 if faults else 200)


def as_json(row: Row) -> dict[str, Any]:
    """A row for machines: the column names of `Row`, moments in ISO 8601."""
    return {key: value.isoformat() if isinstance(value, datetime) else value for key, value in asdict(row).items()}
