"""What could not be taken now and is tried again: ever later, and after everything that was not tried yet."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(slots=True)
class Retries:
    """Files by name, each with its own wait: `first_s`, doubled each time, to `most_s` (seconds of the monotonic clock)."""

    first_s: float
    most_s: float
    now: Callable[[], float] = time.monotonic
    _waits: dict[str, tuple[float, float]] = field(default_factory=dict)
    """By name: when it is due, and the wait before that."""

    def __len__(self) -> int:
        return len(self._waits)

    def due(self, present: Iterable[Path]) -> list[Path]:
        """Those of `present` to try now: new ones first, so that however many fail, what comes after them has its turn.

        What is not present any more is forgotten: its name may be used again.
        """
        paths = list(present)
        names, now = {path.name for path in paths}, self.now()
        self._waits = {name: wait for name, wait in self._waits.items() if name in names}
        new = [path for path in paths if path.name not in self._waits]
        again = [path for path in paths if path.name in self._waits and self._waits[path.name][0] <= now]
        return new + sorted(again, key=lambda path: self._waits[path.name])

    def later(self, name: str) -> float:
        """It could not be taken: returns the seconds until it is due again."""
        _, before = self._waits.get(name, (0.0, self.first_s / 2))
        wait = min(self.most_s, 2 * before)
        self._waits[name] = (self.now() + wait, wait)
        return wait
