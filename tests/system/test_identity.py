"""Whose study it is, through a real daemon and the command line: two patients, a corrected image, a lost ledger."""

from __future__ import annotations

import itertools
from io import BytesIO
from pathlib import Path

import pydicom
import sqlalchemy as sa

from prioritizer.dicom.stand_ins.phantom_files import phantom_study_uid
from tests.support.daemons import Daemon, phantom, running_daemon, sections, sends, wait_until
from tests.support.pacs import free_port

NUMBERS = itertools.count(5000)
RIGHT = {"PatientID": "RIGHT-2", "PatientName": "Right^Person"}


def results(daemon: Daemon) -> list[pydicom.Dataset]:
    """The result objects that the ledger holds, oldest first."""
    with daemon.ledger.connect() as tx:
        found = tx.scalars(sa.text("SELECT data FROM results ORDER BY built_at"))
        return [pydicom.dcmread(BytesIO(data)) for data in found]


def test_a_corrected_image_waits_and_its_result_is_the_corrected_patient_s(tmp_path: Path) -> None:
    with running_daemon(tmp_path, sections(free_port())) as daemon:
        number = next(NUMBERS)
        study = phantom_study_uid(number)
        sends(daemon, phantom(tmp_path, number))
        daemon.wait_scored(study)
        wait_until(lambda: results(daemon), "a result is built")
        sends(daemon, phantom(tmp_path, number, changes=RIGHT))
        wait_until(lambda: daemon.cli_json("identity", "list"), "it waits to be confirmed")
        listed = daemon.cli_json("identity", "list")[0]
        assert (listed["study_uid"], "RIGHT-2" in listed["identity"][0]) == (study, True)
        status = daemon.cli("status").stdout
        assert study in status
        assert "identity keep STUDY" in status
        assert "RIGHT-2" not in daemon.log()
        assert daemon.cli("identity", "take", study, "--as", "Dr Right").returncode == 0
        wait_until(lambda: (daemon.row(study) or {}).get("patient_id") == "RIGHT-2", "the row is corrected")
        wait_until(lambda: len(results(daemon)) == 2, "a result of the corrected image is built")
        before, after = results(daemon)
        assert (before.PatientID != "RIGHT-2", after.PatientID) == (True, "RIGHT-2")
        assert before.SOPInstanceUID != after.SOPInstanceUID
        assert daemon.cli("identity", "keep", study).returncode == 4


def test_two_patients_under_one_study_uid_become_one_by_a_verb(tmp_path: Path) -> None:
    with running_daemon(tmp_path, sections()) as daemon:
        one, other = next(NUMBERS), next(NUMBERS)
        study = phantom_study_uid(one)
        sends(daemon, phantom(tmp_path, one), phantom(tmp_path, other, changes={"StudyInstanceUID": study}))
        daemon.wait_listed(study, f"{study}~2")
        assert len(daemon.cli_json("identity", "list")) == 2
        assert daemon.cli("identity", "take", f"{study}~2").returncode == 0
        wait_until(lambda: [row["study_uid"] for row in daemon.listed()] == [study], "one row is left")
        assert daemon.cli_json("identity", "list") == []


def test_a_lost_ledger_is_rebuilt_and_sends_the_same_objects_when_told_to(tmp_path: Path) -> None:
    with running_daemon(tmp_path, sections(free_port())) as daemon:
        studies = []
        for _ in range(2):
            number = next(NUMBERS)
            studies.append(phantom_study_uid(number))
            sends(daemon, phantom(tmp_path, number))
        daemon.wait_scored(*studies)
        wait_until(lambda: len(results(daemon)) == 2, "the results are built")
        before = {one.SOPInstanceUID: one for one in results(daemon)}
        arrived = {row["study_uid"]: row["first_received_at"] for row in daemon.listed()}
        daemon.stop()
        daemon.ledger.dispose()
        for kept in ("ledger", "token"):  # people and tokens are lost with the ledger
            vars(daemon).pop(kept, None)
        for path in (tmp_path / "var").glob("ledger.sqlite3*"):
            path.unlink()
        daemon.start()
        daemon.wait_scored(*studies)
        assert {row["study_uid"]: row["first_received_at"] for row in daemon.listed()} == arrived
        wait_until(lambda: "rebuild --publish" in daemon.cli("status").stdout, "it asks")
        assert results(daemon) == []
        assert daemon.cli("rebuild", "--publish", "yes").returncode == 0
        wait_until(lambda: len(results(daemon)) == 2, "the results are built again")
        assert {one.SOPInstanceUID: one for one in results(daemon)} == before
        assert daemon.stop() == 0
