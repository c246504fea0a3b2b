"""PNG and JPEG files in the sandboxed children: for the network, for people, as films. One look at each, by its content or its name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from prioritizer.dicom.read import sandboxed
from prioritizer.errors import Unprocessable
from prioritizer.imaging import preprocessing
from prioritizer.imaging.display import Shown
from prioritizer.learning.cohorts.decoded_images import UNREADABLE, grey_of

_SIGNATURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")


def begins_as_picture(data: bytes) -> bool:
    """True where the content begins as PNG or JPEG do, whatever it is called."""
    return data.startswith(_SIGNATURES)


def _grey(file: Path) -> tuple[NDArray[np.uint8] | NDArray[np.uint16], preprocessing.GreyScale]:
    """The grey values of a picture file as training reads them. Raises Unprocessable."""
    try:
        with Image.open(file, formats=("PNG", "JPEG")) as opened:
            return grey_of(opened)
    except UNREADABLE as error:
        raise Unprocessable("picture", "it is no readable PNG or JPEG") from error


def file_picture(file: Path, spec: preprocessing.Preprocessing) -> NDArray[np.float32]:
    """What the network sees of a picture file: float32 (size, size), 0..1. Runs in the sandbox."""
    return preprocessing.square_picture(*_grey(file), spec)


def file_input(file: Path, spec: preprocessing.Preprocessing) -> sandboxed.ModelInput:
    """The same as a DICOM file gives it; a picture file has nothing to warn of. Runs in the sandbox."""
    return sandboxed.ModelInput(picture=file_picture(file, spec))


def file_display(file: Path) -> NDArray[np.uint8]:
    """What people see of a picture file: uint8 (rows, columns). Runs in the sandbox."""
    return preprocessing.display_picture(*_grey(file), sandboxed.DISPLAY_SIDE)


def file_film(file: Path) -> Shown:
    """The same with all its tones. Runs in the sandbox."""
    return sandboxed.full_range_png(*_grey(file))
