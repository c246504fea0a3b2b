"""The Part 10 header of a spooled file, written and read without decoding the data set (PS3.10 section 7).

The header alone rebuilds the ledger: besides the standard's elements it names sender and receiver, and in
(0002,0102) Private Information the time of arrival and the peer's address.
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from prioritizer.dicom import contexts, status
from prioritizer.errors import Refused

PREAMBLE: Final = bytes(128) + b"DICM"
HEAD_BYTES: Final = 64 * 1024
_MAX_META_BYTES: Final = 64 * 1024
_COMPARE_BYTES: Final = 1 << 20
_MAX_DEPTH: Final = 32
_UNDEFINED: Final = 0xFFFFFFFF
_UID: Final = re.compile(r"[0-9]+(?:\.[0-9]+)*", re.ASCII)
# Value representations whose explicit form has two reserved bytes and a 32-bit length (PS3.5 table 7.1-1).
_LONG_VRS: Final = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})
_ITEM, _ITEM_END, _SEQUENCE_END = (0xFFFE, 0xE000), (0xFFFE, 0xE00D), (0xFFFE, 0xE0DD)


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What is known of a spooled instance without its data set; `received_at` is aware, in UTC."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    calling_ae: str
    called_ae: str
    address: str
    received_at: datetime
    dataset_offset: int = 0
    size: int = 0


def valid_uid(text: str) -> bool:
    """True for numbers joined by dots, at most 64 characters: the only peer text that may become part of a path."""
    return len(text) <= 64 and _UID.fullmatch(text) is not None


def encode_header(receipt: Receipt) -> bytes:
    """The preamble, prefix and file meta information of a file that holds this instance."""
    note = {"received_at": receipt.received_at.isoformat(), "address": receipt.address}
    elements = b"".join(
        (
            _long_element(0x0001, b"\x00\x01"),
            _element(0x0002, b"UI", receipt.sop_class_uid),
            _element(0x0003, b"UI", receipt.sop_instance_uid),
            _element(0x0010, b"UI", receipt.transfer_syntax_uid),
            _element(0x0012, b"UI", contexts.IMPLEMENTATION_CLASS_UID),
            _element(0x0013, b"SH", contexts.IMPLEMENTATION_VERSION_NAME),
            _element(0x0016, b"AE", receipt.calling_ae),
            _element(0x0018, b"AE", receipt.called_ae),
            _element(0x0100, b"UI", contexts.IMPLEMENTATION_CLASS_UID),
            _long_element(0x0102, json.dumps(note).encode("ascii")),
        )
    )
    return PREAMBLE + struct.pack("<HH2sHI", 0x0002, 0x0000, b"UL", 4, len(elements)) + elements


def _element(element: int, vr: bytes, text: str) -> bytes:
    value = text.encode("ascii", "replace")
    value += (b"\x00" if vr == b"UI" else b" ") * (len(value) % 2)
    return struct.pack("<HH2sH", 0x0002, element, vr, len(value)) + value


def _long_element(element: int, value: bytes) -> bytes:
    value += b"\x00" * (len(value) % 2)
    return struct.pack("<HH2sHI", 0x0002, element, b"OB", 0, len(value)) + value


def read_receipt(path: Path) -> Receipt:
    """What the header of a spooled file says; ValueError when this house did not write it or it is damaged."""
    with path.open("rb") as file:
        head = file.read(len(PREAMBLE) + 12)
        if len(head) < len(PREAMBLE) + 12 or head[128:140] != b"DICM\x02\x00\x00\x00UL\x04\x00":
            raise ValueError("no Part 10 header of ours")
        (length,) = struct.unpack_from("<I", head, 140)
        if length > _MAX_META_BYTES:
            raise ValueError("file meta information is longer than we ever write")
        meta = file.read(length)
        size = file.seek(0, 2)
    try:
        return _receipt(_meta_values(meta), dataset_offset=len(head) + length, size=size)
    except (struct.error, RecursionError) as exc:
        raise ValueError("file meta information is damaged") from exc


def _meta_values(meta: bytes) -> dict[int, bytes]:
    values: dict[int, bytes] = {}
    position = 0
    while position < len(meta):
        cursor = _Cursor(meta, position, explicit=True, order="<")
        (group, element), length = cursor.header()
        if group != 0x0002 or cursor.position + length > len(meta):
            raise ValueError("file meta information is damaged")
        values[element] = meta[cursor.position : cursor.position + length]
        position = cursor.position + length
    return values


def _receipt(values: dict[int, bytes], *, dataset_offset: int, size: int) -> Receipt:
    try:
        note = json.loads(values[0x0102].rstrip(b"\x00"))
        received_at = datetime.fromisoformat(note["received_at"])
        if received_at.tzinfo is None:
            raise ValueError("time of arrival without its zone")
        return Receipt(
            sop_class_uid=_text(values[0x0002]),
            sop_instance_uid=_text(values[0x0003]),
            transfer_syntax_uid=_text(values[0x0010]),
            calling_ae=_text(values[0x0016]),
            called_ae=_text(values[0x0018]),
            address=str(note["address"]),
            received_at=received_at,
            dataset_offset=dataset_offset,
            size=size,
        )
    except (KeyError, TypeError) as exc:
        raise ValueError("file meta information lacks what the ledger needs") from exc


def _text(value: bytes) -> str:
    return value.decode("ascii", "replace").rstrip("\x00 ").lstrip(" ")


def check_identity(head: bytes, receipt: Receipt) -> None:
    """Return quietly when the data set belongs to its C-STORE command; otherwise Refused with a named status.

    `head` is the first `HEAD_BYTES` of the data set as received; nothing behind them is looked at.
    """
    try:
        sop_class, sop_instance = identity(head, receipt.transfer_syntax_uid)
    except (ValueError, struct.error, zlib.error, RecursionError) as exc:
        raise Refused(status.DATA_SET_UNREADABLE, "the data set is not readable in its transfer syntax") from exc
    if sop_class is None or sop_instance is None:
        raise Refused(status.IDENTITY_MISSING, "the data set has no SOP Class UID or no SOP Instance UID")
    if sop_class != receipt.sop_class_uid:
        raise Refused(status.SOP_CLASS_MISMATCH, "the SOP Class UID of the data set differs from the command's")
    if sop_instance != receipt.sop_instance_uid:
        raise Refused(status.SOP_CLASS_MISMATCH, "the SOP Instance UID of the data set differs from the command's")


def identity(head: bytes, transfer_syntax_uid: str) -> tuple[str | None, str | None]:
    """(0008,0016) SOP Class UID and (0008,0018) SOP Instance UID of an encoded data set, None for what is absent."""
    syntax = contexts.SYNTAX_BY_UID[transfer_syntax_uid]
    if syntax.deflated:
        # A cap on the output: a few bytes can inflate to gigabytes.
        head = zlib.decompressobj(-zlib.MAX_WBITS).decompress(head, HEAD_BYTES)
    cursor = _Cursor(head, 0, explicit=syntax.explicit, order=">" if syntax.big_endian else "<")
    found: dict[tuple[int, int], str] = {}
    while cursor.position + 8 <= len(head) and len(found) < 2:
        tag, length = cursor.header()
        # Elements ascend by tag (PS3.5 7.1): behind this group no identity can come.
        if tag[0] > 0x0008:
            break
        if tag in ((0x0008, 0x0016), (0x0008, 0x0018)):
            found[tag] = _text(cursor.value(length))
        else:
            cursor.skip(length)
    return found.get((0x0008, 0x0016)), found.get((0x0008, 0x0018))


class _Cursor:
    """Walks element headers in a bounded buffer; every step outside it is a ValueError or struct.error."""

    def __init__(self, data: bytes, position: int, *, explicit: bool, order: str) -> None:
        self.data, self.position, self.explicit, self.order = data, position, explicit, order

    def header(self) -> tuple[tuple[int, int], int]:
        """The next tag and value length; the cursor then stands at the value."""
        group, element = struct.unpack_from(f"{self.order}HH", self.data, self.position)
        vr = self.data[self.position + 4 : self.position + 6]
        if not self.explicit or group == 0xFFFE:
            offset, form = 4, "I"
        elif vr in _LONG_VRS:
            offset, form = 8, "I"
        elif vr.isalpha() and vr.isupper():
            offset, form = 6, "H"
        else:
            raise ValueError("no value representation where one must stand")
        (length,) = struct.unpack_from(self.order + form, self.data, self.position + offset)
        self.position += offset + struct.calcsize(form)
        return (group, element), length

    def value(self, length: int) -> bytes:
        """The value of this length; a UID is never longer than 64 bytes, so more is refused."""
        if length > 64 or self.position + length > len(self.data):
            raise ValueError("a UID longer than 64 bytes or than the data")
        self.position += length
        return self.data[self.position - length : self.position]

    def skip(self, length: int, depth: int = 0) -> None:
        """Stand behind the value, walking through items where its length is undefined."""
        if length != _UNDEFINED:
            self.position += length
            return
        if depth > _MAX_DEPTH:
            raise ValueError("sequences nested too deep")
        while True:
            tag, inner = self.header()
            if tag in (_SEQUENCE_END, _ITEM_END):
                return
            self.skip(inner, depth + 1)


def _data_set(path: Path) -> Iterator[bytes]:
    """The bytes behind the file meta information; of a file that is not ours, all of them."""
    try:
        offset = read_receipt(path).dataset_offset
    except ValueError:
        offset = 0
    with path.open("rb") as file:
        file.seek(offset)
        while block := file.read(_COMPARE_BYTES):
            yield block


def same_data_set(one: Path, other: Path) -> bool:
    """True when both hold the same data set, whoever sent it and whenever."""
    if _data_set_size(one) != _data_set_size(other):
        return False
    return all(a == b for a, b in zip(_data_set(one), _data_set(other), strict=True))


def _data_set_size(path: Path) -> int:
    receipt = read_receipt(path)
    return receipt.size - receipt.dataset_offset


def data_set_digest(path: Path) -> str:
    """SHA-256 of the data set as received, in hexadecimal; the same whoever sent it and whenever."""
    digest = hashlib.sha256()
    for block in _data_set(path):
        digest.update(block)
    return digest.hexdigest()
