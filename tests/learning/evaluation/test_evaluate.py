"""Evaluating and comparing runs and bundles, on phantoms and on real films."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from prioritizer.cli.app import app
from prioritizer.errors import ConfigError, NotFound
from prioritizer.inference.bundle import default_folder
from prioritizer.learning.evaluation.compare import Comparison, compare
from prioritizer.learning.evaluation.compare_report import markdown_of
from prioritizer.learning.evaluation.compare_report import report_of as comparison_report
from prioritizer.learning.evaluation.cost import cost_of
from prioritizer.learning.evaluation.evaluate import Evaluation, evaluate
from prioritizer.learning.evaluation.report import facts_of, report_of
from prioritizer.learning.evaluation.subjects import open_subject
from prioritizer.learning.evaluation.trials import EvaluationRequest
from prioritizer.learning.training import train
from prioritizer.reports.page import html, write
from prioritizer.statistics.measures import NAMES
from tests.support.cohort_files import shared
from tests.support.phantom_training import TINY, phantom_cohort


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return phantom_cohort(tmp_path_factory.mktemp("phantoms"))


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> Path:
    """Another cohort, in which one film of the training hides."""
    root = phantom_cohort(tmp_path_factory.mktemp("elsewhere"), patients=6, first_seed=77)
    film = next((folder / "PNEUMONIA").iterdir())
    (root / "PNEUMONIA" / "person99_virus_1.png").write_bytes(film.read_bytes())
    return root


@pytest.fixture(scope="module")
def runs(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("runs")
    for name, rate in (("one", 1e-3), ("two", 3e-3)):
        phases = tuple(phase.model_copy(update={"learning_rate": rate}) for phase in TINY.phases)
        train.train(folder, root / name, TINY.model_copy(update={"phases": phases}), say=lambda said: None)
    return root / "one", root / "two"


@pytest.fixture(scope="module")
def evaluation(runs: tuple[Path, Path], folder: Path, elsewhere: Path) -> Evaluation:
    return evaluate(runs[0], EvaluationRequest(data=folder, on={"elsewhere": elsewhere}), with_cost=False)


@pytest.fixture(scope="module")
def comparison(runs: tuple[Path, Path], folder: Path) -> Comparison:
    return compare([*runs, runs[0]], EvaluationRequest(data=folder), with_cost=False)


def test_a_run_is_judged_on_films_that_had_no_part_in_it(evaluation: Evaluation, runs: tuple[Path, Path]):
    splits = json.loads((runs[0] / "splits.json").read_text())
    judged = {image.path.name for image in evaluation.judgements[0].looked.images}
    assert judged == {Path(file).name for file, *_ in splits["val_report"]}
    assert evaluation.fitted.calibration.n == len(splits["calib"])


def test_the_threshold_is_that_of_calib_and_moves_with_the_target(evaluation: Evaluation, runs: tuple[Path, Path], folder: Path):
    low = evaluate(runs[0], EvaluationRequest(data=folder), target=0.5, with_cost=False).fitted.calibration
    high = evaluation.fitted.calibration
    assert low.logit_at(low.t_high) >= high.logit_at(high.t_high)
    assert low.slope == high.slope


def test_a_film_of_the_training_is_not_judged_in_another_cohort(evaluation: Evaluation):
    other = evaluation.judgements[1]
    assert [fault.what for fault in other.trial.faults] == ["in-training"]
    assert "person99_virus_1.png" not in {image.path.name for image in other.looked.images}


def test_few_films_are_never_fit_to_activate(evaluation: Evaluation):
    assert evaluation.fitness.word == "do not activate"
    assert "too few to judge" in evaluation.fitness.said


def test_the_page_answers_every_question_and_its_json_holds_no_film(evaluation: Evaluation, tmp_path: Path):
    page = write(report_of(evaluation), tmp_path / "page.html")
    text, facts = page.read_text(), page.with_suffix(".json").read_text()
    answered = {item for section in report_of(evaluation).sections for item in section.answers.replace(",", " ").split()}
    assert {f"R{number}" for number in range(2, 16)} <= answered
    assert "must not leave the site" in text
    assert "data:image/png" in text
    assert "<script" not in text
    assert not [word for word in ("base64", "person", "IM-", ".png") if word in facts]
    told = json.loads(facts)["cohorts"]["elsewhere"]
    assert set(told["figures"]) == set(NAMES)
    assert told["saliency"]["lungs_found"] >= 0


def test_a_report_on_training_films_needs_an_explicit_word_and_is_no_evidence(runs: tuple[Path, Path], folder: Path):
    with pytest.raises(ConfigError, match="--seen-in-training"):
        evaluate(runs[0], EvaluationRequest(data=folder, split="train"))
    found = evaluate(runs[0], EvaluationRequest(data=folder, split="train", seen_allowed=True), with_cost=False)
    assert found.fitness.word == "do not activate"
    assert "NOT EVIDENCE" in html(report_of(found))


def test_what_does_not_go_together_is_named(runs: tuple[Path, Path], folder: Path, tmp_path: Path):
    with pytest.raises(ConfigError, match="choose one of"):
        evaluate(runs[0], EvaluationRequest(data=folder, split="test"), with_cost=False)
    with pytest.raises(ConfigError, match="--splits FILE"):
        evaluate(default_folder(), EvaluationRequest(data=folder, split="val_report"), with_cost=False)
    with pytest.raises(ConfigError, match="neither a bundle"):
        open_subject(tmp_path)
    with pytest.raises(NotFound):
        open_subject(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="two runs or bundles"):
        compare([runs[0]], EvaluationRequest(data=folder))


def test_subtypes_stand_against_all_without_pneumonia(evaluation: Evaluation):
    groups = {group.name: group for group in evaluation.judgements[0].groups if group.kind == "subtype"}
    assert set(groups) == {"bacterial, against all without pneumonia"}
    assert groups["bacterial, against all without pneumonia"].auc == evaluation.judgements[0].auc


def test_networks_are_compared_on_the_same_films(comparison: Comparison):
    bout = comparison.bouts[0]
    assert len({tuple(image.path for image in looked.images) for looked in bout.looked}) == 1
    assert comparison.names == ("one (1)", "two", "one (3)")


def test_a_network_compared_with_itself_does_not_differ(comparison: Comparison):
    differences = comparison.bouts[0].pairing.differences[1]
    assert all(figure.low == figure.value == figure.high == 0 for figure in differences.values() if not np.isnan(figure.value))


def test_the_comparison_is_told_as_page_and_as_markdown(comparison: Comparison):
    page, text = html(comparison_report(comparison)), markdown_of(comparison)
    assert "where they disagree most" in page
    assert "| ROC-AUC of the logits (DeLong, paired) |" in text
    assert not [word for word in ("person", "IM-", "base64") if word in text]
    rows = [line for line in text.splitlines() if line.startswith("| Sensitivity ")]
    assert len(rows) == 2


def test_the_cost_names_parameters_and_a_ratio(runs: tuple[Path, Path]):
    cost = cost_of(runs[0])
    assert 0 < cost.ratio < 1
    assert 1e4 < cost.parameters < 7e6
    assert cost.peak_mib > 50


def test_the_shipped_bundle_on_real_children(tmp_path: Path):
    children = shared("nih-child")
    command = ["evaluate", str(default_folder()), "--data", str(children), "--no-cost", "--json", "--report", str(tmp_path / "page.html")]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    found = told["cohorts"]["nih-child, children"]
    assert (found["n"], found["events"]) == (32, 9)
    assert told["verdict"] == "do not activate"
    assert {group["kind"] for group in found["subgroups"]} == {"sex", "view"}
    assert found["roc_auc_delong"][0] == pytest.approx(found["figures"]["roc_auc"][0])
    assert (tmp_path / "page.html").stat().st_size > 100_000


def test_a_run_and_a_bundle_are_compared_on_the_command_line(runs: tuple[Path, Path], folder: Path, tmp_path: Path):
    target = tmp_path / "table.md"
    command = ["compare", str(runs[0]), str(default_folder()), "--data", str(folder), "--no-cost", "--markdown", str(target)]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert "| ROC-AUC of the logits" in target.read_text()


def test_facts_of_a_run_say_where_its_threshold_comes_from(evaluation: Evaluation):
    assert "on calib" in facts_of(evaluation)["how"]
