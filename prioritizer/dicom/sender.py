"""Storage SCU: our results to the PACS, one reused association per destination.

A result is sent as the bytes that were stored, never re-encoded. A failure is one of two things: Transient (the same bytes may go
later) or PermanentRefusal (they never will, a person must look); `status` draws the line.

Sources: PS3.4 B.2 (Storage SCU), PS3.7 9.1.1 (C-STORE), PS3.8 9.3.4 (A-ASSOCIATE-RJ).
"""

from __future__ import annotations

import random
import socket
import tempfile
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final

from pydicom.errors import InvalidDicomError
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGBaseline8Bit, SecondaryCaptureImageStorage
from pynetdicom import AE, _config, evt
from pynetdicom.association import Association
from pynetdicom.dsutils import split_dataset
from pynetdicom.presentation import PresentationContext, build_context

from prioritizer.dicom import status
from prioritizer.dicom.contexts import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from prioritizer.dicom.quiet import quietly
from prioritizer.errors import PermanentRefusal, Transient

# Files go out as they lie on disk, in pieces, instead of being decoded and encoded again.
_config.STORE_SEND_CHUNKED_DATASET = True

CONNECT_SECONDS: Final = 5.0
"""To a TCP connection; pynetdicom alone would hang about 30 s on a dead host."""
REPLY_SECONDS: Final = 30.0
"""To an A-ASSOCIATE reply or a C-STORE response; archives that fsync under load take seconds."""
IDLE_SECONDS: Final = 20.0
"""An association unused for longer is released: many archives abort idle ones after 30 s, and count them."""
PDU_BYTES: Final = 131072
FIRST_DELAY_SECONDS: Final = 5.0
LONGEST_DELAY_SECONDS: Final = 15 * 60.0
MAX_CONTEXTS: Final = 128
REJECTED_PERMANENTLY: Final = 0x01
VERIFICATION: Final = UID("1.2.840.10008.1.1")

RESULT_CONTEXTS: Final = tuple(
    (SecondaryCaptureImageStorage, syntax) for syntax in (JPEGBaseline8Bit, ExplicitVRLittleEndian, ImplicitVRLittleEndian)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """A Storage SCP that results are sent to."""

    name: str
    ae_title: str
    host: str
    port: int
    calling_ae: str = "PRIORITIZER"


@dataclass(slots=True)
class _Line:
    """The association to one destination, with the lock that keeps one message on it at a time."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    association: Association | None = None
    last_used: float = 0.0


def next_attempt_delay(attempts: int, rng: random.Random) -> float:
    """Seconds to wait after `attempts` failures: doubling from 5 s to 15 min, each drawn from the upper half of its step.

    The jitter keeps the results of an outage from returning to the PACS all in the same second.
    """
    longest = min(FIRST_DELAY_SECONDS * 2.0 ** min(max(attempts - 1, 0), 16), LONGEST_DELAY_SECONDS)
    return max(rng.uniform(longest / 2, longest), FIRST_DELAY_SECONDS)


class Sender:
    """Sends to any number of destinations from any thread; a slow destination holds up only itself."""

    def __init__(self, *, reply_seconds: float = REPLY_SECONDS, idle_seconds: float = IDLE_SECONDS) -> None:
        self._reply_seconds, self._idle_seconds = reply_seconds, idle_seconds
        self._lines: dict[Destination, _Line] = {}
        self._guard = threading.Lock()

    def send(self, destination: Destination, data: bytes | Path) -> None:
        """Return once the destination said that it keeps the Part 10 file `data`; raises Transient or PermanentRefusal."""
        if isinstance(data, Path):
            self._send_file(destination, data)
            return
        # pynetdicom streams from a path only; the file is private and gone when this returns.
        with tempfile.NamedTemporaryFile(prefix="prioritizer-", suffix=".dcm") as file:
            file.write(data)
            file.flush()
            self._send_file(destination, Path(file.name))

    def echo(self, destination: Destination) -> None:
        """Return once the destination answered a C-ECHO; raises Transient or PermanentRefusal."""
        association = open_association(destination, [(VERIFICATION, ImplicitVRLittleEndian)], self._reply_seconds)
        try:
            if not accepts(association, VERIFICATION, ImplicitVRLittleEndian):
                raise PermanentRefusal(status.SOP_CLASS_NOT_SUPPORTED, f"{destination.name} does not offer Verification")
            judge(destination, association.send_c_echo().get("Status"))
        finally:
            association.release() if association.is_established else association.abort()

    def release_idle(self) -> None:
        """Release associations that have been idle too long; called now and then by whoever owns the sender."""
        for line in list(self._lines.values()):
            if line.lock.acquire(blocking=False):
                try:
                    self._drop_stale(line)
                finally:
                    line.lock.release()

    def close(self) -> None:
        """Release every association."""
        for line in list(self._lines.values()):
            with line.lock:
                _hang_up(line)

    def _send_file(self, destination: Destination, path: Path) -> None:
        sop_class, syntax = file_context(path)
        with self._guard:
            line = self._lines.setdefault(destination, _Line())
        with line.lock:
            self._drop_stale(line)
            reused = line.association is not None
            try:
                self._store(destination, line, path, sop_class, syntax)
            except Transient:
                if not reused:
                    raise
                # The peer may have closed the association while it was idle: that costs one fresh attempt, not a back-off.
                self._store(destination, line, path, sop_class, syntax)

    def _store(self, destination: Destination, line: _Line, path: Path, sop_class: UID, syntax: UID) -> None:
        """One C-STORE on the line's association, opened where needed and dropped after any fault of transport."""
        wanted = (sop_class, syntax)
        if line.association is None or not _proposed(line.association, wanted):
            _hang_up(line)
            contexts = RESULT_CONTEXTS if wanted in RESULT_CONTEXTS else (wanted,)
            line.association = open_association(destination, contexts, self._reply_seconds)
        try:
            store(destination, line.association, path, sop_class, syntax)
        except Transient:
            if not line.association.is_established:
                _hang_up(line)
            raise
        line.last_used = time.monotonic()

    def _drop_stale(self, line: _Line) -> None:
        if line.association is not None:
            idle = time.monotonic() - line.last_used
            if not line.association.is_established or idle > self._idle_seconds:
                _hang_up(line)


def open_association(destination: Destination, contexts: Iterable[tuple[UID, UID]], reply_seconds: float) -> Association:
    """An established association that proposes each (SOP class, transfer syntax) alone; Transient or PermanentRefusal."""
    entity = AE(ae_title=destination.calling_ae)
    entity.implementation_class_uid = UID(IMPLEMENTATION_CLASS_UID)
    entity.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    entity.connection_timeout = CONNECT_SECONDS
    entity.acse_timeout = entity.dimse_timeout = reply_seconds
    # Of the peer's silence between messages; the idle association is closed by us long before.
    entity.network_timeout = max(reply_seconds, 2 * IDLE_SECONDS)
    # One syntax a context: with several the acceptor would choose, and the bytes would no longer fit.
    requested: list[PresentationContext] = [build_context(sop_class, syntax) for sop_class, syntax in contexts]
    opened: list[datetime] = []
    try:
        association = entity.associate(
            destination.host,
            destination.port,
            contexts=requested,
            ae_title=destination.ae_title,
            max_pdu=PDU_BYTES,
            evt_handlers=[(evt.EVT_CONN_OPEN, _without_delay), (evt.EVT_CONN_OPEN, lambda event: opened.append(event.timestamp))],
        )
    except (OSError, ValueError) as error:
        raise Transient(f"{destination.name} cannot be reached: {error}") from error
    if not association.is_established:
        raise _why_not_established(destination, association, connected=bool(opened))
    return association


def accepts(association: Association, sop_class: UID, syntax: UID) -> bool:
    """True where the peer accepted this SOP class in this transfer syntax."""
    return any(context.abstract_syntax == sop_class and syntax in context.transfer_syntax for context in association.accepted_contexts)


def store(destination: Destination, association: Association, path: Path, sop_class: UID, syntax: UID) -> None:
    """One C-STORE of the file; returns where the peer keeps it, raises Transient or PermanentRefusal."""
    if not accepts(association, sop_class, syntax):
        raise PermanentRefusal(status.SOP_CLASS_NOT_SUPPORTED, f"{destination.name} does not accept {sop_class.name} in {syntax.name}")
    try:
        with quietly():
            response = association.send_c_store(path)
    except (OSError, RuntimeError, ValueError, AttributeError) as error:
        raise Transient(f"the association with {destination.name} broke: {type(error).__name__}") from error
    judge(destination, response.get("Status"))


def judge(destination: Destination, answer: int | None) -> None:
    """Return where the status means kept; a duplicate is kept already, for the same bytes are all we ever resend."""
    if answer is None:
        raise Transient(f"{destination.name} did not answer in time")
    if status.is_success(answer) or answer == status.DUPLICATE_SOP_INSTANCE:
        return
    if status.is_permanent(answer):
        raise PermanentRefusal(answer, f"{destination.name}: {status.describe(answer)}")
    raise Transient(f"{destination.name}: {status.describe(answer)}")


def file_context(path: Path) -> tuple[UID, UID]:
    """SOP class and transfer syntax of a Part 10 file, from its file meta information."""
    try:
        with quietly():
            meta, _ = split_dataset(path)
            return UID(meta.MediaStorageSOPClassUID), UID(meta.TransferSyntaxUID)
    except (OSError, ValueError, AttributeError, NotImplementedError, KeyError, EOFError, InvalidDicomError) as error:
        raise PermanentRefusal(status.CANNOT_UNDERSTAND, "the object has no readable file meta information") from error


def _without_delay(event: evt.Event) -> None:
    """TCP_NODELAY, or Nagle and the peer's delayed ACK cost 40 ms a message."""
    transport = event.assoc.dul.socket
    if transport is not None and transport.socket is not None:
        transport.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _why_not_established(destination: Destination, association: Association, *, connected: bool) -> Transient | PermanentRefusal:
    """A-ASSOCIATE-RJ with result 1 is for good (a wrong AE title, mostly); all else may pass."""
    if association.is_rejected:
        reply = association.acceptor.primitive
        result = None if reply is None else reply.result
        reason = "" if reply is None else f": {reply.reason_str}"
        if result == REJECTED_PERMANENTLY:
            return PermanentRefusal(status.NOT_AUTHORISED, f"{destination.name} rejected the association{reason}")
        return Transient(f"{destination.name} rejected the association for now{reason}")
    if association.rejected_contexts and not association.accepted_contexts:
        return PermanentRefusal(status.SOP_CLASS_NOT_SUPPORTED, f"{destination.name} accepts nothing of what was proposed")
    if connected:
        return Transient(f"{destination.name} aborted the association or did not answer in time")
    return Transient(f"{destination.name} cannot be reached")


def _proposed(association: Association, wanted: tuple[UID, UID]) -> bool:
    return any((cx.abstract_syntax, cx.transfer_syntax[0]) == wanted for cx in association.requestor.requested_contexts)


def _hang_up(line: _Line) -> None:
    """Release politely where the peer still listens, abort where it does not."""
    association, line.association = line.association, None
    if association is not None:
        association.release() if association.is_established else association.abort()
