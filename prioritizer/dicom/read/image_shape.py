"""What a header promises about its raster, once every promise is one we accept or one that the data corrects.

Source: PS3.3 C.7.6.3 (Image Pixel).
"""

from __future__ import annotations

from prioritizer.dicom.read.codecs import ImageShape
from prioritizer.dicom.read.elements import Elements, numbers, strings, tag_of, tags_of, whole
from prioritizer.dicom.read.look_up_tables import Warn
from prioritizer.errors import Unprocessable

MAX_SIDE = 16384
MAX_FRAME_BYTES = 512 * 2**20
SHAPE_TAGS = tags_of("Rows", "Columns", "NumberOfFrames", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation")


def shape_of(elements: Elements, native_bytes: int | None, warn: Warn) -> tuple[ImageShape, int]:
    """The raster and how far High Bit moves its values up in their words; `native_bytes` is the length of uncompressed Pixel Data."""
    _require_one_frame(elements, warn)
    rows, columns = _side(elements, "Rows"), _side(elements, "Columns")
    allocated, stored, high = (whole(elements, keyword) or 0 for keyword in ("BitsAllocated", "BitsStored", "HighBit"))
    allocated = _allocated(allocated, stored, None if native_bytes is None else native_bytes // (rows * columns), warn)
    has_high = bool(numbers(elements, "HighBit"))
    known = 1 <= stored <= allocated
    if not known:
        stored = high + 1 if has_high and 0 < high < allocated else allocated
        warn(f"Bits Stored means nothing: read as {stored}")
    representation = whole(elements, "PixelRepresentation")
    if representation not in (None, 0, 1):
        raise Unprocessable("bits", "Pixel Representation is neither 0 nor 1")
    shape = ImageShape(
        rows=rows, columns=columns, bits_allocated=allocated, bits_stored=stored, signed=representation == 1, bits_known=known
    )
    if shape.length > MAX_FRAME_BYTES:
        raise Unprocessable("too-large", "the frame is larger than 512 MiB")
    return shape, _shift(high if has_high else stored - 1, shape, warn)


def _allocated(allocated: int, stored: int, bytes_a_pixel: int | None, warn: Warn) -> int:
    """Bits Allocated: 8 or 16, or what the length of the data proves where the header says nothing possible."""
    impossible = allocated == 0 or (allocated == 8 and stored > 8)
    if impossible and bytes_a_pixel in (1, 2) and stored <= 8 * bytes_a_pixel:
        warn(f"Bits Allocated means nothing: the data holds {8 * bytes_a_pixel}")
        return 8 * bytes_a_pixel
    if allocated not in (8, 16):
        raise Unprocessable("bits", f"Bits Allocated {allocated} is not 8 or 16")
    return allocated


def _shift(high: int, shape: ImageShape, warn: Warn) -> int:
    """Bits below the stored ones by High Bit, where it can be true; whether it is, the data decides."""
    shift = high + 1 - shape.bits_stored
    if shift:
        warn("High Bit is not Bits Stored less one: the values are looked for where they lie")
    return shift if shift > 0 and high < shape.bits_allocated else 0


def _require_one_frame(elements: Elements, warn: Warn) -> None:
    frames = whole(elements, "NumberOfFrames")
    if frames is not None and frames > 1:
        raise Unprocessable("multi-frame", f"the object is a multi-frame image of {frames} frames, not a single radiograph")
    if (frames is not None and frames < 1) or (frames is None and any(strings(elements, "NumberOfFrames"))):
        warn("Number of Frames means nothing: read as 1")


def _side(elements: Elements, keyword: str) -> int:
    """(0028,0010) Rows or (0028,0011) Columns: one US value, 1 to 16384."""
    element, found = elements.get(tag_of(keyword)), numbers(elements, keyword)
    if element is None or element.vr not in (b"US", b"UN", b"") or len(found) != 1 or found[0] is None:
        raise Unprocessable("dimensions", f"{keyword} is missing or is not one unsigned short")
    if not 0 < found[0] <= MAX_SIDE:
        raise Unprocessable("dimensions", f"{keyword} is {int(found[0])}, not between 1 and {MAX_SIDE}")
    return int(found[0])
