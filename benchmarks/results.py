"""Three architectures times the shipped recipes on one split by patient, shortened, and docs/results.md about it.

    python -m benchmarks.results --data DIR [--on NAME=DIR] [--also NAME=BUNDLE_OR_RUN]

Runs lie in `runs/results/`. One that was finished is not trained again, one that was interrupted goes on. What was tried against the
shortcut is written by hand in `benchmarks/tried.md`, with the command of every figure, and becomes part of the page.
"""

from __future__ import annotations

import argparse
import itertools
import shutil
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from prioritizer.learning.compare import Comparison, compare
from prioritizer.learning.compare_report import markdown_of, report_of
from prioritizer.learning.imagenet import MEAN, STD
from prioritizer.learning.journal import LAST, Journal
from prioritizer.learning.recipes import Phase, Picture, Recipe, find_recipe
from prioritizer.learning.train import train
from prioritizer.learning.trials import Asked
from prioritizer.reports.page import write

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / "docs" / "results.md"
TRIED = ROOT / "benchmarks" / "tried.md"
ARCHITECTURES = {"tf_efficientnet_lite0": "EfficientNet-Lite0"}
"""Those with ImageNet weights in an installed package, as far as they were trained here."""
RECIPES = ("chestaid", "two-phase", "house")
INITIAL: dict[Literal["imagenet", "random"], str] = {"imagenet": "ImageNet weights", "random": "random weights"}
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
    parts = ["# Results", f"Written by `python -m benchmarks.results` on {datetime.now(UTC):%Y-%m-%d}. {how}", _caution()]
    for bout in found.bouts:
        parts.append(f"## {bout.trial.name}: {len(bout.labels)} films, {int(bout.labels.sum())} with pneumonia")
        header = ("network, recipe", "ROC-AUC", *(name.replace("_", " ") for name in SHOWN), "ROC-AUC, worst copy")
        lines = ["| " + " | ".join(header) + " |", "|---" * len(header) + "|"]
        for name, auc, figures, robust in zip(names, bout.pairing.aucs, bout.pairing.figures, bout.robust, strict=True):
            worst = min((value for key, value in robust.judged.items() if key.startswith("on copies")), default=float("nan"))
            cells = (str(auc), *(str(figures[key]) for key in SHOWN), f"{worst:.3f}")
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
        parts.append("\n".join(lines))
    published = ["| published | figures |", "|---|---|", *(f"| {what} | {said} |" for what, said in PUBLISHED)]
    parts += ["## Beside the published figures", _published_said(), "\n".join(published), TRIED.read_text(encoding="utf-8").strip()]
    whole = markdown_of(found).split("\n", 1)[1].replace("\n## ", "\n### ")
    parts += ["## Every figure and every difference", whole.strip()]
    return "\n\n".join(parts) + "\n"


def _caution() -> str:
    return (
        "All figures are of these films and no others. Thresholds were set on `calib` at a sensitivity of 0.95 before any film of the "
        "tables was looked at; intervals are 95 %, by patient. *Worst copy* is the ROC-AUC on the blurred, re-compressed, noisy or "
        "darkened copies where it is lowest: a network that reads how files were made falls there. An interval from 1.000 to 1.000 says "
        "only that no film of the bootstrap was wrong: it is no proof of perfection."
    )


def _published_said() -> str:
    return (
        "They start from ImageNet weights, see full pictures and all their epochs, and report on the test folder of the same set, which "
        "is not `val_report`: read them beside, not against, the tables above."
    )


def named(pair: str) -> tuple[str, Path]:
    """NAME=DIR from the command line."""
    name, _, where = pair.partition("=")
    if not name or not Path(where).is_dir() or not where:
        raise argparse.ArgumentTypeError(f"{pair} is not NAME=DIR with a folder that exists")
    return name, Path(where)


def main() -> int:
    """Train what is missing, compare, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the training cohort")
    parser.add_argument("--on", action="append", default=[], type=named, metavar="NAME=DIR", help="another cohort, for evaluation only")
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
    found = compare(folders, Asked(data=asked.data, on=dict(asked.on)), say=lambda said: print(said, file=sys.stderr))
    how = (
        f"Shortened: pictures of {asked.size} pixels instead of 224, {asked.epochs} epochs instead of 13 to 24 (half of that for "
        f"ViT-B/16), from random weights, one seed; {len(folders)} networks on one split. What a full schedule gives stands in the card "
        "of the shipped bundle."
    )
    write(report_of(found), ROOT / "runs" / "results" / "compare.html")
    TARGET.write_text(document(found, names, how), encoding="utf-8")
    print(f"written: {TARGET} after {(time.monotonic() - began) / 60:.0f} minutes", file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
