"""Spool inbox to ledger: each file judged alone, so that one that cannot be read stops no other.

A header that cannot be read gives a listed study with its reason; a file without a receipt, which says neither what it is nor who sent
it, is put into quarantine; one that the disk does not give is tried again while the others go on.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from prioritizer.clock import Clock, utc_now
from prioritizer.config.policy import SitePolicy
from prioritizer.daemon.differing_copies import Compare, Copies
from prioritizer.daemon.retry_schedule import Retries
from prioritizer.db.activity import refused_associations
from prioritizer.db.instances import differing_copies
from prioritizer.db.processing import receive
from prioritizer.db.processing.receive import NOT_STORED, NOT_TAKEN, Arrival, is_of_the_values
from prioritizer.dicom.read import attributes, sandboxed
from prioritizer.dicom.spool import notices
from prioritizer.dicom.spool.part10 import read_receipt
from prioritizer.dicom.spool.spool import Spool
from prioritizer.errors import Contended
from prioritizer.study import Hold

log = logging.getLogger(__name__)

RECEIVE_BATCH = 16
"""Instances a commit: one durable commit costs 4-6 ms, sixteen rows in it 0.3 ms each."""
NOTICE_BATCH = 64
"""Notices a turn, each a commit of its own: a flood of them keeps the inbox waiting for a fraction of a second."""
WAIT_S = 5.0
"""Seconds until a file that the disk or the ledger did not take is looked at again; doubled each time."""
MAX_WAIT_S = 60.0


def read_arrival(path: Path) -> Arrival:
    """Header and digest of a spooled file; what cannot be read of it is an arrival too, with its reason.

    Raises ValueError where the receipt itself is gone, OSError where the disk does not give the file.
    """
    instance, unreadable = attributes.arrival_of(path)
    return Arrival(instance=instance, unreadable=unreadable)


def read_any(path: Path) -> Arrival:
    """The same, whatever reading the header raises: foreign libraries raise what they like on a hostile file.

    Raises ValueError only where the receipt itself is gone, OSError where the disk does not give the file.
    """
    read_receipt(path)
    try:
        return read_arrival(path)
    except OSError:
        raise
    except Exception as error:  # noqa: BLE001 - one item of a batch: its fault is its reason, the others go on
        log.warning("a header cannot be read (%s)", type(error).__name__, extra={"event": "header-fault"})
        return Arrival(instance=attributes.bare_instance(path), unreadable="the header cannot be read")


def _bare(path: Path) -> Arrival:
    """What the ledger stores of a file whose header it cannot. Raises ValueError without a receipt, OSError of the disk."""
    return Arrival(instance=attributes.bare_instance(path), unreadable=NOT_STORED)


@dataclass(slots=True, kw_only=True)
class ReceiveWorker:
    """Spool inbox to ledger: header, digest, row, then the file settles. Also takes in the listener's notices and differing copies."""

    engine: sa.Engine
    spool: Spool
    policy: SitePolicy
    entered: Callable[[], None] = lambda: None
    """Called when rows are committed: scoring need not wait until the files have settled."""
    clock: Clock = utc_now
    same_pixels: Compare = sandboxed.same_pixels
    _retries: Retries[Path] = field(default_factory=lambda: Retries(WAIT_S, MAX_WAIT_S))
    _notices: Retries[Path] = field(default_factory=lambda: Retries(WAIT_S, MAX_WAIT_S))
    _notices_fault: str = ""
    """Why the folder of the notices could not be listed at the last turn."""
    _strangers_at: float = 0.0
    _copies: Copies | None = None

    def step(self) -> bool:
        """Enter the oldest arrivals; True when any were looked at, also where none could be entered: others may stand behind them."""
        if time.monotonic() >= self._strangers_at:
            self._strangers_at = time.monotonic() + WAIT_S
            self._set_strangers_aside()
        waiting = self._retries.due(self.spool.inbox())[:RECEIVE_BATCH]
        self._enter(self._readable(waiting))
        noticed, judged = self._take_notices(), self._take_copies()
        return bool(waiting) or noticed or judged

    def _wait(self, path: Path, why: str) -> None:
        wait = self._retries.later(path)
        log.error("%s; it is looked at again in %.0f s, the others go on", why, wait, extra={"event": "inbox-waits"})

    def _readable(self, paths: list[Path]) -> list[tuple[Path, Arrival]]:
        found = []
        for path in paths:
            try:
                found.append((path, read_any(path)))
            except FileNotFoundError:
                self._retries.later(path)  # moved meanwhile, or a link to nothing
            except OSError as error:
                self._wait(path, f"the disk does not give a file of the inbox ({error.strerror or type(error).__name__})")
            except ValueError:
                self._set_aside(path, "a file of the inbox without a receipt: it does not say what it is, nor who sent it")
        return found

    def _set_aside(self, path: Path, why: str) -> None:
        try:
            self.spool.quarantine(path, why, acknowledged=True)
        except OSError as error:
            self._wait(path, f"a file of the inbox cannot be put into quarantine ({error.strerror or type(error).__name__})")

    def _set_strangers_aside(self) -> None:
        """Files of another kind go to quarantine; a folder stays where it is, and an alarm names it."""
        for path in self.spool.strangers():
            with suppress(OSError):  # the disk does not say what it is: it stays, and the alarm names it
                if path.is_file() and not path.is_symlink() and not path.name.startswith(".nfs"):
                    self._set_aside(path, "a file in the inbox that no listener put there")

    def _enter(self, found: list[tuple[Path, Arrival]]) -> None:
        """All in one commit; where that cannot be, each in one of its own."""
        if not found:
            return
        try:
            entered = self._receive(found)
        except (*NOT_TAKEN, Contended) as error:
            log.error("a batch could not be entered (%s): each file is entered alone", type(error).__name__, extra={"event": "batch-fault"})
            entered = [each for path, arrival in found for each in self._enter_alone(path, arrival)]
        self.entered()
        for path in entered:
            self._settle(path)

    def _enter_alone(self, path: Path, arrival: Arrival) -> list[Path]:
        """As it is, or bare where the ledger cannot store its values; nothing where it takes neither now."""
        for bare in (False, True):
            try:
                return self._receive([(path, _bare(path) if bare else arrival)])
            except (*NOT_TAKEN, Contended, OSError, ValueError) as error:
                log.error("a file could not be entered (%s)", type(error).__name__, extra={"event": "entry-fault"})
                if not is_of_the_values(error):
                    break
        self._wait(path, "a file of the inbox cannot be entered now")
        return []

    def _receive(self, found: list[tuple[Path, Arrival]]) -> list[Path]:
        """Returns what may settle: all that was entered, or was before. Other bytes under a known UID lie with the differing copies."""
        others = differing_copies.of_other_bytes(self.engine, [arrival.instance for _, arrival in found])
        arrivals = [(path, arrival) for path, arrival in found if arrival.instance.sop_instance_uid not in others]
        receive.receive(self.engine, [arrival for _, arrival in arrivals], self.policy, self.clock())
        for path, arrival in found:
            if arrival.instance.sop_instance_uid in others:
                self._compare(path)
        return [path for path, _ in arrivals]

    def _compare(self, path: Path) -> None:
        """The spool held no file of this image, and the ledger knows it: what came is compared with what is known before it is taken."""
        try:
            self.spool.lay_beside(path)
        except (OSError, ValueError) as error:
            self._wait(path, f"a file of the inbox cannot be laid beside what is held ({type(error).__name__})")

    def _settle(self, path: Path) -> None:
        try:
            self.spool.settle(path)
        except (OSError, ValueError) as error:
            # The ledger has it and the file is where it was: it settles at a later turn.
            self._wait(path, f"a received file cannot be moved to its place ({type(error).__name__})")

    def _take_notices(self) -> bool:
        """Each alone: one that the disk does not give, or does not let go, is tried again later, and holds up no other and no copy."""
        try:
            due = self._notices.due(self.spool.notices())[:NOTICE_BATCH]
        except OSError as error:
            if self._notices_fault != (why := error.strerror or type(error).__name__):
                log.error("the notices of the listener cannot be listed (%s)", why, extra={"event": "notices-wait"})
            self._notices_fault = why
            return False
        self._notices_fault = ""
        for path in due:
            try:
                self._take_notice(path)
            except FileNotFoundError:
                self._notices.later(path)  # a link to nothing
            except OSError as error:
                wait, why = self._notices.later(path), error.strerror or type(error).__name__
                said = "the disk does not give or delete a notice of the listener (%s); it is looked at again in %.0f s, the others go on"
                log.error(said, why, wait, extra={"event": "notice-waits"})
            except sa.exc.SQLAlchemyError as error:
                wait = self._notices.later(path)
                said = "a notice of the listener cannot be entered (%s); it is looked at again in %.0f s, the others go on"
                log.error(said, type(error).__name__, wait, extra={"event": "notice-waits"})
        return bool(due)

    def _take_notice(self, path: Path) -> None:
        try:
            notice = notices.read(path)
            if notice.get("kind") != notices.CONFLICT:  # an earlier version wrote these; the copy itself is judged
                refused_associations.record_notice(self.engine, path.name, notice, moment_of(notice, self.clock()), self.clock())
        except (sa.exc.SQLAlchemyError, TypeError, ValueError, OverflowError) as error:
            if isinstance(error, sa.exc.SQLAlchemyError) and not is_of_the_values(error):
                raise
            log.error("a notice of the listener is dropped (%s)", type(error).__name__, extra={"event": "notice-fault"})
        self.spool.acknowledge(path)

    def _take_copies(self) -> bool:
        if self._copies is None:
            self._copies = Copies(engine=self.engine, spool=self.spool, read=read_any, same_pixels=self.same_pixels, clock=self.clock)
        return self._copies.step(self.policy)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebuilt:
    """What became of the settled files that the ledger did not know."""

    entered: int
    set_aside: int
    """Files without a receipt, put into quarantine."""
    left: int
    """Files, and folders of them, that the disk or the ledger did not give or take now: to be tried again."""


def moment_of(notice: dict[str, Any], now: datetime) -> datetime:
    """When a notice was written; now where it does not say so in a way that can be understood."""
    try:
        at = datetime.fromisoformat(str(notice["at"]))
    except (KeyError, ValueError):
        return now
    return at if at.tzinfo is not None else now


def rebuild(engine: sa.Engine, spool: Spool, known: set[str], policy: SitePolicy, now: datetime) -> Rebuilt:
    """Enter every settled file that the ledger does not know, by when its image came first: the earliest arrival wins.

    One bad file stops no other. The results of studies that are entered so are held back: a person says whether they are sent again.
    """
    found: list[tuple[datetime, Path]] = []
    unreadable: list[Path] = []
    lost = list[Path]()
    left = 0
    for path in spool.held(lost.append):
        if path.stem in known:
            continue
        try:
            found.append((spool.came_first(path), path))
        except ValueError:
            unreadable.append(path)
        except OSError:
            left += 1
    for path in unreadable:
        try:
            spool.quarantine(path, "a held file without a receipt: it does not say what it is, nor who sent it", acknowledged=True)
        except OSError:
            left += 1
    entered = 0
    for came_first, path in sorted(found):
        try:
            entered += _enter_settled(engine, path, came_first, policy, now)
        except (*NOT_TAKEN, ValueError, OSError) as error:
            left += 1
            log.error("a spooled file could not be entered (%s)", type(error).__name__, extra={"event": "rebuild-fault"})
    return Rebuilt(entered=entered, set_aside=len(unreadable), left=left + len(lost))


def _enter_settled(engine: sa.Engine, path: Path, came_first: datetime, policy: SitePolicy, now: datetime) -> int:
    """As it is, or bare with the reason; returns how many were new."""

    def enter(arrival: Arrival) -> int:
        first = replace(arrival, instance=replace(arrival.instance, received_at=came_first))
        return receive.receive(engine, [first], policy, now, held=Hold.REBUILT)

    arrival = read_any(path)
    try:
        return enter(arrival)
    except NOT_TAKEN as error:
        if not is_of_the_values(error):
            raise
        log.error("a spooled file is entered without its header (%s)", type(error).__name__, extra={"event": "rebuild-fault"})
        return enter(_bare(path))
