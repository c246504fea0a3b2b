"""The read-only page in a real browser and by hand-made requests."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from playwright.sync_api import Browser

from prioritizer.access import May, Role
from prioritizer.config.sections import Site as SiteSection
from prioritizer.config.settings import Settings
from prioritizer.db.accounts import people, sessions
from prioritizer.db.processing import receive
from prioritizer.db.processing.receive import Arrival
from prioritizer.db.schema import connect, migrations
from prioritizer.ranking.deadlines import Stage
from prioritizer.study import Instance, SOPInstanceUID, StudyUID
from prioritizer.web.app import page_app
from prioritizer.web.server import WebServer
from tests.support.ledgers import site_policy
from tests.support.page_client import backend_of

NOW = datetime(2026, 11, 22, 14, 0, tzinfo=UTC)
PASSWORD = "four grey herons fly"
HEADERS: dict[str, str] = {}
"""How the tests of a server ask: as a program that may see."""
MARKUP = '<script>alert(1)</script>^"><img src=x onerror=alert(2)>'


def instance(number: int, **more: object) -> Instance:
    return Instance(
        sop_instance_uid=SOPInstanceUID(f"1.2.3.{number}"), sop_class_uid="1.2.840.10008.5.1.4.1.1.1", study_uid=StudyUID(f"1.2.9.{number}"),
        series_uid="1.2.4", transfer_syntax_uid="1.2.840.10008.1.2.1", calling_ae="DX1", called_ae="PRIORITIZER", address="127.0.0.1",
        received_at=NOW - timedelta(minutes=number), sha256="0" * 64, size=1, modality="CR", **more,
    )  # fmt: skip


@pytest.fixture(scope="module", params=[Stage.ACTIVE, Stage.SHADOW])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    engine = connect.open_ledger(f"sqlite:///{tmp_path_factory.mktemp('page')}/ledger.sqlite3")
    migrations.upgrade(engine)
    arrivals = [Arrival(instance=instance(n, patient_name=f"PHANTOM^{n}", patient_sex="F", age_years=3.0)) for n in range(1, 121)]
    arrivals.append(Arrival(instance=instance(200, patient_name=MARKUP, study_description=MARKUP)))
    arrivals.append(Arrival(instance=instance(201, patient_name="STAT^CASE", priority="STAT")))
    receive.receive(engine, arrivals, site_policy(), NOW)
    page = backend_of(
        engine,
        settings=lambda: Settings(site=SiteSection(name="test site", stage=request.param)),
        ai_off=lambda: ("self-test failed", NOW) if request.param is Stage.SHADOW else ("", NOW),
    )
    people.add(engine, "reader", Role.READER, "test", NOW)
    people.accept(engine, people.invite(engine, "ito", Role.READER, "test", NOW), "ito", PASSWORD, NOW)
    HEADERS["Authorization"] = "Bearer " + sessions.make_token(engine, "reader", "tests", [May.SEE], "test", NOW, timedelta(days=1))[0]
    web = WebServer(page_app(page), "127.0.0.1", 0)
    web.start()
    yield f"http://127.0.0.1:{web.port}"
    web.stop()
    engine.dispose()


def get(address: str) -> httpx.Response:
    return httpx.get(address, headers=HEADERS, timeout=60)


def test_the_list_shows_stat_first_and_pages_through_every_study(server: str) -> None:
    pages = [get(server).text]
    assert pages[0].index("STAT, CASE") < pages[0].index("PHANTOM, ")
    while "next page" in pages[-1]:
        after = re.search(r'href="/\?after=([^"&]+)"[^>]*>next page', pages[-1])
        assert after is not None
        pages.append(get(f"{server}/?after={after[1]}").text)
    assert len(pages) == 3
    shown = [n for text in pages for n in range(1, 121) if f">PHANTOM, {n}<" in text]
    assert sorted(shown) == list(range(1, 121)), "each study once"


def test_text_of_a_peer_is_never_markup(server: str) -> None:
    for path in ("/?order=arrival", "/study/1.2.9.200"):
        text = get(server + path).text
        assert "<script>alert" not in text
        assert "<img src=x" not in text
    assert "&lt;script&gt;" in get(f"{server}/study/1.2.9.200").text


def test_only_files_that_are_named_by_their_digest_are_kept_by_browsers(server: str) -> None:
    page = get(server)
    assert page.headers["cache-control"] == "no-store"
    for address in re.findall(r'(?:href|src)="(/static/[^"]+)"', page.text):
        kept = get(server + address)
        assert kept.status_code == 200
        assert "immutable" in kept.headers["cache-control"]
        assert get(server + address.split("?")[0]).headers["cache-control"] == "no-store"


def test_every_answer_forbids_scripts_and_framing(server: str) -> None:
    for path in ("/", "/study/1.2.9.1", "/study/none", "/healthz", "/api/worklist", "/static/prioritizer.css"):
        headers = get(server + path).headers
        assert headers["content-security-policy"].startswith("default-src 'none'")
        assert headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("path", "status"),
    [("/study/none", 404), ("/?order=sideways", 422), ("/?after=none", 409), ("/static/../app.py", 404), ("/study/'%20OR%201=1--", 404)],
)
def test_what_does_not_exist_is_said_and_nothing_breaks(server: str, path: str, status: int) -> None:
    assert get(server + path).status_code == status


def test_opening_a_study_is_recorded(server: str) -> None:
    get(f"{server}/study/1.2.9.2")
    assert "opened" in get(f"{server}/study/1.2.9.2").text


def test_nothing_can_be_changed_over_http(server: str) -> None:
    assert {
        httpx.request(method, f"{server}/study/1.2.9.1", headers=HEADERS, timeout=60).status_code
        for method in ("POST", "PUT", "DELETE", "PATCH")
    } == {405}


def test_the_page_says_stage_and_whether_ai_is_on(server: str) -> None:
    text = get(server).text
    if "stage shadow" in text:
        assert "AI is off" in text
        assert "shows no marks" in text
    else:
        assert "stage active" in text
        assert "AI is off" not in text
    assert "never a diagnosis" in text


def test_a_real_browser_signs_in_and_draws_the_list(server: str, browser: Browser) -> None:
    page = browser.new_page()
    page.goto(server)
    assert page.url.endswith("/sign-in?to=%2F")
    page.get_by_label("Name").fill("ito")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(f"{server}/")
    assert page.locator("#rows > tr[data-uid]").count() == 50
    assert "STAT, CASE" in page.locator("tbody").inner_text()
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url(f"{server}/sign-in")
    page.goto(server)
    assert "/sign-in" in page.url
