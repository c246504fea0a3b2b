"""Answers for those who watch the daemon: the figures of Prometheus, health."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import JSONResponse, PlainTextResponse, Response

from prioritizer import __version__
from prioritizer.web.http.context import Context

routes = APIRouter()


@routes.get("/metrics")
def metrics(context: Context) -> Response:
    """Prometheus text format. It holds no patient data and needs no sign-in."""
    return PlainTextResponse(context.backend.operation.metrics(), media_type="text/plain; version=0.0.4")


@routes.get("/healthz")
def alive() -> Response:
    """The process answers."""
    return JSONResponse({"alive": True, "version": __version__})


@routes.get("/readyz")
def ready(context: Context) -> Response:
    """200 when everything works, else 503 with each reason."""
    faults = context.backend.operation.faults()
    return JSONResponse({"ready": not faults, "faults": faults}, status_code=503 if faults else 200)
