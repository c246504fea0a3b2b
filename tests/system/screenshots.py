"""Screenshots of every page, dark and light, wide and narrow, of a daemon fed with phantoms; the ten that documents show as WebP.

python -m tests.system.screenshots [FOLDER]
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from datetime import timedelta
from io import BytesIO
from pathlib import Path

import sqlalchemy as sa
from PIL import Image
from playwright.sync_api import Page, expect, sync_playwright

from prioritizer.access import Role
from prioritizer.clock import utc_now
from prioritizer.config.read import read_settings
from prioritizer.daemon import dashboard_period
from prioritizer.db.accounts import people
from prioritizer.db.schema.tables import studies as in_ledger
from prioritizer.db.worklist import feedback, reading
from prioritizer.study import ReaderFinding
from tests.support.daemons import phantom, prioritizer, running_daemon, sections
from tests.support.ledgers import site_policy
from tests.support.reading_room import BUNDLE, Room

REPOSITORY = Path(__file__).resolve().parents[2]
IN_DOCS = REPOSITORY / "docs" / "screenshots"
SHOWN_IN_DOCS = (
    "list-dark-wide", "list-light-wide", "list-dark-narrow", "list-news-dark-wide", "study-dark-wide", "study-shown-dark-wide",
    "board-dark-wide", "rules-dark-wide", "calibrations-dark-wide", "system-dark-wide",
)  # fmt: skip
SIZES = {"wide": (1280, 800), "narrow": (390, 844)}
PLAIN = {
    "list": "/",
    "list-read": "/?view=read",
    "board": "/board",
    "calibrations": "/calibrations",
    "rules": "/rules",
    "system": "/system",
    "audit": "/audit",
    "people": "/people",
    "account": "/account",
    "conformance": "/conformance",
    "waiting": "/system/waiting?title=MODALITY",
}


def furnished(room: Room) -> dict[str, str]:
    """People, films in every state, words of readers; the studies that have a part in a picture."""
    for name, role in (("ito", Role.READER), ("berg", Role.READER), ("physik", Role.PHYSICIST), ("admin", Role.ADMIN)):
        room.let_in(name, role)
    engine, studies = room.daemon.ledger, []
    for number in range(12):
        sick = number % 3 == 2
        traits = {
            "opacity": sick,
            "plain": not sick,  # the bundle raises none of these; they are drawings, what it says of them means nothing
            "age": f"00{number % 5 + 1}Y",
            "sex": "FM"[number % 2],
            "rows": 1024,
            "columns": 896,
        }
        studies.append(room.film(**traits))
    adult = room.film(changes={"ViewPosition": "LL"}, waits=False)
    for study, minutes in zip(studies[:3], (95, 70, 20), strict=True):
        now = utc_now()
        with engine.begin() as tx:  # waits of some minutes, so that the board has something to draw
            came = now - timedelta(minutes=minutes)
            tx.execute(sa.update(in_ledger).where(in_ledger.c.study_uid == study).values(first_received_at=came))
        reading.opened(engine, study, "berg", now)
        feedback.say(engine, study, "berg", ReaderFinding.ABSENT, now, ranked=True)
        reading.read(engine, study, "berg", now)
    reading.pin(engine, studies[5], "berg", site_policy(), utc_now(), remove=False)
    room.candidate(0.8)
    room.daemon.wait_settled()
    # One who calls somebody else: a refusal for the page System.
    stranger = f"RADIOLOGY@127.0.0.1:{room.daemon.port}"
    prioritizer("send", str(phantom(room.folder, 4998)), "--to", stranger, "--from", "DX-ED-1", cwd=room.daemon.folder)
    dashboard_period.watch(engine, read_settings(room.daemon.config), BUNDLE.digest, utc_now())
    return {"raised": studies[8], "plain": studies[6], "adult": adult}


def shoot(page: Page, folder: Path, name: str) -> None:
    """One picture of the whole page."""
    page.wait_for_load_state("networkidle" if page.locator("#fresh, #now").count() == 0 else "load")
    page.wait_for_timeout(300)
    path = folder / f"{name}.png"
    shot = page.screenshot(full_page=True, animations="disabled")
    # 256 tones are enough to look at a page, and a quarter of the bytes.
    Image.open(BytesIO(shot)).convert("RGB").quantize(256).save(path, optimize=True)
    print(path, file=sys.stderr)


def news(room: Room, page: Page, folder: Path, ending: str) -> None:
    """A list on which something waits to be shown, one of it urgent."""
    page.goto("/")
    expect(page.locator("#fresh")).to_contain_text("live")
    first, second = room.film(rows=1024, columns=896, plain=True), room.film(rows=1024, columns=896, opacity=True)
    reading.claim(room.daemon.ledger, first, "ito", timedelta(hours=1), utc_now())
    reading.pin(room.daemon.ledger, second, "berg", site_policy(), utc_now())
    expect(page.locator("#pill .urgent")).to_contain_text("STAT", timeout=30_000)
    page.locator("#pill summary").click()
    shoot(page, folder, f"list-news-{ending}")
    page.goto(f"/study/{first}/release")
    shoot(page, folder, f"release-{ending}")
    reading.pin(room.daemon.ledger, second, "berg", site_policy(), utc_now(), remove=True)


def study_pages(page: Page, folder: Path, studies: dict[str, str], ending: str) -> None:
    """A study as it is found, and with everything shown."""
    page.goto(f"/study/{studies['raised']}")
    page.locator(".view canvas").first.wait_for()
    shoot(page, folder, f"study-{ending}")
    if page.locator("#reveal").count():
        page.keyboard.press("h")
    page.locator(".view .heat").wait_for()
    shoot(page, folder, f"study-shown-{ending}")
    page.goto(f"/study/{studies['adult']}")
    shoot(page, folder, f"study-not-scored-{ending}")
    page.goto("/")
    page.locator("html[data-ready]").wait_for(state="attached")
    page.keyboard.press("j")
    page.keyboard.press("w")
    expect(page.locator(".whytext").first).to_contain_text("arrived")
    shoot(page, folder, f"list-why-{ending}")


def for_documents(folder: Path, target: Path = IN_DOCS) -> None:
    """Those that documents show, as WebP in the place of what lies there."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for name in SHOWN_IN_DOCS:
        Image.open(folder / f"{name}.png").convert("RGB").save(target / f"{name}.webp", quality=85, method=6)


def main(target: Path) -> None:
    """Every page into `target`."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"])
        told = sections(viewers=[{"name": "OHIF", "url": "https://pacs.example/viewer?StudyInstanceUIDs={study_uid}"}])
        with running_daemon(Path(folder), told) as daemon:
            films = Path(folder) / "films"
            films.mkdir()
            room = Room(daemon, chromium, films)
            studies = furnished(room)
            file = phantom(films, 4999, rows=1024, columns=896, opacity=True)
            for colours in ("dark", "light"):
                for size, (width, height) in SIZES.items():
                    ending = f"{colours}-{size}"
                    with room.signed_in("admin", color_scheme=colours, viewport={"width": width, "height": height}) as page:
                        for name, path in PLAIN.items():
                            page.goto(path)
                            shoot(page, target, f"{name}-{ending}")
                        study_pages(page, target, studies, ending)
                        news(room, page, target, ending)
                        page.goto("/try")
                        page.get_by_label("File").set_input_files(file)
                        page.get_by_role("button", name="Try it").click()
                        page.locator(".view canvas").wait_for()
                        shoot(page, target, f"try-{ending}")
                        page.goto("/rules")
                        page.get_by_label("Deadline of a raised study").fill("15")
                        page.get_by_role("button", name="Simulate").click()
                        page.locator("#effect").wait_for()
                        shoot(page, target, f"rules-simulated-{ending}")
                        page.get_by_label("Reason").first.fill("raised studies wait too long at night")
                        page.get_by_role("button", name="Propose").click()
                        shoot(page, target, f"ruling-{ending}")
                        page.get_by_role("button", name="Activate").click()
                        page.get_by_role("button", name="Simulate ending it").click()
                        page.locator("#effect").wait_for()
                        shoot(page, target, f"rules-ending-{ending}")
                        page.locator("#effect").get_by_role("button", name="End the settings override").click()
                        page.goto(f"/board/{utc_now():%Y-%m}")
                        shoot(page, target, f"board-month-{ending}")
                        page.goto("/study/1.2.3")
                        shoot(page, target, f"message-{ending}")
                        page.goto("/calibrations")
                        page.locator("tbody th a").first.click()
                        shoot(page, target, f"calibration-{ending}")
                    page = chromium.new_page(color_scheme=colours, viewport={"width": width, "height": height})
                    page.goto(f"{room.url}/sign-in")
                    shoot(page, target, f"sign-in-{ending}")
                    page.goto(f"{room.url}/welcome/{people.invite(daemon.ledger, f'new-{ending}', Role.READER, 'admin', utc_now())}")
                    shoot(page, target, f"welcome-{ending}")
                    page.close()


if __name__ == "__main__":
    expect.set_options(timeout=30_000)
    drawn = Path(sys.argv[1]) if len(sys.argv) > 1 else REPOSITORY / "var" / "screenshots"
    main(drawn)
    for_documents(drawn)
