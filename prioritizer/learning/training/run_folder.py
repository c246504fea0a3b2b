"""The folder of a run: what was asked, what happened, and the checkpoints. It is never overwritten."""

from __future__ import annotations

import csv
import fcntl
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import tomlkit
import torch

from prioritizer.errors import ConfigError
from prioritizer.learning.training.recipes import Recipe
from prioritizer.reports import plots

RUN, RECIPE, LOG, METRICS, CURVES, LAST, BEST = "run.json", "config.toml", "log.jsonl", "metrics.csv", "curves.svg", "last.pt", "best.pt"
LOCK, FINISHED = "lock", "finished.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """Figures of one pass over the training split. All but the loss are of the `select` split, which is never reported on."""

    epoch: int
    phase: int
    learning_rate: float
    train_loss: float
    select_loss: float
    select_auc: float
    select_unlinked: float | None
    """Mean of the ROC-AUC matched by file statistics and those on disturbed copies; only where the recipe selects by it."""
    seconds: float
    select_looking: float | None = None
    """Mean of the ROC-AUCs by site and of where maps lie; only where the recipe selects by it."""


class Journal:
    """Reads and writes the files of one run folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextmanager
    def held(self) -> Iterator[None]:
        """Nobody else trains here while this is open. Raises ConfigError where somebody does."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / LOCK).open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise ConfigError((f"{self.folder} is being trained by another process; wait for it, or choose another folder",)) from error
            yield

    def open_new(self, recipe: Recipe, facts: Mapping[str, Any]) -> None:
        """Start a run here. Raises ConfigError where one is already."""
        if (self.folder / RUN).exists():
            raise ConfigError((f"{self.folder} already holds a run; choose another folder or continue it with --resume",))
        self.folder.mkdir(parents=True, exist_ok=True)
        told = recipe.model_dump(mode="json")
        (self.folder / RECIPE).write_text(tomlkit.dumps(told), encoding="utf-8")
        (self.folder / RUN).write_text(json.dumps({"recipe": told, **facts}, indent=1), encoding="utf-8")

    def facts(self) -> dict[str, Any]:
        """What stands in `run.json`. Raises ConfigError where there is no run."""
        try:
            found: dict[str, Any] = json.loads((self.folder / RUN).read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigError((f"{self.folder}: no {RUN} here; is this the folder of a run?",)) from error
        return found

    def recipe(self) -> Recipe:
        """The resolved recipe of the run."""
        return Recipe(**self.facts()["recipe"])

    def epochs(self) -> list[Epoch]:
        """Every epoch so far."""
        path = self.folder / LOG
        if not path.exists():
            return []
        return [Epoch(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]

    def note(self, epoch: Epoch) -> None:
        """Write an epoch down: log, table and curves, so that a run can be watched."""
        kept = [e for e in self.epochs() if e.epoch < epoch.epoch]
        every = [*kept, epoch]
        (self.folder / LOG).write_text("".join(json.dumps(asdict(e)) + "\n" for e in every), encoding="utf-8")
        with (self.folder / METRICS).open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, [field.name for field in fields(Epoch)])
            writer.writeheader()
            writer.writerows(asdict(e) for e in every)
        (self.folder / CURVES).write_text(self.curves(), encoding="utf-8")

    def finish(self, kept: int) -> None:
        """Write down that training came to its end, by the recipe's epochs or its patience, and which epoch is kept."""
        (self.folder / FINISHED).write_text(json.dumps({"kept_epoch": kept}), encoding="utf-8")

    def is_finished(self) -> bool:
        """True once training came to its end."""
        return (self.folder / FINISHED).exists()

    def curves(self) -> str:
        """Losses and ROC-AUC by epoch as SVG."""
        return plots.lines(list(curves_of(self.epochs())), x="epoch", y="loss, or 1 - ROC-AUC", size=(6.0, 3.6))

    def save(self, state: Mapping[str, Any], name: str = LAST) -> None:
        """A checkpoint, replaced in one step so that an interruption leaves the previous one."""
        partial = self.folder / f"{name}.partial"
        torch.save(dict(state), partial)
        partial.replace(self.folder / name)

    def load(self, device: torch.device | str = "cpu", name: str = LAST) -> dict[str, Any]:
        """A checkpoint. Raises ConfigError where the run has none yet."""
        path = self.folder / name
        if not path.exists():
            raise ConfigError((f"{self.folder} holds no {name}; the run was stopped before its first checkpoint: start it again",))
        state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
        return state


def curves_of(epochs: list[Epoch]) -> Iterator[plots.Curve]:
    """Losses and ROC-AUC by epoch; the curves of a run and of its report."""
    at = [e.epoch for e in epochs]
    yield plots.Curve(name="training loss", x=at, y=[e.train_loss for e in epochs], marker="o")
    yield plots.Curve(name="select loss", x=at, y=[e.select_loss for e in epochs], marker="s")
    yield plots.Curve(name="select 1 - ROC-AUC", x=at, y=[1 - e.select_auc for e in epochs], marker="^")
    unlinked = [(e.epoch, 1 - e.select_unlinked) for e in epochs if e.select_unlinked is not None]
    if unlinked:
        yield plots.Curve(name="select 1 - unlinked ROC-AUC", x=[x for x, _ in unlinked], y=[y for _, y in unlinked], marker="d")
    looking = [(e.epoch, 1 - e.select_looking) for e in epochs if e.select_looking is not None]
    if looking:
        yield plots.Curve(name="select 1 - looking", x=[x for x, _ in looking], y=[y for _, y in looking], marker="v")
