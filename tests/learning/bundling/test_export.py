"""A bundle is what the run kept: proved by the serving engine, guarded, calibrated on its own split, and it says how."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from prioritizer.calibration import local_fit
from prioritizer.calibration.operating_point import Trade
from prioritizer.errors import ConfigError
from prioritizer.inference import bundle_selftest, guard_file
from prioritizer.inference.bundle import GUARD, open_bundle
from prioritizer.inference.engine import Engine
from prioritizer.learning.bundling import card_statement as bundling_statement
from prioritizer.learning.bundling import engine_answers, export, graph
from prioritizer.learning.training import network, train
from prioritizer.learning.training.recipes import Phase, Picture, Recipe
from prioritizer.scope import image_kind
from prioritizer.scope.out_of_distribution import Guards
from tests.support.phantom_training import TINY, phantom_cohort

STATEMENT = Path(__file__).parents[3] / "config" / "recipes" / "house-statement.toml"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return phantom_cohort(tmp_path_factory.mktemp("phantoms"))


@pytest.fixture(scope="module")
def run(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("runs") / "run"
    train.train(folder, target, TINY, say=lambda said: None)
    return target


@pytest.fixture(scope="module")
def bundle_folder(folder: Path, run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("bundles") / "tiny"
    other = phantom_cohort(tmp_path_factory.mktemp("elsewhere"), patients=12, first_seed=77)
    statement = replace(bundling_statement.read_statement(STATEMENT), name="tiny")
    export.export(run, folder, target, statement, {"elsewhere": other}, say=lambda said: None)
    return target


def test_the_serving_engine_proves_the_bundle(bundle_folder: Path):
    assert bundle_selftest.prove(Engine(open_bundle(bundle_folder))) <= 1e-4


def test_the_card_names_what_was_kept_and_how_it_was_chosen(bundle_folder: Path, run: Path):
    card = open_bundle(bundle_folder).card
    kept = torch.load(run / "best.pt", weights_only=True)["epoch"]
    assert card["training"]["epoch_kept"] == kept
    assert Recipe(**card["training"]["recipe"]) == TINY
    assert set(card["calibration"]["compared_on_calib"]) == set(local_fit.MIN_COUNT)
    assert set(card["metrics"]) == {"val_report", "elsewhere"}
    assert card["preprocessing"]["tone"] == "equalised"


def test_thresholds_come_from_the_calib_split(bundle_folder: Path, folder: Path, run: Path):
    bundle = open_bundle(bundle_folder)
    splits = export.read_splits(run / "splits.json", export.read_cohort(folder).images, folder)
    answered = engine_answers.answers(Engine(bundle), splits["calib"])
    probabilities = bundle.calibration.probabilities(answered.logits)
    flagged = probabilities[answered.labels == 1] >= bundle.calibration.t_high - 1e-9
    assert flagged.mean() >= export.TARGET_SENSITIVITY
    assert bundle.calibration.t_low <= bundle.calibration.t_high


def test_the_guard_lets_its_own_kind_pass_and_stops_noise(bundle_folder: Path, folder: Path, run: Path):
    bundle = open_bundle(bundle_folder)
    guard = bundle.guard()
    assert isinstance(guard, Guards)
    splits = export.read_splits(run / "splits.json", export.read_cohort(folder).images, folder)
    engine = Engine(bundle)
    seen = engine_answers.answers(engine, splits["train"])
    kinds = np.stack([image_kind.features(picture) for picture in seen.pictures])
    assert (guard.image_kind.distance(kinds) > 1).mean() < 0.2
    assert (guard.population.distance(seen.embeddings) > 1).mean() < 0.2
    noise = np.random.default_rng(3).random((64, 64)).astype(np.float32)
    figures = engine.score(noise).figures
    assert figures.image_kind > 1
    assert not figures.one_measure


def test_the_card_states_both_parts_of_the_guard_for_every_set(bundle_folder: Path):
    told = open_bundle(bundle_folder).card["guard"]
    for part in ("image_kind", "out_of_distribution"):
        assert set(told[part]["beyond"]) == {f"{name}{of}" for name in ("val_report", "elsewhere") for of in ("", "_with", "_without")}
        assert 0 < told[part]["false_alarms_set"] < 0.1


def test_the_guard_is_read_as_it_was_written(bundle_folder: Path, tmp_path: Path):
    kept = guard_file.read(bundle_folder / GUARD)
    assert isinstance(kept, Guards)
    guard_file.write(kept, tmp_path / GUARD)
    again = guard_file.read(tmp_path / GUARD)
    picture = np.random.default_rng(1).random((64, 64)).astype(np.float32)
    embedding = kept.population.centres[0] + 1
    assert again.figures(embedding, picture) == kept.figures(embedding, picture)


def test_a_changed_guard_is_not_opened(bundle_folder: Path, tmp_path: Path):
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in bundle_folder.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    (copy / GUARD).write_bytes((copy / GUARD).read_bytes() + b" ")
    with pytest.raises(Exception, match=GUARD):
        open_bundle(copy)


def test_the_page_for_people_shows_every_set(bundle_folder: Path):
    page = (bundle_folder / "CARD.md").read_text()
    assert "elsewhere" in page
    assert "not a frontal chest radiograph" in page
    assert "another population or device" in page
    assert "not a diagnosis" in page.lower()
    tomllib.loads((bundle_folder / "card.toml").read_text())


def test_the_card_says_what_any_threshold_would_give(bundle_folder: Path):
    found = tomllib.loads((bundle_folder / "card.toml").read_text())
    told, at = found["trade_on_val_report"], found["metrics"]["val_report"]
    assert told["logit"] == sorted(told["logit"])
    assert (told["sensitivity"][0], told["specificity"][0]) == (1.0, 0.0)
    assert told["sensitivity"] == sorted(told["sensitivity"], reverse=True)
    assert told["specificity"] == sorted(told["specificity"])
    trade = Trade(**{name: np.asarray(values) for name, values in told.items()})
    fitted = open_bundle(bundle_folder).calibration
    sensitivity, specificity = trade.at(fitted.logit_at(fitted.t_high))
    assert sensitivity == pytest.approx(at["sensitivity"][0], abs=0.1)
    assert specificity == pytest.approx(at["specificity"][0], abs=0.1)


@pytest.mark.parametrize(
    ("architecture", "size"), [("test_resnet.r160_in1k", 64), ("test_efficientnet.r160_in1k", 64), ("vit_tiny_patch16_224", 224)]
)
@pytest.mark.parametrize("outputs", [1, 2])
def test_contributions_add_up_to_the_logit_in_every_kind_of_network(architecture: str, size: int, outputs: int):
    torch.manual_seed(1)
    model = network.build(architecture, outputs, size).eval()
    with torch.no_grad():
        images = torch.randn(2, 3, size, size)
        logit, saliency, embedding = network.Explained(model)(images)
        assert torch.allclose(logit, network.logit_of(model(images)), atol=1e-4)
        assert torch.allclose(saliency.sum(dim=(1, 2)) + network.direction(model)[1], logit, atol=1e-4)
        assert embedding.shape[1] > network.linear_head(model).in_features


def test_a_network_without_a_closed_form_is_not_exported(tmp_path: Path):
    recipe = Recipe(architecture="test_vit.r160_in1k", picture=Picture(size=160), phases=(Phase(epochs=1, learning_rate=1e-3),))
    model = network.build(recipe.architecture, 1, 160).eval()
    with pytest.raises(ConfigError, match="exact map"):
        graph.export_graph(model, recipe, tmp_path / "model.onnx")


def test_a_statement_is_begun_with_the_figures_of_this_run_and_waits_for_a_person(folder: Path, run: Path, tmp_path: Path):
    from typer.testing import CliRunner

    from prioritizer.cli.app import app

    target = tmp_path / "statement.toml"
    asked = ["export", str(run), "--data", str(folder)]
    assert CliRunner().invoke(app, [*asked, "--init-statement", str(target)]).exit_code == 0
    begun = tomllib.loads(target.read_text())
    assert begun["name"] == run.name
    assert any("split val_report" in limit and "sensitivity" in limit for limit in begun["limits"])
    with pytest.raises(ConfigError, match="intended_use still says STATE THIS") as refused:
        bundling_statement.read_statement(target)
    assert len(refused.value.faults) == target.read_text().count("STATE THIS") - 1
    target.write_text(target.read_text().replace("STATE THIS", "said by a person"))
    assert bundling_statement.read_statement(target).title == "said by a person"
    assert CliRunner().invoke(app, [*asked, "--init-statement", str(target)]).exit_code != 0, "never overwritten"
    nothing = CliRunner().invoke(app, asked)
    assert nothing.exit_code != 0
