"""Splits by patient: fixed by a seed, written down, read back, and never with one film or person on both sides."""

from __future__ import annotations

import json
import os.path
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from prioritizer.errors import ConfigError
from prioritizer.learning.cohorts.labelled_image import TEXT_MINED, LabelledImage, Role

SHARES: Mapping[str, float] = {"train": 0.8, "calib": 0.1, "val_report": 0.1}
LEFT_OUT = "left_out"
"""The split of a run's images at sites that it was trained without."""
Splits = dict[str, tuple[LabelledImage, ...]]


def joined_patients(images: Sequence[LabelledImage], joined: Iterable[tuple[Path, Path]]) -> dict[str, str]:
    """The group of every patient: its own name, or the least name of all patients that share a film with it.

    `joined` are pairs of files that hold the same film, as `duplicates.pairs` finds them.
    """
    group = {image.patient: image.patient for image in images}
    patient = {image.path: image.patient for image in images}

    def first(name: str) -> str:
        while group[name] != name:
            name = group[name]
        return name

    for one, other in joined:
        if one in patient and other in patient:
            low, high = sorted((first(patient[one]), first(patient[other])))
            group[high] = low
    return {name: first(name) for name in group}


def split_by_patient(
    images: Sequence[LabelledImage], seed: int, shares: Mapping[str, float] = SHARES, joined: Iterable[tuple[Path, Path]] = ()
) -> Splits:
    """Images in the splits of `shares`: no patient in two of them, classes in like shares, fixed by `seed`.

    A patient with films of both classes is placed once, among the positives; patients whose films are `joined` stay together.
    """
    groups = joined_patients(images, joined)
    placed = _placed(images, groups, seed, shares)
    return {name: tuple(image for image in images if placed[groups[image.patient]] == name) for name in shares}


def split_by_role(
    images: Sequence[LabelledImage], seed: int, shares: Mapping[Role, Mapping[str, float]], joined: Iterable[tuple[Path, Path]] = ()
) -> tuple[Splits, tuple[LabelledImage, ...]]:
    """Images in the splits of their role, by patient, and the images that only train and may not: a judged one is theirs or their twin's.

    `shares` of the roles `both` and `judge`; images of role `train` stand in `train`. Patients of one block, and patients whose images are
    `joined`, are one group. A group with an image of role `judge` is split as such. Where a group does not stand in `train`, its images
    of role `train` are left out: what judges is never given up for what trains.
    """
    groups = joined_patients(images, (*joined, *_same_block(images)))
    roles: dict[str, set[Role]] = {}
    for image in images:
        roles.setdefault(groups[image.patient], set()).add(image.role)
    placed = dict.fromkeys((group for group, found in roles.items() if found == {"train"}), "train")
    judging = [image for image in images if image.role != "train"]
    for role, its_shares in shares.items():
        its_images = [image for image in judging if ("judge" in roles[groups[image.patient]]) == (role == "judge")]
        placed |= _placed(its_images, groups, seed, its_shares)
    left_out = tuple(image for image in images if image.role == "train" and placed[groups[image.patient]] != "train")
    names = dict.fromkeys(name for its_shares in shares.values() for name in its_shares)
    splits = {
        name: tuple(i for i in images if placed[groups[i.patient]] == name and (i.role != "train" or name == "train")) for name in names
    }
    return splits, left_out


def _placed(images: Sequence[LabelledImage], groups: Mapping[str, str], seed: int, shares: Mapping[str, float]) -> dict[str, str]:
    """The split of each group that has an image here, those with a positive first, classes in like shares."""
    rng = np.random.default_rng(seed)
    placed: dict[str, str] = {}
    names = tuple(shares)
    for label in (1, 0):
        waiting = sorted({group for image in images if image.label == label and (group := groups[image.patient]) not in placed})
        rng.shuffle(waiting)
        ends = [round(len(waiting) * share) for share in np.cumsum(list(shares.values()))[:-1]]
        for index, group in enumerate(waiting):
            placed[group] = names[sum(index >= end for end in ends)]
    return placed


def _same_block(images: Sequence[LabelledImage]) -> list[tuple[Path, Path]]:
    """Each image of a block with the first of it."""
    first: dict[str, Path] = {}
    return [(first.setdefault(image.block, image.path), image.path) for image in images if image.block]


def without_sites(
    splits: Mapping[str, Sequence[LabelledImage]], sites: Collection[str], groups: Mapping[str, str]
) -> tuple[Splits, tuple[LabelledImage, ...]]:
    """The splits without the images of these sites, which stand in LEFT_OUT as far as they may judge, and the twins of those elsewhere.

    All other images stay where they are with the sites, so that runs can be compared; but one whose patient's group (`joined_patients`)
    has an image in LEFT_OUT is in no split.
    """
    every = [image for images in splits.values() for image in images]
    judging = tuple(i for i in every if i.site in sites and i.role != "train" and i.label_source != TEXT_MINED)
    judged = {groups[image.patient] for image in judging}
    kept = {name: tuple(i for i in images if i.site not in sites and groups[i.patient] not in judged) for name, images in splits.items()}
    twins = tuple(image for image in every if image.site not in sites and groups[image.patient] in judged)
    return (kept | {LEFT_OUT: judging} if judging else kept), twins


def write_splits(splits: Mapping[str, Sequence[LabelledImage]], root: Path, target: Path) -> None:
    """The split as JSON: split -> [file, label, patient], file names relative to `root`."""
    rows = {
        name: [[Path(os.path.relpath(image.path, root)).as_posix(), image.label, image.patient] for image in images]
        for name, images in splits.items()
    }
    target.write_text(json.dumps(rows, indent=0), encoding="utf-8")


def read_splits(path: Path, images: Sequence[LabelledImage], root: Path) -> Splits:
    """The splits in `path`, with everything that `images` know of each file. Raises ConfigError with every row that does not fit."""
    try:
        rows: dict[str, list[tuple[str, int, str]]] = json.loads(path.read_text(encoding="utf-8"))
        entries = [(name, file, label) for name, found in rows.items() for file, label, *_ in found]
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ConfigError((f"{path}: is no splits.json (split -> [file, label, patient]) as a run writes it",)) from error
    known = {Path(os.path.relpath(image.path, root)).as_posix(): image for image in images}
    faults = [f"{path}: {file} of {name} is not in the cohort" for name, file, _ in entries if file not in known]
    faults += [
        f"{path}: {file} has label {label} there and {known[file].label} in the cohort"
        for _, file, label in entries
        if file in known and known[file].label != label
    ]
    if faults:
        raise ConfigError(tuple(faults))
    return {name: tuple(known[file] for file, *_ in found) for name, found in rows.items()}
