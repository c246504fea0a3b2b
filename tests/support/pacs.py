"""Real peers for the tests: Orthanc and DCMTK's storescp on free loopback ports."""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from pynetdicom import AE

SHARED = Path(os.environ.get("PRIORITIZER_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data"))
REQUIRED = os.environ.get("PRIORITIZER_REQUIRE_PEERS") == "1"


def program(name: str) -> str:
    """The path of a peer's binary; skips the test without it, fails where peers are required."""
    # pynetdicom puts a storescu and others of its own beside the interpreter; an activated environment has them first.
    own = Path(sys.executable).parent
    places = [place for place in os.get_exec_path() if Path(place) != own]
    found = shutil.which(name, path=os.pathsep.join([*places, "/usr/sbin", "/usr/local/sbin"]))
    if found is None:
        (pytest.fail if REQUIRED else pytest.skip)(f"{name} is not installed")
    return str(found)


def shared_dicom(folder: str) -> list[Path]:
    """The files of shared/data/dicom/<folder>; an empty list where the material is absent."""
    return sorted((SHARED / "dicom" / folder).glob("*.dcm"))


def free_port() -> int:
    """A port nobody listens on, below the range from which outgoing connections take theirs: it stays free until it is used."""
    for _ in range(200):
        port = random.randrange(15_000, 32_000)
        with suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port
    pytest.fail("no free port")


def wait_for_port(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if process.poll() is not None:
            pytest.fail(f"the peer ended with {process.returncode}")
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    pytest.fail("the peer does not listen")


@contextmanager
def running(command: list[str], port: int) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, "TCP_NODELAY": "1"})
    try:
        wait_for_port(port, process)
        yield process
    finally:
        process.terminate()
        process.wait(timeout=20)


@dataclass
class Orthanc:
    """A running Orthanc with an empty database."""

    port: int
    http_port: int
    ae_title: str = "ORTHANC"
    folder: Path = field(default_factory=Path)

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}{path}", timeout=10) as answer:
            return json.load(answer)

    def study_of(self, sop_instance_uid: str) -> str:
        """Study Instance UID under which Orthanc filed the instance."""
        body = json.dumps({"Level": "Instance", "Query": {"SOPInstanceUID": sop_instance_uid}}).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.http_port}/tools/find", data=body)
        with urllib.request.urlopen(request, timeout=10) as answer:
            (found,) = json.load(answer)
        return str(self.get(f"/instances/{found}/study")["MainDicomTags"]["StudyInstanceUID"])


@contextmanager
def empty_orthanc(folder: Path) -> Iterator[Orthanc]:
    """An Orthanc on free ports that keeps what it is sent in `folder`."""
    peer = Orthanc(port=free_port(), http_port=free_port(), folder=folder)
    settings = {
        "Name": "test",
        "StorageDirectory": str(folder / "store"),
        "IndexDirectory": str(folder / "store"),
        "DicomPort": peer.port,
        "HttpPort": peer.http_port,
        "DicomAet": peer.ae_title,
        "DicomCheckCalledAet": True,
        "DicomAlwaysAllowStore": True,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "Plugins": [],
    }
    (folder / "orthanc.json").write_text(json.dumps(settings))
    with running([program("Orthanc"), str(folder / "orthanc.json")], peer.port) as process:
        wait_for_port(peer.http_port, process)
        yield peer


@contextmanager
def running_storescp(folder: Path) -> Iterator[int]:
    """DCMTK's storescp, accepting all it knows, writing byte for byte into `folder`; its port."""
    port = free_port()
    with running([program("storescp"), "+xa", "+B", "-od", str(folder), str(port)], port):
        yield port


def end_server(entity: AE) -> None:
    """Stop a pynetdicom peer, and wait until the threads of its associations have closed their sockets."""
    associations = entity.active_associations
    for association in associations:
        association.join(timeout=0.3)  # most were released just now
    entity.shutdown()
    for association in associations:
        association.join(timeout=3)
