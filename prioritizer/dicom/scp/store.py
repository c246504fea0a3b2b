"""One C-STORE from its command to its status, and what the listener tells the daemon about it."""

from __future__ import annotations

import json
import os
import queue
import select
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from prioritizer.dicom.scp.admission import ListenerSettings
from prioritizer.dicom.scp.association_pdu import AcceptedContext
from prioritizer.dicom.scp.dimse import Command
from prioritizer.dicom.spool import notices
from prioritizer.dicom.spool.intake import SpoolIntake, StoreOutcome
from prioritizer.dicom.spool.part10 import HEAD_BYTES, Receipt, check_identity, valid_uid
from prioritizer.dicom.spool.partial_file import Partial
from prioritizer.dicom.standard import status
from prioritizer.dicom.standard.contexts import VERIFICATION
from prioritizer.errors import Refused

# How much of one message may go to disk between two looks at the watermark.
_ROOM_STEP: Final = 8 << 20
_UNDERSTANDING: Final = range(0xC000, 0xD000)
ECHO_PERIOD: Final = 5.0
"""Seconds between two words to the ledger that the same peer sent a C-ECHO: somebody may stand at the device and wait for them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Party:
    """The peer of one association, its AE titles already harmless to print."""

    calling_ae: str
    called_ae: str
    address: str
    may_send: bool = True


class Announcer:
    """Writes event lines to a pipe and drops them when nobody reads: the parent can never slow intake down."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor, self._lock = descriptor, threading.Lock()

    def tell(self, event: str, **facts: object) -> None:
        """One JSON line, or nothing at all."""
        line = json.dumps({"event": event, **facts}).encode() + b"\n"
        with self._lock, suppress(OSError, ValueError):
            # A pipe that polls writable takes PIPE_BUF (4096) bytes without blocking, and whole (POSIX write).
            poll = select.poll()
            poll.register(self._descriptor, select.POLLOUT)
            if len(line) <= select.PIPE_BUF and poll.poll(0):
                os.write(self._descriptor, line)


class CStore:
    """What all associations share: the spool, the counters, and the lines to the parent process."""

    def __init__(self, settings: ListenerSettings, spool: SpoolIntake, announcer: Announcer) -> None:
        self.settings, self.spool, self._announcer = settings, spool, announcer
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._repeats = notices.RepeatFilter()
        self._echoes = notices.RepeatFilter(period=ECHO_PERIOD)
        self._posts: queue.Queue[tuple[str, dict[str, object]] | None] = queue.Queue(maxsize=256)
        self._writer = threading.Thread(target=self._write_notices, name="notices", daemon=True)
        self._writer.start()

    def begin(self, command: Command, context: AcceptedContext, party: Party) -> Reception:
        """Ready to take the data set of a C-STORE; a refusal known already is answered once the peer has sent it all."""
        try:
            return Reception(self, command, party, partial=self._open(command, context, party))
        except Refused as refusal:
            return Reception(self, command, party, refusal=refusal)

    def _open(self, command: Command, context: AcceptedContext, party: Party) -> Partial:
        if not party.may_send:
            raise Refused(status.NOT_AUTHORISED, "this peer is listed, but not as a sender")
        if context.abstract_syntax == VERIFICATION:
            raise Refused(status.UNRECOGNISED_OPERATION, "C-STORE on a Verification presentation context")
        command.check_uids(context.abstract_syntax)
        self.check_room()
        return self.spool.begin(
            Receipt(
                sop_class_uid=command.sop_class_uid,
                sop_instance_uid=command.sop_instance_uid,
                transfer_syntax_uid=context.transfer_syntax,
                calling_ae=party.calling_ae,
                called_ae=party.called_ae,
                address=party.address,
                received_at=datetime.now(UTC),
            )
        )

    def check_room(self) -> None:
        """Refused (0xA700) when the spool's disk is below a watermark."""
        try:
            free, fraction = self.spool.free_bytes(), self.spool.free_fraction()
        except OSError as exc:
            raise Refused(status.OUT_OF_RESOURCES, "the spool's disk does not answer") from exc
        if free < self.settings.min_free_bytes or fraction < self.settings.min_free_fraction:
            raise Refused(status.OUT_OF_RESOURCES, "the spool's disk is below its watermark")

    def count(self, what: str, number: int = 1) -> None:
        """Add to a counter of the `counters` event."""
        with self._lock:
            self._counts[what] += number

    def tell(self, event: str, **facts: object) -> None:
        """Tell the parent process, if it listens."""
        self._announcer.tell(event, **facts)

    def tell_counters(self, **gauges: int) -> None:
        """The line that doubles as the heartbeat."""
        with self._lock:
            counts = dict(self._counts)
        self.tell("counters", **counts, **gauges)

    def notice(self, kind: str, party: Party, code: str, reason: str, **facts: object) -> None:
        """Leave a notice for the ledger; equal ones within a minute are counted, not repeated."""
        number = self._repeats.count((party.address, party.calling_ae, party.called_ae, code, reason), time.monotonic())
        if number:
            self._post(kind, party, code=code, reason=reason, count=number, **facts)

    def echoed(self, party: Party) -> None:
        """An admitted peer asked whether we are there, and was answered."""
        self.count("echoes")
        if self._echoes.count((party.address, party.calling_ae), time.monotonic()):
            self._post(notices.ECHOED, party)

    def _post(self, kind: str, party: Party, **facts: object) -> None:
        told = {"address": party.address, "calling_ae": party.calling_ae, "called_ae": party.called_ae}
        with suppress(queue.Full):
            self._posts.put_nowait((kind, {**told, **facts}))

    def _write_notices(self) -> None:
        # A thread of its own: a slow or full disk must not hold up the gate.
        while (post := self._posts.get()) is not None:
            with suppress(OSError):
                if self.spool.board.post(post[0], **post[1]) is not None:
                    self.tell("notice")

    def close(self) -> None:
        """Write the notices that wait; call once every association has ended."""
        with suppress(queue.Full):
            self._posts.put(None, timeout=1.0)
        self._writer.join(timeout=2.0)


class Reception:
    """The data set of one C-STORE: takes fragments as they come and ends in a DIMSE status."""

    def __init__(
        self, intake: CStore, command: Command, party: Party, *, partial: Partial | None = None, refusal: Refused | None = None
    ) -> None:
        self._intake, self._command, self._party = intake, command, party
        self._partial, self._refusal = partial, refusal
        self._head = bytearray()
        self._look_at = _ROOM_STEP
        self.size = 0

    def take(self, fragment: memoryview) -> None:
        """Stream a fragment to disk. What follows a refusal is counted and thrown away."""
        self.size += len(fragment)
        if self._partial is None:
            return
        if len(self._head) < HEAD_BYTES:
            self._head += fragment[: HEAD_BYTES - len(self._head)]
        try:
            self._partial.write(fragment)
            if self.size >= self._look_at:
                self._look_at += _ROOM_STEP
                self._intake.check_room()
        except Refused as refusal:
            self._give_up(refusal)
        except OSError as exc:
            self._give_up(Refused(status.OUT_OF_RESOURCES, f"the spool's disk took no more ({os.strerror(exc.errno or 0)})"))

    def finish(self) -> int:
        """The status to answer with; 0x0000 and only that means the instance is durable."""
        try:
            return self._store()
        except Refused as refusal:
            return self._refuse(refusal)
        except Exception as exc:  # noqa: BLE001 - the C-STORE border: no fault of ours may end an association without a status
            print(f"intake: {type(exc).__name__} while storing", file=sys.stderr, flush=True)
            return self._refuse(Refused(status.PROCESSING_FAILURE, "an internal fault; the sender may try again"))
        finally:
            self.discard()

    def discard(self) -> None:
        """Drop what was written of a message that never ended."""
        if self._partial is not None:
            self._partial.discard()
            self._partial = None

    def _give_up(self, refusal: Refused) -> None:
        self._refusal = refusal
        self.discard()

    def _store(self) -> int:
        if self._refusal is not None or self._partial is None:
            raise self._refusal or Refused(status.PROCESSING_FAILURE, "nothing was received")
        try:
            check_identity(bytes(self._head), self._partial.receipt)
        except Refused as refusal:
            if refusal.status in _UNDERSTANDING:
                self._set_aside(self._partial, refusal)
            raise
        outcome = self._intake.spool.store(self._partial)
        self._intake.count(outcome.value)
        self._intake.count("bytes", self.size)
        if outcome is StoreOutcome.CONFLICT:
            self._intake.tell("notice")
        self._intake.tell("stored", sop_instance_uid=self._command.sop_instance_uid, outcome=outcome.value)
        return status.SUCCESS

    def _set_aside(self, partial: Partial, refusal: Refused) -> None:
        """Keep the bytes nobody could read, so that the sender's administrator can be shown them."""
        try:
            partial.seal()
            told = {"calling_ae": self._party.calling_ae, "called_ae": self._party.called_ae, "address": self._party.address}
            uid = self._command.sop_instance_uid
            self._intake.spool.quarantine(partial.path, refusal.reason, status=refusal.status, sop_instance_uid=uid, **told)
        except OSError as exc:
            raise Refused(status.OUT_OF_RESOURCES, "the object could not be put into quarantine") from exc
        self._intake.count("quarantined")
        self._intake.tell("notice")

    def _refuse(self, refusal: Refused) -> int:
        self._intake.count("refused")
        if refusal.status not in _UNDERSTANDING:
            uids = {"sop_class_uid": self._command.sop_class_uid, "sop_instance_uid": self._command.sop_instance_uid}
            sound = {name: uid for name, uid in uids.items() if valid_uid(uid)}
            code = f"{refusal.status:04X}"
            self._intake.notice(notices.REFUSED_OBJECT, self._party, code, refusal.reason, status=refusal.status, **sound)
        return refusal.status
