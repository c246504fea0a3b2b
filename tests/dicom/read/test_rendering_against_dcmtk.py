"""Generated headers are drawn as DCMTK draws them with the header's first usable VOI."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom import uid

from prioritizer.dicom.read.sandboxed import model_picture
from prioritizer.imaging.preprocessing import GreyScale, Preprocessing, Window, square_picture
from tests.support.pacs import program
from tests.support.radiograph_files import radiograph, sequence, table

AS_IS = Preprocessing(id="oracle", size=24, resize="squash", mean=(0.0,) * 3, std=(1.0,) * 3)
EQUALISED = replace(AS_IS, tone="equalised")
SIXTEEN = GreyScale(bits_allocated=16, bits_stored=16, signed=False, window=Window(center=32767.5, width=65535, function="LINEAR_EXACT"))
PLAIN = (uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian, uid.ExplicitVRBigEndian)
ROWS, COLUMNS = 40, 48


class Made:
    """A file, what it is, and how DCMTK is told to take its first usable VOI; printed as what it is."""

    def __init__(self, data: bytes, what: str, arguments: tuple[str, ...]) -> None:
        self.data, self.what, self.arguments = data, what, arguments

    def __repr__(self) -> str:
        return self.what


@pytest.fixture(scope="module")
def dcmj2pnm() -> str:
    """DCMTK's renderer."""
    return program("dcmj2pnm")


def chest(bits: int, *, signed: bool, seed: int) -> np.ndarray:
    """Two dark fields in a body over the whole range of values, with grain."""
    y, x = np.mgrid[0:ROWS, 0:COLUMNS]
    y, x = y / ROWS - 0.5, x / COLUMNS - 0.5
    body = np.exp(-((x / 0.42) ** 4 + (y / 0.62) ** 6))
    lungs = sum(np.exp(-(((x - s) / 0.12) ** 4 + (y / 0.3) ** 4)) for s in (-0.19, 0.19))
    share = (0.1 + 0.8 * body - 0.6 * lungs + np.random.default_rng(seed).normal(0, 0.02, (ROWS, COLUMNS))).clip(0, 1)
    stored = np.rint(share * (2**bits - 1)).astype(np.int64)
    return stored - 2 ** (bits - 1) if signed else stored


@st.composite
def headers(draw: st.DrawFn) -> Made:
    """A radiograph whose header is sound, in one of the many ways in which it may be."""
    syntax = draw(st.sampled_from(PLAIN))
    bits, signed = draw(st.integers(8, 16)), draw(st.booleans())
    stored = chest(bits, signed=signed, seed=draw(st.integers(0, 99)))
    slope = draw(st.sampled_from([1, 1, 1, 2, 0.5])) if bits < 15 else 1
    intercept = draw(st.sampled_from([0, 0, -1024, 1000, -(2 ** (bits - 1))]))
    low, high = sorted(value * slope + intercept for value in (int(stored.min()), int(stored.max())))
    left = draw(st.sampled_from([0, 2])) if bits <= 12 else 0
    elements: dict[str, object] = {
        "PhotometricInterpretation": draw(st.sampled_from(["MONOCHROME1", "MONOCHROME2"])),
        "RescaleSlope": str(slope), "RescaleIntercept": str(intercept), "HighBit": bits - 1 + left,
    }  # fmt: skip
    if draw(st.booleans()):
        elements |= {"RescaleSlope": None, "RescaleIntercept": None}
        low, high = int(stored.min()), int(stored.max())
    arguments, what = ("+Wi", "1", "+on2"), f"{uid.UID(syntax).name}, {bits} bits, signed {signed}"
    span = max(high - low, 2)
    if low < -32768 or draw(st.booleans()):  # a table cannot begin below what a word holds
        center, width = low + span * draw(st.floats(0.3, 0.7)), max(span * draw(st.floats(0.4, 1.5)), 200)
        elements |= {
            "WindowCenter": f"{center:.6g}\\1", "WindowWidth": f"{width:.6g}\\1",
            "VOILUTFunction": draw(st.sampled_from([None, "LINEAR", "SIGMOID"])),
        }  # fmt: skip
    else:
        voi, said = draw(tables(syntax, int(low), int(span)))
        elements["VOILUTSequence"], arguments, what = voi, ("+Wl", "1", "+on" if " 8 held" in said else "+on2"), f"{what}, {said}"
    data = radiograph(syntax, stored << left, bits=bits, signed=signed, **elements)
    texts = {key: value for key, value in elements.items() if not isinstance(value, tuple)}
    return Made(data=data, what=f"{what}, {texts}", arguments=arguments)


@st.composite
def tables(draw: st.DrawFn, syntax: str, low: int, span: int) -> tuple[tuple[str, bytes], str]:
    """A VOI LUT over about the values that occur: a gamma, in words or packed bytes, its first value in either VR."""
    count, packed = min(span + 1, 16384), draw(st.booleans())
    deep = 8 if packed else draw(st.sampled_from([8, 12, 13, 14, 15, 16]))
    declared = deep if packed or draw(st.booleans()) else 8  # fewer bits than it holds: DCMTK looks, as we do
    entries = np.rint((2**deep - 1) * np.linspace(0, 1, count) ** draw(st.floats(0.5, 2))).astype(int)
    vr = draw(st.sampled_from(["US", "SS"])) if -32768 <= low < 0 else "US"
    data_vr = draw(st.sampled_from(["OW", "US"])) if count < 30000 else "OW"
    item = table(list(entries), low, declared, vr=vr, packed=packed, data_vr=data_vr)
    return sequence(syntax, item), f"table {count} from {low} ({vr}), {declared} bits declared, {deep} held, {data_vr} packed {packed}"


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(made=headers())
def test_a_header_is_drawn_as_dcmtk_draws_it(made: Made, dcmj2pnm: str, tmp_path_factory: pytest.TempPathFactory):
    folder: Path = tmp_path_factory.getbasetemp() / "oracle"
    folder.mkdir(exist_ok=True)
    (folder / "film.dcm").write_bytes(made.data)
    subprocess.run([dcmj2pnm, "+Mv", *made.arguments, folder / "film.dcm", folder / "film.png"], check=True, capture_output=True)
    drawn = np.asarray(Image.open(folder / "film.png"))
    drawn = drawn.astype(np.uint16) * (257 if drawn.dtype == np.uint8 else 1)  # DCMTK shifts what has fewer bits than its output
    # Of an inverted table of few bits DCMTK rounds up; equalising would make much of that.
    for spec in (AS_IS,) if "+Wl" in made.arguments and " 16 held" not in made.what else (AS_IS, EQUALISED):
        difference = np.abs(model_picture(folder / "film.dcm", spec) - square_picture(drawn, SIXTEEN, spec)).mean()
        allowed = 0.003 + (1 / 255 if "+on" in made.arguments else 0)
        assert difference <= allowed, f"{spec.tone}: {made.what}"
