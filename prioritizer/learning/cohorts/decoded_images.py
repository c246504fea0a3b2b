"""Pixels of a labelled image: DICOM through the decoder that serves, JPEG and PNG through the same grey scale and resampling.

A picture file is grey as `prioritizer score` takes it: colour becomes its luminance, a palette is looked up, 16 bit stays 16 bit and
is shown between its outermost half percents like a DICOM file without window. An EXIF orientation is not applied; `data describe`
counts the files that have one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from prioritizer.dicom.read import sandboxed
from prioritizer.errors import Unprocessable
from prioritizer.imaging import preprocessing
from prioritizer.learning.cohorts.labelled_image import Fault, LabelledImage
from prioritizer.learning.cohorts.labels import is_picture, named

Float32 = NDArray[np.float32]
UNREADABLE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)
"""What Pillow raises on files that are no image, cut short, or claim to be enormous."""
GREY_8 = preprocessing.GreyScale(bits_allocated=8, bits_stored=8, signed=False)
GREY_16 = preprocessing.GreyScale(bits_allocated=16, bits_stored=16, signed=False)


def grey_of(opened: Image.Image) -> tuple[NDArray[np.uint8] | NDArray[np.uint16], preprocessing.GreyScale]:
    """The stored grey values of an opened picture file and how they are meant."""
    if opened.mode.startswith("I"):
        return np.asarray(opened).clip(0, 65535).astype(np.uint16), GREY_16
    return np.asarray(opened.convert("L")), GREY_8


def read_picture(image: LabelledImage | Path, spec: preprocessing.Preprocessing) -> Float32:
    """One radiograph as the network sees it before normalising: float32 (size, size), 0..1. Raises Unprocessable."""
    path = image if isinstance(image, Path) else image.path
    if not is_picture(path):
        try:
            return sandboxed.model_picture(path, spec)
        except OSError as error:
            raise Unprocessable("file", f"the file cannot be opened ({type(error).__name__})") from error
    try:
        with Image.open(path) as opened:
            stored, grey = grey_of(opened)
    except UNREADABLE as error:
        raise Unprocessable("picture", "it is no readable PNG or JPEG") from error
    return preprocessing.square_picture(stored, grey, spec)


def load_pictures(
    images: Sequence[LabelledImage], spec: preprocessing.Preprocessing, tick: Callable[[], None] = lambda: None
) -> tuple[Float32, Float32]:
    """Pictures float32 (N, size, size), 0..1, and labels float32 (N,). Raises Unprocessable at the first unreadable file."""
    pictures = np.empty((len(images), spec.size, spec.size), dtype=np.float32)
    for index, image in enumerate(images):
        try:
            pictures[index] = read_picture(image, spec)
        except Unprocessable as error:
            raise Unprocessable(error.slug, f"{image.path}: {error}; `prioritizer data describe` names every such file") from error
        tick()
    return pictures, np.asarray([image.label for image in images], dtype=np.float32)


def load_readable(
    images: Iterable[LabelledImage], spec: preprocessing.Preprocessing, root: Path, tick: Callable[[], None] = lambda: None
) -> tuple[Float32, tuple[LabelledImage, ...], tuple[Fault, ...]]:
    """Pictures of the readable images, those images, and a fault for each of the others."""
    pictures, kept, faults = [], [], []
    for image in images:
        try:
            pictures.append(read_picture(image, spec))
            kept.append(image)
        except Unprocessable as error:
            faults.append(Fault(file=named(image.path, root), what="unreadable", said=f"{error}; left out"))
        tick()
    stacked = np.stack(pictures) if pictures else np.empty((0, spec.size, spec.size), dtype=np.float32)
    return stacked, tuple(kept), tuple(faults)
