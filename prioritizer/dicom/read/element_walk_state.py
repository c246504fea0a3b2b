"""Limits of the walk over a header, and what it remembers of where it is."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Final

MAX_NESTING: Final = 32
MAX_ELEMENTS: Final = 100_000
MAX_VALUE_BYTES: Final = 64 * 2**10
"""Kept of one value that is no sequence: texts are shown to 400 characters, a VR with a short length holds no more."""
MAX_SEQUENCE_BYTES: Final = 512 * 2**10
"""A sequence beyond this is passed over; three look-up tables of 65,536 entries fit."""
MAX_KEPT_BYTES: Final = 4 * 2**20
"""Kept of one header in all."""


def no_dictionary(_tag: int) -> bool:
    """Without a dictionary a sequence of stated length, in implicit VR, is passed over whole like any value."""
    return False


@dataclass(frozen=True, slots=True)
class Encoding:
    """How the elements of a data set are written."""

    implicit: bool
    little_endian: bool
    tag: struct.Struct = field(init=False)
    long: struct.Struct = field(init=False)
    short: struct.Struct = field(init=False)

    def __post_init__(self) -> None:
        for name, code in (("tag", "HH"), ("long", "L"), ("short", "H")):
            object.__setattr__(self, name, struct.Struct(("<" if self.little_endian else ">") + code))


OF_UNKNOWN = Encoding(implicit=True, little_endian=True)
"""PS3.5 6.2.2 note 2: what travels as UN is in implicit VR little endian, whatever surrounds it."""
OF_FILE_META = Encoding(implicit=False, little_endian=True)


@dataclass(slots=True)
class Container:
    """A data set (root or item) or a sequence that the walk is inside of."""

    end: int | None
    """None where a delimiter ends it."""
    is_sequence: bool
    encoding: Encoding
    opaque: bool = False
    """Its items are fragments, of an encapsulated icon say: bytes, not elements."""


@dataclass(slots=True)
class Recording:
    """The wanted sequence that the walk is inside of."""

    tag: int
    vr: bytes
    depth: int
    """Containers on the stack while its items are walked."""
    encoding: Encoding
    data: bytearray = field(default_factory=bytearray)
    whole: bool = True
