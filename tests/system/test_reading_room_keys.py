"""Keys, clocks and tabs of the reading room in a real browser: what slips reads nothing unseen, and what runs is told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from playwright.sync_api import Browser, Page, expect

from prioritizer.access import Role
from prioritizer.clock import utc_now
from prioritizer.db.accounts import people
from prioritizer.db.audit import audit_log
from prioritizer.db.worklist import feedback, reading, rows
from tests.support.browsers import is_accessible
from tests.support.daemons import running_daemon, sections, wait_until
from tests.support.reading_room import NUMBERS, PASSWORD, Room

SLOW_MS = 30_000
SMALL = """() => [...document.querySelectorAll("a, button, summary, input, select, textarea")].filter((one) => {
    const box = one.getBoundingClientRect();
    const inline = getComputedStyle(one).display === "inline";  // a link within a sentence may be as high as its line (WCAG 2.5.8)
    return box.width > 1 && box.height > 0 && box.height < 23.5 && !inline && one.type !== "checkbox" && box.right > 0;
}).map((one) => `${one.outerHTML.slice(0, 80)} ${one.getBoundingClientRect().height}`)"""


@pytest.fixture(scope="module")
def room(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    expect.set_options(timeout=SLOW_MS)
    with running_daemon(tmp_path_factory.mktemp("daemon"), sections()) as daemon:
        found = Room(daemon, browser, tmp_path_factory.mktemp("films"))
        found.let_in("ito")
        found.let_in("admin", Role.ADMIN)
        for _ in range(5):
            found.film()
        yield found


def looked(page: Page) -> None:
    page.locator("html[data-looked]").wait_for(state="attached", timeout=SLOW_MS)


def done(room: Room, actor: str, kind: str) -> int:
    return len(audit_log.entries(room.daemon.ledger, audit_log.AuditFilter(actor=actor, kind=kind), 100))


@pytest.mark.parametrize("pause", [0, 120, 400])
def test_however_often_enter_is_pressed_no_study_is_read_that_was_not_looked_at(room: Room, pause: int) -> None:
    for _ in range(3):
        room.film()
    who = f"quick{pause}"
    room.let_in(who)
    with room.signed_in(who) as page:
        page.locator("html[data-ready]").wait_for(state="attached")
        page.keyboard.press("n")
        looked(page)
        for _ in range(6):
            page.keyboard.press("Enter")
            page.wait_for_timeout(pause)
        wait_until(lambda: done(room, who, "read") >= 1, "one is read")
    for entry in audit_log.entries(room.daemon.ledger, audit_log.AuditFilter(actor=who, kind="read"), 100):
        opened = audit_log.entries(
            room.daemon.ledger, audit_log.AuditFilter(actor=who, kind="opened", study_uid=entry.study_uid or ""), 100
        )
        assert (entry.at - opened[-1].at).total_seconds() > 0.7, "a press that was meant for the study before"


def test_a_note_and_the_window_stay_when_a_key_loads_the_page_again(room: Room) -> None:
    study = room.film()
    with room.signed_in("ito") as page:
        page.goto(f"/study/{study}")
        looked(page)
        figure = page.locator("figure.film")
        first = figure.get_attribute("data-window")
        for key in (".", "k", "+"):
            page.keyboard.press(key)
        page.wait_for_function("before => document.querySelector('figure.film').dataset.window !== before", arg=first)
        page.wait_for_timeout(100)
        window, scale = figure.get_attribute("data-window"), figure.get_attribute("data-scale")
        low, high = (float(value) for value in str(window).split())
        before = [float(value) for value in str(first).split()]
        assert high - low < before[1] - before[0], "k gives more contrast"
        page.get_by_label("Note").fill("left base")
        page.get_by_label("Note").blur()
        page.keyboard.press("h")
        page.locator(".gauge").wait_for()
        looked(page)
        assert (figure.get_attribute("data-window"), figure.get_attribute("data-scale")) == (window, scale)
        assert page.get_by_label("Note").input_value() == "left base"
        page.keyboard.press("Enter")
        expect(page.locator("main")).to_contain_text("your note is not kept yet")
        assert rows.study(room.daemon.ledger, study).reading_state != "READ"
        page.go_back()
        looked(page)
        page.keyboard.press("y")
        expect(page.locator("main")).to_contain_text("You said: present")
    word = feedback.standing_of(room.daemon.ledger, study, "ito")
    assert word is not None
    assert word.note == "left base"


def test_a_note_that_was_typed_is_shown_to_nobody_else_at_this_screen(room: Room) -> None:
    study = room.film()
    with room.signed_in("ito") as page:
        page.goto(f"/study/{study}")
        looked(page)
        page.get_by_label("Note").fill("left base")
        page.get_by_role("button", name="Sign out").click()
        for name, note in (("admin", ""), ("ito", "left base")):
            page.get_by_label("Name").fill(name)
            page.get_by_label("Password").fill(PASSWORD)
            page.get_by_role("button", name="Sign in").click()
            page.wait_for_url(f"{room.url}/")
            page.goto(f"/study/{study}")
            looked(page)
            assert page.get_by_label("Note").input_value() == note
            page.get_by_role("button", name="Sign out").click()


def test_deadlines_are_counted_down_where_they_stand(room: Room) -> None:
    with room.signed_in("ito") as page:
        due = page.locator("#rows .due[data-due]").first
        page.evaluate("""() => {
            const due = document.querySelector("#rows .due[data-due]");
            due.dataset.due = new Date(Date.now() + 2000).toISOString();
        }""")
        before = page.locator("#rows > tr[data-uid]").evaluate_all("rows => rows.map((row) => row.dataset.uid)")
        expect(due).to_contain_text("OVERDUE")
        expect(due).to_contain_text("!!")
        assert page.locator("#rows > tr[data-uid]").first.evaluate("row => row.classList.contains('alarm')")
        assert page.locator("#rows > tr[data-uid]").evaluate_all("rows => rows.map((row) => row.dataset.uid)") == before, "no row moved"


def test_a_page_that_nobody_sees_holds_no_connection(room: Room) -> None:
    watch = """() => {
        const real = window.EventSource;
        window.opened = [];
        window.EventSource = class extends real { constructor(...given) { super(...given); window.opened.push(this); } };
        window.EventSource.OPEN = real.OPEN; window.EventSource.CLOSED = real.CLOSED;
    }"""
    hide = """hidden => {
        Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
        document.dispatchEvent(new Event("visibilitychange"));
    }"""
    with room.signed_in("ito") as page:
        page.add_init_script(f"({watch})()")
        study = room.film()
        for path in ("/", f"/study/{study}"):
            page.goto(path)
            page.wait_for_function("() => window.opened.length === 1 && window.opened[0].readyState === 1")
            page.evaluate(hide, True)
            assert page.evaluate("() => window.opened.map((one) => one.readyState)") == [2]
            page.evaluate(hide, False)
            page.wait_for_function("() => window.opened.length === 2 && window.opened[1].readyState === 1")


def test_why_here_unfolds_below_the_row_and_folds_again(room: Room) -> None:
    with room.signed_in("ito") as page:
        page.locator("html[data-ready]").wait_for(state="attached")
        page.keyboard.press("j")
        page.keyboard.press("w")
        told = page.locator(".whytext").first
        expect(told).to_contain_text("arrived from MODALITY")
        assert page.url.endswith(f"at={page.locator('tr.at').get_attribute('data-uid')}"), "the page did not go elsewhere"
        expect(page.locator("tr.at .whylink")).to_have_attribute("aria-expanded", "true")
        page.keyboard.press("w")
        expect(told).to_be_hidden()


def test_claim_and_release_by_key(room: Room) -> None:
    with room.signed_in("ito") as page:
        uid = room.film()
        page.goto("/")
        page.locator("html[data-ready]").wait_for(state="attached")
        page.locator(f'tr[data-uid="{uid}"] a.open').focus()
        page.keyboard.press("c")
        expect(page.locator(f'tr[data-uid="{uid}"]')).to_contain_text("ito")
        with room.signed_in("admin") as admin:
            admin.locator(f'tr[data-uid="{uid}"] a.open').focus()
            assert f"at={uid}" in admin.url, "a row that is reached by Tab is in the address"
            admin.keyboard.press("u")
            expect(admin.locator("main")).to_contain_text("Release the claim of ito?")
        page.locator("html[data-ready]").wait_for(state="attached")
        page.keyboard.press("u")
        expect(page.locator(f'tr[data-uid="{uid}"]').get_by_role("button", name="Claim")).to_be_visible()


def test_every_target_is_large_enough_for_a_tired_hand(room: Room) -> None:
    study = room.film()
    with room.signed_in("admin", viewport={"width": 1280, "height": 800}) as page:
        for path in ("/", "/board", "/system", "/rules", "/calibrations", "/account", f"/study/{study}"):
            page.goto(path)
            page.locator("html[data-ready]").wait_for(state="attached")
            assert page.evaluate(SMALL) == [], path


def others_claim(room: Room, page: Page) -> None:
    study = room.film()
    room.let_in("berg")
    reading.claim(room.daemon.ledger, study, "berg", timedelta(hours=1), utc_now())
    page.goto(f"/study/{study}")


def not_scored(room: Room, page: Page) -> None:
    page.goto(f"/study/{room.film(changes={'ViewPosition': 'LL'}, waits=False)}")


def unfolded(room: Room, page: Page) -> None:
    page.locator("html[data-ready]").wait_for(state="attached")
    room.film()
    page.locator("#pill summary").click()
    page.keyboard.press("j")
    page.keyboard.press("w")
    expect(page.locator(".whytext").first).to_contain_text("arrived from")


def one_calibration(room: Room, page: Page) -> None:
    page.goto(f"/calibrations/{room.candidate(0.8)}")


def release(room: Room, page: Page) -> None:
    others_claim(room, page)
    page.get_by_role("link", name="Release their claim").click()


def signed_out(room: Room, page: Page) -> None:
    page.get_by_role("button", name="Sign out").click()
    page.get_by_label("Password").wait_for()


def welcome(room: Room, page: Page) -> None:
    secret = people.invite(room.daemon.ledger, f"new{next(NUMBERS)}", Role.READER, "admin", utc_now())
    page.goto(f"/welcome/{secret}")


def nowhere(room: Room, page: Page) -> None:
    page.goto("/study/1.2.3")


STATES = [others_claim, not_scored, unfolded, one_calibration, release, signed_out, welcome, nowhere]


@pytest.mark.parametrize("state", STATES)
def test_axe_finds_no_violation_in_any_state_of_a_page(room: Room, state: Callable[[Room, Page], None]) -> None:
    with room.signed_in("admin") as page:
        state(room, page)
        is_accessible(page)


@pytest.mark.parametrize("width", [1280, 640, 390])
def test_a_long_name_makes_no_page_wider_than_its_window(room: Room, width: int) -> None:
    study = room.film(changes={"PatientName": "Wolfeschlegelsteinhausenbergerdorff^Hubert", "PatientID": "9" * 64})
    with room.signed_in("ito", viewport={"width": width, "height": 800}) as page:
        for path in ("/", f"/study/{study}"):
            page.goto(path)
            page.locator("html[data-ready]").wait_for(state="attached")
            wide = page.evaluate("() => [document.documentElement.scrollWidth, window.innerWidth]")
            assert wide[0] <= wide[1], path
