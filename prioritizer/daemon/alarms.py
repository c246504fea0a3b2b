"""The alarms that stand now: each with what, since when or how many, who acts, and what they do first.

Standing still is an alarm as much as a fault is: every queue has an age, every worker and the listener a heartbeat.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from prioritizer.config.policy import SitePolicy
from prioritizer.config.settings import Settings
from prioritizer.daemon import settings_in_force
from prioritizer.db.activity import queues
from prioritizer.db.decisions import calibrations
from prioritizer.db.in_force.settings import holding
from prioritizer.db.instances import differing_copies, healing
from prioritizer.db.processing.housekeeping import Alarm
from prioritizer.db.schema import clock_steps
from prioritizer.db.worklist import counts as worklist_counts
from prioritizer.db.worklist import rows
from prioritizer.dicom.spool.spool import Spool
from prioritizer.errors import CalibrationChanged, Transient
from prioritizer.ranking.deadlines import minutes
from prioritizer.study import FileFault

log = logging.getLogger(__name__)
INBOX_AGE = timedelta(minutes=2)
"""A received file is on the list within a second; after so long something stands still."""
COPIES_AGE = timedelta(minutes=10)
SCORING_AGE = timedelta(minutes=10)
PUBLISHING_AGE = timedelta(minutes=30)
DELIVERY_AGE = timedelta(hours=1)
"""A destination may be restarted; after so long somebody must look."""
FAILURES = 5
"""Turns that fail in a row until a worker is an alarm."""
FORECAST = timedelta(days=7)
"""So long before the disk reaches its watermark there is an alarm."""
ADMINISTRATOR, READERS = "the PACS administrator", "the readers on duty"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What the running parts of the daemon report of themselves; empty where there is no daemon."""

    failing: Mapping[str, int] = field(default_factory=dict)
    """Workers whose last turns failed, and how many in a row."""
    restarts: int = 0
    """How often the listener was started again in the last hour."""
    owed: tuple[str, ...] = ()
    """Work that could not be done when it was due and is tried again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmInputs:
    """Everything that the alarms are judged by, at one moment."""

    engine: sa.Engine
    spool: Spool
    settings: Settings
    policy: SitePolicy
    ready: list[str]
    parts: Parts
    failing: Mapping[str, str]
    growth: float | None
    """Bytes a day by which the spool grows; None where it was not measured since the start."""
    unlisted: int | None
    """Settled files of the spool that a rebuild could not enter into the ledger yet; None where none was done since the start."""
    now: datetime


@dataclass(slots=True)
class Lasting:
    """Since when a condition holds without a break: one late turn is no alarm."""

    _since: dict[str, datetime] = field(default_factory=dict)

    def holds(self, name: str, condition: object, least: timedelta, now: datetime) -> bool:
        """True when the condition has held for at least so long."""
        if not condition:
            self._since.pop(name, None)
            return False
        since = min(self._since.setdefault(name, now), now)
        return now - since >= least


def alarms_now(look: AlarmInputs, lasting: Lasting) -> list[Alarm]:
    """Every alarm that stands; what cannot be judged now is an alarm itself, and the others are judged."""
    standing, blind = list[Alarm](), list[str]()
    for judge in JUDGES:
        try:
            standing += judge(look, lasting)
        except Transient:
            raise  # the ledger does not answer: no alarm can be written down
        except Exception as error:
            log.exception("alarms cannot be judged", extra={"event": "alarm-fault"})
            blind.append(f"{judge.__name__.strip('_').replace('_', ' ')} ({type(error).__name__})")
    said = f"some alarms cannot be judged now and may stand unseen: those {', '.join(blind)}"
    return standing + list(_alarm(blind, "blind", said, ADMINISTRATOR, "the log names the cause: look at the spool's disk and folders"))


def judged(found: Sequence[Alarm], look: AlarmInputs) -> Sequence[str]:
    """Which alarms are cleared where they are not among those found: while some cannot be judged none is, nor what was not looked at."""
    names = [alarm.name for alarm in found]
    unknown = {"unlisted": look.unlisted, "disk-forecast": look.growth}
    return names if "blind" in names else [name for name in NAMES if unknown.get(name, 0) is not None]


def _alarm(on: object, name: str, said: str, who: str, first: str) -> Iterator[Alarm]:
    if on:
        yield Alarm(name=name, said=said, mend=f"{who}: {first}")


def _of_the_list(look: AlarmInputs, lasting: Lasting) -> Iterator[Alarm]:
    counts = worklist_counts.counts(look.engine, look.now)
    yield from _alarm(
        counts.overdue, "overdue", f"{counts.overdue} studies are overdue", READERS, "read them; administrators may widen the windows"
    )
    yield from _alarm(
        counts.expired,
        "expired",
        f"{counts.expired} studies are open for longer than ranking.expire_after_hours",
        READERS,
        "`prioritizer worklist --view expired` lists them",
    )
    yield from _alarm(
        counts.rejected,
        "rejected",
        f"{counts.rejected} results were refused permanently by a destination",
        ADMINISTRATOR,
        "`prioritizer status` names the reason; remove it there, then `prioritizer requeue STUDY`",
    )
    yield from _alarm(
        counts.failed,
        "failed",
        f"{counts.failed} open studies could not be scored",
        ADMINISTRATOR,
        "`prioritizer status` names the reason; `prioritizer requeue STUDY` tries again",
    )
    yield from _alarm(
        rows.raising_is_suspended(look.engine, look.policy),
        "raising-suspended",
        "more studies than ranking.max_high_share are moved up: new ones are placed by arrival",
        look.settings.monitoring.owner,
        "look for a drift, a new device or a new population; recalibrate, or raise the limit",
    )


def _age(look: AlarmInputs, file: tuple[int, str]) -> timedelta:
    return look.now - datetime.fromtimestamp(file[0] / 1e9, UTC)


def _of_queues(look: AlarmInputs, lasting: Lasting) -> Iterator[Alarm]:
    """What waits for longer than it should, for whom."""
    waiting = look.spool.waiting()
    oldest = _age(look, waiting[0]) if waiting else timedelta(0)
    said = f"{len(waiting)} received files wait for the ledger, the oldest for {minutes(oldest)}: their studies may not be on the list"
    first = "`prioritizer doctor`; the log names the file or the database that stands in the way"
    yield from _alarm(oldest > INBOX_AGE, "inbox", said, ADMINISTRATOR, first)
    kept = differing_copies.kept_files(look.engine)
    unjudged = [copy for copy in look.spool.copies_waiting() if copy[1] not in kept]
    oldest = max((_age(look, copy) for copy in unjudged), default=timedelta(0))
    said = f"{len(unjudged)} images that came again could not be compared with what is held, the oldest for {minutes(oldest)}"
    first = "the log names what stands in the way: the disk, the database or a decoder; the files lie in the spool's conflicts folder"
    yield from _alarm(oldest > COPIES_AGE, "copies", said, ADMINISTRATOR, first)
    queue = queues.queues(look.engine)
    to_score = queue.pop(queues.TO_SCORE)
    late = to_score.oldest is not None and look.now - to_score.oldest > SCORING_AGE
    said = f"{to_score.waiting} images wait for their score for more than {minutes(SCORING_AGE)}: they stand in order of arrival"
    first = "`prioritizer status` says whether AI is off; otherwise the log of the score workers names the cause"
    yield from _alarm(lasting.holds("scoring", late, SCORING_AGE / 2, look.now), "scoring", said, ADMINISTRATOR, first)
    unpublished = queues.results_late(look.engine, look.now - PUBLISHING_AGE)
    said = f"{unpublished} studies wait for their result to be built for more than {minutes(PUBLISHING_AGE)}"
    yield from _alarm(unpublished, "publishing", said, ADMINISTRATOR, "the study page names the reason; the log has the rest")
    yield from _of_destinations(look, queue)


def _of_destinations(look: AlarmInputs, queue: dict[str, queues.Queue]) -> Iterator[Alarm]:
    names = {destination.name for destination in look.settings.destinations}
    late = [
        f"{name}: {one.waiting} since {one.oldest:%Y-%m-%d %H:%M} UTC"
        for name, one in sorted(queue.items())
        if name in names and one.oldest is not None and look.now - one.oldest > DELIVERY_AGE
    ]
    first = "`prioritizer doctor` walks the way to it; results are kept and sent by themselves when it answers"
    said = f"results wait for a destination that does not take them ({'; '.join(late)})"
    yield from _alarm(late, "delivery", said, ADMINISTRATOR, first)
    strange = [f"{name}: {one.waiting}" for name, one in sorted(queue.items()) if name not in names]
    first = "give [[destinations]] its name back and reload, or discard these results on the page System"
    said = f"results wait for a destination that is not in the configuration ({'; '.join(strange)})"
    yield from _alarm(strange, "destination-unknown", said, ADMINISTRATOR, first)


def _of_parts(look: AlarmInputs, lasting: Lasting) -> Iterator[Alarm]:
    """Workers, jobs and the listener."""
    yield from _alarm(look.ready, "not-ready", "; ".join(look.ready), ADMINISTRATOR, "`prioritizer check` names the remedy")
    failing = [f"{name} ({count} turns)" for name, count in sorted(look.parts.failing.items()) if count >= FAILURES]
    jobs = [f"{name} ({kind})" for name, kind in sorted(look.failing.items())]
    long = lasting.holds("jobs", jobs, timedelta(minutes=1), look.now)
    said = f"work fails in a row and is tried again: {', '.join(failing + (jobs if long else []))}"
    yield from _alarm(failing or long, "failing", said, ADMINISTRATOR, "the log names the cause; nothing that waits is lost")
    said = f"in the last hour the listener ended or hung {look.parts.restarts} times, and was started again: senders may have been cut off"
    yield from _alarm(
        look.parts.restarts, "listener", said, ADMINISTRATOR, "the log has the reason; look at the spool's disk and at memory"
    )
    owed = lasting.holds("owed", look.parts.owed, timedelta(seconds=30), look.now)
    said = f"not done yet, tried again until it is: {', '.join(look.parts.owed)}"
    yield from _alarm(owed, "owed", said, ADMINISTRATOR, "look whether the database answers")
    fault = calibrations.applying(look.engine, look.policy).fault
    said = f"{fault}: nothing is scored or moved up with it"
    yield from _alarm(fault, "calibration-changed", said, ADMINISTRATOR, CalibrationChanged.mend)
    set_aside = settings_in_force.alarm_of(holding(look.engine, look.policy), look.settings)
    if set_aside is not None:
        yield set_aside


def _of_files(look: AlarmInputs, lasting: Lasting) -> Iterator[Alarm]:
    """The disk, and files that are not what the ledger knows."""
    listener = look.settings.listener
    free, share = look.spool.free_bytes(), look.spool.free_fraction()
    low = free < listener.min_free_mib << 20 or share < listener.min_free_share
    said = "the spool's disk is below its watermark: storing is refused with 0xA700"
    yield from _alarm(low, "disk", said, ADMINISTRATOR, "free the disk")
    watermark = max(listener.min_free_mib << 20, int(listener.min_free_share * free / max(share, 1e-9)))
    growth = look.growth or 0.0
    days = (free - watermark) / growth if growth > 0 else None
    full = not low and days is not None and days * timedelta(days=1) < FORECAST
    said = f"at the growth of the last week ({growth / 1e9:.1f} GB a day) the spool's disk reaches its watermark in {days or 0:.1f} days"
    first = "give it more room, or keep less: store.keep_read_days, and in stage shadow store.keep_unread_days"
    yield from _alarm(full, "disk-forecast", said, ADMINISTRATOR, first)
    said = f"{look.unlisted} files of the spool are not on the list: the disk does not give them, or the ledger does not take them"
    first = "the log names the cause; they are tried again, at most an hour later each time, and at a restart"
    yield from _alarm(look.unlisted, "unlisted", said, ADMINISTRATOR, first)
    missing, damaged = (healing.faulty(look.engine, fault) for fault in (FileFault.MISSING, FileFault.DAMAGED))
    said = f"{len(missing)} files that the ledger names are not in the spool: {', '.join(sorted(missing)[:3])}"
    first = "restore the spool from the backup, or send these studies again: what arrives takes its place"
    yield from _alarm(missing, "files-missing", said, ADMINISTRATOR, first)
    said = f"the bytes of {len(damaged)} spooled instances changed since they arrived: {', '.join(sorted(damaged)[:3])}"
    first = "look at the disk; send these studies again: what arrives takes their place"
    yield from _alarm(damaged, "files-damaged", said, ADMINISTRATOR, first)
    aside, strangers = look.spool.set_aside(), len(look.spool.strangers())
    said = f"{aside} acknowledged files could not be understood at all and lie in the spool's quarantine folder"
    first = "`prioritizer status` lists them with their sender; send these images again, then remove the files"
    yield from _alarm(aside, "set-aside", said, ADMINISTRATOR, first)
    said = f"{strangers} entries in the spool's inbox are not files of the listener"
    yield from _alarm(strangers, "strangers", said, ADMINISTRATOR, "look at what put them there, and remove them")


def _of_studies(look: AlarmInputs, lasting: Lasting) -> Iterator[Alarm]:
    """What a person must confirm or decide."""
    unsure = rows.to_confirm(look.engine)
    said = f"of {unsure} studies it must be confirmed whose they are"
    yield from _alarm(unsure, "identity", said, ADMINISTRATOR, "`prioritizer identity list` shows both patients and the step for each")
    held = rows.held_after_rebuild(look.engine)
    said = f"{held} studies were entered again from the spool: whether their results are sent again is not decided"
    first = "`prioritizer rebuild --publish no` where the PACS has them, `--publish yes` where it does not"
    yield from _alarm(held, "rebuilt", said, ADMINISTRATOR, first)
    step = clock_steps.last_step(look.engine, look.now)
    first = "look at the time service of this machine; arrivals and claims were brought to the present"
    yield from _alarm(step, "clock", step, ADMINISTRATOR, first)


JUDGES: tuple[Callable[[AlarmInputs, Lasting], Iterator[Alarm]], ...] = (_of_the_list, _of_queues, _of_parts, _of_files, _of_studies)
NAMES = (
    "overdue", "expired", "rejected", "failed", "raising-suspended", "inbox", "copies", "scoring", "publishing",
    "delivery", "destination-unknown", "not-ready", "listener", "failing", "owed", "calibration-changed",
    "ruling-set-aside", "disk", "disk-forecast", "files-missing", "files-damaged", "set-aside", "strangers",
    "identity", "rebuilt", "clock", "unlisted", "blind",
)  # fmt: skip
"""The alarms that are set and cleared here."""
