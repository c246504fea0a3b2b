"""Values of a source header as a result may carry them: whole, valid, and in a VR that can be written."""

from __future__ import annotations

import struct

from pydicom.datadict import dictionary_VR, keyword_for_tag
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.tag import BaseTag, Tag

from prioritizer.dicom.read.character_sets import CharacterSets, declared
from prioritizer.dicom.result.source_values import KEPT_AS_SENT, TEXT_VRS, is_valid, is_whole, written

_LONG_VRS = frozenset(("OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"))
_WORD_BYTES = {"US": 2, "SS": 2, "AT": 2, "OW": 2, "UL": 4, "SL": 4, "FL": 4, "OF": 4, "OL": 4, "FD": 8, "OD": 8, "SV": 8, "UV": 8}


def encoded(dataset: Dataset) -> dict[int, bytes]:
    """Each element of a data set of ours, encoded as Explicit VR Little Endian."""
    elements = {}
    for element in dataset:
        buffer = DicomBytesIO()
        buffer.is_implicit_VR, buffer.is_little_endian = False, True
        write_dataset(buffer, Dataset({element.tag: element}))
        elements[int(element.tag)] = buffer.getvalue()
    return elements


class InvalidValueError(Exception):
    """The value must not stand in a result."""


def value_of(header: Dataset, keyword: str) -> bytes:
    """The raw value without padding, empty where there is none."""
    element = header.get_item(Tag(keyword)) if keyword in header else None
    return element.value.strip(b" \0") if isinstance(element, RawDataElement) and element.value else b""


def copy_of(dataset: Dataset, tag: BaseTag, sets: CharacterSets, *, in_item: bool = False) -> bytes:
    """One element of the source; of its value only padding and byte order may change. Raises InvalidValueError."""
    element, keyword = dataset.get_item(tag), keyword_for_tag(tag)
    kept = keyword in KEPT_AS_SENT and not in_item
    vr = _vr_to_write(tag, element.VR if element is not None else None, kept=kept)
    if vr == "SQ":
        items = b"".join(_item(keyword, item, sets) for item in dataset[tag].value or ())
        if not items:
            raise InvalidValueError
        return element_of(tag, "SQ", items)
    if isinstance(element, RawDataElement):
        value = element.value or b""
        word = 1 if element.is_little_endian else _WORD_BYTES.get(vr, 1)
        value = b"".join(value[i : i + word][::-1] for i in range(0, len(value), word)) if word > 1 else value
        if not kept and not is_valid(tag, vr, value, sets):
            raise InvalidValueError
        return element_of(tag, vr, written(vr, value))
    # The reader already converted it (Specific Character Set); pydicom writes what it read.
    return encoded(Dataset({tag: dataset[tag]}))[int(tag)]


def _vr_to_write(tag: BaseTag, given: str | None, *, kept: bool) -> str:
    """The VR of an element in a result: the standard's for text, whatever the source wrote. Raises InvalidValueError."""
    standard = _vr(tag)
    if not given or given == standard or (given == "UN" and standard != "SQ"):
        return standard
    if standard in TEXT_VRS and (given in TEXT_VRS or kept):
        return standard
    if standard == "UN" or given == "UN":
        return given
    # Numbers where text belongs, or the other way round: the bytes mean nothing to anybody.
    raise InvalidValueError


def _item(sequence: str, item: Dataset, sets: CharacterSets) -> bytes:
    """One item of the sequence with this keyword. Raises InvalidValueError where one of its values is invalid or a required one absent."""
    # An item may declare character sets of its own.
    terms = item.get("SpecificCharacterSet") if "SpecificCharacterSet" in item else None
    sets = declared([str(term) for term in ([terms] if isinstance(terms, str) else terms)]) if terms else sets
    copies = {tag: copy_of(item, tag, sets, in_item=True) for tag in sorted(item.keys())}
    if not is_whole(sequence, {keyword_for_tag(tag) for tag, copy in copies.items() if has_value(copy)}):
        raise InvalidValueError
    content = b"".join(copies.values())
    return struct.pack("<HHL", 0xFFFE, 0xE000, len(content)) + content


def has_value(copy: bytes) -> bool:
    """True for an encoded element of which more is there than padding."""
    return bool(copy[12 if copy[4:6].decode("ascii") in _LONG_VRS else 8 :].strip(b" \0"))


def _vr(tag: BaseTag) -> str:
    """The VR of an element that came without one; UN where the dictionary leaves it open or does not know it."""
    try:
        vr = dictionary_VR(tag)
    except KeyError:
        return "UN"
    return vr if len(vr) == 2 else "UN"


def element_of(tag: BaseTag, vr: str, value: bytes) -> bytes:
    """One element, Explicit VR Little Endian (PS3.5 7.1.2), padded to even length."""
    value += (b"\0" if vr in ("UI", "UN", "OB") else b" ") * (len(value) % 2)
    if vr not in _LONG_VRS and len(value) > 0xFFFE:
        # PS3.5 6.2.2 note 3: a value too long for its VR's short form travels as UN.
        vr = "UN"
    head = struct.pack("<HH2s", tag.group, tag.element, vr.encode("ascii"))
    return head + (struct.pack("<HL", 0, len(value)) if vr in _LONG_VRS else struct.pack("<H", len(value))) + value
