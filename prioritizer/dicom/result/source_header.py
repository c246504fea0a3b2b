"""What a result object takes over from its source, byte for byte: the Patient and Study modules and the character set.

No value is written in another encoding: a name in a character set nobody here knows reaches the PACS as it came, and the result lands
in the right study. Only what the encoding needs is changed: a VR where the source was implicit or wrote UN, padding, the byte order.
What would make the result invalid is left out (source_values.py).

Sources: PS3.3 C.7.1.1 (Patient), C.7.2.1 (General Study), C.7.2.2 (Patient Study),
C.7.1.3 and C.7.2.3 (Clinical Trial), C.12.1.1.2 (Specific Character Set).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from pydicom.datadict import dictionary_description, dictionary_VR, keyword_for_tag
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset
from pydicom.tag import BaseTag, Tag

from prioritizer.dicom.read.byte_stream import BufferStream, map_file
from prioritizer.dicom.read.character_sets import CharacterSets, declared
from prioritizer.dicom.read.codecs import CODEC_FAILURES
from prioritizer.dicom.read.elements import character_sets
from prioritizer.dicom.read.header import Header
from prioritizer.dicom.read.quiet import quietly
from prioritizer.dicom.read.structure import encoded_element, read_header
from prioritizer.dicom.result.lossy_history import lossy_history
from prioritizer.dicom.result.source_modules import out_of_place, to_be_empty
from prioritizer.dicom.result.source_values import KEPT_AS_SENT, TEXT_VRS, is_valid, is_whole, is_zone, written
from prioritizer.dicom.spool.part10 import valid_uid
from prioritizer.errors import Unprocessable

MUST_BE_PRESENT = (
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "ReferringPhysicianName",
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyInstanceUID",
    "StudyID",
)
"""Type 1 and 2 of the two modules: written empty where the source lacks them."""

COPIED = (
    *MUST_BE_PRESENT,
    "SpecificCharacterSet",
    "TimezoneOffsetFromUTC",
    # Patient; not species and breed: only people are scored, and for them they are not required.
    "ReferencedPatientSequence",
    "IssuerOfPatientID",
    "TypeOfPatientID",
    "IssuerOfPatientIDQualifiersSequence",
    "SourcePatientGroupIdentificationSequence",
    "GroupOfPatientsIdentificationSequence",
    "PatientBirthTime",
    "PatientBirthDateInAlternativeCalendar",
    "PatientDeathDateInAlternativeCalendar",
    "PatientAlternativeCalendar",
    "QualityControlSubject",
    "OtherPatientIDs",
    "OtherPatientNames",
    "OtherPatientIDsSequence",
    "EthnicGroup",
    "EthnicGroupCodeSequence",
    "ResponsiblePerson",
    "ResponsiblePersonRole",
    "ResponsibleOrganization",
    "PatientComments",
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "DeidentificationMethodCodeSequence",
    # General Study
    "IssuerOfAccessionNumberSequence",
    "ReferringPhysicianIdentificationSequence",
    "ConsultingPhysicianName",
    "ConsultingPhysicianIdentificationSequence",
    "StudyDescription",
    "ProcedureCodeSequence",
    "PhysiciansOfRecord",
    "PhysiciansOfRecordIdentificationSequence",
    "NameOfPhysiciansReadingStudy",
    "PhysiciansReadingStudyIdentificationSequence",
    "ReferencedStudySequence",
    "RequestingService",
    "RequestingServiceCodeSequence",
    "ReasonForPerformedProcedureCodeSequence",
    # Patient Study
    "AdmittingDiagnosesDescription",
    "AdmittingDiagnosesCodeSequence",
    "PatientAge",
    "PatientSize",
    "PatientSizeCodeSequence",
    "PatientBodyMassIndex",
    "MeasuredAPDimension",
    "MeasuredLateralDimension",
    "PatientWeight",
    "MedicalAlerts",
    "Allergies",
    "Occupation",
    "SmokingStatus",
    "AdditionalPatientHistory",
    "PregnancyStatus",
    "LastMenstrualDate",
    "PatientSexNeutered",
    "ReasonForVisit",
    "ReasonForVisitCodeSequence",
    "AdmissionID",
    "IssuerOfAdmissionIDSequence",
    "ServiceEpisodeID",
    "ServiceEpisodeDescription",
    "IssuerOfServiceEpisodeIDSequence",
    "PatientState",
    # Clinical Trial Subject and Study
    "ClinicalTrialSponsorName",
    "ClinicalTrialProtocolID",
    "ClinicalTrialProtocolName",
    "ClinicalTrialSiteID",
    "ClinicalTrialSiteName",
    "ClinicalTrialSubjectID",
    "ClinicalTrialSubjectReadingID",
    "ClinicalTrialTimePointID",
    "ClinicalTrialTimePointDescription",
)

_READ_ONLY = (
    "SOPClassUID",
    "SOPInstanceUID",
    "Rows",
    "Columns",
    "BitsStored",
    "LossyImageCompression",
    "LossyImageCompressionRatio",
    "LossyImageCompressionMethod",
)
_WANTED = frozenset(int(Tag(keyword)) for keyword in COPIED + _READ_ONLY)
_LONG_VRS = frozenset(("OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"))
_WORD_BYTES = {"US": 2, "SS": 2, "AT": 2, "OW": 2, "UL": 4, "SL": 4, "FL": 4, "OF": 4, "OL": 4, "FD": 8, "OD": 8, "SV": 8, "UV": 8}


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceHeader:
    """The part of a source instance that its result repeats or refers to."""

    sop_class_uid: str
    sop_instance_uid: str
    elements: dict[int, bytes]
    """Tag to whole encoded element, Explicit VR Little Endian."""
    timezone: str
    """(0008,0201) Timezone Offset From UTC, empty where not stated."""
    lossy: tuple[tuple[float, str], ...] | None
    """Ratio and method of each lossy compression the source went through; empty where it does not say, None where lossless."""


def read_source(path: Path) -> SourceHeader:
    """The header of the DICOM file at `path`; raises Unprocessable, also where a result would belong to no study or to no image."""
    buffer = map_file(path)
    found, _ = read_header(BufferStream(buffer), _WANTED)
    if found.fault is not None:
        raise found.fault
    with quietly():
        try:
            header = _read(found)
            return SourceHeader(
                sop_class_uid=_uid(header, "SOPClassUID"),
                sop_instance_uid=_uid(header, "SOPInstanceUID"),
                elements=_copied(header, character_sets(found.elements)),
                timezone=_value(header, "TimezoneOffsetFromUTC").decode("ascii", "replace"),
                lossy=lossy_history(header, found, len(buffer)),
            )
        except CODEC_FAILURES as error:
            raise Unprocessable("header", "the header of the source image cannot be copied") from error


def _uid(header: Dataset, keyword: str) -> str:
    """A UID that names something; Unprocessable where it is absent, too long or has other characters than digits and dots."""
    text = _value(header, keyword).decode("latin-1")
    if not valid_uid(text):
        named = dictionary_description(Tag(keyword))
        raise Unprocessable("uid", f"the source image has no valid {named}, so that its result cannot be filed")
    return text


def encoded(dataset: Dataset) -> dict[int, bytes]:
    """Each element of a data set of ours, encoded as Explicit VR Little Endian."""
    elements = {}
    for element in dataset:
        buffer = DicomBytesIO()
        buffer.is_implicit_VR, buffer.is_little_endian = False, True
        write_dataset(buffer, Dataset({element.tag: element}))
        elements[int(element.tag)] = buffer.getvalue()
    return elements


def _read(found: Header) -> Dataset:
    """The wanted elements, put together again as they were encoded, for pydicom to read.

    A sequence that travelled as UN in a big endian file is left out: pydicom reads it in the order of the file, which it is not in.
    """
    alike = (element for _, element in sorted(found.elements.items()) if element.little_endian == found.little_endian)
    content = BytesIO(b"".join(encoded_element(element) for element in alike))
    return read_dataset(content, found.implicit, found.little_endian)


def _copied(header: Dataset, sets: CharacterSets) -> dict[int, bytes]:
    _uid(header, "StudyInstanceUID")
    elements = {int(Tag(keyword)): _element(Tag(keyword), dictionary_VR(Tag(keyword)), b"") for keyword in MUST_BE_PRESENT}
    for keyword in COPIED:
        if keyword in header and (copy := _copy_or_none(header, Tag(keyword), sets)) is not None:
            elements[int(Tag(keyword))] = copy
    if not is_zone(_value(header, "TimezoneOffsetFromUTC").decode("ascii", "replace")):
        elements.pop(int(Tag("TimezoneOffsetFromUTC")), None)
    return _in_whole_modules(elements)


def _in_whole_modules(elements: dict[int, bytes]) -> dict[int, bytes]:
    """The elements without those that lack their partner, and with those that must at least be empty."""
    valued = {keyword_for_tag(tag) for tag, copy in elements.items() if _has_value(copy)}
    apart = out_of_place(valued)
    kept = {tag: copy for tag, copy in elements.items() if keyword_for_tag(tag) not in apart}
    empty = map(Tag, sorted(to_be_empty(valued - apart)))
    return {int(tag): _element(tag, dictionary_VR(tag), b"") for tag in empty} | kept


def _copy_or_none(header: Dataset, tag: BaseTag, sets: CharacterSets) -> bytes | None:
    """The element as `_copy` gives it; None where it is invalid and does not name the patient or the order."""
    if keyword_for_tag(tag) in KEPT_AS_SENT:
        return _copy(header, tag, sets)
    try:
        return _copy(header, tag, sets)
    except (_InvalidError, *CODEC_FAILURES):
        return None


class _InvalidError(Exception):
    """The value must not stand in a result."""


def _value(header: Dataset, keyword: str) -> bytes:
    """The raw value without padding, empty where there is none."""
    element = header.get_item(Tag(keyword)) if keyword in header else None
    return element.value.strip(b" \0") if isinstance(element, RawDataElement) and element.value else b""


def _copy(dataset: Dataset, tag: BaseTag, sets: CharacterSets, *, in_item: bool = False) -> bytes:
    """One element of the source; of its value only padding and byte order may change. Raises _InvalidError."""
    element, keyword = dataset.get_item(tag), keyword_for_tag(tag)
    kept = keyword in KEPT_AS_SENT and not in_item
    vr = _vr_to_write(tag, element.VR if element is not None else None, kept=kept)
    if vr == "SQ":
        items = b"".join(_item(keyword, item, sets) for item in dataset[tag].value or ())
        if not items:
            raise _InvalidError
        return _element(tag, "SQ", items)
    if isinstance(element, RawDataElement):
        value = element.value or b""
        word = 1 if element.is_little_endian else _WORD_BYTES.get(vr, 1)
        value = b"".join(value[i : i + word][::-1] for i in range(0, len(value), word)) if word > 1 else value
        if not kept and not is_valid(tag, vr, value, sets):
            raise _InvalidError
        return _element(tag, vr, written(vr, value))
    # The reader already converted it (Specific Character Set); pydicom writes what it read.
    return encoded(Dataset({tag: dataset[tag]}))[int(tag)]


def _vr_to_write(tag: BaseTag, given: str | None, *, kept: bool) -> str:
    """The VR of an element in a result: the standard's for text, whatever the source wrote. Raises _InvalidError."""
    standard = _vr(tag)
    if not given or given == standard or (given == "UN" and standard != "SQ"):
        return standard
    if standard in TEXT_VRS and (given in TEXT_VRS or kept):
        return standard
    if standard == "UN" or given == "UN":
        return given
    # Numbers where text belongs, or the other way round: the bytes mean nothing to anybody.
    raise _InvalidError


def _item(sequence: str, item: Dataset, sets: CharacterSets) -> bytes:
    """One item of the sequence with this keyword. Raises _InvalidError where one of its values is invalid or a required one is absent."""
    # An item may declare character sets of its own.
    terms = item.get("SpecificCharacterSet") if "SpecificCharacterSet" in item else None
    sets = declared([str(term) for term in ([terms] if isinstance(terms, str) else terms)]) if terms else sets
    copies = {tag: _copy(item, tag, sets, in_item=True) for tag in sorted(item.keys())}
    if not is_whole(sequence, {keyword_for_tag(tag) for tag, copy in copies.items() if _has_value(copy)}):
        raise _InvalidError
    content = b"".join(copies.values())
    return struct.pack("<HHL", 0xFFFE, 0xE000, len(content)) + content


def _has_value(copy: bytes) -> bool:
    """True for an encoded element of which more is there than padding."""
    return bool(copy[12 if copy[4:6].decode("ascii") in _LONG_VRS else 8 :].strip(b" \0"))


def _vr(tag: BaseTag) -> str:
    """The VR of an element that came without one; UN where the dictionary leaves it open or does not know it."""
    try:
        vr = dictionary_VR(tag)
    except KeyError:
        return "UN"
    return vr if len(vr) == 2 else "UN"


def _element(tag: BaseTag, vr: str, value: bytes) -> bytes:
    """One element, Explicit VR Little Endian (PS3.5 7.1.2), padded to even length."""
    value += (b"\0" if vr in ("UI", "UN", "OB") else b" ") * (len(value) % 2)
    if vr not in _LONG_VRS and len(value) > 0xFFFE:
        # PS3.5 6.2.2 note 3: a value too long for its VR's short form travels as UN.
        vr = "UN"
    head = struct.pack("<HH2s", tag.group, tag.element, vr.encode("ascii"))
    return head + (struct.pack("<HL", 0, len(value)) if vr in _LONG_VRS else struct.pack("<H", len(value))) + value
