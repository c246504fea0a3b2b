"""The line as people meet it: a film arrives, is placed, is read, and its overlay stands in the PACS."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest

from prioritizer.dicom.scu.destination import Destination
from prioritizer.dicom.scu.sender import Sender
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
    uid_of,
    wait_until,
)
from tests.support.pacs import Orthanc

NUMBERS = itertools.count(101)


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    with running_orthanc(tmp_path_factory.mktemp("orthanc"), free_port(), free_port()) as peer:
        yield peer


@pytest.fixture(scope="module")
def daemon(orthanc: Orthanc, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    peers = [{"ae_title": title, "host": "127.0.0.1"} for title in ("MODALITY", "ORTHANC")]
    with running_daemon(tmp_path_factory.mktemp("daemon"), sections(orthanc.port, peers=peers)) as process:
        yield process


def sent_phantom(daemon: Daemon, folder: Path, **traits: object) -> str:
    """A phantom of its own, acknowledged and scored; its study UID."""
    number = next(NUMBERS)
    sends(daemon, phantom(folder, number, **traits))
    daemon.wait_scored(phantom_study_uid(number))
    return phantom_study_uid(number)


def test_a_film_is_listed_scored_and_its_overlay_stored_once_in_the_right_study(daemon: Daemon, orthanc: Orthanc, tmp_path: Path) -> None:
    study = sent_phantom(daemon, tmp_path)
    daemon.wait_sent(study)
    row = daemon.row(study)
    assert row is not None
    assert 0 <= row["risk"] <= 1
    stored = [found for found in stored_in(orthanc) if found["study"] == study]
    assert [found["series_number"] for found in stored] == ["9901"]
    dataset = pydicom.dcmread(download(orthanc, stored[0]["name"], tmp_path / "result.dcm"))
    assert (dataset.Modality, dataset.BurnedInAnnotation, list(dataset.ImageType)) == ("OT", "YES", ["DERIVED", "SECONDARY", "OTHER"])


def test_every_score_names_what_made_it(daemon: Daemon, tmp_path: Path) -> None:
    (instance,) = daemon.instances(sent_phantom(daemon, tmp_path))
    assert all((instance.bundle_digest, instance.calibration_id, instance.engine, instance.precision))


def test_the_list_stands_in_order_of_deadline_and_the_cli_shows_the_same(daemon: Daemon, tmp_path: Path) -> None:
    for opacity in (False, True, False):
        sent_phantom(daemon, tmp_path, opacity=opacity)
    rows = daemon.listed()
    by_deadline = sorted(rows, key=lambda row: (not row["stat"], row["due_at"], row["first_received_at"], row["study_uid"]))
    assert [row["study_uid"] for row in rows] == [row["study_uid"] for row in by_deadline]
    assert [row["study_uid"] for row in daemon.cli_json("worklist")] == [row["study_uid"] for row in rows]


def test_the_fifo_view_holds_the_same_studies_in_order_of_arrival(daemon: Daemon, tmp_path: Path) -> None:
    for opacity in (False, True):
        sent_phantom(daemon, tmp_path, opacity=opacity)
    rows = daemon.listed("arrival")
    by_arrival = sorted(rows, key=lambda row: (not row["stat"], row["first_received_at"], row["study_uid"]))
    assert [row["study_uid"] for row in rows] == [row["study_uid"] for row in by_arrival]
    assert {row["study_uid"] for row in rows} == {row["study_uid"] for row in daemon.listed()}
    assert [row["study_uid"] for row in daemon.cli_json("worklist", "--fifo")] == [row["study_uid"] for row in rows]


def test_why_tells_arrival_score_place_and_publishing(daemon: Daemon, tmp_path: Path) -> None:
    study = sent_phantom(daemon, tmp_path)
    daemon.wait_sent(study)
    told = daemon.cli_json("worklist", "--why", study)
    assert {"arrived", "scored", "published", "sent"} <= {event["kind"] for event in told["events"]}
    assert told["study"]["place_reason"]
    said = daemon.cli("worklist", "--why", study)
    assert "scored by bundle" in said.stdout


def test_a_stat_order_stands_first(daemon: Daemon, tmp_path: Path) -> None:
    sent_phantom(daemon, tmp_path, opacity=True)
    study = sent_phantom(daemon, tmp_path, changes={"RequestedProcedurePriority": "STAT"})
    rows = daemon.listed()
    assert all(row["stat"] for row in rows[: [row["study_uid"] for row in rows].index(study) + 1])
    assert rows[0]["stat"]


def test_a_pinned_study_stands_with_the_stat_orders_until_unpinned(daemon: Daemon, tmp_path: Path) -> None:
    study = sent_phantom(daemon, tmp_path)
    assert daemon.cli("pin", study, "--as", "dr-a").returncode == 0
    row = daemon.row(study)
    assert row is not None
    assert (row["stat"], row["pinned_by"]) == (True, "dr-a")
    assert daemon.cli("pin", study, "--as", "dr-a", "--remove").returncode == 0
    row = daemon.row(study)
    assert row is not None
    assert not row["stat"]


def test_a_claimed_study_is_kept_from_another_reader_who_may_take_it_over(daemon: Daemon, tmp_path: Path) -> None:
    study = sent_phantom(daemon, tmp_path)
    assert daemon.cli("claim", study, "--as", "dr-a").returncode == 0
    refused = daemon.cli("claim", study, "--as", "dr-b")
    assert (refused.returncode, "dr-a" in refused.stderr) == (4, True)
    assert daemon.cli("mark-read", study, "--as", "dr-b").returncode == 4
    assert daemon.cli("claim", study, "--as", "dr-b", "--take-over").returncode == 0
    row = daemon.row(study)
    assert row is not None
    assert row["reader"] == "dr-b"


def test_a_read_study_leaves_the_list_and_a_late_instance_opens_it_again(daemon: Daemon, tmp_path: Path) -> None:
    number = next(NUMBERS)
    study = phantom_study_uid(number)
    sends(daemon, phantom(tmp_path, number))
    daemon.wait_scored(study)
    assert daemon.cli("mark-read", study, "--as", "dr-a").returncode == 0
    assert daemon.row(study) is None
    assert study in [row["study_uid"] for row in daemon.listed(view="read")]
    sends(daemon, phantom(tmp_path, number, instance=2))
    daemon.wait_listed(study)
    assert "late-instance" in {event["kind"] for event in daemon.cli_json("worklist", "--why", study)["events"]}


def test_our_own_result_sent_back_is_acknowledged_ignored_and_starts_no_loop(daemon: Daemon, orthanc: Orthanc, tmp_path: Path) -> None:
    study = sent_phantom(daemon, tmp_path)
    daemon.wait_sent(study)
    (ours,) = [found for found in stored_in(orthanc) if found["study"] == study]
    before = daemon.deliveries()
    back = Destination(name="back", ae_title="PRIORITIZER", host="127.0.0.1", port=daemon.port, calling_ae="ORTHANC")
    sender = Sender()
    sender.send(back, download(orthanc, ours["name"], tmp_path / "ours.dcm"))
    sender.close()
    returned = wait_until(lambda: daemon.instance_states().get(ours["sop"]), "our result is recorded")
    assert returned == ("INELIGIBLE", "made by prioritizer itself: recorded, never scored")
    marker = sent_phantom(daemon, tmp_path)
    daemon.wait_sent(marker)
    assert [delivery for delivery in daemon.deliveries() if delivery[0] != marker] == before
    row = daemon.row(study)
    assert row is not None
    assert (row["instances"], row["ai_state"]) == (1, "SCORED")


def test_the_same_instance_again_changes_nothing_and_other_bytes_are_kept_as_a_conflict(daemon: Daemon, tmp_path: Path) -> None:
    number = next(NUMBERS)
    study = phantom_study_uid(number)
    film = phantom(tmp_path, number)
    sends(daemon, film)
    daemon.wait_scored(study)
    sends(daemon, film)
    forged = pydicom.dcmread(film)
    forged.PatientID = "ANOTHER"
    forged.save_as(tmp_path / "forged.dcm", enforce_file_format=True)
    sends(daemon, tmp_path / "forged.dcm")
    wait_until(lambda: "conflict" in {e["kind"] for e in daemon.cli_json("worklist", "--why", study)["events"]}, "the conflict is told")
    assert [instance.sop_instance_uid for instance in daemon.instances(study)] == [uid_of(film)]
    assert uid_of(film) in [uid for one in daemon.cli_json("status")["identity"] for uid in one["images"]]


def test_a_film_outside_the_scope_stays_on_the_list_with_its_reason(daemon: Daemon, tmp_path: Path) -> None:
    number = next(NUMBERS)
    sends(daemon, phantom(tmp_path, number, changes={"ViewPosition": "LL"}))
    daemon.wait_settled()
    row = daemon.row(phantom_study_uid(number))
    assert row is not None
    assert (row["ai_state"], row["band"]) == ("NOT_SCORED", "NEUTRAL")
    assert row["ai_reason"]


def test_the_pages_answer_and_say_that_this_is_no_diagnosis(daemon: Daemon, tmp_path: Path) -> None:
    study = sent_phantom(daemon, tmp_path)
    for path in ("/", "/?order=arrival", f"/study/{study}"):
        code, body = daemon.get(path)
        assert code == 200
        assert "never a diagnosis" in body
    assert daemon.get("/study/1.2.3")[0] == 404
