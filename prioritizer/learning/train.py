"""`prioritizer train`: read and check the data, split it, write down what a repetition needs, then run."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch

from prioritizer import __version__
from prioritizer.errors import ConfigError
from prioritizer.inference.bundle import sha256_of
from prioritizer.learning import data, duplicates, imagenet, shortcuts, surrounds
from prioritizer.learning.cohorts import Cohort, LabelledImage, read_cohort
from prioritizer.learning.filefacts import FILE_NAMES, read_facts
from prioritizer.learning.journal import Journal
from prioritizer.learning.lung_loss import read_masks
from prioritizer.learning.processes import Place, take_place
from prioritizer.learning.recipes import Recipe
from prioritizer.learning.run import SMOKE_STEPS, Material, Run, Say, Tick
from prioritizer.learning.watching import Watched

Splits = dict[str, tuple[LabelledImage, ...]]
SHARES = {"train": 0.72, "select": 0.08, "calib": 0.10, "val_report": 0.10}
"""`select` chooses the epoch, `calib` fits calibration and thresholds, `val_report` is looked at once, at the end."""
MOST_OFTEN = 10.0
"""How much oftener than the average a picture may be drawn by the sampler `unlinked`."""
MAKING = (*FILE_NAMES, "log sharpness", "share white", "share black", "standard deviation", "border mean")
"""Statistics of how a file was made. Brightness of the centre and the middle percentiles are left out: an opacity is bright too."""


def train(
    root: Path,
    folder: Path,
    recipe: Recipe | None,
    *,
    labels: Path | None = None,
    weights: Path | None = None,
    masks: Path | None = None,
    resume: bool = False,
    smoke: bool = False,
    say: Say = print,
    tick: Tick = lambda done, of, text: None,
) -> None:
    """Train `recipe` on the cohort below `root` into the run folder `folder`; with `resume`, go on with the run that is there.

    `masks`: a folder of lung masks, for a recipe with a lung loss. Raises ConfigError where one comes without the other.
    """
    journal, place = Journal(folder), take_place()
    if resume:
        recipe, splits = _taken_up(journal, read_cohort(root, labels), recipe)
    else:
        recipe = recipe or Recipe()
        splits = split(read_cohort(root, labels), recipe.seed, say)
        if place.writes:
            journal.open_new(recipe, facts(recipe, splits, place, weights))
            data.write_splits(splits, root, folder / "splits.json")
    if bool(recipe.lung_loss) != (masks is not None):
        raise ConfigError(("a recipe with lung_loss needs --masks, a folder of lung masks, and --masks a recipe with lung_loss",))
    run = Run(recipe, journal, place, initial=weights, smoke=smoke, say=say, tick=tick, goes_on=resume)
    material = gather(splits, recipe, masks, smoke=smoke, tick=tick)
    if material.masked is not None:
        say(f"lung masks: of {int(material.masked.sum())} of {len(material.labels)} training films")
    if resume:
        run.resume(run.steps(material))
    run.train(material)


def _taken_up(journal: Journal, cohort: Cohort, asked: Recipe | None) -> tuple[Recipe, Splits]:
    """Recipe and split of a run that is to go on; the data must be the data it began with."""
    found, recipe = journal.facts(), journal.recipe()
    if asked is not None and asked != recipe:
        raise ConfigError((f"{journal.folder} was started with another recipe; leave --recipe out, or choose another folder",))
    splits = data.read_splits(journal.folder / "splits.json", cohort.images, cohort.root)
    if data.fingerprint(image for images in splits.values() for image in images) != found["data_sha256"]:
        raise ConfigError((f"{cohort.root} is not the data that {journal.folder} was started on (its fingerprint differs)",))
    return recipe, splits


def split(cohort: Cohort, seed: int, say: Say) -> Splits:
    """`train`, `select`, `calib` and `val_report`, by patient; what cannot be used is said, and copies of a film stay together."""
    say(f"{cohort.form}: {len(cohort.images)} images")
    for what, count in cohort.fault_counts.items():
        say(f"not used or doubtful: {count} x {what} (`prioritizer data describe` lists them)")
    facts, unreadable = read_facts(cohort.images, cohort.root)
    for fault in unreadable:
        say(f"left out: {fault.file}: {fault.said}")
    images = [fact.image for fact in facts]
    same = duplicates.pairs(images, [fact.sha256 for fact in facts], np.stack([fact.thumbnail for fact in facts]))
    for pair in same:
        if pair.contradictory:
            say(f"one film with both labels: {pair.one.path.name} and {pair.other.path.name}")
    splits = data.split_by_patient(images, seed, SHARES, [pair.paths for pair in same])
    lacking = [name for name, found in splits.items() if len({image.label for image in found}) < 2]
    if lacking:
        mend = "give more patients of both classes; files that hold one film count as one patient"
        raise ConfigError((f"{cohort.root}: the split {', '.join(lacking)} would hold one class only; {mend}",))
    return splits


def facts(recipe: Recipe, splits: Splits, place: Place, weights: Path | None) -> dict[str, Any]:
    """What is needed to repeat a run and to judge it, written before the first step."""
    return {
        "prioritizer": __version__,
        "torch": torch.__version__,
        "timm": timm.__version__,
        "python": platform.python_version(),
        "machine": platform.processor() or platform.machine(),
        "device": str(place.device),
        "processes": place.world,
        "initial_weights": initial_facts(recipe, weights),
        "preprocessing": recipe.preprocessing.id,
        "data_sha256": data.fingerprint(image for images in splits.values() for image in images),
        "images": {name: len(images) for name, images in splits.items()},
        "patients": {name: len({image.patient for image in images}) for name, images in splits.items()},
        "pneumonia": {name: sum(image.label for image in images) for name, images in splits.items()},
    }


def initial_facts(recipe: Recipe, weights: Path | None) -> dict[str, Any] | None:
    """Where the first weights come from; None for random ones. A file given with --weights goes before those of the recipe."""
    if weights is not None:
        return {"file": weights.name, "sha256": sha256_of(weights)}
    return imagenet.facts(recipe.architecture) if recipe.initial == "imagenet" else None


def gather(splits: Splits, recipe: Recipe, masks: Path | None = None, *, smoke: bool, tick: Tick) -> Material:
    """The pictures of `train` and `select`, read through the serving pixel path, and what the file statistics say of them."""
    chosen = _first_of_each(splits["train"], SMOKE_STEPS * recipe.batch_size) if smoke else splits["train"]
    total = len(chosen) + len(splits["select"])
    pictures, labels = _loaded(chosen, recipe, tick, 0, total)
    watched, watched_labels = _loaded(splits["select"], recipe, tick, len(chosen), total)
    linked = recipe.sampler == "unlinked" or recipe.select == "unlinked"
    every = [*chosen, *splits["select"]]
    propensity = _propensity(every, recipe.seed) if linked else np.full(len(every), 0.5)
    truth = watched_labels.double().numpy()
    of_lungs = (None, None) if masks is None else read_masks(chosen, masks, recipe.picture.size)
    return Material(
        masks=of_lungs[0],
        masked=of_lungs[1],
        pictures=pictures,
        labels=labels,
        boxes=surrounds.lung_boxes(pictures) if recipe.augment.surround else None,
        chances=chances(labels.numpy(), propensity[: len(chosen)], recipe),
        watched=Watched(
            pictures=watched,
            labels=truth,
            propensity=propensity[len(chosen) :],
            elsewhere=surrounds.with_surrounds_of_the_other_class(watched, truth) if recipe.select == "unlinked" else None,
        ),
    )


def chances(labels: np.ndarray, propensity: np.ndarray, recipe: Recipe) -> torch.Tensor | None:
    """The weight of each picture (N,) for the recipe's sampler; None for a plain shuffle."""
    if recipe.sampler == "shuffle":
        return None
    positive = labels == 1
    if recipe.sampler == "balanced":
        weights = np.where(positive, 1 / positive.mean(), 1 / (1 - positive.mean()))
    else:
        weights = np.where(positive, positive.mean() / propensity, (1 - positive.mean()) / (1 - propensity))
        weights = np.minimum(weights / weights.mean(), MOST_OFTEN)
    return torch.from_numpy(weights / weights.sum())


def _propensity(images: Sequence[LabelledImage], seed: int) -> np.ndarray:
    """P(pneumonia | how the file was made) of each image, from a logistic regression that did not see its patient."""
    labels = np.array([image.label for image in images])
    made = shortcuts.file_statistics(images).only(MAKING)
    return shortcuts.propensity(made.values, labels, [image.patient for image in images], seed, trees=False)


def _first_of_each(images: Sequence[LabelledImage], count: int) -> tuple[LabelledImage, ...]:
    """About `count` images, both classes alike."""
    halves = [[image for image in images if image.label == label][: count // 2] for label in (0, 1)]
    return tuple(image for half in halves for image in half)


def _loaded(images: Sequence[LabelledImage], recipe: Recipe, tick: Tick, before: int, total: int) -> tuple[torch.Tensor, torch.Tensor]:
    done = before

    def one_more() -> None:
        nonlocal done
        done += 1
        tick(done, total, "reading images")

    pictures, labels = data.load_pictures(images, recipe.preprocessing, one_more)
    return torch.from_numpy(pictures)[:, None], torch.from_numpy(labels)
