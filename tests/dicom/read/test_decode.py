"""Files nobody has vetted become one grey frame or one sentence."""

from __future__ import annotations

import base64
import struct
import warnings
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest
import rle.utils
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate

from prioritizer.dicom.read import codecs
from prioritizer.dicom.read.byte_stream import BufferStream
from prioritizer.dicom.read.codec_selftest import SAMPLES, codec_selftest, ramp
from prioritizer.dicom.read.codecs import CODECS, NATIVE
from prioritizer.dicom.read.decode import RENDERING_TAGS, Frame, frame_of, read_frame, rendering_of
from prioritizer.dicom.read.sandboxed import same_pixels
from prioritizer.dicom.read.structure import read_header
from prioritizer.dicom.stand_ins.phantom_files import PhantomPatient, phantom_file
from prioritizer.errors import Unprocessable
from prioritizer.imaging import phantoms
from tests.support.pacs import shared_dicom

FILM = PhantomPatient(number=1, taken_at=datetime(2026, 11, 22, 9, 30, tzinfo=UTC), rows=48, columns=40)
WRITTEN = (*NATIVE, uid.RLELossless, uid.JPEGLSLossless, uid.JPEG2000Lossless)


def changed(syntax: str = uid.ExplicitVRLittleEndian, **attributes: object) -> bytes:
    """The phantom with other attribute values; None takes one away."""
    film = pydicom.dcmread(BytesIO(phantom_file(FILM, syntax)))
    for keyword, value in attributes.items():
        if value is None:
            delattr(film, keyword)
        else:
            setattr(film, keyword, value)
    file = BytesIO()
    film.save_as(file)
    return file.getvalue()


def outcome(data: bytes) -> Frame | Unprocessable:
    """The frame or the refusal; any other exception fails the test."""
    try:
        return frame_of(data)
    except Unprocessable as refusal:
        return refusal


def slug_of(data: bytes) -> str:
    with pytest.raises(Unprocessable) as caught:
        frame_of(data)
    return caught.value.slug


@pytest.mark.parametrize("syntax", WRITTEN, ids=lambda syntax: uid.UID(syntax).name)
def test_lossless_syntaxes_return_the_stored_values(syntax: str):
    expected = phantoms.stored_pixels(48, 40, bits=12, seed=1)
    assert (frame_of(phantom_file(FILM, syntax)).pixels == expected).all()


def test_every_syntax_of_the_table_passes_the_self_test():
    assert {syntax: fault for syntax, fault in codec_selftest().items() if fault} == {}


def test_the_self_test_names_a_codec_that_decodes_wrong(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(SAMPLES, uid.JPEGLSLossless, SAMPLES[uid.JPEGLSNearLossless])
    assert "decodes wrong" in str(codec_selftest()[uid.JPEGLSLossless])


def test_the_self_test_names_a_codec_that_fails(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(SAMPLES, uid.JPEG2000, "AAAA")
    faults = codec_selftest()
    assert faults[uid.JPEG2000] is not None
    assert faults[uid.JPEG2000Lossless] is None


@pytest.mark.parametrize("syntax", [syntax for syntax, codec in CODECS.items() if not codec.lossless], ids=lambda syntax: syntax.name)
def test_what_any_lossy_syntax_left_of_an_image_is_the_same_image(syntax: str, tmp_path: Path):
    frame = base64.b64decode(SAMPLES[syntax])
    bits = 8 if syntax == uid.JPEGBaseline8Bit else 12
    native = pydicom.dcmread(BytesIO(phantom_file(FILM)))
    native.Rows, native.Columns, native.BitsStored, native.HighBit, native.BitsAllocated = 16, 16, bits, bits - 1, 8 * (1 + bits // 9)
    native.PixelData = ramp(bits).astype("<u2" if bits > 8 else "<u1").tobytes()
    native.save_as(tmp_path / "native.dcm")
    native.file_meta.TransferSyntaxUID = syntax
    native.PixelData = encapsulate([frame])
    native.save_as(tmp_path / "lossy.dcm")
    assert same_pixels(tmp_path / "native.dcm", tmp_path / "lossy.dcm")


def test_a_native_frame_is_the_mapped_file_and_not_a_copy(tmp_path: Path):
    path = tmp_path / "film.dcm"
    path.write_bytes(phantom_file(FILM))
    pixels = read_frame(path).pixels
    assert not pixels.flags.owndata
    assert not pixels.flags.writeable


@pytest.mark.parametrize("path", shared_dicom("everyday"), ids=lambda path: path.stem)
def test_everyday_files_decode_as_pydicom_decodes_them(path: Path):
    frame = outcome(path.read_bytes())
    if isinstance(frame, Unprocessable):
        assert frame.slug in {"no-pixels", "colour", "multi-frame"}
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reference = pydicom.dcmread(path, force=True)
        if "TransferSyntaxUID" not in reference.file_meta:
            reference.file_meta.TransferSyntaxUID = uid.ImplicitVRLittleEndian
        expected = reference.pixel_array
    assert frame.pixels.shape == expected.shape
    assert (frame.pixels == expected).all()


@pytest.mark.parametrize("path", shared_dicom("hostile"), ids=lambda path: path.stem)
def test_hostile_files_give_a_frame_or_a_sentence_and_nothing_else(path: Path):
    result = outcome(path.read_bytes())
    if isinstance(result, Unprocessable):
        assert result.slug
        assert len(result.reason) < 200
    else:
        assert result.pixels.ndim == 2


@pytest.mark.parametrize(
    ("attributes", "slug"),
    [
        ({"Rows": 0}, "dimensions"),
        ({"Rows": None}, "dimensions"),
        ({"Columns": 20000}, "dimensions"),
        ({"Rows": 49}, "pixel-length"),
        ({"NumberOfFrames": 2}, "multi-frame"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "palette"),
        ({"PhotometricInterpretation": "RGB", "SamplesPerPixel": 3}, "colour"),
        ({"BitsAllocated": 32}, "bits"),
        ({"PixelData": None}, "no-pixels"),
    ],
)
def test_a_header_that_contradicts_itself_is_refused_by_name(attributes: dict[str, object], slug: str):
    assert slug_of(changed(**attributes)) == slug


def test_private_and_video_syntaxes_are_refused():
    plain = phantom_file(FILM)
    assert slug_of(plain.replace(b"1.2.840.10008.1.2.1\0", b"1.2.276.0.7.1.2.9.1\0")) == "transfer-syntax"


def test_a_codestream_of_other_dimensions_is_refused_before_decoding():
    assert slug_of(changed(uid.JPEG2000Lossless, Rows=40, Columns=48)) == "codec-header"


def test_an_8_bit_codestream_under_a_12_bit_header_is_refused():
    frame = next(pydicom.encaps.generate_frames(pydicom.dcmread(BytesIO(phantom_file(FILM, uid.JPEGBaseline8Bit))).PixelData))
    film = pydicom.dcmread(BytesIO(phantom_file(FILM, uid.RLELossless)))
    film.file_meta.TransferSyntaxUID = uid.JPEGBaseline8Bit
    film.PixelData = encapsulate([frame])
    file = BytesIO()
    film.save_as(file)
    assert slug_of(file.getvalue()) == "codec-header"


def test_nesting_beyond_the_limit_is_refused():
    inner = Dataset()
    for _ in range(34):
        outer = Dataset()
        outer.ReferencedStudySequence = [inner]
        inner = outer
    assert slug_of(changed(ReferencedStudySequence=inner.ReferencedStudySequence)) == "too-deep"


def test_more_elements_than_the_limit_are_refused():
    assert slug_of(changed(ReferencedStudySequence=[Dataset() for _ in range(100_001)])) == "too-many-elements"


def test_an_attachment_is_passed_over():
    film = pydicom.dcmread(BytesIO(phantom_file(FILM)))
    film.add_new(0x00420011, "OB", bytes(16 * 2**20 + 2))
    file = BytesIO()
    film.save_as(file)
    assert (frame_of(file.getvalue()).pixels == phantoms.stored_pixels(48, 40, seed=1)).all()


def test_a_deflated_bomb_is_cut_off(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("prioritizer.dicom.read.structure.MAX_INFLATED_BYTES", 1000)
    assert slug_of(phantom_file(FILM, uid.DeflatedExplicitVRLittleEndian)) == "too-large"


def test_every_truncation_is_refused():
    whole = phantom_file(FILM)
    for length in range(0, len(whole) - 1, 97):
        slug_of(whole[:length])


def test_the_word_dicm_in_the_data_is_no_preamble():
    bare = phantom_file(FILM, uid.ImplicitVRLittleEndian)
    bare = bare[bare.index(struct.pack("<HHL", 8, 5, 10)) :]
    assert bare[128:132] != b"DICM"
    assert (frame_of(bare[:128] + bare[128:]).pixels == phantoms.stored_pixels(48, 40, seed=1)).all()


def test_a_file_without_file_meta_is_read_as_the_data_set_it_is():
    explicit = phantom_file(FILM)
    bare = explicit[explicit.index(struct.pack("<HH2sH", 8, 5, b"CS", 10)) :]
    assert frame_of(bare).transfer_syntax == uid.ExplicitVRLittleEndian


def test_the_first_window_counts_when_there_are_several():
    window = frame_of(changed(WindowCenter=["40", "400"], WindowWidth=["80", "800"])).grey.window
    assert window is not None
    assert (window.center, window.width, window.function) == (40.0, 80.0, "LINEAR")


@pytest.mark.parametrize(("photometric", "shape", "inverted"), [
    ("MONOCHROME1", None, True),
    ("MONOCHROME1", "INVERSE", True),
    ("MONOCHROME2", "INVERSE", True),
    ("MONOCHROME2", "IDENTITY", False),
])  # fmt: skip
def test_an_inversion_stated_twice_is_done_once(photometric: str, shape: str | None, inverted: bool):
    attributes = {"PhotometricInterpretation": photometric} | ({"PresentationLUTShape": shape} if shape else {})
    assert frame_of(changed(**attributes)).grey.inverted is inverted


def lut_item(entries: list[int], first: int, bits: int) -> Dataset:
    item = Dataset()
    item.add_new(0x00283002, "US", [len(entries), first, bits])
    item.add_new(0x00283006, "US", entries)
    return item


def test_look_up_tables_are_read_with_their_first_value_and_depth():
    grey = frame_of(changed(ModalityLUTSequence=[lut_item([5, 6, 7], 2, 12)], VOILUTSequence=[lut_item([0, 255], 5, 8)])).grey
    assert grey.modality_lut is not None
    assert grey.voi_lut is not None
    assert (grey.modality_lut.first, grey.modality_lut.entries.tolist(), grey.modality_lut.bits) == (2, [5, 6, 7], 12)
    assert (grey.voi_lut.first, grey.voi_lut.bits) == (5, 8)


def test_padding_written_as_unsigned_reads_as_the_signed_value_it_is():
    data = changed(BitsStored=16, HighBit=15, PixelRepresentation=1)
    film = pydicom.dcmread(BytesIO(data))
    film.add_new(0x00280120, "US", 63536)
    file = BytesIO()
    film.save_as(file)
    assert frame_of(file.getvalue()).grey.padding == (-2000, -2000)


def test_signed_samples_of_a_codec_that_knows_no_sign_are_sign_extended():
    import jpeg_ls

    film = pydicom.dcmread(BytesIO(phantom_file(FILM, uid.JPEGLSLossless)))
    signed = phantoms.stored_pixels(48, 40, seed=1).astype(np.int16) - 2048
    film.PixelRepresentation = 1
    film.PixelData = encapsulate([bytes(jpeg_ls.encode_buffer((signed & 0xFFF).astype("<u2").tobytes(), 48, 40, 1, 12))])
    file = BytesIO()
    film.save_as(file)
    assert (frame_of(file.getvalue()).pixels == signed).all()


def test_neither_refusals_nor_warnings_repeat_what_the_file_says():
    data = phantom_file(FILM).replace(b"2048", b"EVE^")
    header, _ = read_header(BufferStream(data), RENDERING_TAGS)
    warnings = rendering_of(header).warnings
    assert warnings
    assert not any("EVE" in warning for warning in warnings)
    with pytest.raises(Unprocessable) as caught:
        frame_of(data.replace(b"MONOCHROME2", b"EVEOCHROME2"))
    assert "EVE" not in str(caught.value)


def test_the_ramp_of_the_self_test_uses_all_its_bits():
    assert ramp(12).max() > 2**11
    assert set(SAMPLES) == set(CODECS)


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    st.integers(0, 10**6),
    st.integers(0, 255),
    st.sampled_from((uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian, uid.RLELossless)),
)
def test_one_changed_byte_gives_a_frame_or_a_sentence(place: int, value: int, syntax: str):
    data = bytearray(phantom_file(FILM, syntax))
    data[place % min(len(data), 1600)] = value
    assert isinstance(outcome(bytes(data)), (Frame, Unprocessable))


def test_a_codec_that_panics_gives_a_sentence() -> None:
    ramp = np.arange(256, dtype="<u2").reshape(16, 16)
    frame = bytearray(
        rle.utils.encode_pixel_data(
            ramp.tobytes(), bits_allocated=16, bits_stored=16, rows=16, columns=16, samples_per_pixel=1, number_of_frames=1, byteorder="<"
        )
    )
    frame[8] = 129  # the second segment starts elsewhere: the Rust decoder runs over its own array
    shape = codecs.ImageShape(rows=16, columns=16, bits_allocated=16, bits_stored=16, signed=False)
    with pytest.raises(Unprocessable, match="cannot be decoded"):
        codecs.decode_frame(bytes(frame), shape, uid.RLELossless)
