"""One instance on its way into the spool: a file that takes bytes as they arrive, and gives everything back when it fails."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from prioritizer.dicom.part10 import Receipt, encode_header
from prioritizer.dicom.spool_lock import lock_file


class Partial:
    """One file under `partial/`: takes bytes as they arrive, and is nothing to anybody until it is stored.

    It is locked while it is written: a listener that starts sweeps only what no living one holds. `on_failure` is called for every
    fault of the disk that a write meets.
    """

    def __init__(self, path: Path, receipt: Receipt, on_failure: Callable[[], None] = lambda: None) -> None:
        self.path, self.receipt = path, receipt
        self.written = 0
        self._on_failure = on_failure
        self._descriptor = -1
        try:
            self._descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o640)
            lock_file(self._descriptor)
            self._append(encode_header(receipt))
        except OSError:
            on_failure()
            self.discard()
            raise

    def __del__(self) -> None:
        self._close()

    def write(self, data: bytes | memoryview) -> None:
        """Append all of `data`; OSError when the disk will not take it."""
        try:
            self._append(data)
        except OSError:
            self._on_failure()
            raise

    def _append(self, data: bytes | memoryview) -> None:
        view = memoryview(data)
        while view:
            done = os.write(self._descriptor, view)
            self.written += done
            view = view[done:]

    def seal(self) -> None:
        """Every byte is on disk when this returns. After an error the descriptor is gone: Linux would lie to a second fsync."""
        try:
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
