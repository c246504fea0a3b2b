"""The DIMSE statuses that prioritizer sends and understands, by name (PS3.4 B.2.3, PS3.7 annex C)."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

SUCCESS: Final = 0x0000
PROCESSING_FAILURE: Final = 0x0110
DUPLICATE_SOP_INSTANCE: Final = 0x0111
NO_SUCH_SOP_INSTANCE: Final = 0x0112
INVALID_SOP_INSTANCE: Final = 0x0117
NO_SUCH_SOP_CLASS: Final = 0x0118
SOP_CLASS_NOT_SUPPORTED: Final = 0x0122
NOT_AUTHORISED: Final = 0x0124
DUPLICATE_INVOCATION: Final = 0x0210
UNRECOGNISED_OPERATION: Final = 0x0211
MISTYPED_ARGUMENT: Final = 0x0212
RESOURCE_LIMITATION: Final = 0x0213
OUT_OF_RESOURCES: Final = 0xA700
SOP_CLASS_MISMATCH: Final = 0xA900
COERCION_OF_ELEMENTS: Final = 0xB000
ELEMENTS_DISCARDED: Final = 0xB006
SOP_CLASS_MISMATCH_WARNING: Final = 0xB007
CANNOT_UNDERSTAND: Final = 0xC000
IDENTITY_MISSING: Final = 0xC001
DATA_SET_UNREADABLE: Final = 0xC002
CANCELLED: Final = 0xFE00
PENDING: Final = 0xFF00

_SENTENCES: Final = MappingProxyType(
    {
        SUCCESS: "stored",
        PROCESSING_FAILURE: "processing failure",
        DUPLICATE_SOP_INSTANCE: "duplicate SOP instance",
        NO_SUCH_SOP_INSTANCE: "no such SOP instance",
        INVALID_SOP_INSTANCE: "the SOP Instance UID is not valid",
        NO_SUCH_SOP_CLASS: "the SOP Class UID is not valid",
        SOP_CLASS_NOT_SUPPORTED: "SOP class not supported",
        NOT_AUTHORISED: "this peer may not do that here",
        DUPLICATE_INVOCATION: "this Message ID is already in use",
        UNRECOGNISED_OPERATION: "this operation is not offered",
        MISTYPED_ARGUMENT: "an element of the command has the wrong type",
        RESOURCE_LIMITATION: "out of resources for this operation",
        OUT_OF_RESOURCES: "out of resources: the object could not be made durable",
        SOP_CLASS_MISMATCH: "the data set does not belong to the announced SOP class or instance",
        COERCION_OF_ELEMENTS: "stored, with elements coerced",
        ELEMENTS_DISCARDED: "stored, with elements discarded",
        SOP_CLASS_MISMATCH_WARNING: "stored, although the data set does not match its SOP class",
        CANNOT_UNDERSTAND: "the data set cannot be understood",
        IDENTITY_MISSING: "the data set carries no SOP Class or SOP Instance UID",
        DATA_SET_UNREADABLE: "the data set is not readable in the negotiated transfer syntax",
        CANCELLED: "cancelled",
        PENDING: "pending",
    }
)
# PS3.7 annex C and PS3.4 B.2.3 define whole ranges; a peer may use any number inside one.
_RANGES: Final = (
    (0xA700, 0xA7FF, "the peer is out of resources"),
    (0xA900, 0xA9FF, "the data set does not match its SOP class"),
    (0xB000, 0xBFFF, "stored with a warning"),
    (0xC000, 0xCFFF, "the peer cannot understand the data set"),
    (0xFF00, 0xFF01, "pending"),
)
# Failures that an unchanged repetition may cure: the peer's disk, memory, database or a limit of the moment.
_TRANSIENT: Final = frozenset({PROCESSING_FAILURE, DUPLICATE_INVOCATION, RESOURCE_LIMITATION, CANCELLED})


def describe(status: int) -> str:
    """A sentence for people, for every status there is, with its number."""
    if sentence := _SENTENCES.get(status):
        return f"{sentence} (0x{status:04X})"
    for first, last, sentence in _RANGES:
        if first <= status <= last:
            return f"{sentence} (0x{status:04X})"
    return f"status unknown to the standard (0x{status:04X})"


def is_success(status: int) -> bool:
    """True when the peer keeps the object: Success, or stored with a warning (PS3.4 B.2.3)."""
    return status == SUCCESS or status in {0x0001, 0x0107, 0x0116} or 0xB000 <= status <= 0xBFFF


def is_permanent(status: int) -> bool:
    """True when the peer refused the object itself, so that sending the same bytes again will likely be answered the same.

    Of 0xAxxx only 0xA9xx speaks of the object (PS3.4 B.2.3); the others are the peer's own trouble.
    """
    if is_success(status) or status in _TRANSIENT or 0xFF00 <= status <= 0xFF01:
        return False
    return not 0xA000 <= status <= 0xAFFF or 0xA900 <= status <= 0xA9FF
