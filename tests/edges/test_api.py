"""The API against whatever a program may send: nothing is a fault of ours, and answers are as described."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
import schemathesis
import sqlalchemy as sa
from hypothesis import HealthCheck, settings
from schemathesis import Case

from prioritizer.access import May, Role
from prioritizer.config import Settings, Site
from prioritizer.db import connect, migrations, people, signing_in
from prioritizer.errors import Unprocessable
from prioritizer.ranking import Stage
from prioritizer.study import Tried
from prioritizer.web.app import page_app
from prioritizer.web.server import WebServer
from tests.edges.ledgers import film, receive
from tests.edges.rooms import THEN, page_of


@dataclass
class Served:
    """Where the API answers, and how an administrator's program asks."""

    url: str
    headers: dict[str, str]
    description: dict[str, Any]
    engine: sa.Engine


def unreadable(data: bytes, *, ignore_scope: bool) -> Tried:
    raise Unprocessable("picture", "it is no readable PNG or JPEG")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    engine = connect.open_ledger(f"sqlite:///{tmp_path_factory.mktemp('api')}/ledger.sqlite3")
    migrations.upgrade(engine)
    receive(engine, film())
    people.add(engine, "robot", Role.ADMIN, "tests", THEN)
    secret, _ = signing_in.make_token(engine, "robot", "tests", list(May), "tests", THEN, timedelta(days=1))
    chosen = Settings(site=Site(name="test site", stage=Stage.ACTIVE))
    app = page_app(page_of(engine, settings=lambda: chosen, trying=lambda: unreadable))
    server = WebServer(app, "127.0.0.1", 0)
    server.start()
    yield Served(f"http://127.0.0.1:{server.port}", {"Authorization": f"Bearer {secret}"}, app.openapi(), engine)
    server.stop()
    engine.dispose()


schema = schemathesis.openapi.from_dict(page_app(page_of(sa.create_engine("sqlite://"))).openapi())


@schema.parametrize()
@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
def test_whatever_is_sent_is_answered_as_described(case: Case, served: Served) -> None:
    answer = case.call(base_url=served.url, headers=served.headers)
    assert answer.status_code < 500, answer.text
    if answer.status_code < 300 and answer.content:
        case.operation.validate_response(answer)


def test_every_operation_names_its_errors(served: Served) -> None:
    for path, operations in served.description["paths"].items():
        for method, operation in operations.items():
            assert {"401", "403", "422", "503"} <= operation["responses"].keys(), (method, path)
            assert operation["summary"]
            assert operation["description"]
