"""The metadata-only control: how well numbers about the files predict the label when no picture is looked at."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prioritizer.learning.cohorts.labelled_image import LabelledImage
from prioritizer.learning.description import shortcuts
from prioritizer.learning.description.file_facts import FILE_NAMES, INTENSITY_NAMES
from prioritizer.learning.description.shortcuts import Statistics
from prioritizer.statistics.intervals import Figure

Float64 = NDArray[np.float64]
SUSPICIOUS = 0.60
"""A control whose lower 95 % bound of the ROC-AUC lies above this has found a way round the lungs."""
MIN_COUNT = 20
"""Images of the smaller class below which nothing is concluded."""
HEADER_NAMES = ("age in years", "sex is M", "view is AP")


@dataclass(frozen=True, slots=True, kw_only=True)
class SingleNumber:
    """One number about the file as a test for the label."""

    name: str
    family: str
    """`file`, `intensity` or `header`."""
    auc: Figure
    """Of the better direction, so never below 0.5 in value."""
    higher_means: str
    """`pneumonia` or `no pneumonia`."""
    known: int
    """Images that have the number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelControl:
    """A model on a family of numbers, each image judged by a fold that did not see its patient."""

    family: str
    method: str
    auc: Figure


@dataclass(frozen=True, slots=True, kw_only=True)
class Controls:
    """Everything the files say of the label."""

    single: tuple[SingleNumber, ...]
    models: tuple[ModelControl, ...]
    matched: float
    """Matched ROC-AUC of the control itself: what a score that reads only the file keeps after matching."""
    smaller_class: int

    def best_single(self, *families: str) -> SingleNumber | None:
        """The number of these families that separates the classes best."""
        return max((one for one in self.single if one.family in families), key=lambda one: one.auc.value, default=None)

    @property
    def found(self) -> bool:
        """File facts or header facts, which hold no anatomy, predict the label."""
        if self.smaller_class < MIN_COUNT:
            return False
        singles = [one.auc.low for one in self.single if one.family in ("file", "header")]
        return max([*singles, *(model.auc.low for model in self.models if model.family == "file facts")], default=0) > SUSPICIOUS

    @property
    def intensities_speak(self) -> bool:
        """Intensity statistics predict the label: part of that may be the disease."""
        if self.smaller_class < MIN_COUNT:
            return False
        return any(model.auc.low > SUSPICIOUS for model in self.models if model.family == "intensity statistics")


def controls(
    statistics: Statistics, images: Sequence[LabelledImage], seed: int = 0, tick: Callable[[], None] = lambda: None
) -> Controls | None:
    """The control on all numbers; None where only one class is there."""
    labels = np.array([image.label for image in images])
    patients = [image.patient for image in images]
    if len(set(labels.tolist())) < 2:
        return None
    everything = [
        (name, "file" if name in FILE_NAMES else "intensity", values)
        for name, values in zip(statistics.names, statistics.values.T, strict=True)
    ]
    everything += [(name, "header", values) for name, values in zip(HEADER_NAMES, _header_numbers(images).T, strict=True)]
    single = [one for name, family, values in everything if (one := _single(name, family, values, labels, patients, seed))]
    families = {"file facts": FILE_NAMES, "intensity statistics": INTENSITY_NAMES, "both": statistics.names}
    models, matched = [], math.nan
    for family, names in families.items():
        for trees in (False, True):
            chance = shortcuts.propensity(statistics.only(names).values, labels, patients, seed, trees=trees)
            method = "gradient boosting" if trees else "logistic regression"
            models.append(ModelControl(family=family, method=method, auc=shortcuts.auc_figure(labels, chance, patients, seed)))
            if family == "both" and trees == (len(labels) >= shortcuts.ENOUGH_FOR_TREES):
                matched = shortcuts.matched_auc(labels, chance, chance)
            tick()
    single.sort(key=lambda one: -one.auc.value)
    smaller = int(min(labels.sum(), (1 - labels).sum()))
    return Controls(single=tuple(single), models=tuple(models), matched=matched, smaller_class=smaller)


def _header_numbers(images: Sequence[LabelledImage]) -> Float64:
    """float64 (N, 3) in the order of HEADER_NAMES, NaN where it is not known."""
    return np.array(
        [
            (
                math.nan if image.age_years is None else image.age_years,
                float(image.sex == "M") if image.sex in ("M", "F") else math.nan,
                float(image.view == "AP") if image.view in ("AP", "PA") else math.nan,
            )
            for image in images
        ]
    )


def _single(name: str, family: str, values: Float64, labels: NDArray[np.int64], patients: Sequence[str], seed: int) -> SingleNumber | None:
    """One number on the images that have it; None where it is the same for all, or known for one class only."""
    known = np.isfinite(values)
    if len(np.unique(values[known])) < 2 or len(np.unique(labels[known])) < 2:
        return None
    groups = [patient for patient, is_known in zip(patients, known, strict=True) if is_known]
    figure = shortcuts.auc_figure(labels[known], values[known], groups, seed)
    upward = figure.value >= 0.5
    better = figure if upward else Figure(value=1 - figure.value, low=1 - figure.high, high=1 - figure.low)
    means = "pneumonia" if upward else "no pneumonia"
    return SingleNumber(name=name, family=family, auc=better, higher_means=means, known=int(known.sum()))


def sentence(found: Controls | None) -> str:
    """What the control says, for people."""
    if found is None:
        return "Only one class is there, so nothing can be said about shortcuts."
    if found.smaller_class < MIN_COUNT:
        return f"The smaller class has {found.smaller_class} images: too few to say whether the files give the label away."
    best, model = found.best_single("file", "header"), max(found.models[:2], key=lambda one: one.auc.value)
    said = []
    if found.found and best is not None and best.auc.low > SUSPICIOUS:
        said.append(
            f"{_named(best.name)} alone separates the classes at {best.auc.value:.2f}: a network can learn how the files were made."
        )
    elif found.found:
        said.append(f"File facts together separate the classes at {model.auc.value:.2f}: a network can learn how the files were made.")
    else:
        said.append(f"File facts hardly tell the classes apart (best control {model.auc.value:.2f}).")
    if found.intensities_speak:
        grey = max((one for one in found.models if one.family == "intensity statistics"), key=lambda one: one.auc.value)
        alone = f"Brightness and sharpness statistics alone reach {grey.auc.value:.2f}"
        said.append(f"{alone}; part of that may be the disease, none of it needs a lung.")
    return " ".join(said)


def _named(name: str) -> str:
    return {"file bytes": "File size", "bytes per pixel": "File size per pixel"}.get(name, name[:1].upper() + name[1:])
