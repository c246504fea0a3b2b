"""A spooled file to an Instance: the one place where tags are read.

The structure is walked first (`structure`), so pydicom is only shown a header whose nesting, count and sizes are within limits.
Texts are decoded with the file's own Specific Character Set; what cannot be decoded is replaced, never fatal.
"""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Sequence
from datetime import UTC, date, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence as DicomSequence
from pydicom.tag import BaseTag, Tag

from prioritizer.dicom.codecs import CODEC_FAILURES
from prioritizer.dicom.part10 import Receipt, read_receipt, valid_uid
from prioritizer.dicom.structure import Layout, layout_of, map_file
from prioritizer.errors import Unprocessable
from prioritizer.study import Instance, SOPInstanceUID, StudyUID

KEYWORDS = (
    "SpecificCharacterSet", "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "StudyDate", "AccessionNumber",
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "PatientAge", "PatientSpeciesDescription",
    "StudyDescription", "SeriesDescription", "ProtocolName", "AcquisitionDeviceProcessingDescription",
    "Modality", "Manufacturer", "StationName", "ImageType", "PresentationIntentType", "PhotometricInterpretation", "NumberOfFrames",
    "BodyPartExamined", "AnatomicRegionSequence", "ViewPosition", "ViewCodeSequence", "PatientOrientation",
    "StudyPriorityID", "RequestedProcedurePriority", "RequestAttributesSequence", "ContributingEquipmentSequence",
)  # fmt: skip
NO_STUDY = "no-study-uid."
"""Prefix of the study key of an instance that names no study; its SOP Instance UID follows, so that it is listed alone."""
AGE_UNITS = {"Y": 1.0, "M": 1 / 12, "W": 7 / 365.25, "D": 1 / 365.25}
OLDEST = 120.0
CHEST_REGIONS = frozenset({"T-D3000", "51185008", "816094009", "T-28000", "39607008"})
"""Chest and lung in SNOMED RT and CT (PS3.16 CID 4031), whatever language their meaning is written in."""
MANUFACTURER = "prioritizer"
"""What (0018,A001) Contributing Equipment of our own results says."""
MAX_TEXT = 400
"""Characters kept of any text: a file may claim a patient name of a megabyte."""


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def bare_instance(path: Path) -> Instance:
    """What the file meta alone says; for an object whose data set cannot be read."""
    receipt = read_receipt(path)
    return _instance(receipt, path, StudyUID(NO_STUDY + receipt.sop_instance_uid), {})


def read_instance(path: Path) -> Instance:
    """The Instance of a spooled file. Raises Unprocessable with a sentence when its header cannot be read."""
    return _read(path, read_receipt(path))


def arrival_of(path: Path) -> tuple[Instance, str]:
    """What can be read of a spooled file, and why it cannot be scored; empty where nothing stands in the way."""
    try:
        return read_instance(path), ""
    except Unprocessable as error:
        return bare_instance(path), error.reason


def instance_of_file(path: Path) -> Instance:
    """The Instance of any DICOM file, with or without preamble and file meta. Raises Unprocessable."""
    layout = layout_of(map_file(path))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            header = _header(layout)
        except CODEC_FAILURES as error:
            raise Unprocessable("header", "the header cannot be read") from error
        receipt = Receipt(
            sop_class_uid=_text(header, "SOPClassUID"),
            sop_instance_uid=_text(header, "SOPInstanceUID"),
            transfer_syntax_uid=layout.transfer_syntax,
            calling_ae="",
            called_ae="",
            address="",
            received_at=datetime.fromtimestamp(path.stat().st_mtime, UTC),
        )
    return _read(path, receipt)


def _read(path: Path, receipt: Receipt) -> Instance:
    layout = layout_of(map_file(path))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom quotes offending values, and they may be a patient's
        try:
            header = _header(layout)
            values = _values(header, layout)
            study_uid = _text(header, "StudyInstanceUID")
        except CODEC_FAILURES as error:
            raise Unprocessable("header", "the header cannot be read") from error
    if not valid_uid(study_uid):
        study_uid = NO_STUDY + receipt.sop_instance_uid
    return _instance(receipt, path, StudyUID(study_uid), values)


def _instance(receipt: Receipt, path: Path, study_uid: StudyUID, values: dict[str, Any]) -> Instance:
    return Instance(
        sop_instance_uid=SOPInstanceUID(receipt.sop_instance_uid),
        sop_class_uid=receipt.sop_class_uid,
        study_uid=study_uid,
        transfer_syntax_uid=receipt.transfer_syntax_uid,
        calling_ae=receipt.calling_ae,
        called_ae=receipt.called_ae,
        address=receipt.address,
        received_at=receipt.received_at,
        sha256=sha256_of(path),
        size=path.stat().st_size,
        series_uid=values.pop("series_uid", ""),
        **values,
    )


def _header(layout: Layout) -> Dataset:
    tags: list[BaseTag | int] = [Tag(keyword) for keyword in KEYWORDS]
    content = BytesIO(layout.buffer[layout.start : layout.header_end])
    return read_dataset(content, layout.implicit, layout.little_endian, specific_tags=tags)


def _values(header: Dataset, layout: Layout) -> dict[str, Any]:
    birth_date = _text(header, "PatientBirthDate")
    return {
        "series_uid": _text(header, "SeriesInstanceUID")[:64],
        "patient_id": _text(header, "PatientID"),
        "patient_name": _text(header, "PatientName"),
        "patient_birth_date": birth_date,
        "patient_sex": _text(header, "PatientSex")[:16],
        "age_years": age_in_years(_text(header, "PatientAge"), birth_date, _text(header, "StudyDate")),
        "accession_number": _text(header, "AccessionNumber"),
        "study_description": _text(header, "StudyDescription"),
        "series_description": _text(header, "SeriesDescription"),
        "protocol_name": _text(header, "ProtocolName"),
        "processing_description": _text(header, "AcquisitionDeviceProcessingDescription"),
        "modality": _text(header, "Modality")[:16],
        "body_part": _body_part(header)[:64],
        "view_position": _text(header, "ViewPosition")[:16],
        "view_codes": _codes(header),
        "patient_orientation": _texts(header, "PatientOrientation"),
        "image_type": _texts(header, "ImageType"),
        "photometric": _text(header, "PhotometricInterpretation")[:16],
        "presentation_intent": _text(header, "PresentationIntentType")[:16],
        "species": _text(header, "PatientSpeciesDescription"),
        "manufacturer": _text(header, "Manufacturer"),
        "station_name": _text(header, "StationName"),
        "priority": _priority(header),
        "number_of_frames": _frames(header),
        "has_pixels": layout.pixel_start is not None,
        "made_by_us": _made_by_us(header),
    }


def _value(header: Dataset, keyword: str) -> Any:
    """The value of an element, or None when absent or when its own bytes cannot be understood."""
    try:
        return header.get(keyword)
    except CODEC_FAILURES:
        return None


def _texts(header: Dataset, keyword: str) -> tuple[str, ...]:
    """Every value of an element as printable text."""
    value = _value(header, keyword)
    if value is None:
        return ()
    values = value if isinstance(value, (MultiValue, list, tuple)) else [value]
    return tuple(printable(str(one)) for one in values)


def _text(header: Dataset, keyword: str) -> str:
    """The first value of an element as printable text; empty when absent."""
    return next(iter(_texts(header, keyword)), "")


def printable(text: str) -> str:
    """Text without control characters or surrogates, cut to MAX_TEXT."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text[:MAX_TEXT]).strip()


def _items(header: Dataset, keyword: str) -> Sequence[Dataset]:
    value = _value(header, keyword)
    return list(value) if isinstance(value, DicomSequence) else []


def _body_part(header: Dataset) -> str:
    """(0018,0015) Body Part Examined, or else the first (0008,2218) Anatomic Region, which DX requires instead."""
    regions = [
        "CHEST" if _text(item, "CodeValue") in CHEST_REGIONS else _text(item, "CodeMeaning")
        for item in _items(header, "AnatomicRegionSequence")
    ]
    return _text(header, "BodyPartExamined") or next(iter(regions), "")


def _codes(header: Dataset) -> tuple[str, ...]:
    return tuple(_text(item, "CodeValue") for item in _items(header, "ViewCodeSequence"))


def _priority(header: Dataset) -> str:
    """(0040,1003) Requested Procedure Priority, in the request or at the top, or the retired (0032,000C) Study Priority ID."""
    found = [_text(item, "RequestedProcedurePriority") for item in _items(header, "RequestAttributesSequence")]
    found += [_text(header, "RequestedProcedurePriority"), _text(header, "StudyPriorityID")]
    return next((text.upper()[:16] for text in found if text), "")


def _frames(header: Dataset) -> int:
    text = _text(header, "NumberOfFrames")
    return int(text) if re.fullmatch(r"\d{1,9}", text) else 1


def _made_by_us(header: Dataset) -> bool:
    """(0018,A001) Contributing Equipment names prioritizer: one of our own results coming back."""
    return any(_text(item, "Manufacturer") == MANUFACTURER for item in _items(header, "ContributingEquipmentSequence"))


def age_in_years(age: str, birth_date: str, study_date: str) -> float | None:
    """(0010,1010) Patient's Age, or study date less birth date; None when neither can be understood.

    An age without unit is taken as years (26,684 files of one public archive are so); over 120 years is not an age.
    """
    match = re.fullmatch(r"(\d{1,3})([YMWD]?)", age.upper())
    if match:
        years = int(match.group(1)) * AGE_UNITS[match.group(2) or "Y"]
        if 0 <= years <= OLDEST and not (years == 0 and not match.group(2)):
            return years
    born, studied = _date(birth_date), _date(study_date)
    if born is None or studied is None or not 0 <= (studied - born).days <= OLDEST * 365.25:
        return None
    return (studied - born).days / 365.25


def study_date_of(path: Path) -> date | None:
    """(0008,0020) Study Date; None when it is absent or cannot be read."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return _date(_text(_header(layout_of(map_file(path))), "StudyDate"))
        except (*CODEC_FAILURES, Unprocessable, OSError):
            return None


def _date(text: str) -> date | None:
    try:
        return date.fromisoformat(text.replace(".", "")) if re.fullmatch(r"[\d.]{8,10}", text) else None
    except ValueError:
        return None
