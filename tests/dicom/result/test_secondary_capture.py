"""The result object: valid, in the right study, the same every time, and honest about itself."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom import uid
from pydicom.dataset import Dataset

from prioritizer.dicom.read.header import Header
from prioritizer.dicom.result.lossy_history import lossy_history
from prioritizer.dicom.result.result_uid import result_uid
from prioritizer.dicom.scu.destination import Destination
from prioritizer.dicom.scu.sender import Sender
from prioritizer.dicom.stand_ins.phantom_files import phantom_file
from tests.support.capture_objects import FACTS, FILM, SALIENCY, built, errors_of, parsed
from tests.support.pacs import Orthanc, shared_dicom

CHESTS = [path for path in shared_dicom("everyday") if path.name.startswith(("fuji", "konica", "nih", "philips", "rsna"))]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source.dcm"
    path.write_bytes(phantom_file(FILM))
    return path


@pytest.mark.parametrize("encoding", ["jpeg", "native"])
@pytest.mark.parametrize("kind", ["preview", "heatmap"])
def test_dciodvfy_finds_no_error(source: Path, tmp_path: Path, encoding: str, kind: str):
    assert errors_of(built(source, replace(FACTS, encoding=encoding, kind=kind)), tmp_path) == []


@pytest.mark.parametrize("path", CHESTS, ids=lambda path: path.stem)
def test_dciodvfy_finds_no_error_for_a_real_chest_radiograph(path: Path, tmp_path: Path):
    assert errors_of(built(path), tmp_path) == []


def test_the_same_facts_give_the_same_bytes(source: Path):
    assert built(source) == built(source)


@pytest.mark.parametrize(
    "change",
    [
        {"site": "elsewhere"},
        {"kind": "preview"},
        {"band": "Order of arrival"},
        {"bundle_digest": "sha256:" + "cd" * 32},
        {"calibration_id": "local-2026-12"},
        {"scale": 0.6},
        {"software_version": "0.2.0"},
        {"content_time": datetime(2026, 11, 22, 10, 15, 31, tzinfo=UTC)},
        {"encoding": "native"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_any_change_of_content_is_another_object(source: Path, change: dict[str, object]):
    assert built(source, replace(FACTS, **change)).sop_instance_uid != built(source).sop_instance_uid


def test_other_evidence_is_another_object_in_the_same_series(source: Path):
    first, second = parsed(built(source)), parsed(built(source, saliency=SALIENCY[::-1].copy()))
    assert first.SOPInstanceUID != second.SOPInstanceUID
    assert first.SeriesInstanceUID == second.SeriesInstanceUID


def test_uids_are_valid_and_parts_are_kept_apart():
    assert uid.UID(result_uid("ab", "c")).is_valid
    assert result_uid("ab", "c") != result_uid("a", "bc")


def test_it_says_what_it_is_and_where_it_came_from(source: Path):
    result, original = parsed(built(source)), pydicom.dcmread(source)
    assert (result.Modality, result.ConversionType, result.SeriesNumber) == ("OT", "WSD", 9901)
    assert list(result.ImageType) == ["DERIVED", "SECONDARY", "OTHER"]
    assert result.BurnedInAnnotation == "YES"
    (reference,) = result.SourceImageSequence
    assert reference.ReferencedSOPInstanceUID == original.SOPInstanceUID
    assert reference.PurposeOfReferenceCodeSequence[0].CodeValue == "121322"
    (equipment,) = result.ContributingEquipmentSequence
    assert equipment.PurposeOfReferenceCodeSequence[0].CodeValue == "109102"
    assert all(equipment[keyword].value for keyword in ("DeviceUID", "Manufacturer", "ManufacturerModelName", "SoftwareVersions"))


def test_it_invents_neither_geometry_nor_acquisition(source: Path):
    result = parsed(built(source))
    for keyword in ("PixelSpacing", "ImagerPixelSpacing", "AcquisitionDate", "AcquisitionTime", "AcquisitionDateTime"):
        assert keyword not in result


def test_lossy_compression_is_stated_where_true_and_only_there(source: Path, tmp_path: Path):
    lossy_source = tmp_path / "lossy.dcm"
    lossy_source.write_bytes(phantom_file(FILM, uid.JPEGBaseline8Bit))
    native = replace(FACTS, encoding="native")
    assert parsed(built(source, native)).LossyImageCompression == "00"
    assert parsed(built(source)).LossyImageCompressionMethod == "ISO_10918_1"
    assert parsed(built(lossy_source, native)).LossyImageCompression == "01"
    assert list(parsed(built(lossy_source)).LossyImageCompressionMethod) == ["ISO_10918_1", "ISO_10918_1"]


@pytest.mark.parametrize(("syntax", "method"), [(uid.JPEG2000, "ISO_15444_1"), (uid.HTJ2K, "ISO_15444_15")])
def test_the_method_of_a_lossy_source_is_that_of_its_transfer_syntax(syntax: str, method: str):
    header = Dataset()
    header.LossyImageCompression, header.Rows, header.Columns, header.BitsStored = "01", 16, 16, 12
    found = Header(transfer_syntax=uid.UID(syntax), pixel_start=100, pixel_length=None)
    assert lossy_history(header, found, 228) == ((4.0, method),)


def test_the_encoded_picture_shows_the_drawn_one(source: Path):
    jpeg = parsed(built(source)).pixel_array.astype(int)
    native = parsed(built(source, replace(FACTS, encoding="native"))).pixel_array.astype(int)
    assert jpeg.shape == native.shape
    assert np.abs(jpeg - native).mean() < 4


ODD_VALUES = {
    0x00100010: (b"PHANTOM^THREE ", b"\xc4\xe9^\xff\x00\x1b[31m^   "),
    0x00100020: (b"PHANTOM-0003", b" <script>\\a "),
    0x00080050: (b"PH000003", b"../../et"),
    0x00081030: (b"Phantom chest ", b"Ph\xe4ntom\xdfhest  "),
}


@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian, uid.ExplicitVRBigEndian])
def test_patient_and_study_are_copied_byte_for_byte(tmp_path: Path, syntax: str):
    data = phantom_file(FILM, syntax)
    for plain, odd in ODD_VALUES.values():
        assert plain in data
        assert len(plain) == len(odd)
        data = data.replace(plain, odd)
    path = tmp_path / "odd.dcm"
    path.write_bytes(data)
    result = pydicom.dcmread(BytesIO(built(path).data))
    for tag, (_, odd) in ODD_VALUES.items():
        assert result.get_item(tag).value == odd


def test_an_unknown_character_set_travels_with_the_name(tmp_path: Path):
    path = tmp_path / "charset.dcm"
    path.write_bytes(phantom_file(FILM).replace(b"ISO_IR 100", b"ISO_IR 999").replace(b"PHANTOM^THREE", b"PH\xc4NTOM^THREE"))
    data = built(path).data
    assert b"ISO_IR 999" in data
    assert b"PH\xc4NTOM^THREE" in data


def test_nested_sequences_of_an_implicit_source_are_carried_over(tmp_path: Path):
    film = pydicom.dcmread(BytesIO(phantom_file(FILM, uid.ImplicitVRLittleEndian)))
    issuer = pydicom.Dataset()
    issuer.LocalNamespaceEntityID = "HOSPITAL"
    film.IssuerOfAccessionNumberSequence = [issuer]
    path = tmp_path / "nested.dcm"
    film.save_as(path)
    assert parsed(built(path)).IssuerOfAccessionNumberSequence[0].LocalNamespaceEntityID == "HOSPITAL"


def test_times_follow_the_zone_that_the_source_states(tmp_path: Path):
    film = pydicom.dcmread(BytesIO(phantom_file(FILM)))
    film.TimezoneOffsetFromUTC = "+0530"
    path = tmp_path / "zone.dcm"
    film.save_as(path)
    result = parsed(built(path))
    assert (result.TimezoneOffsetFromUTC, result.ContentTime) == ("+0530", "154530")


def test_an_age_without_unit_is_left_out_rather_than_corrected(tmp_path: Path):
    path = tmp_path / "age.dcm"
    path.write_bytes(phantom_file(FILM).replace(b"004Y", b"62  "))
    assert "PatientAge" not in parsed(built(path))


def test_no_patient_name_is_in_the_words(source: Path, monkeypatch: pytest.MonkeyPatch):
    drawn: list[str] = []
    import prioritizer.dicom.result.secondary_capture as module

    real = module.overlay_picture
    monkeypatch.setattr(module, "overlay_picture", lambda *a, **k: drawn.extend(a[3]) or real(*a, **k))
    built(source)
    words = " ".join(drawn).lower()
    assert "phantom" not in words
    assert "not for diagnosis" in words
    assert "normal" not in words


@pytest.mark.parametrize("encoding", ["jpeg", "native"])
def test_orthanc_files_it_in_the_study_of_the_source(source: Path, orthanc: Orthanc, encoding: str):
    result = built(source, replace(FACTS, encoding=encoding))
    peer = Destination(name="pacs", ae_title=orthanc.ae_title, host="127.0.0.1", port=orthanc.port)
    sender = Sender()
    sender.send(peer, phantom_file(FILM))
    sender.send(peer, result.data)
    sender.close()
    assert orthanc.study_of(result.sop_instance_uid) == pydicom.dcmread(source).StudyInstanceUID
