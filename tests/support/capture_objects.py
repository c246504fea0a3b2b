"""Result objects built from a phantom or a real radiograph, and what dciodvfy finds wrong in them."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom

from prioritizer.dicom.read.decode import read_frame
from prioritizer.dicom.result.secondary_capture import CaptureFacts, CaptureObject, build
from prioritizer.dicom.stand_ins.phantom_files import PhantomPatient
from prioritizer.imaging.preprocessing import display_picture
from tests.support.pacs import program

FILM = PhantomPatient(number=3, taken_at=datetime(2026, 11, 22, 9, 30, tzinfo=UTC), rows=256, columns=224)
FACTS = CaptureFacts(
    site="St. Elsewhere",
    study_uid="2.25.1",
    kind="heatmap",
    band="RAISED - placed earlier in the worklist",
    bundle_id="cxr-pneumonia-efficientnet-lite0",
    bundle_digest="sha256:" + "ab" * 32,
    calibration_id="local-2026-11",
    scale=0.5,
    software_version="0.1.0",
    content_time=datetime(2026, 11, 22, 10, 15, 30, tzinfo=UTC),
)
SALIENCY = np.linspace(-0.2, 0.6, 49, dtype=np.float32).reshape(7, 7)


def built(path: Path, facts: CaptureFacts = FACTS, saliency: np.ndarray | None = SALIENCY) -> CaptureObject:
    frame = read_frame(path)
    return build(path, display_picture(frame.pixels, frame.grey, 1024), saliency, facts)


def parsed(result: CaptureObject) -> pydicom.Dataset:
    return pydicom.dcmread(BytesIO(result.data))


def errors_of(result: CaptureObject, folder: Path) -> list[str]:
    file = folder / "result.dcm"
    file.write_bytes(result.data)
    said = subprocess.run([program("dciodvfy"), "-new", str(file)], capture_output=True, check=False)
    return [line for line in (said.stdout + said.stderr).decode("latin-1").splitlines() if line.startswith("Error")]
