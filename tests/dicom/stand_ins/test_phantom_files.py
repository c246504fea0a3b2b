"""Phantoms are valid films of nobody."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom import uid

from prioritizer.dicom.stand_ins.phantom_files import PhantomPatient, phantom_file
from prioritizer.imaging import phantoms
from tests.support.pacs import program

FILM = PhantomPatient(number=1, taken_at=datetime(2026, 11, 22, 9, 30, tzinfo=UTC), rows=64, columns=56)


@pytest.mark.parametrize("modality", ["CR", "DX"])
@pytest.mark.parametrize("syntax", [uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian, uid.RLELossless, uid.JPEGBaseline8Bit])
def test_dciodvfy_finds_no_error(tmp_path: Path, modality: str, syntax: str):
    path = tmp_path / "film.dcm"
    path.write_bytes(phantom_file(replace(FILM, modality=modality), syntax))
    said = subprocess.run([program("dciodvfy"), "-new", str(path)], capture_output=True, check=False)
    assert [line for line in (said.stdout + said.stderr).decode("latin-1").splitlines() if line.startswith("Error")] == []


def test_the_same_patient_gives_the_same_object_and_another_instance_another():
    assert phantom_file(FILM) == phantom_file(FILM)
    second = pydicom.dcmread(BytesIO(phantom_file(replace(FILM, instance=2))))
    first = pydicom.dcmread(BytesIO(phantom_file(FILM)))
    assert first.StudyInstanceUID == second.StudyInstanceUID
    assert first.SOPInstanceUID != second.SOPInstanceUID


def test_an_opacity_only_adds_white():
    clear, ill = (phantoms.picture(224, opacity=opacity, seed=3).astype(int) for opacity in (False, True))
    assert (ill - clear).min() >= -1
    assert np.count_nonzero(ill - clear > 20) > 500
