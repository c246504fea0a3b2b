"""The listener under test, in a process of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.listener_process import ListenerProcess


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[ListenerProcess]:
    """A listener that trusts MODALITY from this machine."""
    process = ListenerProcess(tmp_path / "spool")
    yield process
    process.kill()
