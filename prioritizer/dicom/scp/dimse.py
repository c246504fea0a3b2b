"""DIMSE command sets: implicit VR little endian, a handful of elements (PS3.7 sections 6.3, 9.3 and annex E)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from prioritizer.dicom.scp.association_pdu import P_DATA, PDU_HEADER
from prioritizer.dicom.spool.part10 import valid_uid
from prioritizer.dicom.standard import status
from prioritizer.errors import Refused

MAX_COMMAND_BYTES: Final = 16 * 1024
C_STORE_RQ: Final = 0x0001
C_ECHO_RQ: Final = 0x0030
C_CANCEL_RQ: Final = 0x0FFF
_RESPONSE: Final = 0x8000
_NO_DATA_SET: Final = 0x0101
_ELEMENT: Final = struct.Struct("<HHI")
_SOP_CLASS, _COMMAND_FIELD, _MESSAGE_ID, _DATA_SET_TYPE = 0x0002, 0x0100, 0x0110, 0x0800
_ANSWERED_ID, _STATUS, _COMMENT, _SOP_INSTANCE = 0x0120, 0x0900, 0x0902, 0x1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A request as received; the UIDs are the peer's text until `check_uids` has passed them."""

    field: int
    message_id: int
    has_data_set: bool
    sop_class_uid: str
    sop_instance_uid: str

    def check_uids(self, abstract_syntax: str) -> None:
        """Refused unless class and instance are proper UIDs and the class is the presentation context's."""
        if not valid_uid(self.sop_class_uid):
            raise Refused(status.NO_SUCH_SOP_CLASS, "the command's SOP Class UID is not a valid UID")
        if not valid_uid(self.sop_instance_uid):
            raise Refused(status.INVALID_SOP_INSTANCE, "the command's SOP Instance UID is not a valid UID")
        if self.sop_class_uid != abstract_syntax:
            raise Refused(status.SOP_CLASS_NOT_SUPPORTED, "the command's SOP class is not its presentation context's")


def parse(encoded: bytes) -> Command:
    """The command set of one message; ValueError when it is none."""
    values: dict[int, bytes] = {}
    position = 0
    while position < len(encoded):
        if position + _ELEMENT.size > len(encoded):
            raise ValueError("the command set is cut short")
        group, element, length = _ELEMENT.unpack_from(encoded, position)
        position += _ELEMENT.size
        if group != 0 or position + length > len(encoded):
            raise ValueError("the command set is damaged")
        values[element] = encoded[position : position + length]
        position += length
    field = _number(values, _COMMAND_FIELD)
    return Command(
        field=field,
        message_id=0 if field == C_CANCEL_RQ else _number(values, _MESSAGE_ID),
        has_data_set=_number(values, _DATA_SET_TYPE) != _NO_DATA_SET,
        sop_class_uid=_text(values.get(_SOP_CLASS, b"")),
        sop_instance_uid=_text(values.get(_SOP_INSTANCE, b"")),
    )


def _number(values: dict[int, bytes], element: int) -> int:
    value = values.get(element, b"")
    if len(value) != 2:
        raise ValueError(f"the command set lacks (0000,{element:04X})")
    return int.from_bytes(value, "little")


def _text(value: bytes) -> str:
    return value.decode("latin-1").rstrip("\x00 ")


def encode_response(command: Command, context_id: int, code: int, peer_max_length: int, comment: str = "") -> bytes:
    """The response to a request, as whole P-DATA-TF PDUs of a size the peer takes; `comment` is ours, never the peer's text."""
    uids_are_sound = valid_uid(command.sop_class_uid)
    elements = _response_element(_SOP_CLASS, command.sop_class_uid.encode()) if uids_are_sound else b""
    elements += _response_element(_COMMAND_FIELD, struct.pack("<H", command.field | _RESPONSE))
    elements += _response_element(_ANSWERED_ID, struct.pack("<H", command.message_id))
    elements += _response_element(_DATA_SET_TYPE, struct.pack("<H", _NO_DATA_SET))
    elements += _response_element(_STATUS, struct.pack("<H", code))
    if comment:
        elements += _response_element(_COMMENT, comment.encode("ascii", "replace")[:64], pad=b" ")
    if command.field == C_STORE_RQ and valid_uid(command.sop_instance_uid):
        elements += _response_element(_SOP_INSTANCE, command.sop_instance_uid.encode())
    encoded = _response_element(0x0000, struct.pack("<I", len(elements))) + elements
    return _as_pdus(encoded, context_id, peer_max_length)


def _response_element(element: int, value: bytes, pad: bytes = b"\x00") -> bytes:
    value += pad * (len(value) % 2)
    return _ELEMENT.pack(0, element, len(value)) + value


def _as_pdus(encoded: bytes, context_id: int, peer_max_length: int) -> bytes:
    # Item header (4), context ID and control byte (2) count towards the peer's limit; an absurd limit is not honoured.
    step = max(peer_max_length - 6, 64) if peer_max_length else len(encoded)
    pdus = b""
    for start in range(0, len(encoded), step):
        piece = encoded[start : start + step]
        control = 0b11 if start + step >= len(encoded) else 0b01
        pdus += PDU_HEADER.pack(P_DATA, len(piece) + 6) + struct.pack(">IBB", len(piece) + 2, context_id, control) + piece
    return pdus
