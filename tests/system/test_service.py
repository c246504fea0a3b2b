"""The daemon as a service: it restarts what dies, reloads, drains, outlives its database and its model, and calls nobody."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from prioritizer.dicom.stand_ins.pacs import running_pacs
from prioritizer.inference.bundle import default_folder
from tests.support.daemons import (
    REPOSITORY,
    Daemon,
    Postgres,
    free_port,
    phantom,
    phantom_study_uid,
    prioritizer,
    running_daemon,
    running_postgres,
    sections,
    sends,
    storescu,
    wait_until,
)
from tests.support.pacs import program

NUMBERS = itertools.count(301)
WATCH = """
import os, sys

def watch(event, arguments):
    if event in ("socket.connect", "socket.sendto"):
        address = arguments[1]
        host = address[0] if isinstance(address, tuple) else "localhost"
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        host = arguments[0]
    else:
        return
    host = host.decode() if isinstance(host, bytes) else host
    house = host is None or host in ("localhost", "::1", "") or host.startswith("127.")
    descriptor = os.open(os.environ["WATCH_FILE"], os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    os.write(descriptor, f"{'inside' if house else 'OUTSIDE'} {event} {host}\\n".encode())
    os.close(descriptor)

sys.addaudithook(watch)
"""


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon that every test leaves as it found it: alive, and with the configuration it started with."""
    with running_daemon(tmp_path_factory.mktemp("service"), sections()) as process:
        yield process


def a_film_is_scored(daemon: Daemon, folder: Path) -> str:
    """A new film goes all the way now; its study UID."""
    number = next(NUMBERS)
    sends(daemon, phantom(folder, number))
    daemon.wait_scored(phantom_study_uid(number))
    return phantom_study_uid(number)


def reload(daemon: Daemon, event: str = "reloaded") -> None:
    """SIGHUP, and wait until the log tells `event` once more."""
    before = len(daemon.events(event))
    daemon.signal(signal.SIGHUP)
    wait_until(lambda: len(daemon.events(event)) > before, f"the log tells {event}")


def raising_bundle(folder: Path) -> Path:
    """The shipped bundle with a threshold that every film reaches, its card made to agree: what is raised is then certain."""
    target = folder / "bundle"
    shutil.copytree(default_folder(), target)
    calibration, card = target / "calibration.json", target / "card.toml"
    before = hashlib.sha256(calibration.read_bytes()).hexdigest()
    calibration.write_text(json.dumps({**json.loads(calibration.read_text()), "t_low": 0.0, "t_high": 0.0}))
    assert before in card.read_text()
    card.write_text(card.read_text().replace(before, hashlib.sha256(calibration.read_bytes()).hexdigest()))
    return target


# --- what dies is restarted --------------------------------------------------------------------------------------


def test_a_killed_listener_is_restarted_and_serves_again(daemon: Daemon, tmp_path: Path) -> None:
    (listener,) = daemon.children("prioritizer.dicom.scp.listener")
    listener.kill()
    wait_until(lambda: [c for c in daemon.children("prioritizer.dicom.scp.listener") if c.pid != listener.pid], "a new listener process")
    wait_until(lambda: daemon.get("/readyz")[0] == 200, "the daemon is ready again")
    assert a_film_is_scored(daemon, tmp_path)
    assert daemon.events("listener-restart")


def test_after_the_decoding_and_scoring_processes_are_killed_the_next_film_is_scored(daemon: Daemon, tmp_path: Path) -> None:
    a_film_is_scored(daemon, tmp_path)  # so that the processes are there
    victims = daemon.children("spawn_main")
    assert len(victims) >= 2
    for victim in victims:
        victim.kill()
        assert a_film_is_scored(daemon, tmp_path)
    assert daemon.get("/readyz")[0] == 200


def test_sigterm_ends_everything_in_order_with_exit_code_0(tmp_path: Path) -> None:
    with running_daemon(tmp_path, sections()) as daemon:
        everybody = daemon.children()
        assert len(everybody) >= 3
        assert daemon.stop() == 0
        assert daemon.events("stopped")
        _, alive = psutil.wait_procs(everybody, timeout=10)
        assert not alive


def test_an_open_association_with_the_pacs_does_not_hold_up_the_end(tmp_path: Path) -> None:
    port = free_port()
    with running_pacs("PACS", "127.0.0.1", port) as pacs, running_daemon(tmp_path, sections(port, "PACS")) as daemon:
        a_film_is_scored(daemon, tmp_path)
        assert pacs.wait_for(1, 60)
        process = daemon.process
        assert process is not None
        process.terminate()
        assert process.wait(timeout=20) == 0  # pynetdicom alone would wait 40 s for its peer


# --- SIGHUP ------------------------------------------------------------------------------------------------------


def test_a_reload_admits_a_peer_that_was_refused_before(daemon: Daemon, tmp_path: Path) -> None:
    film = phantom(tmp_path, next(NUMBERS))
    assert not any(storescu(daemon, film, calling="NEWCOMER").values())
    before = daemon.sections["peers"]
    daemon.sections["peers"] = [*before, {"ae_title": "NEWCOMER", "host": "127.0.0.1"}]
    daemon.write_config()
    reload(daemon)
    wait_until(lambda: all(storescu(daemon, film, calling="NEWCOMER").values()), "the newcomer is admitted")
    daemon.sections["peers"] = before
    daemon.write_config()
    reload(daemon)
    wait_until(lambda: not any(storescu(daemon, film, calling="NEWCOMER").values()), "the newcomer is refused again")


def test_a_reload_of_the_stage_re_ranks_what_was_raised(tmp_path: Path) -> None:
    told = sections(model={"bundle": str(raising_bundle(tmp_path))})
    with running_daemon(tmp_path, told) as daemon:
        study = a_film_is_scored(daemon, tmp_path)
        raised = daemon.row(study)
        assert raised is not None
        assert (raised["band"], "raised" in raised["place_reason"]) == ("HIGH", True)
        daemon.sections["site"]["stage"] = "pilot"
        daemon.write_config()
        reload(daemon, "reranked")
        fifo = daemon.row(study)
        assert fifo is not None
        assert fifo["due_at"] > raised["due_at"]
        assert fifo["place_reason"] == "order of arrival (stage pilot)"
        assert "stage pilot" in daemon.get("/")[1]
        assert "reranked" not in daemon.get(f"/study/{study}")[1]


def test_a_raised_film_stands_before_those_that_came_earlier_and_fifo_keeps_them(tmp_path: Path) -> None:
    told = sections(model={"bundle": str(raising_bundle(tmp_path))})
    with running_daemon(tmp_path, told) as daemon:
        unscored = next(NUMBERS)
        sends(daemon, phantom(tmp_path, unscored, changes={"ViewPosition": "LL"}))
        daemon.wait_settled()
        raised = a_film_is_scored(daemon, tmp_path)
        assert [row["study_uid"] for row in daemon.listed()] == [raised, phantom_study_uid(unscored)]
        assert [row["study_uid"] for row in daemon.listed("arrival")] == [phantom_study_uid(unscored), raised]
        told_why = daemon.cli("worklist", "--why", raised).stdout
        assert "stands before 1 that arrived earlier" in told_why


def test_a_broken_configuration_leaves_the_old_one_running_and_is_logged_with_its_line(daemon: Daemon, tmp_path: Path) -> None:
    daemon.config.write_text(daemon.config.read_text() + "\n[rankin]\nhigh_minutes = 1\n")
    reload(daemon, "reload-failed")
    (said,) = [event["said"] for event in daemon.events("reload-failed")]
    assert "did you mean 'ranking'?" in said
    assert re.search(r"prioritizer\.toml:\d+", said)
    assert a_film_is_scored(daemon, tmp_path)
    daemon.write_config()
    reload(daemon)


# --- without database, without model -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with running_postgres() as server:
        yield server


def test_without_its_database_films_are_acknowledged_and_listed_when_it_is_back(postgres: Postgres, tmp_path: Path) -> None:
    told = sections(store={"data": "var", "url": postgres.database("gone")})
    config = tmp_path / "prioritizer.toml"
    daemon = Daemon(tmp_path, told)
    daemon.write_config()
    assert prioritizer("migrate", "--config", str(config), cwd=tmp_path).returncode == 0
    first, second, third = (next(NUMBERS) for _ in range(3))
    with running_daemon(tmp_path, told) as daemon:
        sends(daemon, phantom(tmp_path, first))
        daemon.wait_scored(phantom_study_uid(first))
        postgres.stop()
        sends(daemon, phantom(tmp_path, second))
        code, page = daemon.get("/")
        assert (code, "Studies are still received" in page) == (503, True)
        assert daemon.get("/healthz")[0] == 200
        assert daemon.get("/readyz")[0] == 503
        assert "prioritizer_ledger_up 0.0" in daemon.get("/metrics")[1]
        assert daemon.cli("worklist", "--json").returncode == 6

        assert "database does not answer" in daemon.get("/readyz")[1]

        daemon.kill()
        daemon.start(ready=False)  # it starts without its database, too
        sends(daemon, phantom(tmp_path, third))
        postgres.start()
        daemon.wait_scored(*(phantom_study_uid(number) for number in (first, second, third)))
        wait_until(lambda: daemon.get("/readyz")[0] == 200, "the daemon is ready again")
        assert daemon.events("worker-fault") == []
        assert daemon.stop() == 0


def test_a_broken_bundle_leaves_a_list_of_stat_and_arrival_that_says_so(tmp_path: Path) -> None:
    bundle = raising_bundle(tmp_path)
    golden = bytearray((bundle / "golden.npz").read_bytes())
    golden[-1] ^= 1
    (bundle / "golden.npz").write_bytes(golden)
    with running_daemon(tmp_path, sections(model={"bundle": str(bundle)}), ready=False) as daemon:
        early, late, urgent = (next(NUMBERS) for _ in range(3))
        sends(daemon, phantom(tmp_path, early))
        sends(daemon, phantom(tmp_path, late))
        sends(daemon, phantom(tmp_path, urgent, changes={"RequestedProcedurePriority": "STAT"}))
        daemon.wait_listed(*(phantom_study_uid(number) for number in (early, late, urgent)))
        assert [row["study_uid"] for row in daemon.listed()] == [phantom_study_uid(number) for number in (urgent, early, late)]
        code, told = daemon.get("/readyz")
        assert (code, "digest differs" in told) == (503, True)
        assert "AI is off" in daemon.get("/")[1]
        assert "prioritizer_ai_on 0.0" in daemon.get("/metrics")[1]


def test_another_bundle_scores_the_open_studies_again(tmp_path: Path) -> None:
    with running_daemon(tmp_path, sections()) as daemon:
        number = next(NUMBERS)
        sends(daemon, phantom(tmp_path, number, plain=True))
        daemon.wait_scored(phantom_study_uid(number))
        assert [(row["ai_state"], row["band"]) for row in daemon.listed()] == [("SCORED", "NEUTRAL")]
        daemon.stop()
        daemon.sections["model"] = {**daemon.sections.get("model", {}), "bundle": str(raising_bundle(tmp_path))}
        daemon.write_config()
        daemon.start()
        assert daemon.events("bundle-changed")
        wait_until(lambda: [(row["ai_state"], row["band"]) for row in daemon.listed()] == [("SCORED", "HIGH")], "the new bundle raised it")
        told = daemon.cli("worklist", "--why", phantom_study_uid(number)).stdout
        assert "stale model, scored by bundle" in " ".join(told.split())


# --- nobody is told ------------------------------------------------------------------------------------------------


def test_the_daemon_connects_to_nothing_beyond_its_configured_peers(tmp_path: Path) -> None:
    (tmp_path / "watch").mkdir()
    (tmp_path / "watch" / "sitecustomize.py").write_text(WATCH)
    watched, port = tmp_path / "watched.txt", free_port()
    environment = {"PYTHONPATH": str(tmp_path / "watch"), "WATCH_FILE": str(watched)}
    with (
        running_pacs("PACS", "127.0.0.1", port) as pacs,
        running_daemon(tmp_path, sections(port, "PACS"), **environment) as daemon,
    ):
        a_film_is_scored(daemon, tmp_path)
        assert pacs.wait_for(1, 60)
        daemon.stop()
    lines = watched.read_text().splitlines()
    assert any(line.startswith("inside socket.connect") for line in lines)
    assert not [line for line in lines if line.startswith("OUTSIDE")]


def test_the_figures_parse_and_hold_no_patient(daemon: Daemon, tmp_path: Path) -> None:
    a_film_is_scored(daemon, tmp_path)
    _, body = daemon.get("/metrics")
    figures = {family.name: [sample.value for sample in family.samples] for family in text_string_to_metric_families(body)}
    assert figures["prioritizer_ai_on"] == [1.0]
    assert figures["prioritizer_studies_open"][0] >= 1
    assert "PHANTOM" not in body


def test_the_log_holds_uids_and_no_patient(daemon: Daemon, tmp_path: Path) -> None:
    study = a_film_is_scored(daemon, tmp_path)
    assert study in [event["study"] for event in daemon.events("scored")]
    assert "PHANTOM" not in daemon.log()


# --- the unit ------------------------------------------------------------------------------------------------------


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The shipped unit, with a program that exists here."""
    target = tmp_path / "prioritizer.service"
    shipped = (REPOSITORY / "systemd" / "prioritizer.service").read_text()
    target.write_text(re.sub(r"(?m)^ExecStart=.*$", f"ExecStart={shutil.which('true')}", shipped))
    return target


def test_systemd_finds_nothing_to_say_against_the_unit(unit: Path) -> None:
    done = subprocess.run([program("systemd-analyze"), "verify", str(unit)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_unit_exposes_no_more_than_1_2(unit: Path) -> None:
    command = [program("systemd-analyze"), "security", "--offline=true", "--no-pager", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    assert found, done.stdout + done.stderr
    assert float(found[1]) <= 1.2
