"""A real browser: Debian's Chromium, driven by Playwright."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Error, Page, sync_playwright

from tests.support.pacs import REQUIRED


@contextmanager
def running_browser() -> Iterator[Browser]:
    """Chromium without a window. It is asked for nothing outside this machine."""
    chromium = shutil.which("chromium")
    if chromium is None:
        (pytest.fail if REQUIRED else pytest.skip)("chromium is not installed")
    quiet = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update"]
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=quiet)
        yield browser
        browser.close()


@contextmanager
def context_of(browser: Browser, **traits: Any) -> Iterator[BrowserContext]:
    """A browser of one's own. Its pages are taken off their way before it ends: Chromium may never answer a close that meets a
    page which arrives (microsoft/playwright issues 41900 and 42366)."""
    context = browser.new_context(**traits)
    try:
        yield context
    finally:
        for page in context.pages:
            for _ in range(10):
                with suppress(Error):  # interrupted by the page that arrived meanwhile
                    page.goto("about:blank")
                    break
        context.close()


def is_accessible(page: Page) -> None:
    """Axe finds no violation of the page as it stands, dark and light."""
    grounds = set()
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        grounds.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        found = Axe().run(page)
        assert found.violations_count == 0, f"{page.url}, {scheme}: {found.generate_report()}"
    assert len(grounds) == 2, "dark and light are two"
