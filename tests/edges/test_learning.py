"""Training and export on phantoms: small enough to run everywhere, real enough to make a bundle."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from prioritizer import phantoms
from prioritizer.errors import ConfigError
from prioritizer.inference.bundle import open_bundle
from prioritizer.inference.engine import Engine
from prioritizer.learning import data, export, train
from prioritizer.learning.recipes import Recipe, read_recipe

TINY = Recipe(architecture="test_resnet.r160_in1k", epochs=2, batch_size=8, size=64, learning_rate=1e-3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("phantoms")
    for label, name in enumerate(("NORMAL", "PNEUMONIA")):
        (root / name).mkdir()
        for patient in range(24):
            for shot in range(1 + patient % 2):
                stem = f"person{patient}_bacteria_{shot}" if label else f"IM-{patient:04d}-{shot:04d}"
                picture = phantoms.picture(64, opacity=bool(label), seed=1000 * label + 10 * patient + shot)
                Image.fromarray(picture).save(root / name / f"{stem}.png")
    return root


@pytest.fixture(scope="module")
def run(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("runs") / "whole"
    train.train(folder, target, TINY, say=lambda said: None)
    return target


def test_no_patient_stands_in_two_splits(folder: Path) -> None:
    splits = data.split_by_patient(data.read_folder(folder), seed=1)
    patients = [{image.patient for image in images} for images in splits.values()]
    assert all(not a & b for i, a in enumerate(patients) for b in patients[i + 1 :])
    assert sum(len(images) for images in splits.values()) == len(data.read_folder(folder))
    assert all({image.label for image in images} == {0, 1} for images in splits.values())


@pytest.mark.parametrize(
    ("name", "patient"),
    [
        ("person1000_bacteria_2931.jpeg", "person1000"),
        ("person1000_virus_1681.jpeg", "person1000"),
        ("IM-0115-0001.jpeg", "IM-0115"),
        ("NORMAL2-IM-1427-0001.jpeg", "NORMAL2-IM-1427"),
        ("whatever.png", "whatever"),
    ],
)
def test_the_patient_is_read_from_the_file_name(name: str, patient: str) -> None:
    assert data.patient_of(name) == patient


def test_an_interrupted_run_ends_with_the_weights_of_an_uninterrupted_one(folder: Path, run: Path, tmp_path: Path) -> None:
    import torch

    class Interrupted(Exception):
        pass

    def stop_in_the_second_epoch(done: int, of: int, said: str) -> None:
        if said.startswith("epoch 2"):
            raise Interrupted

    target = tmp_path / "parts"
    with pytest.raises(Interrupted):
        train.train(folder, target, TINY, say=lambda said: None, tick=stop_in_the_second_epoch)
    train.train(folder, target, TINY, resume=True, say=lambda said: None)
    whole, parts = (torch.load(r / "last.pt", weights_only=True)["model"] for r in (run, target))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_a_run_is_never_overwritten(folder: Path, run: Path) -> None:
    with pytest.raises(ConfigError, match="--resume"):
        train.train(folder, run, TINY, say=lambda said: None)


def test_a_run_says_what_is_needed_to_repeat_it(folder: Path, run: Path) -> None:
    facts = json.loads((run / "run.json").read_text())
    assert Recipe(**facts["recipe"]) == TINY
    assert facts["data_sha256"] == data.fingerprint(
        [i for s in data.split_by_patient(data.read_folder(folder), TINY.seed).values() for i in s]
    )
    assert len((run / "log.jsonl").read_text().splitlines()) == TINY.epochs


def test_the_exported_bundle_is_proved_by_the_serving_engine(folder: Path, run: Path, tmp_path: Path) -> None:
    statement = export.read_statement(Path(__file__).parents[2] / "config" / "recipes" / "plain-statement.toml")
    export.export(run, folder, tmp_path / "bundle", replace(statement, name="tiny"), {}, say=lambda said: None)
    bundle = open_bundle(tmp_path / "bundle")
    assert Engine(bundle).prove() <= 1e-4
    assert bundle.card["metrics"]["val_report"]["roc_auc"][0] >= 0.0
    assert bundle.calibration.t_low <= bundle.calibration.t_high


def test_augmentation_keeps_shape_and_range() -> None:
    import torch

    pictures = torch.rand(4, 1, 64, 64)
    changed = train.augmented(pictures, TINY, torch.Generator().manual_seed(1))
    assert changed.shape == pictures.shape
    assert 0 <= float(changed.min()) <= float(changed.max()) <= 1
    assert not torch.equal(changed, pictures)


def test_a_recipe_names_the_nearest_key_of_an_unknown_one(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text("learning_rat = 1.0\nepochs = 'x'\n")
    with pytest.raises(ConfigError) as caught:
        read_recipe(tmp_path / "r.toml")
    assert "did you mean 'learning_rate'" in str(caught.value)
    assert "epochs must be int" in str(caught.value)


def test_training_pictures_are_the_serving_pictures(folder: Path) -> None:
    path = next((folder / "NORMAL").iterdir())
    stored = np.asarray(Image.open(path))
    np.testing.assert_allclose(data.read_picture(path, TINY.preprocessing), stored / 255.0, atol=1e-6)
