"""What a result object takes over from its source, byte for byte: the Patient and Study modules and the character set.

No value is written in another encoding: a name in a character set nobody here knows reaches the PACS as it came, and the result lands
in the right study. Only what the encoding needs is changed: a VR where the source was implicit or wrote UN, padding, the byte order.
What would make the result invalid is left out (source_values.py).

Sources: PS3.3 C.7.1.1 (Patient), C.7.2.1 (General Study), C.7.2.2 (Patient Study),
C.7.1.3 and C.7.2.3 (Clinical Trial), C.12.1.1.2 (Specific Character Set).
"""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from pydicom.datadict import dictionary_description, dictionary_VR, keyword_for_tag
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.tag import BaseTag, Tag

from prioritizer.dicom.read.byte_stream import BufferStream, map_file
from prioritizer.dicom.read.character_sets import CharacterSets
from prioritizer.dicom.read.codecs import CODEC_FAILURES
from prioritizer.dicom.read.elements import character_sets
from prioritizer.dicom.read.header import Header
from prioritizer.dicom.read.pydicom_logging import quietly
from prioritizer.dicom.read.structure import encoded_element, read_header
from prioritizer.dicom.result.copied_values import InvalidValueError, copy_of, element_of, has_value, value_of
from prioritizer.dicom.result.lossy_history import lossy_history
from prioritizer.dicom.result.source_modules import out_of_place, to_be_empty
from prioritizer.dicom.result.source_values import KEPT_AS_SENT, is_zone
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
                timezone=value_of(header, "TimezoneOffsetFromUTC").decode("ascii", "replace"),
                lossy=lossy_history(header, found, len(buffer)),
            )
        except CODEC_FAILURES as error:
            raise Unprocessable("header", "the header of the source image cannot be copied") from error


def _uid(header: Dataset, keyword: str) -> str:
    """A UID that names something; Unprocessable where it is absent, too long or has other characters than digits and dots."""
    text = value_of(header, keyword).decode("latin-1")
    if not valid_uid(text):
        named = dictionary_description(Tag(keyword))
        raise Unprocessable("uid", f"the source image has no valid {named}, so that its result cannot be filed")
    return text


def _read(found: Header) -> Dataset:
    """The wanted elements, put together again as they were encoded, for pydicom to read.

    A sequence that travelled as UN in a big endian file is left out: pydicom reads it in the order of the file, which it is not in.
    """
    alike = (element for _, element in sorted(found.elements.items()) if element.little_endian == found.little_endian)
    content = BytesIO(b"".join(encoded_element(element) for element in alike))
    return read_dataset(content, found.implicit, found.little_endian)


def _copied(header: Dataset, sets: CharacterSets) -> dict[int, bytes]:
    _uid(header, "StudyInstanceUID")
    elements = {int(Tag(keyword)): element_of(Tag(keyword), dictionary_VR(Tag(keyword)), b"") for keyword in MUST_BE_PRESENT}
    for keyword in COPIED:
        if keyword in header and (copy := _copy_or_none(header, Tag(keyword), sets)) is not None:
            elements[int(Tag(keyword))] = copy
    if not is_zone(value_of(header, "TimezoneOffsetFromUTC").decode("ascii", "replace")):
        elements.pop(int(Tag("TimezoneOffsetFromUTC")), None)
    return _in_whole_modules(elements)


def _in_whole_modules(elements: dict[int, bytes]) -> dict[int, bytes]:
    """The elements without those that lack their partner, and with those that must at least be empty."""
    valued = {keyword_for_tag(tag) for tag, copy in elements.items() if has_value(copy)}
    apart = out_of_place(valued)
    kept = {tag: copy for tag, copy in elements.items() if keyword_for_tag(tag) not in apart}
    empty = map(Tag, sorted(to_be_empty(valued - apart)))
    return {int(tag): element_of(tag, dictionary_VR(tag), b"") for tag in empty} | kept


def _copy_or_none(header: Dataset, tag: BaseTag, sets: CharacterSets) -> bytes | None:
    """The element as `copy_of` gives it; None where it is invalid and does not name the patient or the order."""
    if keyword_for_tag(tag) in KEPT_AS_SENT:
        return copy_of(header, tag, sets)
    try:
        return copy_of(header, tag, sets)
    except (InvalidValueError, *CODEC_FAILURES):
        return None
