"""Answers for programs: the list as JSON, the figures, health."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse, PlainTextResponse, Response

from prioritizer import __version__
from prioritizer.db import worklist
from prioritizer.db.ordering import Order, View
from prioritizer.db.worklist import Row
from prioritizer.web.desk import Here, Seeing

routes = APIRouter()


@routes.get("/api/worklist")
def api_worklist(
    desk: Here, person: Seeing, order: Order = Order.DEADLINE, view: View = View.OPEN, limit: int = 200
) -> list[dict[str, Any]]:
    """The list as JSON, moments in ISO 8601 UTC."""
    return [as_json(row) for row in worklist.rows(desk.engine, order=order, view=view, limit=max(1, min(limit, 1000)))]


@routes.get("/metrics")
def metrics(desk: Here) -> Response:
    """Prometheus text format. It holds no patient data and needs no sign-in."""
    return PlainTextResponse(desk.page.metrics(), media_type="text/plain; version=0.0.4")


@routes.get("/healthz")
def alive() -> Response:
    """The process answers."""
    return JSONResponse({"alive": True, "version": __version__})


@routes.get("/readyz")
def ready(desk: Here) -> Response:
    """200 when everything works, else 503 with each reason."""
    faults = desk.page.ready()
    return JSONResponse({"ready": not faults, "faults": faults}, status_code=503 if faults else 200)


def as_json(row: Row) -> dict[str, Any]:
    """A row for machines: the column names of `Row`, moments in ISO 8601."""
    return {key: value.isoformat() if isinstance(value, datetime) else value for key, value in asdict(row).items()}
