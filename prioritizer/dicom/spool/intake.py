"""The listener's side of the spool: what was acknowledged is on disk under its name, whatever happens next."""

from __future__ import annotations

import hashlib
import itertools
import os
import secrets
import threading
import time
from contextlib import suppress
from enum import Enum
from pathlib import Path
from typing import Final

from prioritizer.dicom.spool import notices
from prioritizer.dicom.spool.durable import make_folder, sync_folder, write_durably
from prioritizer.dicom.spool.files import (
    file_stem,
    is_named_by_its_bytes,
    is_same,
)
from prioritizer.dicom.spool.lock import is_locked
from prioritizer.dicom.spool.part10 import Receipt, data_set_digest
from prioritizer.dicom.spool.partial_file import Partial
from prioritizer.dicom.spool.quarantine import Quarantine
from prioritizer.dicom.standard import status
from prioritizer.errors import Refused

_FOLDERS: Final = ("partial", "inbox", "objects", "conflicts", "quarantine", "notices")
_FAILURES_UNTIL_CLOSED: Final = 2
_PROBE_SECONDS: Final = 1.0


class StoreOutcome(Enum):
    """What became of an instance that may be acknowledged."""

    STORED = "stored"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"


class SpoolIntake:
    """The listener's side of the folders under one root; safe for many threads of one listener beside the daemon's process."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in _FOLDERS:
            make_folder(root / name)
        self.partial, self.inbox_folder, self.objects = root / "partial", root / "inbox", root / "objects"
        self.conflicts_folder = root / "conflicts"
        self.board = notices.NoticeBoard(root / "notices")
        self.kept_aside = Quarantine(root / "quarantine", self.board)
        # A name of its own for every spool object: the files of another process with the same number are never met.
        # Two threads may ask at once: a count hands out each number once, a generator would raise.
        self._own, self._numbers = f"{os.getpid()}-{secrets.token_hex(4)}", itertools.count()
        # One writer at a time per SOP Instance UID: a second sender of the same instance must neither be
        # acknowledged before the first is durable, nor lose its file to the first one's failure.
        self._stripes = tuple(threading.Lock() for _ in range(64))
        self._failures = 0
        self._probe_at = 0.0

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

    def store(self, partial: Partial) -> StoreOutcome:
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

    def _place(self, path: Path, uid: str) -> StoreOutcome:
        target = self.inbox_folder / f"{file_stem(uid)}.dcm"
        known = self.object_path(uid)
        if not known.exists():
            try:
                os.link(path, target)
            except FileExistsError:
                known = target
            else:
                self._sync_or_withdraw(target)
                return StoreOutcome.STORED
        return self._beside(path, known, uid)

    def _sync_or_withdraw(self, target: Path) -> None:
        """The folder entry is on disk, or it is gone again: the sender will hear 0xA700 and keep its copy."""
        try:
            sync_folder(target.parent)
        except OSError:
            target.unlink(missing_ok=True)
            raise

    def _beside(self, path: Path, known: Path, uid: str) -> StoreOutcome:
        """Acknowledge an instance we already hold; keep it as a conflict when its bytes differ."""
        try:
            same = is_same(path, known)
        except FileNotFoundError:
            # The receive worker moved it to objects/ meanwhile.
            same = is_same(path, self.object_path(uid))
        if same:
            # A listener killed before its own fsync of the folder may have left the name it placed unsynced.
            sync_folder(self.inbox_folder)
            return StoreOutcome.DUPLICATE
        self.keep_conflict(path, uid)
        return StoreOutcome.CONFLICT

    def keep_conflict(self, path: Path, uid: str) -> None:
        """Lay other bytes of a SOP Instance UID that is held beside it; the same bytes again change nothing."""
        digest = data_set_digest(path)
        target = self.conflicts_folder / f"{file_stem(uid)}.{digest[:12]}.dcm"
        if target.exists() and is_named_by_its_bytes(target) and not is_same(path, target):
            target = self.conflicts_folder / f"{file_stem(uid)}.{digest[:24]}.dcm"  # two whole copies of one short name
        try:
            os.link(path, target)
        except FileExistsError:
            if not is_same(path, target):  # damaged since: the whole one takes its place
                whole = target.with_suffix(".new")
                whole.unlink(missing_ok=True)
                os.link(path, whole)
                whole.replace(target)
            with suppress(OSError):
                os.utime(target)  # it came again
            # A listener killed before its own fsync of the folder may have left the name unsynced.
            sync_folder(self.conflicts_folder)
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
            sync_folder(self.inbox_folder)
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

    def object_path(self, uid: str) -> Path:
        """Where this SOP instance lies, or would lie, once settled."""
        return self.objects / hashlib.sha256(uid.encode()).hexdigest()[:2] / f"{file_stem(uid)}.dcm"

    def quarantine(self, source: Path | bytes, reason: str, **facts: object) -> Path:
        """Put a file, or bytes, durably aside with the reason beside it, and post a notice; the source path is gone after."""
        return self.kept_aside.take(source, reason, **facts)
