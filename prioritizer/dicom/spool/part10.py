"""The Part 10 header of a spooled file, written and read without decoding the data set (PS3.10 section 7).

The header alone rebuilds the ledger: besides the standard's elements it names sender and receiver, and in
(0002,0102) Private Information the time of arrival and the peer's address.
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from prioritizer.dicom.read.byte_stream import BufferStream, ByteStream, InflatedStream
from prioritizer.dicom.read.element_walk import ElementWalk
from prioritizer.dicom.read.element_walk_state import no_dictionary
from prioritizer.dicom.read.header import Header
from prioritizer.dicom.standard import contexts, status
from prioritizer.errors import Refused, Unprocessable

PREAMBLE: Final = bytes(128) + b"DICM"
HEAD_BYTES: Final = 64 * 1024
_MAX_META_BYTES: Final = 64 * 1024
_COMPARE_BYTES: Final = 1 << 20
_MAX_UID_BYTES: Final = 64
_UID: Final = re.compile(r"[0-9]+(?:\.[0-9]+)*", re.ASCII)
_SOP_CLASS_UID, _SOP_INSTANCE_UID = 0x00080016, 0x00080018
_RECEIPT_ELEMENTS: Final = (0x0002, 0x0003, 0x0010, 0x0016, 0x0018, 0x0102)
_BEYOND_THE_HEAD: Final = frozenset(("truncated", "too-large"))
"""Faults of a walk that only says that it came to the end of the bytes it was given."""


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
    """What the header of a spooled file says; ValueError when prioritizer did not write it or it is damaged."""
    with path.open("rb") as file:
        head = file.read(len(PREAMBLE) + 12)
        if len(head) < len(PREAMBLE) + 12 or head[128:140] != b"DICM\x02\x00\x00\x00UL\x04\x00":
            raise ValueError("no Part 10 header of ours")
        (length,) = struct.unpack_from("<I", head, 140)
        if length > _MAX_META_BYTES:
            raise ValueError("file meta information is longer than we ever write")
        meta = file.read(length)
        size = file.seek(0, 2)
    return _receipt(_meta_values(meta), dataset_offset=len(head) + length, size=size)


def _meta_values(meta: bytes) -> dict[int, bytes]:
    header, stream = Header(transfer_syntax=contexts.EXPLICIT_VR_LITTLE_ENDIAN), BufferStream(meta)
    walk = ElementWalk(stream, header, [0x00020000 | element for element in _RECEIPT_ELEMENTS], is_sequence=no_dictionary)
    try:
        while group := stream.peek(2):
            if group != b"\x02\x00":
                raise ValueError("file meta information is damaged")
            walk.step()
    except Unprocessable as fault:
        raise ValueError("file meta information is damaged") from fault
    return {tag & 0xFFFF: element.value for tag, element in header.elements.items()}


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
    except (ValueError, Unprocessable) as exc:
        raise Refused(status.DATA_SET_UNREADABLE, "the data set is not readable in its transfer syntax") from exc
    if sop_class is None or sop_instance is None:
        raise Refused(status.IDENTITY_MISSING, "the data set has no SOP Class UID or no SOP Instance UID")
    if sop_class != receipt.sop_class_uid:
        raise Refused(status.SOP_CLASS_MISMATCH, "the SOP Class UID of the data set differs from the command's")
    if sop_instance != receipt.sop_instance_uid:
        raise Refused(status.SOP_CLASS_MISMATCH, "the SOP Instance UID of the data set differs from the command's")


def identity(head: bytes, transfer_syntax_uid: str) -> tuple[str | None, str | None]:
    """(0008,0016) SOP Class UID and (0008,0018) SOP Instance UID of an encoded data set, None for what is absent from its head.

    It walks as the reader does (`element_walk`), so that what is acknowledged can be read. ValueError or Unprocessable where the data
    set is not readable up to there.
    """
    header, stream = Header(transfer_syntax=transfer_syntax_uid), BufferStream(head)
    deflated = contexts.SYNTAX_BY_UID[transfer_syntax_uid].deflated
    # A cap on the output: a few bytes can inflate to gigabytes.
    source: ByteStream = InflatedStream(stream, HEAD_BYTES) if deflated else stream
    try:
        ElementWalk(source, header, (_SOP_CLASS_UID, _SOP_INSTANCE_UID), is_sequence=no_dictionary).to_wanted()
    except Unprocessable as fault:
        if fault.slug not in _BEYOND_THE_HEAD:
            raise
    return _uid_of(header, _SOP_CLASS_UID), _uid_of(header, _SOP_INSTANCE_UID)


def _uid_of(header: Header, tag: int) -> str | None:
    if tag not in header.elements:
        return None
    if len(header.elements[tag].value) > _MAX_UID_BYTES:
        raise ValueError("a UID longer than 64 bytes")
    return _text(header.elements[tag].value)


def same_data_set(one: Path, other: Path) -> bool:
    """True when both hold the same data set in the same transfer syntax, whoever sent it and whenever.

    Raises ValueError where one of them has no receipt, OSError where the disk does not give one.
    """
    here, there = read_receipt(one), read_receipt(other)
    if (here.transfer_syntax_uid, _data_set_size(here)) != (there.transfer_syntax_uid, _data_set_size(there)):
        return False
    return all(a == b for a, b in zip(_blocks(one, here.dataset_offset), _blocks(other, there.dataset_offset), strict=True))


def _data_set_size(receipt: Receipt) -> int:
    return receipt.size - receipt.dataset_offset


def _blocks(path: Path, offset: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        file.seek(offset)
        while block := file.read(_COMPARE_BYTES):
            yield block


def data_set_digest(path: Path) -> str:
    """SHA-256 of the transfer syntax and the data set as received, in hexadecimal; the same whoever sent it and whenever.

    Of a file that is not ours: of all its bytes. Raises OSError where the disk does not give the file.
    """
    digest, offset = hashlib.sha256(), 0
    with suppress(ValueError):
        receipt = read_receipt(path)
        digest.update(f"{receipt.transfer_syntax_uid}\n".encode())
        offset = receipt.dataset_offset
    for block in _blocks(path, offset):
        digest.update(block)
    return digest.hexdigest()
