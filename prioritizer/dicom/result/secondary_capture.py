"""Radiograph, saliency and facts to the Secondary Capture that goes back to the PACS.

The object is a pure function of its inputs: no clock, no random UID. Its SOP Instance UID is drawn from the bytes of everything
else in it, so the same result is the same object however often it is built, and any change of content is another object.

Sources: PS3.3 A.8.1 (Secondary Capture Image IOD), C.8.6.1 and C.8.6.2 (SC Equipment, SC Image), C.7.6.1 (General Image),
C.7.6.1.1.5 (Lossy Image Compression), C.12.1 (SOP Common, Contributing Equipment); PS3.5 B.2 (UIDs from UUIDs).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Final, Literal

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import UID, ExplicitVRLittleEndian, JPEGBaseline8Bit, SecondaryCaptureImageStorage

from prioritizer.dicom.read.pydicom_logging import quietly
from prioritizer.dicom.result.copied_values import encoded
from prioritizer.dicom.result.result_uid import result_uid
from prioritizer.dicom.result.source_header import SourceHeader, read_source
from prioritizer.dicom.result.source_values import is_zone
from prioritizer.dicom.standard.contexts import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from prioritizer.imaging.heatmap import CAVEAT, NOT_FOR_DIAGNOSIS, overlay_picture

TEMPLATE_REVISION: Final = "2"
"""Raised whenever the layout of the picture or the set of attributes changes."""
SERIES_NUMBER: Final = 9901
"""Far above what modalities number, so that the result sorts behind the films it belongs to."""
JPEG_QUALITY: Final = 90
MANUFACTURER: Final = "prioritizer"
MODEL: Final = "prioritizer chest radiograph triage"

Kind = Literal["preview", "heatmap"]
Encoding = Literal["jpeg", "native"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureFacts:
    """What is said about a scored instance, in the picture and in the header."""

    site: str
    study_uid: str
    kind: str
    """`heatmap`, or `preview`: the radiograph with words only."""
    band: str
    """The mark in words, as the worklist shows it."""
    bundle_id: str
    bundle_digest: str
    calibration_id: str
    activation: int = 0
    """How often the calibration had been changed before this score: a calibration that is active again makes another object."""
    scale: float
    """Contribution to the logit that is drawn strongest: the bundle's, never the picture's."""
    software_version: str
    content_time: datetime
    """When the source image was received, on the site's clock, aware: the only time this object states of its own. It does not depend
    on when the object is built, so that one that is built again is the same."""
    encoding: str = "jpeg"
    """`jpeg` (baseline, about a twentieth of the size) or `native` for destinations that accept nothing else."""
    device_uid: str = ""
    """Empty: one is derived from the site's name."""
    padded: bool = False
    """The saliency covers the square the picture was padded to, as the bundle's card says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureObject:
    """A finished result object; `data` is the whole Part 10 file."""

    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    data: bytes


def build(source_path: Path, picture: NDArray[np.uint8], saliency: NDArray[np.float32] | None, facts: CaptureFacts) -> CaptureObject:
    """The Secondary Capture of one scored instance; the same arguments give the same bytes. Raises Unprocessable.

    `picture` is uint8 (rows, columns) as `pixels.display_picture` draws it, `saliency` float32 (h, w) in logit units or None.
    """
    source = read_source(source_path)
    heatmap = saliency if facts.kind == "heatmap" else None
    drawn = overlay_picture(picture, heatmap, facts.scale, _lines(facts, heatmap=heatmap is not None), padded=facts.padded)
    syntax = JPEGBaseline8Bit if facts.encoding == "jpeg" else ExplicitVRLittleEndian
    with quietly():
        # A source with an invalid UID is referred to as it is.
        elements = encoded(_zone(facts)) | source.elements | encoded(_series(facts)) | encoded(_image(source, facts))
        elements |= _pixels(drawn, source, syntax)
    uid = result_uid(*_identity(source, facts), hashlib.sha256(_joined(elements)).hexdigest())
    elements |= encoded(_dataset(SOPInstanceUID=UID(uid)))
    return CaptureObject(
        sop_instance_uid=uid,
        sop_class_uid=SecondaryCaptureImageStorage,
        transfer_syntax_uid=syntax,
        data=file_head(uid, syntax) + _joined(elements),
    )


def _identity(source: SourceHeader, facts: CaptureFacts) -> tuple[str, ...]:
    """What names a result apart from its content (DESIGN invariant 5)."""
    return (
        facts.site,
        facts.kind,
        facts.study_uid,
        source.sop_instance_uid,
        facts.bundle_digest,
        facts.calibration_id,
        *([f"activation {facts.activation}"] if facts.activation else []),
        TEMPLATE_REVISION,
    )


def calibration_words(facts: CaptureFacts) -> str:
    """The calibration's name, and which activation of it when it was not the first that the bundle had."""
    return facts.calibration_id + (f", activation {facts.activation}" if facts.activation else "")


def _lines(facts: CaptureFacts, *, heatmap: bool) -> list[str]:
    """The words in the picture; no patient data, and nothing that could be read as a finding."""
    return [
        NOT_FOR_DIAGNOSIS,
        f"Triage mark: {facts.band}",
        f"Bundle {facts.bundle_id} ({facts.bundle_digest.removeprefix('sha256:')[:12]})",
        f"Calibration {calibration_words(facts)}",
        *([CAVEAT] if heatmap else []),
    ]


def _dataset(**attributes: object) -> Dataset:
    dataset = Dataset()
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return dataset


def _code(value: str, meaning: str) -> Dataset:
    return _dataset(CodeValue=value, CodingSchemeDesignator="DCM", CodeMeaning=meaning)


def _series(facts: CaptureFacts) -> Dataset:
    """General Series, General Equipment, SC Equipment and Contributing Equipment."""
    device = facts.device_uid or result_uid("device", facts.site)
    equipment = _dataset(
        PurposeOfReferenceCodeSequence=[_code("109102", "Processing Equipment")],
        Manufacturer=MANUFACTURER,
        ManufacturerModelName=MODEL,
        SoftwareVersions=_ascii(facts.software_version, 64),
        DeviceUID=UID(device),
        ContributionDescription=_ascii(
            f"Pneumonia triage, not for diagnosis. Bundle {facts.bundle_id}, calibration {calibration_words(facts)}", 1024
        ),
    )
    return _dataset(
        Modality="OT",
        SeriesInstanceUID=UID(result_uid("series", facts.site, facts.kind, facts.study_uid)),
        SeriesNumber=SERIES_NUMBER,
        SeriesDescription=f"AI triage {'heat map' if facts.kind == 'heatmap' else 'preview'} - not for diagnosis",
        Manufacturer=MANUFACTURER,
        ManufacturerModelName=MODEL,
        SoftwareVersions=_ascii(facts.software_version, 64),
        DeviceUID=UID(device),
        # Type 2C: nobody tells a daemon whether a chest is a paired body part; empty says so.
        Laterality="",
        ConversionType="WSD",
        ContributingEquipmentSequence=[equipment],
    )


def _image(source: SourceHeader, facts: CaptureFacts) -> Dataset:
    """SOP Common and General Image; the instance number 1 and the time of receipt are all it says about itself."""
    moment = _in_zone(facts.content_time, source.timezone)
    reference = _dataset(
        ReferencedSOPClassUID=UID(source.sop_class_uid),
        ReferencedSOPInstanceUID=UID(source.sop_instance_uid),
        PurposeOfReferenceCodeSequence=[_code("121322", "Source image for image processing operation")],
    )
    return _dataset(
        SOPClassUID=SecondaryCaptureImageStorage,
        InstanceCreationDate=moment.strftime("%Y%m%d"),
        InstanceCreationTime=moment.strftime("%H%M%S"),
        ContentDate=moment.strftime("%Y%m%d"),
        ContentTime=moment.strftime("%H%M%S"),
        InstanceNumber=1,
        PatientOrientation="",
        ImageType=["DERIVED", "SECONDARY", "OTHER"],
        BurnedInAnnotation="YES",
        DerivationDescription=_derivation(facts),
        SourceImageSequence=[reference],
    )


def _derivation(facts: CaptureFacts) -> str:
    """(0008,2111) Derivation Description."""
    drawn = f"contributions to the pneumonia logit in amber, strongest at {facts.scale:.3g}; " if facts.kind == "heatmap" else ""
    return _ascii(
        f"Windowed and resized radiograph, {drawn}legend burned in below. Mark: {facts.band}. Bundle {facts.bundle_id} "
        f"{facts.bundle_digest}, calibration {calibration_words(facts)}, template {TEMPLATE_REVISION}. {NOT_FOR_DIAGNOSIS}.",
        1024,
    )


def _pixels(drawn: NDArray[np.uint8], source: SourceHeader, syntax: UID) -> dict[int, bytes]:
    """Image Pixel with the honest account of every lossy step on the way."""
    rows, columns = drawn.shape[:2]
    lossy = None if source.lossy is None else list(source.lossy)
    if syntax == JPEGBaseline8Bit:
        frame = simplejpeg.encode_jpeg(np.ascontiguousarray(drawn), quality=JPEG_QUALITY, colorspace="RGB", colorsubsampling="422")
        pixels, vr = encapsulate([frame], has_bot=True), "OB"
        lossy = [*(lossy or []), (round(drawn.nbytes / len(frame), 2), "ISO_10918_1")]
    else:
        pixels, vr = drawn.tobytes() + b"\0" * (drawn.nbytes % 2), "OB"
    dataset = _dataset(
        SamplesPerPixel=3,
        PhotometricInterpretation="YBR_FULL_422" if syntax == JPEGBaseline8Bit else "RGB",
        PlanarConfiguration=0,
        Rows=rows,
        Columns=columns,
        BitsAllocated=8,
        BitsStored=8,
        HighBit=7,
        PixelRepresentation=0,
        LossyImageCompression="00" if lossy is None else "01",
    )
    if lossy:
        dataset.LossyImageCompressionRatio = [f"{ratio:.6g}" for ratio, _ in lossy]
        dataset.LossyImageCompressionMethod = [method for _, method in lossy]
    dataset.PixelData = pixels
    dataset["PixelData"].VR = vr
    dataset["PixelData"].is_undefined_length = syntax == JPEGBaseline8Bit
    return encoded(dataset)


def _zone(facts: CaptureFacts) -> Dataset:
    """(0008,0201) Timezone Offset From UTC of the site; what the source states of its own stands instead."""
    return _dataset(TimezoneOffsetFromUTC=f"{facts.content_time:%z}"[:5])


def _in_zone(moment: datetime, offset: str) -> datetime:
    """The moment on the clock that the source's Timezone Offset From UTC names, else on its own."""
    if not is_zone(offset):
        return moment
    minutes = int(offset[1:3]) * 60 + int(offset[3:])
    return moment.astimezone(timezone(timedelta(minutes=-minutes if offset[0] == "-" else minutes)))


def _ascii(text: str, length: int) -> str:
    """Text that is the same in every character set of the source, cut to what the VR holds."""
    return "".join(c if " " <= c <= "~" and c != "\\" else "?" for c in text)[:length]


def _joined(elements: dict[int, bytes]) -> bytes:
    return b"".join(elements[tag] for tag in sorted(elements))


def file_head(uid: str, syntax: UID) -> bytes:
    """Preamble and file meta information of a Secondary Capture."""
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\x00\x01"
    meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = UID(uid)
    meta.TransferSyntaxUID = syntax
    meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    head = DicomBytesIO()
    write_file_meta_info(head, meta)
    return bytes(128) + b"DICM" + head.getvalue()
