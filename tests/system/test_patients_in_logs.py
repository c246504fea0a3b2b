"""Marked names, numbers and orders in files that break readers: no byte of the log, of a page for machines or of the state tells them."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom.tag import Tag

from prioritizer.dicom.standard.contexts import COMPUTED_RADIOGRAPHY
from tests.support.daemons import Daemon, phantom, running_daemon, sections, uid_of, wait_until
from tests.support.listener_process import RawPeer, command_set, p_data, proposed

NAME, NUMBER, ORDER = b"ZQXMUSTERMANN^ZQXANNE ", b"ZQXNUMBER7", b"ZQXORDER99"
MARKS = (b"ZQXMUSTERMANN", b"ZQXANNE", b"ZQXNUMBER7", b"ZQXORDER99")
LAST_COMMAND, LAST_DATA = 0b11, 0b10


def element(tag: int, vr: bytes, value: bytes) -> bytes:
    long = vr in (b"UN", b"OB", b"SQ", b"UT")
    head = struct.pack("<HH", Tag(tag).group, Tag(tag).element) + vr
    return head + (struct.pack("<HI", 0, len(value)) if long else struct.pack("<H", len(value))) + value


def put(data: bytes, tag: int, vr: bytes, value: bytes) -> bytes:
    """The data set with this element instead of its own."""
    at = data.index(struct.pack("<HH", Tag(tag).group, Tag(tag).element))
    (length,) = struct.unpack_from("<H", data, at + 6)
    return data[:at] + element(tag, vr, value) + data[at + 8 + length :]


AWKWARD = {
    "plain": lambda data: data,
    "name with VR FD": lambda data: put(data, 0x00100010, b"FD", NAME),
    "name with VR SQ": lambda data: put(data, 0x00100010, b"SQ", NAME),
    "name with VR US": lambda data: put(data, 0x00100010, b"US", NAME),
    "number with VR DS": lambda data: put(data, 0x00100020, b"DS", NUMBER),
    "number with VR AT": lambda data: put(data, 0x00100020, b"AT", NUMBER),
    "order with VR IS": lambda data: put(data, 0x00080050, b"IS", ORDER),
    "order with VR DA": lambda data: put(data, 0x00080050, b"DA", ORDER),
    "age that is the name": lambda data: put(data, 0x00101010, b"FD", NAME[:4]),
    "birth date that is the name": lambda data: put(data, 0x00100030, b"DA", NAME),
    "rows that are the number": lambda data: put(data, 0x00280010, b"LO", NUMBER),
    "window that is the name": lambda data: put(data, 0x00281050, b"DS", NAME) if b"\x28\x00\x50\x10" in data else data,
    "character set that is the name": lambda data: put(data, 0x00080005, b"CS", NAME),
    "study UID that is the number": lambda data: put(data, 0x0020000D, b"UI", NUMBER),
    "cut inside the name": lambda data: data[: data.index(NAME) + 6],
}


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with running_daemon(tmp_path_factory.mktemp("marked"), sections()) as found:
        yield found


def sent(daemon: Daemon, data: bytes, uid: str) -> None:
    with RawPeer(daemon.port) as peer:
        peer.associate(proposed(1, COMPUTED_RADIOGRAPHY))
        peer.send(p_data(1, LAST_COMMAND, command_set(1, sop_class=COMPUTED_RADIOGRAPHY.encode(), uid=uid.encode())))
        for at in range(0, len(data), 100_000):
            peer.send(p_data(1, LAST_DATA if at + 100_000 >= len(data) else 0, data[at : at + 100_000]))
        peer.status()


def test_no_mark_leaves_the_spool_and_the_ledger(daemon: Daemon, tmp_path: Path):
    for number, edit in enumerate(AWKWARD.values()):
        path = phantom(tmp_path, number)
        raw = path.read_bytes()
        data = raw[raw.index(b"\x08\x00\x05\x00CS") :]
        data = put(put(put(data, 0x00100010, b"PN", NAME), 0x00100020, b"LO", NUMBER), 0x00080050, b"SH", ORDER)
        sent(daemon, edit(data), uid_of(path))
    inbox = daemon.folder / "var" / "spool" / "inbox"
    wait_until(lambda: not list(inbox.iterdir()) or daemon.events("worker-fault"), "the files were looked at")
    told = daemon.get("/readyz")[1] + daemon.get("/metrics")[1]
    daemon.stop()
    found = [path for path in daemon.folder.rglob("*") if path.is_file() and "spool" not in path.parts and "ledger" not in path.name]
    assert daemon.log_file in found
    for mark in MARKS:
        assert mark not in told.encode()
        assert [path.name for path in found if mark in path.read_bytes()] == []
        assert [path.name for path in daemon.folder.rglob("*") if mark.decode() in path.name] == []
    notices = daemon.folder / "var" / "spool" / "notices"
    assert not any(mark in path.read_bytes() for path in notices.iterdir() for mark in MARKS)
