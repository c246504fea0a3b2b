"""Splits by patient: fixed by a seed, written down, read back, and never with one film or person on both sides."""

from __future__ import annotations

import json
import os.path
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from prioritizer.errors import ConfigError
from prioritizer.learning.labelled import LabelledImage

SHARES: Mapping[str, float] = {"train": 0.8, "calib": 0.1, "val_report": 0.1}
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
    group_of = {image.path: groups[image.patient] for image in images}
    rng = np.random.default_rng(seed)
    placed: dict[str, str] = {}
    names = tuple(shares)
    for label in (1, 0):
        waiting = sorted({group for image in images if image.label == label and (group := group_of[image.path]) not in placed})
        rng.shuffle(waiting)
        ends = [round(len(waiting) * share) for share in np.cumsum(list(shares.values()))[:-1]]
        for index, group in enumerate(waiting):
            placed[group] = names[sum(index >= end for end in ends)]
    return {name: tuple(image for image in images if placed[group_of[image.path]] == name) for name in names}


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
