"""(0028,3000) Modality LUT Sequence and (0028,3010) VOI LUT Sequence to tables, by what they hold rather than what they declare.

Devices declare 16 bits and hold 12, declare 8 and hold 12, pack bytes two in a word, and leave the first value's sign to the reader.

Sources: PS3.3 C.11.1.1 and C.11.2.1.1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prioritizer.dicom.read.elements import Elements, tag_of, words_of
from prioritizer.dicom.read.header import Element
from prioritizer.dicom.read.structure import items_of
from prioritizer.imaging.grey_scale import Lut

Warn = Callable[[str], None]

MODALITY, VOI = "ModalityLUTSequence", "VOILUTSequence"
_NAMES = {MODALITY: "Modality LUT", VOI: "VOI LUT"}
DESCRIPTOR, DATA = tag_of("LUTDescriptor"), tag_of("LUTData")


@dataclass(frozen=True, slots=True)
class Range:
    """The values that a table may be asked for."""

    low: float
    high: float


def first_table(elements: Elements, keyword: str, inputs: Range, warn: Warn) -> Lut | None:
    """The first usable table of a sequence; None where there is none, with a warning where there was to be one."""
    sequence = elements.get(tag_of(keyword))
    tables = items_of(sequence, (DESCRIPTOR, DATA))
    for item in tables:
        table = _table(item, inputs, keyword, warn)
        if table is not None and len(table.entries) and _tells_values_apart(table, inputs):
            return table
        warn(f"a {_NAMES[keyword]} that holds nothing usable was passed over")
    if sequence is not None and sequence.value and not tables:
        warn(f"a {_NAMES[keyword]} that holds nothing usable was passed over")
    return None


def _tells_values_apart(table: Lut, inputs: Range) -> bool:
    """False where every value that can occur would get the same grey."""
    low, high = (int(np.clip(round(value) - table.first, 0, len(table.entries) - 1)) for value in (inputs.low, inputs.high))
    reached = table.entries[low : high + 1]
    return bool((reached != reached[0]).any()) if len(reached) else False


def _table(item: dict[int, Element], inputs: Range, keyword: str, warn: Warn) -> Lut | None:
    descriptor = words_of(item.get(DESCRIPTOR))
    if len(descriptor) != 3 or DATA not in item:
        return None
    count, first, declared = (int(word) for word in descriptor)
    entries = _entries(item[DATA], count or 65536, declared)
    if len(entries) < (count or 65536):
        warn(f"the {_NAMES[keyword]} holds fewer entries than its descriptor says")
    # The range of a VOI LUT is what it holds; what a Modality LUT gives is not scaled, so its depth says nothing.
    held = max(int(entries.max(initial=0)).bit_length(), 1)
    bits = declared if keyword == MODALITY and 1 <= declared <= 16 else held
    return Lut(first=_first_value(item[DESCRIPTOR], first, len(entries), inputs), entries=entries, bits=bits)


def _entries(data: Element, count: int, declared_bits: int) -> NDArray[np.uint16]:
    """The entries, at most `count`: 16-bit words, or bytes packed two in a word, the earlier in the low one."""
    words = words_of(data)[:count]
    length = len(data.value)
    if declared_bits <= 8 and length < 2 * count and (length - count in (0, 1) or int(words.max(initial=0)) > 255):
        packed = data.value if data.vr in (b"OB", b"UN") else words_of(data).astype("<u2").tobytes()
        return np.frombuffer(packed, "<u1").astype(np.uint16)[:count]
    return words


def _first_value(descriptor: Element, word: int, count: int, inputs: Range) -> int:
    """The first value mapped: signed where values may be negative, whatever VR it is written in (PS3.3 C.11.2.1.1)."""
    if word < 32768:
        return word
    signed = word - 65536
    preferred, other = (signed, word) if inputs.low < 0 or descriptor.vr == b"SS" else (word, signed)
    reached = [first for first in (preferred, other) if first <= inputs.high and first + count > inputs.low]
    return reached[0] if reached else preferred
