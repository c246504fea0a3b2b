"""The header of one data set as it was walked: the wanted elements, each its own bytes, and where the Pixel Data lies.

It loads no DICOM library: the listener, which starts without one, reads headers too.

Sources: PS3.5 sections 6.2 (VRs), 7.1 (element encodings), 7.5 (sequences).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from prioritizer.dicom.standard.contexts import EXPLICIT_VR_BIG_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN
from prioritizer.errors import Unprocessable

PIXEL_DATA = 0x7FE00010
ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
UNDEFINED = 0xFFFFFFFF
LONG_VRS = frozenset((b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"))
SHORT_VRS = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())


@dataclass(frozen=True, slots=True, kw_only=True)
class Element:
    """One element of the header: its own bytes, not yet understood."""

    tag: int
    vr: bytes
    """As written; empty in implicit VR."""
    value: bytes
    """Without padding taken off; of a sequence its items as encoded."""
    implicit: bool
    """How the elements inside a sequence are encoded."""
    little_endian: bool


@dataclass(slots=True, kw_only=True)
class Header:
    """The wanted elements of one data set and where its Pixel Data lies."""

    transfer_syntax: str = ""
    start: int = 0
    """First byte of the data set in the file."""
    elements: dict[int, Element] = field(default_factory=dict)
    pixel_start: int | None = None
    """First byte of the value of Pixel Data; of a deflated data set counted in the inflated bytes."""
    pixel_length: int | None = None
    """None while `pixel_start` is given: undefined length, so encapsulated fragments."""
    pixel_vr: bytes = b""
    damaged: set[int] = field(default_factory=set)
    """Wanted elements that stood there and could not be kept: broken inside, or longer than anything that is meant."""
    fault: Unprocessable | None = None
    """What ended the walk before the Pixel Data or the end of the data set."""

    @property
    def implicit(self) -> bool:
        """Elements carry no VR."""
        return self.transfer_syntax == IMPLICIT_VR_LITTLE_ENDIAN

    @property
    def little_endian(self) -> bool:
        """Numbers are stored least significant byte first."""
        return self.transfer_syntax != EXPLICIT_VR_BIG_ENDIAN
