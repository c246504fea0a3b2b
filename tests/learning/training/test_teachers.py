"""Earlier runs as teachers: of text-mined labels a share gives way to their mean probability, labels that people gave stay."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from prioritizer.errors import ConfigError
from prioritizer.learning.cohorts.decoded_images import load_pictures
from prioritizer.learning.cohorts.labelled_image import TEXT_MINED
from prioritizer.learning.cohorts.read import read_cohort
from prioritizer.learning.cohorts.splits import read_splits
from prioritizer.learning.evaluation.subjects import open_subject
from prioritizer.learning.training import teachers, train
from prioritizer.learning.training.run_folder import Journal
from prioritizer.statistics.logistic import sigmoid
from tests.support.hospitals import QUICK

TAUGHT = QUICK.model_copy(update={"teacher": 0.25})


def train_quietly(data: Path, folder: Path, *args: object, **asked: object) -> list[str]:
    told: list[str] = []
    train.train(data, folder, *args, say=told.append, **asked)  # type: ignore[arg-type]
    return told


def test_a_share_of_a_mined_label_is_the_teachers_probability_and_other_labels_stay(hospitals: Path, run: Path) -> None:
    cohort = read_cohort(hospitals)
    images = [*read_splits(run / "splits.json", cohort.images, cohort.root)["train"]]
    found = teachers.targets([run], images, 0.25)
    mined = np.array([one.label_source == TEXT_MINED for one in images])
    labels = np.array([one.label for one in images], dtype=np.float32)
    assert 0 < mined.sum() < len(images)
    assert (found[~mined] == labels[~mined]).all()
    subject = open_subject(run)
    pictures, _ = load_pictures([one for one, is_mined in zip(images, mined, strict=True) if is_mined], subject.spec)
    assert found[mined] == pytest.approx(0.75 * labels[mined] + 0.25 * sigmoid(subject.score(pictures).logits), abs=1e-5)


def test_several_teachers_are_asked_alike(hospitals: Path, run: Path, run_without_west: Path) -> None:
    images = read_cohort(hospitals).images
    one, other, both = (teachers.targets(runs, images, 0.5) for runs in ([run], [run_without_west], [run, run_without_west]))
    assert np.abs(one - other).max() > 1e-3
    assert both == pytest.approx((one + other) / 2, abs=1e-6)


def test_a_run_names_its_teacher_and_goes_on_with_no_other(hospitals: Path, run: Path, tmp_path: Path) -> None:
    train_quietly(hospitals, tmp_path / "pupil", TAUGHT, teacher=[run])
    facts = Journal(tmp_path / "pupil").facts()
    assert facts["teacher"] == teachers.facts([run])
    assert len(facts["teacher"][0]["sha256"]) == 64
    with pytest.raises(ConfigError, match="other teachers, or without"):
        train_quietly(hospitals, tmp_path / "pupil", None, resume=True)
    train_quietly(hospitals, tmp_path / "pupil", None, resume=True, teacher=[run])
    alone = Journal(run).load(name="best.pt")["kept"]
    taught = Journal(tmp_path / "pupil").load(name="best.pt")["kept"]
    assert any(not np.array_equal(taught[name], value) for name, value in alone.items())


def test_a_teacher_and_a_recipe_that_asks_one_come_together(hospitals: Path, run: Path, tmp_path: Path) -> None:
    for recipe, teacher in ((TAUGHT, []), (QUICK, [run])):
        with pytest.raises(ConfigError, match="needs --teacher RUN"):
            train_quietly(hospitals, tmp_path / "x", recipe, teacher=teacher)
    with pytest.raises(ConfigError, match=r"best\.pt"):
        train_quietly(hospitals, tmp_path / "y", TAUGHT, teacher=[tmp_path])
