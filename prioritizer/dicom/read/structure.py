"""Where things lie in a DICOM file, found by one bounded walk, and the few elements that are wanted, each with a cap.

pydicom follows a hostile file into a RecursionError or a gigabyte; the walk counts as it goes, passes over what nobody asked for
and stops at its limits. A fault does not lose what stood before it: it is a field of the answer.

Sources: PS3.10 section 7 (file meta), PS3.5 sections 6.2 (VRs), 7.1 (element encodings), 7.5 (sequences) and A.4 (encapsulation).
"""

from __future__ import annotations

import struct
from collections.abc import Collection

from pydicom.datadict import dictionary_VR
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from prioritizer.dicom.read.byte_stream import BufferStream, ByteStream, InflatedStream
from prioritizer.dicom.read.element_walk import ElementWalk
from prioritizer.dicom.read.header import ITEM, LONG_VRS, SEQUENCE_END, SHORT_VRS, UNDEFINED, Element, Header
from prioritizer.dicom.read.pydicom_logging import IGNORE_INVALID
from prioritizer.errors import Unprocessable

MAX_ITEMS = 256
"""Items read of one sequence: orders, codes and tables are a handful."""
MAX_INFLATED_HEADER_BYTES = 64 * 2**20
"""Inflated, and thrown away as it goes, on the way to the Pixel Data of a deflated data set: 0.2 s."""
MAX_INFLATED_BYTES = 600 * 2**20
"""The largest frame we decode (512 MiB) with its header; a deflated file that goes on is a bomb."""


def read_header(stream: ByteStream, wanted: Collection[int], inflated_limit: int | None = None) -> tuple[Header, ByteStream]:
    """The header of a Part 10 file or a bare data set, and the stream that stands at its Pixel Data.

    Never raises Unprocessable: what is wrong with the structure is the header's `fault`, and what stood before it is kept.
    """
    header = Header()
    try:
        header.transfer_syntax = _transfer_syntax(stream)
        header.start = stream.position
        if header.transfer_syntax == DeflatedExplicitVRLittleEndian:
            stream = InflatedStream(stream, MAX_INFLATED_HEADER_BYTES if inflated_limit is None else inflated_limit)
        ElementWalk(stream, header, wanted, is_sequence=_is_sequence).to_pixel_data()
    except Unprocessable as fault:
        header.fault = fault
    return header, stream


def items_of(element: Element | None, wanted: Collection[int]) -> list[dict[int, Element]]:
    """The wanted elements of each item of a sequence; of what is broken inside, the items before it."""
    if element is None or element.vr not in (b"SQ", b"UN", b""):
        return []
    # PS3.5 6.2.2 note 2: what travels as UN is in implicit VR little endian.
    unknown = element.vr == b"UN"
    implicit, little = element.implicit or unknown, element.little_endian or unknown
    stream, found = BufferStream(element.value), list[dict[int, Element]]()
    order = struct.Struct("<HHL" if little else ">HHL")
    while len(found) < MAX_ITEMS and len(head := stream.take(8)) == 8:
        group, number, length = order.unpack(head)
        if group << 16 | number != ITEM:
            break
        inside: ByteStream = stream if length == UNDEFINED else BufferStream(stream.take(length))
        item = Header(transfer_syntax=_syntax_like(implicit=implicit, little=little))
        try:
            ElementWalk(inside, item, wanted, is_sequence=_is_sequence, is_item=True).to_pixel_data()
        except Unprocessable:
            found.append(item.elements)
            if length == UNDEFINED:
                break
            continue
        found.append(item.elements)
    return found


def encoded_element(element: Element) -> bytes:
    """The element with its head, as it was encoded; a sequence with its length, or with delimiters where it is implicit in explicit."""
    order, length = "<" if element.little_endian else ">", len(element.value)
    tag = struct.pack(order + "HH", element.tag >> 16, element.tag & 0xFFFF)
    if not element.vr:
        return tag + struct.pack(order + "L", length) + element.value
    if element.vr == b"SQ" and element.implicit:
        end = struct.pack(order + "HHL", SEQUENCE_END >> 16, SEQUENCE_END & 0xFFFF, 0)
        return tag + struct.pack(order + "2sHL", b"UN", 0, UNDEFINED) + element.value + end
    if element.vr in SHORT_VRS:
        return tag + struct.pack(order + "2sH", element.vr, min(length, 0xFFFE)) + element.value[:0xFFFE]
    return tag + struct.pack(order + "2sHL", element.vr, 0, length) + element.value


def _is_sequence(tag: int) -> bool:
    """Implicit VR leaves it to the dictionary which attributes are sequences; private ones count as bytes."""
    try:
        return dictionary_VR(tag) == "SQ"
    except KeyError:
        return False


def _syntax_like(*, implicit: bool, little: bool) -> UID:
    return ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian if little else ExplicitVRBigEndian


def _transfer_syntax(stream: ByteStream) -> UID:
    """The transfer syntax; the stream then stands at the data set."""
    # "DICM" may also stand in the data of a file without preamble: group 0002 must follow it.
    head = stream.peek(134)
    if head[128:134] == b"DICM\x02\x00":
        stream.skip(132)
        return _from_meta(stream)
    group = int.from_bytes(head[:2], "little")
    if group == 0x0002:
        return _from_meta(stream)
    if group == 0x0008:
        return ExplicitVRLittleEndian if head[4:6] in LONG_VRS | SHORT_VRS else ImplicitVRLittleEndian
    raise Unprocessable("not-dicom", "the file is not DICOM: it has neither preamble nor file meta information")


def _from_meta(stream: ByteStream) -> UID:
    """(0002,0010) Transfer Syntax UID; the stream then stands behind the file meta information.

    Its group length says where that ends: some devices write group 0002 into the data set too, and that counts for nothing.
    """
    meta = Header(transfer_syntax=ExplicitVRLittleEndian)
    walk, end = ElementWalk(stream, meta, (0x00020000, 0x00020010), is_sequence=_is_sequence), -1
    while stream.peek(2) == b"\x02\x00" and not (stream.position == end and 0x00020010 in meta.elements):
        walk.step()
        if end < 0 and 0x00020000 in meta.elements:
            end = stream.position + int.from_bytes(meta.elements[0x00020000].value, "little")
    syntax = meta.elements[0x00020010].value if 0x00020010 in meta.elements else b""
    text = syntax[:64].rstrip(b"\0 ").decode("ascii", "replace")
    if not text:
        raise Unprocessable("no-transfer-syntax", "the file meta information has no Transfer Syntax UID")
    return UID(text, IGNORE_INVALID)
