"""What could not be understood, kept durably with the reason beside it: listed for people, never deleted by itself."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prioritizer.dicom.spool import notices
from prioritizer.dicom.spool.durable import sync_folder, write_durably
from prioritizer.dicom.spool.part10 import data_set_digest


@dataclass(frozen=True, slots=True)
class Quarantine:
    """A folder of pairs: the bytes as NAME.dcm, why they are here as NAME.json; NAME is a digest of the data set where that can be read."""

    folder: Path
    board: notices.NoticeBoard

    def take(self, source: Path | bytes, reason: str, **facts: object) -> Path:
        """Put a file, or bytes, aside and post a notice; the source path is gone after. The same data set is taken once."""
        target, is_new = self._keep(source, reason, **facts)
        if is_new:
            self.board.post(notices.QUARANTINED, reason=reason, file=target.name, **facts)
        if isinstance(source, Path):
            source.unlink(missing_ok=True)
        return target

    def keep(self, source: Path | bytes, reason: str, **facts: object) -> Path:
        """Lay a file, or bytes, aside without a notice: nothing was refused. The source stays where it is."""
        return self._keep(source, reason, **facts)[0]

    def move_unread(self, source: Path, reason: str, **facts: object) -> Path:
        """Move a file here whose bytes the disk does not give, without a notice; its name is no digest, so each is kept."""
        target = self.folder / f"{source.stem}.{time.time_ns()}.unreadable.dcm"
        self._explain(target, reason, **facts)
        source.replace(target)
        sync_folder(self.folder)
        return target

    def _keep(self, source: Path | bytes, reason: str, **facts: object) -> tuple[Path, bool]:
        """Where it lies, and whether it was not there before."""
        digest = hashlib.sha256(source).hexdigest() if isinstance(source, bytes) else data_set_digest(source)
        target = self.folder / f"{digest[:32]}.dcm"
        is_new = not target.exists()
        if is_new:
            self._explain(target, reason, **facts)
            self._place(source, target)
        sync_folder(self.folder)
        return target, is_new

    def _explain(self, target: Path, reason: str, **facts: object) -> None:
        """The reason first: a crash between the two leaves a reason without bytes, never bytes without a reason."""
        explained = {"reason": reason, "at": datetime.now(UTC).isoformat(), **facts}
        write_durably(target.with_suffix(".json"), json.dumps(explained).encode())

    def _place(self, source: Path | bytes, target: Path) -> None:
        if isinstance(source, Path):
            with suppress(FileExistsError):
                os.link(source, target)
            return
        whole = target.with_suffix(".tmp")
        write_durably(whole, source)
        whole.rename(target)

    def listing(self) -> Iterator[tuple[Path, dict[str, Any]]]:
        """Every file set aside, with its `reason`, `at` and what was known of its sender. Raises OSError without the folder."""
        for path in sorted(path for path in self.folder.iterdir() if path.suffix == ".dcm"):
            try:
                yield path, json.loads(path.with_suffix(".json").read_bytes())
            except (OSError, ValueError):
                # Whether it was acknowledged is not known: it counts as if it were, so that somebody looks.
                yield path, {"reason": "the file that said why is lost or cannot be read", "acknowledged": True}
