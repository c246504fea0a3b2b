"""One association, from its acceptance to its end: PDUs in, fragments to disk, responses out (PS3.8 section 9.2).

One thread, one buffer of one PDU, no polling: what a peer sends goes from the socket to the file with one copy.
Every wait has a deadline that the peer cannot push back.
"""

from __future__ import annotations

import select
import socket
import struct
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

from prioritizer.dicom.scp import association_pdu, dimse
from prioritizer.dicom.scp.association_pdu import AbortReason, AcceptedContext, AssociationRequest
from prioritizer.dicom.scp.dimse import Command
from prioritizer.dicom.scp.pdu_reader import PduReader, PeerGoneError, SilentError, TooLongError, TooSlowError
from prioritizer.dicom.scp.store import CStore, Party, Reception
from prioritizer.dicom.spool import notices
from prioritizer.dicom.standard import status
from prioritizer.dicom.standard.contexts import VERIFICATION

_PDV: Final = struct.Struct(">IBB")
_COMMAND, _LAST = 0b01, 0b10


class _AbortError(Exception):
    """The association ends with an A-ABORT of ours."""

    def __init__(self, reason: AbortReason, sentence: str = "", *, by_user: bool = False) -> None:
        super().__init__(sentence)
        self.reason, self.sentence, self.by_user = reason, sentence, by_user


class Association:
    """Serves one accepted association until it is released, aborted, silent for too long, or told to stop."""

    def __init__(
        self,
        connection: socket.socket,
        *,
        request: AssociationRequest,
        accepted: Mapping[int, AcceptedContext],
        party: Party,
        intake: CStore,
        stopping: int,
    ) -> None:
        """Take over an accepted connection; `stopping` is a descriptor that becomes readable when the listener drains."""
        self._socket, self._request, self._accepted = connection, request, accepted
        self._party, self._intake, self._stopping = party, intake, stopping
        self._settings = intake.settings
        # A slow line may take its time over a large PDU; a peer that drips is distinguished by what it sent, not by the size it claims.
        self._pdus = PduReader(connection, max_bytes=self._settings.pdu_size, seconds_a_byte=1.0 / max(self._settings.min_rate, 1))
        self._command_bytes = bytearray()
        self._context_id = 0
        self._command: Command | None = None
        self._reception: Reception | None = None
        self._began_at: float | None = None
        self._message_bytes = 0

    def run(self, acceptance: bytes) -> None:
        """Send the A-ASSOCIATE-AC, then serve; the socket is closed when this returns."""
        try:
            self._send(acceptance)
            while self._serve_pdu():
                pass
            self._await_close()
        except _AbortError as abort:
            self._abort(abort)
        except (PeerGoneError, OSError):
            self._intake.count("broken" if self._began_at is not None else "ended")
        finally:
            if self._reception is not None:
                self._reception.discard()
            self.close()

    def close(self) -> None:
        """End the connection at once, from any thread."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def cut(self) -> None:
        """Make every wait of this association end; its own thread does the rest."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def _serve_pdu(self) -> bool:
        """Read and act on one PDU; False after an orderly release."""
        kind, body = self._read_pdu()
        if kind == association_pdu.P_DATA:
            self._take_data(body)
            self._check_rate()
            return True
        if kind == association_pdu.ABORT:
            raise PeerGoneError
        if kind == association_pdu.RELEASE_RQ and self._began_at is None:
            self._send(association_pdu.encode_release_reply())
            return False
        if 0x01 <= kind <= 0x07:
            raise _AbortError(AbortReason.UNEXPECTED_PDU, "a PDU came that was not due")
        raise _AbortError(AbortReason.UNRECOGNISED_PDU, "a PDU of unknown type came")

    # --- reading ------------------------------------------------------------------------------------------------

    def _read_pdu(self) -> tuple[int, memoryview]:
        if self._began_at is None:
            self._await_message()
        patience = self._settings.network_timeout if self._began_at is None else self._settings.dimse_timeout
        try:
            return self._pdus.read(patience, self._settings.pdu_timeout)
        except SilentError:
            # An association left open between messages is everyday; only a message that stops is worth a notice.
            sentence = "" if self._began_at is None else "a message stopped half way"
            raise _AbortError(AbortReason.NOT_SPECIFIED, sentence, by_user=True) from None
        except TooSlowError:
            raise _AbortError(AbortReason.NOT_SPECIFIED, "a PDU took too long", by_user=True) from None
        except TooLongError:
            raise _AbortError(AbortReason.INVALID_PARAMETER, "a PDU is longer than was announced") from None

    def _await_message(self) -> None:
        """Wait until the next message begins; where the listener is to stop, end here, also with a message that has begun to come."""
        waits = select.poll()
        waits.register(self._stopping, select.POLLIN)
        if not self._pdus.has_begun:
            waits.register(self._socket, select.POLLIN)
        ready = {descriptor for descriptor, _ in waits.poll(0 if self._pdus.has_begun else self._settings.network_timeout * 1000)}
        if self._stopping in ready or not (ready or self._pdus.has_begun):
            raise _AbortError(AbortReason.NOT_SPECIFIED, by_user=True)

    def _check_rate(self) -> None:
        """Abort a message that drips: each PDU in time, the whole never."""
        if self._began_at is None:
            return
        seconds = time.monotonic() - self._began_at - self._settings.rate_grace
        if seconds > 0 and self._message_bytes < seconds * self._settings.min_rate:
            raise _AbortError(AbortReason.NOT_SPECIFIED, "a message came slower than min_rate", by_user=True)

    # --- messages -----------------------------------------------------------------------------------------------

    def _take_data(self, body: memoryview) -> None:
        """Walk the presentation data values of one P-DATA-TF (PS3.8 9.3.5); there is at least one."""
        if not body:
            raise _AbortError(AbortReason.INVALID_PARAMETER, "a P-DATA-TF without data came")
        position = 0
        while position < len(body):
            if position + _PDV.size > len(body):
                raise _AbortError(AbortReason.INVALID_PARAMETER, "a presentation data value is cut short")
            length, context_id, control = _PDV.unpack_from(body, position)
            end = position + 4 + length
            if length < 2 or end > len(body):
                raise _AbortError(AbortReason.INVALID_PARAMETER, "a presentation data value is longer than its PDU")
            self._take_fragment(context_id, control, body[position + _PDV.size : end])
            position = end

    def _take_fragment(self, context_id: int, control: int, fragment: memoryview) -> None:
        if context_id not in self._accepted:
            raise _AbortError(AbortReason.INVALID_PARAMETER, "data came on a presentation context that was not accepted")
        if self._began_at is None:
            self._began_at, self._context_id, self._message_bytes = time.monotonic(), context_id, 0
        elif context_id != self._context_id:
            raise _AbortError(AbortReason.INVALID_PARAMETER, "one message came on two presentation contexts")
        self._message_bytes += len(fragment)
        # Before the fragment is taken: the last one of a message that is too long must not be answered with Success.
        if self._message_bytes > self._settings.max_message_bytes:
            raise _AbortError(AbortReason.NOT_SPECIFIED, "a message is longer than max_message_bytes", by_user=True)
        if control & _COMMAND:
            self._take_command(fragment, is_last=bool(control & _LAST))
        else:
            self._take_data_set(fragment, is_last=bool(control & _LAST))

    def _take_command(self, fragment: memoryview, *, is_last: bool) -> None:
        if self._command is not None or len(self._command_bytes) + len(fragment) > dimse.MAX_COMMAND_BYTES:
            raise _AbortError(AbortReason.INVALID_PARAMETER, "a command came twice or without end")
        self._command_bytes += fragment
        if not is_last:
            return
        try:
            self._command = command = dimse.parse(bytes(self._command_bytes))
        except ValueError as exc:
            raise _AbortError(AbortReason.INVALID_PARAMETER, str(exc)) from exc
        if command.field & 0x8000:
            raise _AbortError(AbortReason.UNEXPECTED_PARAMETER, "a response came, and nothing had been asked")
        if command.field == dimse.C_STORE_RQ:
            self._reception = self._intake.begin(command, self._accepted[self._context_id], self._party)
        if not command.has_data_set:
            self._answer(command)

    def _take_data_set(self, fragment: memoryview, *, is_last: bool) -> None:
        if self._command is None:
            raise _AbortError(AbortReason.INVALID_PARAMETER, "a data set came without its command")
        if self._reception is not None:
            self._reception.take(fragment)
        if is_last:
            self._answer(self._command)

    def _answer(self, command: Command) -> None:
        """Act on a whole message, respond, and be ready for the next."""
        if self._reception is not None:
            code = self._reception.finish()
        elif command.field == dimse.C_ECHO_RQ and self._accepted[self._context_id].abstract_syntax == VERIFICATION:
            code = status.SUCCESS
            self._intake.echoed(self._party)
        else:
            code = status.UNRECOGNISED_OPERATION
        if command.field != dimse.C_CANCEL_RQ:
            comment = "" if code == status.SUCCESS else status.describe(code)
            self._send(dimse.encode_response(command, self._context_id, code, self._request.peer_max_length, comment))
        self._command = self._reception = self._began_at = None
        self._command_bytes.clear()

    # --- writing and ending ---------------------------------------------------------------------------------------

    def _send(self, data: bytes) -> None:
        self._socket.settimeout(self._settings.pdu_timeout)
        self._socket.sendall(data)
        self._socket.setblocking(False)

    def _abort(self, abort: _AbortError) -> None:
        self._intake.count("aborted")
        # Before anything is said: the disk an endless message took is free again when the peer hears of it.
        if self._reception is not None:
            self._reception.discard()
        if abort.sentence:
            self._intake.notice(notices.REFUSED_OBJECT, self._party, "aborted", abort.sentence)
        with suppress(OSError, PeerGoneError):
            self._send(association_pdu.encode_abort(abort.reason, by_user=abort.by_user))
            self._socket.shutdown(socket.SHUT_WR)
            self._await_close()

    def _await_close(self) -> None:
        """Let the peer close first, for a moment: closing over unread bytes would destroy our last PDU on its way."""
        with suppress(PeerGoneError, SilentError):
            self._pdus.discard(self._settings.acse_timeout)
