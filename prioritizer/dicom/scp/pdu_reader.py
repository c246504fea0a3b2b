"""The PDUs of a connection (PS3.8 section 9.3), whole and one after the other; every wait has a deadline the peer cannot push back."""

from __future__ import annotations

import select
import socket
import time
from typing import Final

from prioritizer.dicom.scp.association_pdu import P_DATA, PDU_HEADER

_MAX_CONTROL_BYTES: Final = 64
"""A-RELEASE and A-ABORT carry four bytes; no other PDU than these and P-DATA-TF is due on a running association."""


class PeerGoneError(Exception):
    """The peer closed the connection or aborted: there is nobody left to answer."""


class SilentError(Exception):
    """No PDU began in time."""


class TooSlowError(Exception):
    """A PDU began and did not end in time."""


class TooLongError(Exception):
    """A PDU is longer than was announced."""


class PduReader:
    """Reads an accepted connection into one buffer of one PDU.

    With the last bytes of a PDU the header of the next one is read, so that an image costs half the system calls.
    """

    def __init__(self, connection: socket.socket, *, max_bytes: int, seconds_a_byte: float) -> None:
        """`max_bytes`: of the body of a P-DATA-TF. Each byte that came puts the deadline of its PDU back by `seconds_a_byte`."""
        self._socket, self._max_bytes, self._seconds_a_byte = connection, max_bytes, seconds_a_byte
        connection.setblocking(False)
        self._readable = select.poll()
        self._readable.register(connection, select.POLLIN)
        self._buffer = memoryview(bytearray(max_bytes + 2 * PDU_HEADER.size))
        self._ahead = slice(0, 0)
        """Where in the buffer what came of the next PDU lies."""

    @property
    def has_begun(self) -> bool:
        """The next PDU has begun to come."""
        return self._ahead.stop > self._ahead.start

    def read(self, patience: float, seconds: float) -> tuple[int, memoryview]:
        """The type and the body of the next PDU, which is the reader's until the next call.

        It must begin within `patience` seconds and then come within `seconds`. Raises PeerGoneError, SilentError, TooSlowError and
        TooLongError.
        """
        buffer, header = self._buffer, PDU_HEADER.size
        came = self._ahead.stop - self._ahead.start
        buffer[:came] = bytes(buffer[self._ahead])
        self._ahead = slice(0, 0)
        if not came:
            came = self._receive(0, header, time.monotonic() + patience, SilentError)
        deadline = time.monotonic() + seconds
        while came < header:
            came = self._receive(came, header, deadline)
        kind, length = PDU_HEADER.unpack_from(buffer)
        if length > (self._max_bytes if kind == P_DATA else _MAX_CONTROL_BYTES):
            raise TooLongError
        end = header + length
        while came < end:
            before = came
            came = self._receive(came, end + header, deadline)
            deadline += (came - before) * self._seconds_a_byte
        self._ahead = slice(end, came)
        return kind, buffer[header:end]

    def discard(self, seconds: float) -> None:
        """Read and throw away until the peer closes or `seconds` are over; ends with PeerGoneError or SilentError."""
        deadline = time.monotonic() + seconds
        while True:
            self._receive(0, len(self._buffer), deadline, SilentError)

    def _receive(self, came: int, end: int, deadline: float, late: type[Exception] = TooSlowError) -> int:
        """Read once into the buffer, from `came` up to `end`: the end of what lies there then."""
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                raise late
            try:
                number = self._socket.recv_into(self._buffer[came:end])
            except BlockingIOError:
                self._readable.poll(left * 1000)
                continue
            if number == 0:
                raise PeerGoneError
            return came + number
