"""A listener process under test, radiographs to send it, and peers good and bad."""

from __future__ import annotations

import json
import os
import queue
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Self

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid

from prioritizer.dicom.scp.admission import ListenerSettings, PeerRule
from prioritizer.dicom.scp.listener import spawn_environment
from prioritizer.dicom.spool.notices import read
from prioritizer.dicom.spool.spool import Spool
from prioritizer.dicom.standard.contexts import NATIVE_SYNTAXES, TRANSFER_SYNTAXES, VERIFICATION
from tests.support.pacs import program

REPOSITORY = Path(__file__).resolve().parents[2]
EVERY_SYNTAX = tuple(syntax.uid for syntax in TRANSFER_SYNTAXES if syntax.uid not in NATIVE_SYNTAXES)
DX = str(DigitalXRayImageStorageForPresentation)
TRUSTED = PeerRule(ae_title="MODALITY", host="127.0.0.1")


def shared_dicom() -> Path:
    """The folder of real DICOM files; skips where this machine has none."""
    root = Path(os.environ.get("PRIORITIZER_SHARED_DATA", REPOSITORY.parent / "shared" / "data")) / "dicom"
    if not root.is_dir():
        pytest.skip("the shared DICOM files are not here")
    return root


class ListenerProcess:
    """The real process, its event lines collected by a thread; leaves with `kill`."""

    def __init__(self, root: Path, **changes: Any) -> None:
        told = {"spool": str(root), "port": 0, "peers": (TRUSTED,), "decodable": EVERY_SYNTAX, "counters_seconds": 0.2}
        self.settings = ListenerSettings(**{"min_free_bytes": 0, "min_free_fraction": 0.0, **told, **changes})
        self.spool = Spool(root)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "prioritizer.dicom.scp.listener"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=REPOSITORY,
            env=spawn_environment(),
        )
        self._deaf = False
        self.events: queue.Queue[dict[str, Any]] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.say(self.settings.to_json())
        self.port = int(self.wait_for("listening")["port"])

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if self._deaf:
                return
            self.events.put(json.loads(line))

    def say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()

    def wait_for(self, event: str, **facts: Any) -> dict[str, Any]:
        """The next event of this name with these facts; fails after ten seconds."""
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            try:
                told = self.events.get(timeout=deadline - time.monotonic())
            except queue.Empty:
                break
            if told["event"] == event and all(told.get(name) == value for name, value in facts.items()):
                return told
        pytest.fail(f"the listener never told {event} {facts}")

    def read_no_more(self, *, close: bool) -> None:
        """Leave the listener's events unread: its pipe fills, or breaks when closed."""
        self._deaf = True
        self._reader.join()
        if close and self._process.stdout is not None:
            self._process.stdout.close()

    def notices(self, count: int) -> list[dict[str, Any]]:
        """The unread notices, once there are this many."""
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            found = [read(path) for path in self.spool.notices()]
            if len(found) >= count:
                return found
            time.sleep(0.02)
        pytest.fail(f"fewer than {count} notices")

    def threads(self) -> int:
        """How many threads the process has now."""
        return len(list(Path(f"/proc/{self.pid}/task").iterdir()))

    @property
    def pid(self) -> int:
        return self._process.pid

    def close_input(self) -> None:
        """End of input: the parent is gone, or wants it to stop."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    def terminate(self) -> None:
        """SIGTERM."""
        self._process.terminate()

    def exit_code(self) -> int:
        """The exit code, once the process has ended."""
        return self._process.wait(timeout=15)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join(timeout=5)  # a pipe that is closed under its reader fails there
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


def radiograph(path: Path, *, uid: str | None = None, size: int = 4096, fill: int = 7, syntax: str = ExplicitVRLittleEndian) -> str:
    """Write a small DX file; returns its SOP Instance UID."""
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = DX, uid or generate_uid()
    dataset.StudyInstanceUID = dataset.SeriesInstanceUID = generate_uid()
    dataset.PatientName, dataset.PatientID, dataset.Modality = "Phantom^Chest", "P1", "DX"
    rows = max(1, size // 8192)
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = rows, size // 2 // rows, 1
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation, dataset.PhotometricInterpretation = 15, 0, "MONOCHROME2"
    dataset.add_new("PixelData", "OW", bytes([fill]) * (rows * (size // 2 // rows) * 2))
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.save_as(path, enforce_file_format=True)
    return str(dataset.SOPInstanceUID)


def storescu(port: int, *files: Path, calling: str = "MODALITY", called: str = "PRIORITIZER", options: tuple[str, ...] = ()) -> str:
    """What DCMTK's sender said; its environment has TCP_NODELAY=1, without which every store waits 40 ms."""
    command = [program("storescu"), "-v", "-nh", "-aet", calling, "-aec", called, *options, "127.0.0.1", str(port)]
    environment = {**os.environ, "TCP_NODELAY": "1"}
    done = subprocess.run([*command, *map(str, files)], capture_output=True, text=True, check=False, timeout=60, env=environment)
    return done.stdout + done.stderr


# --- a raw peer, for what no honest program sends -----------------------------------------------------------------


def item(kind: int, value: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(value)) + value


def proposed(context_id: int, abstract: str, *syntaxes: str) -> bytes:
    inner = item(0x30, abstract.encode()) + b"".join(item(0x40, each.encode()) for each in syntaxes or (NATIVE_SYNTAXES[0],))
    return item(0x20, bytes((context_id, 0, 0, 0)) + inner)


def request(*contexts: bytes, calling: bytes = b"MODALITY", called: bytes = b"PRIORITIZER") -> bytes:
    """A-ASSOCIATE-RQ with these presentation contexts (default: Verification and DX)."""
    contexts = contexts or (proposed(1, VERIFICATION), proposed(3, DX))
    body = struct.pack(">HH16s16s32x", 1, 0, called.ljust(16), calling.ljust(16)) + item(0x10, b"1.2.840.10008.3.1.1.1")
    body += b"".join(contexts) + item(0x50, item(0x51, struct.pack(">I", 16384)) + item(0x52, b"1.2.3"))
    return struct.pack(">BxI", 1, len(body)) + body


def command_set(field: int, *, sop_class: bytes = DX.encode(), uid: bytes = b"1.2.3.4", data_set: bool = True) -> bytes:
    def element(number: int, value: bytes) -> bytes:
        value += b"\x00" * (len(value) % 2)
        return struct.pack("<HHI", 0, number, len(value)) + value

    elements = element(2, sop_class) + element(0x100, struct.pack("<H", field)) + element(0x110, b"\x01\x00")
    elements += element(0x700, b"\x00\x00") + element(0x800, b"\x00\x00" if data_set else b"\x01\x01") + element(0x1000, uid)
    return element(0, struct.pack("<I", len(elements))) + elements


def p_data(context_id: int, control: int, fragment: bytes) -> bytes:
    return struct.pack(">BxIIBB", 4, len(fragment) + 6, len(fragment) + 2, context_id, control) + fragment


class RawPeer:
    """A socket that speaks exactly the bytes it is told to."""

    def __init__(self, port: int, *, source: str = "127.0.0.1") -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10, source_address=(source, 0))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def pdu(self) -> tuple[int, bytes]:
        """The next PDU, (0, b"") when the listener has closed the connection."""
        head = self._exactly(6)
        if len(head) < 6:
            return 0, b""
        return head[0], self._exactly(int.from_bytes(head[2:], "big"))

    def _exactly(self, number: int) -> bytes:
        data = b""
        while len(data) < number:
            try:
                more = self.socket.recv(number - len(data))
            except ConnectionResetError:
                more = b""
            if not more:
                return data
            data += more
        return data

    def associate(self, *contexts: bytes) -> None:
        self.send(request(*contexts))
        kind, _ = self.pdu()
        assert kind == 2, "the association was not accepted"

    def status(self) -> int:
        """The status of the response that comes next."""
        kind, body = self.pdu()
        assert kind == 4, f"PDU {kind} instead of a response"
        found = body.index(struct.pack("<HHI", 0, 0x0900, 2))
        return int.from_bytes(body[found + 8 : found + 10], "little")
