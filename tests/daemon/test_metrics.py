"""What Prometheus scrapes: counters that only rise, gauges of this moment, and how long the queues wait."""

from __future__ import annotations

import errno
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from prioritizer.daemon import listener_process
from prioritizer.daemon.listener_process import ListenerProcess
from prioritizer.daemon.metrics import LedgerCollector, exposition
from prioritizer.dicom.scp.listener import ListenerSettings
from prioritizer.web.http.backend import SpoolState
from tests.support.ledgers import NOW, film, receive


def settings_of(folder: Path) -> ListenerSettings:
    return ListenerSettings(spool=str(folder / "spool"), port=0, counters_seconds=0.1)


@pytest.fixture(name="listener")
def _listener(tmp_path: Path) -> Iterator[ListenerProcess]:
    process = ListenerProcess(settings_of(tmp_path))
    process.start()
    yield process
    process.stop()


def until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def connect_once(listener: ListenerProcess) -> None:
    until(listener.listening.is_set, "it listens")
    with socket.create_connection(("127.0.0.1", listener.port), timeout=5):
        pass


def end(listener: ListenerProcess) -> None:
    """Kill it as a fault of its own would."""
    process = listener._process
    assert process is not None
    os.kill(process.pid, signal.SIGKILL)


def test_a_restart_that_was_ordered_is_no_fault_and_one_that_was_not_is(listener: ListenerProcess, tmp_path: Path):
    connect_once(listener)
    first = listener._process
    listener.restart(settings_of(tmp_path))
    until(lambda: listener._process is not first and listener.listening.is_set(), "it was started again")
    assert listener.restarts == 0
    end(listener)
    until(lambda: listener.restarts == 1, "a fault is counted, also after an ordered restart")


def test_what_the_listener_counted_is_kept_when_it_is_started_again(listener: ListenerProcess):
    connect_once(listener)
    until(lambda: listener.counters.get("connections") == 1, "the connection is counted")
    end(listener)
    until(lambda: listener.restarts == 1, "it was started again")
    assert listener.counters["connections"] == 1
    connect_once(listener)
    until(lambda: listener.counters["connections"] == 2, "both are counted")


def test_a_listener_that_the_machine_could_not_start_is_started_once_it_can(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    tries: list[float] = []

    def no_memory(*_: object, **__: object) -> None:
        tries.append(time.monotonic())
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    monkeypatch.setattr(listener_process, "FIRST_WAIT_S", 0.2)
    listener = ListenerProcess(settings_of(tmp_path))
    try:
        with monkeypatch.context() as without_memory:
            without_memory.setattr(listener_process.subprocess, "Popen", no_memory)
            listener.start()
            until(lambda: len(tries) == 3, "it is tried again")
            assert not listener.alive
        assert tries[2] - tries[1] > tries[1] - tries[0], "ever later"
        connect_once(listener)
        assert (listener.alive, listener.restarts) == (True, 0)
        with monkeypatch.context() as without_memory:
            without_memory.setattr(listener_process.subprocess, "Popen", no_memory)
            end(listener)
            until(lambda: len(tries) == 5, "it ended, and cannot be started")
            assert not listener.alive
        connect_once(listener)
        assert listener.alive
    finally:
        listener.stop()


def scraped(ledger: sa.Engine, **other: Any) -> str:
    counted = {"stored": 3, "bytes": 4096, "associations": 2, "pending": 1}
    return exposition(LedgerCollector(ledger, lambda: counted, lambda: True, lambda: True, **other)).decode()


def test_counts_are_counters_and_what_is_open_now_is_a_gauge(ledger: sa.Engine):
    text = scraped(ledger)
    assert "# TYPE prioritizer_listener_stored_total counter" in text
    assert "prioritizer_listener_bytes_total 4096.0" in text
    assert "# TYPE prioritizer_listener_associations gauge" in text
    assert "prioritizer_listener_pending 1.0" in text
    assert "prioritizer_listener_stored " not in text


def test_the_disk_and_the_age_of_each_queue_are_told(ledger: sa.Engine):
    receive(ledger, film(1, "1.2.1", NOW - timedelta(minutes=7)))
    room = SpoolState(free_bytes=1 << 30, free_share=0.5, inbox=1, oldest=NOW - timedelta(seconds=90))
    text = scraped(ledger, room=lambda: room, now=lambda: NOW)
    assert "prioritizer_spool_free_bytes 1.073741824e+09" in text
    assert 'prioritizer_queue_oldest_seconds{queue="inbox"} 90.0' in text
    assert 'prioritizer_queue_oldest_seconds{queue="scoring"} 420.0' in text


def test_a_disk_that_does_not_answer_leaves_the_other_figures(ledger: sa.Engine):
    def broken() -> SpoolState:
        raise OSError(5, "Input/output error")

    text = scraped(ledger, room=broken)
    assert "prioritizer_spool_free_bytes" not in text
    assert "prioritizer_ledger_up 1.0" in text
