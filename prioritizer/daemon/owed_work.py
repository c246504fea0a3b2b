"""Work that is due and could not be done: written down by name, and tried again until it is done."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from prioritizer.errors import PrioritizerError

log = logging.getLogger(__name__)


class Owed:
    """What is owed, in the order in which it came; the newest of one name replaces the older."""

    def __init__(self) -> None:
        self._work: dict[str, Callable[[], None]] = {}
        self._lock = threading.Lock()
        self._told: set[str] = set()

    @property
    def names(self) -> tuple[str, ...]:
        """What was tried and could not be done yet."""
        with self._lock:
            return tuple(name for name in self._work if name in self._told)

    def owe(self, name: str, work: Callable[[], None]) -> None:
        """To be done at the next turn, and at each after it until it is."""
        with self._lock:
            self._work.pop(name, None)
            self._work[name] = work

    def step(self) -> bool:
        """Try everything once; one that cannot be done stops no other. True when something was done and more may be."""
        with self._lock:
            due = list(self._work.items())
        done = [name for name, work in due if self._try(name, work)]
        return bool(done) and bool(self._work)

    def _try(self, name: str, work: Callable[[], None]) -> bool:
        try:
            work()
        except Exception as error:  # noqa: BLE001 - whatever stops one piece of work, the others are done
            if name not in self._told:
                why = str(error) if isinstance(error, PrioritizerError) else type(error).__name__
                log.error("%s: not done now (%s); it is tried again until it is", name, why, extra={"event": "owed"})
            with self._lock:
                self._told.add(name)
            return False
        with self._lock:
            if self._work.get(name) is work:  # it may have been owed again meanwhile
                del self._work[name]
            if name in self._told:
                self._told.discard(name)
                log.info("%s: done", name, extra={"event": "paid"})
        return True
