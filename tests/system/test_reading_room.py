"""The reading room as its people use it: real browsers, a real daemon, films by C-STORE."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from prioritizer.clock import utc_now
from prioritizer.db.audit import audit_log
from prioritizer.db.worklist import feedback, reading
from prioritizer.db.worklist import rows as worklist_rows
from tests.support.browsers import is_accessible
from tests.support.daemons import phantom, phantom_study_uid, running_daemon, sections, sends, wait_until
from tests.support.ledgers import site_policy
from tests.support.reading_room import NUMBERS, PASSWORD, RAISES_ALL, RAISES_NONE, SLOW_MS, Room, Wire, rows

PAGES = ("/", "/board", "/try", "/calibrations", "/rules", "/system", "/audit", "/people", "/account", "/conformance")


def test_the_first_administrator_comes_by_the_link_in_the_log(browser: Browser, tmp_path: Path) -> None:
    with running_daemon(tmp_path, sections()) as daemon:
        (said,) = daemon.events("first-link")
        link = re.search(r"http\S+/welcome/\S+", said["said"])
        assert link is not None
        page = browser.new_page()
        page.goto(link.group())
        page.get_by_label("Name").fill("chief")
        page.get_by_label("Password", exact=True).fill(PASSWORD)
        page.get_by_label("Once more").fill(PASSWORD)
        page.get_by_role("button", name="Set the password and sign in").click()
        expect(page.get_by_text("No open studies.")).to_be_visible()
        page.goto(link.group())
        expect(page.get_by_role("heading")).to_have_text("This cannot be done now")
        page.close()


def test_new_arrivals_light_the_pill_and_nothing_moves_until_it_is_asked_for(room: Room) -> None:
    first = room.film()
    with room.signed_in("ito") as page:
        before = rows(page)
        assert first in before
        expect(page.locator("#fresh")).to_contain_text("live")
        page.keyboard.press("j")
        second = room.film()
        expect(page.locator("#pill")).to_contain_text("1 new")
        assert rows(page) == before
        assert page.evaluate("document.activeElement.closest('tr')?.dataset.uid") == before[0]
        page.keyboard.press("r")
        expect(page.locator(f'tr[data-uid="{second}"]')).to_be_visible()
        expect(page.locator("#pill details")).to_have_count(0)
        expect(page.locator("tr.at")).to_have_attribute("data-uid", before[0])


def test_a_stat_study_lights_the_pill_in_the_alarm_colour_and_moves_nothing(room: Room) -> None:
    study = room.film()
    with room.signed_in("ito") as page, room.signed_in("berg") as other:
        before = rows(page)
        other.goto(f"/study/{study}")
        other.get_by_role("button", name="Pin as STAT").click()
        expect(page.locator("#pill .urgent")).to_contain_text("STAT")
        assert rows(page) == before
        assert page.title().startswith("(!!)")
        page.keyboard.press("r")
        expect(page.locator("#rows > tr").first).to_have_attribute("data-uid", study)
        other.get_by_role("button", name="Unpin").click()
        expect(other.get_by_role("button", name="Pin as STAT")).to_be_visible()


AT_ONCE = """([study, when]) => setTimeout(
    () => document.querySelector(`tr[data-uid="${study}"] [data-step=claim]`).click(), when - Date.now())"""


def test_of_two_who_claim_one_study_one_has_it_and_the_other_is_told(room: Room) -> None:
    study = room.film()
    with room.signed_in("ito") as one, room.signed_in("berg") as two:
        for page in (one, two):
            page.goto("/")
            expect(page.locator(f'tr[data-uid="{study}"]')).to_be_visible()
        # Both press in the same moment.
        for page in (one, two):
            page.evaluate(AT_ONCE, [study, int(time.time() * 1000) + 1500])
        holder = wait_until(lambda: worklist_rows.study(room.daemon.ledger, study).reader, "one of them has it")
        first, second, loser = (one, two, "berg") if holder == "ito" else (two, one, "ito")
        expect(first.locator(f'tr[data-uid="{study}"]')).to_contain_text(holder)
        expect(second.locator("main")).to_contain_text(f"{holder} has had this study for")
        second.goto(f"/study/{study}")
        expect(second.locator("main")).to_contain_text("You may look; taking it over tells them")
        second.get_by_role("button", name="Take over").click()
        expect(second.locator("main")).to_contain_text("claimed by you")
        first.goto(f"/study/{study}")
        expect(first.locator("main")).to_contain_text(f"{loser} has this study")


def test_what_happens_to_an_open_study_is_told_on_its_page_and_on_lists(room: Room) -> None:
    number = next(NUMBERS)
    sends(room.daemon, phantom(room.folder, number))
    study = phantom_study_uid(number)
    room.daemon.wait_scored(study)
    with room.signed_in("ito") as one, room.signed_in("berg") as two, room.signed_in("ito") as listing:
        one.goto(f"/study/{study}")
        one.get_by_role("button", name="Claim").click()
        expect(one.locator("main")).to_contain_text("claimed by you")
        two.goto(f"/study/{study}")
        two.get_by_role("button", name="Take over").click()
        expect(one.locator("#now")).to_contain_text("berg has taken it over")
        sends(room.daemon, phantom(room.folder, number, instance=2))
        expect(two.locator("#now")).to_contain_text("1 more image came since this page was opened")
        expect(listing.locator("#pill")).to_contain_text("1 with more images")
        listing.locator("#pill summary").click()
        expect(listing.locator("#pill")).to_contain_text("more images arrived later")
        two.get_by_role("button", name="Read and next").click()
        expect(two.locator("main")).to_contain_text("came while the study was open")
        one.goto("/")
        expect(one.locator(f'tr[data-uid="{study}"]')).to_contain_text("berg")


def test_the_viewer_opens_from_the_list_in_one_window_that_is_used_again(browser: Browser, tmp_path: Path) -> None:
    with (
        somewhere() as address,
        running_daemon(made(tmp_path / "d"), sections(viewers=[{"name": "PACS", "url": f"{address}/?s={{study_uid}}"}])) as daemon,
    ):
        room = Room(daemon, browser, tmp_path)
        room.let_in("ito")
        first, second = room.film(), room.film()
        with room.signed_in("ito") as page:
            for study in (first, second):
                page.goto(f"/?at={study}")
                steady(page)
                expect(page.locator("tr.at")).to_have_attribute("data-uid", study)
                page.keyboard.press("v")
                shows(page, study)
            assert len(page.context.pages) == 2
            page.goto(f"/study/{first}")
            steady(page)
            page.keyboard.press("v")
            shows(page, first)
            assert len(page.context.pages) == 2


def test_a_site_that_wants_a_sound_hears_one_for_a_stat_study_and_for_nothing_else(browser: Browser, tmp_path: Path) -> None:
    counted = "window.sounds = 0; window.AudioContext = class { constructor() { window.sounds += 1; throw new Error('counted'); } };"
    with running_daemon(made(tmp_path / "d"), sections(reading={"stat_sound": True})) as daemon:
        room = Room(daemon, browser, tmp_path)
        room.let_in("ito")
        with room.signed_in("ito") as page:
            page.add_init_script(counted)
            page.goto("/")
            expect(page.locator("#fresh")).to_contain_text("live")
            study = room.film()
            expect(page.locator("#pill")).to_contain_text("1 new")
            assert page.evaluate("window.sounds") == 0
            reading.pin(daemon.ledger, study, "berg", site_policy(), utc_now())
            expect(page.locator("#pill .urgent")).to_contain_text("1 STAT")
            assert page.evaluate("window.sounds") == 1
            room.film()
            expect(page.locator("#pill")).to_contain_text("2 new")
            assert page.evaluate("window.sounds") == 1


def test_columns_stand_in_the_order_that_was_chosen(room: Room) -> None:
    room.film()
    with room.signed_in("berg") as page:
        page.locator(".choose summary").click()
        page.get_by_label("Place of column Reader").fill("1")
        page.get_by_label("Place of column Study").fill("9")
        page.locator('input[name="columns"][value="from"]').uncheck()
        page.get_by_role("button", name="Show these").click()
        heads = page.locator("table.list thead th").all_inner_texts()
        assert "From" not in heads
        assert heads.index("Reader") < heads.index("Arrived") < heads.index("Study")


def test_two_who_ask_for_the_next_study_at_once_get_two_studies(room: Room) -> None:
    room.film()
    room.film()
    with room.signed_in("ito") as one, room.signed_in("berg") as two:
        for page in (one, two):
            steady(page)
            page.keyboard.press("n")
        for page in (one, two):
            expect(page.locator("main")).to_contain_text("claimed by you")
        assert one.url != two.url


def pixels(page: Page) -> str:
    """The first film as it is drawn, as text."""
    return str(page.evaluate("document.querySelector('.view canvas').toDataURL()"))


class Silent(SimpleHTTPRequestHandler):
    """Answers and writes no log."""

    def log_message(self, *args: object) -> None:
        """Nothing."""


def shows(page: Page, study: str) -> None:
    """The viewer's window has come to the study; the wait lets the driver hear of it."""
    for _ in range(SLOW_MS // 100):
        if any(f"s={study}" in one.url for one in page.context.pages):
            return
        page.wait_for_timeout(100)
    pytest.fail(f"the viewer does not show {study}: {[one.url for one in page.context.pages]}")


@contextmanager
def somewhere() -> Iterator[str]:
    """A page of another site."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Silent) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def made(folder: Path) -> Path:
    """The folder, made."""
    folder.mkdir()
    return folder


def steady(page: Page) -> None:
    """All scripts of the page have run, and its films could have been looked at."""
    page.locator("html[data-ready]").wait_for(state="attached")
    if page.locator("body[data-page=study]").count():
        page.locator("html[data-looked]").wait_for(state="attached", timeout=SLOW_MS)


def open_study(page: Page, study: str) -> None:
    page.goto(f"/study/{study}")
    steady(page)
    page.locator(".view canvas").first.wait_for(timeout=SLOW_MS)


def test_window_invert_and_zoom_change_what_is_drawn(room: Room) -> None:
    study = room.film()
    with room.signed_in("ito") as page:
        open_study(page, study)
        seen = [pixels(page)]
        view = page.locator(".view").first
        box = view.bounding_box()
        assert box is not None
        page.mouse.move(box["x"] + 100, box["y"] + 100)
        page.mouse.down()
        page.mouse.move(box["x"] + 180, box["y"] + 140, steps=4)
        page.mouse.up()
        page.wait_for_function("before => document.querySelector('.view canvas').toDataURL() !== before", arg=seen[0])
        seen.append(pixels(page))
        page.keyboard.press("i")
        seen.append(pixels(page))
        assert len(set(seen)) == 3
        page.keyboard.press("0")
        assert pixels(page) == seen[0]
        scale = float(str(page.locator("figure.film").get_attribute("data-scale")))
        page.keyboard.press("+")
        assert float(str(page.locator("figure.film").get_attribute("data-scale"))) == pytest.approx(scale * 1.25, rel=0.01)


def test_the_canvas_without_touch_is_the_picture_that_a_browser_without_scripts_gets(room: Room) -> None:
    study = room.film()
    with room.signed_in("ito") as page:
        page.goto(f"/study/{study}")
        source = str(page.locator("figure.film").get_attribute("data-film")).replace("/film/", "/image/")
        page.locator(".view canvas").first.wait_for(timeout=SLOW_MS)
        worst = page.evaluate(
            """async (source) => {
              const image = new Image(); image.src = source; await image.decode();
              const other = document.createElement('canvas'); other.width = image.width; other.height = image.height;
              const ink = other.getContext('2d'); ink.drawImage(image, 0, 0);
              const theirs = ink.getImageData(0, 0, image.width, image.height).data;
              const canvas = document.querySelector('.view canvas');
              const mine = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
              if (mine.length !== theirs.length) return 999;
              let worst = 0; for (let i = 0; i < mine.length; i++) worst = Math.max(worst, Math.abs(mine[i] - theirs[i]));
              return worst; }""",
            source,
        )
        assert worst <= 2


def test_ai_detail_is_shown_when_it_is_asked_for_and_that_is_kept(room: Room) -> None:
    study = room.film()
    with room.signed_in("ito") as page:
        open_study(page, study)
        expect(page.locator(".panel")).to_contain_text("AI detail hidden")
        expect(page.locator("main")).to_contain_text("AI detail not yet seen")
        assert page.locator(".gauge").count() == 0
        heat = page.url.split("?")[0] + "/heat/" + str(page.locator("figure.film").get_attribute("data-film")).rsplit("/", 1)[1]
        assert page.request.get(heat).status == 403
        steady(page)
        page.keyboard.press("h")
        page.locator(".view .heat").wait_for(timeout=SLOW_MS)
        expect(page.locator(".panel")).to_contain_text("calibrated probability")
        expect(page.locator("main")).to_contain_text("AI detail seen")
        assert page.request.get(heat).status == 200
        expect(page.locator("main")).to_contain_text("not where disease is")
    with room.signed_in("berg") as other:
        open_study(other, study)
        expect(other.locator(".panel")).to_contain_text("AI detail hidden")


def test_the_opacity_slider_changes_what_is_seen(room: Room) -> None:
    study = room.film(opacity=True)
    with room.signed_in("ito") as page:
        open_study(page, study)
        steady(page)
        page.keyboard.press("h")
        page.locator(".view .heat").wait_for(timeout=SLOW_MS)
        view = page.locator(".view").first
        shots = []
        for value in ("0", "100"):
            page.locator("#opacity").fill(value)
            expect(page.locator("#opacityshown")).to_have_text(f"{value} %")
            shots.append(view.screenshot())
        page.keyboard.press("o")
        expect(page.locator("#opacityshown")).to_have_text("off")
        shots.append(view.screenshot())
        assert shots[0] == shots[2]
        assert shots[0] != shots[1]


def test_a_finding_in_one_key_with_what_had_been_seen(room: Room) -> None:
    blind, shown = room.film(), room.film()
    with room.signed_in("ito") as page:
        page.goto(f"/study/{blind}?list=%3Forder%3Darrival%26blind%3D1")
        steady(page)
        page.keyboard.press("x")
        expect(page.locator("main")).to_contain_text("You said: absent")
        open_study(page, shown)
        steady(page)
        page.keyboard.press("h")
        page.locator(".gauge").wait_for()
        steady(page)
        page.keyboard.press("y")
        expect(page.locator("main")).to_contain_text("You said: present")
        page.get_by_role("button", name="Undo").click()
        expect(page.locator("main")).not_to_contain_text("You said")
        page.get_by_label("Note").fill("left base")
        page.get_by_role("button", name="Can't say").click()
        expect(page.locator("main")).to_contain_text("You said: unsure")
    words = {word.study_uid: word for study in (blind, shown) for word in feedback.said_of(room.daemon.ledger, study)}
    assert (words[blind].finding, words[blind].seen, words[blind].ranked) == ("absent", False, False)
    assert (words[shown].finding, words[shown].seen, words[shown].ranked, words[shown].note) == ("unsure", True, True, "left base")
    assert len(feedback.said_of(room.daemon.ledger, shown)) == 2


def test_read_and_next_in_one_key(room: Room) -> None:
    room.film()
    with room.signed_in("ito") as page:
        steady(page)
        page.keyboard.press("n")
        expect(page.locator("main")).to_contain_text("claimed by you")
        steady(page)
        first = page.url.split("/study/")[1].split("?")[0]
        page.locator("h1").click()
        page.keyboard.press("Enter")
        page.wait_for_url(lambda url: f"/study/{first}" not in url)
        page.goto(f"/study/{first}")
        expect(page.locator("main")).to_contain_text("read by ito")


def test_a_key_that_slips_says_and_reads_nothing(room: Room) -> None:
    uids = [room.film() for _ in range(4)]

    def done(kind: str) -> int:
        return len(audit_log.entries(room.daemon.ledger, audit_log.AuditFilter(actor="slip", kind=kind), 100))

    room.let_in("slip")
    with room.signed_in("slip") as page:
        page.goto(f"/study/{uids[0]}")
        steady(page)
        page.get_by_label("Note").fill("left base")
        page.get_by_label("Note").press("Enter")
        page.get_by_label("Note").blur()
        # A key that is held down repeats; the steps of it are still one.
        for _ in range(5):
            page.keyboard.down("n")
        page.keyboard.up("n")
        expect(page.locator("main")).to_contain_text("claimed by you")
        steady(page)
        assert (done("claimed"), done("skipped"), done("feedback")) == (1, 1, 0)
        # The same step twice before the answer is there.
        page.evaluate("() => { const button = document.querySelector('#read'); button.click(); button.click(); }")
        wait_until(lambda: done("claimed") == 2, "the next study is claimed")
        steady(page)
        expect(page.locator("main")).to_contain_text("claimed by you")
        assert (done("read"), done("claimed")) == (1, 2)
        page.get_by_role("button", name="Release").click()
        expect(page.locator("main")).not_to_contain_text("claimed by you")


def test_a_calibration_is_activated_and_the_list_is_placed_again(room: Room) -> None:
    study = room.film()
    room.candidate(RAISES_NONE)
    all_of_them = room.candidate(RAISES_ALL)
    with room.signed_in("ito") as reader, room.signed_in("physik") as page:
        reader.goto("/?order=arrival")
        expect(reader.locator("#fresh")).to_contain_text("live")
        before = rows(reader)
        page.goto(f"/calibrations/{all_of_them}")
        page.get_by_role("button", name="Activate").click()
        expect(page.get_by_role("status")).to_contain_text("is in force")
        expect(reader.locator("#pill")).to_contain_text("the list was placed again")
        assert rows(reader) == before
        reader.keyboard.press("r")
        expect(reader.locator(f'tr[data-uid="{study}"]')).to_contain_text("RAISED")
        page.goto("/calibrations")
        page.get_by_role("button", name="Go back to the bundle's own").click()
        page.get_by_role("region", name="Effect of going back").get_by_role("button", name="Go back to").click()
        expect(page.locator("main")).not_to_contain_text("activation 0")
        denied = reader.request.post(f"/calibrations/{all_of_them}/activate", headers={"Origin": room.url})
        assert denied.status == 403


@pytest.mark.parametrize("path", ["/people", "/audit"])
def test_what_is_for_administrators_is_refused_to_readers(room: Room, path: str) -> None:
    with room.signed_in("ito") as page:
        answer = page.goto(path)
        assert answer is not None
        assert answer.status == 403
        expect(page.get_by_role("heading")).to_have_text("Not for you")
        assert page.locator(f'nav a[href="{path}"]').count() == 0


def test_a_lost_stream_is_told_and_found_again(room: Room) -> None:
    room.film()
    with (
        closing(Wire(room.daemon.sections["web"]["port"])) as wire,
        room.signed_in("ito", f"http://127.0.0.1:{wire.port}") as page,
    ):
        expect(page.locator("#fresh")).to_contain_text("live, rows as of")
        before = rows(page)
        wire.pull()
        expect(page.locator("#fresh")).to_contain_text("not live")
        expect(page.locator("#fresh")).to_have_class(re.compile("warn"))
        room.film()
        assert rows(page) == before
        wire.put_back()
        expect(page.locator("#fresh")).to_contain_text("live, rows as of")
        expect(page.locator("#pill")).to_contain_text("new")
        assert rows(page) == before


def test_without_scripts_everything_that_counts_is_done_by_forms(room: Room) -> None:
    study = room.film()
    with room.signed_in("ito", java_script_enabled=False) as page:
        page.locator(f'tr[data-uid="{study}"]').get_by_role("button", name="Claim").click()
        expect(page.locator(f'tr[data-uid="{study}"]')).to_contain_text("ito")
        page.locator(f'tr[data-uid="{study}"] a.open').click()
        expect(page.locator(".view img")).to_be_visible()
        page.get_by_role("button", name="Show AI detail").click()
        expect(page.locator(".panel")).to_contain_text("calibrated probability")
        page.get_by_role("button", name="Finding absent").click()
        expect(page.locator("main")).to_contain_text("You said: absent")
        page.get_by_role("button", name="Read and next").click()
        page.goto(f"/study/{study}")
        expect(page.locator("main")).to_contain_text("read by ito")
        page.goto("/")
        page.get_by_label("Search").fill("PHANTOM")
        page.get_by_role("button", name="Find").click()
        expect(page).to_have_url(re.compile("q=PHANTOM"))


def test_the_list_is_walked_by_keyboard_alone(room: Room) -> None:
    room.film()
    room.film()
    with room.signed_in("ito") as page:
        order = rows(page)
        steady(page)
        page.keyboard.press("j")
        page.keyboard.press("j")
        expect(page.locator("tr.at")).to_have_attribute("data-uid", order[1])
        page.keyboard.press("k")
        expect(page.locator("tr.at")).to_have_attribute("data-uid", order[0])
        page.keyboard.press("w")
        expect(page.locator("tr.at + tr .whytext")).to_contain_text("arrived")
        page.keyboard.press("f")
        expect(page).to_have_url(re.compile("order=arrival"))
        expect(page.locator("caption")).to_contain_text("FIFO")
        steady(page)
        page.keyboard.press("b")
        expect(page.locator("thead")).not_to_contain_text("AI")
        steady(page)
        page.keyboard.press("/")
        page.keyboard.type("PHANTOM")
        expect(page).to_have_url(re.compile("q=PHANTOM"))
        steady(page)
        page.keyboard.press("Escape")
        page.keyboard.press("j")
        page.keyboard.press("Enter")
        page.wait_for_url(re.compile("/study/"))
        steady(page)
        page.keyboard.press("Escape")
        page.wait_for_url(re.compile(r"q=PHANTOM.*at="))
        page.go_back()
        page.wait_for_url(re.compile("/study/"))


def test_axe_finds_no_violation(room: Room) -> None:
    with room.signed_in("admin") as page:
        for path in PAGES:
            page.goto(path)
            is_accessible(page)


def test_axe_finds_no_violation_on_a_study(room: Room) -> None:
    study = room.film(opacity=True)
    with room.signed_in("admin") as page:
        open_study(page, study)
        steady(page)
        page.keyboard.press("h")
        page.locator(".view .heat").wait_for(timeout=SLOW_MS)
        is_accessible(page)


@pytest.mark.parametrize("width", [640, 390])
def test_at_200_percent_and_on_a_telephone_nothing_is_cut_off(room: Room, width: int) -> None:
    with room.signed_in("admin", viewport={"width": width, "height": 800}) as page:
        for path in PAGES:
            page.goto(path)
            wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert wide <= 0, f"{path} is {wide} px too wide at {width}"


def test_in_forced_colours_the_marks_stay(room: Room) -> None:
    room.film()
    with room.signed_in("ito", forced_colors="active") as page:
        page.keyboard.press("j")
        outline = page.locator("tr.at").evaluate("row => getComputedStyle(row).outlineStyle")
        assert outline == "solid"
        expect(page.locator("td.due").first).to_contain_text(re.compile("due in|STAT|OVERDUE|RAISED"))


def test_no_page_is_large(room: Room) -> None:
    with room.signed_in("admin") as page:
        for path in PAGES:
            answer = page.request.get(path)
            assert answer.status == 200
            assert len(answer.body()) < 150_000, path


@pytest.mark.parametrize("path", ["/study/1.2.3", "/study/..%2f..%2fetc%2fpasswd", "/study/'%20OR%201=1--", "/study/1.2/image/1.2.png"])
def test_a_study_that_is_none_is_not_found(room: Room, path: str) -> None:
    with room.signed_in("ito") as page:
        assert page.request.get(path).status == 404


def test_a_picture_is_had_only_through_its_own_study(room: Room) -> None:
    one, other = room.film(), room.film()
    with room.signed_in("ito") as page:
        open_study(page, one)
        picture = str(page.locator("figure.film").get_attribute("data-film"))
        assert page.request.get(picture).status == 200
        assert page.request.get(picture.replace(one, other)).status == 404
    assert httpx.get(room.url + picture, timeout=60).status_code == 303


def test_the_api_does_what_the_page_does(room: Room) -> None:
    study = room.film()
    with room.signed_in("ito") as page:
        listing = page.request.get("/api/worklist?limit=1").json()
        assert len(listing["studies"]) == 1
        seen = []
        address = "/api/worklist?limit=2"
        while address:
            answer = page.request.get(address).json()
            seen += [one["study_uid"] for one in answer["studies"]]
            address = answer["next"]
        assert len(seen) == len(set(seen)) == len(room.daemon.listed())
        head = {"Origin": room.url}
        assert page.request.post(f"/api/studies/{study}/claim", headers=head).json()["reader"] == "ito"
        assert page.request.get(f"/api/studies/{study}").json()["ai"]["probability"] is None
        assert 0 <= page.request.post(f"/api/studies/{study}/reveal", headers=head).json()["ai"]["probability"] <= 1
        said = page.request.post(f"/api/studies/{study}/feedback", data={"finding": "present"}, headers=head)
        assert said.status == 201
        assert said.json()["words"][0]["seen"] is True
        assert page.request.delete(f"/api/studies/{study}/feedback", headers=head).status == 204
        refused = page.request.delete(f"/api/studies/{study}/feedback", headers=head)
        assert (refused.status, refused.headers["content-type"]) == (409, "application/problem+json")
        assert page.request.get("/api/nowhere").json()["status"] == 404
        described = page.request.get("/api/openapi.json").json()
        assert all(path.startswith("/api/") for path in described["paths"])
        assert wait_until(lambda: page.request.get("/api/changes?since=0").json()["new"], "what is new is told")
