"""Small radiographs written element by element, in any plain transfer syntax, so that a header can be as odd as devices write it."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

import numpy as np
from pydicom import uid
from pydicom.datadict import dictionary_VR, tag_for_keyword

from prioritizer.dicom.spool.part10 import Receipt, encode_header
from prioritizer.study import Instance
from tests.support.archive_headers import CR, NOON

LONG = ("OB", "OW", "SQ", "UN", "UT", "UC", "OF", "OD", "OL")
ROWS, COLUMNS = 24, 32
STORED = (np.arange(ROWS * COLUMNS, dtype=np.int64) * 4095 // (ROWS * COLUMNS - 1)).reshape(ROWS, COLUMNS)
"""A ramp over twelve bits."""


class Encoder:
    """Elements in one transfer syntax."""

    def __init__(self, syntax: str = uid.ExplicitVRLittleEndian) -> None:
        self.implicit, self.order = syntax == uid.ImplicitVRLittleEndian, ">" if syntax == uid.ExplicitVRBigEndian else "<"

    def element(self, tag: int, vr: str, value: bytes, *, length: int | None = None) -> bytes:
        """One element; `length` says another one than the value has."""
        value += b"\0" * (len(value) % 2)
        size = len(value) if length is None else length
        head = struct.pack(self.order + "HH", tag >> 16, tag & 0xFFFF)
        if self.implicit:
            return head + struct.pack(self.order + "L", size) + value
        if vr in LONG:
            return head + vr.encode() + struct.pack(self.order + "HL", 0, size) + value
        return head + vr.encode() + struct.pack(self.order + "H", size) + value

    def words(self, *numbers: int) -> bytes:
        """16-bit words in the order of the file."""
        return struct.pack(f"{self.order}{len(numbers)}H", *(number & 0xFFFF for number in numbers))

    def value(self, vr: str, value: object) -> bytes:
        """A value as bytes: text as it is, numbers as words, items as items."""
        if isinstance(value, bytes):
            return value
        if isinstance(value, str):
            return value.encode("latin_1") + (b"\0" if vr == "UI" else b" ") * (len(value) % 2)
        if vr == "SQ":
            assert isinstance(value, Sequence)
            return b"".join(self.item(item) for item in value)
        numbers = value if isinstance(value, (list, tuple)) else (value,)
        return self.words(*numbers)

    def item(self, values: Mapping[str, object]) -> bytes:
        """One item of a sequence, with its length."""
        content = self.data_set(values)
        return struct.pack(self.order + "HHL", 0xFFFE, 0xE000, len(content)) + content

    def data_set(self, values: Mapping[str, object]) -> bytes:
        """Elements by keyword in the order of their tags; a tuple (VR, value) says the VR."""
        parts = []
        for keyword, given in sorted(values.items(), key=lambda pair: tag_for_keyword(pair[0]) or 0):
            if given is None:
                continue
            tag = tag_for_keyword(keyword) or 0
            stated = isinstance(given, tuple) and len(given) == 2 and isinstance(given[0], str) and len(given[0]) == 2
            vr, value = given if stated else (dictionary_VR(tag).split(" ")[0], given)
            parts.append(self.element(tag, vr, self.value(vr, value)))
        return b"".join(parts)


def usual(stored: np.ndarray = STORED, *, bits: int = 12, allocated: int = 16, signed: bool = False) -> dict[str, object]:
    """The elements of a frontal chest radiograph of a child of four."""
    return {
        "SpecificCharacterSet": "ISO_IR 100", "ImageType": "ORIGINAL\\PRIMARY", "SOPClassUID": CR, "SOPInstanceUID": "1.2.3.4",
        "StudyDate": "20260301", "AccessionNumber": "A1", "Modality": "CR", "StudyDescription": "CHEST", "SeriesDescription": "CHEST AP",
        "PatientName": "Sample^Iva", "PatientID": "P1", "PatientBirthDate": "20220115", "PatientSex": "F", "PatientAge": "004Y",
        "BodyPartExamined": "CHEST", "ViewPosition": "AP", "StudyInstanceUID": "1.2.3", "SeriesInstanceUID": "1.2.3.1",
        "SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2", "Rows": stored.shape[0], "Columns": stored.shape[1],
        "BitsAllocated": allocated, "BitsStored": bits, "HighBit": bits - 1, "PixelRepresentation": int(signed), "PixelData": stored,
    }  # fmt: skip


def radiograph(
    syntax: str = uid.ExplicitVRLittleEndian,
    stored: np.ndarray = STORED,
    *,
    bits: int = 12,
    allocated: int = 16,
    signed: bool = False,
    **elements: object,
) -> bytes:
    """A whole file as the spool holds it; `elements` by keyword override, None deletes."""
    values = usual(stored, bits=bits, allocated=allocated, signed=signed) | elements
    encoder = Encoder(syntax)
    if isinstance(values["PixelData"], np.ndarray):
        kind = f"{encoder.order}u{allocated // 8}"
        raw = (values["PixelData"].astype(np.int64) & (2**allocated - 1)).astype(kind).tobytes()
        values["PixelData"] = ("OW" if allocated == 16 else "OB", raw)
    return receipt(syntax) + encoder.data_set(values)


def receipt(syntax: str = uid.ExplicitVRLittleEndian, sop_class: str = CR, sop_instance: str = "1.2.3.4") -> bytes:
    """Preamble and file meta information as the listener writes them."""
    return encode_header(
        Receipt(
            sop_class_uid=sop_class,
            sop_instance_uid=sop_instance,
            transfer_syntax_uid=syntax,
            calling_ae="DX1",
            called_ae="PRIORITIZER",
            address="192.0.2.7",
            received_at=NOON,
        )
    )


def table(
    entries: Sequence[int], first: int, bits: int, *, vr: str = "US", packed: bool = False, count: int | None = None, data_vr: str = "OW"
):
    """One item of a look-up table sequence; `packed` puts two bytes in a word."""

    def item(encoder: Encoder) -> dict[str, object]:
        words = np.frombuffer(np.asarray(entries, "<u1").tobytes() + b"\0" * (len(entries) % 2), "<u2") if packed else np.asarray(entries)
        descriptor = encoder.words(len(entries) if count is None else count, first, bits)
        return {"LUTDescriptor": (vr, descriptor), "LUTData": (data_vr, encoder.words(*(int(word) for word in words)))}

    return item


def sequence(syntax: str, *items) -> tuple[str, bytes]:
    """A sequence of items that are written in this transfer syntax."""
    encoder = Encoder(syntax)
    return "SQ", b"".join(encoder.item(item(encoder)) for item in items)


__all__ = ["Encoder", "Instance", "radiograph", "receipt", "sequence", "table", "usual"]
