"""A report as data, and its two files: one HTML page that needs nothing else, and the same facts as JSON."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from prioritizer import __version__

VERDICT_TONES = {
    "fit to activate": "good",
    "activate with care": "care",
    "do not activate": "bad",
    "shortcuts found": "care",
    "mend the data": "bad",
}
"""The three verdicts that a report on a model may give, and two on data; any other word is shown without a tone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportVerdict:
    """The one sentence a reader takes away, and the rule that decided it, stated before the figures were known."""

    word: str
    sentence: str
    rule: str

    @property
    def tone(self) -> str:
        """How the page marks it; the word itself always stands beside the colour."""
        return VERDICT_TONES.get(self.word, "plain")


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows of text or numbers under a header. `greyed` names rows too small to be read as evidence."""

    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[object, ...], ...]
    greyed: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """An inline SVG with what it shows in words, for those who do not see it."""

    caption: str
    svg: str
    alt: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Thumbnail:
    """A small PNG with its caption."""

    caption: str
    png: bytes

    @property
    def source(self) -> str:
        """The picture as a data URI."""
        return "data:image/png;base64," + base64.b64encode(self.png).decode("ascii")


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One question the report answers. `answers` names the items of the reporting guidelines it serves."""

    title: str
    answers: str = ""
    text: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    plots: tuple[Plot, ...] = ()
    thumbnails: tuple[Thumbnail, ...] = ()
    thumbnails_hold_images: bool = False
    """The thumbnails are radiographs of patients: the page says that it must not leave the site."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A whole report. `facts` is what the JSON file holds, every figure by name."""

    title: str
    made_at: datetime
    verdict: ReportVerdict | None
    sections: tuple[Section, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def holds_images(self) -> bool:
        """True when the page shows radiographs."""
        return any(section.thumbnails_hold_images and section.thumbnails for section in self.sections)


def formatted(value: object) -> str:
    """A cell as people read it: three decimals, a dash for what could not be computed."""
    if value is None or (isinstance(value, float) and value != value):  # noqa: PLR0124 - NaN is the one value unlike itself
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


_pages = jinja2.Environment(
    loader=jinja2.PackageLoader("prioritizer.reports"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_pages.filters |= {"shown": formatted, "drawing": Markup}


def html(report: Report) -> str:
    """The page."""
    return _pages.get_template("report.html").render(report=report, version=__version__)


def write(report: Report, target: Path) -> Path:
    """Write `target` (.html) and the facts beside it (.json); returns the path of the page."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(html(report), encoding="utf-8")
    head = {"title": report.title, "made_at": report.made_at.isoformat(), "prioritizer": __version__}
    verdict = {"verdict": asdict(report.verdict)} if report.verdict else {}
    facts = json.dumps({**head, **verdict, **report.facts}, indent=1, default=str)
    target.with_suffix(".json").write_text(facts + "\n", encoding="utf-8")
    return target
