"""Try a file: what AI makes of it, shown once. Nothing of it is kept, nothing is ranked."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Sequence
from typing import Annotated

from fastapi import APIRouter, File, Form, Request, UploadFile
from fastapi.responses import HTMLResponse

from prioritizer.access import May, Person
from prioritizer.db.worklist import feedback
from prioritizer.errors import NotAllowed, Transient, Unprocessable
from prioritizer.file_result import Point, Tried
from prioritizer.web.http.context import Context, RequestContext, needs

routes = APIRouter()
MayTry = Annotated[Person, needs(May.TRY)]
OFFERED = (0.99, 0.98, 0.95, 0.90, 0.85, 0.80)
"""Sensitivities whose thresholds the table shows without a script."""
MAX_NAME = 80


def most_bytes(context: RequestContext) -> int:
    """What an upload may have."""
    return context.backend.settings().web.upload_mib << 20


def data_address(png: bytes) -> str:
    """A picture within the page: the next request would find nothing."""
    return "data:image/png;base64," + b64encode(png).decode("ascii")


def offered(points: Sequence[Point], t_high: float) -> list[tuple[str, Point]]:
    """A few thresholds for the table: the one in force, and the highest that keeps each of some sensitivities."""
    if not points:
        return []
    found = [("in force here", min(points, key=lambda point: abs(point.threshold - t_high)))]
    for wanted in OFFERED:
        kept = [point for point in points if point.sensitivity >= wanted]
        if kept:
            found.append((f"sensitivity {wanted:g}", max(kept, key=lambda point: (point.threshold, point.specificity))))
    return found


def gate(context: RequestContext, request: Request) -> Callable[[], None]:
    """Who sends a file may try one, and one more can be taken now; returns what gives the place back. Raises what stands in the way."""
    context.access.admit(request, May.TRY)
    if not context.tried_at_once.acquire(blocking=False):
        raise Transient("several files are being tried; try this one again in a moment")
    return context.tried_at_once.release


def try_one(context: RequestContext, person: Person, data: bytes, *, outside: bool) -> Tried:
    """Look at a file that `gate` let in. That somebody tried one is kept, the file and what came of it are not."""
    trying = context.backend.trial()
    if trying is None:
        raise Transient("AI is off, so no file can be tried")
    if not data:
        raise NotAllowed("the file is empty")
    feedback.tried(context.engine, person.name, context.now, outside=outside)
    return trying(data, ignore_scope=outside)


@routes.get("/try", response_class=HTMLResponse)
def ask(context: Context, person: MayTry) -> HTMLResponse:
    """The form."""
    return context.render("try.html", person=person, most=context.backend.settings().web.upload_mib)


@routes.post("/try", response_class=HTMLResponse)
def answer(
    context: Context, person: MayTry, file: Annotated[UploadFile, File()], *, outside: Annotated[bool, Form()] = False
) -> HTMLResponse:
    """The result, and what other thresholds would give."""
    most, name = context.backend.settings().web.upload_mib, (file.filename or "file")[-MAX_NAME:]
    try:
        tried = try_one(context, person, file.file.read(), outside=outside)
    except (Unprocessable, NotAllowed) as error:
        return context.render("try.html", 422, person=person, most=most, name=name, fault=str(error))
    pictures = context.backend.images()
    heat = pictures.heat(tried.saliency, tried.film.rows, tried.film.columns) if pictures and tried.saliency else b""
    return context.render(
        "try.html",
        person=person,
        most=most,
        name=name,
        outside=outside,
        tried=tried,
        film=data_address(tried.film.png),
        display=data_address(tried.display),
        heat=data_address(heat) if heat else "",
        scale=context.heat_map_scale,
        points=json.dumps([[p.threshold, p.sensitivity, p.specificity] for p in tried.points]),
        offered=offered(tried.points, tried.t_high),
    )
