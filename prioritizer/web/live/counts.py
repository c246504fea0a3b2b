"""The figures above the list, kept beside the pages: taken again when the list has changed, not by every page that is drawn."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa

from prioritizer.config.policy import SitePolicy
from prioritizer.db.worklist import counts as worklist_counts
from prioritizer.db.worklist import feedback, rows
from prioritizer.db.worklist.counts import WorklistCounts

DAYS = 90
"""Over which the site's own frequency is taken."""
FRESH = timedelta(seconds=1)
"""So old figures may be that nobody watches over."""
RENEWED = timedelta(seconds=10)
"""So often they are taken again although the list did not change: deliveries and words of readers do not move it."""
WANTED_FOR = timedelta(minutes=1)
"""So long after the last page they are kept up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """Everything that is counted for a page, of one moment."""

    at: datetime
    counts: WorklistCounts
    senders: list[str]
    share: tuple[int, int]
    """How many of the last scored studies were raised, of how many."""
    suspended: bool
    """More were raised than the site allows: raising is suspended."""
    confirmed: tuple[int, int]
    """Of the raised studies that readers spoke of, how many were confirmed."""


class CachedCounts:
    """The newest tally. `renew` is called by who watches the ledger, `now` by pages, `forget` after a step."""

    def __init__(
        self, engine: sa.Engine, now: Callable[[], datetime], policy: Callable[[], SitePolicy], neutral: Callable[[], timedelta]
    ) -> None:
        self._engine, self._now, self._policy, self._neutral = engine, now, policy, neutral
        self._lock = threading.Lock()
        self._kept: Tally | None = None
        self._steps = 0
        self._wanted_at: datetime | None = None
        self._watched_at: datetime | None = None

    def now(self) -> Tally:
        """The tally for a page: the kept one while somebody watches and nothing changed, else a new one."""
        now = self._now()
        with self._lock:
            self._wanted_at = now
            kept, watched = self._kept, self._watched_at
            watching = watched is not None and timedelta(0) <= now - watched < 3 * FRESH
        if kept is not None and timedelta(0) <= now - kept.at < (RENEWED + 3 * FRESH if watching else FRESH):
            return kept
        return self._taken()

    def renew(self, *, changed: bool) -> None:
        """Somebody looked at the ledger just now; `changed`: the list is another than at the look before."""
        now = self._now()
        with self._lock:
            self._watched_at = now
            wanted = self._wanted_at is not None and now - self._wanted_at < WANTED_FOR
            stale = changed or self._kept is None or not timedelta(0) <= now - self._kept.at < RENEWED
            if stale and not wanted:
                self._kept = None
        if stale and wanted:
            self._taken()

    def forget(self) -> None:
        """Something was changed here: the next page counts again."""
        with self._lock:
            self._kept = None
            self._steps += 1

    def _taken(self) -> Tally:
        with self._lock:
            steps = self._steps
        now, policy = self._now(), self._policy()
        found = Tally(
            at=now,
            counts=worklist_counts.counts(self._engine, now, self._neutral()),
            senders=rows.senders(self._engine),
            share=rows.share_raised(self._engine, policy.ranking.last_n),
            suspended=rows.raising_is_suspended(self._engine, policy),
            confirmed=feedback.confirmed_of_raised(self._engine, now - timedelta(days=DAYS)),
        )
        with self._lock:
            if steps == self._steps:  # else it may have been counted before the step
                self._kept = found
        return found
