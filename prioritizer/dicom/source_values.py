"""Which values of a source image may stand in its result: an invalid one makes the whole result invalid, and a PACS may refuse it.

What names the patient and the order is never touched. Of the rest, what its value representation (PS3.5 6.2) does not permit is
left out, or written empty where the attribute must be present: nothing is corrected, nothing invented.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from pydicom.datadict import dictionary_VM, keyword_for_tag
from pydicom.tag import BaseTag

from prioritizer.dicom.part10 import valid_uid

KEPT_AS_SENT: Final = frozenset(
    ("PatientName", "PatientID", "AccessionNumber", "StudyID", "ReferringPhysicianName", "SpecificCharacterSet", "IssuerOfPatientID")
)
"""What files the result beside its source. It travels byte for byte, valid or not."""
TEXT_VRS: Final = frozenset(("AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UR", "UT"))
_NUMBER: Final = rb"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_FORMS: Final[Mapping[str, re.Pattern[bytes]]] = {
    "AS": re.compile(rb"\d{3}[DWMY]"),
    "CS": re.compile(rb"[A-Z0-9 _]{1,16}"),
    "DA": re.compile(rb"\d{8}"),
    "DS": re.compile(rb"(?=.{1,16}\Z)" + _NUMBER),
    "DT": re.compile(rb"\d{4}(?:\d\d){0,5}(?:\.\d{1,6})?(?:[+-]\d{4})?"),
    "IS": re.compile(rb"(?=.{1,12}\Z)[+-]?\d+"),
    "TM": re.compile(rb"(?:[01]\d|2[0-3])(?:[0-5]\d(?:[0-5]\d(?:\.\d{1,6})?|60(?:\.\d{1,6})?)?)?"),
}
_SIZES: Final[Mapping[str, int]] = {"US": 2, "SS": 2, "AT": 4, "UL": 4, "SL": 4, "FL": 4, "FD": 8, "SV": 8, "UV": 8}
_TERMS: Final[Mapping[str, frozenset[bytes]]] = {
    "PatientSex": frozenset((b"M", b"F", b"O")),
    "PatientSexNeutered": frozenset((b"ALTERED", b"UNALTERED")),
    "SmokingStatus": frozenset((b"YES", b"NO", b"UNKNOWN")),
    "PregnancyStatus": frozenset((b"", b"\1", b"\2", b"\3", b"\4")),
    "QualityControlSubject": frozenset((b"YES", b"NO")),
    "PatientIdentityRemoved": frozenset((b"YES", b"NO")),
    "TypeOfPatientID": frozenset((b"TEXT", b"RFID", b"BARCODE")),
}
"""Values of which the standard permits no other (enumerated values)."""
_REQUIRED_IN_ITEMS: Final = frozenset(("ReferencedSOPClassUID", "ReferencedSOPInstanceUID", "CodeMeaning"))


def is_valid(tag: BaseTag, vr: str, value: bytes, *, in_item: bool = False) -> bool:
    """True where a value, without VR that is a sequence, may be written: empty, or as its VR and the standard's terms permit."""
    keyword = keyword_for_tag(tag)
    stripped = value.strip(b" \0")
    if not stripped and vr in TEXT_VRS:
        return not (in_item and keyword in _REQUIRED_IN_ITEMS)
    if vr == "UI":
        return valid_uid(stripped.decode("latin-1"))
    if keyword in _TERMS:
        return stripped in _TERMS[keyword]
    if vr in _SIZES:
        return len(value) % _SIZES[vr] == 0 and (len(value) <= _SIZES[vr] or _many(tag))
    form = _FORMS.get(vr)
    if form is None:
        return True
    values = stripped.split(b"\\")
    return (len(values) == 1 or _many(tag)) and all(form.fullmatch(each.strip(b" ")) for each in values if each.strip(b" "))


def is_zone(offset: str) -> bool:
    """True for a (0008,0201) Timezone Offset From UTC that means one: -1200 to +1400, and not -0000 (PS3.3 C.12.1.1.8)."""
    match = re.fullmatch(r"([+-])(\d\d)([0-5]\d)", offset)
    if match is None or offset == "-0000":
        return False
    minutes = int(match[2]) * 60 + int(match[3])
    return minutes <= (14 * 60 if match[1] == "+" else 12 * 60)


def _many(tag: BaseTag) -> bool:
    try:
        return dictionary_VM(tag) != "1"
    except KeyError:
        return True
