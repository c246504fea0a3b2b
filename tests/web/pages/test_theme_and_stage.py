"""What stands around every page: the theme that somebody chose, the stage of the site, the way to the conformance statement."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient
from playwright.sync_api import Browser

from prioritizer.access import Role
from prioritizer.db.accounts import people, sessions
from prioritizer.db.worklist import preferences
from prioritizer.dicom.conformance import statement
from prioritizer.ranking.deadlines import Stage
from prioritizer.web.app import page_app
from prioritizer.web.http.auth import COOKIE
from prioritizer.web.server import WebServer
from tests.support.browsers import context_of
from tests.support.ledgers import NOW, film, receive
from tests.support.page_client import at, backend_of

HERE = "http://127.0.0.1"


def press(client: TestClient, page: str, theme: str) -> str:
    """Choose a theme on a page without a script; where one stands afterwards, with the query."""
    answer = client.post("/account/theme", data={"theme": theme}, headers={"Referer": HERE + page, "Sec-Fetch-Site": "same-origin"})
    assert answer.status_code == 200
    return answer.url.raw_path.decode()


def html_of(client: TestClient) -> str:
    found = re.search(r"<html[^>]*>", client.get("/account").text)
    assert found
    return found.group()


def test_a_person_chooses_a_theme_and_everybody_else_keeps_theirs(ledger: sa.Engine):
    with at(ledger, "ito") as ito, at(ledger, "berg") as berg:
        assert html_of(ito) == '<html lang="en">'
        for theme in ("light", "dark"):
            press(ito, "/account", theme)
            assert html_of(ito) == f'<html lang="en" data-theme="{theme}">'
            assert f'<meta name="color-scheme" content="{theme}">' in ito.get("/account").text
        assert html_of(berg) == '<html lang="en">'
        press(ito, "/account", "")
        assert html_of(ito) == '<html lang="en">'
        assert preferences.of(ledger, "berg") == {}


@pytest.mark.parametrize("page", ["/?order=arrival&view=read", "/study/1.2.3?list=order%3Darrival", "/board", "/account"])
def test_who_chose_a_theme_stands_where_they_stood(ledger: sa.Engine, page: str):
    receive(ledger, film())
    with at(ledger, "ito") as ito:
        assert press(ito, page, "light") == page


@pytest.mark.parametrize("page", ["/account/tokens", "/study/1.2.3/read", "https://evil.example/", "//evil.example/", "/nothing"])
def test_where_no_page_can_be_asked_for_one_stands_on_the_list(ledger: sa.Engine, page: str):
    with at(ledger, "ito") as ito:
        assert press(ito, page, "light") == "/"


def test_a_theme_that_is_none_is_refused(ledger: sa.Engine):
    with at(ledger, "ito") as ito:
        assert ito.post("/account/theme", data={"theme": "dark light"}, headers={"Sec-Fetch-Site": "same-origin"}).status_code == 422
        assert preferences.of(ledger, "ito") == {}


@pytest.mark.parametrize("stage", list(Stage))
def test_every_page_says_what_the_stage_means(ledger: sa.Engine, stage: Stage):
    said = {Stage.SHADOW: "AI is being measured and shows no marks", Stage.PILOT: "marks are shown, the list stays in order of arrival"}
    with at(ledger, "ito", stage=stage) as ito:
        for page in ("/", "/account", "/system"):
            assert [each for each, words in said.items() if words in ito.get(page).text] == [stage] * (stage in said)


def test_the_conformance_statement_is_a_page_for_whoever_signed_in(ledger: sa.Engine):
    with at(ledger, "ito") as ito:
        page = ito.get("/conformance").text
        assert '<a href="/conformance">' in ito.get("/").text
        ito.cookies.clear()
        assert "/sign-in" in str(ito.get("/conformance").url)
    text = html.unescape(re.sub(r"<[^>]+>", "", page))
    cells = [cell.strip() for line in statement().splitlines() if line.startswith("| ") for cell in line.strip("|").split("|")]
    wanted = [cell.replace("`", "").replace("\\*", "*") for cell in cells if cell not in ("---", "")]
    assert len(wanted) > 100
    assert not [cell for cell in wanted if cell.lower() not in text.lower()]
    assert "\\SECONDARY\\" in text
    assert "|" not in text
    assert not [line for line in text.splitlines() if line.strip().startswith("#")]


# --- in a browser -----------------------------------------------------------------------------------------------------


@pytest.fixture
def url(ledger: sa.Engine) -> Iterator[str]:
    server = WebServer(page_app(backend_of(ledger, now=lambda: NOW)), "127.0.0.1", 0)
    server.start()
    yield f"http://127.0.0.1:{server.port}"
    server.stop()


@pytest.mark.parametrize("system", ["dark", "light"])
def test_the_button_goes_through_the_themes_without_a_script(ledger: sa.Engine, url: str, browser: Browser, system: str):
    if ledger.dialect.name != "sqlite":
        pytest.skip("the page is the same on both databases")
    people.add(ledger, "ito", Role.READER, "tests", NOW)
    with context_of(browser, base_url=url, java_script_enabled=False, color_scheme=system) as context:
        context.add_cookies([{"name": COOKIE, "value": sessions.begin(ledger, "ito", "127.0.0.1", NOW), "url": url}])
        page = context.new_page()
        page.goto("/system")
        seen = []
        for _ in range(4):
            seen.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
            page.get_by_role("button", name="Theme").click()
            page.wait_for_load_state()
            assert page.url == f"{url}/system"
    as_system, light, dark, again = seen
    assert light != dark
    assert as_system == again == {"light": light, "dark": dark}[system]
