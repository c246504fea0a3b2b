"""AI goes off while the daemon runs: no station ends over it, and nothing new is raised."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from prioritizer.config.policy import policy_of, quiet_of
from prioritizer.config.settings import Settings, Store
from prioritizer.daemon.daemon import Daemon
from prioritizer.daemon.worker import Receive
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
def test_ai_that_goes_off_while_running_ends_no_station_and_raises_nothing_more(tmp_path: Path) -> None:
    settings, bundle = Settings(store=Store(data=tmp_path)), open_bundle(None)
    daemon = Daemon(settings, None)
    daemon._prepare_ledger()
    daemon.sandbox = Sandbox(0)
    receive = Receive(engine=daemon.engine, spool=daemon.spool, policy=policy_of(settings, bundle), quiet=quiet_of(settings))
    daemon._works = [receive, daemon._publisher(bundle)]
    assert receive.policy.t_high <= 1
    daemon.turn_ai_off(ModelError("the network answered nan", "Run `prioritizer check`"))
    assert "nan" in daemon.ai_off
    assert receive.policy.t_high > 1
    daemon.engine.dispose()
    daemon._notifier.socket.close()
