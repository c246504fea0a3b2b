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

import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from prioritizer.dicom.spool import notices
from prioritizer.dicom.spool.durable import sync_folder, write_durably
from prioritizer.dicom.spool.files import (
    came_first_file,
    entries_of,
    file_stem,
    is_lost,
    is_ours,
    is_same,
    since_when,
)
from prioritizer.dicom.spool.intake import SpoolIntake
from prioritizer.dicom.spool.part10 import read_receipt

_COUNTED_SECONDS: Final = 60.0


class Spool(SpoolIntake):
    """All of the spool: the daemon settles, finds, sets aside and deletes what the listener stored."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self._counted_at, self._set_aside = -_COUNTED_SECONDS, 0
        self._lost: dict[str, int] = {}
        """Files whose entry is there and that the disk does not describe: since when, in nanoseconds of Unix time."""

    def inbox(self) -> Iterator[Path]:
        """Every acknowledged instance that is not settled, oldest first."""
        for _, name in self.waiting():
            yield self.inbox_folder / name

    def strangers(self) -> list[Path]:
        """What lies in the inbox and was not put there by a listener: folders, leftovers of NFS, files of another kind."""
        with os.scandir(self.inbox_folder) as entries:
            return sorted(Path(entry.path) for entry in entries if not is_ours(entry))

    def waiting(self) -> list[tuple[int, str]]:
        """The files of the inbox, oldest first: since when each lies there, in nanoseconds of Unix time, and its name."""
        return self._aged(self.inbox_folder)

    def _aged(self, folder: Path) -> list[tuple[int, str]]:
        """The listener's files of a folder. Of one that the disk does not describe: since it was first so, at the latest."""
        found, lost = [], dict[str, int]()
        with os.scandir(folder) as entries:
            for entry in entries:
                if not is_ours(entry):
                    continue
                try:
                    since = since_when(entry)
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
            if not target.samefile(path) and not is_same(path, target):
                self.keep_conflict(path, uid)
        sync_folder(target.parent)
        # Not synced: should power fail now the inbox name comes back, and settling it again changes nothing.
        path.unlink(missing_ok=True)
        return target

    def lay_beside(self, path: Path) -> None:
        """An inbox file of an image that the ledger knows with other bytes: it lies with the differing copies. May be repeated."""
        self.keep_conflict(path, read_receipt(path).sop_instance_uid)
        path.unlink(missing_ok=True)

    def _make_folder(self, folder: Path) -> None:
        if not folder.exists():
            folder.mkdir(mode=0o750, exist_ok=True)
            sync_folder(self.objects)

    def find(self, uid: str) -> Path | None:
        """The file of this SOP instance, settled or not; None when it is not held."""
        places = (self.object_path(uid), self.inbox_folder / f"{file_stem(uid)}.dcm")
        # objects/ twice: the file may move there between the two looks.
        return next((path for path in (*places, places[0]) if path.exists()), None)

    def held(self, lost: Callable[[Path], object] = lambda folder: None) -> Iterator[Path]:
        """Every settled instance, in no order: with the inbox, all that a ledger is rebuilt from.

        `lost` is handed each folder that the disk does not give; the others are looked through.
        """
        for folder in entries_of(self.objects, lost):
            if not folder.name.startswith("."):
                yield from (path for path in entries_of(folder, lost) if path.suffix == ".dcm")

    def copies(self) -> list[Path]:
        """Every differing copy that lies beside what is held, oldest first."""
        return [self.conflicts_folder / name for _, name in self.copies_waiting()]

    def copies_came(self) -> dict[str, int]:
        """When each differing copy came last, by its name: nanoseconds of Unix time, by the clock of then."""
        came = {}
        with os.scandir(self.conflicts_folder) as entries:
            for entry in entries:
                if is_ours(entry):
                    with suppress(OSError):
                        came[entry.name] = entry.stat().st_mtime_ns
        return came

    def copies_waiting(self) -> list[tuple[int, str]]:
        """The same, each with since when it lies there, in nanoseconds of Unix time, and its name."""
        return self._aged(self.conflicts_folder)

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
        write_durably(came_first_file(target), came_first.isoformat().encode())
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
            earlier = datetime.fromisoformat(came_first_file(held).read_text("ascii"))
            return min(received_at, earlier) if earlier.tzinfo is not None else received_at
        return received_at

    def _put_aside(self, held: Path, why: str, uid: str) -> Path:
        """Quarantine keeps what was held, also where the disk does not give its bytes any more."""
        try:
            return self.kept_aside.keep(held, why, sop_instance_uid=uid)
        except (OSError, ValueError):
            return self.kept_aside.move_unread(held, why, sop_instance_uid=uid)

    def make_way(self, copy: Path) -> bool:
        """Of an image that the ledger does not know: True where nothing else is held of it. What is held is entered first.

        A file that the disk does not give keeps no copy of it waiting: it goes to quarantine with its reason. Raises ValueError where the
        copy has no receipt, OSError where the disk does not give the copy either.
        """
        uid = read_receipt(copy).sop_instance_uid
        held = self.find(uid)
        if held is not None and not held.samefile(copy):
            if not is_lost(held, copy):
                return False
            why = "the disk does not give its bytes any more: it was never listed, and an image of the same UID that came again was"
            target = self.kept_aside.move_unread(held, why, acknowledged=True, sop_instance_uid=uid)
            self.board.post(notices.QUARANTINED, reason=why, file=target.name, acknowledged=True)
        return True

    def drop_copy(self, copy: Path) -> None:
        """Forget a copy that the ledger has settled: it is in its place, or the same image as what is held."""
        copy.unlink(missing_ok=True)

    def remove(self, uid: str) -> bool:
        """Delete a settled instance that retention has done with; False when it was not there."""
        path = self.object_path(uid)
        came_first_file(path).unlink(missing_ok=True)
        try:
            path.unlink()
        except FileNotFoundError:
            return False
        return True

    def set_aside(self) -> int:
        """How many acknowledged files lie in quarantine, looked at once a minute. Raises OSError where the disk does not give it."""
        if time.monotonic() >= self._counted_at + _COUNTED_SECONDS:
            self._set_aside = sum(bool(facts.get("acknowledged")) for _, facts in self.quarantined())
            self._counted_at = time.monotonic()
        return self._set_aside

    def quarantined(self) -> Iterator[tuple[Path, dict[str, Any]]]:
        """Every file set aside, with its `reason`, `at` and what was known of its sender."""
        return self.kept_aside.listing()

    def notices(self) -> list[Path]:
        """Unread notices, oldest first; hand each to `acknowledge` once its row is committed. Raises OSError where the disk gives none."""
        return self.board.waiting()

    def acknowledge(self, path: Path) -> None:
        """Forget a notice."""
        self.board.acknowledge(path)
