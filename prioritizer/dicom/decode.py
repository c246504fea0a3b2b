"""Encoded frame to array: runs inside the sandbox, on files nobody has vetted.

Everything is refused before memory is taken for it: the structure first (`structure`), then what the header claims, then what the
bitstream says of itself (`codecs`). An uncompressed frame is never copied: the array is the mapped file. A value of the header that
means nothing is passed over with a warning; refused is only what cannot be rendered truly.

Sources: PS3.3 C.7.6.3 (Image Pixel); PS3.5 section 8 and A.4 (encapsulation).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from pydicom import uid

from prioritizer.dicom import structure
from prioritizer.dicom.byte_stream import Buffer, BufferStream, ByteStream, map_file
from prioritizer.dicom.codecs import CODECS, NATIVE, ImageShape, Pixels, decode_frame, with_bits_of
from prioritizer.dicom.elements import strings, words_of
from prioritizer.dicom.fragments import fragments
from prioritizer.dicom.grey_scale_header import GREY_SCALE_TAGS, grey_scale_of, photometric_of
from prioritizer.dicom.header import Header
from prioritizer.dicom.image_shape import MAX_FRAME_BYTES, MAX_SIDE, SHAPE_TAGS, shape_of
from prioritizer.dicom.quiet import IGNORE_INVALID
from prioritizer.dicom.structure import read_header
from prioritizer.dicom.view_header import VIEW_TAGS, geometry_of
from prioritizer.errors import Unprocessable
from prioritizer.geometry import Geometry
from prioritizer.grey_scale import GreyScale, raw_words, stored_range

__all__ = ["MAX_FRAME_BYTES", "MAX_SIDE", "RENDERING_TAGS", "Frame", "Rendering", "frame_of", "read_frame", "rendering_of"]

OVERLAY_BIT_POSITIONS = frozenset(0x60000102 + 0x20000 * number for number in range(16))
"""(60xx,0102) Overlay Bit Position of each overlay: above 0, it lies in the unused bits of the pixels (retired)."""
OVERSHOOT = 1 / 8
"""Share of the range by which a lossy codec may go beyond it; what goes further is no overshoot."""
RENDERING_TAGS = GREY_SCALE_TAGS | SHAPE_TAGS | VIEW_TAGS | OVERLAY_BIT_POSITIONS
"""The elements that an image needs to be drawn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendering:
    """How the header says that the image is drawn."""

    shape: ImageShape
    grey: GreyScale
    geometry: Geometry
    warnings: tuple[str, ...]
    """What was passed over or put right, for people; without patient data."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Frame:
    """One decoded grey frame."""

    pixels: Pixels
    """Stored values, integer, shape (rows, columns); read-only, and for native files the mapped file itself."""
    grey: GreyScale
    geometry: Geometry
    transfer_syntax: str


def read_frame(path: Path) -> Frame:
    """The frame of the DICOM file at `path`; Unprocessable says in a sentence without patient data why there is none."""
    return frame_of(map_file(path))


def frame_of(buffer: Buffer) -> Frame:
    """The frame of the DICOM file whose bytes are `buffer`."""
    header, stream = read_header(BufferStream(buffer), RENDERING_TAGS, structure.MAX_INFLATED_BYTES)
    if header.fault is not None:
        raise header.fault
    _require_decodable(header.transfer_syntax)
    if header.pixel_start is None:
        raise Unprocessable("no-pixels", "the object holds no Pixel Data")
    rendering = rendering_of(header)
    if header.transfer_syntax in NATIVE:
        pixels = _native(header, stream, buffer, rendering.shape)
        grey = _by_the_data(rendering.grey, pixels, overlaid=_overlaid(header))
    else:
        pixels, shape = _encapsulated(header, stream, rendering.shape)
        grey = replace(rendering.grey, bits_stored=shape.bits_stored)
    return Frame(pixels=pixels, grey=grey, geometry=rendering.geometry, transfer_syntax=header.transfer_syntax)


def rendering_of(header: Header) -> Rendering:
    """How the image is drawn, by its header alone. Raises Unprocessable where it cannot be drawn truly."""
    warnings: dict[str, None] = {}
    elements, native = header.elements, header.transfer_syntax in NATIVE

    def warn(sentence: str) -> None:
        warnings[sentence] = None

    if header.damaged & RENDERING_TAGS:
        warn("a broken element of the image header was passed over")
    photometric_of(elements, warn)
    shape, shift = shape_of(elements, header.pixel_length if native else None, warn)
    codec = CODECS.get(header.transfer_syntax)
    lossy = (codec is not None and not codec.lossless) or strings(elements, "LossyImageCompression")[:1] == ["01"]
    overshoot = lossy and not (native and _overlaid(header))
    grey = grey_scale_of(elements, shape, warn, shift=shift if native else 0, overshoot=overshoot)
    if native and header.pixel_length is not None and header.pixel_length > shape.length + shape.length % 2:
        warn("bytes behind the frame were passed over")
    return Rendering(shape=shape, grey=grey, geometry=geometry_of(elements, shape, warn), warnings=tuple(warnings))


def _overlaid(header: Header) -> bool:
    """Bits of the pixels hold an overlay."""
    return any(bool(words_of(header.elements.get(tag))[:1].any()) for tag in OVERLAY_BIT_POSITIONS)


def _by_the_data(grey: GreyScale, pixels: Pixels, *, overlaid: bool) -> GreyScale:
    """The grey scale with High Bit and what goes beyond Bits Stored taken as the data proves them.

    High Bit shifts only values that do lie at the upper end of their words. Values a little beyond Bits Stored, where no overlay is
    declared, are the overshoot of a codec that the image once went through.
    """
    plain = replace(grey, shift=0)
    low, high = stored_range(plain)
    least, most = int(pixels.min()) if grey.signed else 0, int(pixels.max())
    if grey.shift:
        below = int(np.bitwise_or.reduce(raw_words(pixels), axis=None)) & (2**grey.shift - 1)
        grey = plain if low <= least and most <= high and below else grey
    beyond = (high - low) * OVERSHOOT
    if not grey.shift and not overlaid and (least < low or most > high) and low - beyond <= least and most <= high + beyond:
        return replace(grey, overshoot=True)
    return grey


def _require_decodable(syntax: str) -> None:
    """Only syntaxes of the table; private and video ones are named in the refusal."""
    if syntax in CODECS or syntax in NATIVE:
        return
    other = uid.UID(syntax, IGNORE_INVALID)
    if other.is_valid and not other.is_private and other.name != other:
        raise Unprocessable("transfer-syntax", f"the transfer syntax {other.name} is not decoded here")
    raise Unprocessable("transfer-syntax", "the transfer syntax is private or unknown")


def _native(header: Header, stream: ByteStream, buffer: Buffer, shape: ImageShape) -> Pixels:
    """The uncompressed frame as a view of the mapped file; of a deflated one, no more than the frame is inflated.

    PS3.5 8.1.1: bytes behind the frame are passed over.
    """
    if header.pixel_length is None:
        raise Unprocessable("malformed", "uncompressed Pixel Data has undefined length")
    if header.pixel_length < shape.length:
        raise Unprocessable("pixel-length", "the Pixel Data is shorter than Rows x Columns x Bits Allocated")
    start = header.pixel_start or 0
    if header.transfer_syntax == uid.DeflatedExplicitVRLittleEndian:
        buffer, start = stream.take(shape.length), 0
        if len(buffer) < shape.length:
            raise Unprocessable("truncated", "the file ends inside its Pixel Data")
    elif not header.little_endian and shape.bits_allocated == 8 and header.pixel_vr == b"OW":
        # PS3.5 7.3: two 8-bit pixels share a word, whose bytes are swapped.
        words = np.frombuffer(buffer[start : start + shape.length + shape.length % 2], ">u2")
        buffer, start = words.astype("<u2").tobytes(), 0
    dtype = shape.dtype if header.little_endian else shape.dtype.newbyteorder(">")
    return np.frombuffer(buffer, dtype, shape.rows * shape.columns, start).reshape(shape.rows, shape.columns)


def _encapsulated(header: Header, stream: ByteStream, shape: ImageShape) -> tuple[Pixels, ImageShape]:
    if header.pixel_length is not None:
        raise Unprocessable("malformed", "compressed Pixel Data is not encapsulated")
    frame = fragments(stream)
    shape = with_bits_of(frame, shape, header.transfer_syntax)
    return decode_frame(frame, shape, header.transfer_syntax), shape
