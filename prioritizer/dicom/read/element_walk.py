"""One bounded walk over the elements of a data set: it counts, passes over what nobody wants and never leaves the stream.

The listener judges by it what the reader will read; it loads no DICOM library, so that the listener starts without one.

Sources: PS3.5 sections 6.2 (VRs), 7.1 (element encodings), 7.5 (sequences).
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from prioritizer.dicom.read.byte_stream import ByteStream
from prioritizer.dicom.read.element_walk_state import (
    MAX_ELEMENTS,
    MAX_KEPT_BYTES,
    MAX_NESTING,
    MAX_SEQUENCE_BYTES,
    MAX_VALUE_BYTES,
    OF_FILE_META,
    OF_UNKNOWN,
    Container,
    Encoding,
    Recording,
)
from prioritizer.dicom.read.header import ITEM, ITEM_END, LONG_VRS, PIXEL_DATA, SEQUENCE_END, SHORT_VRS, UNDEFINED, Element, Header
from prioritizer.errors import Unprocessable


class ElementWalk:
    """Counts elements, keeps those that are wanted at the top level and never leaves the stream."""

    def __init__(
        self, stream: ByteStream, header: Header, wanted: Collection[int], *, is_sequence: Callable[[int], bool], is_item: bool = False
    ) -> None:
        """`is_sequence` says of a tag in implicit VR whether the dictionary makes it a sequence."""
        self._stream, self._header, self._wanted, self._is_item = stream, header, frozenset(wanted), is_item
        self._is_sequence = is_sequence
        self._stack = [Container(None, False, Encoding(implicit=header.implicit, little_endian=header.little_endian))]
        self._recording: Recording | None = None
        self._elements, self._kept, self._closed = 0, 0, False

    def to_pixel_data(self) -> None:
        """Walk until Pixel Data of the top level, or to the end of the data set or item."""
        while self._goes_on():
            self.step()

    def to_wanted(self) -> None:
        """Walk until every wanted element is kept, or as far as `to_pixel_data`."""
        while len(self._header.elements) < len(self._wanted) and self._goes_on():
            self.step()

    def step(self) -> None:
        """Walk over one element, or into or out of one sequence or item."""
        inside = self._stack[-1]
        try:
            tag, vr, length = self._next(inside.encoding, item=inside.is_sequence)
            if inside.is_sequence:
                self._in_sequence(tag, length, inside)
            else:
                self._in_data_set(tag, vr, length, inside)
        except Unprocessable as fault:
            if fault.slug != "malformed" or not self._leave_broken():
                raise

    def _goes_on(self) -> bool:
        return not self._closed and self._header.pixel_start is None and self._ahead()

    def _ahead(self) -> bool:
        """Leave what is finished; True while the data goes on."""
        while len(self._stack) > 1 and (end := self._stack[-1].end) is not None and self._stream.position >= end:
            self._pop()
        return len(self._stack) > 1 or bool(self._stream.peek(1))

    def _next(self, encoding: Encoding, *, item: bool) -> tuple[int, bytes, int]:
        """Tag, VR (empty where none is written) and length of the next element; the stream then stands at its value."""
        self._elements += 1
        if self._elements > MAX_ELEMENTS:
            raise Unprocessable("too-many-elements", f"the file has more than {MAX_ELEMENTS} elements")
        head, limit = self._stream.peek(12), self._stack[-1].end
        if limit is not None and self._stream.position + 8 > limit:
            raise Unprocessable("malformed", "a sequence ends inside an element")
        if len(head) < 8:
            raise Unprocessable("truncated", "the file ends inside an element")
        vr = head[4:6]
        # Some devices copy the file meta information, always explicit and little endian, in front of a data set of another encoding.
        if head[:2] == b"\x02\x00" and (vr in LONG_VRS or vr in SHORT_VRS):
            encoding = OF_FILE_META
        group, element = encoding.tag.unpack_from(head)
        if encoding.implicit or item or group == 0xFFFE:
            self._pass_over(8)
            return group << 16 | element, b"", encoding.long.unpack_from(head, 4)[0]
        return group << 16 | element, vr, self._explicit_length(head, vr, encoding)

    def _explicit_length(self, head: bytes, vr: bytes, encoding: Encoding) -> int:
        # PS3.5 6.2: a VR that nobody here knows yet has the long form, unless its reserved bytes say otherwise.
        unknown = vr not in SHORT_VRS and vr not in LONG_VRS
        if unknown and not (vr.isalpha() and vr.isupper()):
            raise Unprocessable("malformed", "an element has no valid Value Representation")
        if vr in SHORT_VRS or (unknown and head[6:8] != b"\0\0"):
            self._pass_over(8)
            length: int = encoding.short.unpack_from(head, 6)[0]
            return length
        if len(head) < 12:
            raise Unprocessable("truncated", "the file ends inside an element")
        self._pass_over(12)
        return int(encoding.long.unpack_from(head, 8)[0])

    def _in_sequence(self, tag: int, length: int, inside: Container) -> None:
        if tag == ITEM and inside.opaque:
            self._skip(length, inside.end)
        elif tag == ITEM:
            self._enter(length, inside.encoding, is_sequence=False)
        elif tag == SEQUENCE_END and inside.end is None:
            self._pop(delimited=True)
        else:
            raise Unprocessable("malformed", "a sequence holds something other than items")

    def _in_data_set(self, tag: int, vr: bytes, length: int, inside: Container) -> None:
        top = len(self._stack) == 1
        if tag == PIXEL_DATA and top:
            self._at_pixel_data(vr, length)
        elif tag == ITEM_END and inside.end is None and not top:
            self._stack.pop()
        elif tag == ITEM_END and top and self._is_item:
            self._closed = True
        elif tag in (ITEM_END, SEQUENCE_END) and top and not length:
            return  # a delimiter too many ends nothing
        elif tag >> 16 == 0xFFFE:
            raise Unprocessable("malformed", "a delimiter stands outside any sequence")
        elif length == UNDEFINED or vr == b"SQ" or (not vr and self._is_sequence(tag)):
            self._at_sequence(tag, vr, length, inside)
        elif top and tag in self._wanted and tag not in self._header.elements:
            self._keep(tag, vr, length, inside)
        else:
            self._skip(length, inside.end)

    def _at_sequence(self, tag: int, vr: bytes, length: int, inside: Container) -> None:
        """Step into a sequence, or into what is encapsulated as Pixel Data is (PS3.5 A.4): of an icon, or of a device's own."""
        encoding = OF_UNKNOWN if vr == b"UN" and length == UNDEFINED else inside.encoding
        unknown = tag >> 16 & 1 and vr in (b"UN", b"")
        if length == UNDEFINED and (vr in (b"OB", b"OW") or tag == PIXEL_DATA or (unknown and self._holds_fragments(encoding))):
            if len(self._stack) == 1 and tag in self._wanted:
                self._header.damaged.add(tag)
            self._enter(length, encoding, is_sequence=True, opaque=True)
            return
        if vr not in (b"SQ", b"UN", b""):
            raise Unprocessable("malformed", "an element other than a sequence has undefined length")
        self._enter(length, encoding, is_sequence=True)
        self._record(tag, vr, length, encoding)

    def _holds_fragments(self, encoding: Encoding) -> bool:
        """A private element whose VR nobody wrote holds fragments: what its first item that is not empty holds cannot be an element."""
        head, at = self._stream.peek(24), 0
        while len(head) >= at + 8:
            (group, element), length = encoding.tag.unpack_from(head, at), encoding.long.unpack_from(head, at + 4)[0]
            if group << 16 | element != ITEM or length == UNDEFINED:
                return False
            if length:
                inner = encoding.long.unpack_from(head, at + 12)[0] if len(head) >= at + 16 else UNDEFINED
                return bool(length < 8 or length - 8 < inner < UNDEFINED)
            at += 8
        return False

    def _at_pixel_data(self, vr: bytes, length: int) -> None:
        header, left = self._header, self._stream.left()
        header.pixel_start, header.pixel_vr = self._stream.position, vr
        header.pixel_length = None if length == UNDEFINED else length
        if header.pixel_length is not None and left is not None and header.pixel_length > left:
            raise Unprocessable("truncated", "the file ends inside its Pixel Data")

    def _keep(self, tag: int, vr: bytes, length: int, inside: Container) -> None:
        """Take a value that is no sequence, as far as it may be kept, and pass over the rest."""
        kept = min(length, MAX_SEQUENCE_BYTES if self._is_item else MAX_VALUE_BYTES)
        if self._kept + kept > MAX_KEPT_BYTES:
            self._header.damaged.add(tag)
            self._skip(length, inside.end)
            return
        value = self._stream.take(kept)
        if len(value) < kept:
            raise Unprocessable("truncated", "an element is longer than what is left of the file or of its sequence")
        self._kept += kept
        self._skip(length - kept, inside.end)
        self._put(tag, vr, value, inside.encoding)

    def _put(self, tag: int, vr: bytes, value: bytes, encoding: Encoding) -> None:
        self._header.elements[tag] = Element(tag=tag, vr=vr, value=value, implicit=encoding.implicit, little_endian=encoding.little_endian)

    def _record(self, tag: int, vr: bytes, length: int, encoding: Encoding) -> None:
        """Begin to keep what is walked, where the sequence just entered is wanted."""
        if len(self._stack) == 2 and tag in self._wanted and tag not in self._header.elements:
            self._recording = Recording(tag, vr if vr != b"UN" else b"SQ", len(self._stack), encoding)
            if length == 0:
                self._finish_recording()

    def _finish_recording(self) -> None:
        done, self._recording = self._recording, None
        if done is not None and done.whole:
            self._put(done.tag, done.vr, bytes(done.data), done.encoding)
        elif done is not None:
            self._header.damaged.add(done.tag)

    def _pass_over(self, length: int) -> bool:
        """Consume bytes; kept where they belong to a wanted sequence and it is not too long."""
        recording = self._recording
        if recording is None or not recording.whole:
            return self._stream.skip(length)
        if len(recording.data) + length > MAX_SEQUENCE_BYTES or self._kept + length > MAX_KEPT_BYTES:
            recording.whole = False
            recording.data.clear()
            return self._stream.skip(length)
        data = self._stream.take(length)
        recording.data += data
        self._kept += len(data)
        return len(data) == length

    def _skip(self, length: int, end: int | None) -> None:
        """Pass over a value that must lie inside its container."""
        if end is not None and self._stream.position + length > end:
            raise Unprocessable("malformed", "an element is longer than what is left of its sequence")
        if not self._pass_over(length):
            raise Unprocessable("truncated", "an element is longer than what is left of the file or of its sequence")

    def _enter(self, length: int, encoding: Encoding, *, is_sequence: bool, opaque: bool = False) -> None:
        """Step into a sequence or item; it must end inside what holds it."""
        end, limit, left = None, self._stack[-1].end, self._stream.left()
        if length != UNDEFINED:
            end = self._stream.position + length
            if limit is not None and end > limit:
                raise Unprocessable("malformed", "a sequence is longer than what holds it")
            if left is not None and length > left:
                raise Unprocessable("truncated", "a sequence is longer than what is left of the file")
        self._stack.append(Container(end, is_sequence, encoding, opaque))
        if len(self._stack) > 2 * MAX_NESTING + 1:
            raise Unprocessable("too-deep", f"sequences are nested more than {MAX_NESTING} deep")

    def _pop(self, *, delimited: bool = False) -> None:
        """Leave a container; a wanted sequence that ends here is kept, without the delimiter that ended it."""
        if self._recording is not None and len(self._stack) == self._recording.depth:
            if delimited and self._recording.whole:
                del self._recording.data[-8:]
            self._finish_recording()
        self._stack.pop()

    def _leave_broken(self) -> bool:
        """Step behind the innermost container whose length is known: what is broken costs that value only. False at the top level."""
        while len(self._stack) > 1:
            if self._recording is not None:
                self._recording.whole = False
            inside, end = self._stack[-1], self._stack[-1].end
            if end is not None and inside.is_sequence and self._stream.position <= end:
                skipped = self._stream.skip(end - self._stream.position)
                self._pop()
                return skipped
            self._stack.pop()
        return False
