"""Which values of a source image may stand in its result: an invalid one makes the whole result invalid, and a PACS may refuse it.

What names the patient and the order is never touched, but for NUL padding. Of the rest, what its value representation (PS3.5 6.2) does
not permit is left out, or written empty where the attribute must be present: nothing is corrected, nothing invented. A sequence with one
invalid item is left out whole.

Sources: PS3.5 6.2 (VRs), 6.1.3 (control characters); PS3.3 table 8.8-1 (codes), 10-1 (persons), 10-11 (references), 10-17 (issuers).
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Collection, Mapping
from typing import Final

from pydicom.datadict import dictionary_VM, keyword_for_tag
from pydicom.tag import BaseTag

from prioritizer.dicom.read.character_sets import ESCAPE, CharacterSets, decode
from prioritizer.dicom.spool.part10 import valid_uid

KEPT_AS_SENT: Final = frozenset(
    ("PatientName", "PatientID", "AccessionNumber", "StudyID", "ReferringPhysicianName", "SpecificCharacterSet", "IssuerOfPatientID")
)
"""What files the result beside its source. It travels byte for byte, valid or not, except for NUL padding."""
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
_MAX_CHARACTERS: Final[Mapping[str, int | None]] = {
    "AE": 16, "SH": 16, "LO": 64, "PN": 64, "ST": 1024, "LT": 10_240, "UC": None, "UR": None, "UT": None,
}  # fmt: skip
"""Characters of one value of a text, of a name those of one component group; None where only the encoding limits them."""
_ONE_VALUE: Final = frozenset(("ST", "LT", "UT", "UR"))
"""In these a backslash is a character."""
_LINES: Final = str.maketrans("", "", "\t\n\f\r")
"""Control characters that a text of several lines may have."""
_MAX_GROUPS, _MAX_COMPONENTS = 3, 5
"""Of a person's name: alphabetic, ideographic, phonetic, each family name to suffix."""
_WITHOUT_BLANKS: Final = frozenset(("AS", "DA", "DT", "TM", "UI"))
_BY_CHARACTER_SET: Final = frozenset(("LO", "LT", "PN", "SH", "ST", "UC", "UT"))
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
_Needed = tuple[tuple[str, ...], ...]
_CODE: Final[_Needed] = (("CodeValue", "LongCodeValue", "URNCodeValue"), ("CodingSchemeDesignator", "URNCodeValue"), ("CodeMeaning",))
_REFERENCE: Final[_Needed] = (("ReferencedSOPClassUID",), ("ReferencedSOPInstanceUID",))
_ISSUER: Final[_Needed] = (("LocalNamespaceEntityID", "UniversalEntityID"), ("UniversalEntityIDType", "LocalNamespaceEntityID"))
_PERSON: Final[_Needed] = (("PersonIdentificationCodeSequence",), ("InstitutionName", "InstitutionCodeSequence"))
_NEEDED_IN_ITEMS: Final[Mapping[str, _Needed]] = {
    "ReferencedPatientSequence": _REFERENCE,
    "ReferencedStudySequence": _REFERENCE,
    "IssuerOfAccessionNumberSequence": _ISSUER,
    "IssuerOfAdmissionIDSequence": _ISSUER,
    "IssuerOfServiceEpisodeIDSequence": _ISSUER,
    "ReferringPhysicianIdentificationSequence": _PERSON,
    "ConsultingPhysicianIdentificationSequence": _PERSON,
    "PhysiciansOfRecordIdentificationSequence": _PERSON,
    "PhysiciansReadingStudyIdentificationSequence": _PERSON,
    "OtherPatientIDsSequence": (("PatientID",), ("TypeOfPatientID",)),
    "SourcePatientGroupIdentificationSequence": (("PatientID",),),
    "GroupOfPatientsIdentificationSequence": (("PatientID",),),
}
"""Per sequence what each of its items must have a value of: one of each group of keywords."""


def written(vr: str, value: bytes) -> bytes:
    """The value without NUL padding, which only UIDs have, and without blanks where they are none of the value's (PS3.5 6.2)."""
    if vr in _WITHOUT_BLANKS:
        return value.strip(b" \0")
    bare = value.rstrip(b" \0")
    return bare if vr in TEXT_VRS and b"\0" in value[len(bare) :] else value


def is_whole(sequence: str, present: Collection[str]) -> bool:
    """True where an item of this sequence (keyword), with values of these keywords, has all that it must have; an empty item has not."""
    needed = _CODE if sequence.endswith("CodeSequence") else _NEEDED_IN_ITEMS.get(sequence, ())
    return bool(present) and all(any(keyword in present for keyword in group) for group in needed)


def is_valid(tag: BaseTag, vr: str, value: bytes, sets: CharacterSets | None = None) -> bool:
    """True where a value, without VR that is a sequence, may be written: empty, or as its VR and the standard's terms permit.

    `sets` are the character sets that the data set declares, by default none.
    """
    keyword = keyword_for_tag(tag)
    bare = value.strip(b" \0") if vr in _SIZES else written(vr, value).strip(b" ")
    if keyword in _TERMS and (bare or vr not in TEXT_VRS):
        return bare in _TERMS[keyword]
    if vr in _SIZES:
        return len(value) % _SIZES[vr] == 0 and (len(value) <= _SIZES[vr] or _many(tag))
    if not bare or vr not in TEXT_VRS:
        return True
    if vr == "UI":
        return valid_uid(bare.decode("latin-1"))
    if vr in _MAX_CHARACTERS:
        return _is_text(tag, vr, bare, sets or CharacterSets())
    return _is_code_or_number(tag, vr, bare)


def _is_code_or_number(tag: BaseTag, vr: str, value: bytes) -> bool:
    values = [each.strip(b" ") for each in value.split(b"\\")]
    return (len(values) == 1 or _many(tag)) and all(_has_form(keyword_for_tag(tag), vr, each) for each in values if each)


def _has_form(keyword: str, vr: str, value: bytes) -> bool:
    if not _FORMS[vr].fullmatch(value):
        return False
    if vr == "IS":
        return -(2**31) <= int(value) < 2**31
    return vr not in ("DA", "DT") or _is_day(value[:8], partial=vr == "DT" or keyword == "PatientBirthDate")


def _is_day(text: bytes, *, partial: bool) -> bool:
    """True for a day of the calendar; `partial`: month or day may be absent, or zero as where only the year of a birth is known."""
    year, month, day = int(text[:4]), int(text[4:6] or b"0"), int(text[6:8] or b"0")
    if not year or not (month and day):
        return bool(year) and partial and month <= 12 and not (day and not month)
    return month <= 12 and day <= calendar.monthrange(year, month)[1]


def _is_text(tag: BaseTag, vr: str, value: bytes, sets: CharacterSets) -> bool:
    """True where every value can be read in the declared character sets, is not too long and has no control character."""
    default = vr not in _BY_CHARACTER_SET or not (sets.whole or any(sets.high))
    if default and not value.isascii():
        return False
    if vr not in _BY_CHARACTER_SET and ESCAPE in value:
        return False
    text = decode(value, sets, is_name=vr == "PN")
    values = [text] if vr in _ONE_VALUE else text.split("\\")
    if vr in ("ST", "LT", "UT"):
        values = [values[0].translate(_LINES)]
    return (len(values) == 1 or _many(tag)) and all(_fits(vr, each) for each in values)


def _fits(vr: str, value: str) -> bool:
    longest = _MAX_CHARACTERS[vr]
    groups = value.split("=") if vr == "PN" else [value]
    if any(c < " " or "\x7f" <= c <= "\x9f" or c == "\N{REPLACEMENT CHARACTER}" for c in value):
        return False
    if vr == "PN" and (len(groups) > _MAX_GROUPS or any(group.count("^") >= _MAX_COMPONENTS for group in groups)):
        return False
    return longest is None or all(len(group.strip(" ")) <= longest for group in groups)


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
