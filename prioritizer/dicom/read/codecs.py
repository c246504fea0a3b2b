"""The one table of encodings: which library decodes which transfer syntax, and what its bitstream header must agree with.

Order of choice is safety on mutated frames, then speed; all of this runs in a child process. `imagecodecs` reads JPEG Lossless and
Extended, JPEG-LS, JPEG 2000 and HTJ2K: none of thousands of mutants of a frame ended or hung the process. Of its own, two are not used:
OpenJPH hung on mutants of HTJ2K, which OpenJPEG reads too, and its RLE died on some, where `pylibjpeg-rle` raises. JPEG of 8 bit is
`simplejpeg`'s: it raises on the warnings of libjpeg-turbo, which `imagecodecs` swallows, and `jpeg_check` makes good for the others.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import TracebackType

import numpy as np
from numpy.typing import NDArray
from pydicom import uid

from prioritizer.dicom.read import jpeg_check
from prioritizer.errors import Unprocessable

Pixels = NDArray[np.integer]

CODEC_FAILURES = (
    OSError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    NotImplementedError,
    RuntimeError,
    ImportError,
    struct.error,
)
"""What the libraries below raise on damaged frames (RecursionError is a RuntimeError, BytesLengthException a ValueError).

MemoryError is none of them: it says nothing of the frame, which is tried again where there is memory."""
DECODER_BYTES = 12
"""Bytes that a codec may take for each pixel while it works: OpenJPEG was seen to take 8.3, RLE 3, the others 2.2."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageShape:
    """What the DICOM header promises about one grey frame (PS3.3 C.7.6.3)."""

    rows: int
    columns: int
    bits_allocated: int
    bits_stored: int
    signed: bool
    bits_known: bool = True
    """False where the header's Bits Stored means nothing: a codestream says it instead."""

    @property
    def dtype(self) -> np.dtype[np.integer]:
        """Little-endian integer of the allocated size."""
        return np.dtype(f"<{'i' if self.signed else 'u'}{self.bits_allocated // 8}")

    @property
    def length(self) -> int:
        """Bytes of the decoded frame."""
        return self.rows * self.columns * self.bits_allocated // 8


@dataclass(frozen=True, slots=True)
class Bitstream:
    """What the encoded frame says about itself."""

    rows: int
    columns: int
    bits: int
    samples: int


@dataclass(frozen=True, slots=True)
class Encoded:
    """A frame on its way into a decoder; `bits` is the precision that its bitstream states."""

    frame: bytes
    shape: ImageShape
    syntax: str
    bits: int


@dataclass(frozen=True, slots=True)
class Codec:
    """One row of the table."""

    header: Callable[[bytes], Bitstream | None] | None
    """None where the encoding states no dimensions (RLE): its decoder compares the decoded length."""
    decode: Callable[[Encoded], NDArray[np.integer]]
    lossless: bool


def _jpeg_header(frame: bytes) -> Bitstream | None:
    """The first frame header (SOFn or SOF55) of a JPEG or JPEG-LS stream (ISO 10918-1 B.2.2, ISO 14495-1 C.2.2)."""
    position = 2
    while frame[:2] == b"\xff\xd8" and position + 10 <= len(frame) and frame[position] == 0xFF:
        marker = frame[position + 1]
        if marker == 0xFF:
            position += 1
            continue
        if (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)) or marker == 0xF7:
            bits, rows, columns, samples = struct.unpack_from(">BHHB", frame, position + 4)
            return Bitstream(rows, columns, bits, samples)
        position += 2 + int.from_bytes(frame[position + 2 : position + 4], "big")
    return None


def _jpeg2000_header(frame: bytes) -> Bitstream | None:
    """The SIZ segment (ISO 15444-1 A.5.1); some devices wrap the codestream in JP2 boxes, so it may begin later."""
    begin = frame[:1024].find(b"\xff\x4f\xff\x51")
    if begin < 0 or begin + 44 > len(frame):
        return None
    right, bottom, left, top = struct.unpack_from(">4L", frame, begin + 8)
    samples, depth = struct.unpack_from(">HB", frame, begin + 40)
    return Bitstream(bottom - top, right - left, (depth & 0x7F) + 1, samples)


def _decode_rle(encoded: Encoded) -> NDArray[np.integer]:
    from rle.utils import decode_pixel_data

    data = decode_pixel_data(
        encoded.frame,
        version=2,
        rows=encoded.shape.rows,
        columns=encoded.shape.columns,
        bits_allocated=encoded.shape.bits_allocated,
        byteorder="<",
    )
    return np.frombuffer(data, dtype=f"<u{encoded.shape.bits_allocated // 8}")


def _decode_jpeg8(encoded: Encoded) -> NDArray[np.integer]:
    import simplejpeg

    decoded: NDArray[np.integer] = simplejpeg.decode_jpeg(encoded.frame, colorspace="GRAY")
    return decoded


def _decode_jpeg(encoded: Encoded) -> NDArray[np.integer]:
    """A frame that is whole (`jpeg_check`), by libjpeg-turbo: 8-bit DCT through the library that raises on its warnings."""
    import imagecodecs

    scan = jpeg_check.whole_scan(encoded.frame)
    if encoded.bits == 8 and not scan.lossless:
        return _decode_jpeg8(encoded)
    decoded: NDArray[np.unsignedinteger] = imagecodecs.jpeg8_decode(encoded.frame)
    if scan.lossless:
        jpeg_check.require_accounted(scan, decoded)
    return decoded


def _decode_jpeg_ls(encoded: Encoded) -> NDArray[np.integer]:
    """By CharLS, which may work for a minute on a frame that breaks off: it is given none."""
    import imagecodecs

    jpeg_check.require_end_of_jpeg_ls(encoded.frame)
    decoded: NDArray[np.integer] = imagecodecs.jpegls_decode(encoded.frame)
    return decoded


def _decode_jpeg2000(encoded: Encoded) -> NDArray[np.integer]:
    """By OpenJPEG, which refuses a codestream that breaks off; the words of a signed one as `_sign_extended` takes them."""
    import imagecodecs

    decoded: NDArray[np.integer] = imagecodecs.jpeg2k_decode(encoded.frame, numthreads=1)
    return decoded.view(f"<u{decoded.dtype.itemsize}")


CODECS: dict[str, Codec] = {
    uid.RLELossless: Codec(None, _decode_rle, True),
    uid.JPEGBaseline8Bit: Codec(_jpeg_header, _decode_jpeg8, False),
    uid.JPEGExtended12Bit: Codec(_jpeg_header, _decode_jpeg, False),
    uid.JPEGLossless: Codec(_jpeg_header, _decode_jpeg, True),
    uid.JPEGLosslessSV1: Codec(_jpeg_header, _decode_jpeg, True),
    uid.JPEGLSLossless: Codec(_jpeg_header, _decode_jpeg_ls, True),
    uid.JPEGLSNearLossless: Codec(_jpeg_header, _decode_jpeg_ls, False),
    uid.JPEG2000Lossless: Codec(_jpeg2000_header, _decode_jpeg2000, True),
    uid.JPEG2000: Codec(_jpeg2000_header, _decode_jpeg2000, False),
    uid.HTJ2KLossless: Codec(_jpeg2000_header, _decode_jpeg2000, True),
    uid.HTJ2KLosslessRPCL: Codec(_jpeg2000_header, _decode_jpeg2000, True),
    uid.HTJ2K: Codec(_jpeg2000_header, _decode_jpeg2000, False),
}

NATIVE = (
    uid.ImplicitVRLittleEndian,
    uid.ExplicitVRLittleEndian,
    uid.DeflatedExplicitVRLittleEndian,
    uid.ExplicitVRBigEndian,
)


class _Refusing:
    """Whatever a codec raises inside becomes Unprocessable with `reason`, or MemoryError where this process has too little memory.

    A codec written in Rust that panics raises a class of its own that is no Exception, so no `except Exception` would see it. A codec
    written in C tells a want of memory in words of its own, or not at all: then `needed_bytes` are tried.
    """

    def __init__(self, reason: str, needed_bytes: int) -> None:
        self._reason, self._needed_bytes = reason, needed_bytes

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if isinstance(error, CODEC_FAILURES) or (kind is not None and kind.__name__ == "PanicException"):
            if _wants_memory(error, self._needed_bytes):
                raise MemoryError(self._reason) from error
            raise Unprocessable("codec", self._reason) from error


def _wants_memory(error: BaseException | None, needed_bytes: int) -> bool:
    """A codec failed for want of memory, as far as its words or an allocation of what it needs can tell."""
    if any(word in str(error).lower() for word in ("memory", "bad_alloc")):
        return True
    try:
        np.empty(needed_bytes, dtype=np.uint8)
    except MemoryError:
        return True
    return False


def decode_frame(frame: bytes, shape: ImageShape, syntax: str) -> Pixels:
    """The decoded frame, shape (rows, columns); Unprocessable says why it cannot be, MemoryError that this process cannot do it."""
    codec = CODECS[syntax]
    bits = shape.bits_allocated  # RLE holds whole words, as native pixels are
    if codec.header is not None:
        bits = _agreed_bits(codec.header(frame), shape)
    with _Refusing(f"the compressed frame cannot be decoded ({uid.UID(syntax).name})", shape.rows * shape.columns * DECODER_BYTES):
        decoded = codec.decode(Encoded(frame, shape, str(syntax), bits))
        pixels = decoded.reshape(shape.rows, shape.columns)
    return _sign_extended(pixels, bits).astype(shape.dtype, copy=False) if shape.signed else pixels


def _sign_extended(pixels: NDArray[np.integer], bits: int) -> NDArray[np.integer]:
    """Words of `bits` bits as the two's complement they are: codecs but JPEG 2000 know only unsigned samples."""
    signed = pixels.view(pixels.dtype.str.replace("u", "i"))
    unused = pixels.dtype.itemsize * 8 - bits
    return (signed << unused) >> unused if unused else signed


def precision_of(frame: bytes, shape: ImageShape, syntax: str) -> int | None:
    """Bits of a sample that the codestream states; None where it states none (RLE), or none that Bits Allocated holds."""
    header = CODECS[syntax].header
    bitstream = header(frame) if header is not None else None
    return bitstream.bits if bitstream is not None and 1 <= bitstream.bits <= shape.bits_allocated else None


def with_precision(shape: ImageShape, precision: int | None) -> ImageShape:
    """The shape with the precision of the codestream where the header's Bits Stored means nothing."""
    return shape if precision is None or shape.bits_known else replace(shape, bits_stored=precision, bits_known=True)


def _agreed_bits(bitstream: Bitstream | None, shape: ImageShape) -> int:
    """Bits per sample, once the bitstream agrees with the DICOM header; they may be fewer or more than Bits Stored.

    The size class must agree: an 8-bit frame under a 12-bit header would be drawn black by its window and scored so.
    """
    if bitstream is None:
        raise Unprocessable("codec-header", "the compressed frame has no readable header")
    if bitstream.rows == 0:
        # ISO 10918-1 B.2.5: a DNL segment behind the first scan states them; the libraries here do not read it.
        raise Unprocessable("codec-header", "the compressed frame states its number of lines only behind its data (DNL): it is not decoded")
    if (bitstream.rows, bitstream.columns) != (shape.rows, shape.columns):
        raise Unprocessable("codec-header", "the compressed frame has other dimensions than Rows and Columns")
    if bitstream.samples != 1:
        raise Unprocessable("codec-header", "the compressed frame is in colour, the header says grey")
    if not 1 <= bitstream.bits <= shape.bits_allocated or (bitstream.bits <= 8 < shape.bits_stored):
        raise Unprocessable("codec-header", f"the compressed frame has {bitstream.bits} bits, which Bits Stored contradicts")
    return bitstream.bits
