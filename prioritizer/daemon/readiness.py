"""What stands in the way of full service, for `/readyz`, the alarms and the watchdog."""

from __future__ import annotations

from collections.abc import Iterator

from prioritizer.clock import utc_now
from prioritizer.config.settings import Settings
from prioritizer.daemon.listener_process import SILENT_S, ListenerProcess
from prioritizer.daemon.scheduled_jobs import NO_ANSWER, ScheduledJobs
from prioritizer.dicom.spool.spool import Spool


def of_listener(listener: ListenerProcess) -> Iterator[str]:
    """The listener runs and is heard."""
    if listener.listening.is_set() and listener.silent_s >= SILENT_S:
        yield f"the listener was not heard for {listener.silent_s:.0f} s: it hangs"
    elif not listener.alive:
        yield f"the listener is not running {listener.fault}".strip()


def of_jobs(jobs: ScheduledJobs) -> Iterator[str]:
    """Scheduled jobs end, and the alarms can be judged."""
    yield from (f"the job {name} does not end" for name in jobs.hanging(utc_now()))
    if (kind := jobs.failing.get("alarms", NO_ANSWER)) != NO_ANSWER:
        yield f"the alarms cannot be judged ({kind}): what stands may not be shown"


def of_spool(spool: Spool, settings: Settings) -> Iterator[str]:
    """The disk takes images."""
    listener = settings.listener
    if spool.free_bytes() < listener.min_free_mib << 20 or spool.free_fraction() < listener.min_free_share:
        yield "every C-STORE is refused with 0xA700: the spool's disk is below its watermark"
