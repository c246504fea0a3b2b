"""The API against whatever a program may send: nothing is a fault of ours, and answers are as described."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
import requests
import schemathesis
import sqlalchemy as sa
from hypothesis import HealthCheck, settings
from schemathesis import Case

from prioritizer.access import May, Role
from prioritizer.config.sections import Site
from prioritizer.config.settings import Settings
from prioritizer.db.accounts import people, sessions
from prioritizer.db.decisions import settings_overrides
from prioritizer.db.schema import connect, migrations
from prioritizer.errors import Unprocessable
from prioritizer.file_result import Tried
from prioritizer.ranking.deadlines import Stage
from prioritizer.web.app import page_app
from prioritizer.web.server import WebServer
from tests.support.ledgers import film, receive, site_policy
from tests.support.page_client import THEN, backend_of

MAX_ADDRESS = 60_000
"""Bytes; h11 reads at most 64 KiB of a request's head."""


@dataclass
class Served:
    """Where the API answers, and how an administrator's program asks."""

    url: str
    headers: dict[str, str]
    description: dict[str, Any] = field(repr=False)  # where a test fails, its arguments are printed
    engine: sa.Engine


def unreadable(data: bytes, *, ignore_scope: bool) -> Tried:
    raise Unprocessable("picture", "it is no readable PNG or JPEG")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    engine = connect.open_ledger(f"sqlite:///{tmp_path_factory.mktemp('api')}/ledger.sqlite3")
    migrations.upgrade(engine)
    receive(engine, film())
    people.add(engine, "robot", Role.ADMIN, "tests", THEN)
    secret, _ = sessions.make_token(engine, "robot", "tests", list(May), "tests", THEN, timedelta(days=1))
    chosen = Settings(site=Site(name="test site", stage=Stage.ACTIVE))
    app = page_app(backend_of(engine, settings=lambda: chosen, trial=lambda: unreadable))
    server = WebServer(app, "127.0.0.1", 0)
    server.start()
    yield Served(f"http://127.0.0.1:{server.port}", {"Authorization": f"Bearer {secret}"}, app.openapi(), engine)
    server.stop()
    engine.dispose()


schema = schemathesis.openapi.from_dict(page_app(backend_of(sa.create_engine("sqlite://"))).openapi())


@schema.parametrize()
@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
def test_whatever_is_sent_is_answered_as_described(case: Case, served: Served) -> None:
    try:
        answer = case.call(base_url=served.url, headers=served.headers)
    except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError):
        # An address longer than an HTTP server reads is refused while it is still being sent.
        assert len(urlencode(case.query or {}, doseq=True)) > MAX_ADDRESS
        return
    assert answer.status_code < 500, answer.text
    if answer.status_code < 300 and answer.content:
        case.operation.validate_response(answer)
    if answer.status_code >= 400:
        assert answer.headers["content-type"] == ["application/problem+json"], answer.text


def test_every_operation_names_its_errors(served: Served) -> None:
    for path, operations in served.description["paths"].items():
        for method, operation in operations.items():
            assert {"401", "403", "422", "503"} <= operation["responses"].keys(), (method, path)
            assert operation["summary"]
            assert operation["description"]


def test_calibrations_and_rules_are_told_and_only_physicists_decide(served: Served) -> None:
    people.add(served.engine, "ito", Role.READER, "tests", THEN)
    secret, _ = sessions.make_token(served.engine, "ito", "tests", [May.SEE, May.READ], "tests", THEN, timedelta(days=1))
    reader = {"Authorization": f"Bearer {secret}"}
    for path in ("/api/calibrations", "/api/rules"):
        assert httpx.get(served.url + path, headers=reader).status_code == 200
    told = httpx.get(f"{served.url}/api/rules", headers=reader).json()
    assert (told["ruling"], told["rulings"]) == (None, [])
    assert told["configured"] == told["in_force"]
    for path in ("/api/calibrations/rollback", "/api/rules/end", "/api/rules/1/activate", "/api/calibrations/x/activate"):
        assert httpx.post(served.url + path, headers=reader, json={}).status_code == 403
        refused = httpx.post(served.url + path, headers=served.headers, json={})
        assert refused.status_code in (404, 409), (path, refused.text)
        assert refused.headers["content-type"] == "application/problem+json"
    assert httpx.post(f"{served.url}/api/rules/{10**30}/activate", headers=served.headers, json={}).status_code == 422


def test_a_ruling_is_activated_by_a_program_that_says_what_it_was_shown(served: Served) -> None:
    proposal = settings_overrides.Proposal(wanted={"high_minutes": 20}, reason="tests", effect={})
    row = settings_overrides.propose(served.engine, site_policy(), proposal, "anna", THEN)
    address = f"{served.url}/api/rules/{row.id}/activate"
    change = httpx.get(f"{served.url}/api/rules", headers=served.headers).json()["change"]
    assert httpx.post(address, params={"shown": change + 1}, headers=served.headers).status_code == 409
    done = httpx.post(address, params={"shown": change}, headers=served.headers)
    assert done.json()["after"] == row.id
    told = httpx.get(f"{served.url}/api/rules", headers=served.headers).json()
    assert (told["in_force"]["high_minutes"], told["ruling"]) == (20, row.id)
    ended = httpx.post(f"{served.url}/api/rules/end", params={"shown": told["change"]}, headers=served.headers)
    assert ended.json()["after"] is None
