"""Where things lie in a DICOM file, found by one bounded walk before any library reads it.

pydicom follows a hostile file into a RecursionError or a gigabyte; this walk counts as it goes and stops at the limits below.
It converts no values: it answers only whether the file is sane, how it is encoded and where its Pixel Data is.

Sources: PS3.10 section 7 (file meta), PS3.5 sections 7.1 (element encodings), 7.5 (sequences) and A.4 (encapsulation).
"""

from __future__ import annotations

import mmap
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

from pydicom.datadict import dictionary_VR
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from prioritizer.dicom.quiet import IGNORE_INVALID
from prioritizer.errors import Unprocessable

Buffer = bytes | mmap.mmap

MAX_NESTING = 32
MAX_ELEMENTS = 100_000
MAX_ELEMENT_BYTES = 16 * 2**20
"""No element of a radiograph but Pixel Data is longer; a longer one is an attachment or an attack."""
MAX_INFLATED_BYTES = 600 * 2**20
"""The largest frame we decode (512 MiB) with its header; a deflated file that goes on is a bomb."""

PIXEL_DATA = 0x7FE00010
ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
UNDEFINED = 0xFFFFFFFF
LONG_VRS = frozenset((b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"))
SHORT_VRS = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """One data set: how it is encoded and where its header ends and its Pixel Data lies."""

    buffer: Buffer
    """The mapped file, or the inflated data set of a deflated one."""
    transfer_syntax: UID
    start: int
    header_end: int
    """First byte that belongs to Pixel Data, or the end where there is none."""
    pixel_start: int | None
    pixel_length: int | None
    """None while `pixel_start` is given: undefined length, so encapsulated fragments."""

    @property
    def implicit(self) -> bool:
        """Elements carry no VR."""
        return self.transfer_syntax == ImplicitVRLittleEndian

    @property
    def little_endian(self) -> bool:
        """Numbers are stored least significant byte first."""
        return self.transfer_syntax != ExplicitVRBigEndian


@dataclass(slots=True)
class _Container:
    """A data set (root or item) or a sequence that the walk is inside of."""

    end: int | None
    """None where a delimiter ends it."""
    is_sequence: bool
    implicit: bool
    opaque: bool = False
    """Its items are fragments of an encapsulated icon: bytes, not elements."""


def map_file(path: Path) -> Buffer:
    """The bytes of `path` without reading them; raises Unprocessable where there is nothing to map."""
    try:
        with path.open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:
        raise Unprocessable("unreadable", "the file is empty or cannot be opened") from error


def layout_of(buffer: Buffer) -> Layout:
    """The layout of one Part 10 file, or of a bare data set; Unprocessable names the first limit it breaks."""
    syntax, start = _encoding(buffer)
    if syntax == DeflatedExplicitVRLittleEndian:
        buffer, start = _inflate(buffer, start), 0
    walk = _Walk(buffer, start, implicit=syntax == ImplicitVRLittleEndian, little=syntax != ExplicitVRBigEndian)
    header_end, pixel_start, pixel_length = walk.to_pixel_data()
    return Layout(
        buffer=buffer,
        transfer_syntax=syntax,
        start=start,
        header_end=header_end,
        pixel_start=pixel_start,
        pixel_length=pixel_length,
    )


def fragments(layout: Layout) -> bytes:
    """The fragments of a single encapsulated frame, joined; the Basic Offset Table is left out (PS3.5 A.4)."""
    buffer, position, parts = layout.buffer, layout.pixel_start or 0, list[bytes]()
    while len(parts) <= MAX_ELEMENTS:
        if position + 8 > len(buffer):
            raise Unprocessable("truncated", "the file ends inside its Pixel Data")
        group, element, length = struct.unpack_from("<HHL", buffer, position)
        tag, position = group << 16 | element, position + 8
        if tag == SEQUENCE_END:
            return b"".join(parts[1:])
        if tag != ITEM or length == UNDEFINED:
            raise Unprocessable("malformed", "the Pixel Data is no sequence of fragments")
        if position + length > len(buffer):
            raise Unprocessable("truncated", "the file ends inside its Pixel Data")
        parts.append(buffer[position : position + length])
        position += length
    raise Unprocessable("too-many-elements", f"the Pixel Data has more than {MAX_ELEMENTS} fragments")


def _encoding(buffer: Buffer) -> tuple[UID, int]:
    """Transfer syntax and first byte of the data set."""
    # "DICM" may also stand in the data of a file without preamble: group 0002 must follow it.
    if buffer[128:134] == b"DICM\x02\x00":
        return _from_meta(buffer, 132)
    group = int.from_bytes(buffer[:2], "little")
    if group == 0x0002:
        return _from_meta(buffer, 0)
    if group == 0x0008:
        explicit = bytes(buffer[4:6]) in LONG_VRS | SHORT_VRS
        return (ExplicitVRLittleEndian if explicit else ImplicitVRLittleEndian), 0
    raise Unprocessable("not-dicom", "the file is not DICOM: it has neither preamble nor file meta information")


def _from_meta(buffer: Buffer, position: int) -> tuple[UID, int]:
    """(0002,0010) Transfer Syntax UID and the first byte after the file meta information.

    It ends where (0002,0000) says, where an element begins there: a data set may hold elements of group 0002 of its own, which are
    no word on how it is encoded.
    """
    walk = _Walk(buffer, position, implicit=False, little=True)
    syntax, end = "", -1
    while walk.group_ahead() == 0x0002 and walk.position != end:
        tag, _, length = walk.next_header(implicit=False)
        if tag == 0x00020000 and length == 4:
            end = walk.position + 4 + int.from_bytes(buffer[walk.position : walk.position + 4], "little")
        if tag == 0x00020010:
            syntax = bytes(buffer[walk.position : walk.position + min(length, 64)]).rstrip(b"\0 ").decode("ascii", "replace")
        walk.skip(length, None)
    if not syntax:
        raise Unprocessable("no-transfer-syntax", "the file meta information has no Transfer Syntax UID")
    return UID(syntax, IGNORE_INVALID), walk.position


def _inflate(buffer: Buffer, start: int) -> bytes:
    """The inflated data set (PS3.5 A.5), never more than MAX_INFLATED_BYTES."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        data = inflater.decompress(buffer[start:], MAX_INFLATED_BYTES)
    except zlib.error as error:
        raise Unprocessable("malformed", "the deflated data set cannot be inflated") from error
    if inflater.unconsumed_tail:
        raise Unprocessable("too-large", "the deflated data set is larger than 600 MiB")
    return data


def _is_sequence(tag: int) -> bool:
    """Implicit VR leaves it to the dictionary which attributes are sequences; private ones count as bytes."""
    try:
        return dictionary_VR(tag) == "SQ"
    except KeyError:
        return False


class _Walk:
    """A cursor over elements that counts them and never leaves the buffer."""

    def __init__(self, buffer: Buffer, position: int, *, implicit: bool, little: bool) -> None:
        self.buffer, self.position, self.size = buffer, position, len(buffer)
        order = "<" if little else ">"
        self._tag, self._long, self._short = (struct.Struct(order + code) for code in ("HH", "L", "H"))
        self._stack = [_Container(None, False, implicit)]
        self._elements = 0

    def group_ahead(self) -> int:
        """Group number of the next element, -1 at the end."""
        return int.from_bytes(self.buffer[self.position : self.position + 2], "little") if self.position < self.size else -1

    def to_pixel_data(self) -> tuple[int, int | None, int | None]:
        """Walk until Pixel Data of the top level: where it begins, where its value begins, its length."""
        while True:
            self._leave_finished()
            inside = self._stack[-1]
            if self.position == self.size and len(self._stack) == 1:
                return self.position, None, None
            begin = self.position
            tag, vr, length = self.next_header(implicit=inside.implicit, item=inside.is_sequence)
            if tag == PIXEL_DATA and len(self._stack) == 1:
                return begin, self.position, self._pixel_length(length)
            if inside.is_sequence:
                self._in_sequence(tag, length, inside)
            else:
                self._in_data_set(tag, vr, length, inside)

    def next_header(self, *, implicit: bool, item: bool = False) -> tuple[int, bytes, int]:
        """Tag, VR (empty where none is written) and length of the element at the cursor, which moves to its value."""
        self._elements += 1
        if self._elements > MAX_ELEMENTS:
            raise Unprocessable("too-many-elements", f"the file has more than {MAX_ELEMENTS} elements")
        if self.position + 8 > self.size:
            raise Unprocessable("truncated", "the file ends inside an element")
        group, element = self._tag.unpack_from(self.buffer, self.position)
        tag = group << 16 | element
        if implicit or item or group == 0xFFFE:
            length = self._long.unpack_from(self.buffer, self.position + 4)[0]
            self.position += 8
            return tag, b"", length
        vr = bytes(self.buffer[self.position + 4 : self.position + 6])
        return tag, vr, self._explicit_length(vr)

    def skip(self, length: int, end: int | None) -> None:
        """Pass over a value that must lie inside its container."""
        if length > MAX_ELEMENT_BYTES:
            raise Unprocessable("element-too-long", "an element other than Pixel Data is longer than 16 MiB")
        self.position += length
        if self.position > (self.size if end is None else end):
            raise Unprocessable("truncated", "an element is longer than what is left of the file or of its sequence")

    def _explicit_length(self, vr: bytes) -> int:
        if vr in SHORT_VRS:
            length: int = self._short.unpack_from(self.buffer, self.position + 6)[0]
            self.position += 8
            return length
        if vr not in LONG_VRS:
            raise Unprocessable("malformed", "an element has no valid Value Representation")
        if self.position + 12 > self.size:
            raise Unprocessable("truncated", "the file ends inside an element")
        length = self._long.unpack_from(self.buffer, self.position + 8)[0]
        self.position += 12
        return length

    def _leave_finished(self) -> None:
        while len(self._stack) > 1 and self._stack[-1].end is not None and self.position >= self._stack[-1].end:
            self._stack.pop()

    def _pixel_length(self, length: int) -> int | None:
        if length == UNDEFINED:
            return None
        if self.position + length > self.size:
            raise Unprocessable("truncated", "the file ends inside its Pixel Data")
        return length

    def _in_sequence(self, tag: int, length: int, inside: _Container) -> None:
        if tag == ITEM and inside.opaque:
            self.skip(length, inside.end)
        elif tag == ITEM:
            self._enter(length, is_sequence=False, implicit=inside.implicit)
        elif tag == SEQUENCE_END and inside.end is None:
            self._stack.pop()
        else:
            raise Unprocessable("malformed", "a sequence holds something other than items")

    def _in_data_set(self, tag: int, vr: bytes, length: int, inside: _Container) -> None:
        if tag == ITEM_END and inside.end is None and len(self._stack) > 1:
            self._stack.pop()
        elif tag >> 16 == 0xFFFE:
            raise Unprocessable("malformed", "a delimiter stands outside any sequence")
        elif length == UNDEFINED:
            if vr not in (b"SQ", b"UN", b"") and tag != PIXEL_DATA:
                raise Unprocessable("malformed", "an element other than a sequence has undefined length")
            # PS3.5 6.2.2: a UN of undefined length is a sequence in implicit VR, whatever surrounds it.
            self._enter(length, is_sequence=True, implicit=inside.implicit or vr == b"UN", opaque=tag == PIXEL_DATA)
        elif vr == b"SQ" or (not vr and _is_sequence(tag)):
            self._enter(length, is_sequence=True, implicit=inside.implicit)
        else:
            self.skip(length, inside.end)

    def _enter(self, length: int, *, is_sequence: bool, implicit: bool, opaque: bool = False) -> None:
        """Step into a sequence or item; it must end inside what holds it."""
        end = None if length == UNDEFINED else self.position + length
        if end is not None:
            if length > MAX_ELEMENT_BYTES:
                raise Unprocessable("element-too-long", "an element other than Pixel Data is longer than 16 MiB")
            limit = self._stack[-1].end
            if end > (self.size if limit is None else limit):
                raise Unprocessable("truncated", "a sequence is longer than what is left of the file")
        self._stack.append(_Container(end, is_sequence, implicit, opaque))
        if len(self._stack) > 2 * MAX_NESTING + 1:
            raise Unprocessable("too-deep", f"sequences are nested more than {MAX_NESTING} deep")
