"""A study of which it must be confirmed whose it is says so on the list, on its page and in the API; only an administrator settles it."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from prioritizer.access import Role
from prioritizer.config import Reading
from prioritizer.db import copies
from tests.edges.ledgers import film, ledger_fixture, receive  # noqa: F401
from tests.edges.rooms import at

ANNA = {"patient_id": "A-1", "patient_name": "Muster^Anna"}
OTO = {"patient_id": "B-2", "patient_name": "Probe^Oto"}


@pytest.fixture
def unsure(ledger: sa.Engine) -> sa.Engine:
    receive(ledger, film(1, **ANNA))
    receive(ledger, film(2, **OTO))
    return ledger


def test_the_list_marks_both_rows_and_names_nobody_else(unsure: sa.Engine):
    with at(unsure, "anna") as browser:
        page = browser.get("/").text
    assert page.count("whose study? to be confirmed") == 2


def test_a_reader_sees_what_differs_and_no_button(unsure: sa.Engine):
    with at(unsure, "anna") as browser:
        page = browser.get("/study/1.2.3").text
        assert browser.post("/study/1.2.3/identity", data={"take": "no"}).status_code == 403
    assert "B-2" in page
    assert "An administrator settles it." in page
    assert "Keep what is shown here" not in page


def test_an_administrator_settles_it(unsure: sa.Engine):
    settled: list[tuple[str, bool, str, str]] = []

    def settle(study: str, take: bool, who: str, shown: str) -> str:
        settled.append((study, take, who, shown))
        return "settled"

    with at(unsure, "admin", Role.ADMIN, settle_identity=settle) as browser:
        page = browser.get("/study/1.2.3~2").text
        assert "make it one" in page
        first = browser.get("/study/1.2.3").text
        assert "Keep what is shown here" in first
        assert 'value="yes"' not in first, "nothing newer can take its place"
        mark = copies.mark_of(unsure, "1.2.3~2")
        assert f'name="shown" value="{mark}"' in page
        done = browser.post("/study/1.2.3~2/identity", data={"take": "yes", "shown": mark}, follow_redirects=False)
    assert (done.status_code, done.headers["location"]) == (303, "/study/1.2.3")
    assert settled == [("1.2.3~2", True, "admin", mark)]


def test_where_names_are_masked_the_other_patient_is_not_told(unsure: sa.Engine):
    with at(unsure, "anna", reading=Reading(mask_patients=True)) as browser:
        page = browser.get("/study/1.2.3").text
    assert "Whose study is it?" in page
    assert "B-2" not in page
    assert "Probe" not in page


def test_a_study_that_nobody_doubts_has_no_banner(ledger: sa.Engine):
    receive(ledger, film(1, **ANNA))
    with at(ledger, "anna") as browser:
        assert "Whose study is it?" not in browser.get("/study/1.2.3").text
