"""Storage SCU: our results to the PACS, one reused association per destination.

A result is sent as the bytes that were stored where the destination accepts their encoding, and otherwise in one that it accepts
(result/encodings.py). A failure is one of three things: Transient (the same bytes may go later), PermanentRefusal (the destination said
no; `status` draws the line) or Unprocessable (what is stored must not be sent).

Sources: PS3.4 B.2 (Storage SCU), PS3.7 9.1.1 (C-STORE), PS3.8 9.3.4 (A-ASSOCIATE-RJ).
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pydicom.errors import InvalidDicomError
from pydicom.uid import UID, ImplicitVRLittleEndian, SecondaryCaptureImageStorage
from pynetdicom import _config
from pynetdicom.association import Association
from pynetdicom.dsutils import split_dataset

from prioritizer.dicom.read.pydicom_logging import quietly
from prioritizer.dicom.result.encodings import NATIVE_FORMS, RESULT_CONTEXTS, RESULT_SYNTAX_NAMES, STORED_FORMS, check_uids, in_form
from prioritizer.dicom.scu.association import IDLE_SECONDS, accepts, open_association, standing_still
from prioritizer.dicom.scu.destination import Destination
from prioritizer.dicom.standard import status
from prioritizer.errors import PermanentRefusal, Transient

# Files go out as they lie on disk, in pieces, instead of being decoded and encoded again.
_config.STORE_SEND_CHUNKED_DATASET = True

REPLY_SECONDS: Final = 30.0
"""To an A-ASSOCIATE reply or a C-STORE response; archives that fsync under load take seconds."""
MAX_CONTEXTS: Final = 128
VERIFICATION: Final = UID("1.2.840.10008.1.1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What a destination takes."""

    echoes: bool
    """It answers a C-ECHO."""
    result_syntaxes: tuple[str, ...]
    """Names of the transfer syntaxes in which it takes a result; empty: it takes none."""

    @property
    def takes_native(self) -> bool:
        """A result in any encoding can be sent: what is stored as JPEG is sent uncompressed where need be, not the other way round."""
        return any(RESULT_SYNTAX_NAMES[context] in self.result_syntaxes for context in RESULT_CONTEXTS if context[1] in NATIVE_FORMS)


@dataclass(slots=True)
class _Connection:
    """The association to one destination, with the lock that keeps one message on it at a time."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    association: Association | None = None
    last_used: float = 0.0


class Sender:
    """Sends to any number of destinations from any thread; a slow destination holds up only itself."""

    def __init__(self, *, reply_seconds: float = REPLY_SECONDS, idle_seconds: float = IDLE_SECONDS) -> None:
        self._reply_seconds, self._idle_seconds = reply_seconds, idle_seconds
        self._lines: dict[Destination, _Connection] = {}
        self._guard = threading.Lock()

    def send(self, destination: Destination, data: bytes | Path) -> None:
        """Return once the destination said that it keeps the Part 10 file `data`; raises Transient or PermanentRefusal."""
        if isinstance(data, Path):
            self._send_file(destination, data)
            return
        with _as_file(data) as path:
            self._send_file(destination, path)

    def send_result(self, destination: Destination, data: bytes) -> None:
        """As `send`, for a stored result: in another encoding where the destination does not accept its own. Raises Unprocessable too."""
        check_uids(data)
        self.send(destination, data)

    def offer(self, destination: Destination) -> Offer:
        """What the destination would take of us, asked by an association; raises Transient or PermanentRefusal."""
        contexts = [(VERIFICATION, ImplicitVRLittleEndian), *RESULT_CONTEXTS]
        association = open_association(destination, contexts, self._reply_seconds)
        try:
            echoes = accepts(association, VERIFICATION, ImplicitVRLittleEndian)
            if echoes:
                with standing_still(association):
                    answer = association.send_c_echo().get("Status")
                judge(destination, answer)
            return Offer(
                echoes=echoes, result_syntaxes=tuple(name for cx, name in RESULT_SYNTAX_NAMES.items() if accepts(association, *cx))
            )
        finally:
            association.release() if association.is_established else association.abort()

    def echo(self, destination: Destination) -> None:
        """Return once the destination answered a C-ECHO; raises Transient or PermanentRefusal."""
        association = open_association(destination, [(VERIFICATION, ImplicitVRLittleEndian)], self._reply_seconds)
        try:
            if not accepts(association, VERIFICATION, ImplicitVRLittleEndian):
                raise PermanentRefusal(status.SOP_CLASS_NOT_SUPPORTED, f"{destination.name} does not offer Verification")
            with standing_still(association):
                answer = association.send_c_echo().get("Status")
            judge(destination, answer)
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
            line = self._lines.setdefault(destination, _Connection())
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

    def _store(self, destination: Destination, line: _Connection, path: Path, sop_class: UID, syntax: UID) -> None:
        """One C-STORE on the line's association, opened where needed and dropped after any fault of transport."""
        wanted = (sop_class, syntax)
        if line.association is None or not _proposed(line.association, wanted):
            _hang_up(line)
            contexts = RESULT_CONTEXTS if wanted in RESULT_CONTEXTS else (wanted,)
            line.association = open_association(destination, contexts, self._reply_seconds)
        try:
            with _acceptable(line.association, path, sop_class, syntax) as (sendable, accepted):
                store(destination, line.association, sendable, sop_class, accepted)
        except Transient:
            if not line.association.is_established:
                _hang_up(line)
            raise
        line.last_used = time.monotonic()

    def _drop_stale(self, line: _Connection) -> None:
        if line.association is not None:
            idle = time.monotonic() - line.last_used
            if not line.association.is_established or idle > self._idle_seconds:
                _hang_up(line)


@contextmanager
def _as_file(data: bytes) -> Iterator[Path]:
    """The bytes as a private file, gone afterwards: pynetdicom streams from a path only."""
    with tempfile.NamedTemporaryFile(prefix="prioritizer-", suffix=".dcm") as file:
        file.write(data)
        file.flush()
        yield Path(file.name)


@contextmanager
def _acceptable(association: Association, path: Path, sop_class: UID, syntax: UID) -> Iterator[tuple[Path, UID]]:
    """The file and its syntax: as it is, or a result re-encoded where only another of its forms was accepted. Raises Unprocessable."""
    form = None
    if sop_class == SecondaryCaptureImageStorage and syntax in STORED_FORMS and not accepts(association, sop_class, syntax):
        form = next((one for one in NATIVE_FORMS if accepts(association, sop_class, one)), None)
    if form is None:
        yield path, syntax
        return
    with _as_file(in_form(path.read_bytes(), form)) as encoded:
        yield encoded, form


def store(destination: Destination, association: Association, path: Path, sop_class: UID, syntax: UID) -> None:
    """One C-STORE of the file; returns where the peer keeps it, raises Transient or PermanentRefusal."""
    if not accepts(association, sop_class, syntax):
        requested = association.requestor.requested_contexts
        proposed = ", ".join(cx.transfer_syntax[0].name for cx in requested if cx.abstract_syntax == sop_class)
        raise PermanentRefusal(status.SOP_CLASS_NOT_SUPPORTED, f"{destination.name} does not accept {sop_class.name} in {proposed}")
    try:
        with quietly(), standing_still(association):
            response = association.send_c_store(path)
    except (OSError, RuntimeError, ValueError, AttributeError) as error:
        raise Transient(f"the association with {destination.name} broke: {type(error).__name__}") from error
    answer = response.get("Status")
    if answer is None:
        # It is over: a thread of its own notes that, and what is sent before it did would wait for an answer that nobody gives.
        association.abort()
    judge(destination, answer)


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


def _proposed(association: Association, wanted: tuple[UID, UID]) -> bool:
    return any((cx.abstract_syntax, cx.transfer_syntax[0]) == wanted for cx in association.requestor.requested_contexts)


def _hang_up(line: _Connection) -> None:
    """Release politely where the peer still listens, abort where it does not."""
    association, line.association = line.association, None
    if association is not None:
        association.release() if association.is_established else association.abort()
