"""`prioritizer data describe`: what it finds in small cohorts made for it, and in the real ones."""

from __future__ import annotations

import io
import json
import math
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from prioritizer.cli.app import app
from prioritizer.imaging import preprocessing
from prioritizer.learning.cohorts import duplicates, splits
from prioritizer.learning.cohorts.decoded_images import GREY_8
from prioritizer.learning.cohorts.labelled_image import LabelledImage
from prioritizer.learning.cohorts.read import read_cohort
from prioritizer.learning.description import file_facts
from prioritizer.learning.description.describe import Description, describe, facts_of
from prioritizer.learning.description.metadata_control import controls, sentence
from prioritizer.learning.description.report import report_of, verdict_of
from prioritizer.learning.description.shortcuts import Statistics, file_statistics, weighted_auc
from prioritizer.reports.page import html
from tests.support.cohort_files import dicom, film, folders, noisy, shared

RUN = CliRunner()


def thumbnail(grey: np.ndarray) -> np.ndarray:
    return preprocessing.square_picture(np.ascontiguousarray(grey), GREY_8, duplicates.THUMBNAIL)


def labelled(path: Path, label: int = 0) -> LabelledImage:
    return LabelledImage(path=path, label=label, patient=path.stem)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Description:
    root = folders(tmp_path_factory.mktemp("cohort"), patients=24)
    shutil.copy(root / "NORMAL" / "IM-0001-0000.png", root / "PNEUMONIA" / "person77_virus_1.png")
    (root / "NORMAL" / "IM-9999-0000.png").write_bytes(b"no image")
    cohort = read_cohort(root)
    return describe(cohort, splits.split_by_patient(cohort.images, seed=1))


# --- files --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("quality", [20, 50, 75, 90, 95])
def test_the_quality_of_a_jpeg_is_read_from_its_tables(tmp_path: Path, quality: int) -> None:
    Image.fromarray(noisy(1)).save(tmp_path / "a.jpg", quality=quality)
    assert file_facts.facts_of(labelled(tmp_path / "a.jpg")).quality == pytest.approx(quality, abs=1)


def test_the_facts_of_a_picture_and_of_a_dicom_file(tmp_path: Path) -> None:
    picture = file_facts.facts_of(labelled(film(tmp_path / "a.png")))
    assert (picture.encoding, picture.bits, picture.width, picture.height, picture.photometric) == ("PNG", 8, 64, 64, "L")
    assert math.isnan(picture.quality)
    other = file_facts.facts_of(labelled(dicom(tmp_path / "a.dcm", inverted=True)))
    assert (other.encoding, other.bits, other.photometric) == ("1.2.840.10008.1.2.1", 12, "inverted (MONOCHROME1)")


def test_an_exif_orientation_is_noticed(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(noisy(1)).save(tmp_path / "a.jpg", exif=exif)
    assert file_facts.facts_of(labelled(tmp_path / "a.jpg")).turned


def test_intensity_statistics_of_flat_and_noisy_pictures() -> None:
    names = file_facts.INTENSITY_NAMES
    white = dict(zip(names, file_facts.intensities(np.ones((224, 224), dtype=np.float32)), strict=True))
    assert (white["mean"], white["share white"], white["share black"], white["entropy"]) == (1.0, 1.0, 0.0, 0.0)
    noise = dict(zip(names, file_facts.intensities(np.random.default_rng(1).random((224, 224), dtype=np.float32)), strict=True))
    assert noise["log sharpness"] > 0 > white["log sharpness"]
    assert noise["centre mean"] == pytest.approx(noise["border mean"], abs=0.02)


def test_statistics_keep_the_order_of_the_images_and_know_the_unreadable(tmp_path: Path) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"x")
    images = [labelled(film(tmp_path / "a.png")), labelled(bad), labelled(film(tmp_path / "b.png", side=32))]
    found = file_statistics(images)
    assert found.values.shape == (3, len(found.names))
    assert found.only(["width"]).values[[0, 2], 0].tolist() == [64, 32]
    assert np.isnan(found.values[1]).all()


# --- duplicates ---------------------------------------------------------------------------------------------------


def test_a_film_saved_again_is_found_and_another_is_not(tmp_path: Path) -> None:
    grey = np.asarray(Image.open(film(tmp_path / "a.png", 3, side=256)))
    buffer = io.BytesIO()
    Image.fromarray(grey).resize((128, 128)).save(buffer, "JPEG", quality=30)
    again = np.asarray(Image.open(buffer))
    other = np.asarray(Image.open(film(tmp_path / "b.png", 4, side=256))) // 2 + noisy(2, 256) // 2
    images = [labelled(tmp_path / name) for name in ("a", "again", "other")]
    pairs = duplicates.pairs(images, ["1", "2", "3"], np.stack([thumbnail(grey), thumbnail(again), thumbnail(other)]))
    assert [(pair.one.path.name, pair.other.path.name, pair.exact) for pair in pairs] == [("a", "again", False)]


def test_films_of_different_children_are_not_taken_for_one() -> None:
    images = read_cohort(shared("nih-adult/cohort")).images + read_cohort(shared("nih-child")).images
    facts, _ = file_facts.read_facts(images, Path())
    assert duplicates.pairs(images, [fact.sha256 for fact in facts], np.stack([fact.thumbnail for fact in facts])) == ()


# --- the control --------------------------------------------------------------------------------------------------


def test_file_size_that_follows_the_label_is_called_a_shortcut() -> None:
    rng = np.random.default_rng(1)
    images = [LabelledImage(path=Path(f"{n}"), label=n % 2, patient=str(n)) for n in range(200)]
    values = np.array([[1000 + 300 * (1 - image.label) + rng.normal(0, 100), rng.normal()] for image in images])
    names = (*file_facts.FILE_NAMES, *file_facts.INTENSITY_NAMES)
    control = controls(Statistics(values=np.tile(values, len(names))[:, : len(names)], names=names), images)
    assert control is not None
    assert control.found
    best = control.best_single("file")
    assert best is not None
    assert best.higher_means == "no pneumonia"
    assert "a network can learn how the files were made" in sentence(control)


def test_few_images_conclude_nothing(tmp_path: Path) -> None:
    folders(tmp_path, patients=3)
    found = describe(read_cohort(tmp_path))
    assert verdict_of(found).word == "too few to say"


# --- the page -----------------------------------------------------------------------------------------------------


def test_a_film_with_both_labels_must_be_mended(found: Description) -> None:
    assert verdict_of(found).word == "mend the data"
    facts = facts_of(found)
    (pair,) = [pair for pair in facts["duplicates"] if pair["labels"][0] != pair["labels"][1]]
    assert {pair["one"], pair["other"]} == {"NORMAL/IM-0001-0000.png", "PNEUMONIA/person77_virus_1.png"}
    assert facts["fault_counts"] == {"unreadable": 1}
    assert facts["splits"] is not None


def test_joined_duplicates_stand_in_one_split(found: Description) -> None:
    joined = splits.split_by_patient(found.images, seed=1, joined=[pair.paths for pair in found.pairs])
    assert replace(found, splits=joined).across == ()


def test_a_patient_in_two_splits_is_named(found: Description) -> None:
    one = next(image for image in found.images if image.patient == "IM-0001")
    leaking = {"train": (one,), "calib": (replace(one, path=one.path.with_name("IM-0001-0001.png")),)}
    assert replace(found, splits=leaking).shared_patients == ("IM-0001",)


def test_the_page_shows_the_batch_before_and_after_augmentation(found: Description) -> None:
    made_at = datetime(2026, 1, 2, tzinfo=UTC)
    page = html(report_of(found, made_at, lambda pictures: 1 - pictures))
    assert "The same after augmentation" in page
    assert page.count("data:image/png") == 20
    assert "It must not leave the site" in page
    assert "The same after augmentation" not in html(report_of(found, made_at))


def test_the_verb_prints_json_writes_the_page_and_answers_with_its_exit_code(found: Description, tmp_path: Path) -> None:
    target = tmp_path / "out" / "data.html"
    done = RUN.invoke(app, ["data", "describe", str(found.cohort.root), "--report", str(target), "--json"])
    assert done.exit_code == 1
    assert "NaN" not in done.stdout
    told = json.loads(done.stdout)
    assert told["verdict"] == "mend the data"
    assert told["images"] == len(found.images)
    assert "<svg" in target.read_text()
    assert json.loads(target.with_suffix(".json").read_text())["classes"] == told["classes"]


def test_the_verb_refuses_an_unknown_policy_with_the_choices(found: Description) -> None:
    done = RUN.invoke(app, ["data", "describe", str(found.cohort.root), "--negatives", "healthy", "--json"])
    assert done.exit_code == 5
    assert "not-pneumonia, no-finding" in json.loads(done.stdout)["error"]["said"]


# --- real images --------------------------------------------------------------------------------------------------


def test_jpeg_size_alone_separates_the_guangzhou_classes() -> None:
    images = read_cohort(shared("kermany")).images[::4]
    facts, faults = file_facts.read_facts(images, Path())
    assert not faults
    sizes = np.array([fact.bytes for fact in facts])
    labels = np.array([image.label for image in images])
    assert weighted_auc(labels, -sizes) == pytest.approx(0.90, abs=0.02)
    assert {fact.quality for fact in facts} == {75.0}
