"""Bytes read from front to back, never more of them in memory than were asked for: a file, a buffer, or what a deflated one inflates to.

A header is read with these by construction: a value that is not wanted is passed over and not held, whatever length it claims.
"""

from __future__ import annotations

import mmap
import os
import zlib
from abc import ABC, abstractmethod
from pathlib import Path
from typing import BinaryIO, Final, Protocol

from prioritizer.errors import Unprocessable

Buffer = bytes | mmap.mmap
CHUNK: Final = 64 * 1024


class ByteStream(Protocol):
    """A cursor that moves forward only."""

    position: int
    """Bytes consumed so far."""

    def peek(self, length: int) -> bytes:
        """The next bytes, at most CHUNK of them, without consuming them; fewer at the end."""

    def take(self, length: int) -> bytes:
        """The next bytes; fewer at the end."""

    def skip(self, length: int) -> bool:
        """Pass over bytes without holding them; False where the data ends first."""

    def left(self) -> int | None:
        """Bytes that are still to come; None where only reading them would tell."""


class BufferStream:
    """A stream over bytes, or over a mapped file of which only the pages read are touched."""

    def __init__(self, buffer: Buffer) -> None:
        self._buffer, self.position = buffer, 0

    def peek(self, length: int) -> bytes:
        """The next bytes; fewer at the end."""
        return self._buffer[self.position : self.position + length]

    def take(self, length: int) -> bytes:
        """The next bytes; fewer at the end."""
        data = self._buffer[self.position : self.position + length]
        self.position += len(data)
        return data

    def skip(self, length: int) -> bool:
        """Pass over bytes; False where the buffer ends first."""
        inside = length <= len(self._buffer) - self.position
        self.position = self.position + length if inside else len(self._buffer)
        return inside

    def left(self) -> int | None:
        """Bytes that are still to come."""
        return len(self._buffer) - self.position


class _Chunked(ABC):
    """A stream that holds one chunk of what it reads."""

    def __init__(self) -> None:
        self._chunk, self._at, self.position = b"", 0, 0

    @abstractmethod
    def _more(self) -> bytes:
        """The next bytes, at most CHUNK; empty at the end."""

    def _fill(self, length: int) -> None:
        while len(self._chunk) - self._at < length and (more := self._more()):
            self._chunk, self._at = self._chunk[self._at :] + more, 0

    def peek(self, length: int) -> bytes:
        """The next bytes without consuming them; fewer at the end."""
        self._fill(length)
        return self._chunk[self._at : self._at + length]

    def take(self, length: int) -> bytes:
        """The next bytes; fewer at the end."""
        parts = []
        while length > 0:
            self._fill(1)
            part = self._chunk[self._at : self._at + length]
            if not part:
                break
            parts.append(part)
            self._at, self.position, length = self._at + len(part), self.position + len(part), length - len(part)
        return b"".join(parts)

    def skip(self, length: int) -> bool:
        """Pass over bytes, one chunk at a time; False where the data ends first."""
        while length > 0:
            self._fill(1)
            passed = min(len(self._chunk) - self._at, length)
            if not passed:
                return False
            self._at, self.position, length = self._at + passed, self.position + passed, length - passed
        return True

    def left(self) -> int | None:
        """Not known before the end."""
        return None


class FileStream(_Chunked):
    """A stream over an open file; what is passed over is not read. OSError is the disk's."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__()
        self._file, self._size = file, os.fstat(file.fileno()).st_size

    def _more(self) -> bytes:
        return self._file.read(CHUNK)

    def skip(self, length: int) -> bool:
        """Pass over bytes; False where the file ends first."""
        if length <= len(self._chunk) - self._at:
            self._at, self.position = self._at + length, self.position + length
            return True
        inside = self.position + length <= self._size
        self.position = self.position + length if inside else self._size
        self._chunk, self._at = b"", 0
        self._file.seek(self.position)
        return inside

    def left(self) -> int | None:
        """Bytes that are still to come."""
        return max(self._size - self.position, 0)


class InflatedStream(_Chunked):
    """What a deflated data set inflates to (PS3.5 A.5), a chunk at a time; Unprocessable beyond `limit` bytes."""

    def __init__(self, source: ByteStream, limit: int) -> None:
        super().__init__()
        self._source, self._limit, self._inflated = source, limit, 0
        self._inflater = zlib.decompressobj(-zlib.MAX_WBITS)

    def _more(self) -> bytes:
        while not self._inflater.eof:
            raw = self._inflater.unconsumed_tail or self._source.take(CHUNK)
            try:
                data = self._inflater.decompress(raw, CHUNK) if raw else self._inflater.flush(CHUNK)
            except zlib.error as error:
                raise Unprocessable("malformed", "the deflated data set cannot be inflated") from error
            self._inflated += len(data)
            if self._inflated > self._limit:
                raise Unprocessable("too-large", f"the deflated data set is larger than {max(self._limit >> 20, 1)} MiB")
            if data or not raw:
                return data
        return b""


def map_file(path: Path) -> Buffer:
    """The bytes of `path` without reading them; raises Unprocessable where there is nothing to map."""
    try:
        with path.open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:
        raise Unprocessable("unreadable", "the file is empty or cannot be opened") from error
