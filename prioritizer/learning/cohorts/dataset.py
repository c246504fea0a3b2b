"""The data of a training: one door to cohort, splits and pictures, and the fingerprint of what was seen."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from prioritizer.errors import ConfigError
from prioritizer.learning.cohorts.decoded_images import load_pictures, read_picture
from prioritizer.learning.cohorts.labelled_image import LabelledImage
from prioritizer.learning.cohorts.read import read_cohort
from prioritizer.learning.cohorts.site_forms import patient_of
from prioritizer.learning.cohorts.splits import (
    LEFT_OUT,
    SHARES,
    joined_patients,
    read_splits,
    split_by_patient,
    split_by_role,
    without_sites,
    write_splits,
)

__all__ = [
    "LEFT_OUT",
    "SPLITS",
    "LabelledImage",
    "fingerprint",
    "joined_patients",
    "load_pictures",
    "patient_of",
    "read_folder",
    "read_picture",
    "read_splits",
    "split_by_patient",
    "split_by_role",
    "without_sites",
    "write_splits",
]

SPLITS = tuple(SHARES)


def read_folder(root: Path) -> tuple[LabelledImage, ...]:
    """Every usable image of the cohort below `root`, whatever its form; both classes are there."""
    cohort = read_cohort(root)
    if len({image.label for image in cohort.images}) < 2:
        raise ConfigError((f"{root}: holds one class only; training needs films with and without pneumonia ({cohort.form})",))
    return cohort.images


def fingerprint(images: Iterable[LabelledImage]) -> str:
    """SHA-256 over every file's name, label and bytes, so that a run says which data it saw."""
    digest = hashlib.sha256()
    for image in images:
        digest.update(f"{image.path.name}\0{image.label}\0".encode())
        digest.update(hashlib.sha256(image.path.read_bytes()).digest())
    return digest.hexdigest()
