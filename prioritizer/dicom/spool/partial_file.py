"""One instance on its way into the spool: a file that takes bytes as they arrive, and gives everything back when it fails."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from prioritizer.dicom.spool.durable import start_writing
from prioritizer.dicom.spool.lock import lock_file
from prioritizer.dicom.spool.part10 import Receipt, encode_header

_PAGE: Final = 4096
_AHEAD: Final = 1 << 20
"""Bytes after which the disk is asked to begin with them."""


class Partial:
    """One file under `partial/`: takes bytes as they arrive, and is nothing to anybody until it is stored.

    It is locked while it is written: a listener that starts sweeps only what no living one holds. `on_failure` is called for every
    fault of the disk that a write meets.
    """

    def __init__(self, path: Path, receipt: Receipt, on_failure: Callable[[], None] = lambda: None) -> None:
        self.path, self.receipt = path, receipt
        self.written = self._begun = 0
        self._rest = b""
        """The last bytes that came, less than a page: the file is written in whole pages, which costs the kernel a tenth less."""
        self._on_failure = on_failure
        self._descriptor = -1
        try:
            self._descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o640)
            lock_file(self._descriptor)
            self._append(memoryview(encode_header(receipt)))
        except OSError:
            on_failure()
            self.discard()
            raise

    def __del__(self) -> None:
        self._close()

    def write(self, data: bytes | memoryview) -> None:
        """Append all of `data`; OSError when the disk will not take it."""
        view = memoryview(data)
        try:
            whole = (self.written + len(self._rest) + len(view)) // _PAGE * _PAGE - self.written - len(self._rest)
            if whole < 0:
                self._rest += view
                return
            rest, self._rest = self._rest, bytes(view[whole:])
            self._append(view[:whole], rest)
            if self.written - self._begun >= _AHEAD:
                self._write_early()
        except OSError:
            self._on_failure()
            raise

    def _write_early(self) -> None:
        start_writing(self._descriptor, self._begun, self.written - self._begun)
        self._begun = self.written

    def _append(self, data: memoryview, before: bytes = b"") -> None:
        if before:
            done = os.writev(self._descriptor, (before, data))
            self.written += done
            if done < len(before):
                self._append(memoryview(before[done:]))
            data = data[max(done - len(before), 0) :]
        while data:
            done = os.write(self._descriptor, data)
            self.written += done
            data = data[done:]

    def seal(self) -> None:
        """Every byte is on disk when this returns. After an error the descriptor is gone: Linux would lie to a second fsync."""
        try:
            self._append(memoryview(self._rest))
            os.fsync(self._descriptor)
        finally:
            self._close()

    def discard(self) -> None:
        """Forget the file and give back its descriptor; may be called at any time and more than once, and raises nothing."""
        self._close()
        # A name that stays is swept when a listener starts next.
        with suppress(OSError):
            self.path.unlink(missing_ok=True)

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            # Linux frees the descriptor whatever close says; what was not written is told by fsync.
            with suppress(OSError):
                os.close(descriptor)
