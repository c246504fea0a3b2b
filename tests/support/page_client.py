"""What the pages ask of the daemon, answered by a test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import sqlalchemy as sa
from fastapi.testclient import TestClient

from prioritizer.access import Role
from prioritizer.config import settings_override
from prioritizer.config.policy import QuietTime, SitePolicy
from prioritizer.config.sections import Reading, Site
from prioritizer.config.settings import Settings
from prioritizer.daemon import dashboard_period
from prioritizer.db.accounts import people, sessions
from prioritizer.dicom import conformance
from prioritizer.ranking.deadlines import Stage
from prioritizer.web.app import page_app
from prioritizer.web.http.auth import COOKIE
from prioritizer.web.http.backend import Backend, SpoolState, WorkerState
from tests.support.ledgers import NOW, POLICY, policy_with, site_policy

LATER = NOW + timedelta(minutes=40)
"""A raised study is overdue by then, one in order of arrival is not."""
THEN = datetime(2026, 11, 22, 14, 0, tzinfo=UTC)
WORKERS = (("receive", 0), ("score-0", 0), ("deliver-pacs", 2))
"""Name and failures in a row."""


def told_now(engine: sa.Engine, period: str) -> tuple[datetime, dict[str, Any]]:
    """The board as the ledger stands."""
    return dashboard_period.dashboard_of(engine, Settings(), "", period, THEN)


OF_OPERATION = ("ai_off", "listening", "faults", "workers", "spool", "card", "metrics", "dashboard", "conformance", "examine")
OF_DECISIONS = ("simulate", "settings_changed", "propose_threshold", "settle_identity")


def backend_of(engine: sa.Engine, **other: Any) -> Backend:
    """A daemon that is well, has no bundle and stands still at `THEN`; `other` says what is different: a function for a name of `Backend`,
    its `operation` or its `decisions`."""
    usual: dict[str, Any] = {
        "settings": Settings,
        "settings_changed": lambda: None,
        "propose_threshold": lambda wish, by, activation: "threshold-1",
        "simulate": lambda wanted, *, again: {
            "changes": settings_override.changed(site_policy().ranking, wanted),
            "said": ["simulated by a test"],
        },
        "metrics": lambda: b"prioritizer_ai_on 1.0\n",
        "ai_off": lambda: ("", THEN),
        "listening": lambda: True,
        "faults": list,
        "now": lambda: THEN,
        "policy": SitePolicy,
        "images": lambda: None,
        "dashboard": partial(told_now, engine),
        "settle_identity": lambda study, take, who, shown: "settled",
        "quiet": lambda: QuietTime(quiet=timedelta(0), ceiling=timedelta(1)),
        "workers": lambda: [WorkerState(name=name, last_turn=THEN, failures=failed) for name, failed in WORKERS],
        "spool": lambda: SpoolState(free_bytes=50 << 30, free_share=0.5, inbox=3, oldest=THEN - timedelta(seconds=40)),
        "card": dict,
        "conformance": conformance.statement,
        "examine": lambda name, send: [],
        "trial": lambda: None,
    }
    usual["configured"] = other.get("settings", Settings)
    assert not other.keys() - usual.keys(), "no such name"
    answers = usual | other
    parts = {"operation": SimpleNamespace(**{name: answers.pop(name) for name in OF_OPERATION})}
    parts["decisions"] = SimpleNamespace(**{name: answers.pop(name) for name in OF_DECISIONS})
    return cast("Backend", SimpleNamespace(engine=engine, **parts, **answers))


@contextmanager
def at(ledger: sa.Engine, name: str, role: Role = Role.READER, stage: Stage = Stage.ACTIVE, **other: Any) -> Iterator[TestClient]:
    """A browser signed in as this person, `LATER`."""
    people.add(ledger, name, role, "tests", NOW)
    settings = Settings(site=Site(name="test site", stage=stage), reading=other.pop("reading", Reading()))
    usual = {"settings": lambda: settings, "now": lambda: LATER, "policy": lambda: policy_with(POLICY, stage=stage)}
    app = page_app(backend_of(ledger, **(usual | other)))
    client = TestClient(app, base_url="http://127.0.0.1", follow_redirects=True, raise_server_exceptions=False)
    client.cookies.set(COOKIE, sessions.begin(ledger, name, "127.0.0.1", LATER))
    yield client
