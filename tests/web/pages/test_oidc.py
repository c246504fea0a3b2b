"""Signing in by OpenID Connect: the right person comes in, and no one by a forged, foreign or stale word."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from limits import RateLimitItemPerMinute

from prioritizer.access import Role
from prioritizer.config.read import unsafe
from prioritizer.config.settings import Settings
from prioritizer.config.web_sections import Web
from prioritizer.db.accounts import people
from prioritizer.db.schema import connect, migrations
from prioritizer.db.schema.tables import events
from prioritizer.web.app import page_app
from prioritizer.web.http import auth as http_auth
from prioritizer.web.http.auth import PER_ADDRESS
from prioritizer.web.server import WebServer
from tests.support.identity_provider import CLIENT, Provider, running_provider
from tests.support.page_client import THEN, backend_of

PATIENCE_S = 60.0


@pytest.fixture
def provider() -> Iterator[Provider]:
    with running_provider() as found:
        yield found


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[sa.Engine]:
    found = connect.open_ledger(f"sqlite:///{tmp_path}/ledger.sqlite3")
    migrations.upgrade(found)
    people.add(found, "ito", Role.READER, "boss", THEN)
    yield found
    found.dispose()


@pytest.fixture
def room(provider: Provider, engine: sa.Engine) -> Iterator[str]:
    web = Web(auth="oidc", oidc_issuer=provider.url, oidc_client_id=CLIENT)
    server = WebServer(page_app(backend_of(engine, settings=lambda: Settings(web=web))), "127.0.0.1", 0)
    server.start()
    yield f"http://127.0.0.1:{server.port}"
    server.stop()


def walk(url: str) -> httpx.Response:
    """A browser that asks for a study, follows every redirect and signs in on the way."""
    with httpx.Client(follow_redirects=True, timeout=PATIENCE_S) as browser:
        form = browser.get(f"{url}/system")
        assert "Sign in with the site's account" in form.text
        return browser.get(f"{url}/oidc?to=/system")


def test_who_the_house_signs_in_comes_to_the_page_that_was_asked_for(room: str) -> None:
    answer = walk(room)
    assert (answer.status_code, answer.url.path) == (200, "/system")
    assert ">ito<" in answer.text


@pytest.mark.parametrize("who", [{"preferred_username": "stranger"}, {"preferred_username": ""}, {}])
def test_whom_nobody_let_in_stays_outside(room: str, provider: Provider, who: dict[str, Any]) -> None:
    provider.who = {"sub": "2", **who}
    answer = walk(room)
    assert answer.status_code == 403
    assert "nobody of that name was let in" in answer.text


@pytest.fixture
def by_mail(provider: Provider, engine: sa.Engine) -> Iterator[str]:
    web = Web(auth="oidc", oidc_issuer=provider.url, oidc_client_id=CLIENT, oidc_claim="email")
    server = WebServer(page_app(backend_of(engine, settings=lambda: Settings(web=web))), "127.0.0.1", 0)
    server.start()
    yield f"http://127.0.0.1:{server.port}"
    server.stop()


@pytest.mark.parametrize(
    "verified", [{}, {"email_verified": False}, {"email_verified": "false"}, {"email_verified": None}, {"email_verified": 0}]
)
def test_an_address_that_the_provider_has_not_verified_is_nobodys(by_mail: str, provider: Provider, verified: dict[str, Any]) -> None:
    provider.who = {"sub": "2", "email": "ito", **verified}
    answer = walk(by_mail)
    assert answer.status_code == 403
    assert "has not verified your e-mail address" in answer.text


@pytest.mark.parametrize("verified", [True, "true"])
def test_a_verified_address_is_a_name(by_mail: str, provider: Provider, verified: object) -> None:
    provider.who = {"sub": "2", "email": "ito", "email_verified": verified}
    assert walk(by_mail).status_code == 200


def test_where_people_do_not_sign_in_this_way_its_addresses_are_not_there(engine: sa.Engine) -> None:
    server = WebServer(page_app(backend_of(engine, settings=lambda: Settings(web=Web(auth="local")))), "127.0.0.1", 0)
    server.start()
    try:
        for path in ("/oidc", "/oidc/back", "/oidc/back?code=a&state=b"):
            assert httpx.get(f"http://127.0.0.1:{server.port}{path}", timeout=PATIENCE_S).status_code == 404
    finally:
        server.stop()


WRONG: list[dict[str, Any]] = [{"iss": "https://evil.example"}, {"aud": "another"}, {"nonce": "stale"}, {"exp": 1}]


@pytest.mark.parametrize("wrong", WRONG)
def test_a_word_that_is_not_for_us_or_not_for_now_is_refused(room: str, provider: Provider, wrong: dict[str, Any]) -> None:
    provider.wrong = wrong
    assert walk(room).status_code == 403


def test_a_forged_word_is_refused(room: str, provider: Provider) -> None:
    provider.forged = True
    assert walk(room).status_code == 403


def test_a_code_that_another_browser_asked_for_is_refused(room: str) -> None:
    with httpx.Client(timeout=PATIENCE_S) as thief, httpx.Client(timeout=PATIENCE_S) as victim:
        there = thief.get(f"{room}/oidc").headers["location"]
        back = thief.get(there).headers["location"]
        assert victim.get(back).status_code == 403


def test_strangers_at_the_way_back_write_so_many_refusals_and_no_more(room: str, engine: sa.Engine) -> None:
    with httpx.Client(timeout=PATIENCE_S) as stranger:
        answers = [stranger.get(f"{room}/oidc/back?code=a&state=b").status_code for _ in range(PER_ADDRESS.amount + 5)]
    assert answers == [403] * PER_ADDRESS.amount + [429] * 5
    with connect.reading(engine) as tx:
        refused = sa.select(sa.func.count()).select_from(events).where(events.c.kind == "sign-in-refused")
        assert tx.scalar(refused) == PER_ADDRESS.amount
    assert walk(room).status_code == 429


def test_who_comes_in_by_the_house_is_not_counted(room: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_auth, "PER_ADDRESS", RateLimitItemPerMinute(2, 5))
    assert {walk(room).status_code for _ in range(4)} == {200}


def test_while_the_ledger_waits_every_other_page_is_answered(room: str, engine: sa.Engine) -> None:
    with ThreadPoolExecutor(1) as pool, connect.writing(engine):
        late = pool.submit(httpx.get, f"{room}/oidc/back?code=a&state=b", timeout=PATIENCE_S)
        time.sleep(0.5)  # so that it waits for the ledger by now
        assert httpx.get(f"{room}/healthz", timeout=3).status_code == 200
        assert not late.done()


def test_a_provider_that_is_away_is_told(provider: Provider, engine: sa.Engine) -> None:
    web = Web(auth="oidc", oidc_issuer="http://127.0.0.1:9", oidc_client_id=CLIENT)
    server = WebServer(page_app(backend_of(engine, settings=lambda: Settings(web=web))), "127.0.0.1", 0)
    server.start()
    try:
        answer = httpx.get(f"http://127.0.0.1:{server.port}/oidc", timeout=PATIENCE_S)
        assert answer.status_code == 503
        assert "identity provider" in answer.text
    finally:
        server.stop()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"auth": "oidc"}, "oidc_issuer and oidc_client_id is not set"),
        ({"auth": "oidc", "oidc_issuer": "http://idp.example", "oidc_client_id": "x"}, "must be https"),
        ({"auth": "oidc", "oidc_issuer": "https://idp.example", "oidc_client_id": "x", "behind_proxy": True}, "set web.address"),
    ],
)
def test_what_could_not_be_safe_is_not_started(given: dict[str, Any], said: str) -> None:
    assert any(said in fault for _, fault in unsafe(Settings(web=Web(**given))))


def test_where_people_have_passwords_there_is_no_provider(engine: sa.Engine) -> None:
    server = WebServer(page_app(backend_of(engine)), "127.0.0.1", 0)
    server.start()
    try:
        assert httpx.get(f"http://127.0.0.1:{server.port}/oidc", timeout=PATIENCE_S).status_code == 404
    finally:
        server.stop()
