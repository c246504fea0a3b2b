"""What one element of a header holds: texts, numbers, words. Each is understood alone, so that an odd one is only itself empty.

Nothing here raises: a value in a VR that cannot hold it, of a length that is no whole number of values, or in no known notation is empty.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydicom.datadict import dictionary_VR, tag_for_keyword

from prioritizer.dicom.read.character_sets import CharacterSets, declared, decode
from prioritizer.dicom.read.header import Element

Elements = Mapping[int, Element]

MAX_TEXT: Final = 400
"""Characters kept of any text: a file may claim a patient name of a megabyte."""
_BY_CHARACTER_SET: Final = frozenset((b"SH", b"LO", b"ST", b"LT", b"UC", b"UT", b"PN"))
_TEXT_VRS: Final = _BY_CHARACTER_SET | frozenset((b"AE", b"AS", b"CS", b"DA", b"DS", b"DT", b"IS", b"TM", b"UI", b"UR"))
_UNSAID: Final = frozenset((b"", b"UN"))
_NUMBER_FORMATS: Final = {b"US": "H", b"SS": "h", b"UL": "L", b"SL": "l", b"FL": "f", b"FD": "d", b"OW": "H", b"UV": "Q", b"SV": "q"}
_DECIMAL: Final = re.compile(r"[+-]?(\d{1,400}([.,]\d{0,400})?|[.,]\d{1,400})([eE][+-]?\d{1,4})?", re.ASCII)
SPECIFIC_CHARACTER_SET: Final = 0x00080005


def tag_of(keyword: str) -> int:
    """The tag of a keyword of the standard."""
    tag = tag_for_keyword(keyword)
    if tag is None:
        raise KeyError(keyword)
    return tag


def tags_of(*keywords: str) -> frozenset[int]:
    """The tags of keywords of the standard."""
    return frozenset(map(tag_of, keywords))


def character_sets(elements: Elements) -> CharacterSets:
    """The character sets that the data set declares."""
    element = elements.get(SPECIFIC_CHARACTER_SET)
    if element is None or not is_text(element):
        return CharacterSets()
    return declared([term.decode("ascii", "replace").strip(" \0") for term in element.value.split(b"\\")])


def _standard_vr(element: Element) -> bytes:
    """The VR of the standard where the file states none."""
    if element.vr not in _UNSAID:
        return element.vr
    try:
        return dictionary_VR(element.tag).encode("ascii")
    except KeyError:
        return b"UN"


def is_text(element: Element) -> bool:
    """True where the element may hold text."""
    return _standard_vr(element) in _TEXT_VRS


def texts(elements: Elements, keyword: str, sets: CharacterSets) -> tuple[str, ...]:
    """Every value of an element as printable text; empty where it is absent or holds no text."""
    element = elements.get(tag_of(keyword))
    if element is None or not is_text(element):
        return ()
    vr = dictionary_VR(element.tag).encode("ascii")
    raw = element.value.rstrip(b" \0")
    decoded = decode(raw, sets, is_name=vr == b"PN") if vr in _BY_CHARACTER_SET else raw.decode("ascii", "replace")
    values = [decoded] if vr in (b"ST", b"LT", b"UT", b"UR") else decoded.split("\\")
    return tuple(printable(value.rstrip("=") if vr == b"PN" else value) for value in values) if raw else ()


def text(elements: Elements, keyword: str, sets: CharacterSets) -> str:
    """The first value of an element as printable text; empty when absent."""
    return next(iter(texts(elements, keyword, sets)), "")


def printable(text: str) -> str:
    """Text without control characters or surrogates, cut to MAX_TEXT."""
    shown = text.strip(" \0")[:MAX_TEXT]
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in shown).strip()


def decimal(text: str) -> float | None:
    """A decimal string, with a point or with the comma some devices write; None where it is no finite number."""
    text = text.strip(" \0")
    if not _DECIMAL.fullmatch(text):
        return None
    number = float(text.replace(",", "."))
    return number if math.isfinite(number) else None


def strings(elements: Elements, keyword: str) -> list[str]:
    """Every value of a code, integer or decimal string as written, without padding; empty where it is absent."""
    element = elements.get(tag_of(keyword))
    if element is None or not is_text(element):
        return []
    raw = element.value.strip(b" \0").decode("ascii", "replace")
    return [part.strip(" \0") for part in raw.split("\\")] if raw else []


def numbers(elements: Elements, keyword: str) -> list[float | None]:
    """Every value of a number, whatever VR it is written in; None for a value that is no number."""
    element = elements.get(tag_of(keyword))
    if element is None:
        return []
    vr = _standard_vr(element).split(b" ")[0]
    if vr in _TEXT_VRS:
        return [decimal(part) for part in strings(elements, keyword)]
    code = _NUMBER_FORMATS.get(vr)
    size = struct.calcsize("<" + code) if code else 0
    if not code or not element.value or len(element.value) % size:
        return []
    order = "<" if element.little_endian or element.vr == b"UN" else ">"
    found = struct.unpack(f"{order}{len(element.value) // size}{code}", element.value)
    return [float(number) if math.isfinite(number) else None for number in found]


def whole(elements: Elements, keyword: str) -> int | None:
    """The first value of a number where that is a whole one; None otherwise."""
    found = next(iter(numbers(elements, keyword)), None)
    return int(found) if found is not None and found == int(found) else None


def words_of(element: Element | None) -> NDArray[np.uint16]:
    """The value as 16-bit words in the order of the file, whatever VR it is written in; a last odd byte is left out."""
    if element is None:
        return np.zeros(0, dtype=np.uint16)
    little = element.little_endian or element.vr in (b"UN", b"OB")
    whole_words = element.value[: len(element.value) // 2 * 2]
    return np.frombuffer(whole_words, "<u2" if little else ">u2").astype(np.uint16)
