"""The first calibration of a network: what the rule of `recalibrate` takes on the calib split, one map for each age group it carries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from prioritizer.calibration.local_fit import MIN_CLASS, Fit, Sample, first_map
from prioritizer.calibration.maps import AgeGroup, Calibration, age_group, threshold_at_sensitivity
from prioritizer.learning.cohorts.labelled_image import LabelledImage
from prioritizer.statistics.logistic import Float64

LOW_SENSITIVITY = 0.99
RULE = (
    f"Children and adults have a map each where the calib split holds {MIN_CLASS} patients of each class of both; the same logit then "
    "means something else for each."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstMaps:
    """The calibration, and how each of its maps was chosen, by age group; the one map for everybody has the name ''."""

    calibration: Calibration
    fits: Mapping[str, Fit]

    @property
    def how(self) -> str:
        """The methods, in a few words."""
        return ", ".join(f"{fit.winner} for {group}" if group else fit.winner for group, fit in self.fits.items())


def first_maps(name: str, images: Sequence[LabelledImage], logits: Float64, *, target: float, fitted_on: str) -> FirstMaps:
    """Maps and thresholds of a network's logits (N,) on images that only calibrate; thresholds at the sensitivity `target`."""
    labels = np.array([image.label for image in images], dtype=np.float64)
    parts = _parts(images, labels)
    fits, maps = {}, {}
    for group, index in parts.items():
        sample = Sample(logits=logits[index], labels=labels[index], patients=[images[i].patient for i in index.tolist()])
        fits[str(group)] = fit = first_map(sample)
        p = fit.after.probabilities(sample.logits)
        maps[group] = replace(
            fit.after,
            method=fit.winner,
            t_high=threshold_at_sensitivity(p, sample.labels, target),
            t_low=threshold_at_sensitivity(p, sample.labels, max(LOW_SENSITIVITY, target)),
            fitted_on=fitted_on,
            n=len(sample.labels),
            events=int(sample.labels.sum()),
        )
    if "" in maps:
        one = maps[""]
        return FirstMaps(calibration=replace(one, id=f"{name}-{one.method.replace(' ', '-')}"), fits=fits)
    both = replace(maps[AgeGroup.CHILDREN], id=f"{name}-by-age")
    return FirstMaps(calibration=both.with_group(AgeGroup.ADULTS, maps[AgeGroup.ADULTS]), fits=fits)


def _parts(images: Sequence[LabelledImage], labels: Float64) -> dict[AgeGroup | str, np.ndarray]:
    """Which images each map is fitted on: those of each age group, or all where one of them could not carry a map."""
    groups = [age_group(image.age_years) if image.age_years is not None else None for image in images]
    found: dict[AgeGroup | str, np.ndarray] = {}
    for group in AgeGroup:
        found[group] = index = np.array([place for place, its in enumerate(groups) if its is group], dtype=np.int64)
        patients = [{images[i].patient for i in index.tolist() if labels[i] == label} for label in (0, 1)]
        if min(map(len, patients)) < MIN_CLASS:
            return {"": np.arange(len(images))}
    return found
