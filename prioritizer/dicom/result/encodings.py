"""A stored result in the encoding that a destination accepts.

Results are stored once, as JPEG or uncompressed. A PACS that takes no JPEG, or nothing but Implicit VR Little Endian, is sent the same
object in that form: same UID, same header, and as pixels exactly what the stored JPEG decodes to (PS3.5 10.1: the default
transfer syntax is what both sides always have).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import simplejpeg
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGBaseline8Bit, SecondaryCaptureImageStorage

from prioritizer.dicom.read.header import LONG_VRS, PIXEL_DATA, UNDEFINED
from prioritizer.dicom.result.secondary_capture import file_head
from prioritizer.dicom.spool.part10 import valid_uid
from prioritizer.errors import Unprocessable

NATIVE_FORMS: Final = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
"""What a result can be sent in beside the form it is stored in, the better first."""
STORED_FORMS: Final = (JPEGBaseline8Bit, ExplicitVRLittleEndian)
RESULT_CONTEXTS: Final = tuple(
    (SecondaryCaptureImageStorage, syntax) for syntax in (JPEGBaseline8Bit, ExplicitVRLittleEndian, ImplicitVRLittleEndian)
)
RESULT_SYNTAX_NAMES: Final = {context: context[1].name for context in RESULT_CONTEXTS}
_PREFIX_BYTES: Final = 132
_PHOTOMETRIC: Final = 0x00280004
_MUST_BE_UIDS: Final = (0x00080016, 0x00080018, 0x0020000D, 0x0020000E)
_ITEM: Final = struct.pack("<HH", 0xFFFE, 0xE000)


@dataclass(frozen=True, slots=True)
class _Element:
    tag: int
    vr: bytes
    value: bytes


def proposed_results() -> str:
    """The contexts proposed for results, in words."""
    return f"{SecondaryCaptureImageStorage.name} in {', '.join(RESULT_SYNTAX_NAMES.values())}"


def check_uids(data: bytes) -> None:
    """Unprocessable where a stored result has a UID of its own, its study's or its series' that is none: no PACS may be sent that."""
    found = {element.tag: element.value.rstrip(b"\0 ").decode("latin-1") for element in _elements(data) if element.tag in _MUST_BE_UIDS}
    if not all(valid_uid(found.get(tag, "")) for tag in _MUST_BE_UIDS):
        raise Unprocessable("uid", "the stored result has a Study, Series or SOP Instance UID that is not valid; it is not sent")


def in_form(data: bytes, syntax: UID) -> bytes:
    """The stored result `data`, a Part 10 file of ours, in `syntax`, one of NATIVE_FORMS. Unprocessable where it is none of ours."""
    stored = _stored_syntax(data)
    elements = list(_elements(data))
    if stored == JPEGBaseline8Bit:
        elements = [_without_jpeg(element) for element in elements]
    uid = next((one.value.rstrip(b"\0 ").decode("ascii", "replace") for one in elements if one.tag == 0x00080018), "")
    if not valid_uid(uid):
        raise Unprocessable("not-ours", "the stored result is damaged: it names no SOP Instance UID")
    encode = _implicit if syntax == ImplicitVRLittleEndian else _explicit
    return file_head(uid, syntax) + b"".join(map(encode, elements))


def _stored_syntax(data: bytes) -> UID:
    meta = data[_PREFIX_BYTES : _start(data)]
    return next((syntax for syntax in STORED_FORMS if _syntax_element(syntax) in meta), UID(""))


def _syntax_element(syntax: UID) -> bytes:
    value = syntax.encode() + b"\0" * (len(syntax) % 2)
    return b"\x02\x00\x10\x00UI" + struct.pack("<H", len(value)) + value


def _start(data: bytes) -> int:
    """The first byte of the data set, as (0002,0000) File Meta Information Group Length says."""
    if data[128:140] != b"DICM\x02\x00\x00\x00UL\x04\x00" or len(data) < 144:
        raise Unprocessable("not-ours", "the stored result is damaged: it has no file meta information")
    return 144 + int.from_bytes(data[140:144], "little")


def _elements(data: bytes) -> Iterator[_Element]:
    """The top-level elements of a stored result; the value of encapsulated Pixel Data is its fragments with their delimiters."""
    return _walk(data, _start(data), len(data))


def _walk(data: bytes, position: int, end: int) -> Iterator[_Element]:
    while position < end:
        try:
            group, element, vr = struct.unpack_from("<HH2s", data, position)
            form, head = ("<I", 8) if vr in LONG_VRS else ("<H", 6)
            (length,) = struct.unpack_from(form, data, position + head)
        except struct.error as error:
            raise Unprocessable("not-ours", "the stored result is damaged: it is cut short") from error
        start = position + head + struct.calcsize(form)
        position = end if length == UNDEFINED else start + length
        if position > end:
            raise Unprocessable("not-ours", "the stored result is damaged: an element is longer than the file")
        yield _Element(group << 16 | element, vr, data[start:position])


def _without_jpeg(element: _Element) -> _Element:
    if element.tag == _PHOTOMETRIC:
        return _Element(element.tag, element.vr, b"RGB ")
    if element.tag != PIXEL_DATA:
        return element
    try:
        pixels = simplejpeg.decode_jpeg(_frame(element.value), colorspace="RGB").tobytes()
    except (ValueError, struct.error) as error:
        raise Unprocessable("not-ours", "the stored result is damaged: its JPEG cannot be decoded") from error
    return _Element(element.tag, b"OB", pixels + b"\0" * (len(pixels) % 2))


def _frame(encapsulated: bytes) -> bytes:
    """The one fragment behind the Basic Offset Table (PS3.5 A.4)."""
    _, table = struct.unpack_from("<4sI", encapsulated)
    item, length = struct.unpack_from("<4sI", encapsulated, 8 + table)
    if item != _ITEM:
        raise Unprocessable("not-ours", "the stored result is damaged: its Pixel Data has no frame")
    return encapsulated[16 + table : 16 + table + length]


def _explicit(element: _Element) -> bytes:
    head = struct.pack("<HH2s", element.tag >> 16, element.tag & 0xFFFF, element.vr)
    length = struct.pack("<HI", 0, len(element.value)) if element.vr in LONG_VRS else struct.pack("<H", len(element.value))
    return head + length + element.value


def _implicit(element: _Element) -> bytes:
    value = b"".join(_items(element.value)) if element.vr == b"SQ" else element.value
    return struct.pack("<HHI", element.tag >> 16, element.tag & 0xFFFF, len(value)) + value


def _items(value: bytes) -> Iterator[bytes]:
    """The items of a sequence, their elements in implicit VR; ours always state their length."""
    position = 0
    while position < len(value):
        (length,) = struct.unpack_from("<I", value, position + 4)
        start = position + 8
        content = b"".join(map(_implicit, _walk(value, start, start + length)))
        yield _ITEM + struct.pack("<I", len(content)) + content
        position = start + length
