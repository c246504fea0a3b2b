"""PDUs read one by one: whatever the slices they come in, each whole; what stops, drips or lies about its length has an end."""

from __future__ import annotations

import random
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest

from prioritizer.dicom.scp.association_pdu import ABORT, P_DATA, PDU_HEADER, RELEASE_RQ
from prioritizer.dicom.scp.pdu_reader import PduReader, PeerGoneError, SilentError, TooLongError, TooSlowError

MAX_COUNT = 10_000


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def pdu(kind: int, body: bytes) -> bytes:
    return PDU_HEADER.pack(kind, len(body)) + body


def reader(ours: socket.socket, seconds_a_byte: float = 0.0) -> PduReader:
    return PduReader(ours, max_bytes=MAX_COUNT, seconds_a_byte=seconds_a_byte)


@pytest.mark.parametrize("seed", range(8))
def test_pdus_of_any_length_in_slices_of_any_length_come_out_whole(pair: tuple[socket.socket, socket.socket], seed: int):
    ours, theirs = pair
    chance = random.Random(seed)
    sent = [(P_DATA, chance.randbytes(chance.choice([0, 1, 5, 6, 7, 100, 4096, MAX_COUNT - 1, MAX_COUNT]))) for _ in range(30)]
    sent.insert(11, (RELEASE_RQ, bytes(4)))
    stream = b"".join(pdu(kind, body) for kind, body in sent)

    def send() -> None:
        rest = stream
        while rest:
            length = chance.choice([1, 3, 6, 7, 500, 20_000])
            theirs.sendall(rest[:length])
            rest = rest[length:]
        theirs.shutdown(socket.SHUT_WR)

    thread = threading.Thread(target=send)
    thread.start()
    pdus = reader(ours)
    came = []
    with suppress(PeerGoneError):
        while True:
            kind, body = pdus.read(10.0, 10.0)
            came.append((kind, bytes(body)))
    thread.join()
    assert came == sent


def test_a_pdu_that_came_with_the_one_before_has_begun(pair: tuple[socket.socket, socket.socket]):
    ours, theirs = pair
    theirs.sendall(pdu(P_DATA, b"one") + pdu(RELEASE_RQ, bytes(4)))
    pdus = reader(ours)
    assert not pdus.has_begun
    assert pdus.read(1.0, 1.0)[1] == b"one"
    assert pdus.has_begun
    assert pdus.read(1.0, 1.0)[0] == RELEASE_RQ
    assert not pdus.has_begun


def test_silence_before_a_pdu_is_not_slowness_within_one(pair: tuple[socket.socket, socket.socket]):
    ours, theirs = pair
    pdus = reader(ours)
    with pytest.raises(SilentError):
        pdus.read(0.01, 1.0)
    theirs.sendall(pdu(P_DATA, b"whole")[:-1])
    with pytest.raises(TooSlowError):
        pdus.read(1.0, 0.01)


def test_a_header_cut_short_is_slow_too(pair: tuple[socket.socket, socket.socket]):
    ours, theirs = pair
    theirs.sendall(pdu(P_DATA, b"x")[:3])
    with pytest.raises(TooSlowError):
        reader(ours).read(1.0, 0.01)


def test_a_peer_that_drips_ends_and_one_with_a_slow_line_does_not(pair: tuple[socket.socket, socket.socket]):
    ours, theirs = pair
    stop = threading.Event()

    def drip() -> None:
        theirs.sendall(PDU_HEADER.pack(P_DATA, 40))
        for _ in range(40):
            if stop.wait(0.02):
                return
            theirs.sendall(b"x")

    thread = threading.Thread(target=drip)
    thread.start()
    try:
        with pytest.raises(TooSlowError):
            reader(ours).read(5.0, 0.2)
    finally:
        stop.set()
        thread.join()
    ours, theirs = socket.socketpair()
    stop.clear()
    thread = threading.Thread(target=drip)
    thread.start()
    try:
        assert len(reader(ours, seconds_a_byte=1.0).read(5.0, 0.2)[1]) == 40
    finally:
        thread.join()
        ours.close()
        theirs.close()


@pytest.mark.parametrize(("kind", "length"), [(P_DATA, MAX_COUNT + 1), (RELEASE_RQ, 65), (ABORT, 1 << 31), (0xFF, 1000)])
def test_a_length_that_was_not_announced_is_not_waited_for(pair: tuple[socket.socket, socket.socket], kind: int, length: int):
    ours, theirs = pair
    theirs.sendall(PDU_HEADER.pack(kind, length))
    with pytest.raises(TooLongError):
        reader(ours).read(1.0, 60.0)


def test_what_comes_after_the_end_is_thrown_away_until_the_peer_closes(pair: tuple[socket.socket, socket.socket]):
    ours, theirs = pair
    theirs.sendall(bytes(50_000))
    pdus = reader(ours)
    with pytest.raises(SilentError):
        pdus.discard(0.05)
    theirs.sendall(bytes(50_000))
    theirs.close()
    with pytest.raises(PeerGoneError):
        pdus.discard(60.0)
