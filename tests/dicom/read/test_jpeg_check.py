"""A JPEG frame is decoded whole or not at all."""

from __future__ import annotations

import functools
import random
import shutil
import struct
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import imagecodecs
import numpy as np
import pydicom
import pytest
from pydicom import uid
from pydicom.encaps import generate_frames

from prioritizer.dicom.read.codecs import ImageShape, decode_frame
from prioritizer.dicom.stand_ins.phantom_files import PhantomPatient, phantom_file
from prioritizer.errors import Unprocessable
from prioritizer.imaging import phantoms

ROWS, COLUMNS = 60, 44


def picture(bits: int) -> np.ndarray:
    """A phantom with noise, 0 and the largest value in it."""
    noise = np.random.default_rng(1).integers(0, 2 ** max(bits - 8, 1), (ROWS, COLUMNS))
    stored = phantoms.stored_pixels(ROWS, COLUMNS, bits=bits, seed=1).astype(np.int64) + noise
    stored[3, 5:8] = 0, 2**bits - 1, 0
    return np.clip(stored, 0, 2**bits - 1).astype("<u1" if bits <= 8 else "<u2")


def decoded(frame: bytes, bits: int, syntax: str = uid.JPEGLossless) -> np.ndarray:
    shape = ImageShape(rows=ROWS, columns=COLUMNS, bits_allocated=8 if bits <= 8 else 16, bits_stored=bits, signed=False)
    return decode_frame(frame, shape, syntax)


def is_refused(frame: bytes, bits: int, syntax: str = uid.JPEGLossless) -> bool:
    try:
        decoded(frame, bits, syntax)
    except Unprocessable as refusal:
        return refusal.slug in {"codec", "codec-header"}
    return False


def segment(marker: int, parameters: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(parameters) + 2) + parameters


def lossless_jpeg(stored: np.ndarray, bits: int, predictor: int, *, shift: int = 0, lines: int = 0) -> bytes:
    """A plain lossless encoder (ISO 10918-1 H.1), sample after sample: it shares nothing with what it tests."""
    samples = stored.astype(int) >> shift
    rows, columns = samples.shape
    head = b"\xff\xd8" + segment(0xC3, struct.pack(">BHHB3B", bits, rows, columns, 1, 1, 0x11, 0))
    head += segment(0xC4, bytes([0, 0, 0, 0, 0, 17, *[0] * 11, *range(17)]))  # 17 categories, codes of 5 bits
    head += segment(0xDD, struct.pack(">H", lines * columns)) if lines else b""
    head += segment(0xDA, bytes([1, 1, 0, predictor, 0, shift]))
    data, pieces = "", []
    for row in range(rows):
        first = row % (lines or rows) == 0
        if first and row:
            pieces.append(data)
            data = ""
        for column in range(columns):
            a = samples[row, column - 1] if column else None
            b, c = (None, None) if first else (samples[row - 1, column], samples[row - 1, column - 1] if column else None)
            if a is None:
                prediction = 1 << (bits - shift - 1) if b is None else b
            elif b is None:
                prediction = a
            else:
                halves = (a + ((b - c) >> 1), b + ((a - c) >> 1), (a + b) >> 1)
                prediction = (a, b, c, a + b - c, *halves)[predictor - 1]
            difference = (samples[row, column] - prediction + 32768) % 65536 - 32768
            category = abs(int(difference)).bit_length()
            extra = difference if difference > 0 else difference + (1 << category) - 1
            data += f"{category:05b}" + (f"{extra:0{category}b}" if 0 < category < 16 else "")
    pieces.append(data)
    scans = []
    for piece in pieces:
        whole = piece + "1" * (-len(piece) % 8)
        scans.append(int(whole, 2).to_bytes(len(whole) // 8, "big").replace(b"\xff", b"\xff\0"))
    return head + b"".join(scan + bytes([0xFF, 0xD0 + number % 8]) for number, scan in enumerate(scans[:-1])) + scans[-1] + b"\xff\xd9"


@pytest.mark.parametrize("predictor", range(1, 8))
@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_whole_lossless_frames_of_libjpeg_turbo_are_decoded_exactly(bits: int, predictor: int):
    stored = picture(bits)
    frame = imagecodecs.jpeg8_encode(stored, lossless=True, predictor=predictor, bitspersample=bits)
    assert (decoded(frame, bits) == stored).all()


@pytest.mark.parametrize("predictor", range(1, 8))
@pytest.mark.parametrize(("bits", "shift", "lines"), [(8, 0, 0), (12, 2, 0), (14, 0, 1), (16, 0, 7), (16, 4, 3), (12, 0, 59)])
def test_point_transform_and_restart_intervals_are_accounted_for(bits: int, shift: int, lines: int, predictor: int):
    stored = picture(bits)
    frame = lossless_jpeg(stored, bits, predictor, shift=shift, lines=lines)
    assert (decoded(frame, bits) == stored >> shift << shift).all()


def test_the_difference_of_half_the_range_has_a_code_without_further_bits():
    stored = np.zeros((ROWS, COLUMNS), dtype="<u2")
    stored[::2, ::2] = 32768
    assert (decoded(lossless_jpeg(stored, 16, 1), 16) == stored).all()


@pytest.mark.skipif(shutil.which("dcmcjpeg") is None, reason="DCMTK is not installed")
@pytest.mark.parametrize(
    "options", [["+e1"], *(["+el", "+sv", str(number)] for number in range(1, 8)), ["+el", "+sv", "1", "+pt", "2"]], ids=" ".join
)
def test_lossless_frames_of_dcmtk_are_decoded_exactly(options: list[str], tmp_path: Path):
    patient = PhantomPatient(number=1, taken_at=datetime(2026, 11, 22, tzinfo=UTC), rows=ROWS, columns=COLUMNS, bits=14)
    (tmp_path / "native.dcm").write_bytes(phantom_file(patient))
    subprocess.run(["dcmcjpeg", *options, tmp_path / "native.dcm", tmp_path / "jpeg.dcm"], check=True)
    shift = 2 if "+pt" in options else 0
    frame = next(generate_frames(pydicom.dcmread(tmp_path / "jpeg.dcm").PixelData, number_of_frames=1))
    stored = phantoms.stored_pixels(ROWS, COLUMNS, bits=14, seed=1)
    assert (decoded(frame, 14) == stored >> shift << shift).all()


@functools.cache
def whole_frames() -> dict[str, tuple[bytes, int, str]]:
    stored = picture(12)
    return {
        "lossless": (imagecodecs.jpeg8_encode(stored, lossless=True, predictor=1, bitspersample=12), 12, uid.JPEGLosslessSV1),
        "with restarts": (lossless_jpeg(stored, 12, 6, lines=4), 12, uid.JPEGLossless),
        "extended": (imagecodecs.jpeg8_encode(stored, level=95, bitspersample=12), 12, uid.JPEGExtended12Bit),
        "JPEG-LS": (imagecodecs.jpegls_encode(stored, level=0), 16, uid.JPEGLSLossless),
    }


@pytest.fixture(params=whole_frames().values(), ids=whole_frames())
def whole(request: pytest.FixtureRequest) -> tuple[bytes, int, str]:
    return request.param


def test_a_frame_that_breaks_off_is_refused(whole: tuple[bytes, int, str]):
    frame, bits, syntax = whole
    for length in np.linspace(2, len(frame) - 1, 50).astype(int):
        assert is_refused(frame[:length], bits, syntax), f"cut at {length} of {len(frame)}"


def test_a_frame_whose_end_stands_in_its_middle_is_refused(whole: tuple[bytes, int, str]):
    frame, bits, syntax = whole
    for at in np.linspace(len(frame) // 3, len(frame) - 8, 20).astype(int):
        assert is_refused(frame[:at] + b"\xff\xd9" + frame[at + 2 :], bits, syntax), f"end at {at} of {len(frame)}"


def test_nulls_or_one_byte_behind_the_end_are_passed_over(whole: tuple[bytes, int, str]):
    frame, bits, syntax = whole
    expected = decoded(frame, bits, syntax)
    for behind in (b"\0", b"\xff", b"\0" * 7):
        assert (decoded(frame + behind, bits, syntax) == expected).all()


@pytest.mark.parametrize("name", ["extended", "JPEG-LS"])
def test_anything_else_behind_the_end_is_refused(name: str):
    frame, bits, syntax = whole_frames()[name]
    assert is_refused(frame + b"\1\2", bits, syntax)


@pytest.mark.parametrize("name", ["lossless", "with restarts"])
def test_what_stands_behind_the_end_of_a_lossless_frame_is_nothing_of_it(name: str):
    frame, bits, syntax = whole_frames()[name]
    for behind in (b"\xff\xd9", b"  ", b"\1\2"):
        assert (decoded(frame + behind, bits, syntax) == decoded(frame, bits, syntax)).all()


@pytest.mark.parametrize("name", ["lossless", "with restarts"])
def test_a_lossless_frame_cut_short_is_refused_also_when_an_end_is_put_to_it(name: str):
    frame, bits, syntax = whole_frames()[name]
    for length in np.linspace(len(frame) // 3, len(frame) - 4, 50).astype(int):
        assert is_refused(frame[:length] + b"\xff\xd9", bits, syntax), f"cut at {length} of {len(frame)}"


@pytest.mark.parametrize("name", ["lossless", "with restarts"])
def test_a_run_of_other_bytes_in_a_lossless_frame_is_refused(name: str):
    frame, bits, syntax = whole_frames()[name]
    chance = random.Random(2)
    begin = frame.index(b"\xff\xda") + 10
    for _ in range(50):
        at = chance.randrange(begin, len(frame) - 32)
        run = bytes(chance.randrange(255) for _ in range(30))
        assert is_refused(frame[:at] + run + frame[at + 30 :], bits, syntax), f"other bytes at {at} of {len(frame)}"


@pytest.mark.parametrize("change", [
    lambda frame: frame.replace(b"\xff\xd1", b"\xff\xd2", 1),
    lambda frame: frame.replace(b"\xff\xd0", b"", 1),
    lambda frame: frame.replace(b"\xff\xd3", b"\xff\xc4", 1),
    lambda frame: frame.replace(b"\xff\xd9", b"\xff\xd6\xff\xd9", 1),
    lambda frame: frame.replace(struct.pack(">BBHH", 0xFF, 0xDD, 4, 4 * COLUMNS), struct.pack(">BBHH", 0xFF, 0xDD, 4, 4 * COLUMNS + 1)),
], ids=["out of order", "missing", "another marker", "one too many", "inside a line"])  # fmt: skip
def test_restart_markers_that_are_not_those_of_the_frame_are_refused(change):
    frame, bits, syntax = whole_frames()["with restarts"]
    assert change(frame) != frame
    assert is_refused(change(frame), bits, syntax)


@pytest.mark.parametrize("change", [
    lambda frame: frame.replace(segment(0xC4, bytes([0, 0, 0, 0, 0, 17, *[0] * 11, *range(17)])), b""),
    lambda frame: frame.replace(b"\xff\xda", segment(0xDA, bytes([1, 1, 0, 1, 0, 0])) + b"\xff\xda"),
    lambda frame: frame.replace(b"\xff\xc4", frame[2 : frame.index(b"\xff\xc4")] + b"\xff\xc4"),
    lambda frame: frame.replace(bytes([6, 0, 0]), bytes([0, 0, 0])),
    lambda frame: frame[2:],
], ids=["no table", "two scans", "two frame headers", "no predictor", "no start"])  # fmt: skip
def test_segments_that_state_no_single_lossless_scan_are_refused(change):
    frame, bits, syntax = whole_frames()["with restarts"]
    assert is_refused(change(frame), bits, syntax)


def test_fill_bytes_before_markers_are_no_data():
    frame, bits, syntax = whole_frames()["with restarts"]
    filled = frame.replace(b"\xff\xd0", b"\xff\xff\xff\xd0").replace(b"\xff\xd9", b"\xff\xff\xd9").replace(b"\xff\xda", b"\xff\xff\xda", 1)
    assert (decoded(filled, bits, syntax) == decoded(frame, bits, syntax)).all()
