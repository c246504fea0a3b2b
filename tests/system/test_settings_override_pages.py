"""The pages of settings overrides in a real browser before a running daemon: without a script, on a telephone, and for who cannot see them."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from prioritizer.access import Role
from tests.support.browsers import is_accessible
from tests.support.daemons import running_daemon, sections
from tests.support.reading_room import SLOW_MS, Room


@pytest.fixture(scope="module")
def room(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    expect.set_options(timeout=SLOW_MS)
    with running_daemon(tmp_path_factory.mktemp("daemon"), sections()) as daemon:
        found = Room(daemon, browser, tmp_path_factory.mktemp("films"))
        found.let_in("admin", Role.ADMIN)
        yield found


def try_deadline(page: Page, minutes: int) -> None:
    """Fill in another deadline of raised studies and look at what it would do."""
    page.goto("/rules")
    page.get_by_label("Deadline of a raised study, minutes").fill(str(minutes))
    page.get_by_label("Reason").fill("a trial")
    page.get_by_role("button", name="Simulate: nothing is saved").click(timeout=SLOW_MS)
    expect(page.get_by_role("region", name="Simulated effect")).to_contain_text("order of arrival", timeout=SLOW_MS)


def test_without_a_script_a_ruling_is_tried_proposed_activated_and_ended(room: Room) -> None:
    with room.signed_in("admin", java_script_enabled=False) as page:
        try_deadline(page, 17)
        effect = page.get_by_role("region", name="Simulated effect")
        expect(effect).to_contain_text("in force now")
        expect(effect).to_contain_text("open studies would stand elsewhere")
        page.get_by_role("button", name="Propose this settings override").click()
        page.wait_for_url(re.compile(r"/rules/\d+$"))
        page.get_by_role("button", name="Activate").click()
        expect(page.get_by_role("status")).to_contain_text("is in force (change")
        page.goto("/system")
        expect(page.get_by_text("17 min")).to_be_visible()
        page.goto("/rules")
        page.get_by_role("button", name="End the settings override").click()
        expect(page.get_by_role("status")).to_contain_text("The configuration alone is in force")


def test_what_was_tried_fits_on_a_telephone_and_axe_finds_no_violation(room: Room) -> None:
    for width in (390, 1280):
        with room.signed_in("admin", viewport={"width": width, "height": 800}) as page:
            try_deadline(page, 19)
            assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0
            is_accessible(page)
            page.get_by_role("button", name="Propose this settings override").click()
            page.wait_for_url(re.compile(r"/rules/\d+$"))
            assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0
            is_accessible(page)
            page.get_by_role("button", name="Reject permanently").click()
            page.wait_for_url(re.compile(r"/rules$"))


def test_a_threshold_is_asked_for_and_its_report_shows_the_simulated_effect(room: Room) -> None:
    with room.signed_in("admin") as page:
        page.goto("/calibrations")
        page.get_by_label("Raise from a probability of").fill("0.4321")
        page.get_by_role("button", name="Make a candidate").click(timeout=SLOW_MS)
        page.wait_for_url(re.compile("/calibrations/threshold-"), timeout=SLOW_MS)
        expect(page.get_by_text("raised from a probability of 0.4321 instead of")).to_be_visible()
        page.get_by_role("link", name="read it").click()
        expect(page.get_by_role("heading", name="Simulated effect")).to_be_visible()
