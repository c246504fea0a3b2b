"""The real daemon under test: configured on free ports, started, stopped, killed, asked."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any

import psutil
import pydicom
import pytest
import sqlalchemy as sa

from prioritizer.access import May, Role
from prioritizer.db.accounts import people, sessions
from prioritizer.db.schema import connect
from prioritizer.db.worklist import rows as worklist_rows
from prioritizer.db.worklist import study as worklist_study
from prioritizer.db.worklist.rows import DeliveryRow
from prioritizer.db.worklist.study import InstanceRow
from prioritizer.dicom.stand_ins.phantom_files import PhantomPatient, phantom_file, phantom_study_uid
from prioritizer.errors import NotAllowed
from tests.support.pacs import Orthanc, free_port, program, running, wait_for_port

REPOSITORY = Path(__file__).resolve().parents[2]
GROUPS = ("identity",)
"""Verbs of two words."""
PATIENCE_S = 60.0
"""Generous: it bounds a hang on a busy machine, and proves nothing about speed."""
TAKEN_AT = datetime(2026, 3, 4, 8, 30, tzinfo=UTC)


def wait_until(true: Callable[[], Any], what: str, patience_s: float = PATIENCE_S) -> Any:
    """The first true value that `true` gives; fails when that takes too long."""
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        if found := true():
            return found
        time.sleep(0.05)
    pytest.fail(f"still not so after {patience_s:g} s: {what}")


def toml(sections: dict[str, Any]) -> str:
    """The sections as TOML: tables of plain values, and arrays of such tables."""
    lines = []
    for name, section in sections.items():
        for table in section if isinstance(section, list) else [section]:
            lines.append(f"[[{name}]]" if isinstance(section, list) else f"[{name}]")
            lines += [f"{key} = {json.dumps(value)}" for key, value in table.items()]
    return "\n".join(lines) + "\n"


def phantom(folder: Path, number: int, *, changes: dict[str, Any] | None = None, **traits: Any) -> Path:
    """A phantom film on disk; `changes` are elements set after drawing it."""
    film = phantom_file(PhantomPatient(number=number, taken_at=TAKEN_AT, **{"rows": 256, "columns": 224, **traits}))
    path = folder / f"phantom-{number}-{traits.get('instance', 1)}.dcm"
    path.write_bytes(film)
    if changes:
        dataset = pydicom.dcmread(BytesIO(film))
        for keyword, value in changes.items():
            setattr(dataset, keyword, value)
        dataset.save_as(path, enforce_file_format=True)
    return path


def uid_of(path: Path) -> str:
    """(0008,0018) SOP Instance UID of a file."""
    return str(pydicom.dcmread(path, stop_before_pixels=True, force=True).SOPInstanceUID)


@dataclass
class Daemon:
    """`prioritizer serve` in a process group of its own. `sections` may be changed between two starts."""

    folder: Path
    sections: dict[str, Any]
    environment: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    @property
    def config(self) -> Path:
        return self.folder / "prioritizer.toml"

    @property
    def log_file(self) -> Path:
        return self.folder / "log.jsonl"

    @property
    def port(self) -> int:
        return int(self.sections["listener"]["port"])

    @property
    def address(self) -> str:
        return f"PRIORITIZER@127.0.0.1:{self.port}"

    def write_config(self) -> None:
        self.config.write_text(toml(self.sections))

    def start(self, *, ready: bool = True) -> Daemon:
        """Start it and wait until it is ready, or, without `ready`, until it answers at all."""
        self.write_config()
        with self.log_file.open("ab") as log, (self.folder / "stdout.txt").open("ab") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "prioritizer", "serve", "--config", str(self.config)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=log,
                cwd=self.folder,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **self.environment},
                start_new_session=True,
            )
        wait_until(lambda: self._answers(ready=ready), "the daemon is ready", 120)
        return self

    def _answers(self, *, ready: bool) -> bool:
        if self.process is None or self.process.poll() is not None:
            pytest.fail(f"the daemon ended: {self.log()[-2000:]}")
        with suppress(OSError):
            return self.get("/readyz" if ready else "/healthz")[0] == 200 and (ready or '"event": "ready"' in self.log())
        return False

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        if self.process is None:
            return 0
        self.process.terminate()
        try:
            return self.process.wait(timeout=60)
        finally:
            self.kill()

    def kill(self) -> None:
        """kill -9 of daemon, listener and every child at once."""
        if self.process is None:
            return
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(timeout=30)
        wait_until(lambda: not self._group(), "every process of the group is gone", 30)
        self.process = None

    def _group(self) -> list[int]:
        assert self.process is not None
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, 0)
            return [p.pid for p in psutil.process_iter() if _group_of(p.pid) == self.process.pid and p.status() != psutil.STATUS_ZOMBIE]
        return []

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def children(self, word: str = "") -> list[psutil.Process]:
        """Its child processes whose command line holds `word`."""
        assert self.process is not None
        return [child for child in psutil.Process(self.process.pid).children(recursive=True) if word in " ".join(_command_line(child))]

    # --- asking ------------------------------------------------------------------------------------------------

    def log(self) -> str:
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def events(self, name: str) -> list[dict[str, Any]]:
        """Log lines of this event."""
        told = []
        for line in self.log().splitlines():
            with suppress(ValueError):
                told.append(json.loads(line))
        return [line for line in told if isinstance(line, dict) and line.get("event") == name]

    def get(self, path: str) -> tuple[int, str]:
        """Status and body of a page."""
        headers = {"Authorization": f"Bearer {self.token}"} if path.startswith(("/api", "/study")) or path == "/" else {}
        request = urllib.request.Request(f"http://127.0.0.1:{self.sections['web']['port']}{path}", headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return int(answer.status), answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def listed(self, order: str = "deadline", view: str = "open") -> list[dict[str, Any]]:
        """The rows of the list, from the API, with the risk and band that it does not tell."""
        code, body = self.get(f"/api/worklist?order={order}&view={view}&limit=1000")
        if code != 200:
            return []
        with connect.reading(self.ledger) as tx:
            known = {row.study_uid: row for row in tx.execute(sa.text("SELECT study_uid, risk, band FROM studies"))}
        return [{**row, "risk": known[row["study_uid"]].risk, "band": known[row["study_uid"]].band} for row in json.loads(body)["studies"]]

    def row(self, study_uid: str) -> dict[str, Any] | None:
        """This study's row on the open list, or None."""
        return next((row for row in self.listed() if row["study_uid"] == study_uid), None)

    def cli(self, *arguments: str, config: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
        """`prioritizer VERB ...` with this daemon's configuration."""
        words = 2 if arguments[0] in GROUPS else 1
        file = ("--config", str(config or self.config))
        return prioritizer(*arguments[:words], *file, *arguments[words:], cwd=self.folder, **environment)

    def cli_json(self, *arguments: str) -> Any:
        """What a verb says with --json."""
        done = self.cli(*arguments, "--json")
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)

    def cli_send(self, *paths: Path, calling: str = "MODALITY") -> subprocess.CompletedProcess[str]:
        """`prioritizer send` into this daemon, one JSON object a file."""
        return prioritizer("send", *map(str, paths), "--to", self.address, "--from", calling, "--json", cwd=self.folder)

    @cached_property
    def token(self) -> str:
        """A program that may see, as a site would let one in."""
        now = datetime.now(UTC)
        with suppress(NotAllowed):
            people.add(self.ledger, "tests", Role.READER, "tests", now)
        return sessions.make_token(self.ledger, "tests", "tests", [May.SEE], "tests", now, timedelta(days=1))[0]

    @cached_property
    def ledger(self) -> sa.Engine:
        url = self.sections["store"].get("url") or f"sqlite:///{self.folder / 'var' / 'ledger.sqlite3'}"
        return connect.open_ledger(url)

    def instances(self, study_uid: str) -> list[InstanceRow]:
        return worklist_study.study_instances(self.ledger, study_uid)

    def instance_states(self) -> dict[str, tuple[str, str]]:
        """SOP Instance UID -> (state, reason in words) of everything the ledger holds."""
        with connect.reading(self.ledger) as tx:
            rows = tx.execute(sa.text("SELECT sop_instance_uid, state, reason_text FROM instances"))
            return {uid: (state, said) for uid, state, said in rows}

    def studies(self) -> list[dict[str, Any]]:
        """Every study of the ledger, listed or not."""
        with connect.reading(self.ledger) as tx:
            return [dict(row._mapping) for row in tx.execute(sa.text("SELECT * FROM studies"))]

    def notices(self) -> list[dict[str, Any]]:
        """Every refusal, quarantine and conflict that the ledger was told."""
        with connect.reading(self.ledger) as tx:
            return [dict(row._mapping) for row in tx.execute(sa.text("SELECT * FROM notices ORDER BY id"))]

    def deliveries(self) -> list[tuple[str, str, str, int]]:
        """(study UID, result UID, state, tries) of every delivery there ever was."""
        with connect.reading(self.ledger) as tx:
            rows = tx.execute(sa.text("SELECT study_uid, result_uid, state, attempts FROM deliveries ORDER BY id"))
            return [(study, result, state, tries) for study, result, state, tries in rows]

    def unfinished(self) -> list[DeliveryRow]:
        return worklist_rows.unfinished_deliveries(self.ledger)

    # --- waiting -----------------------------------------------------------------------------------------------

    def wait_listed(self, *study_uids: str) -> None:
        wait_until(lambda: set(study_uids) <= {row["study_uid"] for row in self.listed()}, "the studies are listed")

    def wait_scored(self, *study_uids: str) -> None:
        def states() -> dict[str, str]:
            return {row["study_uid"]: row["ai_state"] for row in self.listed()}

        wait_until(lambda: all(states().get(uid) == "SCORED" for uid in study_uids), "the studies are scored")

    def wait_settled(self) -> None:
        """Nothing waits to be received or scored."""
        inbox = self.folder / "var" / "spool" / "inbox"
        wait_until(
            lambda: not list(inbox.iterdir()) and all(state != "RECEIVED" for state, _ in self.instance_states().values()),
            "every instance is scored or has its reason",
        )

    def wait_sent(self, *study_uids: str) -> None:
        """Each study has a delivery that was sent, and none waits."""

        def done() -> bool:
            found = self.deliveries()
            sent = {study for study, _, state, _ in found if state == "SENT"}
            return set(study_uids) <= sent and not any(state == "PENDING" and study in study_uids for study, _, state, _ in found)

        wait_until(done, "the results are sent")


def _group_of(pid: int) -> int:
    with suppress(ProcessLookupError, PermissionError):
        return os.getpgid(pid)
    return 0


def _command_line(process: psutil.Process) -> list[str]:
    with suppress(psutil.Error):
        return process.cmdline()
    return []


def prioritizer(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command line program, its two streams apart."""
    return subprocess.run(
        [sys.executable, "-m", "prioritizer", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=150,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        env={**{k: v for k, v in os.environ.items() if not k.startswith("PRIORITIZER_")}, **environment},
    )


def sections(pacs_port: int | None = None, pacs_title: str = "ORTHANC", **changes: dict[str, Any] | list[dict[str, Any]]) -> dict[str, Any]:
    """A small site on loopback; a change replaces keys of a table, or a whole array of tables."""
    told: dict[str, Any] = {
        "site": {"name": "test site", "stage": "active"},
        "listener": {"port": free_port(), "min_free_mib": 0, "min_free_share": 0.0},
        "peers": [{"ae_title": "MODALITY", "host": "127.0.0.1"}],
        "store": {"data": "var"},
        "model": {"threads": 1, "decode_workers": 1, "decode_timeout_s": 30},
        # Phantoms are unlike the films the bundle was trained on, and the guard says so.
        "scope": {"likeness": "flag"},
        "ranking": {"max_high_share": 1.0},
        "publish": {"quiet_seconds": 0.2, "ceiling_seconds": 5},
        "web": {"port": free_port()},
        "log": {"format": "json"},
    }
    if pacs_port is not None:
        told["destinations"] = [{"name": "pacs", "ae_title": pacs_title, "host": "127.0.0.1", "port": pacs_port}]
    for name, change in changes.items():
        told[name] = {**told.get(name, {}), **change} if isinstance(change, dict) else change
    return told


@contextmanager
def running_daemon(folder: Path, told: dict[str, Any], *, ready: bool = True, **environment: str) -> Iterator[Daemon]:
    """A daemon that is killed at the end, whatever happened."""
    daemon = Daemon(folder, told, environment)
    try:
        yield daemon.start(ready=ready)
    finally:
        daemon.kill()
        if "ledger" in vars(daemon):
            daemon.ledger.dispose()


# --- peers -----------------------------------------------------------------------------------------------------


def storescu(daemon: Daemon, *files: Path, calling: str = "MODALITY", options: tuple[str, ...] = ()) -> dict[str, bool]:
    """Send with DCMTK's storescu; which of the files were answered 0x0000. The exit code is not asked: it speaks of the last."""
    command = [program("storescu"), "-v", "-nh", "-aet", calling, "-aec", "PRIORITIZER", *options, "127.0.0.1", str(daemon.port)]
    done = subprocess.run(
        [*command, *map(str, files)], capture_output=True, text=True, check=False, timeout=150, env={**os.environ, "TCP_NODELAY": "1"}
    )
    answers: dict[str, bool] = {str(file): False for file in files}
    current = ""
    for line in (done.stdout + done.stderr).splitlines():
        if "Sending file: " in line:
            current = line.partition("Sending file: ")[2].strip()
        elif "Received Store Response (Success)" in line and current in answers:
            answers[current] = True
    return answers


def sends(daemon: Daemon, *files: Path, **how: Any) -> None:
    """Send with storescu; every file must be acknowledged."""
    answers = storescu(daemon, *files, **how)
    assert all(answers.values()), answers


def orthanc_settings(folder: Path, port: int, http_port: int) -> Path:
    """A configuration for an Orthanc that keeps its database in `folder`."""
    settings = {
        "Name": "test",
        "StorageDirectory": str(folder / "store"),
        "IndexDirectory": str(folder / "store"),
        "DicomPort": port,
        "HttpPort": http_port,
        "DicomAet": "ORTHANC",
        "DicomCheckCalledAet": True,
        "DicomAlwaysAllowStore": True,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "OverwriteInstances": True,
        "Plugins": [],
    }
    path = folder / "orthanc.json"
    path.write_text(json.dumps(settings))
    return path


@contextmanager
def running_orthanc(folder: Path, port: int, http_port: int) -> Iterator[Orthanc]:
    """A real Orthanc on these ports; its database outlives it, so that it can be stopped and started again."""
    folder.mkdir(exist_ok=True)
    with running([program("Orthanc"), str(orthanc_settings(folder, port, http_port))], port) as process:
        try:
            wait_for_port(http_port, process)
            yield Orthanc(port=port, http_port=http_port, folder=folder)
        finally:
            process.kill()  # asked politely it would wait for our idle association


@dataclass
class Postgres:
    """A cluster of its own on a free port, with one empty database at a time."""

    folder: Path
    port: int
    user: str | None

    def run(self, name: str, *arguments: str) -> None:
        done = subprocess.run(
            [postgres_program(name), *arguments], capture_output=True, text=True, check=False, timeout=60, user=self.user, cwd=self.folder
        )
        assert done.returncode == 0, done.stderr

    def start(self) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={self.folder} -c shared_buffers=16MB"
        self.run("pg_ctl", "-D", str(self.folder / "data"), "-l", str(self.folder / "log"), "-o", options, "-w", "start")

    def stop(self) -> None:
        self.run("pg_ctl", "-D", str(self.folder / "data"), "-m", "immediate", "-w", "stop")

    def stopped(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) != 0

    def database(self, name: str) -> str:
        """The URL of a new database."""
        self.run("createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", "test", name)
        return f"postgresql://test@127.0.0.1:{self.port}/{name}"


def postgres_program(name: str) -> str:
    """A program of the installed PostgreSQL, which Debian keeps out of the path."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    found = next((folder / name for folder in folders if (folder / name).exists()), None)
    return str(found) if found else program(name)


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    """A PostgreSQL server that trusts this machine; it refuses to run as root, so root lends it to another user."""
    postgres_program("initdb")
    user = "postgres" if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="prioritizer-postgres-"))
    try:
        if user:
            shutil.chown(folder, user)
        server = Postgres(folder, free_port(), user)
        server.run("initdb", "-D", str(folder / "data"), "-U", "test", "-A", "trust", "-N")
        server.start()
        try:
            yield server
        finally:
            with suppress(AssertionError):  # a test may have stopped it
                server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def stored_in(orthanc: Orthanc) -> list[dict[str, str]]:
    """Every instance Orthanc holds: sop, study, series number, and its own name for it."""
    found = []
    for name in orthanc.get("/instances"):
        tags = orthanc.get(f"/instances/{name}/simplified-tags")
        found.append(
            {"sop": tags["SOPInstanceUID"], "study": tags["StudyInstanceUID"], "series_number": tags["SeriesNumber"], "name": name}
        )
    return found


def download(orthanc: Orthanc, name: str, target: Path) -> Path:
    """The file of an instance as Orthanc keeps it."""
    with urllib.request.urlopen(f"http://127.0.0.1:{orthanc.http_port}/instances/{name}/file", timeout=30) as answer:
        target.write_bytes(answer.read())
    return target


__all__ = [
    "Daemon", "Postgres", "download", "free_port", "phantom", "phantom_study_uid", "prioritizer", "running_daemon", "running_orthanc",
    "running_postgres", "sections", "sends", "stored_in", "storescu", "toml", "uid_of", "wait_until",
]  # fmt: skip
