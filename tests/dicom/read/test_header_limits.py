"""Any bytes behind a valid receipt give an arrival, with what stands before the fault, in bounded memory."""

from __future__ import annotations

import struct
import tracemalloc
import zlib
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import uid

from prioritizer.daemon.receive import read_arrival
from prioritizer.dicom.read.attributes import arrival_of, bare_instance, instance_of_file, read_instance
from prioritizer.dicom.read.decode import frame_of
from prioritizer.dicom.result.source_header import read_source
from prioritizer.dicom.standard.contexts import TRANSFER_SYNTAXES
from prioritizer.errors import Unprocessable
from prioritizer.study import Instance
from tests.support.pacs import shared_dicom
from tests.support.radiograph_files import Encoder, radiograph, receipt

MEBI = 2**20
PLAIN = (uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian, uid.ExplicitVRBigEndian)
PATIENT = (("patient_id", "P1"), ("patient_name", "Sample^Iva"), ("accession_number", "A1"), ("study_uid", "1.2.3"))


def arrived(folder: Path, data: bytes) -> tuple[Instance, str]:
    (folder / "film.dcm").write_bytes(data)
    return arrival_of(folder / "film.dcm")


def names_its_patient(instance: Instance) -> bool:
    return all(getattr(instance, name) == value for name, value in PATIENT)


def before_pixels(data: bytes, blob: bytes, order: str = "<") -> bytes:
    at = data.rindex(struct.pack(order + "HH", 0x7FE0, 0x0010))
    return data[:at] + blob + data[at:]


def behind_receipt(syntax: str, data_set: bytes) -> bytes:
    return receipt(syntax) + data_set


def deflated(data_set: bytes, *more: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packer.compress(data_set) + b"".join(packer.compress(part) for part in more) + packer.flush()
    return behind_receipt(uid.DeflatedExplicitVRLittleEndian, packed + b"\0" * (len(packed) % 2))


def data_set_of(file: bytes) -> bytes:
    return file[len(receipt()) :]


# --- a fault does not lose what stood before it ---------------------------------------------------------------------

EXPLICIT = Encoder()
FAULTS = {
    "cut pixels": radiograph()[:-500],
    "cut in a header": before_pixels(radiograph(), b"\x29\x00\x10\x10OB\0\0\xff\xff\0\x01"),
    "no VR": before_pixels(radiograph(), b"\x29\x00\x10\x10\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a"),
    "item without a sequence": before_pixels(radiograph(), b"\xfe\xff\x00\xe0\x08\0\0\0" + bytes(8)),
    "sequence without an end": before_pixels(radiograph(), b"\x40\x00\x75\x02SQ\0\0\xff\xff\xff\xff"),
    "text of undefined length": before_pixels(radiograph(), b"\x29\x00\x10\x10LO\xff\xff"),
}


@pytest.mark.parametrize("fault", ["cut pixels", "cut in a header", "no VR", "item without a sequence", "sequence without an end"])
def test_what_stands_before_a_fault_is_listed_with_the_reason(fault: str, tmp_path: Path):
    instance, reason = arrived(tmp_path, FAULTS[fault])
    assert names_its_patient(instance)
    assert reason
    assert len(reason) < 200
    arrival = read_arrival(tmp_path / "film.dcm")
    assert (arrival.instance, arrival.unreadable) == (instance, reason)
    with pytest.raises(Unprocessable):
        read_instance(tmp_path / "film.dcm")


@pytest.mark.parametrize(
    "blob",
    [
        EXPLICIT.element(0x00291010, "OB", bytes(20 * MEBI)),
        b"\xfe\xff\x0d\xe0\0\0\0\0",
        b"\xfe\xff\xdd\xe0\0\0\0\0",
        EXPLICIT.element(0x00291010, "ZZ", b"")[:8] + bytes(4),
        EXPLICIT.element(0x00400275, "SQ", b"text where items belong "),
        EXPLICIT.element(0x00400275, "LO", b"text where a sequence belongs"),
        EXPLICIT.element(0x00080005, "LO", b"EVE\\EVE"),
    ],
    ids=[
        "20 MiB private",
        "stray item end",
        "stray sequence end",
        "unknown VR",
        "text in a sequence",
        "text for a sequence",
        "charset again",
    ],
)
def test_what_is_odd_and_can_be_passed_over_costs_nothing(blob: bytes, tmp_path: Path):
    instance, reason = arrived(tmp_path, before_pixels(radiograph(), blob))
    assert (names_its_patient(instance), reason, instance.has_pixels) == (True, "", True)


@pytest.mark.parametrize(
    ("elements", "empty"),
    [
        ({"PatientAge": ("FD", b"\1\2\3\4")}, "age_stated"),
        ({"PatientSex": ("SQ", b"F ")}, "patient_sex"),
        ({"StationName": ("UI", b"\xff\xfe")}, None),
        ({"ViewPosition": ("US", b"\1\2")}, "view_position"),
        ({"PatientOrientation": ("OB", b"L\\F ")}, "patient_orientation"),
        ({"NumberOfFrames": ("FD", b"\1\2")}, None),
        ({"SpecificCharacterSet": "EVE\\ISO 2022 IR 999"}, None),
    ],
)
def test_a_value_in_a_vr_that_cannot_hold_it_is_only_itself_empty(elements: dict[str, object], empty: str | None, tmp_path: Path):
    instance, reason = arrived(tmp_path, radiograph(**elements))
    assert (names_its_patient(instance), reason) == (True, "")
    assert empty is None or not getattr(instance, empty)


def test_an_age_that_cannot_be_read_is_taken_from_the_dates(tmp_path: Path):
    instance, _ = arrived(tmp_path, radiograph(PatientAge=("FD", b"\1\2\3\4")))
    assert instance.age_years == pytest.approx(4.12, abs=0.01)


@pytest.mark.parametrize("keyword", ["StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate", "AcquisitionDateTime"])
def test_the_age_is_taken_from_any_date_of_the_image(keyword: str, tmp_path: Path):
    when = "20260301" + ("101500.000000" if keyword == "AcquisitionDateTime" else "")
    instance, _ = arrived(tmp_path, radiograph(**({"PatientAge": "", "StudyDate": ""} | {keyword: when})))
    assert instance.age_years == pytest.approx(4.12, abs=0.01)


def test_an_age_of_zero_without_any_date_is_held_against_the_day_of_arrival(tmp_path: Path):
    instance, _ = arrived(tmp_path, radiograph(PatientAge="000Y", StudyDate="", PatientBirthDate="19500101"))
    assert (instance.age_stated, round(instance.age_by_dates or 0)) == (0.0, 77)


def test_the_dates_of_an_image_count_in_their_order(tmp_path: Path):
    instance, _ = arrived(tmp_path, radiograph(PatientAge="", StudyDate="", SeriesDate="20250301", ContentDate="20100101"))
    assert instance.age_years == pytest.approx(3.12, abs=0.01)


@pytest.mark.parametrize("syntax", PLAIN)
def test_group_0002_inside_the_data_set_is_passed_over(syntax: str, tmp_path: Path):
    encoder = Encoder(syntax)
    meta = encoder.element(0x00020000, "UL", struct.pack(encoder.order + "L", 26))
    meta += encoder.element(0x00020010, "UI", b"1.2.840.10008.1.2.4.50")
    file = radiograph(syntax)
    instance, reason = arrived(tmp_path, receipt(syntax) + meta + file[len(receipt(syntax)) :])
    assert (names_its_patient(instance), reason, instance.transfer_syntax_uid) == (True, "", syntax)


def test_an_explicit_file_meta_copied_before_an_implicit_data_set_is_passed_over(tmp_path: Path):
    file, syntax = radiograph(uid.ImplicitVRLittleEndian), uid.ImplicitVRLittleEndian
    meta = EXPLICIT.element(0x00020000, "UL", struct.pack("<L", 28)) + EXPLICIT.element(0x00020010, "UI", b"1.2.840.10008.1.2.4.50")
    assert names_its_patient(arrived(tmp_path, receipt(syntax) + meta + file[len(receipt(syntax)) :])[0])


def test_the_issuer_of_a_patient_id_is_read_from_either_place(tmp_path: Path):
    assert arrived(tmp_path, radiograph(IssuerOfPatientID="CLINIC A"))[0].issuer_of_patient_id == "CLINIC A"
    qualifiers = ("SQ", EXPLICIT.item({"UniversalEntityID": "1.2.3.9", "UniversalEntityIDType": "ISO"}))
    assert arrived(tmp_path, radiograph(IssuerOfPatientIDQualifiersSequence=qualifiers))[0].issuer_of_patient_id == "1.2.3.9"


@pytest.mark.parametrize("orders", [["ROUTINE", "STAT"], ["STAT", "ROUTINE"], ["LOW", "stat"], [" HIGH "], ["ROUTINE\\STAT"]])
@pytest.mark.parametrize("syntax", PLAIN)
def test_any_stat_among_several_orders_wins(orders: list[str], syntax: str, tmp_path: Path):
    encoder = Encoder(syntax)
    items = b"".join(encoder.item({"RequestedProcedurePriority": order}) for order in orders)
    instance, _ = arrived(tmp_path, radiograph(syntax, RequestAttributesSequence=("SQ", items), RequestedProcedurePriority="ROUTINE"))
    assert instance.stat


def test_a_sequence_of_undefined_lengths_is_read_to_its_delimiters(tmp_path: Path):
    inner = EXPLICIT.data_set({"RequestedProcedurePriority": "STAT"})
    item = struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF) + inner + struct.pack("<HHL", 0xFFFE, 0xE00D, 0)
    element = EXPLICIT.element(0x00400275, "SQ", item + struct.pack("<HHL", 0xFFFE, 0xE0DD, 0), length=0xFFFFFFFF)
    instance, reason = arrived(tmp_path, before_pixels(radiograph(), element))
    assert (instance.stat, reason) == (True, "")


def fragments(order: str, *values: bytes) -> bytes:
    """An empty offset table, fragments and the delimiter, in the byte order of what holds them."""
    items = b"".join(struct.pack(order + "HHL", 0xFFFE, 0xE000, len(value)) + value for value in (b"", *values))
    return items + struct.pack(order + "HHL", 0xFFFE, 0xE0DD, 0)


ENCAPSULATED = (b"\xff\xd8\xff\xe0\x00\x10JFIF\0\x01", b"abcd")


@pytest.mark.parametrize(
    ("syntax", "vr"),
    [
        (uid.ExplicitVRLittleEndian, "OB"),
        (uid.ExplicitVRLittleEndian, "OW"),
        (uid.ExplicitVRLittleEndian, "UN"),
        (uid.ExplicitVRBigEndian, "OB"),
        (uid.ExplicitVRBigEndian, "UN"),
        (uid.ImplicitVRLittleEndian, "OB"),
    ],
)
@pytest.mark.parametrize("values", [ENCAPSULATED, ENCAPSULATED[::-1], (b"abcdefgh",), ()])
@pytest.mark.parametrize("nested", [False, True])
def test_fragments_in_a_private_element_are_passed_over(syntax: str, vr: str, values: tuple[bytes, ...], nested: bool, tmp_path: Path):
    encoder = Encoder(syntax)
    blob = encoder.element(0x00291010, vr, fragments("<" if vr == "UN" else encoder.order, *values), length=0xFFFFFFFF)
    if nested:
        item = struct.pack(encoder.order + "HHL", 0xFFFE, 0xE000, 0xFFFFFFFF) + blob + struct.pack(encoder.order + "HHL", 0xFFFE, 0xE00D, 0)
        ends = struct.pack(encoder.order + "HHL", 0xFFFE, 0xE0DD, 0)
        blob = encoder.element(0x00400275, "SQ", item + ends, length=0xFFFFFFFF)
    data = before_pixels(radiograph(syntax), blob, encoder.order)
    instance, reason = arrived(tmp_path, data)
    assert (names_its_patient(instance), reason, instance.has_pixels) == (True, "", True)
    assert (frame_of(data).pixels == frame_of(radiograph()).pixels).all()


def test_a_private_sequence_whose_vr_nobody_wrote_is_still_walked_by_its_elements(tmp_path: Path):
    encoder = Encoder(uid.ImplicitVRLittleEndian)
    item = struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF) + encoder.element(0x00291011, "LO", b"abcd")
    blob = item + struct.pack("<HHL", 0xFFFE, 0xE00D, 0) + struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
    for whole in (encoder.element(0x00291010, "SQ", blob, length=0xFFFFFFFF), EXPLICIT.element(0x00291010, "UN", blob, length=0xFFFFFFFF)):
        syntax = uid.ExplicitVRLittleEndian if whole[4:6] == b"UN" else uid.ImplicitVRLittleEndian
        instance, reason = arrived(tmp_path, before_pixels(radiograph(syntax), whole))
        assert (instance.has_pixels, reason) == (True, "")


def test_an_unknown_of_undefined_length_is_little_endian_in_a_big_endian_file(tmp_path: Path):
    big, inside = Encoder(uid.ExplicitVRBigEndian), Encoder(uid.ImplicitVRLittleEndian)
    inner = inside.data_set({"RequestedProcedurePriority": "STAT"})
    item = struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF) + inner + struct.pack("<HHL", 0xFFFE, 0xE00D, 0)
    blob = big.element(0x00400275, "UN", item + struct.pack("<HHL", 0xFFFE, 0xE0DD, 0), length=0xFFFFFFFF)
    data = before_pixels(radiograph(uid.ExplicitVRBigEndian), blob, ">")
    instance, reason = arrived(tmp_path, data)
    assert (instance.stat, reason) == (True, "")
    assert (frame_of(data).pixels == frame_of(radiograph()).pixels).all()
    assert read_source(tmp_path / "film.dcm").sop_instance_uid == "1.2.3.4"


def test_the_receipt_alone_gives_a_bare_instance_and_without_it_there_is_none(tmp_path: Path):
    (tmp_path / "film.dcm").write_bytes(receipt())
    assert bare_instance(tmp_path / "film.dcm").sop_instance_uid == "1.2.3.4"
    for data in (b"", b"nothing of ours", receipt()[:150], receipt().replace(b"received_at", b"received_by")):
        (tmp_path / "film.dcm").write_bytes(data)
        with pytest.raises(ValueError):  # noqa: PT011 - which sentence does not matter, that it is no other type does
            arrival_of(tmp_path / "film.dcm")


# --- memory ---------------------------------------------------------------------------------------------------------


def test_a_shutter_of_a_huge_image_costs_the_header_nothing(tmp_path: Path):
    shutter = {"ShutterShape": "CIRCULAR", "CenterOfCircularShutter": "8000\\8000", "RadiusOfCircularShutter": "7000"}
    peak, instance, _ = peak_of_arrival(tmp_path, radiograph(Rows=16384, Columns=16384, **shutter))
    assert peak < 6
    assert instance.rendering_warnings == ()


def peak_of_arrival(folder: Path, data: bytes) -> tuple[float, Instance, str]:
    (folder / "film.dcm").write_bytes(data)
    arrival_of(folder / "film.dcm")  # imports and dictionaries are not the file's
    tracemalloc.start()
    instance, reason = arrival_of(folder / "film.dcm")
    peak = tracemalloc.get_traced_memory()[1] / MEBI
    tracemalloc.stop()
    return peak, instance, reason


HEAD = radiograph(PixelData=None)
MANY = b"".join(struct.pack("<HHL", 0xFFFE, 0xE000, 0) for _ in range(60_000))
BOMBS = {
    "pixels": lambda: deflated(data_set_of(HEAD) + b"\xe0\x7f\x10\0OW\0\0" + struct.pack("<L", 590 * MEBI), *[bytes(MEBI)] * 590),
    "a private element": lambda: deflated(
        data_set_of(HEAD) + b"\x29\0\x10\x10OB\0\0" + struct.pack("<L", 300 * MEBI), *[bytes(MEBI)] * 300
    ),
    "a name": lambda: radiograph(PatientComments=("UT", bytes(40 * MEBI))),
    "an order": lambda: radiograph(RequestAttributesSequence=("SQ", MANY)),
    "a table": lambda: radiograph(VOILUTSequence=("SQ", EXPLICIT.item({"LUTDescriptor": [0, 0, 16], "LUTData": ("OW", bytes(30 * MEBI))}))),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_header_costs_a_few_mebibytes_whatever_the_file(bomb: str, tmp_path: Path):
    peak, instance, _ = peak_of_arrival(tmp_path, BOMBS[bomb]())
    assert peak < 6
    assert instance.patient_id == "P1"


# --- any bytes ------------------------------------------------------------------------------------------------------


@lru_cache
def headers() -> tuple[bytes, ...]:
    """Data sets of ours in every plain syntax, and of real and hostile files where they are at hand."""
    ours = [data_set_of(radiograph(syntax)) for syntax in PLAIN]
    real = [path.read_bytes()[:20_000] for path in (*shared_dicom("everyday"), *shared_dicom("hostile"))]
    return (*ours, *(data[132:] if data[128:132] == b"DICM" else data for data in real))


SYNTAXES = st.sampled_from([syntax.uid for syntax in TRANSFER_SYNTAXES])


@st.composite
def any_data_set(draw: st.DrawFn) -> bytes:
    """Random bytes, or a header that was cut, changed or pieced together."""
    kind = draw(st.sampled_from(["random", "cut", "changed", "joined"]))
    if kind == "random":
        return draw(st.binary(max_size=300))
    data = bytearray(headers()[draw(st.integers(0, 10**6)) % len(headers())])
    if kind == "cut":
        return bytes(data[: draw(st.integers(0, len(data)))])
    if kind == "joined":
        at = draw(st.integers(0, len(data)))
        return bytes(data[:at]) + draw(st.binary(max_size=40)) + bytes(data[at:])
    for _ in range(draw(st.integers(1, 8))):
        data[draw(st.integers(0, max(min(len(data), 1200) - 1, 0)))] = draw(st.integers(0, 255))
    return bytes(data)


@settings(max_examples=400, suppress_health_check=list(HealthCheck))
@given(syntax=SYNTAXES, data_set=any_data_set(), packed=st.booleans())
def test_any_bytes_behind_a_valid_receipt_give_an_arrival(
    syntax: str, data_set: bytes, packed: bool, tmp_path_factory: pytest.TempPathFactory
):
    folder = tmp_path_factory.getbasetemp()
    instance, reason = arrived(folder, deflated(data_set) if packed else behind_receipt(syntax, data_set))
    assert instance.sop_instance_uid == "1.2.3.4"
    assert isinstance(reason, str)
    assert instance.study_uid
    with suppress(Unprocessable):
        instance_of_file(folder / "film.dcm")


@pytest.mark.parametrize("syntax", [*PLAIN, uid.DeflatedExplicitVRLittleEndian])
def test_a_file_cut_anywhere_gives_an_arrival_with_all_that_stood_before(syntax: str, tmp_path: Path):
    whole = deflated(data_set_of(radiograph())) if syntax == uid.DeflatedExplicitVRLittleEndian else radiograph(syntax)
    name_read = False
    for length in range(len(receipt(syntax)), len(whole), 13):
        instance, _ = arrived(tmp_path, whole[:length])
        name_read = name_read or instance.patient_name == "Sample^Iva"
        assert not name_read or instance.patient_name == "Sample^Iva"
    assert name_read


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(damage=st.binary(min_size=1, max_size=60), at=st.integers(0, 600))
def test_a_damaged_receipt_raises_value_error_alone(damage: bytes, at: int, tmp_path_factory: pytest.TempPathFactory):
    data = bytearray(radiograph())
    data[at : at + len(damage)] = damage
    with suppress(ValueError):
        arrived(tmp_path_factory.getbasetemp(), bytes(data))
