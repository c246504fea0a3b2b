"""Association requests read strictly, and the answers to them (PS3.8 section 9.3).

Every length is checked against what surrounds it before anything is taken from it. What is merely odd inside one presentation
context (a UID that is none, no transfer syntax at all) refuses that context and leaves the others alone.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from itertools import islice
from typing import Final

from prioritizer.dicom.spool.part10 import valid_uid
from prioritizer.dicom.standard.contexts import (
    APPLICATION_CONTEXT,
    IMPLEMENTATION_CLASS_UID,
    IMPLEMENTATION_VERSION_NAME,
    IMPLICIT_VR_LITTLE_ENDIAN,
)

ASSOCIATE_RQ, ASSOCIATE_AC, ASSOCIATE_RJ, P_DATA, RELEASE_RQ, RELEASE_RP, ABORT = range(1, 8)
PDU_HEADER: Final = struct.Struct(">BxI")
MAX_REQUEST_BYTES: Final = 1 << 20
_MAX_CONTEXTS: Final = 128
_MAX_ITEMS_A_CONTEXT: Final = 256
_ITEM: Final = struct.Struct(">BxH")
_APPLICATION_ITEM, _CONTEXT_ITEM, _CONTEXT_RESULT_ITEM, _USER_ITEM = 0x10, 0x20, 0x21, 0x50
_ABSTRACT_ITEM, _TRANSFER_ITEM, _MAX_LENGTH_ITEM, _CLASS_UID_ITEM, _VERSION_ITEM = 0x30, 0x40, 0x51, 0x52, 0x55


class AbortReason(IntEnum):
    """Why the provider aborts (PS3.8 table 9-26)."""

    NOT_SPECIFIED = 0
    UNRECOGNISED_PDU = 1
    UNEXPECTED_PDU = 2
    UNRECOGNISED_PARAMETER = 4
    UNEXPECTED_PARAMETER = 5
    INVALID_PARAMETER = 6


class Rejection(tuple[int, int, int]):
    """Result, source and reason of an A-ASSOCIATE-RJ (PS3.8 table 9-21)."""

    __slots__ = ()


APPLICATION_CONTEXT_NOT_SUPPORTED: Final = Rejection((1, 1, 2))
CALLING_AE_NOT_RECOGNISED: Final = Rejection((1, 1, 3))
CALLED_AE_NOT_RECOGNISED: Final = Rejection((1, 1, 7))
PROTOCOL_VERSION_NOT_SUPPORTED: Final = Rejection((1, 2, 2))
LOCAL_LIMIT_EXCEEDED: Final = Rejection((2, 3, 2))


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposedContext:
    """A presentation context as the requestor proposes it; the UIDs are the peer's text, and need not be UIDs."""

    context_id: int
    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptedContext:
    """A presentation context both sides agreed on."""

    abstract_syntax: str
    transfer_syntax: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AssociationRequest:
    """A whole A-ASSOCIATE-RQ; the AE title fields are kept as sent because the answer must echo them."""

    protocol_version: int
    called_field: bytes
    calling_field: bytes
    application_context: str
    contexts: tuple[ProposedContext, ...]
    peer_max_length: int

    @property
    def called_ae(self) -> str:
        """The called AE title, harmless to print."""
        return ae_title(self.called_field)

    @property
    def calling_ae(self) -> str:
        """The calling AE title, harmless to print."""
        return ae_title(self.calling_field)

    @property
    def calling_is_plain(self) -> bool:
        """True where the calling AE title can be written into a configuration: not empty, and of permitted characters only."""
        return is_plain_title(self.calling_field)

    @property
    def called_is_plain(self) -> bool:
        """The same of the called AE title."""
        return is_plain_title(self.called_field)


def ae_title(field: bytes) -> str:
    """The title in a field of 16 bytes, harmless to print: characters it may not have (PS3.5 6.2) are shown as `?`.

    Padding is left out: blanks before and behind it, and whatever follows a NUL, as C programs end a text.
    """
    return "".join(chr(byte) if _may_stand_in_title(byte) else "?" for byte in _title_bytes(field))


def is_plain_title(field: bytes) -> bool:
    """True where `ae_title` shows the title itself: such a title may be compared with a configured one, another never equals any."""
    title = _title_bytes(field)
    return bool(title) and all(map(_may_stand_in_title, title))


def _title_bytes(field: bytes) -> bytes:
    return field.lstrip(b"\0 ").partition(b"\0")[0].rstrip(b" ")


def _may_stand_in_title(byte: int) -> bool:
    return 0x20 <= byte < 0x7F and byte != 0x5C


def parse_request(body: bytes) -> AssociationRequest:
    """The request inside an A-ASSOCIATE-RQ behind its six-byte header; ValueError says what is malformed."""
    if len(body) < 68:
        raise ValueError("the association request is shorter than its fixed part")
    application, user, contexts = "", b"", []
    for kind, value in _items(body[68:]):
        if kind == _APPLICATION_ITEM:
            application = _text(value)
        elif kind == _CONTEXT_ITEM:
            contexts.append(_proposed(value))
        elif kind == _USER_ITEM:
            user = value
    _check_context_ids(contexts)
    return AssociationRequest(
        protocol_version=int.from_bytes(body[0:2], "big"),
        called_field=body[4:20],
        calling_field=body[20:36],
        application_context=application,
        contexts=tuple(contexts),
        peer_max_length=_max_length(user),
    )


def _items(data: bytes) -> Iterator[tuple[int, bytes]]:
    position = 0
    while position < len(data):
        if position + _ITEM.size > len(data):
            raise ValueError("an item of the association request is cut short")
        kind, length = _ITEM.unpack_from(data, position)
        position += _ITEM.size
        if position + length > len(data):
            raise ValueError("an item of the association request is longer than what holds it")
        yield kind, data[position : position + length]
        position += length


def _proposed(value: bytes) -> ProposedContext:
    if len(value) < 4:
        raise ValueError("a presentation context is cut short")
    # The gate reads requests one after the other: what lies behind so many syntaxes is not worth its time.
    items = list(islice(_items(value[4:]), _MAX_ITEMS_A_CONTEXT))
    abstract = [_text(inner) for kind, inner in items if kind == _ABSTRACT_ITEM]
    transfer = tuple(_text(inner) for kind, inner in items if kind == _TRANSFER_ITEM)
    # Not exactly one abstract syntax: whatever is meant, none is accepted.
    return ProposedContext(context_id=value[0], abstract_syntax=abstract[0] if len(abstract) == 1 else "", transfer_syntaxes=transfer)


def _text(value: bytes) -> str:
    return value.decode("latin-1").rstrip("\x00 ")


def _check_context_ids(contexts: list[ProposedContext]) -> None:
    ids = [context.context_id for context in contexts]
    if not ids:
        raise ValueError("no presentation context is proposed")
    if len(ids) > _MAX_CONTEXTS:
        raise ValueError("more than 128 presentation contexts are proposed")
    if any(each % 2 == 0 for each in ids):
        raise ValueError("a presentation context has an even ID")
    if len(set(ids)) != len(ids):
        raise ValueError("two presentation contexts have the same ID")


def _max_length(user: bytes) -> int:
    for kind, value in _items(user):
        if kind == _MAX_LENGTH_ITEM:
            if len(value) != 4:
                raise ValueError("the maximum length item has the wrong size")
            return int.from_bytes(value, "big")
    return 0


def negotiate(request: AssociationRequest, offered: Mapping[str, tuple[str, ...]]) -> dict[int, AcceptedContext]:
    """The contexts to accept, by ID: of the syntaxes proposed for each, the one most welcome here."""
    accepted = {}
    for proposal in request.contexts:
        welcome = offered.get(proposal.abstract_syntax, ())
        proposed = frozenset(proposal.transfer_syntaxes)
        chosen = next((syntax for syntax in welcome if syntax in proposed), None)
        if chosen is not None:
            accepted[proposal.context_id] = AcceptedContext(abstract_syntax=proposal.abstract_syntax, transfer_syntax=chosen)
    return accepted


def encode_accept(
    request: AssociationRequest, accepted: Mapping[int, AcceptedContext], offered: Mapping[str, tuple[str, ...]], max_length: int
) -> bytes:
    """The A-ASSOCIATE-AC. Roles and user identity are not answered, which means their defaults (PS3.7 D.3.3)."""
    user = _item(_MAX_LENGTH_ITEM, max_length.to_bytes(4, "big"))
    user += _item(_CLASS_UID_ITEM, IMPLEMENTATION_CLASS_UID.encode()) + _item(_VERSION_ITEM, IMPLEMENTATION_VERSION_NAME.encode())
    body = struct.pack(">HH16s16s32x", 1, 0, request.called_field, request.calling_field)
    body += _item(_APPLICATION_ITEM, APPLICATION_CONTEXT.encode())
    body += b"".join(_context_result(proposal, accepted, offered) for proposal in request.contexts)
    return _pdu(ASSOCIATE_AC, body + _item(_USER_ITEM, user))


def _context_result(proposal: ProposedContext, accepted: Mapping[int, AcceptedContext], offered: Mapping[str, tuple[str, ...]]) -> bytes:
    context = accepted.get(proposal.context_id)
    if context is not None:
        result, syntax = 0, context.transfer_syntax
    else:
        # 3: abstract syntax not supported, 4: none of its transfer syntaxes (PS3.8 table 9-18).
        result = 4 if proposal.abstract_syntax in offered else 3
        # Not significant here (PS3.8 9.3.3.2), but it must be a UID.
        syntax = next((each for each in proposal.transfer_syntaxes if valid_uid(each)), IMPLICIT_VR_LITTLE_ENDIAN)
    head = bytes((proposal.context_id, 0, result, 0))
    return _item(_CONTEXT_RESULT_ITEM, head + _item(_TRANSFER_ITEM, syntax.encode()))


def encode_reject(rejection: Rejection) -> bytes:
    """The A-ASSOCIATE-RJ."""
    return _pdu(ASSOCIATE_RJ, bytes((0, *rejection)))


def encode_abort(reason: AbortReason, *, by_user: bool = False) -> bytes:
    """The A-ABORT, from the provider or, when we merely stop, from the user."""
    return _pdu(ABORT, bytes((0, 0, 0 if by_user else 2, 0 if by_user else reason)))


def encode_release_reply() -> bytes:
    """The A-RELEASE-RP."""
    return _pdu(RELEASE_RP, bytes(4))


def _item(kind: int, value: bytes) -> bytes:
    return _ITEM.pack(kind, len(value)) + value


def _pdu(kind: int, body: bytes) -> bytes:
    return PDU_HEADER.pack(kind, len(body)) + body
