"""Spool inbox to ledger: each file judged alone, so that one that cannot be read stops no other.

A header that cannot be read gives a listed study with its reason; a file without a receipt, which says neither what it is nor who sent
it, is put into quarantine; one that the disk does not give is tried again while the others go on.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from prioritizer.clock import Clock, utc_now
from prioritizer.copies import Compare, Copies
from prioritizer.db import copies, receiving
from prioritizer.db.receiving import Arrival, Quiet
from prioritizer.dicom import attributes, develop, notices
from prioritizer.dicom.part10 import read_receipt
from prioritizer.dicom.spool import Spool
from prioritizer.errors import Contended
from prioritizer.ranking import Policy
from prioritizer.retries import Retries
from prioritizer.study import Hold

log = logging.getLogger(__name__)

RECEIVE_BATCH = 16
"""Instances a commit: one durable commit costs 4-6 ms, sixteen rows in it 0.3 ms each."""
WAIT_S = 5.0
"""Seconds until a file that the disk or the ledger did not take is looked at again; doubled each time."""
MAX_WAIT_S = 60.0
NOT_STORED = "its header holds values that the ledger cannot store"


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


@dataclass(slots=True, kw_only=True)
class Receive:
    """Spool inbox to ledger: header, digest, row, then the file settles. Also takes in the listener's notices and differing copies."""

    engine: sa.Engine
    spool: Spool
    policy: Policy
    quiet: Quiet
    entered: Callable[[], None] = lambda: None
    """Called when rows are committed: scoring need not wait until the files have settled."""
    clock: Clock = utc_now
    same_pixels: Compare = develop.same_pixels
    _retries: Retries[Path] = field(default_factory=lambda: Retries(WAIT_S, MAX_WAIT_S))
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
            if path.is_file() and not path.is_symlink() and not path.name.startswith(".nfs"):
                self._set_aside(path, "a file in the inbox that no listener put there")

    def _enter(self, found: list[tuple[Path, Arrival]]) -> None:
        """All in one commit; where that cannot be, each in one of its own."""
        if not found:
            return
        try:
            entered = self._receive(found)
        except (sa.exc.SQLAlchemyError, Contended) as error:
            log.error("a batch could not be entered (%s): each file is entered alone", type(error).__name__, extra={"event": "batch-fault"})
            entered = [each for path, arrival in found for each in self._enter_alone(path, arrival)]
        self.entered()
        for path in entered:
            self._settle(path)

    def _enter_alone(self, path: Path, arrival: Arrival) -> list[Path]:
        """As it is, or bare with the reason; nothing where the ledger takes neither now."""
        for one in (arrival, Arrival(instance=attributes.bare_instance(path), unreadable=NOT_STORED)):
            try:
                return self._receive([(path, one)])
            except (sa.exc.SQLAlchemyError, Contended) as error:
                log.error("a file could not be entered (%s)", type(error).__name__, extra={"event": "entry-fault"})
        self._wait(path, "the ledger does not take a file of the inbox")
        return []

    def _receive(self, found: list[tuple[Path, Arrival]]) -> list[Path]:
        """Returns what may settle: all that was entered, or was before. Other bytes under a known UID lie with the differing copies."""
        others = copies.of_other_bytes(self.engine, [arrival.instance for _, arrival in found])
        arrivals = [(path, arrival) for path, arrival in found if arrival.instance.sop_instance_uid not in others]
        receiving.receive(self.engine, [arrival for _, arrival in arrivals], self.policy, self.quiet, self.clock())
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
        taken = 0
        for path, notice in self.spool.notices():
            try:
                at = moment_of(notice, self.clock())
                if notice.get("kind") != notices.CONFLICT:  # an earlier version wrote these; the copy itself is judged
                    receiving.record_notice(self.engine, path.name, notice, at, self.clock())
            except (sa.exc.SQLAlchemyError, TypeError) as error:
                log.error("a notice of the listener is dropped (%s)", type(error).__name__, extra={"event": "notice-fault"})
            self.spool.acknowledge(path)
            taken += 1
        return taken > 0

    def _take_copies(self) -> bool:
        if self._copies is None:
            self._copies = Copies(engine=self.engine, spool=self.spool, read=read_any, same_pixels=self.same_pixels, clock=self.clock)
        return self._copies.step(self.policy, self.quiet)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebuilt:
    """What became of the settled files that the ledger did not know."""

    entered: int
    set_aside: int
    """Files without a receipt, put into quarantine."""
    left: int
    """Files that the disk or the ledger did not give or take now: to be tried again."""


def moment_of(notice: dict[str, Any], now: datetime) -> datetime:
    """When a notice was written; now where it does not say so in a way that can be understood."""
    try:
        at = datetime.fromisoformat(str(notice["at"]))
    except (KeyError, ValueError):
        return now
    return at if at.tzinfo is not None else now


def rebuild(engine: sa.Engine, spool: Spool, known: set[str], policy: Policy, quiet: Quiet, now: datetime) -> Rebuilt:
    """Enter every settled file that the ledger does not know, by when its image came first: the earliest arrival wins.

    One bad file stops no other. The results of studies that are entered so are held back: a person says whether they are sent again.
    """
    found: list[tuple[datetime, Path]] = []
    unreadable: list[Path] = []
    left = 0
    for path in spool.held():
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
            arrival = read_any(path)
            first = replace(arrival, instance=replace(arrival.instance, received_at=came_first))
            entered += receiving.receive(engine, [first], policy, quiet, now, held=Hold.REBUILT)
        except (ValueError, OSError, sa.exc.SQLAlchemyError) as error:
            left += 1
            log.error("a spooled file could not be entered (%s)", type(error).__name__, extra={"event": "rebuild-fault"})
    return Rebuilt(entered=entered, set_aside=len(unreadable), left=left)
