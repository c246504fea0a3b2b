"""Locks by which a spool belongs to one daemon, and a file under `partial/` to the listener that writes it.

They are `flock`s: the kernel takes them back when their process ends, however it ends, so nothing is ever left locked.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

from prioritizer.dicom.spool.durable import make_folder
from prioritizer.errors import ConfigError

LOCK_NAME: Final = "lock"
_TRIES: Final = 5
_PAUSE_S: Final = 0.1
_HELD: Final = frozenset({errno.EWOULDBLOCK, errno.EACCES})


class SpoolLock:
    """One daemon's hold on a spool, for as long as this object lives and is not released; forked children do not hold it."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        os.register_at_fork(after_in_child=self._close)

    def release(self) -> None:
        """Let another daemon have the spool; may be called more than once."""
        self._close()

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            with suppress(OSError):
                os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def hold_spool(root: Path) -> SpoolLock:
    """The lock on the spool at `root`. Raises ConfigError, naming folder and process, where another daemon has it."""
    make_folder(root)
    path = root / LOCK_NAME
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        _flock_patiently(descriptor)
    except OSError as error:
        holder = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip()
        os.close(descriptor)
        if error.errno not in _HELD:
            raise ConfigError((f"{path} cannot be locked ({error.strerror}): the spool must lie where files can be locked",)) from error
        who = f"process {holder}" if holder.isdigit() else "another process"
        raise ConfigError(
            (f"{root} is in use by {who}: one daemon a data folder. Stop it, or give this one another store.data",)
        ) from error
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return SpoolLock(descriptor)


def _flock_patiently(descriptor: int) -> None:
    """Who asks whether the lock is held (`is_locked`) holds it for a moment: that is no other daemon."""
    for _ in range(_TRIES - 1):
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        time.sleep(_PAUSE_S)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def lock_file(descriptor: int) -> None:
    """Lock an open file of ours until it is closed; OSError where another process has it. No lock where the file system knows none."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _HELD:
            raise


def is_locked(path: Path) -> bool:
    """True while somebody holds the file open and locked by `lock_file`; False too where it is gone."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in _HELD
    finally:
        os.close(descriptor)
    return False
