"""Peers that lie, drip, flood and vanish: they are told no by name, and never cost a listed modality its association."""

from __future__ import annotations

import struct
import subprocess
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from prioritizer.dicom.scp import association_pdu, dimse
from prioritizer.dicom.standard.contexts import VERIFICATION
from tests.support.listener_process import (
    DX,
    ListenerProcess,
    RawPeer,
    command_set,
    item,
    p_data,
    proposed,
    radiograph,
    request,
    shared_dicom,
    storescu,
)
from tests.support.pacs import program

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ASSOCIATE_AC, ASSOCIATE_RJ, RELEASE_RP, ABORT, CLOSED = 2, 3, 6, 7, 0
LAST_COMMAND, DATA, LAST_DATA = 0b11, 0b00, 0b10


@pytest.fixture(scope="module")
def enduring(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ListenerProcess]:
    """One listener that lives through everything it is sent, and must still serve after each."""
    process = ListenerProcess(tmp_path_factory.mktemp("enduring") / "spool")
    yield process
    process.kill()


@pytest.fixture
def hasty(tmp_path: Path) -> Iterator[ListenerProcess]:
    """A listener whose deadlines are short enough to be waited for."""
    process = ListenerProcess(
        tmp_path / "spool",
        request_timeout=0.5,
        pdu_timeout=0.6,
        dimse_timeout=0.6,
        network_timeout=0.6,
        acse_timeout=0.2,
        rate_grace=0.3,
        min_rate=100_000,
        max_message_bytes=400_000,
    )
    yield process
    process.kill()


def element(tag: tuple[int, int], vr: bytes, value: bytes) -> bytes:
    value += b"\x00" * (len(value) % 2)
    return struct.pack("<HH2sH", *tag, vr, len(value)) + value


def data_set(uid: bytes = b"1.2.3.4", sop_class: bytes = DX.encode()) -> bytes:
    return element((8, 0x16), b"UI", sop_class) + element((8, 0x18), b"UI", uid) + element((0x10, 0x20), b"LO", b"P1")


def still_serves(process: ListenerProcess, folder: Path) -> bool:
    """A listed modality, real and honest, gets its instance in now."""
    uid = radiograph(folder / "good.dcm")
    storescu(process.port, folder / "good.dcm")
    return process.spool.find(uid) is not None


# --- the association request ------------------------------------------------------------------------------------


MALFORMED = {
    "129 contexts": request(*[proposed(2 * (number % 128) + 1, VERIFICATION) for number in range(129)]),
    "even context id": request(proposed(2, DX)),
    "context id twice": request(proposed(1, DX), proposed(1, VERIFICATION)),
    "no context": struct.pack(">BxI", 1, 68) + struct.pack(">HH16s16s32x", 1, 0, b"PRIORITIZER".ljust(16), b"MODALITY".ljust(16)),
    "item longer than its holder": request(item(0x20, bytes(4) + struct.pack(">BxH", 0x30, 9000))),
    "request of 4 GiB": struct.pack(">BxI", 1, 0xFFFFFFFF),
    "request of more than a MiB": struct.pack(">BxI", 1, (1 << 20) + 1),
    "request of 10 bytes": struct.pack(">BxI", 1, 10) + bytes(10),
    "P-DATA first": p_data(1, LAST_COMMAND, command_set(0x30)),
    "no PDU at all": b"GET / HTTP/1.1\r\n\r\n",
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_request_is_aborted(enduring: ListenerProcess, name: str) -> None:
    with RawPeer(enduring.port) as peer:
        peer.send(MALFORMED[name])
        assert peer.pdu()[0] == ABORT
        assert peer.pdu()[0] == CLOSED


def test_query_retrieve_is_not_offered(listener: ListenerProcess) -> None:
    with RawPeer(listener.port) as peer:
        peer.send(request(proposed(1, "1.2.840.10008.5.1.4.1.2.2.1"), proposed(3, DX, "1.2.840.10008.1.2.4.100")))
        kind, body = peer.pdu()
        results = [body[at + 6] for at in range(len(body) - 8) if body[at] == 0x21 and body[at + 1] == 0 and body[at + 8] == 0x40]
        assert (kind, results) == (ASSOCIATE_AC, [3, 4])
    assert listener.notices(1)[0]["code"] == "no-context"


def test_a_foreign_application_context_and_protocol_version_are_rejected(listener: ListenerProcess) -> None:
    foreign = request().replace(b"1.2.840.10008.3.1.1.1", b"1.2.840.10008.3.1.1.2")
    version = bytearray(request())
    version[7] = 2
    for sent, reason in ((foreign, (1, 1, 2)), (bytes(version), (1, 2, 2))):
        with RawPeer(listener.port) as peer:
            peer.send(sent)
            assert peer.pdu() == (ASSOCIATE_RJ, bytes((0, *reason)))


@given(st.binary(max_size=300))
def test_any_bytes_as_request_are_parsed_or_refused(body: bytes) -> None:
    for candidate in (body, request()[6:74] + body):
        try:
            association_pdu.parse_request(candidate)
        except ValueError:
            continue


@given(st.binary(max_size=200))
def test_any_bytes_as_command_are_parsed_or_refused(encoded: bytes) -> None:
    for candidate in (encoded, command_set(1)[: len(encoded)] + encoded):
        try:
            dimse.parse(candidate)
        except ValueError:
            continue


# --- the connection ---------------------------------------------------------------------------------------------


def test_two_hundred_idle_connections_cost_no_thread_and_no_modality_its_association(listener: ListenerProcess, tmp_path: Path) -> None:
    idle = [RawPeer(listener.port) for _ in range(200)]
    try:
        assert still_serves(listener, tmp_path)
        assert listener.threads() < 10
    finally:
        for peer in idle:
            peer.socket.close()


def test_a_crowd_at_another_address_does_not_push_out_a_modality_slow_to_speak(listener: ListenerProcess) -> None:
    with RawPeer(listener.port) as modality:
        crowd = [RawPeer(listener.port, source=f"127.0.0.{2 + number % 3}") for number in range(300)]
        modality.associate()
        for peer in crowd:
            peer.socket.close()


def test_a_stranger_costs_no_thread_however_often_it_knocks(listener: ListenerProcess) -> None:
    for _ in range(50):
        with RawPeer(listener.port) as peer:
            peer.send(request(calling=b"STRANGER"))
            assert peer.pdu() == (ASSOCIATE_RJ, bytes((0, 1, 1, 3)))
    assert listener.threads() < 5
    assert len(listener.notices(1)) == 1


def test_a_silent_connection_is_closed(hasty: ListenerProcess) -> None:
    with RawPeer(hasty.port) as peer:
        assert peer.pdu()[0] == CLOSED


def test_a_dripping_request_does_not_push_its_deadline_back(hasty: ListenerProcess) -> None:
    with RawPeer(hasty.port) as peer:
        with suppress(OSError):
            for byte in request()[:-1]:
                peer.send(bytes((byte,)))
                time.sleep(0.05)
        assert peer.pdu()[0] == CLOSED


def test_an_idle_association_is_aborted(hasty: ListenerProcess) -> None:
    with RawPeer(hasty.port) as peer:
        peer.associate()
        assert peer.pdu()[0] == ABORT


def test_a_message_that_stops_half_way_is_aborted_and_leaves_nothing(hasty: ListenerProcess) -> None:
    with RawPeer(hasty.port) as peer:
        peer.associate()
        peer.send(p_data(3, LAST_COMMAND, command_set(1)) + p_data(3, DATA, data_set()))
        assert peer.pdu()[0] == ABORT
    hasty.wait_for("counters", associations=0)
    assert not list(hasty.spool.partial.iterdir())
    assert not list(hasty.spool.inbox())


def test_a_message_that_drips_in_whole_pdus_is_aborted(hasty: ListenerProcess) -> None:
    with RawPeer(hasty.port) as peer:
        peer.associate()
        peer.send(p_data(3, LAST_COMMAND, command_set(1)))
        stop = threading.Event()

        def drip() -> None:
            while not stop.wait(0.1):
                try:
                    peer.send(p_data(3, DATA, b"xx"))
                except OSError:
                    return

        thread = threading.Thread(target=drip)
        thread.start()
        assert peer.pdu()[0] in (ABORT, CLOSED)
        stop.set()
        thread.join()


def test_a_message_without_end_is_aborted_at_the_cap(hasty: ListenerProcess) -> None:
    with RawPeer(hasty.port) as peer:
        peer.associate()
        peer.send(p_data(3, LAST_COMMAND, command_set(1)))
        with suppress(OSError):
            for _ in range(20):
                peer.send(p_data(3, DATA, bytes(100_000)))
        assert peer.pdu()[0] in (ABORT, CLOSED)
    assert hasty.notices(1)[0]["reason"] == "a message is longer than max_message_bytes"
    assert not list(hasty.spool.partial.iterdir())


def test_associations_beyond_the_limit_hear_local_limit_exceeded(tmp_path: Path) -> None:
    process = ListenerProcess(tmp_path / "spool", max_associations=2)
    try:
        peers = [RawPeer(process.port) for _ in range(3)]
        peers[0].associate()
        peers[1].associate()
        peers[2].send(request())
        assert peers[2].pdu() == (ASSOCIATE_RJ, bytes((0, 2, 3, 2)))
        peers[0].send(struct.pack(">BxI4x", 5, 4))
        assert peers[0].pdu()[0] == RELEASE_RP
        peers[0].socket.close()
        process.wait_for("counters", associations=1)
        with RawPeer(process.port) as again:
            again.associate()
        for peer in peers:
            peer.socket.close()
    finally:
        process.kill()


# --- P-DATA -----------------------------------------------------------------------------------------------------


BAD_DATA = {
    "longer than announced": struct.pack(">BxI", 4, 131_073),
    "4 GiB": struct.pack(">BxI", 4, 0xFFFFFFFF),
    "value longer than its PDU": struct.pack(">BxIIBB", 4, 6, 99, 3, LAST_COMMAND),
    "value of no length": struct.pack(">BxIIBB", 4, 6, 0, 3, LAST_COMMAND),
    "cut short": struct.pack(">BxI", 4, 3) + bytes(3),
    "empty": struct.pack(">BxI", 4, 0),
    "context not accepted": p_data(5, LAST_COMMAND, command_set(1)),
    "data set without command": p_data(3, LAST_DATA, data_set()),
    "command without end": b"".join(p_data(3, 0b01, bytes(10_000)) for _ in range(3)),
    "command that is none": p_data(3, LAST_COMMAND, b"garbage!"),
    "a response": p_data(3, LAST_COMMAND, command_set(0x8001)),
    "two contexts in one message": p_data(3, LAST_COMMAND, command_set(1)) + p_data(1, LAST_DATA, data_set()),
    "release inside a message": p_data(3, LAST_COMMAND, command_set(1)) + struct.pack(">BxI4x", 5, 4),
    "a second request": request(),
    "no PDU": b"GET / HTTP/1.1\r\n\r\n",
}


@pytest.mark.parametrize("name", BAD_DATA)
def test_a_broken_pdu_aborts_the_association_and_the_next_is_served(enduring: ListenerProcess, name: str) -> None:
    before = list(enduring.spool.inbox())
    with RawPeer(enduring.port) as peer:
        peer.associate()
        peer.send(BAD_DATA[name])
        assert peer.pdu()[0] == ABORT
    assert list(enduring.spool.inbox()) == before
    with RawPeer(enduring.port) as next_peer:
        next_peer.associate()
        next_peer.send(p_data(1, LAST_COMMAND, command_set(0x30, sop_class=VERIFICATION.encode(), data_set=False)))
        assert next_peer.status() == 0x0000


STATUSES = {
    "instance UID differs": (command_set(1), data_set(uid=b"1.2.3.5"), 0xA900),
    "class UID differs": (command_set(1), data_set(sop_class=b"1.2.840.10008.5.1.4.1.1.1"), 0xA900),
    "no identity": (command_set(1), element((0x10, 0x20), b"LO", b"P1"), 0xC001),
    "unreadable": (command_set(1), b"\x08\x00\x16\x00??garbage without end", 0xC002),
    "empty data set": (command_set(1), b"", 0xC001),
    "UID with a slash": (command_set(1, uid=b"../../etc/passwd"), data_set(), 0x0117),
    "UID of 65 characters": (command_set(1, uid=b"1." + b"2" * 63), data_set(), 0x0117),
    "class is not the context's": (command_set(1, sop_class=b"1.2.840.10008.5.1.4.1.1.2"), data_set(), 0x0122),
    "C-FIND": (command_set(0x20), data_set(), 0x0211),
    "N-CREATE": (command_set(0x140), data_set(), 0x0211),
}


@pytest.mark.parametrize("name", STATUSES)
def test_a_bad_message_is_refused_by_name_and_the_next_good_one_is_stored(enduring: ListenerProcess, name: str) -> None:
    command, data, expected = STATUSES[name]
    good = f"1.2.3.4.{list(STATUSES).index(name)}".encode()
    before = set(enduring.spool.inbox())
    with RawPeer(enduring.port) as peer:
        peer.associate()
        peer.send(p_data(3, LAST_COMMAND, command) + p_data(3, LAST_DATA, data))
        assert peer.status() == expected
        assert set(enduring.spool.inbox()) == before
        peer.send(p_data(3, LAST_COMMAND, command_set(1, uid=good)) + p_data(3, LAST_DATA, data_set(uid=good)))
        assert peer.status() == 0x0000
    assert {path.stem for path in set(enduring.spool.inbox()) - before} == {good.decode()}


def test_what_cannot_be_understood_is_quarantined_with_its_reason(listener: ListenerProcess) -> None:
    with RawPeer(listener.port) as peer:
        peer.associate()
        peer.send(p_data(3, LAST_COMMAND, command_set(1)) + p_data(3, LAST_DATA, b"not a data set at all"))
        assert peer.status() == 0xC002
    ((path, told),) = listener.spool.quarantined()
    assert path.read_bytes().endswith(b"not a data set at all")
    assert (told["calling_ae"], told["status"]) == ("MODALITY", 0xC002)


def test_fragments_may_be_cut_anywhere(listener: ListenerProcess) -> None:
    command, data = command_set(1), data_set()
    pieces = [p_data(3, 0b01, command[at : at + 7]) for at in range(0, len(command), 7)] + [p_data(3, LAST_COMMAND, b"")]
    pieces += [p_data(3, DATA, data[at : at + 5]) for at in range(0, len(data), 5)] + [p_data(3, LAST_DATA, b"")]
    with RawPeer(listener.port) as peer:
        peer.associate()
        peer.send(b"".join(pieces))
        assert peer.status() == 0x0000
    (path,) = listener.spool.inbox()
    assert path.read_bytes().endswith(data)


# --- real hostile files -----------------------------------------------------------------------------------------


def test_every_hostile_file_is_acknowledged_or_refused_and_the_next_good_one_is_stored(listener: ListenerProcess, tmp_path: Path) -> None:
    folder = shared_dicom() / "hostile"
    sent = 0
    for path in sorted(folder.glob("*.dcm")):
        data, syntax = _as_transmitted(path)
        with RawPeer(listener.port) as peer:
            peer.associate(proposed(1, DX, syntax))
            pieces = [data[at : at + 100_000] for at in range(0, len(data), 100_000)] or [b""]
            peer.send(p_data(1, LAST_COMMAND, command_set(1, uid=b"1.2.3.4")))
            for number, piece in enumerate(pieces):
                peer.send(p_data(1, LAST_DATA if number == len(pieces) - 1 else DATA, piece))
            assert peer.status() in {0x0000, 0xA900, 0xC001, 0xC002}, path.name
            sent += 1
    assert sent > 40
    assert still_serves(listener, tmp_path)


def _as_transmitted(path: Path) -> tuple[bytes, str]:
    """The bytes behind the file meta information, and a syntax the listener takes them in."""
    raw = path.read_bytes()
    if raw[128:132] != b"DICM":
        return raw, ImplicitVRLittleEndian
    with path.open("rb") as file:
        try:
            pydicom.filereader.read_preamble(file, False)
            meta = pydicom.filereader._read_file_meta_info(file)
            implicit = meta.get("TransferSyntaxUID") == ImplicitVRLittleEndian
            return file.read(), ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
        except (OSError, ValueError, AttributeError, NotImplementedError):
            return raw[132:], ExplicitVRLittleEndian


def test_dcmtk_sends_the_everyday_radiographs_and_they_arrive(tmp_path: Path) -> None:
    folder = shared_dicom() / "everyday"
    process = ListenerProcess(tmp_path / "spool")
    try:
        command = [program("dcmsend"), "+sd", "-aet", "MODALITY", "-aec", "PRIORITIZER", "--no-halt", "--no-illegal-proposal"]
        subprocess.run([*command, "127.0.0.1", str(process.port), str(folder)], capture_output=True, check=False, timeout=60)
        assert len(list(process.spool.inbox())) >= 20
    finally:
        process.kill()
