"""A study of which it must be confirmed whose it is says so on the list, on its page and in the API; only an administrator settles it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import sqlalchemy as sa

from prioritizer.access import Role
from prioritizer.clock import utc_now
from prioritizer.config.sections import Reading
from prioritizer.daemon.identity_confirmation import settle
from prioritizer.db.activity import queues
from prioritizer.db.instances import differing_copies
from prioritizer.db.instances.side_by_side import side_by_side
from prioritizer.db.processing import deliver
from prioritizer.db.schema.events import Kind
from prioritizer.db.worklist import rows
from prioritizer.db.worklist import study as worklist_study
from tests.support.ledgers import LEASE, POLICY, film, receive, result_of, score_next
from tests.support.page_client import at
from tests.support.phantom_spool import Box, phantom

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
        mark = differing_copies.mark_of(unsure, "1.2.3~2")
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


def test_both_patients_of_one_study_uid_stand_side_by_side_with_what_contradicts(unsure: sa.Engine):
    shown, other = side_by_side(unsure, "1.2.3~2")
    assert (shown.what, shown.particulars.patient_name, shown.differs) == ("shown here", "Probe^Oto", ())
    assert (other.what, other.particulars.patient_name, other.study_uid) == ("the first row", "Muster^Anna", "1.2.3")
    assert {"patient_id", "patient_name"} <= set(other.differs)
    with at(unsure, "anna") as browser:
        page = browser.get("/study/1.2.3~2").text
    assert "<mark>Muster^Anna</mark>" in page
    assert '<a href="/study/1.2.3">the first row</a>' in page
    assert len(re.findall(r"<td[^>]*>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d</td>", page)) >= 2, "when each arrived"


def corrected(ledger: sa.Engine, folder: Path) -> Box:
    """A scored film whose result is built, and a copy of it for another patient."""
    box = Box(ledger, folder)
    box.stored(phantom(1))
    box.receive()
    score_next(ledger, 0.9)
    claim = deliver.claim_study(ledger, "p", LEASE, utc_now())
    assert claim is not None
    assert deliver.finish_published(ledger, claim, result_of(), ("pacs",), utc_now())
    box.stored(phantom(1, PatientID="RIGHT-2", PatientName="Right^Person", PatientBirthDate="20200202"))
    box.receive()
    return box


def test_a_copy_that_waits_stands_beside_what_is_shown(ledger: sa.Engine, tmp_path: Path):
    box = corrected(ledger, tmp_path)
    study = str(phantom(1).StudyInstanceUID)
    shown, copy = side_by_side(box.ledger, study)
    assert (shown.particulars.patient_id, copy.particulars.patient_id) == (phantom(1).PatientID, "RIGHT-2")
    assert copy.particulars.patient_birth_date == "20200202"
    assert copy.what.endswith("came again")
    assert copy.differs == ("patient_id", "patient_name"), "empty never contradicts"


def test_a_result_that_is_held_back_says_so_wherever_it_is_listed(ledger: sa.Engine, tmp_path: Path):
    box = corrected(ledger, tmp_path)
    study, held = str(phantom(1).StudyInstanceUID), "held back until it is confirmed whose study it is"
    assert [one.reason_text for one in rows.unfinished_deliveries(ledger, study)] == [held]
    assert [one.reason_text for one in queues.unfinished_deliveries(ledger, 9).rows] == [held]
    assert queues.why_unpublished(ledger, study) == held
    assert deliver.claim_delivery(ledger, "pacs", "d", LEASE) is None
    settle(box.ledger, box.spool, study, take=False, who="op", policy=POLICY)
    assert [one.reason_text for one in rows.unfinished_deliveries(ledger, study)] == [""]
    assert queues.why_unpublished(ledger, study) == ""


def test_a_correction_names_what_changed_alone_and_refuses_nothing(ledger: sa.Engine, tmp_path: Path):
    box = corrected(ledger, tmp_path)
    study = str(phantom(1).StudyInstanceUID)
    settle(box.ledger, box.spool, study, take=True, who="op", policy=POLICY)
    said = [event.said for event in worklist_study.why(ledger, study) if event.kind == Kind.CORRECTED]
    assert said == ["corrected: Patient ID, name, birth date"]
    assert box.spool.notices() == [], "what was replaced lies in quarantine; nothing was refused"
    assert [facts["reason"] for _, facts in box.spool.quarantined()] == ["a person confirmed another copy of this image"]
