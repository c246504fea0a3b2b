"""The recipes of the two reports and `house`, from ImageNet weights and from random ones, on one split, and docs/results.md about them.

    python -m benchmarks.results --data SOURCES --on rsna-mixed=SOURCES [--also NAME=BUNDLE_OR_RUN]

`python -m benchmarks.hospitals FOLDER` writes both sources files: one hospital to train on, where whole blocks of numbers are kept
back, and the films of another, read by radiologists. Runs lie in `runs/results/`. One that was finished is not trained again, one that
was interrupted goes on. What else was tried is written by hand in `benchmarks/tried.md`, with the command of every figure, and becomes
part of the page.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import shutil
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import numpy as np

from prioritizer.learning.evaluation.compare import Bout, Comparison, compare
from prioritizer.learning.evaluation.compare_report import report_of
from prioritizer.learning.evaluation.trials import EvaluationRequest
from prioritizer.learning.training.imagenet import MEAN, STD
from prioritizer.learning.training.recipes import Phase, Picture, Recipe, find_recipe
from prioritizer.learning.training.run_folder import LAST, Journal
from prioritizer.learning.training.train import train
from prioritizer.reports.page import write
from prioritizer.statistics import delong

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / "docs" / "results.md"
FIGURES = ROOT / "docs" / "results.csv"
OTHER_HOSPITAL = "rsna-mixed"
TRIED = ROOT / "benchmarks" / "tried.md"
ARCHITECTURES = {"tf_efficientnet_lite0": "EfficientNet-Lite0"}
"""Those with ImageNet weights in an installed package, as far as they were trained here."""
RECIPES = ("chestaid", "two-phase", "house")
INITIAL: dict[Literal["imagenet", "random"], str] = {"imagenet": "ImageNet weights", "random": "random weights"}
CAUTION = (
    "All figures are of these films and no others. Thresholds were set on `calib` at a sensitivity of 0.95 before any film of the "
    "tables was looked at; intervals are 95 %, by patient. *Worst copy* is the ROC-AUC on the blurred, re-compressed, noisy or "
    "darkened copies where it is lowest: a network that reads how files were made falls there. Every figure stands in "
    "[results.csv](results.csv)."
)
PUBLISHED_NOTE = (
    "They report on the test folder of the same set, which is none of the films above: read them beside, not against, the tables."
)
STEP = 32
"""Sides of training pictures are multiples of this."""
SHOWN = ("pr_auc", "sensitivity", "specificity", "accuracy", "brier", "ece")
PUBLISHED = (
    (
        "DenseNet-121, partial fine-tuning (the recipe `chestaid` follows it)",
        "ROC-AUC 0.9605, PR-AUC 0.965; sensitivity 0.90 with specificity 0.91",
    ),
    ("EfficientNet-B0, two phases (`two-phase` follows it)", "recall 0.9974 at accuracy 0.85 and specificity 0.60"),
    ("ViT-B/16, two phases", "recall 0.9949 at accuracy 0.87"),
)


def shortened(name: str, architecture: str, initial: Literal["imagenet", "random"], size: int, epochs: int) -> Recipe:
    """The shipped recipe for this architecture with fewer epochs, shared out over its phases, and pictures of another size if asked for."""
    recipe = find_recipe(name)
    phases, left = [], epochs
    for place, phase in enumerate(recipe.phases):
        rest = recipe.phases[place + 1 :]
        count = max(round(left * phase.epochs / sum(p.epochs for p in recipe.phases[place:])), 1) if rest else max(left, 1)
        left -= count
        phases.append(_shrunk(phase, count, size / recipe.picture.size))
    picture = Picture(**{**recipe.picture.model_dump(), "size": size, "mean": MEAN, "std": STD})
    changed = {"architecture": architecture, "initial": initial, "picture": picture, "phases": tuple(phases), "patience": 0}
    return recipe.model_copy(update=changed)


def _shrunk(phase: Phase, epochs: int, factor: float) -> Phase:
    """A phase with so many epochs and its pictures smaller by `factor`."""
    size = 0 if not phase.size else max(round(phase.size * factor / STEP) * STEP, 2 * STEP)
    return phase.model_copy(update={"epochs": epochs, "size": size})


def trained(folder: Path, recipe: Recipe, data: Path) -> None:
    """Train, or go on, until all epochs are done."""
    started = (folder / LAST).is_file()
    if folder.exists() and not started:
        # Stopped before its first checkpoint: nothing is lost by beginning again.
        shutil.rmtree(folder)
    if started and Journal(folder).recipe() != recipe:
        raise SystemExit(f"{folder} is a run of another recipe of that name; move it away")
    if started and len(Journal(folder).epochs()) >= recipe.epochs:
        return
    print(f"{folder.name}: {recipe.epochs} epochs of {recipe.picture.size} px, {'goes on' if started else 'starts'}", file=sys.stderr)
    train(data, folder, None if started else recipe, resume=started, say=lambda said: print(f"  {said}", file=sys.stderr))


def document(found: Comparison, names: Sequence[str], how: str) -> str:
    """docs/results.md."""
    parts = ["# Results", f"Written by `python -m benchmarks.results` on {datetime.now(UTC):%Y-%m-%d}. {how}", CAUTION]
    for bout in found.bouts:
        parts.append(f"## {_named(bout)}: {len(bout.labels)} films, {int(bout.labels.sum())} with {_finding(bout)}")
        rows = []
        for name, auc, figures, robust in zip(names, bout.pairing.aucs, bout.pairing.figures, bout.robust, strict=True):
            worst = min((value for key, value in robust.judged.items() if key.startswith("on copies")), default=float("nan"))
            rows.append((name, str(auc), *(str(figures[key]) for key in SHOWN), f"{worst:.3f}"))
        header = ("network", "ROC-AUC", *(name.replace("_", " ") for name in SHOWN), "ROC-AUC, worst copy")
        parts.append(_table(header, rows))
        parts += _by_group(bout, names)
    parts += ["## Beside the published figures", PUBLISHED_NOTE, _table(("published", "figures"), PUBLISHED)]
    parts.append(TRIED.read_text(encoding="utf-8").strip())
    return "\n\n".join(parts) + "\n"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "\n".join(["| " + " | ".join(row) + " |" for row in (header, ["---"] * len(header), *rows)])


def _named(bout: Bout) -> str:
    return bout.trial.name.replace("guangzhou.toml", "Guangzhou").replace("rsna-mixed.toml", "rsna-mixed")


def _finding(bout: Bout) -> str:
    return "an opacity" if bout.trial.name.startswith(OTHER_HOSPITAL) else "pneumonia"


def _by_group(bout: Bout, names: Sequence[str]) -> Iterator[str]:
    """ROC-AUC by view, against normal films and against everything else, where other disease is among the films."""
    images, labels = bout.looked[0].images, bout.labels
    other = np.array([image.subtype == "other" for image in images])
    if not other.any():
        return
    views = {view: np.array([image.view == view for image in images]) for view in ("PA", "AP")}
    groups = {
        f"{view}, against {against}": chosen & kept
        for view, chosen in views.items()
        for against, kept in (("normal", ~other), ("all", chosen))
    }
    kept = {name: where for name, where in groups.items() if len(np.unique(labels[where])) == 2}
    counts = [f"{name} ({int(labels[where].sum())} of {int(where.sum())})" for name, where in kept.items()]
    rows = []
    for name, rated in zip(names, bout.rated, strict=True):
        areas = [
            delong.area(labels[where], rated.logits[where], [image.patient for image, one in zip(images, where, strict=True) if one])
            for where in kept.values()
        ]
        rows.append((name, *map(str, areas)))
    yield _table(("ROC-AUC by view (with an opacity, of films)", *counts), rows)


def every_figure(found: Comparison, names: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Rows of docs/results.csv: cohort, network, figure, value and the ends of its interval."""
    yield "films", "network", "figure", "value", "low", "high"
    for bout in found.bouts:
        for name, auc, figures in zip(names, bout.pairing.aucs, bout.pairing.figures, strict=True):
            for figure, value in {"roc_auc of the logits (DeLong)": auc, **figures}.items():
                yield _named(bout), name, figure, *(f"{number:.4f}" for number in (value.value, value.low, value.high))


def named(pair: str) -> tuple[str, Path]:
    """NAME=PATH from the command line."""
    name, _, where = pair.partition("=")
    if not name or not where or not Path(where).exists():
        raise argparse.ArgumentTypeError(f"{pair} is not NAME=PATH with something that exists")
    return name, Path(where)


def main() -> int:
    """Train what is missing, compare, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the training cohort")
    parser.add_argument("--on", action="append", default=[], type=named, metavar="NAME=PATH", help="another cohort, for evaluation only")
    parser.add_argument("--also", action="append", default=[], type=named, metavar="NAME=BUNDLE_OR_RUN", help="another one beside them")
    parser.add_argument("--size", type=int, default=224, help="side of the pictures, a multiple of 32")
    parser.add_argument("--epochs", type=int, default=8, help="epochs of each run")
    parser.add_argument("--only", action="append", default=[], help="recipe or architecture; all without it")
    asked = parser.parse_args()
    folders, names, began = [], [], time.monotonic()
    for (architecture, title), name, (initial, start) in itertools.product(ARCHITECTURES.items(), RECIPES, INITIAL.items()):
        if asked.only and not {architecture, name, initial} & set(asked.only):
            continue
        recipe = shortened(name, architecture, initial, asked.size, asked.epochs)
        folder = ROOT / "runs" / "results" / f"{architecture}-{initial}-{name}-{asked.size}-{asked.epochs}"
        trained(folder, recipe, asked.data)
        folders.append(folder)
        names.append(f"{title}, {start}, {name}")
    folders += [folder for _, folder in asked.also]
    names += [name for name, _ in asked.also]
    found = compare(folders, EvaluationRequest(data=asked.data, on=dict(asked.on)), say=lambda said: print(said, file=sys.stderr))
    how = (
        f"Pictures of {asked.size} pixels, {asked.epochs} epochs instead of the 13 to 24 of the recipes, one seed, one split: whole blocks "
        f"of numbers of Guangzhou stand on one side of it. `{OTHER_HOSPITAL}` is of another hospital and trained none of the networks "
        "of Guangzhou alone."
    )
    write(report_of(found), ROOT / "runs" / "results" / "compare.html")
    with FIGURES.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(every_figure(found, names))
    TARGET.write_text(document(found, names, how), encoding="utf-8")
    print(f"written: {TARGET} after {(time.monotonic() - began) / 60:.0f} minutes", file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
