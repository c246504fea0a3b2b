"""Intake beside Orthanc and pynetdicom's own receiver, in one run: images/s, associations/s, memory.

Everything is on the loopback interface, one sender for all receivers, rounds interleaved so that a noisy minute hits both.
Orthanc runs with TCP_NODELAY=1: without it every store waits 40 ms for a delayed acknowledgement, and beating that is no feat.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prioritizer.dicom.scp.admission import ListenerSettings, PeerRule
from prioritizer.dicom.scp.listener import spawn_environment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DX = "1.2.840.10008.5.1.4.1.1.1.1"
EXPLICIT, JPEG = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.4.50"
UID_LENGTH = 40
ROUNDS = 3
CALLED = b"BENCH"
REPOSITORY = Path(__file__).resolve().parents[1]
_numbers = iter(range(1, 10_000_000))


# --- the sender: the same for every receiver ----------------------------------------------------------------------


class Film:
    """One object, encoded once; each sending differs only in its SOP Instance UID."""

    def __init__(self, pixel_bytes: int, *, jpeg: bool = False) -> None:
        self.syntax = JPEG if jpeg else EXPLICIT
        elements = _text((8, 0x16), b"UI", DX)
        self._uid_at = len(elements) + 8
        elements += _text((8, 0x18), b"UI", "0" * UID_LENGTH) + _text((8, 0x60), b"CS", "DX") + _text((0x10, 0x20), b"LO", "BENCH")
        elements += _text((0x20, 0x0D), b"UI", "1.2.3.4") + _text((0x20, 0x0E), b"UI", "1.2.3.4.5")
        rows, columns = (2500, pixel_bytes // 5000) if not jpeg else (1024, 1024)
        for tag, value in (((0x28, 2), 1), ((0x28, 0x10), rows), ((0x28, 0x11), columns), ((0x28, 0x100), 8 if jpeg else 16)):
            elements += struct.pack("<HH2sHH", *tag, b"US", 2, value)
        pixels = os.urandom(4096) * (pixel_bytes // 4096 + 1)
        self._data = elements + (_encapsulated(pixels[:pixel_bytes]) if jpeg else _native(pixels[: rows * columns * 2]))

    def messages(self, max_length: int) -> Callable[[str], tuple[bytes, memoryview]]:
        """A function from UID to (first PDUs, remaining PDUs) for a receiver that takes PDUs of this length."""
        step = (max_length or 131_072) - 6
        starts = range(step, len(self._data), step)
        rest = memoryview(b"".join(_p_data(self._data[at : at + step], at + step >= len(self._data)) for at in starts))

        def message(uid: str) -> tuple[bytes, memoryview]:
            head = bytearray(self._data[:step])
            head[self._uid_at : self._uid_at + UID_LENGTH] = uid.encode()
            return _command(uid) + _p_data(bytes(head), len(self._data) <= step), rest

        return message


def _text(tag: tuple[int, int], vr: bytes, text: str) -> bytes:
    value = text.encode() + (b"\x00" if vr == b"UI" else b" ") * (len(text) % 2)
    return struct.pack("<HH2sH", *tag, vr, len(value)) + value


def _native(pixels: bytes) -> bytes:
    return struct.pack("<HH2sHI", 0x7FE0, 0x10, b"OW", 0, len(pixels)) + pixels


def _encapsulated(frame: bytes) -> bytes:
    head = struct.pack("<HH2sHI", 0x7FE0, 0x10, b"OB", 0, 0xFFFFFFFF) + b"\xfe\xff\x00\xe0\x00\x00\x00\x00"
    return head + struct.pack("<HHI", 0xFFFE, 0xE000, len(frame)) + frame + b"\xfe\xff\xdd\xe0\x00\x00\x00\x00"


def _p_data(fragment: bytes, is_last: bool, *, command: bool = False) -> bytes:
    control = (1 if command else 0) | (2 if is_last else 0)
    return struct.pack(">BxIIBB", 4, len(fragment) + 6, len(fragment) + 2, 1, control) + fragment


def _command(uid: str) -> bytes:
    def element(number: int, value: bytes) -> bytes:
        value += b"\x00" * (len(value) % 2)
        return struct.pack("<HHI", 0, number, len(value)) + value

    body = element(2, DX.encode()) + element(0x100, b"\x01\x00") + element(0x110, b"\x01\x00") + element(0x700, b"\x00\x00")
    body += element(0x800, b"\x00\x00") + element(0x1000, uid.encode())
    return _p_data(element(0, struct.pack("<I", len(body))) + body, True, command=True)


def _new_uid() -> str:
    return f"1.2.826.0.1.{next(_numbers):08d}".ljust(UID_LENGTH, "1")


def _associate(port: int, syntax: str, called: bytes) -> tuple[socket.socket, int]:
    def item(kind: int, value: bytes) -> bytes:
        return struct.pack(">BxH", kind, len(value)) + value

    context = item(0x20, b"\x01\x00\x00\x00" + item(0x30, DX.encode()) + item(0x40, syntax.encode()))
    user = item(0x50, item(0x51, struct.pack(">I", 131_072)) + item(0x52, b"1.2.3.4") + item(0x55, b"BENCH"))
    body = struct.pack(">HH16s16s32x", 1, 0, called.ljust(16), b"BENCH".ljust(16)) + item(0x10, b"1.2.840.10008.3.1.1.1")
    connection = socket.create_connection(("127.0.0.1", port), timeout=60)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.sendall(struct.pack(">BxI", 1, len(body + context + user)) + body + context + user)
    kind, answer = _pdu(connection)
    assert kind == 2, f"association refused with PDU {kind}"
    at = answer.index(b"\x51\x00\x00\x04")
    return connection, int.from_bytes(answer[at + 4 : at + 8], "big")


def _pdu(connection: socket.socket) -> tuple[int, bytes]:
    head = _exactly(connection, 6)
    return head[0], _exactly(connection, int.from_bytes(head[2:], "big"))


def _exactly(connection: socket.socket, number: int) -> bytes:
    # Not MSG_WAITALL: on a socket with a time-out it does not wait.
    data = b""
    while len(data) < number:
        more = connection.recv(number - len(data))
        assert more, "the receiver closed the connection"
        data += more
    return data


def _store(connection: socket.socket, message: tuple[bytes, memoryview]) -> None:
    connection.sendall(message[0])
    connection.sendall(message[1])
    kind, answer = _pdu(connection)
    assert kind == 4, f"PDU {kind} instead of a response: {answer.hex()}"
    at = answer.index(struct.pack("<HHI", 0, 0x0900, 2))
    assert answer[at + 8 : at + 10] == b"\x00\x00", f"not stored: {answer[at + 8 : at + 10].hex()}"


def _release(connection: socket.socket) -> None:
    connection.sendall(struct.pack(">BxI4x", 5, 4))
    _pdu(connection)
    connection.close()


def images_per_second(port: int, film: Film, associations: int, each: int, called: bytes = CALLED) -> float:
    """Films acknowledged a second, each association sending one after the other."""
    open_ones = [_associate(port, film.syntax, called) for _ in range(associations)]
    makers = [film.messages(max_length) for _, max_length in open_ones]

    def send(index: int) -> None:
        for _ in range(each):
            _store(open_ones[index][0], makers[index](_new_uid()))

    seconds = _in_threads(associations, send)
    for connection, _ in open_ones:
        _release(connection)
    return associations * each / seconds


def associations_per_second(port: int, film: Film, number: int) -> float:
    """Associations opened, used for one film and released, one after the other."""
    begun = time.perf_counter()
    for _ in range(number):
        connection, max_length = _associate(port, film.syntax, CALLED)
        _store(connection, film.messages(max_length)(_new_uid()))
        _release(connection)
    return number / (time.perf_counter() - begun)


def _in_threads(number: int, work: Callable[[int], None]) -> float:
    with ThreadPoolExecutor(number) as threads:
        begun = time.perf_counter()
        # A sending that failed must fail the row: it would otherwise count as a very fast one.
        for done in [threads.submit(work, index) for index in range(number)]:
            done.result()
        return time.perf_counter() - begun


# --- the receivers ------------------------------------------------------------------------------------------------


@contextmanager
def ours(folder: Path, checkout: Path = REPOSITORY) -> Iterator[tuple[int, int]]:
    """Our listener, of this or another checkout, with its default limits; yields (port, process id)."""
    settings = ListenerSettings(
        spool=str(folder / "spool"),
        port=0,
        accept_any_called=True,
        decodable=(JPEG,),
        peers=(PeerRule(ae_title="*", host="127.0.0.1"),),
    )
    moved = (checkout / "prioritizer" / "dicom" / "scp" / "listener.py").exists()
    with _process(
        [sys.executable, "-m", "prioritizer.dicom.scp.listener" if moved else "prioritizer.dicom.listener"],
        spawn_environment() | {"PYTHONPATH": str(checkout)},
        pipes=True,
        cwd=checkout,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(settings.to_json().encode() + b"\n")
        process.stdin.flush()
        told = json.loads(process.stdout.readline())
        threading.Thread(target=lambda: [None for _ in process.stdout], daemon=True).start()
        yield told["port"], process.pid


@contextmanager
def orthanc(folder: Path) -> Iterator[tuple[int, int]]:
    """Orthanc with its default synchronous storage and without Nagle's wait."""
    port = _free_port()
    settings = {"StorageDirectory": str(folder / "orthanc"), "IndexDirectory": str(folder / "orthanc"), "Plugins": []}
    settings |= {"DicomPort": port, "DicomCheckCalledAet": False, "HttpServerEnabled": False, "DicomAlwaysAllowStore": True}
    path = folder / "orthanc.json"
    path.write_text(json.dumps(settings))
    program = shutil.which("Orthanc", path=os.environ.get("PATH", "") + ":/usr/sbin")
    assert program, "Orthanc is not installed"
    with _process([program, str(path)], {**os.environ, "TCP_NODELAY": "1"}) as process:
        _await_port(port)
        yield port, process.pid


@contextmanager
def storescp(folder: Path) -> Iterator[tuple[int, int]]:
    """The receiver that pynetdicom ships."""
    port = _free_port()
    command = [sys.executable, "-m", "pynetdicom", "storescp", str(port), "-od", str(folder / "storescp"), "-q"]
    (folder / "storescp").mkdir(exist_ok=True)
    with _process(command, dict(os.environ)) as process:
        _await_port(port)
        yield port, process.pid


@contextmanager
def _process(
    command: list[str], environment: dict[str, str], *, pipes: bool = False, cwd: Path = REPOSITORY
) -> Iterator[subprocess.Popen[bytes]]:
    pipe = subprocess.PIPE if pipes else subprocess.DEVNULL
    process = subprocess.Popen(command, env=environment, cwd=cwd, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(timeout=30)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _await_port(port: int) -> None:
    for _ in range(300):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.1)
    raise TimeoutError(f"nothing listens on port {port}")


# --- the rows -----------------------------------------------------------------------------------------------------


def run() -> list[dict[str, Any]]:
    """Every row of the speed table that concerns intake: what, required, measured, medians, spread, met."""
    rows = []
    large, small = Film(10_240_000), Film(100_000, jpeg=True)
    for associations, each in ((1, 20), (4, 10)):
        what = f"durable intake, 10 MB DX, {associations} association{'s' if associations > 1 else ''}, images/s"
        rows.append(_compare(what, 1.5, orthanc, lambda port, a=associations, e=each: images_per_second(port, large, a, e)))
    what = "one 100 KB JPEG an association, associations/s"
    rows.append(_compare(what, 3.0, storescp, lambda port: associations_per_second(port, small, 60)))
    rows.append(memory_row())
    return rows


def _compare(what: str, required: float, other: Callable[[Path], Any], measure: Callable[[int], float]) -> dict[str, Any]:
    mine, theirs = [], []
    for _ in range(ROUNDS):
        for receiver, figures in ((ours, mine), (other, theirs)):
            with tempfile.TemporaryDirectory() as folder, receiver(Path(folder)) as (port, _):
                measure(port) if not figures else None
                figures.append(measure(port))
    ratio = statistics.median(mine) / statistics.median(theirs)
    return {
        "what": what,
        "required": f">= {required:g} x {other.__name__}",
        "ratio": ratio,
        "median": f"{statistics.median(mine):.1f} against {statistics.median(theirs):.1f}",
        "spread": f"{min(mine):.1f}-{max(mine):.1f} against {min(theirs):.1f}-{max(theirs):.1f}",
        "met": ratio >= required,
    }


def memory_row(associations: int = 16, size: int = 50_000_000, allowed: int = 100) -> dict[str, Any]:
    """Peak resident memory with so many associations at once, above idle, in MB."""
    with tempfile.TemporaryDirectory() as folder, ours(Path(folder)) as (port, pid):
        time.sleep(0.5)
        idle = _resident(pid, "VmRSS")
        film = Film(size)
        open_ones = [_associate(port, film.syntax, CALLED) for _ in range(associations)]
        make = film.messages(open_ones[0][1])
        _in_threads(associations, lambda index: _store(open_ones[index][0], make(_new_uid())))
        for connection, _ in open_ones:
            _release(connection)
        peak = _resident(pid, "VmHWM")
    grown = peak - idle
    return {
        "what": f"listener memory, {associations} associations of {size // 1_000_000} MB at once",
        "required": f"<= idle + {allowed} MB",
        "ratio": None,
        "median": f"idle + {grown:.1f} MB",
        "spread": f"peak {peak:.1f} MB, idle {idle:.1f} MB",
        "met": grown <= allowed,
    }


def _resident(pid: int, field: str) -> float:
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) / 1000


if __name__ == "__main__":
    for row in run():
        print(json.dumps(row))
