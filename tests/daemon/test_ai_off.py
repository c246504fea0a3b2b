"""AI goes off while the daemon runs: no station ends over it, and nothing new is raised."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from prioritizer.config.sections import Store
from prioritizer.config.settings import Settings
from prioritizer.daemon.daemon import Daemon
from prioritizer.daemon.receive import ReceiveWorker
from prioritizer.errors import ModelError
from prioritizer.inference.bundle import open_bundle
from prioritizer.inference.sandbox import Sandbox


@pytest.fixture
def supervisor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What systemd is to the daemon: a datagram socket to notify."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield


@pytest.mark.usefixtures("supervisor")
def test_ai_that_goes_off_while_running_ends_no_worker_and_moves_nothing_up_any_more(tmp_path: Path) -> None:
    settings = Settings(store=Store(data=tmp_path))
    daemon = Daemon(settings, None)
    daemon.sandbox, daemon.bundle, daemon.ai_off = Sandbox(0), open_bundle(None), ""
    daemon.ledger.start()
    daemon.ledger.await_database()
    daemon.workers.build()
    (receive,) = (work for work in daemon.workers.works if isinstance(work, ReceiveWorker))
    assert receive.policy.ranking.t_high <= 1
    daemon.workers.start()
    try:
        daemon.turn_ai_off(ModelError("the network answered nan", "Run `prioritizer check`"))
        assert "nan" in daemon.ai_off
        assert receive.policy.ranking.t_high > 1
        assert any("nan" in said for said in daemon.ready())
        assert daemon.workers.are_alive()
    finally:
        daemon.drain()
        daemon.notifier.socket.close()
