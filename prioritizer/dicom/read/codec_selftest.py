"""Proof at start-up that every transfer syntax we offer is decoded, and decoded right.

The listener accepts what passes here and nothing else: a codec that failed to install, or that an update broke, is then a named
refusal in the association instead of studies that cannot be scored. The frames below are one synthetic ramp of 16 x 16, encoded
once with DCMTK, OpenJPEG, OpenJPH, CharLS and libjpeg-turbo, so that the proof needs no encoder.
"""

from __future__ import annotations

import base64
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate

from prioritizer.dicom.read.codecs import CODEC_FAILURES, CODECS, NATIVE
from prioritizer.dicom.read.decode import frame_of
from prioritizer.errors import Unprocessable

LOSSY_TOLERANCE = 0.01
"""Largest difference of a lossy sample, as a share of the full range."""

SAMPLES: dict[str, str] = {
    uid.RLELossless: (
        "AgAAAEAAAABSAQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAP8A/wH/Av8D/wT/Bf8G/wf/AP8BAAL/"
        "A/8E/wX/Bv8HAAgAAP8B/wL/AwAE/wX/Bv8H/wj/Af8C/wP/BP8F/wYAB/8IAAkAAf8C/wP/BP8F/wb/B/8IAAn/Av8D/wT/Bf8G/wf/CP8JAAL/A/8E"
        "/wX/Bv8H/wj/CQAK/wP/BP8F/wb/B/8I/wn/CgAD/wT/Bf8G/wf/CP8J/woAC/8E/wX/Bv8H/wj/Cf8K/wsABP8F/wb/B/8I/wn/Cv8LAAz/Bf8G/wf/"
        "CP8J/wr/C/8MAAX/Bv8H/wj/Cf8K/wv/DAAN/wb/B/8I/wn/Cv8L/wz/DQAG/wf/CP8J/wr/C/8M/w0ADv8H/wj/Cf8K/wv/DP8N/w4PAIIEhgiKDI4Q"
        "khSWGJocng94+nz+gAKEBogKjA6QEpQWD/By9Hb4evx+AIIEhgiKDI4PaOps7nDydPZ4+nz+gAKEBg/gYuRm6GrsbvBy9Hb4evx+D1jaXN5g4mTmaOps"
        "7nDydPYP0FLUVtha3F7gYuRm6Grsbg9IykzOUNJU1ljaXN5g4mTmD8BCxEbISsxO0FLUVtha3F4POLo8vkDCRMZIykzOUNJU1g+wMrQ2uDq8PsBCxEbI"
        "SsxODyiqLK4wsjS2OLo8vkDCRMYPoCKkJqgqrC6wMrQ2uDq8Pg8YmhyeIKIkpiiqLK4wsjS2D5ASlBaYGpweoCKkJqgqrC4PCIoMjhCSFJYYmhyeIKIk"
        "pg=="
    ),
    uid.JPEGBaseline8Bit: (
        "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAIBAQEBAQIBAQECAgICAgQDAgICAgUEBAMEBgUGBgYFBgYGBwkIBgcJBwYGCAsICQoKCgoKBggLDAsKDAkK"
        "Cgr/wAALCAAQABABAREA/8QAHwAAAQUBAQEBAQEAAAAAAAAAAAECAwQFBgcICQoL/8QAtRAAAgEDAwIEAwUFBAQAAAF9AQIDAAQRBRIhMUEGE1FhByJx"
        "FDKBkaEII0KxwRVS0fAkM2JyggkKFhcYGRolJicoKSo0NTY3ODk6Q0RFRkdISUpTVFVWV1hZWmNkZWZnaGlqc3R1dnd4eXqDhIWGh4iJipKTlJWWl5iZ"
        "mqKjpKWmp6ipqrKztLW2t7i5usLDxMXGx8jJytLT1NXW19jZ2uHi4+Tl5ufo6erx8vP09fb3+Pn6/9oACAEBAAA/APzY/Zp/Z1/1H+gen8NfoJ+zT+zr"
        "/qP9A9P4ay/2af2df9R/oHp/DX6Cfs0/s6/6j/QPT+Gv/9k="
    ),
    uid.JPEGExtended12Bit: (
        "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAIBAQEBAQIBAQECAgICAgQDAgICAgUEBAMEBgUGBgYFBgYGBwkIBgcJBwYGCAsICQoKCgoKBggLDAsKDAkK"
        "Cgr/wQALDAAQABABAREA/8QAFQABAQAAAAAAAAAAAAAAAAAADQn/xAAbEAABBAMAAAAAAAAAAAAAAAAMACg3RlVicv/aAAgBAQAAPwA2rGvh3SA2NYyu"
        "8apBAGvh3SA2NYyu8aqX418O6QGxrGV3jVIIA18O6QGxrGV3jVf/2Q=="
    ),
    uid.JPEGLossless: (
        "/9j/4AAQSkZJRgABAQAAAQABAAD/wwALEAAQABABAREA/8QAFwABAQEBAAAAAAAAAAAAAAAABgcIEP/aAAgBAQAGAADtBaC0FoLQWgtBaC0FoLQWgtBa"
        "C0FeHjx48ePHjx48ePHjx5eHjx48ePHjx48ePHjx5eHjx48ePHjx48ePHjx5eHjx48ePHjx48ePHjx5eHjx48ePHjx48ePHjx5eHjx48ePHjx48ePHjx"
        "5eHjx48ePHjx48ePHjx5eHjx48ePHjx48ePHjx5eHjx48ePHjx48ePHjx5eHjx48ePHjx48ePHjx5eHjx48ePHjx48ePHjx5eHjx48ePHjx48ePHjx5e"
        "Hjx48ePHjx48ePHjx5eHjx48ePHjx48ePHjx5eHjx48ePHjx48ePHjx5///Z"
    ),
    uid.JPEGLosslessSV1: (
        "/9j/4AAQSkZJRgABAQAAAQABAAD/wwALEAAQABABAREA/8QAFgABAQEAAAAAAAAAAAAAAAAACAcQ/9oACAEBAAEAAMgkEgkEgkEgkEgkEgkEgkEgrwgk"
        "EgkEgkEgkEgkEgkEgkEgrwgkEgkEgkEgkEgkEgkEgkEgrwgkEgkEgkEgkEgkEgkEgkEgrwgkEgkEgkEgkEgkEgkEgkEgrwgkEgkEgkEgkEgkEgkEgkEg"
        "rwgkEgkEgkEgkEgkEgkEgkEgrwgkEgkEgkEgkEgkEgkEgkEgrwgkEgkEgkEgkEgkEgkEgkEgrwgkEgkEgkEgkEgkEgkEgkEgrwgkEgkEgkEgkEgkEgkE"
        "gkEgrwgkEgkEgkEgkEgkEgkEgkEgrwgkEgkEgkEgkEgkEgkEgkEgrwgkEgkEgkEgkEgkEgkEgkEgrwgkEgkEgkEgkEgkEgkEgkEgrwgkEgkEgkEgkEgk"
        "EgkEgkEgv///2Q=="
    ),
    uid.JPEGLSLossless: (
        "/9j/9wALDAAQABABAREA/9oACAEBAAAAAIIYQyBCGQL/P19vl7vV5vF3u0cBwdzsdToczkcTgbzcbTYaw4NRpNBnMxlMhjMRhMBfLxdLh3LZaLJYK5WK"
        "pUKZSKJQJ5OJp2JhLJRJJBHIxFIhDIRBID+/HV9fHt6eXh3dnV0c3JxcG86Nza2NbU0tDOzMzKyMjGxHNiYWFgX19efPXjt26cuTk4bt2zZq1aNGjNmy"
        "ZMjixYsWLBgwXr169cuWrTgtWLFitWrVqlSppplk3ssssMMMMMMLrrrrm5dZZZZZZVVVVVVVU2qKKKKKKKKKKKMYs2LWta1rWtalKUo1qUpSlKUpSlKU"
        "o1D/2Q=="
    ),
    uid.JPEGLSNearLossless: (
        "/9j/9wALDAAQABABAREA/9oACAEBAAIAAITE2YmzYs2LFivYr168QEGC5cuXLFixYsVKlQgqVKlSpQoUKFCZMmTJlyRIiSIkSJEiQIECBB8wQffeeeee"
        "dddddccLuOOOOONtttttNNFGCSSSCCCHkPe973l3vc97nOa5zmtaWaxrGMa1jFsYtZdbFsWxa1rWp3cs7OzMzOzMzMXZmZlZlZmVVLKqqrKqqrbZVttp"
        "ptttlk0m02kkkVabSKqkksD/2Q=="
    ),
    uid.JPEG2000Lossless: (
        "/0//UQApAAAAAAAQAAAAEAAAAAAAAAAAAAAAEAAAABAAAAAAAAAAAAABCwEB/1IADAAAAAEAAQQEAAH/XAAHQGBoaHD/ZAAlAAFDcmVhdGVkIGJ5IE9w"
        "ZW5KUEVHIHZlcnNpb24gMi41LjT/kAAKAAAAAAB/AAH/k9/hWBIrZtaFsrGx7NgB4acEQS4+fGjVTYbXfAzEusDsDeXymUHjVXvIC8Zk3QY14H+CBG4U"
        "yqgvMfmzQkAeFK3UZALl4pBLg2HF8gGRI9oRjbZWZtEYP43fwPwCID7QkDahmdHEMgATPaYu2pQkBHhn/9k="
    ),
    uid.JPEG2000: (
        "/0//UQApAAAAAAAQAAAAEAAAAAAAAAAAAAAAEAAAABAAAAAAAAAAAAABCwEB/1IADgECAAEAAQQEAACIiP9cAAtCaCR303fTd2L/ZAAlAAFDcmVhdGVk"
        "IGJ5IE9wZW5KUEVHIHZlcnNpb24gMi41LjT/kAAKAAAAAABjAAH/k8+47BFQEdLhRhQkyxyG/yINzLO1pwguwQL/WnC5GhZTYMfT5AWh0QapDPadzYWI"
        "ScpprIJo/KmgT1u5HYvVwD4CYB8I4DahfnSXGCFEkD2mLoh2mZT/2Q=="
    ),
    uid.HTJ2KLossless: (
        "/0//UQApQAAAAAAQAAAAEAAAAAAAAAAAAAAAEAAAABAAAAAAAAAAAAABDwEB/1AACAACAAAACv9SAAwAAgABAAIEBEAB/1wACiCIkJCQiIiI/2QAFwAB"
        "T3BlbkpQSCBWZXIgMC4yNi4zLv+QAAoAAAAAAH0AAf+TwAAunP9/P/zv+y/47/sHvWfe9/7D39C/0Z/Av+AX7N513fkA9ZdCADG4AMAAFVAABVhIkCBB"
        "8qpyAnUAGmrQoOHAQgHstgDAAC0IAAWiAgICAgICAgLnynp6cYJ4AO5ut9vtdrv9iEB79iEB7LoA/9k="
    ),
    uid.HTJ2K: (
        "/0//UQApQAAAAAAQAAAAEAAAAAAAAAAAAAAAEAAAABAAAAAAAAAAAAABDwEB/1AACAACAAAAKv9SAAwAAgABAAIEBEAA/1wAESKfhpADkAOQRpfSl9KX"
        "Yf9kABcAAU9wZW5KUEggVmVyIDAuMjYuMy7/kAAKAAAAAADCAAH/k8AAC6sfGBxdIFOBDv8r689yH5O+lntF/03Zf3z/aPfL3wefnzj/bvsdelLANzcA"
        "wAAWxAABbIDCQgTi1SvixIVCBOLVK+LEAGcHEABZmAA0BA1BQ9AQofSG0htKbyi9AhAAxwAA0LkAwAAXQwAAXRi+b7XAYO+/XmCw91stMNj7rxYY/FwS"
        "V/JX8lfiCsALfQC61lprrVfOK84r58p55Vw5r5wr5x9BCAp0xCApukmtEmo/AP/Z"
    ),
}
# The RPCL syntax only fixes the order of packets; a stream of one layer and one component reads the same.
SAMPLES[uid.HTJ2KLosslessRPCL] = SAMPLES[uid.HTJ2KLossless]


def codec_selftest() -> dict[str, str | None]:
    """For every transfer syntax of the table: None where a sample decodes to the right picture, else why it is not offered."""
    return {syntax: _fault(syntax) for syntax in (*NATIVE, *CODECS)}


def ramp(bits: int) -> NDArray[np.uint16]:
    """The sample picture, 16 x 16, stored with 12 or 8 bits."""
    picture = np.add.outer(np.arange(16) * 120, np.arange(16) * 130)
    return (picture if bits == 12 else picture >> 4).astype(np.uint16)


def _fault(syntax: str) -> str | None:
    bits = 8 if syntax == uid.JPEGBaseline8Bit else 12
    try:
        decoded = frame_of(_sample_file(syntax, bits)).pixels
    except Unprocessable as error:
        return f"{error.reason}: {error.__cause__}" if error.__cause__ else error.reason
    except CODEC_FAILURES as error:
        return f"the sample cannot be made: {error}"
    difference = int(np.abs(decoded.astype(np.int64) - ramp(bits)).max())
    lossless = syntax in NATIVE or CODECS[syntax].lossless
    allowed = 0 if lossless else LOSSY_TOLERANCE * 2**bits
    return None if difference <= allowed else f"a sample decodes wrong, by {difference} of {2**bits}"


def _sample_file(syntax: str, bits: int) -> bytes:
    """A Part 10 file of the ramp in `syntax`."""
    sample = Dataset()
    sample.file_meta = FileMetaDataset()
    sample.file_meta.TransferSyntaxUID = uid.UID(syntax)
    sample.file_meta.MediaStorageSOPClassUID = sample.SOPClassUID = uid.SecondaryCaptureImageStorage
    sample.file_meta.MediaStorageSOPInstanceUID = sample.SOPInstanceUID = uid.UID("2.25.1")
    sample.Rows = sample.Columns = 16
    sample.SamplesPerPixel, sample.PhotometricInterpretation, sample.PixelRepresentation = 1, "MONOCHROME2", 0
    sample.BitsAllocated, sample.BitsStored, sample.HighBit = (16, 12, 11) if bits == 12 else (8, 8, 7)
    order = ">" if syntax == uid.ExplicitVRBigEndian else "<"
    sample.PixelData = encapsulate([base64.b64decode(SAMPLES[syntax])]) if syntax in CODECS else ramp(bits).astype(f"{order}u2").tobytes()
    sample["PixelData"].VR = "OB" if syntax in CODECS else "OW"
    file = BytesIO()
    sample.save_as(file, enforce_file_format=True)
    return file.getvalue()
