"""Rulings under a running daemon: what the command line decides holds for pages, placing and publishing at once, without a restart."""

from __future__ import annotations

import itertools
import json
import signal
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from prioritizer.states import InstanceState
from tests.support.daemons import Daemon, free_port, phantom, phantom_study_uid, prioritizer, running_daemon, sections, sends, wait_until

NUMBERS = itertools.count(801)


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """A daemon in stage active; results wait for a PACS that does not answer."""
    with running_daemon(tmp_path, sections(free_port())) as found:
        yield found


def rules(daemon: Daemon, verb: str, *arguments: str) -> Any:
    """What `prioritizer overrides VERB` says with --json."""
    done = prioritizer("overrides", verb, "--config", str(daemon.config), *arguments, "--json", cwd=daemon.folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def ruled(daemon: Daemon, *wanted: str) -> dict[str, Any]:
    number = rules(daemon, "propose", *wanted, "--reason", "a trial", "--as", "anna")["id"]
    found: dict[str, Any] = rules(daemon, "activate", str(number), "--as", "berta")
    return found


def film(daemon: Daemon, folder: Path) -> str:
    number = next(NUMBERS)
    sends(daemon, phantom(folder, number))
    daemon.wait_scored(phantom_study_uid(number))
    return phantom_study_uid(number)


def minutes(daemon: Daemon, study: str) -> float:
    row = daemon.row(study)
    assert row is not None
    due, arrived = (datetime.fromisoformat(row[name]) for name in ("due_at", "first_received_at"))
    return (due - arrived).total_seconds() / 60


def test_windows_that_are_ruled_place_what_waits_and_what_comes(daemon: Daemon, tmp_path: Path) -> None:
    before = film(daemon, tmp_path)
    done = ruled(daemon, "--high-minutes", "10", "--neutral-minutes", "11", "--low-minutes", "12")
    assert done["moved"] >= 1
    after = film(daemon, tmp_path)
    assert {minutes(daemon, before), minutes(daemon, after)} <= {10.0, 11.0}
    placed = minutes(daemon, before), minutes(daemon, after)
    for verb in ("end", "rollback"):
        told = rules(daemon, verb, "--dry-run")
        assert told["changes"] == {}
        assert told["orders"][-1]["rules"].startswith(
            "stage active, deadline of a raised study 30 min, deadline of every other study 120 min"
        )
        assert told["open"] == 2
    assert (minutes(daemon, before), minutes(daemon, after)) == placed
    rules(daemon, "end")
    assert {minutes(daemon, before), minutes(daemon, after)} <= {30.0, 120.0}
    assert prioritizer("overrides", "end", "--dry-run", "--config", str(daemon.config), cwd=daemon.folder).returncode != 0


def test_a_ruled_shadow_shows_and_publishes_nothing_from_then_on(daemon: Daemon, tmp_path: Path) -> None:
    first = film(daemon, tmp_path)
    wait_until(lambda: [one for one in daemon.deliveries() if one[0]], "a result waits")
    assert ruled(daemon, "--stage", "shadow")["retracted"] == 1
    wait_until(lambda: "stage shadow" in daemon.get("/")[1], "the page shows the ruled stage", 5)
    second = film(daemon, tmp_path)
    daemon.wait_settled()
    assert minutes(daemon, first) == minutes(daemon, second) == 120.0
    assert all("RETRACTED" in one for one in daemon.deliveries())
    assert InstanceState.SCORED in str(daemon.instance_states())
    assert daemon.cli_json("status")["stage"] == "shadow"
    assert "stage shadow" in daemon.cli("worklist").stdout


def test_a_configuration_that_makes_the_ruling_unsafe_sets_it_aside_with_an_alarm_at_reload_and_at_start(
    daemon: Daemon, tmp_path: Path
) -> None:
    study = film(daemon, tmp_path)
    ruled(daemon, "--high-minutes", "60")
    daemon.sections["ranking"] |= {"high_minutes": 20, "neutral_minutes": 45}
    daemon.write_config()
    daemon.signal(signal.SIGHUP)
    wait_until(lambda: daemon.events("ruling-set-aside"), "the reload sets it aside")

    def alarm() -> dict[str, Any] | None:
        return next((one for one in daemon.cli_json("status")["alarms"] if one["name"] == "ruling-set-aside"), None)

    found = wait_until(alarm, "the alarm stands")
    assert "berta" in found["said"]
    assert "overrides end" in found["mend"]
    assert minutes(daemon, study) in (20.0, 45.0)
    daemon.stop()
    daemon.start()
    wait_until(lambda: len(daemon.events("ruling-set-aside")) == 2, "the start sets it aside")
    rules(daemon, "end")
    wait_until(lambda: alarm() is None, "the alarm is gone", 30)


def test_check_names_the_ruling(daemon: Daemon) -> None:
    ruled(daemon, "--high-minutes", "10")
    assert "settings override 1 above the configuration" in daemon.cli("check").stdout
