"""The listener is first up and last down: a ledger that is locked, damaged, not migrated or another daemon's stops no intake.

What was owed meanwhile is done when the ledger answers, and what stood still had an alarm.
"""

from __future__ import annotations

import itertools
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from prioritizer.dicom.stand_ins.phantom_files import phantom_study_uid
from tests.support.daemons import Daemon, Postgres, phantom, prioritizer, running_daemon, running_postgres, sections, sends, wait_until

NUMBERS = itertools.count(3000)


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with running_postgres() as server:
        yield server


@contextmanager
def locked(daemon_folder: Path) -> Iterator[None]:
    """The embedded ledger, held by somebody: stands for a database that is down or failing over."""
    held = sqlite3.connect(daemon_folder / "var/ledger.sqlite3", timeout=60, isolation_level=None)
    held.execute("BEGIN EXCLUSIVE")
    try:
        yield
    finally:
        held.execute("ROLLBACK")
        held.close()


def acknowledged(daemon: Daemon, folder: Path) -> str:
    number = next(NUMBERS)
    sends(daemon, phantom(folder, number))
    return phantom_study_uid(number)


def test_a_reload_while_the_ledger_is_locked_ends_nothing_and_is_done_when_it_answers(tmp_path: Path) -> None:
    with running_daemon(tmp_path, sections()) as daemon:
        first = acknowledged(daemon, tmp_path)
        daemon.wait_listed(first)
        with locked(tmp_path):
            daemon.sections["ranking"] = {**daemon.sections.get("ranking", {}), "neutral_minutes": 200.0, "low_minutes": 240.0}
            daemon.write_config()
            daemon.signal(signal.SIGHUP)
            wait_until(lambda: daemon.events("reloaded"), "the configuration is taken up")
            second = acknowledged(daemon, tmp_path)
            wait_until(lambda: daemon.events("owed"), "the placing is written down")
        wait_until(lambda: daemon.events("paid"), "the placing is done")
        daemon.wait_listed(first, second)
        reasons = [row["place_reason"] for row in daemon.listed()]
        assert not [one for one in reasons if "120 min" in one]
        assert daemon.stop() == 0


def test_a_damaged_ledger_stops_no_intake_and_says_so(tmp_path: Path) -> None:
    with running_daemon(tmp_path, sections()) as daemon:
        daemon.stop()
        for path in (tmp_path / "var").glob("ledger.sqlite3*"):
            path.unlink()
        (tmp_path / "var/ledger.sqlite3").write_bytes(b"no database at all" * 1000)
        daemon.start(ready=False)
        study = acknowledged(daemon, tmp_path)
        wait_until(lambda: "move it away" in daemon.get("/readyz")[1], "it says what is wrong")
        assert daemon.get("/readyz")[0] == 503
        (tmp_path / "var/ledger.sqlite3").unlink()
        daemon.kill()
        daemon.start()
        daemon.wait_listed(study)
        assert daemon.stop() == 0


def test_ai_that_cannot_be_trusted_at_a_start_with_the_ledger_away_leaves_order_of_arrival(tmp_path: Path) -> None:
    with running_daemon(tmp_path, sections()) as daemon:
        studies = [acknowledged(daemon, tmp_path) for _ in range(2)]
        daemon.wait_scored(*studies)
        daemon.stop()
        with sqlite3.connect(tmp_path / "var/ledger.sqlite3") as ledger:
            ledger.execute("UPDATE studies SET band = 'HIGH', due_at = due_at - 7200000000, place_reason = 'raised: x'")
        daemon.sections["model"] = {**daemon.sections.get("model", {}), "bundle": "/nowhere"}
        with locked(tmp_path):
            daemon.start(ready=False)
            wait_until(lambda: daemon.events("owed"), "the ledger could not be taken over")
        wait_until(
            lambda: all(row["place_reason"].startswith("order of arrival") for row in daemon.listed() or [{"place_reason": ""}]),
            "the list is in order of arrival",
        )
        daemon.stop()


def test_a_listener_that_hangs_is_ended_and_started_again(tmp_path: Path) -> None:
    with running_daemon(tmp_path, sections()) as daemon:
        hung = daemon.children("prioritizer.dicom.scp.listener")[0]
        hung.suspend()
        wait_until(lambda: "hangs" in daemon.get("/readyz")[1], "it is seen that it hangs", 90)
        wait_until(lambda: daemon.events("listener-hung"), "it is ended", 90)
        wait_until(lambda: daemon.get("/readyz")[0] == 200, "another one listens", 90)
        study = acknowledged(daemon, tmp_path)
        daemon.wait_listed(study)
        wait_until(lambda: "started again" in daemon.cli("status").stdout, "the status says so")
        assert daemon.stop() == 0


def test_a_database_that_is_not_migrated_stops_no_intake_and_names_the_step(postgres: Postgres, tmp_path: Path) -> None:
    told = sections(store={"data": "var", "url": postgres.database("late")})
    with running_daemon(tmp_path, told, ready=False) as daemon:
        study = acknowledged(daemon, tmp_path)
        wait_until(lambda: "prioritizer migrate" in daemon.get("/readyz")[1], "it names the step")
        assert prioritizer("migrate", "--config", str(daemon.config), cwd=tmp_path).returncode == 0
        daemon.wait_listed(study)
        wait_until(lambda: daemon.get("/readyz")[0] == 200, "it is ready without a restart")
        assert daemon.stop() == 0


def test_a_second_daemon_on_one_ledger_receives_and_waits(postgres: Postgres, tmp_path: Path) -> None:
    url = postgres.database("shared")
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
    one, two = (sections(store={"data": "var", "url": url}) for _ in folders)
    Daemon(folders[0], one).write_config()
    assert prioritizer("migrate", "--config", str(folders[0] / "prioritizer.toml"), cwd=tmp_path).returncode == 0
    with running_daemon(folders[0], one) as first, running_daemon(folders[1], two, ready=False) as second:
        wait_until(lambda: "another daemon" in second.get("/readyz")[1], "it sees the other one")
        study = acknowledged(second, folders[1])
        time.sleep(1)
        assert second.row(study) is None
        assert first.get("/readyz")[0] == 200
        assert first.stop() == 0
        second.wait_listed(study)
        assert second.stop() == 0


def test_two_daemons_on_one_data_folder_are_refused_by_name(tmp_path: Path) -> None:
    with running_daemon(tmp_path, sections()) as daemon:
        done = daemon.cli("serve")
        assert (done.returncode, "in use by process" in done.stderr) == (5, True)
        study = acknowledged(daemon, tmp_path)
        daemon.wait_listed(study)


def test_one_odd_header_hides_no_study_also_after_a_restart(tmp_path: Path) -> None:
    with running_daemon(tmp_path, sections()) as daemon:
        path = phantom(tmp_path, next(NUMBERS))
        raw = path.read_bytes()
        at = raw.index(b"\x10\x00\x10\x10AS\x04\x00")
        path.write_bytes(raw[:at] + b"\x10\x00\x10\x10FD\x04\x00" + raw[at + 8 :])
        sends(daemon, path)
        studies = [acknowledged(daemon, tmp_path) for _ in range(3)]
        daemon.wait_listed(*studies)
        assert len(daemon.listed()) == 4
        daemon.kill()
        daemon.start()
        later = acknowledged(daemon, tmp_path)
        daemon.wait_listed(*studies, later)
        assert daemon.stop() == 0
