"""Part 10 files on disk: written, fsynced and named so that what was acknowledged outlives any crash.

    partial/      being written; swept at start-up
    inbox/        durable and acknowledged, the ledger does not know it yet
    objects/xx/   the ledger knows it (xx: first two digits of the SHA-256 of the SOP Instance UID)
    conflicts/    other bytes under a SOP Instance UID we already hold; the receive worker compares them with what is held
    quarantine/   what could not be understood, each with a JSON file that says why
    notices/      what the ledger must be told (notices.py)

All of it lies on one file system. A name never appears before its bytes and its folder entry are on disk.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Any, Final

from prioritizer.dicom.spool import notices
from prioritizer.dicom.spool.durable import make_folder, sync_folder, write_durably
from prioritizer.dicom.spool.lock import is_locked
from prioritizer.dicom.spool.part10 import Receipt, data_set_digest, read_receipt, same_data_set, valid_uid
from prioritizer.dicom.spool.partial_file import Partial
from prioritizer.dicom.spool.quarantine import Quarantine
from prioritizer.dicom.standard import status
from prioritizer.errors import Refused

_FOLDERS: Final = ("partial", "inbox", "objects", "conflicts", "quarantine", "notices")
_FAILURES_UNTIL_CLOSED: Final = 2
_PROBE_SECONDS: Final = 1.0
_COUNTED_SECONDS: Final = 60.0


class Outcome(Enum):
    """What became of an instance that may be acknowledged."""

    STORED = "stored"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"


class Spool:
    """The folders under one root; safe for many threads of one listener beside the stations' process."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in _FOLDERS:
            make_folder(root / name)
        self.partial, self._inbox, self.objects = root / "partial", root / "inbox", root / "objects"
        self._conflicts = root / "conflicts"
        self.board = notices.NoticeBoard(root / "notices")
        self._quarantine = Quarantine(root / "quarantine", self.board)
        # A name of its own for every spool object: the files of another process with the same number are never met.
        # Two threads may ask at once: a count hands out each number once, a generator would raise.
        self._own, self._numbers = f"{os.getpid()}-{secrets.token_hex(4)}", itertools.count()
        # One writer at a time per SOP Instance UID: a second sender of the same instance must neither be
        # acknowledged before the first is durable, nor lose its file to the first one's failure.
        self._stripes = tuple(threading.Lock() for _ in range(64))
        self._failures = 0
        self._probe_at = 0.0
        self._counted_at, self._set_aside = -_COUNTED_SECONDS, 0
        self._lost: dict[str, int] = {}
        """Files whose entry is there and that the disk does not describe: since when, in nanoseconds of Unix time."""

    # --- the listener's side -------------------------------------------------------------------------------------

    def begin(self, receipt: Receipt) -> Partial:
        """An empty file for this instance, its header written. Refused (0xA700) when the disk will not have it."""
        if not self.accepting():
            raise Refused(status.OUT_OF_RESOURCES, "the spool's disk failed to make files durable")
        try:
            return Partial(self.partial / self._new_name(), receipt, self._failed)
        except OSError as exc:
            raise Refused(status.OUT_OF_RESOURCES, "the spool cannot open a file") from exc

    def _new_name(self) -> str:
        return f"{self._own}-{next(self._numbers)}"

    def store(self, partial: Partial) -> Outcome:
        """Make the instance durable under its name: after this returns, 0x0000 may be sent. Refused (0xA700) otherwise."""
        uid = partial.receipt.sop_instance_uid
        try:
            partial.seal()
            with self._stripes[hash(uid) % len(self._stripes)]:
                outcome = self._place(partial.path, uid)
        except OSError as exc:
            self._failed()
            raise Refused(status.OUT_OF_RESOURCES, "the spool could not make the object durable") from exc
        finally:
            partial.discard()
        self._failures = 0
        return outcome

    def _failed(self) -> None:
        self._failures += 1

    def _place(self, path: Path, uid: str) -> Outcome:
        target = self._inbox / f"{_file_stem(uid)}.dcm"
        known = self.object_path(uid)
        if not known.exists():
            try:
                os.link(path, target)
            except FileExistsError:
                known = target
            else:
                self._sync_or_withdraw(target)
                return Outcome.STORED
        return self._beside(path, known, uid)

    def _sync_or_withdraw(self, target: Path) -> None:
        """The folder entry is on disk, or it is gone again: the sender will hear 0xA700 and keep its copy."""
        try:
            sync_folder(target.parent)
        except OSError:
            target.unlink(missing_ok=True)
            raise

    def _beside(self, path: Path, known: Path, uid: str) -> Outcome:
        """Acknowledge an instance we already hold; keep it as a conflict when its bytes differ."""
        try:
            same = _same(path, known)
        except FileNotFoundError:
            # The receive station moved it to objects/ meanwhile.
            same = _same(path, self.object_path(uid))
        if same:
            # A listener killed before its own fsync of the folder may have left the name it placed unsynced.
            sync_folder(self._inbox)
            return Outcome.DUPLICATE
        self._keep_conflict(path, uid)
        return Outcome.CONFLICT

    def _keep_conflict(self, path: Path, uid: str) -> None:
        digest = data_set_digest(path)
        target = self._conflicts / f"{_file_stem(uid)}.{digest[:12]}.dcm"
        if target.exists() and is_named_by_its_bytes(target) and not _same(path, target):
            target = self._conflicts / f"{_file_stem(uid)}.{digest[:24]}.dcm"  # two whole copies of one short name
        try:
            os.link(path, target)
        except FileExistsError:
            if not _same(path, target):  # damaged since: the whole one takes its place
                whole = target.with_suffix(".new")
                whole.unlink(missing_ok=True)
                os.link(path, whole)
                whole.replace(target)
            with suppress(OSError):
                os.utime(target)  # it came again
            # A listener killed before its own fsync of the folder may have left the name unsynced.
            sync_folder(self._conflicts)
            return
        self._sync_or_withdraw(target)

    def accepting(self) -> bool:
        """False after two failures in a row of opening, writing or making durable, until a probe reaches the disk.

        Probes at most once a second.
        """
        if self._failures < _FAILURES_UNTIL_CLOSED:
            return True
        if time.monotonic() < self._probe_at:
            return False
        self._probe_at = time.monotonic() + _PROBE_SECONDS
        probe = self.partial / f"probe-{self._new_name()}"
        try:
            write_durably(probe, b"probe")
            sync_folder(self._inbox)
        except OSError:
            return False
        finally:
            with suppress(OSError):
                probe.unlink(missing_ok=True)
        self._failures = 0
        return True

    def sweep_partials(self) -> int:
        """Delete what a crash left half written (never acknowledged); what a living listener still writes stays. Returns how many."""
        swept = 0
        for path in self.partial.iterdir():
            if not is_locked(path):
                path.unlink(missing_ok=True)
                swept += 1
        return swept

    def sync_folders(self) -> None:
        """Every folder of the spool, and the names of those that lead to it, are on disk: a crash may have come before that.

        Called once before anything is acknowledged. A folder above the spool that may not be opened is another's to keep.
        """
        for name in _FOLDERS:
            sync_folder(self.root / name)
        sync_folder(self.root)
        for above in self.root.absolute().parents[:3]:
            with suppress(PermissionError):
                sync_folder(above)

    def free_bytes(self) -> int:
        """Bytes this process may still write here."""
        room = os.statvfs(self.root)
        return room.f_bavail * room.f_frsize

    def free_fraction(self) -> float:
        """Share of the file system still free for us, 0..1."""
        room = os.statvfs(self.root)
        return room.f_bavail / max(room.f_blocks, 1)

    # --- the stations' side --------------------------------------------------------------------------------------

    def inbox(self) -> Iterator[Path]:
        """Every acknowledged instance that is not settled, oldest first."""
        for _, name in self.waiting():
            yield self._inbox / name

    def strangers(self) -> list[Path]:
        """What lies in the inbox and was not put there by a listener: folders, leftovers of NFS, files of another kind."""
        with os.scandir(self._inbox) as entries:
            return sorted(Path(entry.path) for entry in entries if not _is_ours(entry))

    def waiting(self) -> list[tuple[int, str]]:
        """The files of the inbox, oldest first: since when each lies there, in nanoseconds of Unix time, and its name."""
        return self._aged(self._inbox)

    def _aged(self, folder: Path) -> list[tuple[int, str]]:
        """The listener's files of a folder. Of one that the disk does not describe: since it was first so, at the latest."""
        found, lost = [], dict[str, int]()
        with os.scandir(folder) as entries:
            for entry in entries:
                if not _is_ours(entry):
                    continue
                try:
                    since = _since(entry)
                except FileNotFoundError:
                    continue  # moved meanwhile
                except OSError:
                    since = lost[entry.path] = self._lost.get(entry.path, time.time_ns())
                found.append((since, entry.name))
        self._lost = {path: since for path, since in self._lost.items() if Path(path).parent != folder} | lost
        return sorted(found)

    def settle(self, path: Path) -> Path:
        """Move an inbox file to its place in objects/, once the ledger has committed it; returns where its instance lies.

        May be repeated after a crash. Bytes that differ from what objects/ holds go to conflicts/, and the first stays.
        """
        uid = read_receipt(path).sop_instance_uid
        target = self.object_path(uid)
        self._make_folder(target.parent)
        try:
            os.link(path, target)
        except FileExistsError:
            if not target.samefile(path) and not _same(path, target):
                self._keep_conflict(path, uid)
        sync_folder(target.parent)
        # Not synced: should power fail now the inbox name comes back, and settling it again changes nothing.
        path.unlink(missing_ok=True)
        return target

    def lay_beside(self, path: Path) -> None:
        """An inbox file of an image that the ledger knows with other bytes: it lies with the differing copies. May be repeated."""
        self._keep_conflict(path, read_receipt(path).sop_instance_uid)
        path.unlink(missing_ok=True)

    def _make_folder(self, folder: Path) -> None:
        if not folder.exists():
            folder.mkdir(mode=0o750, exist_ok=True)
            sync_folder(self.objects)

    def object_path(self, uid: str) -> Path:
        """Where this SOP instance lies, or would lie, once settled."""
        return self.objects / hashlib.sha256(uid.encode()).hexdigest()[:2] / f"{_file_stem(uid)}.dcm"

    def find(self, uid: str) -> Path | None:
        """The file of this SOP instance, settled or not; None when it is not held."""
        places = (self.object_path(uid), self._inbox / f"{_file_stem(uid)}.dcm")
        # objects/ twice: the file may move there between the two looks.
        return next((path for path in (*places, places[0]) if path.exists()), None)

    def held(self, lost: Callable[[Path], object] = lambda folder: None) -> Iterator[Path]:
        """Every settled instance, in no order: with the inbox, all that a ledger is rebuilt from.

        `lost` is handed each folder that the disk does not give; the others are looked through.
        """
        for folder in _entries(self.objects, lost):
            if not folder.name.startswith("."):
                yield from (path for path in _entries(folder, lost) if path.suffix == ".dcm")

    def copies(self) -> list[Path]:
        """Every differing copy that lies beside what is held, oldest first."""
        return [self._conflicts / name for _, name in self.copies_waiting()]

    def copies_came(self) -> dict[str, int]:
        """When each differing copy came last, by its name: nanoseconds of Unix time, by the clock of then."""
        came = {}
        with os.scandir(self._conflicts) as entries:
            for entry in entries:
                if _is_ours(entry):
                    with suppress(OSError):
                        came[entry.name] = entry.stat().st_mtime_ns
        return came

    def copies_waiting(self) -> list[tuple[int, str]]:
        """The same, each with since when it lies there, in nanoseconds of Unix time, and its name."""
        return self._aged(self._conflicts)

    def put_in_place(self, copy: Path, why: str, came_first: datetime) -> Path | None:
        """Put a copy in the place of what is held under its UID; what was held goes to quarantine: returns where. May be repeated.

        `came_first`: when the image came first; it is kept beside the file for a ledger that is rebuilt. The copy stays in conflicts/ until
        `drop_copy`: a crash, or a ledger that does not commit, loses neither of the two.
        """
        uid = read_receipt(copy).sop_instance_uid
        target = self.object_path(uid)
        self._make_folder(target.parent)
        aside = None
        if target.exists():
            if target.samefile(copy):
                return None
            aside = self._put_aside(target, why, uid)
        write_durably(_came_first(target), came_first.isoformat().encode())
        whole = target.with_suffix(".new")
        whole.unlink(missing_ok=True)
        os.link(copy, whole)
        whole.replace(target)
        sync_folder(target.parent)
        return aside

    def came_first(self, held: Path) -> datetime:
        """When the image of a settled file came first: the time of its receipt, or an earlier one of what it took the place of.

        Raises ValueError where the receipt is gone, OSError where the disk does not give the file.
        """
        received_at = read_receipt(held).received_at
        with suppress(OSError, ValueError):
            earlier = datetime.fromisoformat(_came_first(held).read_text("ascii"))
            return min(received_at, earlier) if earlier.tzinfo is not None else received_at
        return received_at

    def _put_aside(self, held: Path, why: str, uid: str) -> Path:
        """Quarantine keeps what was held, also where the disk does not give its bytes any more."""
        try:
            return self._quarantine.keep(held, why, sop_instance_uid=uid)
        except (OSError, ValueError):
            return self._quarantine.move_unread(held, why, sop_instance_uid=uid)

    def make_way(self, copy: Path) -> bool:
        """Of an image that the ledger does not know: True where nothing else is held of it. What is held is entered first.

        A file that the disk does not give keeps no copy of it waiting: it goes to quarantine with its reason. Raises ValueError where the
        copy has no receipt, OSError where the disk does not give the copy either.
        """
        uid = read_receipt(copy).sop_instance_uid
        held = self.find(uid)
        if held is not None and not held.samefile(copy):
            if not _is_lost(held, copy):
                return False
            why = "the disk does not give its bytes any more: it was never listed, and an image of the same UID that came again was"
            target = self._quarantine.move_unread(held, why, acknowledged=True, sop_instance_uid=uid)
            self.board.post(notices.QUARANTINED, reason=why, file=target.name, acknowledged=True)
        return True

    def drop_copy(self, copy: Path) -> None:
        """Forget a copy that the ledger has settled: it is in its place, or the same image as what is held."""
        copy.unlink(missing_ok=True)

    def remove(self, uid: str) -> bool:
        """Delete a settled instance that retention has done with; False when it was not there."""
        path = self.object_path(uid)
        _came_first(path).unlink(missing_ok=True)
        try:
            path.unlink()
        except FileNotFoundError:
            return False
        return True

    def quarantine(self, source: Path | bytes, reason: str, **facts: object) -> Path:
        """Put a file, or bytes, durably aside with the reason beside it, and post a notice; the source path is gone after."""
        return self._quarantine.take(source, reason, **facts)

    def set_aside(self) -> int:
        """How many acknowledged files lie in quarantine, looked at once a minute. Raises OSError where the disk does not give it."""
        if time.monotonic() >= self._counted_at + _COUNTED_SECONDS:
            self._set_aside = sum(bool(facts.get("acknowledged")) for _, facts in self.quarantined())
            self._counted_at = time.monotonic()
        return self._set_aside

    def quarantined(self) -> Iterator[tuple[Path, dict[str, Any]]]:
        """Every file set aside, with its `reason`, `at` and what was known of its sender."""
        return self._quarantine.listing()

    def conflicts(self) -> Iterator[tuple[str, Path]]:
        """(SOP Instance UID, file) of every differing copy that was kept beside the first."""
        for path in self.copies():
            with suppress(FileNotFoundError, ValueError):
                yield read_receipt(path).sop_instance_uid, path

    def notices(self) -> list[Path]:
        """Unread notices, oldest first; hand each to `acknowledge` once its row is committed. Raises OSError where the disk gives none."""
        return self.board.waiting()

    def acknowledge(self, path: Path) -> None:
        """Forget a notice."""
        self.board.acknowledge(path)


def _came_first(held: Path) -> Path:
    """Beside a settled file that took the place of another: when the image came first."""
    return held.with_suffix(".first")


def _entries(folder: Path, lost: Callable[[Path], object]) -> list[Path]:
    """What lies in a folder, in name order; none where it is no folder, or the disk does not give it: then `lost` is handed it."""
    try:
        with os.scandir(folder) as entries:
            return sorted(Path(entry.path) for entry in entries)
    except (NotADirectoryError, FileNotFoundError):
        return []
    except OSError:
        lost(folder)
        return []


def _same(path: Path, known: Path) -> bool:
    """True when both hold the same data set in the same transfer syntax.

    A held file that is damaged, or that the disk does not give, is the same as none.
    Raises FileNotFoundError where nothing is held any more, OSError where the new file cannot be read.
    """
    try:
        return same_data_set(path, known)
    except ValueError:
        return False
    except FileNotFoundError:
        raise
    except OSError:
        data_set_digest(path)
        return False


def is_named_by_its_bytes(copy: Path) -> bool:
    """True where a differing copy is whole: the digits in its name are those of its data set. False where the disk does not give it."""
    return holds_the_copy(copy, copy.name)


def holds_the_copy(file: Path, copy: str) -> bool:
    """True where a file holds the data set of the differing copy of this name. False where the disk does not give the file."""
    try:
        return data_set_digest(file).startswith(copy.removesuffix(".dcm").rpartition(".")[2])
    except (OSError, ValueError):
        return False


def _is_lost(held: Path, copy: Path) -> bool:
    """True where the disk gives the copy and not what is held. Raises OSError where it gives neither: that is no fault of one file."""
    try:
        data_set_digest(held)
    except FileNotFoundError:
        return False
    except OSError:
        data_set_digest(copy)
        return True
    return False


def _is_ours(entry: os.DirEntry[str]) -> bool:
    """True for what a listener places: plain files that end in .dcm; also where the disk does not say whether it is a plain file."""
    if not entry.name.endswith(".dcm") or entry.name.startswith("."):
        return False
    try:
        return entry.is_file(follow_symlinks=False)
    except OSError:
        return True


def _since(entry: os.DirEntry[str]) -> int:
    """Nanoseconds of Unix time since when the file lies here; a clock that was ahead puts nothing behind what comes now."""
    return min(entry.stat().st_mtime_ns, time.time_ns())


def _file_stem(uid: str) -> str:
    """The UID, or a digest of whatever a peer called one: peer text never becomes a path."""
    return uid if valid_uid(uid) else hashlib.sha256(uid.encode("utf-8", "replace")).hexdigest()
