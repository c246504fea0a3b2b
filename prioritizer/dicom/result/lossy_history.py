"""What lossy compression an image went through before it came, as its result must say (PS3.3 C.7.6.1.1.5)."""

from __future__ import annotations

import math
import re
from typing import Final

from pydicom import uid
from pydicom.dataset import Dataset

from prioritizer.dicom.read.codecs import CODEC_FAILURES
from prioritizer.dicom.read.header import Header

_LOSSY_METHODS: dict[str, str] = {
    uid.JPEGBaseline8Bit: "ISO_10918_1",
    uid.JPEGExtended12Bit: "ISO_10918_1",
    uid.JPEGLSNearLossless: "ISO_14495_1",
}
"""Syntaxes that are always lossy; JPEG 2000 (ISO_15444_1) and High-Throughput JPEG 2000 are so only where the header says."""
_HIGH_THROUGHPUT = (uid.HTJ2KLossless, uid.HTJ2KLosslessRPCL, uid.HTJ2K)
_METHOD: Final = re.compile(r"[A-Z0-9 _]{1,16}", re.ASCII)
"""A code string."""


def lossy_history(header: Dataset, found: Header, size: int) -> tuple[tuple[float, str], ...] | None:
    """Ratio and method of each lossy compression: what the source says, completed by what its transfer syntax proves.

    Empty where it was lossy and does not say how, None where it was lossless. `size`: bytes of the whole file.
    """
    try:
        return _steps(header, found, size)
    except CODEC_FAILURES:
        return ()


def _steps(header: Dataset, found: Header, size: int) -> tuple[tuple[float, str], ...] | None:
    method = _LOSSY_METHODS.get(found.transfer_syntax)
    if str(header.get("LossyImageCompression", "") or "").strip() != "01" and method is None:
        return None
    if stated := _stated(header):
        return stated
    if method is None and found.transfer_syntax in uid.JPEG2000TransferSyntaxes:
        method = "ISO_15444_15" if found.transfer_syntax in _HIGH_THROUGHPUT else "ISO_15444_1"
    if method is None or found.pixel_start is None or found.pixel_length is not None:
        return ()
    plain = int(header.Rows) * int(header.Columns) * (2 if int(header.BitsStored) > 8 else 1)
    return ((round(plain / max(size - found.pixel_start, 1), 2), method),)


def _stated(header: Dataset) -> tuple[tuple[float, str], ...]:
    """Each ratio with its method; empty where they are none, or one of them is no ratio or no code string (PS3.5 6.2)."""
    try:
        ratios = [float(ratio) for ratio in _values(header, "LossyImageCompressionRatio")]
        methods = [method.strip(" \0") for method in _values(header, "LossyImageCompressionMethod")]
    except CODEC_FAILURES:
        return ()
    valid = all(math.isfinite(ratio) and ratio > 0 for ratio in ratios) and all(map(_METHOD.fullmatch, methods))
    return tuple(zip(ratios, methods, strict=True)) if valid and len(ratios) == len(methods) else ()


def _values(header: Dataset, keyword: str) -> list[str]:
    value = header.get(keyword)
    if value is None or value == "":
        return []
    return [str(value)] if isinstance(value, (str, int, float)) else [str(one) for one in value]
