"""Pixels of training are the pixels of service, whatever the file; a file that cannot be read is a fault, never a crash."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from prioritizer.dicom.read import sandboxed
from prioritizer.errors import Unprocessable
from prioritizer.file_scoring.raster import file_picture
from prioritizer.imaging import preprocessing
from prioritizer.learning.cohorts.decoded_images import load_pictures, load_readable, read_picture
from prioritizer.learning.cohorts.labelled_image import LabelledImage
from tests.support.cohort_files import dicom, film, noisy

SPEC = preprocessing.Preprocessing(id="t", size=64, resize="squash", mean=(0.5,) * 3, std=(0.25,) * 3)


def labelled(path: Path, label: int = 0) -> LabelledImage:
    return LabelledImage(path=path, label=label, patient=path.stem)


def test_dicom_is_read_as_the_daemon_reads_it(tmp_path: Path) -> None:
    path = dicom(tmp_path / "a.dcm", inverted=True)
    np.testing.assert_array_equal(read_picture(labelled(path), SPEC), sandboxed.model_picture(path, SPEC))


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P"])
def test_grey_stored_in_colour_or_by_palette_is_the_same_picture(tmp_path: Path, mode: str) -> None:
    grey = noisy(1)
    Image.fromarray(grey).convert(mode).save(tmp_path / "a.png")
    np.testing.assert_allclose(read_picture(tmp_path / "a.png", SPEC), grey / 255.0, atol=1.01 / 255)


def test_sixteen_bits_are_shown_between_their_outermost_half_percents(tmp_path: Path) -> None:
    ramp = np.linspace(1000, 5000, 64 * 64).reshape(64, 64).astype(np.uint16)
    Image.fromarray(ramp).save(tmp_path / "a.png")
    shown = read_picture(tmp_path / "a.png", SPEC)
    assert shown.min() == 0
    assert shown.max() == 1
    assert shown[32, 0] == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("bits", [8, 16])
def test_the_verb_score_reads_picture_files_as_training_does(tmp_path: Path, bits: int) -> None:
    grey = noisy(1) if bits == 8 else noisy(1).astype(np.uint16) * 13
    Image.fromarray(grey).save(tmp_path / "a.png")
    np.testing.assert_array_equal(file_picture(tmp_path / "a.png", SPEC), read_picture(tmp_path / "a.png", SPEC))


@pytest.mark.parametrize("suffix", [".png", ".jpeg", ".dcm"])
def test_an_unreadable_file_is_told_in_a_sentence(tmp_path: Path, suffix: str) -> None:
    whole = dicom(tmp_path / f"whole{suffix}") if suffix == ".dcm" else film(tmp_path / f"whole{suffix}")
    for name, content in (("cut", whole.read_bytes()[:200]), ("empty", b""), ("text", b"hello " * 100)):
        path = tmp_path / f"{name}{suffix}"
        path.write_bytes(content)
        with pytest.raises(Unprocessable):
            read_picture(path, SPEC)
    with pytest.raises(Unprocessable):
        read_picture(tmp_path / f"gone{suffix}", SPEC)


def test_readable_images_are_loaded_and_the_others_are_faults(tmp_path: Path) -> None:
    good, bad = film(tmp_path / "good.png"), tmp_path / "bad.png"
    bad.write_bytes(b"no image")
    images = [labelled(good, 1), labelled(bad)]
    pictures, kept, faults = load_readable(images, SPEC, tmp_path)
    assert pictures.shape == (1, 64, 64)
    assert kept == (images[0],)
    assert [(fault.file, fault.what) for fault in faults] == [("bad.png", "unreadable")]
    with pytest.raises(Unprocessable, match=r"bad\.png.*data describe"):
        load_pictures(images, SPEC)
