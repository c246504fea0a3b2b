"""The read-only page in a real browser and by hand-made requests."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from prioritizer.config import Settings
from prioritizer.config import Site as SiteSection
from prioritizer.db import connect, migrations, receiving
from prioritizer.db.receiving import Arrival, Quiet
from prioritizer.ranking import Policy, Stage
from prioritizer.study import Instance, SOPInstanceUID, StudyUID
from prioritizer.web.app import Page, page_app
from prioritizer.web.server import WebServer

NOW = datetime(2026, 11, 22, 14, 0, tzinfo=UTC)
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
    receiving.receive(engine, arrivals, Policy(), Quiet(quiet=timedelta(0), ceiling=timedelta(1)), NOW)
    page = Page(
        engine=engine,
        settings=lambda: Settings(site=SiteSection(name="test site", stage=request.param)),
        metrics=lambda: b"prioritizer_ai_on 1.0\n",
        ai_off=lambda: ("self-test failed", NOW) if request.param is Stage.SHADOW else ("", NOW),
        listening=lambda: True,
        ready=list,
        now=lambda: NOW,
    )
    web = WebServer(page_app(page), "127.0.0.1", 0)
    web.start()
    yield f"http://127.0.0.1:{web.port}"
    web.stop()
    engine.dispose()


def test_the_list_shows_stat_first_and_pages_through_every_study(server: str) -> None:
    first = httpx.get(server).text
    assert first.index("STAT, CASE") < first.index("PHANTOM, ")
    assert "next page" in first
    after = first.split("after=")[1].split('"')[0]
    second = httpx.get(f"{server}/?order=deadline&view=open&after={after}").text
    shown = [n for n in range(1, 121) if f"PHANTOM, {n} " in first or f"PHANTOM, {n} " in second]
    assert len(shown) == 120


def test_text_of_a_peer_is_never_markup(server: str) -> None:
    for path in ("/?order=arrival", "/study/1.2.9.200"):
        text = httpx.get(server + path).text
        assert "<script>alert" not in text
        assert "<img src=x" not in text
    assert "&lt;script&gt;" in httpx.get(f"{server}/study/1.2.9.200").text


def test_every_answer_forbids_scripts_and_framing(server: str) -> None:
    for path in ("/", "/study/1.2.9.1", "/study/none", "/healthz", "/api/worklist", "/static/prioritizer.css"):
        headers = httpx.get(server + path).headers
        assert headers["content-security-policy"].startswith("default-src 'none'")
        assert headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("path", "status"),
    [("/study/none", 404), ("/?order=sideways", 422), ("/?after=none", 404), ("/static/../app.py", 404), ("/study/'%20OR%201=1--", 404)],
)
def test_what_does_not_exist_is_said_and_nothing_breaks(server: str, path: str, status: int) -> None:
    assert httpx.get(server + path).status_code == status


def test_opening_a_study_is_recorded(server: str) -> None:
    httpx.get(f"{server}/study/1.2.9.2")
    assert "opened" in httpx.get(f"{server}/study/1.2.9.2").text


def test_nothing_can_be_changed_over_http(server: str) -> None:
    assert {httpx.request(method, f"{server}/study/1.2.9.1").status_code for method in ("POST", "PUT", "DELETE", "PATCH")} == {405}


def test_the_page_says_stage_and_whether_ai_is_on(server: str) -> None:
    text = httpx.get(server).text
    if "stage shadow" in text:
        assert "AI is off" in text
        assert "shows no marks" in text
    else:
        assert "stage active" in text
        assert "AI is off" not in text
    assert "never a diagnosis" in text


def test_a_real_browser_draws_the_list(server: str, tmp_path: Path) -> None:
    chromium = shutil.which("chromium")
    if chromium is None:
        assert os.environ.get("PRIORITIZER_REQUIRE_PEERS") != "1", "chromium is not installed"
        pytest.skip("chromium is not installed")
    flags = "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-sync --disable-component-update"
    dumped = subprocess.run(
        [chromium, *flags.split(), f"--user-data-dir={tmp_path}", "--dump-dom", server],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    ).stdout
    assert dumped.count("<tr") == 101
    assert "STAT, CASE" in dumped
