"""A value that means nothing costs itself and a warning, not the image; refused is only what cannot be drawn truly."""

from __future__ import annotations

import base64
import struct
from pathlib import Path

import numpy as np
import pytest
from pydicom import uid

from prioritizer.dicom.read.attributes import instance_of_file
from prioritizer.dicom.read.codec_selftest import SAMPLES, ramp
from prioritizer.dicom.read.decode import frame_of
from prioritizer.errors import Unprocessable
from prioritizer.imaging.preprocessing import grey_table, raw_words, robust_range
from tests.support.radiograph_files import COLUMNS, ROWS, STORED, Encoder, radiograph, receipt, sequence, table, usual

EXPLICIT, IMPLICIT, BIG = uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian, uid.ExplicitVRBigEndian
WINDOW = {"WindowCenter": "2048", "WindowWidth": "4096"}
GAMMA = np.rint(4095 * np.linspace(0, 1, 4096) ** 0.6).astype(int)


def shown(data: bytes) -> np.ndarray:
    """The image as it is drawn, before resizing: 0..1, shape (rows, columns)."""
    frame = frame_of(data)
    words = raw_words(frame.pixels)
    return grey_table(frame.grey, robust_range(words, frame.grey))[words]


def drawn_alike(one: bytes, other: bytes) -> bool:
    return bool(np.abs(shown(one) - shown(other)).max() < 1e-6)


def warned(folder: Path, data: bytes) -> tuple[str, ...]:
    (folder / "film.dcm").write_bytes(data)
    return instance_of_file(folder / "film.dcm").rendering_warnings


# --- values that mean nothing -----------------------------------------------------------------------------------


@pytest.mark.parametrize("width", ["0", "-4096", "nan", "", "EVE", "1e400"])
def test_a_window_that_means_nothing_is_none(width: str, tmp_path: Path):
    weak = radiograph(WindowCenter="2048", WindowWidth=width)
    assert drawn_alike(weak, radiograph())
    assert warned(tmp_path, weak)


@pytest.mark.parametrize(
    ("centers", "widths"),
    [
        ("0\\2048", "0\\4096"),
        ("\\2048", "\\4096"),
        ("x\\2048", "1\\4096"),
        ("-9000\\2048", "100\\4096"),
        ("2048,0", "4096,0"),
        ("2.048E3", "+4096"),
    ],
)
def test_the_first_window_that_can_be_meant_is_taken(centers: str, widths: str):
    assert drawn_alike(radiograph(WindowCenter=centers, WindowWidth=widths), radiograph(**WINDOW))


@pytest.mark.parametrize("width", ["0.98", "1"])
def test_a_window_narrower_than_whole_values_is_meant_exactly(width: str, tmp_path: Path):
    data = radiograph(RescaleSlope="0.0002442002442", RescaleIntercept="0", WindowCenter="0.5", WindowWidth=width)
    assert np.abs(shown(data) - np.clip((STORED / 4095 - 0.5) / float(width) + 0.5, 0, 1)).max() < 1e-5
    assert any("LINEAR_EXACT" in warning for warning in warned(tmp_path, data))


@pytest.mark.parametrize("function", ["LOG", "linear", "LINEAR \0", "EVE"])
def test_an_unknown_voi_lut_function_is_read_as_linear(function: str, tmp_path: Path):
    data = radiograph(**WINDOW, VOILUTFunction=function)
    assert drawn_alike(data, radiograph(**WINDOW))
    assert bool(warned(tmp_path, data)) is (function in ("LOG", "EVE"))


@pytest.mark.parametrize(("slope", "intercept"), [("0", "0"), ("EVE", "0"), ("1e300", "0"), ("1", "EVE"), ("0", "1e31")])
def test_a_rescale_that_means_nothing_is_none(slope: str, intercept: str, tmp_path: Path):
    data = radiograph(**WINDOW, RescaleSlope=slope, RescaleIntercept=intercept)
    assert drawn_alike(data, radiograph(**WINDOW))
    assert warned(tmp_path, data)


@pytest.mark.parametrize("frames", ["0", "", "-1", "one", "1\0"])
def test_a_number_of_frames_that_means_nothing_is_one(frames: str, tmp_path: Path):
    data = radiograph(NumberOfFrames=frames)
    assert drawn_alike(data, radiograph())
    (tmp_path / "film.dcm").write_bytes(data)
    assert instance_of_file(tmp_path / "film.dcm").number_of_frames == 1


@pytest.mark.parametrize("more", [1, 2, 512, 48])
def test_bytes_behind_the_frame_are_passed_over(more: int, tmp_path: Path):
    data = radiograph(PixelData=("OW", STORED.astype("<u2").tobytes() + bytes(more)))
    assert drawn_alike(data, radiograph())
    assert warned(tmp_path, data)


@pytest.mark.parametrize("high", [15, 0, 7, 40, None])
def test_a_high_bit_that_the_data_denies_is_passed_over(high: int | None, tmp_path: Path):
    data = radiograph(**WINDOW, HighBit=high)
    assert drawn_alike(data, radiograph(**WINDOW))
    assert bool(warned(tmp_path, data)) is (high is not None)


@pytest.mark.parametrize("signed", [False, True])
def test_values_at_the_upper_end_of_their_words_are_read_there(signed: bool):
    stored = STORED - 2048 if signed else STORED
    window = {"WindowCenter": "0" if signed else "2048", "WindowWidth": "4096"}
    left = radiograph(stored=stored << 4, signed=signed, HighBit=15, **window)
    assert drawn_alike(left, radiograph(stored=stored, signed=signed, **window))


@pytest.mark.parametrize("elements", [{"BitsStored": 0}, {"BitsStored": None}, {"BitsStored": 17}, {"BitsStored": 40, "HighBit": 99}])
def test_bits_stored_that_mean_nothing_are_read_from_high_bit_or_the_word(elements: dict[str, object], tmp_path: Path):
    data = radiograph(**(WINDOW | elements))
    assert drawn_alike(data, radiograph(**WINDOW))
    assert warned(tmp_path, data)


@pytest.mark.parametrize("allocated", [0, 8, None])
def test_bits_allocated_that_the_data_denies_are_those_it_holds(allocated: int | None, tmp_path: Path):
    data = radiograph(**WINDOW, BitsAllocated=allocated)
    assert drawn_alike(data, radiograph(**WINDOW))
    assert warned(tmp_path, data)


def test_bits_stored_that_mean_nothing_are_those_of_the_codestream():
    import jpeg_ls

    stored = ramp(12).astype("<u2")
    stream = bytes(jpeg_ls.encode_buffer(stored.tobytes(), *stored.shape, 1, 12))
    data = encapsulated(uid.JPEGLSLossless, stream, stored.shape, BitsStored=0, HighBit=0)
    assert (frame_of(data).grey.bits_stored, frame_of(data).pixels.tolist()) == (12, stored.tolist())


@pytest.mark.parametrize(
    "photometric",
    ["MONOCHROME2\0", " monochrome2", "MONOCHROME2   ", "MONOCHROME 2", "", None],
    ids=["nul", "small", "padded", "parted", "empty", "none"],
)
def test_an_oddly_padded_photometric_interpretation_is_understood(photometric: str | None, tmp_path: Path):
    data = radiograph(**WINDOW, PhotometricInterpretation=photometric)
    assert drawn_alike(data, radiograph(**WINDOW))
    assert bool(warned(tmp_path, data)) is (not photometric)


def test_identity_beside_monochrome1_is_monochrome1(tmp_path: Path):
    data = radiograph(**WINDOW, PhotometricInterpretation="MONOCHROME1", PresentationLUTShape="IDENTITY")
    assert np.abs(shown(data) - (1 - STORED / 4095)).max() < 1e-6
    assert warned(tmp_path, data)


@pytest.mark.parametrize(
    "elements",
    [
        {"Rows": 0}, {"Rows": ("US", struct.pack("<2H", 3, 4))}, {"Rows": ROWS + 1}, {"BitsAllocated": 12, "BitsStored": 12},
        {"NumberOfFrames": "2"}, {"PhotometricInterpretation": "RGB", "SamplesPerPixel": 3}, {"PixelRepresentation": 2},
    ],
)  # fmt: skip
def test_what_cannot_be_drawn_truly_is_refused(elements: dict[str, object]):
    with pytest.raises(Unprocessable):
        frame_of(radiograph(**elements))


def test_raw_values_of_the_detector_are_drawn_by_their_sign():
    raw = {"PresentationIntentType": "FOR PROCESSING", "PixelIntensityRelationship": "LIN"}
    bright_where_much_passes = radiograph(**WINDOW, **raw, PixelIntensityRelationshipSign=1)
    assert np.abs(shown(bright_where_much_passes) - (1 - STORED / 4095)).max() < 1e-6
    assert drawn_alike(radiograph(**WINDOW, **raw, PixelIntensityRelationshipSign=("SS", b"\xff\xff")), radiograph(**WINDOW))


# --- look-up tables ---------------------------------------------------------------------------------------------


def with_table(syntax: str, *items, **elements: object) -> bytes:
    return radiograph(syntax, **({"VOILUTSequence": sequence(syntax, *items)} | elements))


PLAIN = with_table(EXPLICIT, table(list(GAMMA), 0, 12))
EIGHT = np.rint(255 * np.linspace(0, 1, 4096) ** 0.6).astype(int)


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, BIG])
@pytest.mark.parametrize("data_vr", ["OW", "US"])
def test_a_table_is_the_same_in_every_syntax(syntax: str, data_vr: str):
    assert drawn_alike(with_table(syntax, table(list(GAMMA), 0, 12, data_vr=data_vr)), PLAIN)


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, BIG])
@pytest.mark.parametrize("vr", ["US", "SS"])
def test_the_first_value_is_signed_where_values_may_be_negative(syntax: str, vr: str):
    data = with_table(syntax, table(list(GAMMA), -2048, 12, vr=vr), RescaleSlope="1", RescaleIntercept="-2048")
    assert drawn_alike(data, PLAIN)


def test_the_first_value_is_unsigned_where_values_cannot_be_negative():
    stored = STORED * 16
    data = with_table(IMPLICIT, table(list(GAMMA), 40000, 12), PixelData=stored, BitsStored=16, HighBit=15)
    assert shown(data)[0, 0] == 0
    assert shown(data)[-1, -1] > 0
    assert frame_of(data).grey.voi_lut.first == 40000


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, BIG])
@pytest.mark.parametrize("data_vr", ["OW", "US"])
def test_bytes_packed_two_in_a_word_are_read_in_any_vr(syntax: str, data_vr: str):
    assert np.abs(shown(with_table(syntax, table(list(EIGHT), 0, 8, packed=True, data_vr=data_vr))) - EIGHT[STORED] / 255).max() < 1e-6


@pytest.mark.parametrize("declared", [8, 10, 12, 16, 0])
def test_the_range_of_a_table_is_what_it_holds_whatever_it_declares(declared: int):
    assert drawn_alike(with_table(EXPLICIT, table(list(GAMMA), 0, declared)), PLAIN)


def test_a_table_shorter_than_declared_goes_on_with_its_last_entry(tmp_path: Path):
    data = with_table(EXPLICIT, table([0, 100, 4095], 100, 12, count=4096))
    found = shown(data)
    assert [float(found.ravel()[STORED.ravel() == value][0]) for value in (96, 101, 4095) if value in STORED] == pytest.approx(
        [{96: 0.0, 101: 100 / 4095, 4095: 1.0}[value] for value in (96, 101, 4095) if value in STORED]
    )
    assert any("fewer entries" in warning for warning in warned(tmp_path, data))


@pytest.mark.parametrize("first", [table([7, 7, 7], 0, 8), table([0, 9], 60000, 8), table([], 0, 8)])
def test_the_first_usable_table_is_taken(first, tmp_path: Path):
    data = with_table(EXPLICIT, first, table(list(GAMMA), 0, 12))
    assert drawn_alike(data, PLAIN)
    assert any("VOI LUT" in warning for warning in warned(tmp_path, data))


def test_without_a_usable_table_the_window_counts(tmp_path: Path):
    data = with_table(EXPLICIT, table([7, 7, 7], 0, 8), **WINDOW)
    assert drawn_alike(data, radiograph(**WINDOW))
    assert warned(tmp_path, data)


@pytest.mark.parametrize("vr", ["LO", "SQ"])
def test_text_where_a_table_belongs_costs_the_table_alone(vr: str, tmp_path: Path):
    data = radiograph(**WINDOW, VOILUTSequence=(vr, b"no table here "))
    assert drawn_alike(data, radiograph(**WINDOW))
    assert warned(tmp_path, data)


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, BIG])
def test_a_modality_lut_is_read_in_every_syntax_and_packing(syntax: str):
    window = {"WindowCenter": "128", "WindowWidth": "256"}
    data = radiograph(syntax, **window, ModalityLUTSequence=sequence(syntax, table(list(EIGHT), 0, 8, packed=True)))
    assert np.abs(shown(data) - EIGHT[STORED] / 255).max() < 1e-6


# --- pixels -----------------------------------------------------------------------------------------------------


def encapsulated(
    syntax: str, stream: bytes, shape: tuple[int, int], *, end: bytes = b"\xfe\xff\xdd\xe0\0\0\0\0", **elements: object
) -> bytes:
    """A file around one compressed frame; `end` stands where the sequence delimiter belongs."""
    values = usual(np.zeros(shape)) | {"PixelData": None} | elements
    stream += b"\0" * (len(stream) % 2)
    item = struct.pack("<HHL", 0xFFFE, 0xE000, 0) + struct.pack("<HHL", 0xFFFE, 0xE000, len(stream)) + stream
    head = struct.pack("<HH2sHL", 0x7FE0, 0x0010, b"OB", 0, 0xFFFFFFFF)
    return receipt(syntax) + Encoder().data_set(values) + head + item + end


def rle(stored: np.ndarray) -> bytes:
    from rle.utils import encode_pixel_data

    shape = {"rows": stored.shape[0], "columns": stored.shape[1], "samples_per_pixel": 1, "bits_allocated": 16}
    return bytes(encode_pixel_data(stored.astype("<u2").tobytes(), byteorder="<", number_of_frames=1, **shape))


@pytest.mark.parametrize("end", [b"", bytes(8), bytes(3), bytes(64), b"\xfc\xff\xfc\xffOB\0\0"])
def test_a_whole_frame_without_its_delimiter_is_read(end: bytes):
    data = encapsulated(uid.RLELossless, rle(STORED), STORED.shape, end=end)
    assert (frame_of(data).pixels == STORED).all()


@pytest.mark.parametrize("lost", [1, 7, 100])
def test_a_cut_frame_is_refused_with_and_without_a_delimiter(lost: int):
    import jpeg_ls

    stored = ramp(12).astype("<u2")
    stream = bytes(jpeg_ls.encode_buffer(stored.tobytes(), *stored.shape, 1, 12))
    whole = encapsulated(uid.JPEGLSLossless, stream, stored.shape, end=b"")
    assert (frame_of(whole).pixels == stored).all()
    with pytest.raises(Unprocessable):
        frame_of(whole[: len(whole) - len(whole) % 2 - lost])
    with pytest.raises(Unprocessable):
        frame_of(encapsulated(uid.JPEGLSLossless, stream[: -lost - 1], stored.shape, end=b""))


@pytest.mark.parametrize(("rows", "columns"), [(ROWS, COLUMNS), (3, 5)])
def test_eight_bit_pixels_in_big_endian_words_are_in_their_order(rows: int, columns: int):
    stored = (np.arange(rows * columns) % 251).reshape(rows, columns)
    raw = stored.astype("<u1").tobytes() + b"\0" * (rows * columns % 2)
    swapped = np.frombuffer(raw, "<u2").byteswap().tobytes()
    assert (frame_of(radiograph(BIG, stored, bits=8, allocated=8, PixelData=("OW", swapped))).pixels == stored).all()
    assert (frame_of(radiograph(BIG, stored, bits=8, allocated=8, PixelData=("OB", raw))).pixels == stored).all()


@pytest.mark.parametrize("signed", [False, True])
def test_pixels_of_unknown_vr_are_little_endian_in_a_big_endian_file(signed: bool):
    stored = STORED - 2048 if signed else STORED
    raw = ("UN", stored.astype("<i2").tobytes())
    assert (frame_of(radiograph(BIG, signed=signed, PixelData=raw)).pixels == stored).all()
    assert (frame_of(radiograph(EXPLICIT, signed=signed, PixelData=raw)).pixels == stored).all()


@pytest.mark.parametrize("syntax", [uid.JPEGBaseline8Bit, uid.JPEGLosslessSV1, uid.JPEGLSLossless])
def test_a_frame_that_states_its_lines_behind_its_data_is_refused_with_that_reason(syntax: str):
    frame = bytearray(base64.b64decode(SAMPLES[syntax]))
    start = next(at for at in range(2, len(frame)) if frame[at] == 0xFF and frame[at + 1] in (0xC0, 0xC3, 0xF7))
    frame[start + 5 : start + 7] = b"\0\0"
    bits = {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7} if syntax == uid.JPEGBaseline8Bit else {}
    with pytest.raises(Unprocessable, match="number of lines"):
        frame_of(encapsulated(syntax, bytes(frame), (16, 16), **bits))


@pytest.mark.parametrize("lossy", ["01", "00", None])
def test_an_overshoot_of_a_lossy_codec_is_white_and_not_black(lossy: str | None):
    stored = STORED.copy()
    stored[:2] = 4100  # a lossy codec of 16 bits under Bits Stored 12
    assert (shown(radiograph(stored=stored, **WINDOW, LossyImageCompression=lossy))[:2] == 1).all()


def test_an_overshoot_of_signed_values_is_clipped_on_both_sides():
    stored = STORED - 2048
    stored[0], stored[1] = 2050, -2060
    found = shown(radiograph(stored=stored, signed=True, WindowCenter="0", WindowWidth="4096", LossyImageCompression="01"))
    assert (found[0].min(), found[1].max()) == (pytest.approx(1), pytest.approx(0))


def test_the_bits_of_an_overlay_are_masked_off():
    stored = STORED.copy()
    stored[:2] += 4096 * 8
    assert drawn_alike(radiograph(stored=stored, **WINDOW), radiograph(**WINDOW))
    stored[:2] = 4100
    overlay = struct.pack("<HH2sHH", 0x6000, 0x0102, b"US", 2, 12)
    data = radiograph(stored=stored, **WINDOW, LossyImageCompression="01")
    at = data.rindex(struct.pack("<HH", 0x7FE0, 0x0010))
    assert (shown(data[:at] + overlay + data[at:])[:2] < 0.01).all()


def test_an_overshoot_inside_a_lossy_codestream_is_clipped():
    from openjpeg.utils import encode_array

    stored = (np.arange(64 * 64, dtype=np.uint16) % 4096).reshape(64, 64)
    stored[:4] = 4110
    stream = bytes(encode_array(stored, bits_stored=16, photometric_interpretation=2, compression_ratios=[2.0]))
    found = shown(encapsulated(uid.JPEG2000, stream, stored.shape, **WINDOW))
    assert found[:3].min() > 0.99


def jpeg_ls(stored: np.ndarray) -> bytes:
    import jpeg_ls

    stored = np.ascontiguousarray(stored.astype("<u2"))
    return bytes(jpeg_ls.encode_buffer(stored.tobytes(), *stored.shape, 1, max(int(stored.max()).bit_length(), 9)))


def jpeg2000(stored: np.ndarray) -> bytes:
    from openjpeg.utils import encode_array

    return bytes(encode_array(np.ascontiguousarray(stored.astype("<u2")), bits_stored=16, photometric_interpretation=2))


def in_form(form: str, stored: np.ndarray, **elements: object) -> bytes:
    """One image, native or in a lossless syntax."""
    if form == "native":
        return radiograph(stored=stored, **elements)
    syntax, encode = {
        "RLE": (uid.RLELossless, rle), "JPEG-LS": (uid.JPEGLSLossless, jpeg_ls), "JPEG 2000": (uid.JPEG2000Lossless, jpeg2000),
    }[form]  # fmt: skip
    return encapsulated(syntax, encode(stored & 0xFFFF), stored.shape, **elements)


TALL = np.repeat(STORED, 2, axis=0)
"""The ramp as high as the JPEG 2000 encoder wants it."""
FORMS = ("native", "RLE", "JPEG-LS", "JPEG 2000")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("signed", [False, True])
def test_high_bit_is_honoured_in_native_and_in_compressed_pixels(form: str, signed: bool, tmp_path: Path):
    if form == "JPEG 2000" and signed:
        pytest.skip("its samples carry a sign of their own")
    stored = TALL - 2048 if signed else TALL
    window = {"WindowCenter": "0" if signed else "2048", "WindowWidth": "4096", "PixelRepresentation": int(signed)}
    left = in_form(form, stored << 4, HighBit=15, **window)
    assert drawn_alike(left, radiograph(stored=stored, signed=signed, **window))
    assert any("High Bit" in warning for warning in warned(tmp_path, left))


@pytest.mark.parametrize("form", FORMS)
def test_a_high_bit_that_compressed_values_deny_is_passed_over(form: str):
    assert drawn_alike(in_form(form, TALL, HighBit=15, **WINDOW), radiograph(stored=TALL, **WINDOW))


def test_a_codestream_that_does_not_reach_high_bit_holds_no_gap():
    even = TALL & ~15  # by their bits alone these could lie at the upper end of their words
    assert drawn_alike(in_form("JPEG-LS", even, HighBit=15, **WINDOW), radiograph(stored=even, **WINDOW))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("factor", "bits"), [(1, 8), (1, 10), (1, 11), (2, 12), (16, 12), (16, 14)])
def test_values_beyond_bits_stored_are_read_whole_with_a_warning(form: str, factor: int, bits: int):
    window = {"WindowCenter": str(2048 * factor), "WindowWidth": str(4096 * factor)}
    data = in_form(form, TALL * factor, BitsStored=bits, HighBit=bits - 1, **window)
    assert np.abs(shown(data) - shown(radiograph(stored=TALL * factor, bits=16, **window))).max() < 1e-6
    assert any("beyond Bits Stored" in warning for warning in frame_of(data).warnings)
    assert drawn_alike(in_form(form, TALL * factor, BitsStored=bits, HighBit=bits - 1), radiograph(stored=TALL * factor, bits=16))


@pytest.mark.parametrize("signed", [False, True])
def test_values_beyond_high_bit_are_read_whole_above_it(signed: bool):
    stored = TALL - 2048 if signed else TALL
    window = {"WindowCenter": "0" if signed else "2048", "WindowWidth": "4096"}
    data = radiograph(stored=stored << 2, bits=10, signed=signed, HighBit=11, **window)
    assert drawn_alike(data, radiograph(stored=stored, signed=signed, **window))
    assert any("beyond Bits Stored" in warning for warning in frame_of(data).warnings)


def test_an_overlay_above_values_at_the_upper_end_is_masked_off():
    stored = (TALL << 2).copy()
    stored[4:8, 4:8] |= 1 << 15
    data = radiograph(stored=stored, HighBit=13, **WINDOW)
    assert drawn_alike(data, radiograph(stored=TALL, **WINDOW))
    assert any("overlay" in warning for warning in frame_of(data).warnings)


def test_signed_values_beyond_bits_stored_are_read_whole():
    window = {"WindowCenter": "0", "WindowWidth": "4096"}
    data = radiograph(stored=TALL - 2048, bits=10, signed=True, **window)
    assert drawn_alike(data, radiograph(stored=TALL - 2048, signed=True, **window))
    assert frame_of(data).warnings


def test_signed_values_without_their_sign_extended_are_right_and_need_no_warning():
    window = {"WindowCenter": "0", "WindowWidth": "4096"}
    data = radiograph(stored=(TALL - 2048) & 0xFFF, signed=True, **window)
    assert drawn_alike(data, radiograph(stored=TALL - 2048, signed=True, **window))
    assert frame_of(data).warnings == ()


def test_values_beyond_bits_stored_in_a_lossy_image_are_no_overshoot():
    data = radiograph(stored=TALL, bits=10, LossyImageCompression="01", **WINDOW)
    assert drawn_alike(data, radiograph(stored=TALL, **WINDOW))
    assert frame_of(data).warnings


@pytest.mark.parametrize("bit", [12, 13, 15])
def test_an_overlay_that_nobody_declares_is_masked_off_with_a_warning(bit: int):
    stored = (np.arange(200 * 160) * 4095 // (200 * 160 - 1)).reshape(200, 160)
    text = np.random.default_rng(1).random((40, 60)) > 0.5
    marked = stored.copy()
    marked[150:190, 20:80] |= text << bit
    data = radiograph(stored=marked, **WINDOW)
    assert drawn_alike(data, radiograph(stored=stored, **WINDOW))
    assert any("overlay" in warning for warning in frame_of(data).warnings)


def test_an_overlay_above_values_beyond_bits_stored_is_masked_off():
    stored = TALL.copy()
    stored[4:8, 4:8] |= 1 << 14
    overlay = struct.pack("<HH2sHH", 0x6000, 0x0102, b"US", 2, 14)
    data = radiograph(stored=stored, bits=10, **WINDOW)
    at = data.rindex(struct.pack("<HH", 0x7FE0, 0x0010))
    assert drawn_alike(data[:at] + overlay + data[at:], radiograph(stored=TALL, **WINDOW))


def test_a_window_that_only_the_true_bits_reach_is_taken():
    window = {"WindowCenter": "40000", "WindowWidth": "20000"}
    assert drawn_alike(radiograph(stored=TALL * 16, **window), radiograph(stored=TALL * 16, bits=16, **window))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("window", [{}, WINDOW])
def test_padding_beyond_bits_stored_is_black(form: str, window: dict[str, object]):
    outside = TALL < 400
    data = in_form(form, np.where(outside, 65535, TALL), PixelPaddingValue=65535, **window)
    plain = radiograph(stored=np.where(outside, 0, TALL), PixelPaddingValue=0, **window)
    assert (shown(data)[outside] == 0).all()
    assert drawn_alike(data, plain)
    assert frame_of(data).warnings == ()


@pytest.mark.parametrize("padding", [-2000, -32768])
def test_padding_of_signed_values_is_black_within_and_beyond_bits_stored(padding: int):
    outside = TALL < 400
    data = radiograph(
        stored=np.where(outside, padding, TALL - 2048), signed=True, PixelPaddingValue=padding, WindowCenter="0", WindowWidth="4096"
    )
    assert (shown(data)[outside] == 0).all()
    assert (shown(data)[~outside] > 0.09).all()


# --- shape, turn, shutter ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("elements", "aspect"),
    [
        ({"PixelAspectRatio": "2\\1"}, 2.0),
        ({"PixelSpacing": "0.2\\0.1"}, 2.0),
        ({"ImagerPixelSpacing": "0.1\\0.2"}, 0.5),
        ({"PixelSpacing": "0.1\\0.1", "ImagerPixelSpacing": "0.2\\0.2"}, 1.0),
        ({"PixelSpacing": "0\\0.1"}, 1.0),
        ({"PixelSpacing": "0.1"}, 1.0),
        ({"PixelAspectRatio": "1000\\1"}, 1.0),
        ({"PixelAspectRatio": "x\\1"}, 1.0),
        ({"PixelSpacing": "0,2\\0,1"}, 2.0),
    ],
)
def test_the_shape_of_pixels_is_read_wherever_it_is_stated(elements: dict[str, object], aspect: float):
    assert frame_of(radiograph(**elements)).geometry.aspect == pytest.approx(aspect)


def test_a_spacing_of_zero_is_not_stated(tmp_path: Path):
    data = radiograph(PixelSpacing="0.000\\0.000", PixelAspectRatio="2\\1")
    assert (frame_of(data).geometry.aspect, warned(tmp_path, data)) == (2.0, ())


def test_an_image_that_is_turned_upright_says_so(tmp_path: Path):
    data = radiograph(PatientOrientation="F\\R")
    geometry = frame_of(data).geometry
    assert (geometry.transposed, geometry.flipped_across, geometry.flipped_down) == (True, True, False)
    assert warned(tmp_path, data) == ("turned upright, as Patient Orientation says",)
    assert warned(tmp_path, radiograph(PatientOrientation="L\\F")) == ()


EDGES = {
    "ShutterLeftVerticalEdge": "3", "ShutterRightVerticalEdge": "30", "ShutterUpperHorizontalEdge": "2", "ShutterLowerHorizontalEdge": "20",
}  # fmt: skip


def test_a_display_shutter_of_several_shapes_is_read():
    shutter = frame_of(
        radiograph(
            ShutterShape="RECTANGULAR\\CIRCULAR\\POLYGONAL", **EDGES, CenterOfCircularShutter="12\\16", RadiusOfCircularShutter="10",
            VerticesOfThePolygonalShutter="1\\1\\1\\32\\24\\16", ShutterPresentationValue=65535,
        )
    ).geometry.shutter  # fmt: skip
    assert shutter is not None
    assert (shutter.rectangle, shutter.circle, shutter.level) == ((3, 30, 2, 20), (12, 16, 10), 1.0)
    assert shutter.polygon == ((1, 1), (1, 32), (24, 16))


@pytest.mark.parametrize(
    "elements",
    [
        {"ShutterShape": "RECTANGULAR"},
        {"ShutterShape": "RECTANGULAR", **EDGES, "ShutterLeftVerticalEdge": "31"},
        {"ShutterShape": "RECTANGULAR", **EDGES, "ShutterLeftVerticalEdge": "500", "ShutterRightVerticalEdge": "600"},
        {"ShutterShape": "CIRCULAR", "CenterOfCircularShutter": "12\\16", "RadiusOfCircularShutter": "0"},
        {"ShutterShape": "POLYGONAL", "VerticesOfThePolygonalShutter": "1\\1\\2\\2"},
        {"ShutterShape": "STAR"},
    ],
)
def test_a_shutter_that_means_nothing_hides_nothing(elements: dict[str, object], tmp_path: Path):
    data = radiograph(**elements)
    assert frame_of(data).geometry.shutter is None
    assert warned(tmp_path, data)
