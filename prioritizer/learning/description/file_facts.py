"""What a file says without being looked at by a network: how it was made, how its greys are spread, what it is identical to."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from prioritizer.dicom.read.decode import read_frame
from prioritizer.errors import Unprocessable
from prioritizer.imaging import preprocessing
from prioritizer.learning.cohorts.decoded_images import UNREADABLE, grey_of
from prioritizer.learning.cohorts.duplicates import THUMBNAIL
from prioritizer.learning.cohorts.labelled_image import Fault, LabelledImage
from prioritizer.learning.cohorts.labels import is_picture, named

Float32 = NDArray[np.float32]
SIDE = 224
SEEN = preprocessing.Preprocessing(id="file-facts", size=SIDE, resize="squash", mean=(0.0,) * 3, std=(1.0,) * 3)
BLACK, WHITE = 5 / 255, 250 / 255
"""At or below and at or above these a grey counts as black or white."""
PERCENTILES = (1, 5, 25, 50, 75, 95, 99)
IJG_LUMINANCE = np.array(
    [
        16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55,
        14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80, 62,
        18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92,
        49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
    ],
    dtype=np.float64,
)  # fmt: skip
"""Table K.1 of ITU-T T.81 in rows, which the Independent JPEG Group's library scales by its quality."""
FILE_NAMES = ("file bytes", "width", "height", "width / height", "bytes per pixel", "bits", "JPEG quality", "colour", "EXIF turned")
INTENSITY_NAMES = (
    "mean",
    "standard deviation",
    *(f"percentile {p}" for p in PERCENTILES),
    "share black",
    "share white",
    "log sharpness",
    "entropy",
    "centre mean",
    "border mean",
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FileFacts:
    """One readable file."""

    image: LabelledImage
    bytes: int
    width: int
    height: int
    encoding: str
    """`JPEG`, `PNG`, or the UID of a DICOM transfer syntax."""
    bits: int
    photometric: str
    quality: float
    """Estimated quality 1-100 of a JPEG in the scale of the Independent JPEG Group; NaN for other files."""
    turned: bool
    """EXIF says the picture is to be shown turned; it is not applied."""
    sha256: str
    thumbnail: Float32
    """float32 (32, 32), 0..1, for the search for duplicates."""
    intensities: tuple[float, ...]
    """In the order of INTENSITY_NAMES, of the picture as a network sees it: 224 x 224, 0..1."""

    @property
    def file_numbers(self) -> tuple[float, ...]:
        """In the order of FILE_NAMES."""
        area = self.width * self.height
        made = (self.bytes, self.width, self.height, self.width / self.height, self.bytes / area, self.bits, self.quality)
        return (*(float(number) for number in made), float(self.photometric in ("RGB", "RGBA", "P", "CMYK", "YCbCr")), float(self.turned))


def facts_of(image: LabelledImage) -> FileFacts:
    """Everything about one file, read once. Raises Unprocessable."""
    try:
        raw = image.path.read_bytes()
        stored, grey, made = _picture_file(image.path) if is_picture(image.path) else _dicom_file(image.path)
    except UNREADABLE as error:
        raise Unprocessable("picture", "it is no readable PNG or JPEG") from error
    seen = preprocessing.square_picture(stored, grey, SEEN)
    return FileFacts(
        image=image,
        bytes=len(raw),
        width=stored.shape[1],
        height=stored.shape[0],
        bits=grey.bits_stored,
        sha256=hashlib.sha256(raw).hexdigest(),
        thumbnail=preprocessing.square_picture(stored, grey, THUMBNAIL),
        intensities=intensities(seen),
        **made,
    )


def _picture_file(path: Path) -> tuple[NDArray[np.generic], preprocessing.GreyScale, dict[str, Any]]:
    with Image.open(path) as opened:
        made = {
            "encoding": str(opened.format),
            "photometric": opened.mode,
            "quality": jpeg_quality(getattr(opened, "quantization", {})),
            "turned": opened.getexif().get(0x0112, 1) != 1,
        }
        stored, grey = grey_of(opened)
    return stored, grey, made


def _dicom_file(path: Path) -> tuple[NDArray[np.generic], preprocessing.GreyScale, dict[str, Any]]:
    frame = read_frame(path)
    photometric = "inverted (MONOCHROME1)" if frame.grey.inverted else "MONOCHROME2"
    return frame.pixels, frame.grey, {"encoding": frame.transfer_syntax, "photometric": photometric, "quality": math.nan, "turned": False}


def jpeg_quality(tables: dict[int, list[int]]) -> float:
    """The IJG quality whose luminance table comes nearest; NaN without one. Other encoders use other tables: an estimate."""
    if 0 not in tables:
        return math.nan
    scale = float(np.mean(np.sort(np.asarray(tables[0], dtype=np.float64)) / np.sort(IJG_LUMINANCE))) * 100
    return float(np.clip(round((200 - scale) / 2 if scale <= 100 else 5000 / scale), 1, 100))


def intensities(seen: Float32) -> tuple[float, ...]:
    """Statistics of a picture float32 (S, S), 0..1, in the order of INTENSITY_NAMES."""
    shares = np.bincount(np.rint(seen * 255).astype(np.int64).ravel(), minlength=256) / seen.size
    entropy = -float(np.sum(shares[shares > 0] * np.log2(shares[shares > 0])))
    inner = -4 * seen[1:-1, 1:-1] + seen[:-2, 1:-1] + seen[2:, 1:-1] + seen[1:-1, :-2] + seen[1:-1, 2:]
    quarter, edge = len(seen) // 4, len(seen) // 16
    centre = float(seen[quarter:-quarter, quarter:-quarter].mean())
    rim = float(seen.sum() - seen[edge:-edge, edge:-edge].sum()) / (seen.size - (len(seen) - 2 * edge) ** 2)
    percentiles = np.percentile(seen, PERCENTILES)
    return (
        *(float(seen.mean()), float(seen.std()), *percentiles.tolist()),
        *(float((seen <= BLACK).mean()), float((seen >= WHITE).mean()), math.log10(float(inner.var()) + 1e-9), entropy, centre, rim),
    )


def read_facts(
    images: Iterable[LabelledImage], root: Path, tick: Callable[[], None] = lambda: None
) -> tuple[tuple[FileFacts, ...], tuple[Fault, ...]]:
    """The facts of every readable file, and a fault for each of the others."""
    facts, faults = [], []
    for image in images:
        try:
            facts.append(facts_of(image))
        except Unprocessable as error:
            faults.append(Fault(file=named(image.path, root), what="unreadable", said=f"{error}; left out"))
        tick()
    return tuple(facts), tuple(faults)
