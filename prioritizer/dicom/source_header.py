"""What a result object takes over from its source, byte for byte: the Patient and Study modules and the character set.

Values are never decoded: a name in a character set nobody here knows, or a date no calendar has, reaches the PACS as it came, and
the result lands in the right study. Only what the encoding needs is added: a VR where the source was implicit, a padding byte, the
other byte order.

Sources: PS3.3 C.7.1.1 (Patient), C.7.2.1 (General Study), C.7.2.2 (Patient Study),
C.7.1.3 and C.7.2.3 (Clinical Trial), C.12.1.1.2 (Specific Character Set).
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from pydicom import uid
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset
from pydicom.tag import BaseTag, Tag

from prioritizer.dicom.byte_stream import BufferStream, map_file
from prioritizer.dicom.codecs import CODEC_FAILURES
from prioritizer.dicom.header import Header
from prioritizer.dicom.quiet import quietly
from prioritizer.dicom.structure import encoded_element, read_header
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
    # Patient
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
    "PatientSpeciesDescription",
    "PatientSpeciesCodeSequence",
    "PatientBreedDescription",
    "PatientBreedCodeSequence",
    "BreedRegistrationSequence",
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
_LOSSY_METHODS = {
    uid.JPEGBaseline8Bit: "ISO_10918_1",
    uid.JPEGExtended12Bit: "ISO_10918_1",
    uid.JPEGLSNearLossless: "ISO_14495_1",
}
"""Syntaxes that are always lossy; JPEG 2000 (ISO_15444_1) is so only where the header says."""


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
    """The header of the DICOM file at `path`; raises Unprocessable."""
    buffer = map_file(path)
    found, _ = read_header(BufferStream(buffer), _WANTED)
    if found.fault is not None:
        raise found.fault
    with quietly():
        try:
            header = _read(found)
            return SourceHeader(
                sop_class_uid=str(header.SOPClassUID),
                sop_instance_uid=str(header.SOPInstanceUID),
                elements=_copied(header),
                timezone=str(header.get("TimezoneOffsetFromUTC", "") or "").strip(),
                lossy=_lossy(header, found, len(buffer)),
            )
        except CODEC_FAILURES as error:
            raise Unprocessable("header", "the header of the source image cannot be copied") from error


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
    """The wanted elements, put together again as they were encoded, for pydicom to read."""
    content = BytesIO(b"".join(encoded_element(found.elements[tag]) for tag in sorted(found.elements)))
    return read_dataset(content, found.implicit, found.little_endian)


def _copied(header: Dataset) -> dict[int, bytes]:
    elements = {int(Tag(keyword)): _element(Tag(keyword), dictionary_VR(Tag(keyword)), b"") for keyword in MUST_BE_PRESENT}
    for keyword in COPIED:
        if keyword in header:
            elements[int(Tag(keyword))] = _copy(header, Tag(keyword))
    if not re.fullmatch(rb"\d{3}[DWMY]|", _value(header, "PatientAge")):
        # Optional, and "62" without a unit makes the whole result invalid: left out rather than corrected.
        elements.pop(int(Tag("PatientAge")), None)
    return elements


def _value(header: Dataset, keyword: str) -> bytes:
    """The raw value without padding, empty where there is none."""
    element = header.get_item(Tag(keyword)) if keyword in header else None
    return element.value.strip(b" \0") if isinstance(element, RawDataElement) and element.value else b""


def _copy(dataset: Dataset, tag: BaseTag) -> bytes:
    """One element of the source; its value untouched, unless its numbers stand in the other byte order."""
    element = dataset.get_item(tag)
    vr = (element.VR if element is not None and element.VR else None) or _vr(tag)
    if vr == "SQ":
        return _element(tag, "SQ", b"".join(_item(item) for item in dataset[tag].value or ()))
    if isinstance(element, RawDataElement):
        value = element.value or b""
        word = 1 if element.is_little_endian else _WORD_BYTES.get(vr, 1)
        return _element(tag, vr, b"".join(value[i : i + word][::-1] for i in range(0, len(value), word)) if word > 1 else value)
    # The reader already converted it (Specific Character Set); pydicom writes what it read.
    return encoded(Dataset({tag: dataset[tag]}))[int(tag)]


def _item(item: Dataset) -> bytes:
    content = b"".join(_copy(item, tag) for tag in sorted(item.keys()))
    return struct.pack("<HHL", 0xFFFE, 0xE000, len(content)) + content


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


def _lossy(header: Dataset, found: Header, size: int) -> tuple[tuple[float, str], ...] | None:
    """What the source says, completed by what its transfer syntax proves."""
    method = _LOSSY_METHODS.get(found.transfer_syntax)
    if str(header.get("LossyImageCompression", "") or "").strip() != "01" and method is None:
        return None
    ratios, methods = _values(header, "LossyImageCompressionRatio"), _values(header, "LossyImageCompressionMethod")
    if ratios and len(ratios) == len(methods):
        return tuple((float(ratio), method) for ratio, method in zip(ratios, methods, strict=True))
    if method is None and found.transfer_syntax in uid.JPEG2000TransferSyntaxes:
        method = "ISO_15444_1"
    if method is None or found.pixel_start is None or found.pixel_length is not None:
        return ()
    plain = int(header.Rows) * int(header.Columns) * (2 if int(header.BitsStored) > 8 else 1)
    return ((round(plain / max(size - found.pixel_start, 1), 2), method),)


def _values(header: Dataset, keyword: str) -> list[str]:
    value = header.get(keyword)
    if value is None or value == "":
        return []
    return [str(value)] if isinstance(value, (str, int, float)) else [str(one) for one in value]
