"""Result objects of sources with odd headers: valid, with what names the patient byte for byte, or refused with a reason."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from zoneinfo import ZoneInfo

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.tag import Tag

from prioritizer.dicom.read.character_sets import declared
from prioritizer.dicom.read.pydicom_logging import quietly
from prioritizer.dicom.result.source_values import is_valid, is_zone
from prioritizer.dicom.stand_ins.phantom_files import phantom_file
from prioritizer.errors import Unprocessable
from tests.support.capture_objects import FACTS, FILM, built, errors_of, parsed

Edit = Callable[[bytes], bytes]


def element(tag: int, vr: bytes, value: bytes) -> bytes:
    head = Tag(tag).group.to_bytes(2, "little") + Tag(tag).element.to_bytes(2, "little") + vr
    value += b"\0" * (len(value) % 2)
    return head + (b"\0\0" + len(value).to_bytes(4, "little") if vr == b"UN" else len(value).to_bytes(2, "little")) + value


def put(tag: int, vr: bytes, value: bytes) -> Edit:
    """The element as an explicit data set holds it, instead of the one that is there or in its place."""

    def edited(film: bytes) -> bytes:
        dataset = pydicom.dcmread(BytesIO(film))
        if tag in dataset:
            del dataset[tag]
        with BytesIO() as bare:
            dataset.save_as(bare)
            film = bare.getvalue()
        ahead = next(one.tag for one in dataset if one.tag > tag)
        mark = ahead.group.to_bytes(2, "little") + ahead.element.to_bytes(2, "little") + dataset[ahead].VR.encode()
        at = film.index(mark, 300)
        return film[:at] + element(tag, vr, value) + film[at:]

    return edited


def with_item(keyword: str, **inner: str) -> Edit:
    def edited(film: bytes) -> bytes:
        dataset = pydicom.dcmread(BytesIO(film))
        item = pydicom.Dataset()
        with quietly(), BytesIO() as whole:
            for name, value in inner.items():
                setattr(item, name, value)
            setattr(dataset, keyword, [item])
            dataset.save_as(whole)
            return whole.getvalue()

    return edited


def source(folder: Path, edit: Edit) -> Path:
    path = folder / "source.dcm"
    path.write_bytes(edit(phantom_file(FILM)))
    return path


CODE = {"CodeValue": "1", "CodingSchemeDesignator": "L", "CodeMeaning": "x"}
LEFT_OUT = {
    "weight 70kg": (put(0x00101030, b"DS", b"70kg"), "PatientWeight"),
    "weight with a comma": (put(0x00101030, b"DS", b"70,5"), "PatientWeight"),
    "weight as FD of 4 bytes": (put(0x00101030, b"FD", b"70kg"), "PatientWeight"),
    "weight as LO": (put(0x00101030, b"LO", b"seventy "), "PatientWeight"),
    "size of two values": (put(0x00101020, b"DS", b"1.7\\1.8 "), "PatientSize"),
    "age as FD": (put(0x00101010, b"FD", b"004Y    "), "PatientAge"),
    "pregnancy of 3 bytes": (put(0x001021C0, b"US", b"yes!!!"[:4] + b"!!"), None),
    "pregnancy in words": (put(0x001021C0, b"LO", b"YES "), "PregnancyStatus"),
    "smoking MAYBE": (put(0x001021A0, b"CS", b"MAYBE "), "SmokingStatus"),
    "death date in another form": (put(0x001021D0, b"DA", b"2026.03.04"), "LastMenstrualDate"),
    "a study of 68 characters referred to": (
        with_item("ReferencedStudySequence", ReferencedSOPClassUID="1.2", ReferencedSOPInstanceUID="1.2." + "3" * 64),
        "ReferencedStudySequence",
    ),
    "a study with letters referred to": (
        with_item("ReferencedStudySequence", ReferencedSOPClassUID="1.2", ReferencedSOPInstanceUID="1.2.ab"),
        "ReferencedStudySequence",
    ),
    "a study of no UID referred to": (
        with_item("ReferencedPatientSequence", ReferencedSOPClassUID="1.2", ReferencedSOPInstanceUID=""),
        "ReferencedPatientSequence",
    ),
    "description of 65 characters": (put(0x00081030, b"LO", b"A" * 65), "StudyDescription"),
    "description over two lines": (put(0x00081030, b"LO", b"CHEST\nAP"), "StudyDescription"),
    "description of two values": (put(0x00081030, b"LO", b"CHEST\\AP"), "StudyDescription"),
    "description in bytes of no character": (put(0x00081030, b"LO", b"\x93CHEST\x94 "), "StudyDescription"),
    "one diagnosis of 65 characters": (put(0x00081080, b"LO", b"COUGH\\" + b"A" * 65), "AdmittingDiagnosesDescription"),
    "occupation of 17 characters": (put(0x00102180, b"SH", b"B" * 17), "Occupation"),
    "reading physician of 65 characters": (put(0x00081060, b"PN", b"C" * 65), "NameOfPhysiciansReadingStudy"),
    "reading physician of four groups": (put(0x00081060, b"PN", b"A=B=C=D"), "NameOfPhysiciansReadingStudy"),
    "reading physician of six components": (put(0x00081060, b"PN", b"A^B^C^D^E^F"), "NameOfPhysiciansReadingStudy"),
    "comments with a bell": (put(0x00104000, b"LT", b"a\x07b"), "PatientComments"),
    "last menstrual date 20231345": (put(0x001021D0, b"DA", b"20231345"), "LastMenstrualDate"),
    "weight behind a NUL": (put(0x00101030, b"DS", b"\x0070"), "PatientWeight"),
    "a responsible person without role": (put(0x00102297, b"PN", b"A^B "), "ResponsiblePerson"),
    "identity removed, nobody knows how": (put(0x00120062, b"CS", b"YES "), "PatientIdentityRemoved"),
    "half a clinical trial": (put(0x00120020, b"LO", b"TRIAL-1 "), "ClinicalTrialProtocolID"),
    "a code of 17 characters": (with_item("ProcedureCodeSequence", **CODE | {"CodeValue": "1" * 17}), "ProcedureCodeSequence"),
    "a meaning of 65 characters": (with_item("ProcedureCodeSequence", **CODE | {"CodeMeaning": "x" * 65}), "ProcedureCodeSequence"),
    "a code without value": (with_item("ProcedureCodeSequence", CodingSchemeDesignator="L", CodeMeaning="x"), "ProcedureCodeSequence"),
    "a code without scheme": (with_item("ProcedureCodeSequence", CodeValue="1", CodeMeaning="x"), "ProcedureCodeSequence"),
    "a code of an empty scheme": (with_item("ProcedureCodeSequence", **CODE | {"CodingSchemeDesignator": ""}), "ProcedureCodeSequence"),
    "an empty item": (with_item("ReferencedStudySequence"), "ReferencedStudySequence"),
    "another Patient ID of 65 characters": (
        with_item("OtherPatientIDsSequence", PatientID="9" * 65, TypeOfPatientID="TEXT"),
        "OtherPatientIDsSequence",
    ),
    "an offset of no clock": (put(0x00080201, b"SH", b"+2500 "), None),
}
WRITTEN_EMPTY = {
    "sex X": (put(0x00100040, b"CS", b"X "), "PatientSex"),
    "birth date in words": (put(0x00100030, b"DA", b"1 May 99"), "PatientBirthDate"),
    "study date as ACR-NEMA wrote it": (put(0x00080020, b"DA", b"2026.03.04"), "StudyDate"),
    "study time with colons": (put(0x00080030, b"TM", b"10:15:00"), "StudyTime"),
    "birth date 20231345": (put(0x00100030, b"DA", b"20231345"), "PatientBirthDate"),
    "study date 20230229": (put(0x00080020, b"DA", b"20230229"), "StudyDate"),
    "study date 99999999": (put(0x00080020, b"DA", b"99999999"), "StudyDate"),
    "study time 25 o'clock": (put(0x00080030, b"TM", b"251500"), "StudyTime"),
}
KEPT = {
    "Patient ID with VR UN": (put(0x00100020, b"UN", b"PAT-9 "), "PatientID", b"PAT-9 "),
    "birth date with VR UN": (put(0x00100030, b"UN", b"20220115"), "PatientBirthDate", b"20220115"),
    "birth date 19990000": (put(0x00100030, b"DA", b"19990000"), "PatientBirthDate", b"19990000"),
    "name with VR FD": (put(0x00100010, b"FD", b"Muster^Anna "), "PatientName", b"Muster^Anna "),
    "birth date between blanks": (put(0x00100030, b"DA", b" 20220115 "), "PatientBirthDate", b"20220115"),
    "Patient ID padded with NUL": (put(0x00100020, b"LO", b"PAT-9\0\0\0"), "PatientID", b"PAT-9 "),
    "description padded with NUL": (put(0x00081030, b"LO", b"CHEST\0"), "StudyDescription", b"CHEST "),
    "comments padded with NUL": (put(0x00104000, b"LT", b"abc\0"), "PatientComments", b"abc "),
    "sex padded with NUL": (put(0x00100040, b"CS", b"F\0"), "PatientSex", b"F "),
    "weight padded with NUL": (put(0x00101030, b"DS", b"10\0\0"), "PatientWeight", b"10"),
    "comments of three lines": (put(0x00104000, b"LT", b"a\r\nb\x0cc"), "PatientComments", b"a\r\nb\x0cc"),
    "description of 64 characters": (put(0x00081030, b"LO", b"\xe4" * 64), "StudyDescription", b"\xe4" * 64),
    "accession number with VR LO": (put(0x00080050, b"LO", b"ACC1"), "AccessionNumber", b"ACC1"),
}


@pytest.mark.parametrize("name", LEFT_OUT)
def test_an_invalid_value_that_may_be_absent_is_left_out(tmp_path: Path, name: str):
    edit, keyword = LEFT_OUT[name]
    result = built(source(tmp_path, edit))
    assert errors_of(result, tmp_path) == []
    assert keyword is None or keyword not in parsed(result)


@pytest.mark.parametrize("name", WRITTEN_EMPTY)
def test_an_invalid_value_that_must_be_present_is_written_empty(tmp_path: Path, name: str):
    edit, keyword = WRITTEN_EMPTY[name]
    result = built(source(tmp_path, edit))
    assert errors_of(result, tmp_path) == []
    assert parsed(result)[keyword].value in ("", None)


@pytest.mark.parametrize("name", KEPT)
def test_what_names_the_patient_is_kept_under_the_standards_vr(tmp_path: Path, name: str):
    edit, keyword, value = KEPT[name]
    result = built(source(tmp_path, edit))
    assert errors_of(result, tmp_path) == []
    found = pydicom.dcmread(BytesIO(result.data)).get_item(Tag(keyword))
    assert (found.VR, found.value) == (pydicom.datadict.dictionary_VR(keyword), value)


LOSSY = {
    "ratio inf": (b"inf ", b"ISO_10918_1 "),
    "ratio nan": (b"nan ", b"ISO_10918_1 "),
    "ratio 1e400": (b"1e400 ", b"ISO_10918_1 "),
    "ratio below zero": (b"-5", b"ISO_10918_1 "),
    "method in small letters": (b"10", b"jpeg lossy!!"),
    "method of 29 characters": (b"10", b"JPEG_BASELINE_PROCESS_1_LOSSY "),
    "one ratio of two methods": (b"10", b"ISO_10918_1\\ISO_15444_1 "),
}


@pytest.mark.parametrize("name", LOSSY)
def test_a_compression_that_is_stated_in_no_valid_way_is_told_as_lossy_and_no_more(tmp_path: Path, name: str):
    ratio, method = LOSSY[name]
    steps = (put(0x00282110, b"CS", b"01"), put(0x00282112, b"DS", ratio), put(0x00282114, b"CS", method))
    result = built(source(tmp_path, lambda image: steps[2](steps[1](steps[0](image)))), replace(FACTS, encoding="native"))
    assert errors_of(result, tmp_path) == []
    assert parsed(result).LossyImageCompression == "01"
    assert "LossyImageCompressionRatio" not in parsed(result)


UIDS = {"empty": b"", "absent": None, "68 characters": b"1.2." + b"3" * 64, "letters": b"1.2.abc ", "two": b"1.2\\1.3 ", "blanks": b"    "}


@pytest.mark.parametrize("name", UIDS)
def test_of_a_source_without_valid_study_uid_no_result_is_built(tmp_path: Path, name: str):
    film = put(0x0020000D, b"UI", UIDS[name] or b"")(phantom_file(FILM))
    path = tmp_path / "source.dcm"
    path.write_bytes(film if UIDS[name] is not None else film.replace(b"\x20\x00\x0d\x00UI\0\0", b""))
    with pytest.raises(Unprocessable, match="no valid Study Instance UID"):
        built(path)


def test_a_study_uid_padded_with_blanks_is_sent_without_them(tmp_path: Path):
    result = built(source(tmp_path, put(0x0020000D, b"UI", b"1.2.3.4 ")))
    assert errors_of(result, tmp_path) == []
    assert pydicom.dcmread(BytesIO(result.data)).get_item(Tag("StudyInstanceUID")).value == b"1.2.3.4\0"


def test_times_are_those_of_the_receipt_on_the_clock_of_the_site(tmp_path: Path):
    facts = replace(FACTS, content_time=datetime(2026, 6, 1, 22, 30, tzinfo=UTC).astimezone(ZoneInfo("Europe/Berlin")))
    result = parsed(built(source(tmp_path, bytes), facts))
    assert (result.ContentDate, result.ContentTime, result.TimezoneOffsetFromUTC) == ("20260602", "003000", "+0200")
    assert (result.InstanceCreationDate, result.InstanceCreationTime) == ("20260602", "003000")


def test_an_offset_of_the_source_that_means_nothing_gives_way_to_the_sites(tmp_path: Path):
    for offset in (b"+2500 ", b"Z ", b"-0000 ", b"CEST"):
        result = parsed(built(source(tmp_path, put(0x00080201, b"SH", offset))))
        assert (result.TimezoneOffsetFromUTC, result.ContentTime) == ("+0000", "101530")


@pytest.mark.parametrize(
    ("term", "text"),
    [
        ("ISO_IR 192", "\u00f6".encode() * 64),
        ("GB18030", "\u8aa0\u8aa0".encode("gb18030")),
        ("\\ISO 2022 IR 87", b"\x1b$B6;It\x1b(B"),
        ("\\ISO 2022 IR 149", b"\x1b$)C" + "\ud749\ubd80".encode("euc_kr")),
    ],
)
def test_the_length_of_a_text_is_counted_in_characters_of_its_character_set(term: str, text: bytes):
    sets = declared(term.split("\\"))
    assert is_valid(Tag("StudyDescription"), "LO", text, sets)
    assert not is_valid(Tag("StudyDescription"), "LO", text + b"A" * 65, sets)


@given(st.sampled_from(["AS", "CS", "DA", "DS", "DT", "IS", "TM", "UI", "LO", "PN", "LT", "UR", "US", "FD"]), st.binary(max_size=80))
def test_any_value_is_judged_and_none_raises(vr: str, value: bytes):
    assert is_valid(Tag("PatientWeight"), vr, value) in (True, False)


@given(st.text(max_size=8))
def test_only_an_offset_that_a_clock_can_have_is_one(offset: str):
    if is_zone(offset):
        assert -12 <= int(offset) / 100 <= 14
