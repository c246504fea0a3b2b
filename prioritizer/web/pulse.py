"""One look at the ledger a second for all browsers together."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from datetime import datetime

import sqlalchemy as sa

from prioritizer.db import changes
from prioritizer.db.changes import Mark
from prioritizer.errors import Transient

EVERY_S = 1.0
MOST_STREAMS = 500


class Pulse:
    """Wakes everybody who waits when the list has changed."""

    def __init__(self, engine: sa.Engine, now: Callable[[], datetime], every: float = EVERY_S) -> None:
        self._engine, self._now, self._every = engine, now, every
        self._waiting: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = set()
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="pulse", daemon=True)
        self.over = False

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """End every stream."""
        self.over = True
        self._over.set()
        self._wake()

    def _watch(self) -> None:
        known: Mark | None = None
        while not self._over.wait(self._every):
            try:
                if known is None:
                    known = changes.mark_now(self._engine, self._now())
                    continue
                changed, known = changes.anything(self._engine, known, self._now())
            except Transient:
                continue
            if changed:
                self._wake()

    def _wake(self) -> None:
        with self._lock:
            for loop, event in self._waiting:
                if not loop.is_closed():
                    loop.call_soon_threadsafe(event.set)

    def join(self, event: asyncio.Event) -> bool:
        """Be woken from now on; False where too many wait already."""
        with self._lock:
            if len(self._waiting) >= MOST_STREAMS:
                return False
            self._waiting.add((asyncio.get_running_loop(), event))
            return True

    def leave(self, event: asyncio.Event) -> None:
        """No more."""
        with self._lock:
            self._waiting = {(loop, other) for loop, other in self._waiting if other is not event}
