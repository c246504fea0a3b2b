"""A calibration is made, activated and taken back under a running daemon, and nothing is restarted for it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import sqlalchemy as sa
from PIL import Image

from prioritizer.calibration.maps import Calibration
from prioritizer.clock import utc_now
from prioritizer.db.decisions import calibrations
from prioritizer.db.decisions.calibrations import CandidateVerdict
from prioritizer.imaging import phantoms
from prioritizer.inference.bundle import default_folder, open_bundle
from tests.support.daemons import (
    Daemon,
    download,
    free_port,
    phantom,
    phantom_study_uid,
    prioritizer,
    running_daemon,
    running_orthanc,
    running_postgres,
    sections,
    sends,
    stored_in,
    toml,
    wait_until,
)
from tests.support.pacs import Orthanc

NUMBERS = itertools.count(701)
BUNDLE = open_bundle(default_folder())
FIT = CandidateVerdict(word="fit to activate", said="It separates.", report="")
UNFIT = CandidateVerdict(word="do not activate", said="It does not separate.", report="")


@contextmanager
def store_of(kind: str) -> Iterator[dict[str, Any]]:
    if kind == "sqlite":
        yield {}
        return
    with running_postgres() as server:
        yield {"store": {"url": server.database("site")}}


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Daemon, Orthanc]]:
    """A daemon in stage active with a PACS, once on each database."""
    folder = tmp_path_factory.mktemp("calibration")
    with store_of(request.param) as store, running_orthanc(tmp_path_factory.mktemp("orthanc"), free_port(), free_port()) as orthanc:
        told = sections(orthanc.port, **store)
        (folder / "prioritizer.toml").write_text(toml(told))
        assert prioritizer("migrate", "--config", str(folder / "prioritizer.toml"), cwd=folder).returncode == 0
        with running_daemon(folder, told) as daemon:
            yield daemon, orthanc


@pytest.fixture
def daemon(site: tuple[Daemon, Orthanc]) -> Iterator[Daemon]:
    """The daemon with the bundle's own calibration in force, before and after."""
    found, _ = site
    yield found
    calibration(found, "rollback", "--own")


def calibration(daemon: Daemon, *arguments: str) -> Any:
    return prioritizer("calibration", *arguments[:1], "--config", str(daemon.config), *arguments[1:], cwd=daemon.folder)


def told(daemon: Daemon, *arguments: str) -> Any:
    done = calibration(daemon, *arguments, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def candidate(daemon: Daemon, t_high: float, verdict: CandidateVerdict = FIT, by: str = "anna") -> str:
    """A calibration that keeps the map and sets the threshold, so that what it raises is certain."""
    made: Calibration = replace(BUNDLE.calibration, id=f"local-{next(NUMBERS)}", t_high=t_high, t_low=0.0)
    return calibrations.add(daemon.ledger, BUNDLE.digest, made, verdict, by, utc_now()).id


def film(daemon: Daemon, folder: Path) -> str:
    number = next(NUMBERS)
    sends(daemon, phantom(folder, number))
    daemon.wait_scored(phantom_study_uid(number))
    return phantom_study_uid(number)


def row(daemon: Daemon, study: str) -> dict[str, Any]:
    found = daemon.row(study)
    assert found is not None
    return found


RAISES_ALL, RAISES_NONE = 1e-12, 1 - 1e-12
on_one = pytest.mark.parametrize("site", ["sqlite"], indirect=True)
"""What the command line says; what it keeps is asked of both databases in the tests of the ledger."""


def test_an_activation_moves_what_waits_and_holds_for_what_comes_without_a_restart(daemon: Daemon, tmp_path: Path) -> None:
    calibration(daemon, "activate", candidate(daemon, RAISES_NONE))
    before = film(daemon, tmp_path)
    assert row(daemon, before)["band"] == "NEUTRAL"
    name = candidate(daemon, RAISES_ALL)
    done = told(daemon, "activate", name)
    assert (done["calibration"], done["scored_again"] >= 1, done["moved"] >= 1) == (name, True, True)
    assert row(daemon, before)["band"] == "HIGH"
    after = film(daemon, tmp_path)
    assert row(daemon, after)["band"] == "HIGH"
    assert [one.calibration_id for study in (before, after) for one in daemon.instances(study)] == [f"{name} (children)"] * 2
    assert daemon.cli_json("status")["calibration"]["id"] == name
    assert daemon.events("reloaded") == []


def test_the_whole_list_stands_in_the_order_of_the_new_deadlines(daemon: Daemon, tmp_path: Path) -> None:
    for _ in range(2):
        film(daemon, tmp_path)
    calibration(daemon, "activate", candidate(daemon, RAISES_ALL))
    rows = daemon.listed()
    assert [one["study_uid"] for one in rows] == [
        one["study_uid"] for one in sorted(rows, key=lambda one: (one["due_at"], one["study_uid"]))
    ]
    assert "recalibrated" in [event["kind"] for event in daemon.cli_json("worklist", "--why", rows[0]["study_uid"])["events"]]


@on_one
def test_score_and_check_name_the_calibration_that_is_active(daemon: Daemon, tmp_path: Path) -> None:
    name = candidate(daemon, RAISES_ALL)
    calibration(daemon, "activate", name)
    answer = json.loads(daemon.cli("score", str(phantom(tmp_path, next(NUMBERS))), "--json").stdout)
    assert (answer["calibration"], answer["band"]) == (f"{name} (children)", "HIGH")
    assert name in daemon.cli("check").stdout


def test_going_back_and_forth_leaves_the_result_that_applies_as_the_newest_in_the_pacs(
    site: tuple[Daemon, Orthanc], tmp_path: Path
) -> None:
    daemon, orthanc = site
    none, every = candidate(daemon, RAISES_NONE), candidate(daemon, RAISES_ALL)
    calibration(daemon, "activate", none)
    study = film(daemon, tmp_path)

    def results() -> list[str]:
        return [uid for of, uid, state, _ in daemon.deliveries() if of == study and state == "SENT"]

    for count, step in ((1, None), (2, ("activate", every)), (3, ("rollback",)), (4, ("activate", every))):
        if step:
            assert calibration(daemon, *step).returncode == 0
        wait_until(lambda wanted=count: len(results()) == wanted, f"{count} results of the study are in the PACS")
    assert len(set(results())) == 4
    stored = {found["sop"]: found["name"] for found in stored_in(orthanc) if found["study"] == study}
    newest = pydicom.dcmread(download(orthanc, stored[results()[-1]], tmp_path / "newest.dcm"))
    assert "RAISED" in newest.DerivationDescription
    assert f"{every} (children), activation" in newest.DerivationDescription


@on_one
def test_a_candidate_that_is_advised_against_is_refused_with_exit_4_unless_a_reason_is_given(daemon: Daemon) -> None:
    name = candidate(daemon, RAISES_ALL, UNFIT)
    refused = calibration(daemon, "activate", name)
    assert (refused.returncode, "--against-advice" in refused.stderr) == (4, True)
    assert told(daemon, "activate", name, "--against-advice", "a trial")["calibration"] == name
    assert next(one for one in told(daemon, "list") if one["id"] == name)["state"] == "ACTIVE"


@on_one
def test_calibrations_are_shown_compared_approved_and_rejected(daemon: Daemon) -> None:
    name = candidate(daemon, 0.25)
    assert told(daemon, "show", name)["calibration"]["t_high"] == 0.25
    assert told(daemon, "diff", "own", name)["thresholds"]["t_high"] == [BUNDLE.calibration.t_high, 0.25]
    assert told(daemon, "approve", name, "--as", "berta")["approved_by"] == "berta"
    assert told(daemon, "reject", name, "--reason", "wrong cohort")["state"] == "REJECTED"
    assert calibration(daemon, "show", "nowhere").returncode == 3
    for verb in (("list",), ("show", name), ("diff", "own", name)):
        assert name in calibration(daemon, *verb).stdout


def test_a_changed_calibration_raises_nothing_sets_an_alarm_and_is_left_by_rolling_back(daemon: Daemon, tmp_path: Path) -> None:
    name = candidate(daemon, RAISES_ALL)
    calibration(daemon, "activate", name)
    with daemon.ledger.begin() as connection:
        connection.execute(sa.text("UPDATE calibrations SET document = replace(document, 'slope', 'Slope') WHERE id = :id"), {"id": name})
    wait_until(lambda: any(one["name"] == "calibration-changed" for one in daemon.cli_json("status")["alarms"]), "the alarm stands", 40)
    number = next(NUMBERS)
    sends(daemon, phantom(tmp_path, number))
    wait_until(lambda: "is not what was stored" in daemon.get("/readyz")[1], "AI is off and says why")
    daemon.wait_listed(phantom_study_uid(number))
    assert row(daemon, phantom_study_uid(number))["band"] == "NEUTRAL"
    assert calibration(daemon, "rollback").returncode == 0
    daemon.stop()
    daemon.start()
    daemon.wait_scored(phantom_study_uid(number))
    assert daemon.instances(phantom_study_uid(number))[0].calibration_id != name


# --- recalibrate, from the command line ----------------------------------------------------------------------------


def made_up_cohort(folder: Path, each: int) -> Path:
    """Phantoms that the network can look at; what it says of them is not the point here."""
    rng = np.random.default_rng(1)
    lines = ["file,label,patient_id,age,sex,view,label_source"]
    for number in range(2 * each):
        label = int(number < each)
        picture = phantoms.picture(224, opacity=bool(label), seed=number) // 2 + rng.integers(0, 128, (224, 224), dtype=np.uint8)
        Image.fromarray(picture.astype(np.uint8)).save(folder / f"{number}.png")
        lines.append(f"{number}.png,{label},p{number},4,F,AP,two readers")
    (folder / "labels.csv").write_text("\n".join(lines))
    return folder


@on_one
def test_recalibrate_makes_a_candidate_with_a_report_and_changes_nothing(daemon: Daemon, tmp_path: Path) -> None:
    cohort = made_up_cohort(tmp_path, 25)
    active = daemon.cli_json("status")["calibration"]["id"]
    done = daemon.cli("recalibrate", "--cohort", str(cohort), "--by", "anna", "--report", str(tmp_path / "report.html"), "--json")
    said = json.loads(done.stdout)
    assert (done.returncode, said["verdict"] in ("fit to activate", "activate with care", "do not activate")) == (0, True)
    found = told(daemon, "show", said["candidate"]["id"])
    assert (found["state"], found["made_by"], found["verdict"]) == ("CANDIDATE", "anna", said["verdict"])
    page = (tmp_path / "report.html").read_text()
    assert said["candidate"]["id"] in page
    assert "<script" not in page
    assert json.loads((tmp_path / "report.json").read_text())["winner"] == said["winner"]
    assert daemon.cli_json("status")["calibration"]["id"] == active


@on_one
def test_a_cohort_that_is_too_small_is_refused_with_what_is_missing_and_a_report(daemon: Daemon, tmp_path: Path) -> None:
    cohort = made_up_cohort(tmp_path, 4)
    done = daemon.cli("recalibrate", "--cohort", str(cohort), "--report", str(tmp_path / "r.html"))
    assert (done.returncode, "4 patients with pneumonia, 20 are needed" in done.stdout) == (1, True)
    assert "Do not activate" in (tmp_path / "r.html").read_text()


@on_one
def test_a_cohort_of_other_words_is_refused_with_the_words(daemon: Daemon, tmp_path: Path) -> None:
    cohort = made_up_cohort(tmp_path, 4)
    labels = cohort / "labels.csv"
    labels.write_text(labels.read_text().replace(",1,", ",opacity,"))
    done = daemon.cli("recalibrate", "--cohort", str(cohort), "--report", str(tmp_path / "r.html"))
    assert (done.returncode, "rows that were not understood" in done.stdout) == (1, True)
    assert "'opacity'" in done.stdout


@on_one
def test_a_prevalence_alone_shifts_without_images(daemon: Daemon) -> None:
    said = daemon.cli_json("recalibrate", "--prevalence", "0.1", "--ages", "children")
    assert (said["verdict"], said["candidate"]["method"]) == ("activate with care", "prevalence shift")
    assert said["candidate"]["intercept"] < BUNDLE.calibration.intercept


@on_one
def test_what_does_not_go_together_is_said_at_once(daemon: Daemon) -> None:
    done = daemon.cli("recalibrate", "--flags-per-day", "3")
    assert done.returncode == 5
    assert "--cohort" in done.stderr
    assert "--studies-per-day" in done.stderr
