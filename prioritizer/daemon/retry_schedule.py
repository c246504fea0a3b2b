"""What could not be taken now and is tried again: ever later, in turn with what was not tried yet."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)


@dataclass(slots=True)
class Retries(Generic[Key]):
    """Items, each with its own wait: `first_s`, doubled each time, to `most_s` (seconds of the monotonic clock)."""

    first_s: float
    most_s: float
    now: Callable[[], float] = time.monotonic
    _waits: dict[Key, tuple[float, float, int]] = field(default_factory=dict)
    """By item: when it is due, the wait before that, and how often it could not be taken."""
    _new_first: bool = False

    def __len__(self) -> int:
        return len(self._waits)

    def due(self, present: Iterable[Key]) -> list[Key]:
        """Those of `present` to try now, new ones and those that are due again in turn: neither keeps the other waiting.

        What is not present any more is forgotten.
        """
        items = list(present)
        there, now = set(items), self.now()
        self._waits = {item: wait for item, wait in self._waits.items() if item in there}
        new = [item for item in items if item not in self._waits]
        again = [item for item in items if item in self._waits and self._waits[item][0] <= now]
        again.sort(key=lambda item: self._waits[item][0])
        self._new_first = not self._new_first
        one, other = (new, again) if self._new_first else (again, new)
        return [item for turn in range(max(len(one), len(other))) for item in (*one[turn : turn + 1], *other[turn : turn + 1])]

    def later(self, item: Key) -> float:
        """It could not be taken: returns the seconds until it is due again."""
        _, before, failures = self._waits.get(item, (0.0, self.first_s / 2, 0))
        wait = min(self.most_s, 2 * before)
        self._waits[item] = (self.now() + wait, wait, failures + 1)
        return wait

    def failures(self, item: Key) -> int:
        """How often it could not be taken so far."""
        return self._waits[item][2] if item in self._waits else 0
