"""What the pages ask of the daemon, answered by a test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import sqlalchemy as sa
from fastapi.testclient import TestClient

from prioritizer.access import Role
from prioritizer.config import settings_override
from prioritizer.config.quiet import Quiet
from prioritizer.config.sections import Reading, Site
from prioritizer.config.settings import Settings
from prioritizer.daemon import dashboard_period
from prioritizer.db.accounts import people, sessions
from prioritizer.dicom import conformance
from prioritizer.ranking.deadlines import Policy, Stage
from prioritizer.web.app import page_app
from prioritizer.web.http.auth import COOKIE
from prioritizer.web.http.context import Page, SpoolRoom
from tests.support.ledgers import NOW, POLICY

LATER = NOW + timedelta(minutes=40)
"""A raised study is overdue by then, one in order of arrival is not."""
THEN = datetime(2026, 11, 22, 14, 0, tzinfo=UTC)


def told_now(engine: sa.Engine, period: str) -> tuple[datetime, dict[str, Any]]:
    """The board as the ledger stands."""
    return dashboard_period.told(engine, Settings(), "", period, THEN)


def page_of(engine: sa.Engine, **other: Any) -> Page:
    """A daemon that is well, has no bundle and stands still at `THEN`; `other` says what is different."""
    usual: dict[str, Any] = {
        "engine": engine,
        "settings": Settings,
        "rules_changed": lambda: None,
        "propose_threshold": lambda wish, by, activation: "threshold-1",
        "simulated": lambda wanted, *, anew: {"changes": settings_override.changed(Policy(), wanted), "said": ["simulated by a test"]},
        "metrics": lambda: b"prioritizer_ai_on 1.0\n",
        "ai_off": lambda: ("", THEN),
        "listening": lambda: True,
        "ready": list,
        "now": lambda: THEN,
        "policy": Policy,
        "pictures": lambda: None,
        "board": partial(told_now, engine),
        "settle_identity": lambda study, take, who, shown: "settled",
        "quiet": lambda: Quiet(quiet=timedelta(0), ceiling=timedelta(1)),
        "stations": lambda: [("receive", THEN, 0), ("score-0", THEN, 0), ("deliver-pacs", THEN, 2)],
        "room": lambda: SpoolRoom(free_bytes=50 << 30, free_share=0.5, inbox=3, oldest=THEN - timedelta(seconds=40)),
        "card": dict,
        "conformance": conformance.statement,
        "examine": lambda name, send: [],
        "trying": lambda: None,
        "scale": lambda: 1.0,
    }
    usual["configured"] = other.get("settings", Settings)
    return Page(**(usual | other))


@contextmanager
def at(ledger: sa.Engine, name: str, role: Role = Role.READER, stage: Stage = Stage.ACTIVE, **other: Any) -> Iterator[TestClient]:
    """A browser signed in as this person, `LATER`."""
    people.add(ledger, name, role, "tests", NOW)
    settings = Settings(site=Site(name="test site", stage=stage), reading=other.pop("reading", Reading()))
    usual = {"settings": lambda: settings, "now": lambda: LATER, "policy": lambda: replace(POLICY, stage=stage)}
    app = page_app(page_of(ledger, **(usual | other)))
    client = TestClient(app, base_url="http://127.0.0.1", follow_redirects=True, raise_server_exceptions=False)
    client.cookies.set(COOKIE, sessions.begin(ledger, name, "127.0.0.1", LATER))
    yield client
