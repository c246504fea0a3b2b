"""kill -9 at every step from the first byte received to the delivery: what was acknowledged survives, and the PACS gets it once."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest

from prioritizer.db.schema import connect, migrations
from prioritizer.db.worklist import rows as worklist_rows
from prioritizer.db.worklist import study
from prioritizer.dicom.read import sandboxed
from prioritizer.dicom.spool.spool import Spool
from prioritizer.dicom.stand_ins.pacs import PacsStandIn, running_pacs
from prioritizer.inference.bundle import open_bundle
from prioritizer.inference.engine import Engine
from prioritizer.states import DeliveryState, InstanceState
from tests.support.daemons import (
    REPOSITORY,
    free_port,
    phantom,
    phantom_study_uid,
    running_daemon,
    running_postgres,
    sections,
    storescu,
)
from tests.support.pipeline_killed_at_step import Film

MAX_STEPS = 400
"""Far more than the chain has; a walk that long has lost its way."""


@dataclass
class Life:
    """What one process told before it ended, and what it left on disk and in the ledger."""

    events: list[dict[str, Any]]
    killed: bool

    @property
    def acknowledged(self) -> bool:
        return any(event["event"] == "acknowledged" for event in self.events)

    @property
    def fault(self) -> str:
        return next((event["said"] for event in self.events if event["event"] == "fault"), "")

    @property
    def last_step(self) -> str:
        return next((event["at"] for event in self.events if event["event"] == "killed"), "")


@dataclass
class Death:
    """One walk to step k, and the life after it."""

    step: int
    first: Life
    held: bytes | None
    """The data set that lay in the spool after the kill; None when there was none."""
    second: Life
    states: list[str] = field(default_factory=list)
    deliveries: list[str] = field(default_factory=list)
    published: set[str] = field(default_factory=set)


class Forge:
    """The program of pipeline_killed_at_step.py, which forks one process for each job."""

    def __init__(self, film: Path, outputs: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.pipeline_killed_at_step", str(film), str(outputs)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=REPOSITORY,
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        )

    def __enter__(self) -> Self:
        self._answer()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(timeout=30)
        self._process.stdout.close()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the forge ended"
        return dict(json.loads(line))

    def live(self, folder: Path, url: str, port: int, *, kill_at: int | None, send: bool) -> Life:
        assert self._process.stdin is not None
        job = {"folder": str(folder), "url": url, "port": port, "kill_at": kill_at, "send": send}
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        return Life(**self._answer())


@dataclass
class Bench:
    """A film, what the real engine says of it, a PACS, and the process that forks others."""

    film: Film
    forge: Forge
    pacs: PacsStandIn
    port: int

    def die_and_live(self, folder: Path, url: str, step: int) -> Death:
        """One process killed at `step`, a look at what it left, and one that recovers; it sends again only what was not acknowledged."""
        self.pacs.received.clear()
        first = self.forge.live(folder, url, self.port, kill_at=step, send=True)
        left = Spool(folder / "spool").find(self.film.receipt.sop_instance_uid)
        held = left.read_bytes() if left else None
        second = self.forge.live(folder, url, self.port, kill_at=None, send=not first.acknowledged)
        death = Death(step, first, held, second)
        engine = connect.open_ledger(url)
        for row in worklist_rows.rows(engine):
            death.states += [instance.state for instance in study.study_instances(engine, row.study_uid)]
            death.deliveries += [delivery.state for delivery in worklist_rows.unfinished_deliveries(engine, row.study_uid)]
        engine.dispose()
        death.published = set(self.pacs.received)
        return death


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("bench")
    path = phantom(folder, 1, rows=128, columns=112)
    bundle = open_bundle(None)
    outputs = Engine(bundle, threads=1).score(sandboxed.model_picture(path, bundle.preprocessing))
    np.savez(folder / "outputs.npz", logit=outputs.logit, saliency=outputs.saliency, embedding=outputs.embedding)
    port = free_port()
    with running_pacs("PACS", "127.0.0.1", port) as pacs, Forge(path, folder / "outputs.npz") as forge:
        yield Bench(Film.read(path), forge, pacs, port)


@pytest.fixture(scope="module")
def walk(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> list[Death]:
    """Killed at step 1, at step 2 and so on, each in a folder of its own, until a process comes through alive."""
    folder = tmp_path_factory.mktemp("walk")
    connect_and_migrate(f"sqlite:///{folder / 'empty.sqlite3'}")
    deaths: list[Death] = []
    for step in range(1, MAX_STEPS):
        place = folder / str(step)
        place.mkdir()
        shutil.copy(folder / "empty.sqlite3", place / "ledger.sqlite3")
        death = bench.die_and_live(place, f"sqlite:///{place / 'ledger.sqlite3'}", step)
        deaths.append(death)
        if not death.first.killed:
            return deaths
    pytest.fail("the chain never came through alive")


def connect_and_migrate(url: str) -> None:
    engine = connect.open_ledger(url)
    migrations.upgrade(engine)
    engine.dispose()  # with its last connection SQLite folds the journal into the file


def test_the_walk_passes_every_kind_of_step(walk: list[Death]) -> None:
    passed = {death.first.last_step for death in walk}
    for name in ("write", "fsync", "link", "unlink", "do_commit", "send_c_store", "send"):
        assert {step.rpartition(".")[0].split()[0] for step in passed if step.endswith(f".{name}")} == {"before", "after"}, name
    assert len(walk) > 40
    assert [death.first.killed for death in walk] == [True] * (len(walk) - 1) + [False]


def test_no_life_meets_a_fault_of_our_own(walk: list[Death]) -> None:
    assert not {(death.first.last_step, life.fault) for death in walk for life in (death.first, death.second) if life.fault}


def test_what_was_acknowledged_lies_whole_in_the_spool(walk: list[Death], bench: Bench) -> None:
    acknowledged = [death for death in walk if death.first.acknowledged]
    assert acknowledged
    assert all(death.held is not None and death.held.endswith(bench.film.data) for death in acknowledged)


def test_what_was_not_acknowledged_lies_whole_or_not_at_all_and_may_be_sent_again(walk: list[Death], bench: Bench) -> None:
    others = [death for death in walk if not death.first.acknowledged]
    assert others
    assert all(death.held is None or death.held.endswith(bench.film.data) for death in others)
    outcomes = [event["outcome"] for death in others for event in death.second.events if event["event"] == "acknowledged"]
    assert len(outcomes) == len(others)
    assert set(outcomes) == {"stored", "duplicate"}


def test_the_next_life_scores_it_whenever_the_first_was_killed(walk: list[Death]) -> None:
    assert {death.step: death.states for death in walk if death.states != [InstanceState.SCORED]} == {}


def test_the_next_life_delivers_it(walk: list[Death]) -> None:
    assert {death.step: death.deliveries for death in walk if death.deliveries != [DeliveryState.SENT]} == {}


def test_the_pacs_holds_one_result_over_both_lives(walk: list[Death]) -> None:
    assert {death.first.last_step: len(death.published) for death in walk if len(death.published) != 1} == {}


def test_on_postgres_a_kill_around_each_commit_loses_nothing(bench: Bench, walk: list[Death], tmp_path: Path) -> None:
    around_commits = [death.step for death in walk if "do_commit" in death.first.last_step]
    with running_postgres() as server:
        for number, step in enumerate(around_commits[::3]):
            place = tmp_path / str(step)
            place.mkdir()
            url = server.database(f"kill{number}")
            connect_and_migrate(url)
            death = bench.die_and_live(place, url, step)
            assert not death.second.fault
            assert (death.states, death.deliveries, len(death.published)) == ([InstanceState.SCORED], [DeliveryState.SENT], 1), step


# --- the real daemon -------------------------------------------------------------------------------------------


@contextmanager
def in_background(work: Any) -> Iterator[None]:
    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        thread.join()


@pytest.mark.timeout(400)
def test_a_daemon_killed_five_times_under_load_lists_scores_and_publishes_every_film_once(tmp_path: Path) -> None:
    (tmp_path / "films").mkdir()
    films = [phantom(tmp_path / "films", number) for number in range(1, 21)]
    studies = [phantom_study_uid(number) for number in range(1, 21)]
    acknowledged: dict[str, bool] = {str(film): False for film in films}
    rng, port = random.Random(), free_port()

    def send_the_rest() -> None:
        rest = [film for film in films if not acknowledged[str(film)]]
        # Four at a time, so that the kill finds films at every stage and not twenty in the inbox.
        for at in range(0, len(rest), 4):
            acknowledged.update(storescu(daemon, *rest[at : at + 4]))

    with running_pacs("PACS", "127.0.0.1", port) as pacs, running_daemon(tmp_path, sections(port, "PACS")) as daemon:
        for _ in range(5):
            with in_background(send_the_rest):
                time.sleep(rng.uniform(0.1, 2.0))
                daemon.kill()
            daemon.start()
        send_the_rest()
        assert all(acknowledged.values())
        daemon.wait_scored(*studies)
        daemon.wait_sent(*studies)
        published = [str(result.StudyInstanceUID) for result in pacs.received.values()]
        assert sorted(published) == sorted(studies)
        assert len(daemon.listed()) == 20
