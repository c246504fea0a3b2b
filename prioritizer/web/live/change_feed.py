"""One look at the ledger a second for all browsers together.

Urgent news (a STAT study, one that became overdue) reach every open page at once. Ordinary news go round, a few pages at each look: fifty
pages that ask what happened in the same second would make films wait.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

import sqlalchemy as sa

from prioritizer.db.worklist import changes
from prioritizer.db.worklist.changes import Mark
from prioritizer.errors import Transient

log = logging.getLogger(__name__)
EVERY_S = 1.0
TOLD_AT_ONCE = 5
"""Pages that hear ordinary news at one look; fifty have all heard after ten."""
BLIND_AFTER_S = 5.0
"""So long after the last look that worked, nobody is told that all is as it was."""
MAX_STREAMS = 500
MAX_OF_ONE = 12
"""Of one person, or of one program: tabs, and a few that nobody closed. The oldest ends for a new one."""


@dataclass(eq=False, slots=True)
class Ear:
    """One open page: woken where there is something to ask for."""

    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)
    event: asyncio.Event = field(default_factory=asyncio.Event)
    owed: bool = False
    """News that it has not heard of yet."""
    who: str = ""
    closed: bool = False
    """It made room for a newer page of the same person."""

    def wake(self) -> None:
        """From any thread."""
        self.owed = False
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self.event.set)


class ChangeFeed:
    """Looks, and wakes pages when the list has changed."""

    def __init__(
        self, engine: sa.Engine, now: Callable[[], datetime], every: float = EVERY_S, looked: Callable[[bool], None] = lambda changed: None
    ) -> None:
        self._engine, self._now, self._every, self._looked = engine, now, every, looked
        self._ears: list[Ear] = []
        """In the order in which they heard last."""
        self._joined: list[Ear] = []
        """The same in the order in which they came."""
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="pulse", daemon=True)
        self._known: Mark | None = None
        self._saw = time.monotonic()
        self.over = False

    @property
    def sees(self) -> bool:
        """True while looking works: a page may say that it is live."""
        return time.monotonic() - self._saw < BLIND_AFTER_S + 2 * self._every

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """End every stream."""
        self.over = True
        self._over.set()
        with self._lock:
            for ear in self._ears:
                ear.wake()

    def _watch(self) -> None:
        while not self._over.wait(self._every):
            self.look()

    def look(self) -> None:
        """Once. Whatever goes wrong ends neither the looking nor any stream."""
        try:
            if self._known is None:
                self._known = changes.mark_now(self._engine, self._now())
                changed = urgent = False
            else:
                changed, urgent, self._known = changes.anything(self._engine, self._known, self._now())
            self._looked(changed)
            self._saw = time.monotonic()
        except Transient:
            return
        except Exception:
            log.exception("the look for news failed; it is tried again")
            return
        self._tell(changed=changed, urgent=urgent)

    def _tell(self, *, changed: bool, urgent: bool) -> None:
        with self._lock:
            if changed:
                for ear in self._ears:
                    ear.owed = True
            owed = [ear for ear in self._ears if ear.owed]
            told = owed if urgent else owed[:TOLD_AT_ONCE]
            for ear in told:
                ear.wake()
            self._ears = [ear for ear in self._ears if ear not in told] + told

    def join(self, who: str) -> Ear | None:
        """Be woken from now on; None where too many wait already. Of too many of one person the oldest is closed."""
        ear = Ear(who=who)
        with self._lock:
            own = [other for other in self._joined if other.who == who]
            for other in own[: max(len(own) - MAX_OF_ONE + 1, 0)]:
                other.closed = True
                other.wake()
                self._remove(other)
            if len(self._ears) >= MAX_STREAMS:
                return None
            self._ears.append(ear)
            self._joined.append(ear)
        return ear

    def leave(self, ear: Ear) -> None:
        """Be woken no more."""
        with self._lock:
            self._remove(ear)

    def _remove(self, ear: Ear) -> None:
        if ear in self._ears:
            self._ears.remove(ear)
            self._joined.remove(ear)
