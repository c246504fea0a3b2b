"""Phantom films as DICOM files: valid CR and DX objects of children who do not exist, in any transfer syntax we can encode."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate

from prioritizer.dicom.result.result_uid import result_uid
from prioritizer.dicom.standard.contexts import IMPLEMENTATION_CLASS_UID
from prioritizer.errors import Unprocessable
from prioritizer.imaging import phantoms

NUMBERS = ("ONE", "TWO", "THREE", "FOUR", "FIVE", "SIX", "SEVEN", "EIGHT", "NINE", "TEN", "ELEVEN", "TWELVE")

_LOSSY_METHODS = {uid.JPEGBaseline8Bit: "ISO_10918_1", uid.JPEGLSNearLossless: "ISO_14495_1", uid.JPEG2000: "ISO_15444_1"}
_ANATOMY = {"CHEST": ("816094009", "Chest"), "HIP": ("29836001", "Hip"), "PELVIS": ("816092008", "Pelvis")}
_VIEWS = {"AP": ("399348003", "antero-posterior"), "PA": ("272479007", "postero-anterior")}
_LATERAL = ("399067008", "lateral")


@dataclass(frozen=True, slots=True, kw_only=True)
class PhantomPatient:
    """Who the film pretends to show, and how it is stored."""

    number: int
    """Names patient, study and every UID: the same number and instance give the same object."""
    taken_at: datetime
    opacity: bool = False
    plain: bool = False
    """Nothing in the lungs, and blurred: the bundled network raises none of these."""
    instance: int = 1
    age: str = "004Y"
    sex: str = "O"
    view: str = "AP"
    modality: str = "CR"
    """CR or DX."""
    body_part: str = "CHEST"
    rows: int = 1024
    columns: int = 896
    bits: int = 12
    inverted: bool = False
    """Stored as MONOCHROME1: the same film to look at."""


def phantom_study_uid(number: int) -> str:
    """The Study Instance UID of this phantom patient's one study."""
    return result_uid("phantom study", str(number))


def phantom_file(patient: PhantomPatient, transfer_syntax: str = uid.ExplicitVRLittleEndian) -> bytes:
    """A whole Part 10 file; raises Unprocessable where we have no encoder for the syntax."""
    syntax = uid.UID(transfer_syntax)
    bits = 8 if syntax == uid.JPEGBaseline8Bit else patient.bits
    pixels = phantoms.stored_pixels(
        patient.rows, patient.columns, bits=bits, opacity=patient.opacity, seed=patient.number, plain=patient.plain
    )
    if patient.inverted:
        pixels = (2**bits - 1 - pixels).astype(np.uint16)
    film = _film(patient, bits)
    film.file_meta = FileMetaDataset()
    film.file_meta.MediaStorageSOPClassUID, film.file_meta.MediaStorageSOPInstanceUID = film.SOPClassUID, film.SOPInstanceUID
    film.file_meta.TransferSyntaxUID, film.file_meta.ImplementationClassUID = syntax, uid.UID(IMPLEMENTATION_CLASS_UID)
    _put_pixels(film, pixels, bits, syntax)
    file = BytesIO()
    film.save_as(file, enforce_file_format=True)
    return file.getvalue()


def _film(patient: PhantomPatient, bits: int) -> Dataset:
    """The header: Patient, Study, Series, Equipment and the CR or DX modules."""
    film = Dataset()
    film.update(_patient_and_study(patient))
    film.update(_series(patient))
    film.SamplesPerPixel, film.PhotometricInterpretation = 1, "MONOCHROME1" if patient.inverted else "MONOCHROME2"
    film.Rows, film.Columns, film.PixelRepresentation = patient.rows, patient.columns, 0
    film.BitsAllocated, film.BitsStored, film.HighBit = (8 if bits <= 8 else 16), bits, bits - 1
    film.WindowCenter, film.WindowWidth = str(2 ** (bits - 1)), str(2**bits)
    if patient.modality == "DX":
        film.update(_dx_modules(patient))
    return film


def _patient_and_study(patient: PhantomPatient) -> Dataset:
    part = Dataset()
    name = NUMBERS[patient.number - 1] if 1 <= patient.number <= len(NUMBERS) else str(patient.number)
    part.SpecificCharacterSet = "ISO_IR 100"
    part.PatientName, part.PatientID = f"PHANTOM^{name}", f"PHANTOM-{patient.number:04d}"
    part.PatientBirthDate, part.PatientSex, part.PatientAge = "", patient.sex, patient.age
    part.StudyInstanceUID = uid.UID(phantom_study_uid(patient.number))
    part.StudyDate = part.SeriesDate = part.AcquisitionDate = part.ContentDate = patient.taken_at.strftime("%Y%m%d")
    part.StudyTime = part.SeriesTime = part.AcquisitionTime = part.ContentTime = patient.taken_at.strftime("%H%M%S")
    part.AccessionNumber, part.StudyID = f"PH{patient.number:06d}", str(patient.number)
    part.ReferringPhysicianName, part.StudyDescription = "", "Phantom chest"
    return part


def _series(patient: PhantomPatient) -> Dataset:
    part = Dataset()
    dx = patient.modality == "DX"
    part.SOPClassUID = uid.DigitalXRayImageStorageForPresentation if dx else uid.ComputedRadiographyImageStorage
    part.SOPInstanceUID = uid.UID(result_uid("phantom", str(patient)))
    part.SeriesInstanceUID = uid.UID(result_uid("phantom series", str(patient.number), patient.modality))
    part.Modality, part.SeriesNumber, part.InstanceNumber = patient.modality, 1, patient.instance
    part.SeriesDescription, part.ProtocolName = f"Chest {patient.view}", f"Chest {patient.view}"
    part.BodyPartExamined, part.ViewPosition = patient.body_part, patient.view
    part.Manufacturer, part.ManufacturerModelName = "prioritizer", "Phantom"
    part.ImageType, part.PatientOrientation = ["ORIGINAL", "PRIMARY"], ["L", "F"]
    part.BurnedInAnnotation, part.LossyImageCompression = "NO", "00"
    return part


def _dx_modules(patient: PhantomPatient) -> Dataset:
    """What DX demands beyond CR (PS3.3 A.26, C.8.11)."""
    part = Dataset()
    part.ImageLaterality, part.PixelIntensityRelationship, part.PixelIntensityRelationshipSign = "U", "LOG", -1
    part.RescaleSlope, part.RescaleIntercept, part.RescaleType = "1", "0", "US"
    part.PresentationLUTShape = "INVERSE" if patient.inverted else "IDENTITY"
    part.PresentationIntentType, part.DetectorType = "FOR PRESENTATION", ""
    part.PositionerType = ""
    part.ImagerPixelSpacing = ["0.2", "0.2"]
    part.ImageType = ["ORIGINAL", "PRIMARY", ""]
    part.AnatomicRegionSequence = [_code(*_ANATOMY.get(patient.body_part, _ANATOMY["CHEST"]))]
    part.ViewCodeSequence = [_code(*_VIEWS.get(patient.view, _LATERAL))]
    part.ViewCodeSequence[0].ViewModifierCodeSequence = []
    part.AcquisitionContextSequence = []
    return part


def _code(value: str, meaning: str) -> Dataset:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, "SCT", meaning
    return code


def _put_pixels(film: Dataset, pixels: NDArray[np.uint16], bits: int, syntax: uid.UID) -> None:
    stored = pixels.astype("<u1" if bits <= 8 else "<u2")
    if syntax.is_encapsulated:
        frame = _encoded(stored, bits, syntax)
        film.PixelData = encapsulate([frame])
        film["PixelData"].VR = "OB"
        if syntax in _LOSSY_METHODS:
            film.LossyImageCompression, film.LossyImageCompressionMethod = "01", _LOSSY_METHODS[syntax]
            film.LossyImageCompressionRatio = f"{stored.nbytes / len(frame):.4g}"
        return
    data = stored.astype(stored.dtype.newbyteorder(">")).tobytes() if not syntax.is_little_endian else stored.tobytes()
    film.PixelData = data + b"\0" * (len(data) % 2)
    film["PixelData"].VR = "OW" if bits > 8 or syntax.is_implicit_VR else "OB"


def _encoded(stored: NDArray[np.integer], bits: int, syntax: uid.UID) -> bytes:
    """One frame in a compressed syntax."""
    rows, columns = stored.shape
    if syntax == uid.RLELossless:
        from rle.utils import encode_pixel_data

        shape = {"rows": rows, "columns": columns, "samples_per_pixel": 1, "bits_allocated": stored.itemsize * 8}
        return bytes(encode_pixel_data(stored.tobytes(), byteorder="<", number_of_frames=1, **shape))
    if syntax == uid.JPEGBaseline8Bit:
        import simplejpeg

        return bytes(simplejpeg.encode_jpeg(stored[:, :, None].copy(), quality=95, colorspace="GRAY", colorsubsampling="Gray"))
    if syntax in (uid.JPEGLSLossless, uid.JPEGLSNearLossless):
        import imagecodecs

        # It states 8 or 16 bits of precision, whatever the Bits Stored are.
        return bytes(imagecodecs.jpegls_encode(stored, level=0 if syntax == uid.JPEGLSLossless else 2))
    if syntax in (uid.JPEG2000Lossless, uid.JPEG2000):
        import imagecodecs

        # 0 is without loss, 50 is the signal-to-noise ratio in decibels.
        level = 0 if syntax == uid.JPEG2000Lossless else 50
        return bytes(imagecodecs.jpeg2k_encode(stored, level=level, codecformat="J2K", bitspersample=bits, numthreads=1))
    raise Unprocessable("transfer-syntax", f"no encoder for {syntax.name}")
