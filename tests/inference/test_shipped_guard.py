"""What the shipped bundle's guard lets pass and what it refuses, on real files where they are here."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from prioritizer.errors import PrioritizerError
from prioritizer.imaging.preprocessing import equalised
from prioritizer.inference.bundle import default_folder, open_bundle
from prioritizer.inference.engine import Engine
from prioritizer.learning.cohorts.decoded_images import read_picture
from prioritizer.learning.cohorts.read import read_cohort
from tests.support.cohort_files import shared

BUNDLE = open_bundle(default_folder())


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(BUNDLE)


def refused(engine: Engine, pictures: Sequence[np.ndarray]) -> float:
    """Share refused as no frontal chest radiograph."""
    return float(np.mean([engine.score(picture).figures.image_kind > 1 for picture in pictures]))


def films(folder: Path) -> list[np.ndarray]:
    return [read_picture(image, BUNDLE.preprocessing) for image in read_cohort(folder).images]


def children(count: int) -> list[np.ndarray]:
    """Evenly over the classes and the alphabet; most of them are training films, so this bounds nothing but a broken guard."""
    paths = sorted([*(shared("kermany") / "NORMAL").iterdir(), *(shared("kermany") / "PNEUMONIA").iterdir()])
    return [read_picture(path, BUNDLE.preprocessing) for path in paths[:: len(paths) // count]]


def test_films_of_the_hospital_it_was_trained_in_pass(engine: Engine):
    assert refused(engine, children(120)) <= 0.04


@pytest.mark.parametrize("name", ["nih-adult/cohort", "nih-child"])
def test_films_of_the_other_hospital_pass(engine: Engine, name: str):
    assert refused(engine, films(shared(name))) <= 0.05


def test_the_card_tells_what_is_refused_and_what_is_unlike_the_training(engine: Engine):
    guard = BUNDLE.card["guard"]
    for part in ("image_kind", "out_of_distribution"):
        names = [name for name in BUNDLE.card["metrics"] if name.startswith("val_report")]
        assert set(guard[part]["beyond"]) == {f"{name}{of}" for name in names for of in ("", "_with", "_without")}
        assert max(guard[part]["beyond"].values()) <= 0.05


def test_the_surest_images_are_not_taken_for_another_population(engine: Engine):
    """Of images with the finding that radiologists read, about as few lie beyond the limit as of those without (some set the limits)."""
    folder = shared("rsna-mixed")
    with (folder / "labels.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    pictures = (read_picture(folder / row["file"], BUNDLE.preprocessing) for row in rows)
    beyond = [engine.score(picture).figures.out_of_distribution > 1 for picture in pictures]
    shown = np.array([row["label"] == "opacity" for row in rows])
    assert 100 < shown.sum() < 200
    assert np.mean(np.array(beyond)[shown]) <= 0.04
    assert np.mean(np.array(beyond)[~shown]) <= 0.04


@pytest.mark.parametrize("change", ["inverted", "turned", "upside down"])
def test_a_chest_film_that_is_not_shown_as_one_is_refused(engine: Engine, change: str):
    turn = {"inverted": lambda p: equalised(1 - p), "turned": np.rot90, "upside down": np.flipud}[change]
    assert refused(engine, [np.ascontiguousarray(turn(picture)) for picture in children(40)]) >= 0.9


def test_noise_and_flat_fields_are_refused(engine: Engine):
    side = BUNDLE.preprocessing.size
    rng = np.random.default_rng(0)
    noise = [rng.random((side, side), dtype=np.float32) for _ in range(5)]
    flat = [np.full((side, side), grey, dtype=np.float32) for grey in (0.0, 0.5, 1.0)]
    assert refused(engine, [*noise, *flat]) == 1


def test_every_readable_file_that_is_no_chest_film_is_refused_whatever_its_header_says(engine: Engine):
    passed, seen = [], 0
    for path in sorted(shared("dicom/everyday").glob("nonchest_*.dcm")):
        try:
            picture = read_picture(path, BUNDLE.preprocessing)
        except PrioritizerError:
            continue
        seen += 1
        if engine.score(picture).figures.image_kind <= 1:
            passed.append(path.name)
    assert seen >= 10
    # A CT localiser is a frontal projection of a chest; its SOP class refuses it before any guard is asked.
    assert set(passed) <= {"nonchest_ct_chest_jpegll.dcm"}
