"""A real browser: Debian's Chromium, driven by Playwright. The fixture is imported by name."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.edges.pacs import REQUIRED


@pytest.fixture(name="browser", scope="module")
def browser_fixture() -> Iterator[Browser]:
    """Chromium without a window. It is asked for nothing outside this machine."""
    chromium = shutil.which("chromium")
    if chromium is None:
        (pytest.fail if REQUIRED else pytest.skip)("chromium is not installed")
    quiet = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update"]
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=quiet)
        yield browser
        browser.close()
