"""All runs of a folder on one page: state, what was changed, figures that chose, cost; and reports with a table of contents."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from prioritizer.cli import app
from prioritizer.errors import NotFound
from prioritizer.learning.training import run_index
from prioritizer.learning.training.recipes import Phase, Recipe
from prioritizer.learning.training.run_folder import Epoch, Journal
from prioritizer.reports import page
from prioritizer.reports.page import Report, Section

FACTS = {
    "images": {"train": 90, "select": 10},
    "data_sha256": "a" * 64,
    "device": "cpu",
    "initial_weights": None,
    "sources": [],
    "without": [],
}


def run(root: Path, name: str, aucs: list[float], *, epochs: int = 3, **recipe: object) -> Journal:
    journal = Journal(root / name)
    journal.open_new(Recipe(phases=(Phase(epochs=epochs, learning_rate=1e-3),), **recipe), FACTS | {"without": recipe.pop("without", [])})
    for number, auc in enumerate(aucs, start=1):
        journal.note(
            Epoch(
                epoch=number, phase=1, learning_rate=1e-3, train_loss=0.5, select_loss=0.4 / number, select_auc=auc,
                select_unlinked=None, seconds=1800.0,
            )
        )  # fmt: skip
    return journal


@pytest.fixture
def root(tmp_path: Path) -> Path:
    run(tmp_path, "a", [0.9, 0.95, 0.93], select="roc-auc")
    run(tmp_path, "b", [0.8], select="last", lung_loss=1.0, drop_rate=0.2)
    run(tmp_path / "deeper", "c", [])
    return tmp_path


def test_every_run_is_told_with_its_state_its_best_epoch_and_what_differs(root: Path) -> None:
    a, b, c = run_index.index(root)
    assert [(one.name, one.state, len(one.epochs), one.asked) for one in (a, b, c)] == [
        ("a", "finished", 3, 3),
        ("b", "stopped", 1, 3),
        ("c", "stopped", 0, 3),
    ]
    assert a.best is not None
    assert (a.best.epoch, a.hours, a.changed) == (2, 1.5, ())
    assert set(b.changed) == {"drop_rate = 0.2", "lung_loss = 1.0", "select = last"}
    assert c.best is None


def test_a_run_that_is_being_trained_says_so(root: Path) -> None:
    with Journal(root / "b").held():
        assert run_index.index(root)[1].state == "training"
    assert run_index.index(root)[1].state == "stopped"


def test_the_page_holds_the_table_and_the_curves_of_each_and_says_what_they_are_not(root: Path, tmp_path: Path) -> None:
    answer = CliRunner().invoke(app.app, ["runs", str(root), "--report", str(tmp_path / "runs.html"), "--json"])
    assert answer.exit_code == 0, answer.output
    told = json.loads(answer.stdout)
    assert [(one["name"], one["kept"], one["select_auc"]) for one in told] == [("a", 2, 0.95), ("b", 1, 0.8), ("c", None, None)]
    shown = (tmp_path / "runs.html").read_text()
    assert shown.count("<svg") == 3
    assert "are no evidence" in shown
    assert "drop_rate = 0.2" in shown


def test_a_folder_without_runs_says_how_one_is_made(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="holds no run: `prioritizer train"):
        run_index.index(tmp_path)


def test_a_report_of_many_sections_has_a_table_of_contents_whose_links_lead_somewhere() -> None:
    sections = tuple(Section(title=f"Part {number}") for number in range(6))
    shown = page.html(Report(title="t", made_at=datetime.now(UTC), verdict=None, sections=sections))
    assert "On this page" in shown
    for number in range(1, 7):
        assert f'<a href="#s{number}">Part {number - 1}</a>' in shown
        assert f'<section id="s{number}">' in shown
    assert "On this page" not in page.html(Report(title="t", made_at=datetime.now(UTC), verdict=None, sections=sections[:3]))
