"""The DICOM conformance statement as a page: what `prioritizer conformance` writes, of the version that runs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import groupby

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from prioritizer.web.http.context import Context, Viewer

routes = APIRouter()


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A heading, a paragraph or a table of the statement."""

    level: int = 0
    """Of a heading, from 1; 0 for what is none."""
    text: str = ""
    """What stands between backticks is code, here and in rows."""
    rows: tuple[tuple[str, ...], ...] = ()
    """Of a table, its head first."""


@cache
def blocks(statement: str) -> list[Block]:
    """The statement, cut at its empty lines."""
    lines = [line.strip() for line in statement.splitlines()]
    return [_block(list(group)) for filled, group in groupby(lines, bool) if filled]


def _block(lines: list[str]) -> Block:
    if lines[0].startswith("#"):
        marks, _, text = lines[0].partition(" ")
        return Block(level=len(marks), text=text)
    if lines[0].startswith("|"):
        # The second line only says that the first is the head.
        return Block(rows=tuple(tuple(_plain(cell) for cell in line[1:-1].split("|")) for line in [lines[0], *lines[2:]]))
    return Block(text=_plain(" ".join(lines)))


def _plain(text: str) -> str:
    return text.replace("\\*", "*").strip()


@routes.get("/conformance", response_class=HTMLResponse)
def show(context: Context, person: Viewer) -> HTMLResponse:
    """What this installation speaks, for whoever connects a device to it."""
    return context.render("conformance.html", person=person, blocks=blocks(context.backend.operation.conformance()))
