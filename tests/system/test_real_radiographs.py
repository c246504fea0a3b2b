"""Nine real radiographs of adults, five makes, six encodings: to the list and back into a real PACS, once, whatever happens meanwhile."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom import uid

from prioritizer.dicom.scu.send_files import _ready
from tests.support.daemons import (
    Daemon,
    download,
    free_port,
    phantom,
    phantom_study_uid,
    running_daemon,
    running_orthanc,
    sections,
    sends,
    stored_in,
    storescu,
    wait_until,
)
from tests.support.pacs import SHARED, Orthanc, program

EVERYDAY = SHARED / "dicom" / "everyday"
RADIOGRAPHS = ("fuji", "konica", "nih", "philips", "rsna")
PROPOSE = {
    uid.ImplicitVRLittleEndian: "-xi",
    uid.ExplicitVRLittleEndian: "-xe",
    uid.RLELossless: "-xr",
    uid.JPEGBaseline8Bit: "-xy",
    uid.JPEG2000: "-xw",
    uid.JPEGLSNearLossless: "-xu",
}
MARKER = 901


@dataclass
class Story:
    """What was sent, and what stood in Orthanc and in the ledger after each chapter."""

    files: list[Path]
    daemon: Daemon
    orthanc: Orthanc
    acknowledged: dict[str, dict[str, bool]] = field(default_factory=dict)
    stored: dict[str, list[dict[str, str]]] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    waiting_in_the_outage: int = 0

    @property
    def studies(self) -> set[str]:
        return {study_of(path) for path in self.files}

    def results(self, chapter: str) -> list[tuple[str, str]]:
        """(study, result) of what Orthanc held then, less the marker's."""
        marker = phantom_study_uid(MARKER)
        return sorted((found["study"], found["sop"]) for found in self.stored[chapter] if found["study"] != marker)


def study_of(path: Path) -> str:
    return str(pydicom.dcmread(path, stop_before_pixels=True).StudyInstanceUID)


def sendable_files(folder: Path) -> list[Path]:
    """The nine files, those without preamble given one, as `prioritizer send` gives it."""
    paths = sorted(path for make in RADIOGRAPHS for path in EVERYDAY.glob(f"{make}_*.dcm"))
    if not paths:
        pytest.skip("the shared DICOM files are not here")
    return [_ready(path, folder).sendable for path in paths]


def store_each(daemon: Daemon, files: list[Path]) -> dict[str, bool]:
    """storescu, proposing each file's own transfer syntax."""
    answers: dict[str, bool] = {}
    for syntax, option in PROPOSE.items():
        of_syntax = [path for path in files if pydicom.dcmread(path, stop_before_pixels=True).file_meta.TransferSyntaxUID == syntax]
        if of_syntax:
            answers |= storescu(daemon, *of_syntax, options=(option,))
    return answers


def store_all(daemon: Daemon, files: list[Path]) -> dict[str, bool]:
    """dcmsend, all in as few associations as it likes, nothing decompressed."""
    command = [program("dcmsend"), "-v", "-dn", "-nh", "-aet", "MODALITY", "-aec", "PRIORITIZER", "127.0.0.1", str(daemon.port)]
    done = subprocess.run(
        [*command, *map(str, files)], capture_output=True, text=True, check=False, timeout=120, env={**os.environ, "TCP_NODELAY": "1"}
    )
    stored = (done.stdout + done.stderr).count("Received C-STORE Response (Success)")
    return {str(path): number < stored for number, path in enumerate(files)}


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """First half; the PACS goes away; second half; the PACS returns; all again; a restart; all again."""
    folder = tmp_path_factory.mktemp("everyday")
    (folder / "files").mkdir()
    files = sendable_files(folder / "files")
    port, http_port = free_port(), free_port()
    peers = [{"ae_title": "MODALITY", "host": "127.0.0.1", "score_secondary_capture": True}]
    told = sections(port, peers=peers, scope={"age": "flag"}, publish={"quiet_seconds": 3, "ceiling_seconds": 60})
    first = [path for path in files if study_of(path) in {study_of(files[0]), study_of(files[2]), study_of(files[3])}]
    second = [path for path in files if path not in first]
    with ExitStack() as stack:
        daemon = stack.enter_context(running_daemon(folder, told))
        with running_orthanc(folder / "orthanc", port, http_port):
            acknowledged = store_each(daemon, first)
            daemon.wait_sent(*{study_of(path) for path in first})
        acknowledged |= store_each(daemon, second)
        missing = {study_of(path) for path in second}
        wait_until(
            lambda: missing <= {study for study, _, state, tries in daemon.deliveries() if state == "PENDING" and tries},
            "every result was tried while the PACS was away",
        )
        orthanc = stack.enter_context(running_orthanc(folder / "orthanc", port, http_port))
        story = Story(files, daemon, orthanc, waiting_in_the_outage=len(missing))
        for study in missing:
            daemon.cli("requeue", study, "--deliveries")
        daemon.wait_sent(*story.studies)
        story.acknowledged["first"], story.stored["first"], story.rows = acknowledged, stored_in(orthanc), daemon.listed()

        story.acknowledged["again"] = store_all(daemon, files)
        daemon.wait_settled()
        assert daemon.stop() == 0
        daemon.start()
        story.acknowledged["restarted"] = store_each(daemon, files)
        daemon.wait_settled()
        sends(daemon, phantom(folder, MARKER))  # whatever would be published wrongly goes before or with this one
        daemon.wait_sent(phantom_study_uid(MARKER))
        story.stored["restarted"] = stored_in(orthanc)
        yield story


def test_every_radiograph_is_acknowledged_each_time_it_is_sent(story: Story) -> None:
    assert len(story.files) == 9
    assert all(all(answers.values()) and len(answers) == 9 for answers in story.acknowledged.values()), story.acknowledged


def test_every_radiograph_is_scored_whatever_the_age(story: Story) -> None:
    states = {row["study_uid"]: (row["ai_state"], row["ai_reason"]) for row in story.rows}
    assert {study: states.get(study) for study in story.studies} == dict.fromkeys(story.studies, ("SCORED", ""))
    maps = {instance.calibration_id for study in story.studies for instance in story.daemon.instances(study)}
    assert {name.rpartition(" ")[2] for name in maps if name} <= {"(children)", "(adults)"}


def test_each_study_has_one_result_in_the_right_study_after_an_outage(story: Story) -> None:
    assert story.waiting_in_the_outage
    assert sorted(study for study, _ in story.results("first")) == sorted(story.studies)
    assert {found["series_number"] for found in story.stored["first"]} == {"9901"}


def test_sending_all_again_and_a_restart_publish_nothing_again(story: Story) -> None:
    assert story.results("restarted") == story.results("first")


def test_two_instances_of_one_study_make_one_row_and_one_result(story: Story) -> None:
    (philips,) = {study_of(path) for path in story.files if "philips" in path.name}
    assert len(story.daemon.instances(philips)) == len({uid_ for path in story.files if "philips" in path.name for uid_ in [sop_of(path)]})
    assert [study for study, _ in story.results("first")].count(philips) == 1


def sop_of(path: Path) -> str:
    return str(pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID)


def test_other_bytes_under_a_known_uid_are_kept_as_a_conflict_and_shown(story: Story) -> None:
    (rsna,) = {sop_of(path) for path in story.files if "rsna" in path.name}
    shown = story.daemon.cli("status").stdout
    assert "conflict" in shown
    assert "the first is shown" in shown
    # dcmsend re-encodes the implicit ones as explicit: the same image, of which nothing is asked. The one relabelled MONOCHROME1 is another.
    assert {uid for one in story.daemon.cli_json("status")["identity"] for uid in one["images"]} == {rsna}
    assert list((story.daemon.folder / "var" / "spool" / "conflicts").glob("*.dcm"))


def test_dciodvfy_finds_no_error_in_any_stored_result(story: Story, tmp_path: Path) -> None:
    dciodvfy = program("dciodvfy")
    for found in story.stored["restarted"]:
        path = download(story.orthanc, found["name"], tmp_path / "result.dcm")
        done = subprocess.run([dciodvfy, str(path)], capture_output=True, text=True, check=False)
        assert not [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")], found


def test_no_name_or_identifier_of_a_patient_is_in_the_log_or_the_figures(story: Story) -> None:
    told = story.daemon.log() + story.daemon.get("/metrics")[1]
    for path in story.files:
        header = pydicom.dcmread(path, stop_before_pixels=True)
        for text in (str(header.get("PatientName", "")), str(header.get("PatientID", ""))):
            assert len(text) < 5 or text not in told, path.name
