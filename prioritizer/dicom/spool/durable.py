"""Files and names that outlive a power cut."""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path
from typing import Final

_SYNC_FILE_RANGE_WRITE: Final = 2
_NO_EARLY_WRITING: Final = frozenset({errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.ESPIPE, errno.EPERM, errno.EINTR})
"""A kernel, file system or system call filter that has no sync_file_range, or was interrupted: fsync does all of the work."""


def start_writing(descriptor: int, offset: int, length: int) -> None:
    """Let the disk begin with these bytes of a file while more of them come, so that its fsync has less to wait for (sync_file_range(2)).

    Nothing is durable by it. Raises OSError where the disk says already that it will not take them.
    """
    if _sync_file_range is None:
        return
    called = _sync_file_range(descriptor, ctypes.c_int64(offset), ctypes.c_int64(length), _SYNC_FILE_RANGE_WRITE)
    if called != 0 and (number := ctypes.get_errno()) not in _NO_EARLY_WRITING:
        raise OSError(number, os.strerror(number))


_sync_file_range = getattr(ctypes.CDLL(None, use_errno=True), "sync_file_range", None)
"""None with a C library that does not have it."""


def write_durably(path: Path, data: bytes) -> None:
    """The bytes are on disk under this path when this returns; the name itself is only with `sync_folder`."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def make_folder(folder: Path, mode: int = 0o750) -> None:
    """The folder is there, with the name of every folder made on the way to it on disk, when this returns."""
    missing = [each for each in (folder, *folder.parents) if not each.is_dir()]
    for each in reversed(missing):
        each.mkdir(exist_ok=True, mode=mode)
        sync_folder(each.parent)


def sync_folder(folder: Path) -> None:
    """Every name in this folder is on disk, and every name removed is gone, when this returns."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
