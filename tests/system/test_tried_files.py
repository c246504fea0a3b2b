"""A file that a reader tries on the page is scored and nothing of it is kept; what is too large is refused before it is read."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO
from pathlib import Path

import httpx
import psutil
import pydicom
import pytest
from PIL import Image
from playwright.sync_api import expect

from tests.support.daemons import phantom
from tests.support.reading_room import NUMBERS, SLOW_MS, Room


def test_a_file_is_tried_and_nothing_is_kept(room: Room, tmp_path: Path) -> None:
    file = phantom(tmp_path, next(NUMBERS))
    before = {row["study_uid"] for row in room.daemon.studies()}
    with room.signed_in("ito") as page:
        page.goto("/try")
        page.get_by_label("File").set_input_files(file)
        page.get_by_role("button", name="Try it").click()
        page.locator(".view canvas").wait_for(timeout=SLOW_MS)
        expect(page.locator(".panel")).to_contain_text("Calibrated probability")
        told = page.locator("#traded").inner_text()
        page.locator("#cut").fill("3")
        assert page.locator("#traded").inner_text() != told
        expect(page.locator("#traded")).to_contain_text("of 100 studies raised")
        page.locator(".view .heat").wait_for(timeout=SLOW_MS)
        page.locator("#opacity").fill("90")
        expect(page.locator("#opacityshown")).to_have_text("90 %")
        markup = tmp_path / "<img src=x onerror=alert(1)>.png"
        markup.write_bytes(b"\x89PNG\r\n\x1a\nnot a picture")
        page.goto("/try")
        page.get_by_label("File").set_input_files(markup)
        page.get_by_role("button", name="Try it").click()
        expect(page.get_by_role("alert")).to_contain_text("no readable PNG or JPEG")
        assert page.locator("main img").count() == 0
    assert {row["study_uid"] for row in room.daemon.studies()} == before
    assert not list((room.daemon.folder / "var" / "tried").iterdir())
    assert "tried" in {entry["kind"] for entry in _events(room)}


def _events(room: Room) -> list[dict[str, object]]:
    import sqlalchemy as sa

    from prioritizer.db.schema import connect

    with connect.reading(room.daemon.ledger) as tx:
        return [dict(row._mapping) for row in tx.execute(sa.text("SELECT kind, actor, said FROM events"))]


def test_too_much_is_refused_before_it_is_read(room: Room) -> None:
    with room.signed_in("ito") as page:
        large = page.request.post("/account/tokens", data=b"x" * 300_000, headers={"Origin": room.url})
        assert large.status == 413
        cookies = {str(one["name"]): str(one["value"]) for one in page.context.cookies()}
        film = httpx.post(f"{room.url}/try", content=b"x" * (65 << 20), headers={"Origin": room.url}, cookies=cookies, timeout=60)
        assert film.status_code == 413


def png_bomb() -> bytes:
    """Half a megabyte that says it is 65000 x 65000 pixels, and is."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer, row = zlib.compressobj(9), bytes(1 + 65000 // 8)
    packed = b"".join(packer.compress(row * 1000) for _ in range(65)) + packer.flush()
    head = struct.pack(">IIBBBBB", 65000, 65000, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def deflated_bomb(folder: Path) -> bytes:
    """A DICOM file of one megabyte whose data set is a gigabyte, deflated (PS3.5 A.5)."""
    film = pydicom.dcmread(phantom(folder, next(NUMBERS)))
    film.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1.99"
    whole = BytesIO()
    film.save_as(whole, enforce_file_format=True)
    meta = whole.getvalue()[: 132 + 12 + film.file_meta.FileMetaInformationGroupLength]
    packer = zlib.compressobj(9, wbits=-15)
    element = struct.pack("<HH2sHI", 0x0009, 0x0010, b"UN", 0, 1 << 30)
    return meta + packer.compress(element) + b"".join(packer.compress(bytes(1 << 20)) for _ in range(1 << 10)) + packer.flush()


def large_film(folder: Path) -> bytes:
    """A DICOM file that says 65535 x 65535 pixels and holds a few."""
    return phantom(folder, next(NUMBERS), changes={"Rows": 65535, "Columns": 65535}).read_bytes()


def large_jpeg(_: Path) -> bytes:
    """A JPEG whose frame header says 65500 x 65500 pixels."""
    small = BytesIO()
    Image.new("L", (16, 16)).save(small, "JPEG")
    data = bytearray(small.getvalue())
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", 65500, 65500)
    return bytes(data)


BOMBS = {"png": lambda folder: png_bomb(), "deflated": deflated_bomb, "large film": large_film, "large jpeg": large_jpeg}


@pytest.mark.parametrize("name", BOMBS)
def test_a_file_that_unpacks_to_far_more_is_refused_with_a_reason_and_nothing_falls(room: Room, tmp_path: Path, name: str) -> None:
    data = BOMBS[name](tmp_path)
    assert len(data) < 2 << 20
    daemon = psutil.Process(room.daemon.process.pid if room.daemon.process else 0)
    with room.signed_in("ito") as page:
        file = {"name": f"../../{name}.dcm", "mimeType": "application/octet-stream", "buffer": data}
        answer = page.request.post("/try", multipart={"file": file}, headers={"Origin": room.url}, timeout=SLOW_MS * 2)
        assert answer.status in (413, 422), answer.status
        assert "was not scored" in answer.text()
        assert page.request.get("/").status == 200
    assert daemon.is_running()
    assert daemon.memory_info().rss < 1 << 30
    assert not list((room.daemon.folder / "var" / "tried").iterdir())
    assert room.daemon.get("/readyz")[0] == 200
