"""Small files by which the listener tells the ledger what did not become an instance: refusals, and who asked whether we are there.

One JSON object a file, written durably and never with patient data. The reader deletes a notice once its row is committed.
"""

from __future__ import annotations

import itertools
import json
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

REFUSED_ASSOCIATION: Final = "refused-association"
REFUSED_OBJECT: Final = "refused-object"
QUARANTINED: Final = "quarantined"
CONFLICT: Final = "conflict"
ECHOED: Final = "echo"
KINDS: Final = (REFUSED_ASSOCIATION, REFUSED_OBJECT, QUARANTINED, CONFLICT, ECHOED)
# Beyond this many unread notices nothing is gained by more, and a hostile peer could fill the disk's inodes.
_MAX_UNREAD: Final = 10_000


@dataclass(frozen=True, slots=True)
class NoticeBoard:
    """The notices folder: any number of writers, one reader."""

    folder: Path
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def post(self, kind: str, **facts: object) -> Path | None:
        """Write one notice durably and return its path; None when too many lie unread."""
        if kind not in KINDS:
            raise ValueError(f"no such kind of notice: {kind}")
        if sum(1 for _ in os.scandir(self.folder)) >= _MAX_UNREAD:
            return None
        name = f"{time.time_ns():020d}-{os.getpid()}-{next(self._numbers)}"
        notice = {"kind": kind, "at": datetime.now(UTC).isoformat(), **facts}
        temporary = self.folder / f".{name}.tmp"
        with temporary.open("wb") as file:
            file.write(json.dumps(notice).encode())
            file.flush()
            os.fsync(file.fileno())
        path = self.folder / f"{name}.json"
        temporary.rename(path)
        return path

    def waiting(self) -> list[Path]:
        """Every whole notice, oldest first. Raises OSError where the disk does not give the folder."""
        return sorted(path for path in self.folder.iterdir() if path.suffix == ".json")

    def acknowledge(self, path: Path) -> None:
        """Forget this notice: its reader has made it durable elsewhere. Raises OSError where it cannot be deleted now."""
        path.unlink(missing_ok=True)


def read(path: Path) -> dict[str, Any]:
    """What a notice says. Raises ValueError or TypeError where it is no notice, OSError where the disk does not give it now."""
    try:
        notice = json.loads(path.read_bytes())
    except RecursionError as error:
        raise ValueError("nested too deeply for a notice") from error
    if not isinstance(notice, dict):
        raise TypeError("a notice is a JSON object")
    return notice


@dataclass(slots=True)
class RepeatFilter:
    """Lets the first of equal notices through at once, then one a period with the number it stands for.

    A scanner that knocks a thousand times makes two lines, not a thousand.
    """

    period: float = 60.0
    max_keys: int = 256
    _seen: dict[tuple[str, ...], tuple[float, int]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, key: tuple[str, ...], now: float) -> int:
        """How many occurrences to report now: 0 means stay silent; `now` in seconds of a monotonic clock."""
        with self._lock:
            if key not in self._seen and len(self._seen) >= self.max_keys:
                self._forget(now)
                if len(self._seen) >= self.max_keys:
                    key = ("", "many different peers", "", "")
            last, held_back = self._seen.get(key, (float("-inf"), 0))
            if now - last < self.period:
                self._seen[key] = (last, held_back + 1)
                return 0
            self._seen[key] = (now, 0)
            return held_back + 1

    def _forget(self, now: float) -> None:
        self._seen = {key: kept for key, kept in self._seen.items() if now - kept[0] < self.period}
