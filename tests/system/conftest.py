"""A reading room with a daemon of its own, as browsers meet it; a file may furnish another."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from tests.support.reading_room import Room


@pytest.fixture(scope="module")
def room(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    """Two readers, a physicist and an administrator; no study yet."""
    from playwright.sync_api import expect

    from prioritizer.access import Role
    from tests.support.daemons import running_daemon, sections
    from tests.support.reading_room import SLOW_MS, Room

    expect.set_options(timeout=SLOW_MS)
    with running_daemon(tmp_path_factory.mktemp("daemon"), sections()) as daemon:
        found = Room(daemon, browser, tmp_path_factory.mktemp("films"))
        found.let_in("ito")
        found.let_in("berg")
        found.let_in("physik", Role.PHYSICIST)
        found.let_in("admin", Role.ADMIN)
        yield found
