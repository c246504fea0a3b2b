"""The files of the spool: their names, and whether two hold the same image."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path

from prioritizer.dicom.spool.part10 import data_set_digest, same_data_set, valid_uid


def file_stem(uid: str) -> str:
    """The UID, or a digest of whatever a peer called one: peer text never becomes a path."""
    return uid if valid_uid(uid) else hashlib.sha256(uid.encode("utf-8", "replace")).hexdigest()


def is_same(path: Path, known: Path) -> bool:
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


def is_lost(held: Path, copy: Path) -> bool:
    """True where the disk gives the copy and not what is held. Raises OSError where it gives neither: that is no fault of one file."""
    try:
        data_set_digest(held)
    except FileNotFoundError:
        return False
    except OSError:
        data_set_digest(copy)
        return True
    return False


def came_first_file(held: Path) -> Path:
    """Beside a settled file that took the place of another: when the image came first."""
    return held.with_suffix(".first")


def entries_of(folder: Path, lost: Callable[[Path], object]) -> list[Path]:
    """What lies in a folder, in name order; none where it is no folder, or the disk does not give it: then `lost` is handed it."""
    try:
        with os.scandir(folder) as entries:
            return sorted(Path(entry.path) for entry in entries)
    except (NotADirectoryError, FileNotFoundError):
        return []
    except OSError:
        lost(folder)
        return []


def is_ours(entry: os.DirEntry[str]) -> bool:
    """True for what a listener places: plain files that end in .dcm; also where the disk does not say whether it is a plain file."""
    if not entry.name.endswith(".dcm") or entry.name.startswith("."):
        return False
    try:
        return entry.is_file(follow_symlinks=False)
    except OSError:
        return True


def since_when(entry: os.DirEntry[str]) -> int:
    """Nanoseconds of Unix time since when the file lies here; a clock that was ahead puts nothing behind what comes now."""
    return min(entry.stat().st_mtime_ns, time.time_ns())
