"""Timed work: deadlines passed, leases ended, retention, digests scrubbed, alarms set and cleared. Every job may run twice."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Protocol

import sqlalchemy as sa

from prioritizer import ruled, watching
from prioritizer.clock import utc_now
from prioritizer.config import Settings
from prioritizer.db import calibrations, housekeeping, reading, receiving, signing_in, worklist
from prioritizer.db.housekeeping import Alarm
from prioritizer.db.ruled import holding
from prioritizer.dicom import attributes
from prioritizer.dicom.spool import Spool
from prioritizer.errors import CalibrationChanged, Transient
from prioritizer.house_rules import policy_of, quiet_of
from prioritizer.ranking import Policy
from prioritizer.stations import read_arrival

log = logging.getLogger(__name__)
KEPT_SESSIONS = timedelta(days=30)
"""So long after its end a session stays in the ledger; who signed in is in the audit log for good."""


class Watched(Protocol):
    """What chores ask of the daemon."""

    def ready(self) -> list[str]:
        """What stands in the way of full service."""

    def pat_watchdog(self) -> None:
        """Tell the supervisor that all is alive."""


class Chores:
    """The jobs, with the little they remember between turns."""

    def __init__(
        self, engine: sa.Engine, spool: Spool, settings: Callable[[], Settings], daemon: Watched, policy: Callable[[], Policy] | None = None
    ) -> None:
        self._engine, self._spool, self._settings, self._daemon = engine, spool, settings, daemon
        self._policy = policy or (lambda: policy_of(settings(), None))
        self._scrubbed_to = ""
        self._reconciled = False
        self._missing = 0
        self._damaged: set[str] = set()

    def jobs(self) -> list[tuple[Callable[[], None], int]]:
        """Each job with its interval in seconds."""
        return [
            (self._daemon.pat_watchdog, 5),
            (self._when_reachable(self.deadlines), 15),
            (self._when_reachable(self.alarms), 10),
            (self._when_reachable(self.reconcile), 30),
            (self._when_reachable(self.retention), 600),
            (self._when_reachable(self.scrub), 30),
            (self._when_reachable(self.watch), 900),
        ]

    def _when_reachable(self, job: Callable[[], None]) -> Callable[[], None]:
        def run() -> None:
            try:
                job()
            except Transient as error:
                log.warning("%s waits: %s", job.__name__, error, extra={"event": "chore-waits"})

        run.__name__ = job.__name__
        return run

    def deadlines(self) -> None:
        """Mark overdue and expired studies, end claims whose lease ran out."""
        now = utc_now()
        reading.end_expired_claims(self._engine, now)
        reading.mark_overdue(self._engine, now)
        reading.expire(self._engine, now - timedelta(hours=self._settings().ranking.expire_after_hours), now)

    def reconcile(self) -> None:
        """Once after a start: files that the ledger does not know enter it; rows whose file is gone raise an alarm."""
        if self._reconciled:
            return
        known = receiving.known_instances(self._engine)
        in_spool = {path.stem: path for path in self._spool.objects.glob("*/*.dcm")}
        settings = self._settings()
        for uid in in_spool.keys() - known.keys():
            arrival = read_arrival(in_spool[uid])
            receiving.receive(self._engine, [arrival], self._policy(), quiet_of(settings), utc_now())
            log.warning("a spooled instance was unknown to the ledger and entered", extra={"event": "reconciled", "instance": uid})
        self._missing = sum(present and self._spool.find(uid) is None for uid, present in known.items())
        self._reconciled = True

    def retention(self) -> None:
        """Delete the pixels of studies read and delivered long ago, oldest first, and sessions that ended long ago; nothing else ever."""
        before = utc_now() - timedelta(days=self._settings().store.keep_read_days)
        signing_in.forget(self._engine, utc_now() - KEPT_SESSIONS)
        deletable = housekeeping.deletable_pixels(self._engine, before)
        for uid, _ in deletable:
            self._spool.object_path(uid).unlink(missing_ok=True)
        if deletable:
            housekeeping.mark_pixels_deleted(self._engine, deletable, utc_now())

    def scrub(self) -> None:
        """Compare one more spooled file with its digest."""
        found = housekeeping.digest_of(self._engine, self._scrubbed_to)
        if found is None:
            self._scrubbed_to = ""
            return
        uid, digest = found
        path = self._spool.find(uid)
        if path is not None and attributes.sha256_of(path) != digest:
            self._damaged.add(uid)
        self._scrubbed_to = uid

    def watch(self) -> None:
        """The board anew, and its alarms."""
        found = watching.watch(self._engine, self._settings(), self._policy().bundle_digest, utc_now())
        housekeeping.stand(self._engine, watching.STANDING, found, utc_now())

    def alarms(self) -> None:
        """Set and clear what an operator must know, each with the mend."""
        housekeeping.stand(self._engine, ALARMS, [a for a in self._standing() if a is not None], utc_now())

    def _standing(self) -> list[Alarm | None]:
        counts = worklist.counts(self._engine)
        listener = self._settings().listener
        low = self._spool.free_bytes() < listener.min_free_mib << 20 or self._spool.free_fraction() < listener.min_free_share
        faults = self._daemon.ready()
        changed = calibrations.applying(self._engine, self._policy()).fault
        return [
            _when(counts.overdue, "overdue", f"{counts.overdue} studies are overdue", "Read them, or widen the windows"),
            _when(
                counts.expired,
                "expired",
                f"{counts.expired} studies are open for longer than ranking.expire_after_hours",
                "`prioritizer worklist --view expired` lists them",
            ),
            _when(
                counts.rejected,
                "rejected",
                f"{counts.rejected} results were refused for good by a destination",
                "`prioritizer status` names the reason; mend it there, then `prioritizer requeue STUDY`",
            ),
            _when(
                counts.failed,
                "failed",
                f"{counts.failed} open studies could not be scored",
                "`prioritizer status` names the reason; `prioritizer requeue STUDY` tries again",
            ),
            _when(low, "disk", "the spool's disk is below its watermark: storing is refused with 0xA700", "Free the disk"),
            _when(bool(faults), "not-ready", "; ".join(faults), "`prioritizer check` names the mend"),
            _when(
                worklist.raising_is_suspended(self._engine, self._policy()),
                "raising-suspended",
                "more studies than ranking.max_high_share are raised: new ones are placed by arrival",
                "Look for a drift: a new device, a new population; recalibrate, or raise the limit",
            ),
            ruled.alarm_of(holding(self._engine, self._policy()), self._settings()),
            _when(
                changed,
                "calibration-changed",
                f"{changed}: nothing is scored or raised with it",
                CalibrationChanged.mend,
            ),
            _when(
                self._missing,
                "files-missing",
                f"{self._missing} files that the ledger names are not in the spool",
                "Restore the spool from the backup, or send these studies again",
            ),
            _when(
                bool(self._damaged),
                "files-damaged",
                f"the bytes of {len(self._damaged)} spooled instances changed since they arrived: {', '.join(sorted(self._damaged)[:3])}",
                "Check the disk; send these studies again",
            ),
        ]


ALARMS = (
    "overdue", "expired", "rejected", "failed", "disk", "not-ready", "raising-suspended", "calibration-changed",
    "ruling-set-aside", "files-missing", "files-damaged",
)  # fmt: skip


def _when(on: object, name: str, said: str, mend: str) -> Alarm | None:
    return Alarm(name=name, said=said, mend=mend) if on else None
