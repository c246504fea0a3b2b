"""What the pages ask of the daemon, answered by a test."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import sqlalchemy as sa

from prioritizer import ruling, watching
from prioritizer.config import Settings
from prioritizer.db.receiving import Quiet
from prioritizer.ranking import Policy
from prioritizer.web.desk import Page

THEN = datetime(2026, 11, 22, 14, 0, tzinfo=UTC)


def told_now(engine: sa.Engine, period: str) -> tuple[datetime, dict[str, Any]]:
    """The board as the ledger stands."""
    return watching.told(engine, Settings(), "", period, THEN)


def page_of(engine: sa.Engine, **other: Any) -> Page:
    """A daemon that is well, has no bundle and stands still at `THEN`; `other` says what is different."""
    usual: dict[str, Any] = {
        "engine": engine,
        "settings": Settings,
        "rules_changed": lambda: None,
        "propose_threshold": lambda wish, by, activation: "threshold-1",
        "simulated": lambda wanted, *, anew: {"changes": ruling.changed(Policy(), wanted), "said": ["simulated by a test"]},
        "metrics": lambda: b"prioritizer_ai_on 1.0\n",
        "ai_off": lambda: ("", THEN),
        "listening": lambda: True,
        "ready": list,
        "now": lambda: THEN,
        "policy": Policy,
        "pictures": lambda: None,
        "board": partial(told_now, engine),
        "quiet": lambda: Quiet(quiet=timedelta(0), ceiling=timedelta(1)),
        "stations": lambda: [("receive", THEN, 0)],
        "card": dict,
        "examine": lambda name, send: [],
        "trying": lambda: None,
        "scale": lambda: 1.0,
    }
    usual["configured"] = other.get("settings", Settings)
    return Page(**(usual | other))
