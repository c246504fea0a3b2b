"""Uncompressed 10 MB DX file to model input, against pydicom's own functions and Pillow."""

from __future__ import annotations

import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from PIL import Image
from pydicom.pixels import apply_modality_lut, apply_windowing

from prioritizer.dicom.read.decode import read_frame
from prioritizer.dicom.stand_ins.phantom_files import PhantomPatient, phantom_file
from prioritizer.imaging import preprocessing

ROUNDS = 15
REQUIRED_RATIO = 5.0
ALLOWED_DIFFERENCE = 1e-5
SPEC = preprocessing.Preprocessing(id="bench", size=224, resize="squash", mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


def ours(path: Path) -> NDArray[np.float32]:
    """File to float32 (224, 224), 0..1."""
    frame = read_frame(path)
    picture = preprocessing.square_picture(frame.pixels, frame.grey, SPEC)
    preprocessing.normalised(picture[None], SPEC)
    return picture


def reference(path: Path) -> NDArray[np.float32]:
    """The same by pydicom's float64 functions and Pillow's BILINEAR."""
    film = pydicom.dcmread(path)
    values = apply_windowing(apply_modality_lut(film.pixel_array, film), film)
    low, high = _output_range(film)
    shown = ((values - low) / (high - low)).astype(np.float32)
    picture = np.asarray(Image.fromarray(shown).resize((224, 224), Image.Resampling.BILINEAR), dtype=np.float32)
    preprocessing.normalised(picture[None], SPEC)
    return picture


def _output_range(film: pydicom.Dataset) -> tuple[float, float]:
    """What `apply_windowing` calls black and white: the rescaled range of the stored bits."""
    slope, intercept = float(film.get("RescaleSlope", 1)), float(film.get("RescaleIntercept", 0))
    return intercept, (2**film.BitsStored - 1) * slope + intercept


def run() -> list[dict[str, Any]]:
    """Rows for docs/benchmarks.md: what, required, ratio, median and spread in milliseconds, met."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "film.dcm"
        patient = PhantomPatient(number=1, taken_at=datetime(2026, 11, 22, tzinfo=UTC), modality="DX", rows=2500, columns=2048, bits=14)
        path.write_bytes(phantom_file(patient))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            difference = float(np.abs(ours(path) - reference(path)).max())
            mine, theirs = _alternating(lambda: ours(path), lambda: reference(path))
            decoding, _ = _alternating(lambda: read_frame(path), lambda: None)
    ratio = statistics.median(theirs) / statistics.median(mine)
    return [
        {
            "what": "uncompressed 10 MB DX file to model input",
            "required": f">= {REQUIRED_RATIO:g} x pydicom + Pillow, difference <= {ALLOWED_DIFFERENCE:g}",
            "ratio": ratio,
            "difference": difference,
            "median": f"{statistics.median(mine):.1f} ms against {statistics.median(theirs):.1f} ms",
            "spread": f"{min(mine):.1f}-{max(mine):.1f} ms against {min(theirs):.1f}-{max(theirs):.1f} ms",
            "met": ratio >= REQUIRED_RATIO and difference <= ALLOWED_DIFFERENCE,
        },
        {
            "what": "the same file to pixels only",
            "required": "-",
            "ratio": None,
            "median": f"{statistics.median(decoding):.2f} ms",
            "spread": f"{min(decoding):.2f}-{max(decoding):.2f} ms",
            "met": True,
        },
    ]


def _alternating(first: Callable[[], object], second: Callable[[], object]) -> tuple[list[float], list[float]]:
    """Milliseconds of each call, the two taking turns so that a noisy neighbour hits both."""
    times: tuple[list[float], list[float]] = ([], [])
    for turn in range(ROUNDS + 2):
        for work, kept in zip((first, second), times, strict=True):
            begin = time.perf_counter()
            work()
            if turn >= 2:
                kept.append((time.perf_counter() - begin) * 1000)
    return times


if __name__ == "__main__":
    for row in run():
        print(row)
