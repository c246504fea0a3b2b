"""The fragments of one encapsulated frame (PS3.5 A.4); a missing end does not cost a frame that is whole."""

from __future__ import annotations

import struct

from prioritizer.dicom.read.byte_stream import ByteStream
from prioritizer.dicom.read.element_walk_state import MAX_ELEMENTS
from prioritizer.dicom.read.header import ITEM, SEQUENCE_END, UNDEFINED
from prioritizer.errors import Unprocessable

_BEGINNINGS = (b"\xff\xd8", b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP")
"""JPEG and JPEG-LS, JPEG 2000, JP2: no Basic Offset Table begins so."""

_END_OF_CODESTREAM = b"\xff\xd9"


def fragments(stream: ByteStream) -> bytes:
    """The fragments of a single frame, joined; the Basic Offset Table is left out. Raises Unprocessable."""
    parts = list[bytes]()
    while len(parts) <= MAX_ELEMENTS:
        head = stream.take(8)
        tag, length = _item(head) if len(head) == 8 else (SEQUENCE_END, 0)
        if tag != ITEM:
            # The delimiter; or, behind whole fragments, nothing, nulls or what else a device put in its place.
            if len(parts) < 2 and tag != SEQUENCE_END:
                raise Unprocessable("malformed", "the Pixel Data is no sequence of fragments")
            return _frame(parts, complete=tag == SEQUENCE_END and len(head) == 8)
        if length == UNDEFINED:
            raise Unprocessable("malformed", "the Pixel Data is no sequence of fragments")
        part = stream.take(length)
        if len(part) < length:
            raise Unprocessable("truncated", "the file ends inside its Pixel Data")
        parts.append(part)
    raise Unprocessable("too-many-elements", f"the Pixel Data has more than {MAX_ELEMENTS} fragments")


def _item(head: bytes) -> tuple[int, int]:
    group, element, length = struct.unpack("<HHL", head)
    return group << 16 | element, length


def _frame(parts: list[bytes], *, complete: bool) -> bytes:
    """The frame; raises Unprocessable where neither a delimiter nor the codestream itself says that it is whole."""
    table_is_missing = bool(parts) and parts[0].startswith(_BEGINNINGS)
    frame = b"".join(parts if table_is_missing else parts[1:])
    cut = frame.startswith(_BEGINNINGS) and not frame.rstrip(b"\0").endswith(_END_OF_CODESTREAM)
    if not complete and (not frame or cut):
        raise Unprocessable("truncated", "the file ends inside its Pixel Data")
    return frame
