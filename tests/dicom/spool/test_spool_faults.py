"""A disk that takes no byte, a second daemon, a listener that still writes: nothing leaks, nothing is swept away, nothing is lost."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import pytest

from prioritizer.dicom.spool.durable import make_folder
from prioritizer.dicom.spool.intake import StoreOutcome
from prioritizer.dicom.spool.lock import LOCK_NAME, SpoolLock, hold_spool
from prioritizer.dicom.spool.spool import Spool
from prioritizer.dicom.standard import status
from prioritizer.errors import ConfigError, Refused
from tests.support.spool_files import data_of, keep, receipt


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool")


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The path of everything that was fsynced, in order."""
    found: list[Path] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        found.append(Path(f"/proc/self/fd/{descriptor}").readlink())
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    return found


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def failing(monkeypatch: pytest.MonkeyPatch, name: str, after: int = 0) -> None:
    """`os.NAME` fails from its call number `after` on."""
    real, calls = getattr(os, name), iter(range(10_000))

    def call(*arguments: object, **named: object) -> object:
        if next(calls) >= after:
            raise OSError(122, "Disk quota exceeded")
        return real(*arguments, **named)

    monkeypatch.setattr(os, name, call)


# The header is the first write of a file; every way to refuse a store.
WAYS = {"header write": ("write", 0), "later write": ("write", 1), "fsync": ("fsync", 0), "link": ("link", 0), "open": ("open", 0)}


@pytest.mark.parametrize("way", WAYS)
def test_whatever_fails_a_refused_store_gives_back_its_descriptor_and_its_file(spool: Spool, monkeypatch: pytest.MonkeyPatch, way: str):
    before = descriptors()
    for _ in range(5):
        with monkeypatch.context() as broken:
            failing(broken, *WAYS[way])
            with pytest.raises((Refused, OSError)):
                _kept_or_discarded(spool)
        assert descriptors() == before
        assert not list(spool.partial.iterdir())
    assert not list(spool.inbox())


def _kept_or_discarded(spool: Spool) -> None:
    """What a C-STORE does with a partial file."""
    partial = spool.begin(receipt())
    try:
        partial.write(b"x")
        spool.store(partial)
    finally:
        partial.discard()


def test_a_file_that_can_neither_be_closed_nor_removed_still_ends_in_a_status(spool: Spool, monkeypatch: pytest.MonkeyPatch):
    failing(monkeypatch, "fsync")
    partial = spool.begin(receipt())
    monkeypatch.setattr(Path, "unlink", lambda *_, **__: (_ for _ in ()).throw(OSError(30, "Read-only file system")))
    with pytest.raises(Refused) as refused:
        spool.store(partial)
    assert refused.value.status == status.OUT_OF_RESOURCES


@pytest.mark.parametrize("way", ["header write", "later write", "open"])
def test_a_spool_that_takes_no_byte_closes_itself_until_a_probe_passes(spool: Spool, monkeypatch: pytest.MonkeyPatch, way: str):
    now = [100.0]
    monkeypatch.setattr("prioritizer.dicom.spool.intake.time.monotonic", lambda: now[0])
    with monkeypatch.context() as broken:
        failing(broken, *WAYS[way])
        for _ in range(2):
            with pytest.raises((Refused, OSError)):
                _kept_or_discarded(spool)
            broken.undo()
            failing(broken, *WAYS[way])
        failing(broken, "open")
        assert not spool.accepting()
    assert not spool.accepting(), "a probe a second, not one a C-STORE"
    now[0] += 2
    assert spool.accepting()
    assert keep(spool, b"x") is StoreOutcome.STORED


def test_new_folders_are_on_disk_with_those_that_lead_to_them(tmp_path: Path, synced: list[Path]):
    Spool(tmp_path / "new" / "data" / "spool")
    root = tmp_path / "new" / "data" / "spool"
    assert {tmp_path, tmp_path / "new", root.parent, root} <= set(synced)


def test_a_listener_syncs_once_what_a_crash_may_have_left_unsynced(spool: Spool, synced: list[Path]):
    spool.sync_folders()
    wanted = {spool.root / name for name in ("inbox", "objects", "conflicts", "quarantine")} | {spool.root, spool.root.parent}
    assert wanted <= set(synced)


def test_making_a_folder_that_is_there_costs_nothing(tmp_path: Path, synced: list[Path]):
    make_folder(tmp_path)
    assert not synced


@pytest.mark.parametrize("again", [False, True])
def test_a_conflict_is_acknowledged_only_with_its_folder_on_disk(spool: Spool, synced: list[Path], again: bool):
    keep(spool, b"first")
    if again:
        keep(spool, b"other")
        synced.clear()
    assert keep(spool, b"other") is StoreOutcome.CONFLICT
    assert spool.root / "conflicts" in synced


def test_a_starting_listener_sweeps_nothing_that_another_still_writes(spool: Spool):
    living = spool.begin(receipt())
    living.write(b"half")
    (spool.partial / "77-0").write_bytes(b"left by a crash")
    assert Spool(spool.root).sweep_partials() == 1
    living.write(b" and whole")
    assert spool.store(living) is StoreOutcome.STORED
    assert [data_of(path) for path in spool.inbox()] == [b"half and whole"]


def test_two_listeners_with_one_process_number_never_meet_in_a_name(spool: Spool):
    other = Spool(spool.root)
    assert spool.begin(receipt()).path != other.begin(receipt()).path


# --- one daemon a spool ---------------------------------------------------------------------------------------------


def test_a_second_daemon_hears_who_holds_the_spool(tmp_path: Path):
    with hold_spool(tmp_path / "spool"), pytest.raises(ConfigError) as refused:
        hold_spool(tmp_path / "spool")
    assert str(tmp_path / "spool") in str(refused.value)
    assert f"process {os.getpid()}" in str(refused.value)


def test_a_released_spool_is_free_again(tmp_path: Path):
    hold_spool(tmp_path).release()
    hold_spool(tmp_path).release()
    assert (tmp_path / LOCK_NAME).is_file()


def test_a_daemon_that_is_killed_leaves_no_lock(tmp_path: Path):
    code = "import os, sys; from pathlib import Path; from prioritizer.dicom.spool.lock import hold_spool\n"
    code += f"lock = hold_spool(Path({str(tmp_path)!r})); os.kill(os.getpid(), 9)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[3], check=False).returncode == -9
    hold_spool(tmp_path).release()


def _wait_for_the_end(lock: SpoolLock, go: multiprocessing.synchronize.Event) -> None:
    go.wait(20)


def test_a_child_of_a_daemon_that_is_gone_does_not_hold_its_spool(tmp_path: Path):
    fork = multiprocessing.get_context("fork")
    lock, go = hold_spool(tmp_path), fork.Event()
    child = fork.Process(target=_wait_for_the_end, args=(lock, go))
    child.start()
    lock.release()
    hold_spool(tmp_path).release()
    go.set()
    child.join()
