"""Timed work: deadlines passed, leases ended, retention, digests scrubbed, alarms set and cleared. Every job may run twice."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Protocol

import sqlalchemy as sa

from prioritizer.clock import utc_now
from prioritizer.config.policy import SitePolicy
from prioritizer.config.settings import Settings
from prioritizer.daemon import alarms as daemon_alarms
from prioritizer.daemon import dashboard_period
from prioritizer.daemon.alarms import Lasting, Parts
from prioritizer.daemon.receive import rebuild
from prioritizer.db.accounts import sessions
from prioritizer.db.in_force.settings import holding
from prioritizer.db.instances import differing_copies, healing, retention
from prioritizer.db.instances.retention import Deadlines
from prioritizer.db.processing import housekeeping, out_of_distribution, receive
from prioritizer.db.schema import clock_steps
from prioritizer.db.worklist import deadlines as worklist_deadlines
from prioritizer.dicom.read import attributes
from prioritizer.dicom.spool.spool import Spool
from prioritizer.errors import Transient
from prioritizer.ranking.deadlines import Stage
from prioritizer.study import FileFault

log = logging.getLogger(__name__)
KEPT_SESSIONS = timedelta(days=30)
"""So long after its end a session stays in the ledger; who signed in is in the audit log permanently."""
STEP = timedelta(seconds=20)
"""The clock of the machine drifts less than this between two looks; more is a step."""
FIRST_RECONCILE_WAIT_S, MAX_RECONCILE_WAIT_S = 30.0, 3600.0
LEFT_OUT_AGAIN_S = 600.0
"""So long after nothing was owed it is looked again though nothing changed: a study that was read may have been opened again."""
NO_ANSWER = "the database does not answer"
MAX_JOB_TIME = timedelta(minutes=15)
"""A job that has not ended after so long hangs: the longest, the board of a million studies, takes seconds."""


class DaemonHealth(Protocol):
    """What the scheduled jobs ask of the daemon."""

    def ready(self) -> list[str]:
        """What stands in the way of full service."""

    def pat_watchdog(self) -> None:
        """Tell the supervisor that all is alive."""


def _fault_of(spool: Spool, uid: str, digest: str) -> FileFault:
    try:
        path = spool.find(uid)
        if path is None:
            return FileFault.MISSING
        return FileFault.NONE if attributes.sha256_of(path) == digest else FileFault.DAMAGED
    except FileNotFoundError:
        return FileFault.MISSING
    except OSError:
        return FileFault.DAMAGED


class ScheduledJobs:
    """The jobs, with the little they remember between turns."""

    def __init__(
        self,
        engine: sa.Engine,
        spool: Spool,
        settings: Callable[[], Settings],
        daemon: DaemonHealth,
        policy: Callable[[], SitePolicy],
        parts: Callable[[], Parts] = Parts,
        ours: Callable[[], bool] = lambda: True,
    ) -> None:
        """`ours`: whether this daemon serves the ledger now; while it does not, no job touches it."""
        self._engine, self._spool, self._settings, self._daemon, self._parts = engine, spool, settings, daemon, parts
        self._ours = ours
        self._policy = policy
        self._scrubbed_to = ""
        self._reconciled, self._reconcile_at, self._reconcile_wait = False, 0.0, FIRST_RECONCILE_WAIT_S / 2
        self._left_out_by: tuple[object, ...] = ()
        self._left_out_again = 0.0
        self._unlisted: int | None = None
        self._growth: float | None = None
        self._clocks = (utc_now(), time.monotonic())
        self._looking = threading.Lock()
        self._lasting = Lasting()
        self._began: dict[str, datetime] = {}
        self.failing: dict[str, str] = {}
        """Jobs that failed at their last turn, and the kind of error."""

    def jobs(self, heartbeat: Callable[[], None] = lambda: None) -> list[tuple[Callable[[], None], int]]:
        """Each job with its interval in seconds. `heartbeat` tells the ledger that the daemon runs."""
        return [
            (self._daemon.pat_watchdog, 5),
            (self._guarded(heartbeat), 10),
            (self._guarded(self.look_at_the_clock), 5),
            (self._guarded(self.deadlines), 15),
            (self._guarded(self.alarms), 10),
            (self._guarded(self.left_out), 10),
            (self._guarded(self.reconcile), 30),
            (self._guarded(self.retention), 600),
            (self._guarded(self.scrub), 30),
            (self._guarded(self.watch), 900),
        ]

    def _guarded(self, job: Callable[[], None]) -> Callable[[], None]:
        """A job that fails is tried again at its next turn, stops no other, and raises an alarm."""

        def run() -> None:
            if not self._ours():
                return
            self._began[job.__name__] = utc_now()
            try:
                job()
                self.failing.pop(job.__name__, None)
            except Transient as error:
                self.failing[job.__name__] = NO_ANSWER
                log.warning("%s waits: %s", job.__name__, error, extra={"event": "job-waits"})
            except Exception as error:
                self.failing[job.__name__] = type(error).__name__
                log.exception("%s failed; it is tried again at its next turn", job.__name__, extra={"event": "job-fault"})
            finally:
                self._began.pop(job.__name__, None)

        run.__name__ = job.__name__
        return run

    def hanging(self, now: datetime) -> list[str]:
        """Jobs that began long ago and have not ended."""
        return [name for name, began in dict(self._began).items() if now - began > MAX_JOB_TIME]

    def look_at_the_clock(self) -> None:
        """A step of the machine's clock is an event; what it dated is brought to the present, or back to where it was."""
        with self._looking:
            (wall, monotonic), now = self._clocks, (utc_now(), time.monotonic())
            step = (now[0] - wall) - timedelta(seconds=now[1] - monotonic)
            if abs(step) > STEP:
                log.error("the clock was set by %.0f s", step.total_seconds(), extra={"event": "clock-stepped"})
                self._hold_to_present(now[0])
                (clock_steps.gone_forward if step > STEP else clock_steps.record_step)(self._engine, step, now[0])
            self._clocks = now  # only now: a step that could not be written down is seen again

    def _hold_to_present(self, now: datetime) -> None:
        clock_steps.hold_to_present(self._engine, now)
        clock_steps.hold_results_to_present(self._engine, self._policy().quiet, now)

    def deadlines(self) -> None:
        """Mark overdue and expired studies, end claims whose lease ran out."""
        self.look_at_the_clock()  # nothing ends by a clock that was set and not yet looked at
        now = utc_now()
        self._hold_to_present(now)
        worklist_deadlines.end_expired_claims(self._engine, now)
        worklist_deadlines.mark_overdue(self._engine, now)
        worklist_deadlines.expire(self._engine, now - timedelta(hours=self._settings().ranking.expire_after_hours), now)

    def left_out(self) -> None:
        """Images of another population: scored, or unscored again, some at a time, as what is in force says since it changed."""
        policy = self._policy()
        decided_by = out_of_distribution.decided_by(self._engine, policy)
        if self._left_out_by == decided_by and time.monotonic() < self._left_out_again:
            return
        if not out_of_distribution.judge_again(self._engine, policy, utc_now()):
            self._left_out_by, self._left_out_again = decided_by, time.monotonic() + LEFT_OUT_AGAIN_S

    def reconcile(self) -> None:
        """Once after a start: files that the ledger does not know enter it; rows whose file is gone raise an alarm.

        Where a file cannot be read or entered it is done again, later each time: the whole ledger is read for it.
        """
        if self._reconciled or time.monotonic() < self._reconcile_at:
            return
        known = receive.known_instances(self._engine)
        found = rebuild(self._engine, self._spool, set(known), self._policy(), utc_now())
        if found.entered or found.set_aside:
            said = "%s spooled instances were unknown to the ledger and entered, %s put into quarantine"
            log.warning(said, found.entered, found.set_aside, extra={"event": "reconciled"})
        kept = [uid for uid, present in known.items() if present]
        missing = {uid for uid in kept if self._is_missing(uid)}
        back = healing.faulty(self._engine, FileFault.MISSING) - missing
        healing.set_fault(self._engine, missing, FileFault.MISSING, utc_now())
        for uid in back:
            held = differing_copies.held(self._engine, uid)
            digest = held.instance.sha256 if held is not None else ""
            healing.set_fault(self._engine, {uid}, _fault_of(self._spool, uid, digest), utc_now())
        self._unlisted = found.left
        left_over = [path.stem for path in self._spool.held() if known.get(path.stem) is False]
        undeleted = retention.unlink_marked(self._engine, left_over, self._spool.remove)
        self._reconciled = not found.left and not undeleted
        # Where it goes on it is tried again soon.
        self._reconcile_wait = FIRST_RECONCILE_WAIT_S if found.entered else min(2 * self._reconcile_wait, MAX_RECONCILE_WAIT_S)
        self._reconcile_at = time.monotonic() + self._reconcile_wait

    def _is_missing(self, uid: str) -> bool:
        """True where no file of an instance lies in the spool; one that the disk does not give is there, and damaged."""
        try:
            return self._spool.find(uid) is None
        except OSError:
            return False

    def retention(self) -> None:
        """Delete the pixels of studies read and delivered long ago, oldest first, and what ended long ago; nothing else ever.

        By how much the clock was set forward in the last day counts as no time at all: what is long ago may be so by that step alone, and
        a machine that stands still for a while every night goes on deleting.
        """
        self.look_at_the_clock()
        now, store = utc_now(), self._settings().store
        by = now - clock_steps.forward_of_late(self._engine, now)
        sessions.forget(self._engine, by - KEPT_SESSIONS)
        in_shadow = holding(self._engine, self._policy()).policy.ranking.stage is Stage.SHADOW
        unread = by - timedelta(days=store.keep_unread_days) if in_shadow else None
        marked = retention.mark_deletable(self._engine, Deadlines(by - timedelta(days=store.keep_read_days), unread), now)
        if retention.unlink_marked(self._engine, marked, self._spool.remove):
            self._reconciled = False  # it deletes what was left over
        retention.delete_result_bytes(self._engine, by - timedelta(days=store.keep_results_days), now)
        self._growth = retention.growth(self._engine, now)

    def scrub(self) -> None:
        """Compare one more spooled file with its digest."""
        found = housekeeping.digest_of(self._engine, self._scrubbed_to)
        if found is None:
            self._scrubbed_to = ""
            return
        uid, digest = found
        self._scrubbed_to = uid
        healing.set_fault(self._engine, {uid}, _fault_of(self._spool, uid, digest), utc_now())

    @property
    def _missing(self) -> int:
        return len(healing.faulty(self._engine, FileFault.MISSING))

    @property
    def _damaged(self) -> set[str]:
        return healing.faulty(self._engine, FileFault.DAMAGED)

    def watch(self) -> None:
        """The board again, and its alarms."""
        found = dashboard_period.watch(self._engine, self._settings(), self._policy().bundle_digest, utc_now())
        housekeeping.stand(self._engine, dashboard_period.STANDING, found, utc_now())

    def alarms(self) -> None:
        """Set and clear what an operator must know, each with its age, who acts, and what they do first."""
        look = daemon_alarms.AlarmInputs(
            engine=self._engine,
            spool=self._spool,
            settings=self._settings(),
            policy=self._policy(),
            ready=self._daemon.ready(),
            parts=self._parts(),
            failing=dict(self.failing),
            unlisted=self._unlisted,
            growth=self._growth,
            now=utc_now(),
        )
        found = daemon_alarms.alarms_now(look, self._lasting)
        housekeeping.stand(self._engine, daemon_alarms.judged(found, look), found, utc_now())
