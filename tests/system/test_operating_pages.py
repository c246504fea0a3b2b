"""The operator's and the physicist's pages in a real browser before a running daemon: failed work, a candidate's effect, the way back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from prioritizer.access import Role
from prioritizer.db.activity import queues
from tests.support.browsers import is_accessible
from tests.support.daemons import phantom, phantom_study_uid, prioritizer, running_daemon, sections, sends, wait_until
from tests.support.reading_room import NUMBERS, SLOW_MS, Room


@pytest.fixture(scope="module")
def room(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    expect.set_options(timeout=SLOW_MS)
    with running_daemon(tmp_path_factory.mktemp("daemon"), sections()) as daemon:
        found = Room(daemon, browser, tmp_path_factory.mktemp("films"))
        found.let_in("admin", Role.ADMIN)
        yield found


def failed(room: Room) -> str:
    """A study whose image cannot be read."""
    number = next(NUMBERS)
    sends(room.daemon, phantom(room.folder, number, changes={"PhotometricInterpretation": "PALETTE COLOR"}))
    study = phantom_study_uid(number)
    wait_until(lambda: study in failed_now(room), "the image with a wrong High Bit has failed")
    return study


def failed_now(room: Room) -> list[str]:
    return [one.study_uid for one in queues.failed_instances(room.daemon.ledger, 50).rows]


def is_sound(page: Page) -> None:
    """Nothing lies beyond the edge, and axe finds nothing."""
    assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0
    is_accessible(page)


def test_failed_images_are_scored_again_all_at_once_or_discarded_without_a_script(room: Room) -> None:
    first, second = failed(room), failed(room)
    with room.signed_in("admin", java_script_enabled=False) as page:
        page.goto("/system")
        page.get_by_role("button", name="Score all again").click()
        expect(page.get_by_role("status")).to_contain_text("2 images wait for a score again")
        wait_until(lambda: {first, second} <= set(failed_now(room)), "they have failed again, for the same reason")
        page.goto("/system")
        row = page.get_by_role("row").filter(has_text=first)
        row.get_by_placeholder("why").fill("a broken detector")
        row.get_by_role("button", name="Discard").click()
        expect(page.get_by_role("row").filter(has_text=second)).to_be_visible()
        expect(page.get_by_role("row").filter(has_text=first)).to_have_count(0)
        page.goto(f"/study/{first}")
        expect(page.locator("main")).to_contain_text("discarded: a broken detector")
    assert first in {row["study_uid"] for row in room.daemon.studies()}, "it stays on the list"


def test_a_stranger_is_told_what_was_expected_and_the_card_of_the_bundle_is_whole(room: Room) -> None:
    stranger = f"RADIOLOGY@127.0.0.1:{room.daemon.port}"
    prioritizer("send", str(phantom(room.folder, next(NUMBERS))), "--to", stranger, "--from", "DX-ED-1", cwd=room.daemon.folder)
    with room.signed_in("admin") as page:

        def told() -> bool:
            page.goto("/system")
            return page.get_by_text("called as DX-ED-1 from 127.0.0.1; expected MODALITY").count() == 1

        wait_until(told, "the refusal is told on the page")
        expect(page.get_by_text("ROC-AUC", exact=True)).to_be_visible()
        expect(page.get_by_text("0.902 (0.852 to 0.948)")).to_be_visible()
        expect(page.get_by_text("CC BY 4.0").first).to_be_visible()
        page.get_by_role("link", name="conformance statement").click()
        page.wait_for_url("**/conformance")


@pytest.mark.parametrize("width", [390, 1280])
def test_the_effect_of_a_candidate_and_the_way_back_are_shown_before_they_are_taken(room: Room, width: int) -> None:
    failed(room)
    studies = [room.film(plain=True), room.film(opacity=True)]
    name = room.candidate(0.01)
    with room.signed_in("admin", viewport={"width": width, "height": 800}) as page:
        page.goto("/system")
        is_sound(page)
        page.goto(f"/calibrations/{name}")
        effect = page.get_by_role("region", name="Effect on the list")
        expect(effect).to_contain_text("would be")
        expect(effect).to_contain_text("nothing is written")
        is_sound(page)
        page.get_by_role("button", name="Activate").click()
        expect(page.get_by_role("status")).to_contain_text("is in force")
        page.get_by_role("link", name="Calibrations").click()
        page.get_by_role("button", name="Go back to the bundle's own").click()
        effect = page.get_by_role("region", name="Effect of going back")
        expect(effect).to_contain_text(f"{name} is retired")
        is_sound(page)
        assert {row["band"] for row in room.daemon.studies() if row["study_uid"] in studies} == {"HIGH"}, "nothing is changed until then"
        effect.get_by_role("button", name="Go back to").click()
        expect(page.locator("main")).not_to_contain_text(f"In force: {name}")
