"""Encoded frame to array: runs inside the sandbox, on files nobody has vetted.

Everything is refused before memory is taken for it: the structure first (`structure`), then what the header claims, then what the
bitstream says of itself (`codecs`). An uncompressed frame is never copied: the array is the mapped file.

Sources: PS3.3 C.7.6.3 (Image Pixel), C.11.1 (Modality LUT), C.11.2 (VOI LUT), C.7.5.1.1.2 (Pixel Padding); PS3.5 section 8.
"""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.tag import BaseTag, Tag

from prioritizer.dicom.codecs import CODEC_FAILURES, CODECS, NATIVE, ImageShape, Pixels, decode_frame
from prioritizer.dicom.quiet import quietly
from prioritizer.dicom.structure import Buffer, Layout, fragments, layout_of, map_file
from prioritizer.errors import Unprocessable
from prioritizer.pixels import GreyScale, Lut, Window

MAX_SIDE = 16384
MAX_FRAME_BYTES = 512 * 2**20

_HEADER = (
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "RescaleIntercept",
    "RescaleSlope",
    "WindowCenter",
    "WindowWidth",
    "VOILUTFunction",
    "ModalityLUTSequence",
    "VOILUTSequence",
    "PresentationLUTShape",
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Frame:
    """One decoded grey frame."""

    pixels: Pixels
    """Stored values, integer, shape (rows, columns); read-only, and for native files the mapped file itself."""
    grey: GreyScale
    transfer_syntax: str


def read_frame(path: Path) -> Frame:
    """The frame of the DICOM file at `path`; Unprocessable says in a sentence without patient data why there is none."""
    return frame_of(map_file(path))


def frame_of(buffer: Buffer) -> Frame:
    """The frame of the DICOM file whose bytes are `buffer`."""
    layout = layout_of(buffer)
    _require_decodable(layout.transfer_syntax)
    if layout.pixel_start is None:
        raise Unprocessable("no-pixels", "the object holds no Pixel Data")
    with quietly():
        try:
            header = _header(layout)
            shape = _shape(header)
            grey = _grey_scale(header, shape)
        except Unprocessable:
            raise
        except CODEC_FAILURES as error:
            raise Unprocessable("header", "the image header cannot be read") from error
    native = layout.transfer_syntax in NATIVE
    pixels = _native(layout, shape) if native else _encapsulated(layout, shape)
    return Frame(pixels=pixels, grey=grey, transfer_syntax=layout.transfer_syntax)


def _require_decodable(syntax: uid.UID) -> None:
    """Only syntaxes of the table; private and video ones are named in the refusal."""
    if syntax in CODECS or syntax in NATIVE:
        return
    if syntax.is_valid and not syntax.is_private and syntax.name != syntax:
        raise Unprocessable("transfer-syntax", f"the transfer syntax {syntax.name} is not decoded here")
    raise Unprocessable("transfer-syntax", "the transfer syntax is private or unknown")


def _header(layout: Layout) -> Dataset:
    """The few attributes a frame needs, read by pydicom from the bytes before Pixel Data."""
    header = BytesIO(layout.buffer[layout.start : layout.header_end])
    tags: list[BaseTag | int] = [Tag(keyword) for keyword in _HEADER]
    return read_dataset(header, layout.implicit, layout.little_endian, specific_tags=tags)


def _shape(header: Dataset) -> ImageShape:
    """What the header promises, once every promise is one we accept."""
    _require_grey(header)
    rows, columns = _side(header, "Rows"), _side(header, "Columns")
    allocated, stored = _whole(header, "BitsAllocated"), _whole(header, "BitsStored")
    if allocated not in (8, 16):
        raise Unprocessable("bits", f"Bits Allocated {allocated} is not 8 or 16")
    if not 1 <= stored <= allocated:
        raise Unprocessable("bits", f"Bits Stored {stored} does not fit Bits Allocated {allocated}")
    if _whole(header, "HighBit", stored - 1) != stored - 1:
        raise Unprocessable("bits", "High Bit is not Bits Stored less one")
    representation = _whole(header, "PixelRepresentation", 0)
    if representation not in (0, 1):
        raise Unprocessable("bits", "Pixel Representation is neither 0 nor 1")
    shape = ImageShape(rows=rows, columns=columns, bits_allocated=allocated, bits_stored=stored, signed=representation == 1)
    if shape.length > MAX_FRAME_BYTES:
        raise Unprocessable("too-large", "the frame is larger than 512 MiB")
    return shape


def _require_grey(header: Dataset) -> None:
    """One grey frame: Samples per Pixel 1, MONOCHROME1 or MONOCHROME2, Number of Frames 1."""
    frames = _whole(header, "NumberOfFrames", 1)
    if frames > 1:
        raise Unprocessable("multi-frame", f"the object is a multi-frame image of {frames} frames, not a single radiograph")
    if frames < 1:
        raise Unprocessable("header", "Number of Frames is below 1")
    photometric = str(header.get("PhotometricInterpretation", "")).strip().upper()
    if photometric == "PALETTE COLOR":
        raise Unprocessable("palette", "the image is in palette colour, not grey")
    if _whole(header, "SamplesPerPixel", 1) != 1 or photometric.startswith(("RGB", "YBR")):
        raise Unprocessable("colour", "the image is in colour, a radiograph is grey")
    if photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise Unprocessable("header", "Photometric Interpretation is neither MONOCHROME1 nor MONOCHROME2")


def _side(header: Dataset, keyword: str) -> int:
    """(0028,0010) Rows or (0028,0011) Columns: one US value, 1 to 16384."""
    element = header.get(Tag(keyword))
    if element is None or element.VR != "US" or not isinstance(element.value, int):
        raise Unprocessable("dimensions", f"{keyword} is missing or is not one unsigned short")
    if not 0 < element.value <= MAX_SIDE:
        raise Unprocessable("dimensions", f"{keyword} is {element.value}, not between 1 and {MAX_SIDE}")
    return int(element.value)


def _whole(header: Dataset, keyword: str, default: int | None = None) -> int:
    """One whole number; the default where the attribute is absent or empty."""
    try:
        value = header.get(keyword)
        if value is None or value == "":
            value = default
        if isinstance(value, int):
            return int(value)
    except CODEC_FAILURES as error:
        raise Unprocessable("header", f"{keyword} is not a number") from error
    raise Unprocessable("header", f"{keyword} is missing or is not one whole number")


def _first_number(header: Dataset, keyword: str) -> float | None:
    """The first of one or several decimal values; None where there is none."""
    try:
        value = header.get(keyword)
        if value is None or value == "":
            return None
        if not isinstance(value, (str, int, float)) and hasattr(value, "__iter__"):
            values = list(value)
            value = values[0] if values else None
        return None if value is None else float(value)
    except CODEC_FAILURES as error:
        raise Unprocessable("header", f"{keyword} is not a number") from error


def _grey_scale(header: Dataset, shape: ImageShape) -> GreyScale:
    slope, intercept = _first_number(header, "RescaleSlope"), _first_number(header, "RescaleIntercept")
    inverse = str(header.get("PresentationLUTShape", "")).strip() == "INVERSE"
    monochrome1 = str(header.PhotometricInterpretation).strip().upper() == "MONOCHROME1"
    return GreyScale(
        bits_allocated=shape.bits_allocated,
        bits_stored=shape.bits_stored,
        signed=shape.signed,
        # DX states both of one inversion (PS3.3 C.8.11.3.1.2), so they are never applied twice.
        inverted=monochrome1 or inverse,
        slope=1.0 if slope is None else slope,
        intercept=0.0 if intercept is None else intercept,
        modality_lut=_lut(header, "ModalityLUTSequence", shape),
        voi_lut=_lut(header, "VOILUTSequence", shape),
        window=_window(header),
        padding=_padding(header, shape),
    )


def _window(header: Dataset) -> Window | None:
    center, width = _first_number(header, "WindowCenter"), _first_number(header, "WindowWidth")
    if center is None or width is None:
        return None
    function = header.get("VOILUTFunction")
    return Window(center=center, width=width, function=str(function or "LINEAR").strip().upper())


def _padding(header: Dataset, shape: ImageShape) -> tuple[int, int] | None:
    """(0028,0120) Pixel Padding Value to (0028,0121) Pixel Padding Range Limit, both inclusive."""
    if header.get("PixelPaddingValue") in (None, ""):
        return None
    value = _whole(header, "PixelPaddingValue")
    limit = _whole(header, "PixelPaddingRangeLimit", value)
    low, high = sorted((_as_stored(value, shape), _as_stored(limit, shape)))
    return low, high


def _as_stored(value: int, shape: ImageShape) -> int:
    """A padding value as the pixels hold it; devices write it as US although the pixels are signed, and the reverse."""
    span: int = 2**shape.bits_allocated
    word = value & (span - 1)
    return word - span if shape.signed and 2 * word >= span else word


def _lut(header: Dataset, keyword: str, shape: ImageShape) -> Lut | None:
    """The first table of (0028,3000) Modality LUT Sequence or (0028,3010) VOI LUT Sequence (PS3.3 C.11.1.1)."""
    sequence = header.get(keyword)
    if not sequence:
        return None
    item = sequence[0]
    count, first, bits = (int(number) for number in item.LUTDescriptor)
    count = count & 0xFFFF or 65536
    if not 8 <= bits <= 16:
        raise Unprocessable("lut", f"a look-up table of {bits} bits is not allowed")
    entries = _lut_entries(item, count)
    if shape.signed and first >= 32768:
        first -= 65536
    return Lut(first=first, entries=entries, bits=bits)


def _lut_entries(item: Dataset, count: int) -> np.ndarray[tuple[int], np.dtype[np.uint16]]:
    """(0028,3006) LUT Data: US or OW words, or packed bytes; exactly `count` of them."""
    data = item.LUTData
    if isinstance(data, (bytes, bytearray)):
        words = np.frombuffer(data, "<u2" if len(data) >= 2 * count else "u1")
    else:
        words = np.atleast_1d(np.asarray(data))
    if len(words) < count:
        raise Unprocessable("lut", "a look-up table is shorter than its descriptor says")
    return words[:count].astype(np.uint16)


def _native(layout: Layout, shape: ImageShape) -> Pixels:
    """The uncompressed frame as a view of the mapped file."""
    if layout.pixel_length is None:
        raise Unprocessable("malformed", "uncompressed Pixel Data has undefined length")
    # PS3.5 8.1.1: a value of odd length carries one padding byte.
    if layout.pixel_length not in (shape.length, shape.length + shape.length % 2):
        raise Unprocessable("pixel-length", "the length of the Pixel Data is not Rows x Columns x Bits Allocated")
    dtype = shape.dtype if layout.little_endian else shape.dtype.newbyteorder(">")
    flat = np.frombuffer(layout.buffer, dtype, shape.rows * shape.columns, layout.pixel_start or 0)
    return flat.reshape(shape.rows, shape.columns)


def _encapsulated(layout: Layout, shape: ImageShape) -> Pixels:
    if layout.pixel_length is not None:
        raise Unprocessable("malformed", "compressed Pixel Data is not encapsulated")
    return decode_frame(fragments(layout), shape, layout.transfer_syntax)
