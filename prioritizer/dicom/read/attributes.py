"""A spooled file to an Instance: the one place where tags are read.

The header is read under limits (`structure`) and every element is understood alone (`elements`): an odd one is only itself empty, and a
fault of the structure does not lose what stood before it. Texts are decoded with the file's own Specific Character Set.
"""

from __future__ import annotations

import hashlib
import struct
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from pydicom.uid import DeflatedExplicitVRLittleEndian, SecondaryCaptureImageStorage

from prioritizer.dicom.read.ages import AGE_DATES, age_by_dates, age_in_years, day_of, stated_age
from prioritizer.dicom.read.byte_stream import FileStream
from prioritizer.dicom.read.character_sets import CharacterSets
from prioritizer.dicom.read.decode import RENDERING_TAGS, rendering_of
from prioritizer.dicom.read.elements import Elements, character_sets, printable, tag_of, tags_of, text, texts, whole
from prioritizer.dicom.read.header import Header
from prioritizer.dicom.read.structure import items_of, read_header
from prioritizer.dicom.spool.part10 import Receipt, read_receipt, valid_uid
from prioritizer.errors import Unprocessable
from prioritizer.scope.stated_view import judged_view_code, no_body_part
from prioritizer.study import NO_STUDY, STAT_PRIORITIES, Instance, SOPInstanceUID, StudyUID

WANTED = RENDERING_TAGS | tags_of(
    "SpecificCharacterSet", "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "AccessionNumber",
    "StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate", "AcquisitionDateTime",
    "PatientName", "PatientID", "IssuerOfPatientID", "IssuerOfPatientIDQualifiersSequence", "PatientBirthDate", "PatientSex", "PatientAge",
    "PatientSpeciesDescription", "PatientSpeciesCodeSequence", "PatientBreedDescription", "PatientBreedCodeSequence",
    "AnatomicalOrientationType",
    "StudyDescription", "SeriesDescription", "ProtocolName", "AcquisitionDeviceProcessingDescription", "DerivationDescription",
    "Modality", "Manufacturer", "StationName", "ImageType", "PresentationIntentType", "PhotometricInterpretation", "NumberOfFrames",
    "BodyPartExamined", "AnatomicRegionSequence", "ViewPosition", "ViewCodeSequence", "PatientOrientation",
    "StudyPriorityID", "RequestedProcedurePriority", "RequestAttributesSequence", "ContributingEquipmentSequence",
)  # fmt: skip
CHEST_REGIONS = frozenset({"T-D3000", "51185008", "816094009", "T-28000", "39607008", "43799004"})
"""Chest, thorax and lung in SNOMED RT and CT (PS3.16 CID 4031), whatever language their meaning is written in."""
HUMAN_CODES = frozenset({"337915000", "L-85B00"})
"""Homo sapiens in SNOMED CT and RT (PS3.16 CID 7454), whatever language its meaning is written in."""
A_READ = 1 << 20
MANUFACTURER = "prioritizer"
"""What (0018,A001) Contributing Equipment of our own results says."""


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def arrival_of(path: Path) -> tuple[Instance, str]:
    """The Instance of a spooled file with all that can be read of it, and why it cannot be scored; empty where it can.

    Raises only ValueError, where the receipt itself is gone, and OSError of the disk.
    """
    receipt = _receipt(path)
    header = _header(path)
    return _instance(receipt, path, header), "" if header.fault is None else header.fault.reason


def bare_instance(path: Path) -> Instance:
    """What the file meta alone says. Raises ValueError where that is gone."""
    return _instance(_receipt(path), path, Header(fault=Unprocessable("malformed", "the header was not read")))


def read_instance(path: Path) -> Instance:
    """The Instance of a spooled file. Raises Unprocessable with a sentence when its header cannot be read to the end."""
    receipt, header = _receipt(path), _header(path)
    if header.fault is not None:
        raise header.fault
    return _instance(receipt, path, header)


def instance_of_file(path: Path) -> Instance:
    """The Instance of any DICOM file, with or without preamble and file meta. Raises Unprocessable."""
    try:
        header = _header(path)
    except OSError as error:
        raise Unprocessable("unreadable", "the file cannot be opened") from error
    if header.fault is not None:
        raise header.fault
    receipt = Receipt(
        sop_class_uid=text(header.elements, "SOPClassUID", CharacterSets()),
        sop_instance_uid=text(header.elements, "SOPInstanceUID", CharacterSets()),
        transfer_syntax_uid=header.transfer_syntax,
        calling_ae="",
        called_ae="",
        address="",
        received_at=datetime.fromtimestamp(path.stat().st_mtime, UTC),
    )
    return _instance(receipt, path, header)


def _receipt(path: Path) -> Receipt:
    try:
        return read_receipt(path)
    except (struct.error, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ValueError("the file meta information is damaged") from error


def _header(path: Path) -> Header:
    with path.open("rb") as file:
        return read_header(FileStream(file), WANTED)[0]


def _instance(receipt: Receipt, path: Path, header: Header) -> Instance:
    values = _values(header, receipt.sop_class_uid, receipt.received_at)
    study_uid = values.pop("study_uid")
    whole, pixels, size = _digests(path, header)
    return Instance(
        sop_instance_uid=SOPInstanceUID(receipt.sop_instance_uid),
        sop_class_uid=receipt.sop_class_uid,
        study_uid=StudyUID(study_uid if valid_uid(study_uid) else NO_STUDY + receipt.sop_instance_uid),
        transfer_syntax_uid=receipt.transfer_syntax_uid,
        calling_ae=receipt.calling_ae,
        called_ae=receipt.called_ae,
        address=receipt.address,
        received_at=receipt.received_at,
        sha256=whole,
        image_sha256=pixels,
        size=size,
        **values,
    )


def _digests(path: Path, header: Header) -> tuple[str, str, int]:
    """Hex SHA-256 of the whole file and of what its image is drawn from, in one pass, and the size in bytes."""
    deflated = header.transfer_syntax == DeflatedExplicitVRLittleEndian
    start = None if deflated or header.fault is not None else header.pixel_start
    end = None if start is None or header.pixel_length is None else start + header.pixel_length
    whole, pixels, at = hashlib.sha256(), hashlib.sha256(), 0
    for tag in sorted(RENDERING_TAGS & header.elements.keys()):
        value = header.elements[tag].value
        pixels.update(struct.pack("<LQ", tag, len(value)) + value)
    with path.open("rb") as file:
        while part := file.read(A_READ):
            whole.update(part)
            if start is not None:
                pixels.update(memoryview(part)[max(start - at, 0) : None if end is None else max(end - at, 0)])
            at += len(part)
    return whole.hexdigest(), pixels.hexdigest() if start is not None else "", at


def _values(header: Header, sop_class: str, received_at: datetime) -> dict[str, Any]:
    elements, sets = header.elements, character_sets(header.elements)
    region = _region(elements, sets)[:64]

    def first(keyword: str, length: int | None = None) -> str:
        return text(elements, keyword, sets)[:length]

    return {
        "study_uid": first("StudyInstanceUID"),
        "series_uid": first("SeriesInstanceUID", 64),
        "patient_id": first("PatientID"),
        "issuer_of_patient_id": first("IssuerOfPatientID") or _issuer(elements, sets),
        "patient_name": first("PatientName"),
        "patient_birth_date": first("PatientBirthDate"),
        "patient_sex": first("PatientSex", 16),
        **_ages(elements, received_at),
        "accession_number": first("AccessionNumber"),
        "study_description": first("StudyDescription"),
        "series_description": first("SeriesDescription"),
        "protocol_name": first("ProtocolName"),
        "processing_description": first("AcquisitionDeviceProcessingDescription"),
        "derivation_description": first("DerivationDescription"),
        "modality": first("Modality", 16),
        "body_part": first("BodyPartExamined", 64) or region,
        "anatomic_region": region,
        "view_position": first("ViewPosition", 32),
        "view_codes": _view_codes(elements),
        "patient_orientation": texts(elements, "PatientOrientation", sets),
        "image_type": texts(elements, "ImageType", sets),
        "photometric": first("PhotometricInterpretation", 16),
        "presentation_intent": first("PresentationIntentType", 16),
        "species": _species(elements, sets),
        "manufacturer": first("Manufacturer"),
        "station_name": first("StationName"),
        "priority": _priority(elements, sets),
        "number_of_frames": max(whole(elements, "NumberOfFrames") or 1, 1),
        "has_pixels": header.pixel_start is not None or header.fault is not None,
        "made_by_us": sop_class == SecondaryCaptureImageStorage and _made_by_us(elements, sets),
        "rendering_warnings": _rendering_warnings(header),
    }


def _rendering_warnings(header: Header) -> tuple[str, ...]:
    """What is passed over or put right when the image is drawn; empty where it cannot be, which scoring says."""
    if header.pixel_start is None or header.fault is not None:
        return ()
    try:
        return rendering_of(header).warnings
    except Unprocessable:
        return ()


def _items(elements: Elements, keyword: str, *inside: str) -> list[Elements]:
    return list(items_of(elements.get(tag_of(keyword)), tags_of(*inside)))


def _issuer(elements: Elements, sets: CharacterSets) -> str:
    """(0040,0032) Universal Entity ID of the issuer's qualifiers, for devices that give no name."""
    items = _items(elements, "IssuerOfPatientIDQualifiersSequence", "UniversalEntityID")
    return next((found for item in items if (found := text(item, "UniversalEntityID", sets))), "")


def _region(elements: Elements, sets: CharacterSets) -> str:
    """The first (0008,2218) Anatomic Region, which DX requires instead of a body part; CHEST in any language."""
    for item in _items(elements, "AnatomicRegionSequence", "CodeValue", "CodeMeaning"):
        return "CHEST" if text(item, "CodeValue", sets) in CHEST_REGIONS else text(item, "CodeMeaning", sets)
    return ""


def _view_codes(elements: Elements) -> tuple[str, ...]:
    items = _items(elements, "ViewCodeSequence", "CodeValue", "CodingSchemeDesignator")
    stated = ((text(item, "CodeValue", CharacterSets()), text(item, "CodingSchemeDesignator", CharacterSets())) for item in items)
    return tuple(code for value, scheme in stated if (code := judged_view_code(value, scheme)))


def _species(elements: Elements, sets: CharacterSets) -> str:
    """HUMAN by (0010,2202) Patient Species Code; else (0010,2201) Patient Species Description or the meaning of the code.

    First counts what only an animal has: QUADRUPED by (0010,2210) Anatomical Orientation Type, or its breed.
    """
    if text(elements, "AnatomicalOrientationType", sets).upper() == "QUADRUPED":
        return "QUADRUPED"
    coded = _items(elements, "PatientBreedCodeSequence", "CodeValue", "CodeMeaning")
    breeds = [text(elements, "PatientBreedDescription", sets)]
    breeds += [text(item, "CodeMeaning", sets) or text(item, "CodeValue", sets) for item in coded]
    if breed := next((breed for breed in breeds if not no_body_part(breed)), ""):
        return f"breed {breed}"
    stated = text(elements, "PatientSpeciesDescription", sets)
    for item in _items(elements, "PatientSpeciesCodeSequence", "CodeValue", "CodeMeaning"):
        code, meaning = text(item, "CodeValue", sets), text(item, "CodeMeaning", sets)
        if code:
            return "HUMAN" if code in HUMAN_CODES else f"code {code}"
        stated = stated or meaning
    return stated


def _priority(elements: Elements, sets: CharacterSets) -> str:
    """The most urgent (0040,1003) Requested Procedure Priority of all orders, or the retired (0032,000C) Study Priority ID."""
    found = [
        value
        for item in _items(elements, "RequestAttributesSequence", "RequestedProcedurePriority")
        for value in texts(item, "RequestedProcedurePriority", sets)
    ]
    found += [value for keyword in ("RequestedProcedurePriority", "StudyPriorityID") for value in texts(elements, keyword, sets)]
    stated = [value.upper()[:16] for value in found if value]
    return next((value for value in stated if value in STAT_PRIORITIES), next(iter(stated), ""))


def _made_by_us(elements: Elements, sets: CharacterSets) -> bool:
    """(0018,A001) Contributing Equipment names prioritizer: one of our own results coming back."""
    items = _items(elements, "ContributingEquipmentSequence", "Manufacturer")
    return any(text(item, "Manufacturer", sets) == MANUFACTURER for item in items)


def _ages(elements: Elements, received_at: datetime) -> dict[str, float | None]:
    """The age that counts, and both of what it was taken from: the rules look whether they agree.

    Where no date is stated, an age of zero is held against the day of arrival: it is the default of many devices.
    """
    age, birth_date = (text(elements, keyword, CharacterSets()) for keyword in ("PatientAge", "PatientBirthDate"))
    dates = [text(elements, keyword, CharacterSets())[:10] for keyword in AGE_DATES]
    arrived = f"{received_at:%Y%m%d}" if stated_age(age) == 0 else ""
    taken = next((found for found in dates if day_of(found) is not None), arrived)
    return {
        "age_years": age_in_years(age, birth_date, taken),
        "age_stated": stated_age(age),
        "age_by_dates": age_by_dates(birth_date, taken),
    }


def study_date_of(path: Path) -> date | None:
    """(0008,0020) Study Date; None when it is absent or cannot be read."""
    try:
        return day_of(text(_header(path).elements, "StudyDate", CharacterSets()))
    except OSError:
        return None


__all__ = [
    "WANTED", "age_by_dates", "age_in_years", "arrival_of", "bare_instance", "instance_of_file", "printable",
    "read_instance", "sha256_of", "stated_age", "study_date_of",
]  # fmt: skip
