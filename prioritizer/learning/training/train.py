"""`prioritizer train`: read and check the data, split it, write down what a repetition needs, then run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from prioritizer.errors import ConfigError
from prioritizer.learning.cohorts import dataset, duplicates, lung_masks, sources
from prioritizer.learning.cohorts.labelled_image import Role
from prioritizer.learning.cohorts.read import Cohort, LabelledImage, read_cohort
from prioritizer.learning.cohorts.splits import Splits
from prioritizer.learning.description.file_facts import read_facts
from prioritizer.learning.training import surround_swap, teachers
from prioritizer.learning.training.loop import TrainingRun
from prioritizer.learning.training.lung_loss import read_masks
from prioritizer.learning.training.processes import take_place
from prioritizer.learning.training.recipes import Recipe
from prioritizer.learning.training.run_facts import facts, mask_facts, source_facts
from prioritizer.learning.training.run_folder import Journal
from prioritizer.learning.training.sampling import chances, propensity_of
from prioritizer.learning.training.selection import SelectionSplit
from prioritizer.learning.training.training_images import SMOKE_STEPS, Material, Say, Tick

SHARES: Mapping[Role, Mapping[str, float]] = {
    "both": {"train": 0.72, "select": 0.08, "calib": 0.10, "val_report": 0.10},
    "judge": {"select": 0.10, "calib": 0.40, "val_report": 0.50},
}
"""By role: `select` chooses the epoch, `calib` fits calibration and thresholds, `val_report` is looked at once, at the end."""


def train(
    root: Path,
    folder: Path,
    recipe: Recipe | None,
    *,
    labels: Path | None = None,
    weights: Path | None = None,
    masks: Path | None = None,
    without: Sequence[str] = (),
    teacher: Sequence[Path] = (),
    resume: bool = False,
    smoke: bool = False,
    say: Say = print,
    tick: Tick = lambda done, of, text: None,
) -> None:
    """Train `recipe` on the cohort at `root` into the run folder `folder`; with `resume`, go on with the run that is there.

    `masks`: a folder of lung masks, for a recipe with a lung loss. `without`: sites that are left out. `teacher`: the
    folders of earlier runs, for a recipe that asks them. `smoke`: SMOKE_STEPS steps an epoch and one epoch a phase; a run that
    began so goes on so. Raises ConfigError.
    """
    journal, place = Journal(folder), take_place()
    cohort = read_cohort(root, labels)
    cohort = _with_masks(cohort, journal.recipe() if resume else recipe or Recipe(), masks)
    if resume:
        recipe, splits = _taken_up(journal, cohort, recipe, without, teacher)
        smoke = is_smoke(journal.facts(), asked=smoke)
    else:
        recipe = recipe or Recipe()
        splits = split(cohort, recipe.seed, say, without)
    if recipe.needs_masks and all(image.mask is None for image in splits["train"]):
        raise ConfigError(
            ("a recipe with lung_loss or painted_over needs lung masks of training images: give a source of the sources file its masks",)
        )
    if bool(recipe.teacher) != bool(teacher):
        raise ConfigError(("a recipe with teacher needs --teacher RUN, the folder of an earlier run, and --teacher such a recipe",))
    with journal.held() if place.writes else nullcontext():
        if not resume and place.writes:
            journal.open_new(recipe, facts(recipe, cohort, splits, place, weights, without, teacher, smoke=smoke))
            dataset.write_splits(splits, cohort.root, folder / "splits.json")
        if len({image.site for image in splits["train"]}) > 1 and recipe.sampler not in ("sites", "kinds"):
            say('images are drawn without a look at their site, which may then say something of the label: set sampler = "sites"')
        run = TrainingRun(recipe, journal, place, initial=weights, smoke=smoke, say=say, tick=tick, goes_on=resume)
        material = gather(splits, recipe, smoke=smoke, tick=tick, teacher=teacher)
        if material.masked is not None:
            say(f"lung masks: of {int(material.masked.sum())} of {len(material.labels)} training films")
        if resume:
            run.resume(run.steps(material))
        run.train(material)


def is_smoke(found: Mapping[str, Any], *, asked: bool) -> bool:
    """Whether the run of these facts goes on as a smoke run. Raises ConfigError where it began as a real one."""
    began = bool(found.get("smoke", asked))
    if asked and not began:
        raise ConfigError(("this run was not started with --smoke; leave --smoke out, or choose another folder",))
    return began


def _with_masks(cohort: Cohort, recipe: Recipe, masks: Path | None) -> Cohort:
    """The cohort with the masks of --masks; those of a sources file stand in it. Raises ConfigError where they do not fit."""
    if cohort.sources and masks is not None:
        raise ConfigError((f"--masks {masks}: in a sources file each source names its own masks; leave --masks out",))
    if recipe.needs_masks != (masks is not None) and not cohort.sources:
        said = "a recipe with lung_loss or painted_over needs --masks, a folder of lung masks, and --masks such a recipe"
        raise ConfigError((f"{said} (`--set lung_loss=0` trains without)",))
    return cohort if masks is None else replace(cohort, images=lung_masks.with_masks(cohort.images, masks))


def _taken_up(
    journal: Journal, cohort: Cohort, asked: Recipe | None, without: Sequence[str], teacher: Sequence[Path]
) -> tuple[Recipe, Splits]:
    """Recipe and split of a run that is to go on; the data must be the data it began with."""
    found, recipe = journal.facts(), journal.recipe()
    if asked is not None and asked != recipe:
        raise ConfigError((f"{journal.folder} was started with another recipe; leave --recipe out, or choose another folder",))
    if without and sorted(set(without)) != found.get("without", []):
        raise ConfigError((f"{journal.folder} was started without other sites; leave --without out, or choose another folder",))
    splits = dataset.read_splits(journal.folder / "splits.json", cohort.images, cohort.root)
    if dataset.fingerprint(image for images in splits.values() for image in images) != found["data_sha256"]:
        raise ConfigError((f"{cohort.root} is not the data that {journal.folder} was started on (its fingerprint differs)",))
    if source_facts(cohort) != found.get("sources", []):
        raise ConfigError((f"{cohort.title} is not the data that {journal.folder} was started on (its sources differ)",))
    if mask_facts(recipe, splits) != found.get("masks"):
        raise ConfigError((f"{journal.folder} was started with other lung masks",))
    if teachers.facts(teacher) != found.get("teacher", []):
        raise ConfigError((f"{journal.folder} was started with other teachers, or without; give --teacher as it was given then",))
    return recipe, splits


def split(cohort: Cohort, seed: int, say: Say, without: Sequence[str] = ()) -> Splits:
    """`train`, `select`, `calib`, `val_report` and, of sites that are left out, `left_out`: by role and patient.

    What cannot be used is said, and copies of an image stay together. `seed` counts where the cohort has no split seed of its own.
    """
    say(f"{cohort.form}: {len(cohort.images)} images")
    for what, count in cohort.fault_counts.items():
        say(f"not used or doubtful: {count} x {what} (`prioritizer data describe` lists them)")
    _know_sites(cohort, without)
    facts, unreadable = read_facts(cohort.images, cohort.root)
    for fault in unreadable:
        say(f"left out: {fault.file}: {fault.said}")
    images = [fact.image for fact in facts]
    same = duplicates.pairs(images, [fact.sha256 for fact in facts], np.stack([fact.thumbnail for fact in facts]))
    for pair in same:
        if pair.contradictory:
            say(f"one film with both labels: {pair.one.path.name} and {pair.other.path.name}")
    joined = [pair.paths for pair in same]
    seed = seed if cohort.split_seed is None else cohort.split_seed
    splits, twins = dataset.split_by_role(images, seed, SHARES, joined)
    if twins:
        say(f"left out of train: {len(twins)} images of sources that only train; an image that judges is of the same patient or film")
    if without:
        splits, elsewhere = dataset.without_sites(splits, without, dataset.joined_patients(images, joined))
        say(f"left out: {', '.join(without)}, {len(splits.get(dataset.LEFT_OUT, ()))} images of it can judge (split {dataset.LEFT_OUT})")
        if elsewhere:
            say(f"left out: {len(elsewhere)} images of other sites; they are of the same patient or film as one in {dataset.LEFT_OUT}")
    _check_classes(cohort, splits)
    return splits


def _know_sites(cohort: Cohort, without: Sequence[str]) -> None:
    """Raises ConfigError for a site that the cohort does not have."""
    sites = sorted({image.site for image in cohort.images if image.site})
    faults = [
        f"--without {site}: {cohort.title} has no such site; its sites: {', '.join(sites) or 'none is named'}"
        for site in without
        if site not in sites
    ]
    if faults:
        raise ConfigError(tuple(faults))


def _check_classes(cohort: Cohort, splits: Splits) -> None:
    """Raises ConfigError where a split has one class only, or a site of a sources file in `train`."""
    lacking = [name for name, found in splits.items() if name != dataset.LEFT_OUT and len({image.label for image in found}) < 2]
    faults = []
    if lacking:
        mend = "give more patients of both classes; files that hold one film count as one patient"
        judges = "; what judges comes of sources with role both or judge" if cohort.sources else ""
        faults.append(f"{cohort.root}: the split {', '.join(lacking)} would hold one class only; {mend}{judges}")
    if cohort.sources:
        faults += sources.one_class_sites(splits["train"])
    if faults:
        raise ConfigError(tuple(faults))


def gather(splits: Splits, recipe: Recipe, *, smoke: bool, tick: Tick, teacher: Sequence[Path] = ()) -> Material:
    """The pictures of `train` and `select`, read through the serving pixel path, and what the file statistics say of them."""
    chosen = _first_of_each(splits["train"], SMOKE_STEPS * recipe.batch_size) if smoke else splits["train"]
    total = len(chosen) + len(splits["select"])
    pictures, labels = _loaded(chosen, recipe, tick, 0, total)
    watched, watched_labels = _loaded(splits["select"], recipe, tick, len(chosen), total)
    linked = recipe.sampler == "unlinked" or recipe.select == "unlinked"
    every = [*chosen, *splits["select"]]
    propensity = propensity_of(every, recipe.seed) if linked else np.full(len(every), 0.5)
    truth = watched_labels.double().numpy()
    of_lungs = read_masks(chosen, recipe.picture.size) if recipe.needs_masks else (None, None)
    return Material(
        masks=of_lungs[0],
        masked=of_lungs[1],
        targets=torch.from_numpy(teachers.targets(teacher, chosen, recipe.teacher)) if teacher else None,
        pictures=pictures,
        labels=labels,
        boxes=surround_swap.lung_boxes(pictures) if recipe.augment.surround else None,
        chances=chances(labels.numpy(), propensity[: len(chosen)], recipe, chosen),
        watched=SelectionSplit(
            pictures=watched,
            labels=truth,
            propensity=propensity[len(chosen) :],
            images=splits["select"] if recipe.select == "looking" else (),
            elsewhere=surround_swap.with_surrounds_of_the_other_class(watched, truth) if recipe.select == "unlinked" else None,
        ),
    )


def _first_of_each(images: Sequence[LabelledImage], count: int) -> tuple[LabelledImage, ...]:
    """About `count` images, every class of every site alike."""
    cells: dict[tuple[int, str], list[LabelledImage]] = {}
    for image in images:
        cells.setdefault((image.label, image.site), []).append(image)
    each = max(count // len(cells), 1)
    return tuple(image for cell in sorted(cells) for image in cells[cell][:each])


def _loaded(images: Sequence[LabelledImage], recipe: Recipe, tick: Tick, before: int, total: int) -> tuple[torch.Tensor, torch.Tensor]:
    done = before

    def one_more() -> None:
        nonlocal done
        done += 1
        tick(done, total, "reading images")

    pictures, labels = dataset.load_pictures(images, recipe.preprocessing, one_more)
    return torch.from_numpy(pictures)[:, None], torch.from_numpy(labels)
