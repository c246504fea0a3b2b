"""Fixtures of more than one folder, and how Hypothesis explores.

What a fixture needs is imported when it is asked for: a test with none of them waits for no database, DICOM library or browser.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

# Several workers with as many threads each wait for one another, spinning; read before numpy and torch are imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    import sqlalchemy as sa
    from playwright.sync_api import Browser

    from tests.support.pacs import Orthanc

# Hypothesis explores on a developer's machine and repeats the same examples in CI: a landing does not depend on luck.
settings.register_profile("ci", derandomize=True, deadline=None)
settings.register_profile("here", deadline=None)
settings.load_profile("here")
if os.environ.get("CI"):
    settings.load_profile("ci")


@pytest.fixture(params=("sqlite", "postgres"))
def ledger(request: pytest.FixtureRequest) -> Iterator[sa.Engine]:
    """An empty ledger at the newest revision, once on each database."""
    from tests.support.ledgers import empty_ledger

    with empty_ledger(request.param) as engine:
        yield engine


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium without a window. It is asked for nothing outside this machine."""
    from tests.support.browsers import running_browser

    with running_browser() as chromium:
        yield chromium


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    """A running Orthanc with an empty database."""
    from tests.support.pacs import empty_orthanc

    with empty_orthanc(tmp_path_factory.mktemp("orthanc")) as peer:
        yield peer


@pytest.fixture
def storescp(tmp_path: Path) -> Iterator[tuple[int, Path]]:
    """DCMTK's storescp, accepting all it knows, writing byte for byte: (port, folder)."""
    from tests.support.pacs import running_storescp

    folder = tmp_path / "received"
    folder.mkdir()
    with running_storescp(folder) as port:
        yield port, folder
