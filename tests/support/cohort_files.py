"""Small cohorts on disk in every form: phantom films as JPEG, PNG and DICOM, and the tables that label them."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from prioritizer.dicom.stand_ins.phantom_files import PhantomPatient, phantom_file
from prioritizer.imaging import phantoms

SIDE = 64
TAKEN = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)


def shared(folder: str) -> Path:
    """A folder of the shared real material; the test is skipped where it is absent."""
    root = Path(os.environ.get("PRIORITIZER_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data")) / folder
    if not root.is_dir():
        pytest.skip(f"the shared {folder} files are not here")
    return root


def film(path: Path, seed: int = 0, *, opacity: bool = False, side: int = SIDE) -> Path:
    """A phantom film as picture file, in the format of its suffix.

    Phantoms are more alike than children are: coarse clouds of their own tell one film from another.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    clouds = np.asarray(Image.fromarray(noisy(seed, 6)).resize((side, side), Image.Resampling.BILINEAR))
    Image.fromarray(phantoms.picture(side, opacity=opacity, seed=seed) // 2 + clouds // 2).save(path)
    return path


def dicom(path: Path, number: int = 1, **changes: object) -> Path:
    """A phantom film as DICOM file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(phantom_file(PhantomPatient(number=number, taken_at=TAKEN, rows=SIDE, columns=SIDE, **changes)))
    return path


def table(path: Path, *lines: str) -> Path:
    """A label file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def folders(root: Path, patients: int = 24) -> Path:
    """NORMAL/ and PNEUMONIA/ with one or two films a patient, named as the Guangzhou set names them."""
    for label, name in enumerate(("NORMAL", "PNEUMONIA")):
        for patient in range(patients):
            for shot in range(1 + patient % 2):
                stem = f"person{patient}_bacteria_{shot}" if label else f"IM-{patient:04d}-{shot:04d}"
                film(root / name / f"{stem}.png", 1000 * label + 10 * patient + shot, opacity=bool(label))
    return root


def noisy(seed: int, side: int = SIDE) -> np.ndarray:
    """Random greys, uint8."""
    return np.random.default_rng(seed).integers(0, 256, (side, side), dtype=np.uint8)
