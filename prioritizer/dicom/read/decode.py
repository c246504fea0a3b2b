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

from prioritizer.dicom.read import structure
from prioritizer.dicom.read.byte_stream import Buffer, BufferStream, ByteStream, map_file
from prioritizer.dicom.read.codecs import CODECS, NATIVE, ImageShape, Pixels, decode_frame, precision_of, with_precision
from prioritizer.dicom.read.elements import strings, words_of
from prioritizer.dicom.read.fragments import fragments
from prioritizer.dicom.read.grey_scale_header import GREY_SCALE_TAGS, grey_scale_of, photometric_of
from prioritizer.dicom.read.header import Header
from prioritizer.dicom.read.image_shape import MAX_FRAME_BYTES, MAX_SIDE, SHAPE_TAGS, shape_of
from prioritizer.dicom.read.pydicom_logging import IGNORE_INVALID
from prioritizer.dicom.read.stored_bits import StoredBits, proven_bits
from prioritizer.dicom.read.structure import read_header
from prioritizer.dicom.read.view_header import VIEW_TAGS, geometry_of
from prioritizer.errors import Unprocessable
from prioritizer.imaging.geometry import Geometry
from prioritizer.imaging.grey_scale import GreyScale

__all__ = ["MAX_FRAME_BYTES", "MAX_SIDE", "RENDERING_TAGS", "Frame", "Rendering", "frame_of", "read_frame", "rendering_of"]

OVERLAY_BIT_POSITIONS = frozenset(0x60000102 + 0x20000 * number for number in range(16))
"""(60xx,0102) Overlay Bit Position of each overlay: above 0, it lies in the unused bits of the pixels (retired)."""
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

    @property
    def bits(self) -> StoredBits:
        """Where the values lie in their words."""
        return StoredBits(stored=self.grey.bits_stored, shift=self.grey.shift, overshoot=self.grey.overshoot)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Frame:
    """One decoded grey frame."""

    pixels: Pixels
    """Stored values, integer, shape (rows, columns); read-only, and for native files the mapped file itself."""
    grey: GreyScale
    geometry: Geometry
    transfer_syntax: str
    warnings: tuple[str, ...] = ()
    """What was passed over or put right, by the header and by the pixels, for people; without patient data."""


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
    rendering, precision = rendering_of(header), None
    if header.transfer_syntax in NATIVE:
        pixels = _native(header, stream, buffer, rendering.shape)
    else:
        pixels, shape, precision = _encapsulated(header, stream, rendering.shape)
        if shape != rendering.shape:
            rendering = rendering_of(header, StoredBits(stored=shape.bits_stored, shift=0, overshoot=rendering.grey.overshoot))
    bits = proven_bits(pixels, rendering.grey, precision=precision, overlays=_overlays(header))
    if bits != rendering.bits:
        # Windows, tables and the values they can reach all hang on Bits Stored.
        rendering = rendering_of(header, bits)
    return Frame(
        pixels=pixels,
        grey=rendering.grey,
        geometry=rendering.geometry,
        transfer_syntax=header.transfer_syntax,
        warnings=rendering.warnings,
    )


def rendering_of(header: Header, bits: StoredBits | None = None) -> Rendering:
    """How the image is drawn, by its header and, once they are decoded, the `bits` that its pixels prove.

    Raises Unprocessable where it cannot be drawn truly.
    """
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
    if bits is None:
        bits = StoredBits(stored=shape.bits_stored, shift=shift, overshoot=lossy and not _overlays(header))
    elif bits.warning:
        warn(bits.warning)
    shape = replace(shape, bits_stored=bits.stored)
    grey = grey_scale_of(elements, shape, warn, shift=bits.shift, overshoot=bits.overshoot)
    if native and header.pixel_length is not None and header.pixel_length > shape.length + shape.length % 2:
        warn("bytes behind the frame were passed over")
    return Rendering(shape=shape, grey=grey, geometry=geometry_of(elements, shape, warn), warnings=tuple(warnings))


def _overlays(header: Header) -> frozenset[int]:
    """The bits of the pixels that hold overlays, by (60xx,0102) Overlay Bit Position. No lossy codec keeps one."""
    codec = CODECS.get(header.transfer_syntax)
    if codec is not None and not codec.lossless:
        return frozenset()
    positions = (words_of(header.elements.get(tag))[:1] for tag in OVERLAY_BIT_POSITIONS)
    return frozenset(int(word) for position in positions for word in position if word)


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
    # PS3.5 6.2.2: what travels as UN is little endian, whatever surrounds it.
    little = header.little_endian or header.pixel_vr == b"UN"
    dtype = shape.dtype if little else shape.dtype.newbyteorder(">")
    return np.frombuffer(buffer, dtype, shape.rows * shape.columns, start).reshape(shape.rows, shape.columns)


def _encapsulated(header: Header, stream: ByteStream, shape: ImageShape) -> tuple[Pixels, ImageShape, int | None]:
    """The decoded frame, its shape and the precision that its codestream states."""
    if header.pixel_length is not None:
        raise Unprocessable("malformed", "compressed Pixel Data is not encapsulated")
    frame = fragments(stream)
    precision = precision_of(frame, shape, header.transfer_syntax)
    shape = with_precision(shape, precision)
    return decode_frame(frame, shape, header.transfer_syntax), shape, precision
