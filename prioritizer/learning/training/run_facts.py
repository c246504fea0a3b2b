"""What is needed to repeat a run and to judge it."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import timm
import torch

from prioritizer import __version__
from prioritizer.inference.bundle import sha256_of
from prioritizer.learning.cohorts import dataset, lung_masks
from prioritizer.learning.cohorts.read import Cohort
from prioritizer.learning.cohorts.splits import Splits
from prioritizer.learning.training import imagenet, teachers
from prioritizer.learning.training.processes import ProcessRank
from prioritizer.learning.training.recipes import Recipe


def facts(
    recipe: Recipe,
    cohort: Cohort,
    splits: Splits,
    place: ProcessRank,
    weights: Path | None,
    without: Sequence[str] = (),
    teacher: Sequence[Path] = (),
    *,
    smoke: bool = False,
) -> dict[str, Any]:
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
        "data_sha256": dataset.fingerprint(image for images in splits.values() for image in images),
        "images": {name: len(images) for name, images in splits.items()},
        "patients": {name: len({image.patient for image in images}) for name, images in splits.items()},
        "pneumonia": {name: sum(image.label for image in images) for name, images in splits.items()},
        "split_seed": recipe.seed if cohort.split_seed is None else cohort.split_seed,
        "sources": source_facts(cohort),
        "without": sorted(set(without)),
        "masks": mask_facts(recipe, splits),
        **({"teacher": teachers.facts(teacher)} if teacher else {}),
        "smoke": smoke,
    }


def source_facts(cohort: Cohort) -> list[dict[str, Any]]:
    """The sources of a sources file, as run and card hold them."""
    return [asdict(source) for source in cohort.sources]


def mask_facts(recipe: Recipe, splits: Splits) -> dict[str, Any] | None:
    """The lung masks that a run learns from; None where its recipe has no lung loss."""
    return lung_masks.facts(splits["train"]) if recipe.needs_masks else None


def initial_facts(recipe: Recipe, weights: Path | None) -> dict[str, Any] | None:
    """Where the first weights come from; None for random ones. A file given with --weights goes before those of the recipe."""
    if weights is not None:
        return {"file": weights.name, "sha256": sha256_of(weights)}
    return imagenet.facts(recipe.architecture) if recipe.initial == "imagenet" else None
