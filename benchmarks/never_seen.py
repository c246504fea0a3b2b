"""`python -m benchmarks.never_seen RUN --data SOURCES`: a run that was trained without a site, recalibrated on halves of that site's films.

Twenty halves by patient: the map is fitted on one, judged on the other. Told are the calibration error beside that of probabilities that
are right, how often the intervals of intercept and slope hold 0 and 1, sensitivity at the target of 0.95 and specificity, and the same
without recalibration.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from prioritizer.calibration import Calibration, expected_calibration_error
from prioritizer.learning.cohorts import read_cohort
from prioritizer.learning.first_maps import first_maps
from prioritizer.learning.labelled import LabelledImage
from prioritizer.learning.never_seen import halves
from prioritizer.learning.pictures import load_pictures
from prioritizer.learning.splits import LEFT_OUT, read_splits
from prioritizer.learning.subjects import Subject, open_subject
from prioritizer.measures import Cases, figures, roc_auc
from prioritizer.operating_point import Wish, operating_point
from prioritizer.recalibration import Sample, recalibrate

HALVES, TARGET, BATCH = 20, 0.95, 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """One half recalibrates, the other judges; each figure after and before."""

    ece: tuple[float, float]
    chance: float
    """Calibration error of probabilities that are right, with as many films."""
    intercept: bool
    slope: bool
    """The interval holds what is right."""
    sensitivity: tuple[float, float]
    specificity: tuple[float, float]


def tried(images: Sequence[LabelledImage], logits: NDArray[np.float64], before: Calibration, seed: int) -> Tried:
    """One pair of halves."""
    labels = np.array([image.label for image in images], dtype=np.float64)
    patients = [image.patient for image in images]
    one = halves(patients, seed)
    fitting, judging = (
        Sample(logits=logits[at], labels=labels[at], patients=[patients[i] for i in np.flatnonzero(at)]) for at in (one, ~one)
    )
    fit = recalibrate(fitting, before, seed=seed)
    point = operating_point(fitting, before, fit.after, Wish(sensitivity=TARGET), None, seed)
    after = replace(fit.after, t_high=point.t_high)
    p, rng = after.probabilities(judging.logits), np.random.default_rng(seed)
    chance = [expected_calibration_error(p, (rng.random(len(p)) < p).astype(float), equal_mass=True) for _ in range(200)]
    now, then = (
        figures(
            Cases(probabilities=its.probabilities(judging.logits), labels=judging.labels, patients=judging.patients), its.t_high, seed, 300
        )
        for its in (after, before)
    )
    intercept, slope = now["calibration_in_the_large"], now["calibration_slope"]
    return Tried(
        ece=(now["ece_equal_mass"].value, then["ece_equal_mass"].value),
        chance=float(np.mean(chance)),
        intercept=intercept.low <= 0 <= intercept.high,
        slope=slope.low <= 1 <= slope.high,
        sensitivity=(now["sensitivity"].value, then["sensitivity"].value),
        specificity=(now["specificity"].value, then["specificity"].value),
    )


def logits_of(subject: Subject, images: Sequence[LabelledImage]) -> NDArray[np.float64]:
    """What the run says of each image: float64 (N,)."""
    pictures, _ = load_pictures(images, subject.spec)
    return np.concatenate([subject.score(pictures[at : at + BATCH]).logits for at in range(0, len(pictures), BATCH)])


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    given = parser.parse_args()
    cohort = read_cohort(given.data)
    splits = read_splits(given.run / "splits.json", cohort.images, cohort.root)
    subject = open_subject(given.run)
    calib = splits["calib"]
    before = first_maps("run", calib, logits_of(subject, calib), target=TARGET, fitted_on="the other sites").calibration
    images = splits[LEFT_OUT]
    logits = logits_of(subject, images)
    found = [tried(images, logits, before, seed) for seed in range(HALVES)]
    print(f"{len(images)} films, ROC-AUC {roc_auc(np.array([float(image.label) for image in images]), logits):.3f}")
    for name in ("ece", "sensitivity", "specificity"):
        after, unchanged = np.mean([getattr(one, name) for one in found], axis=0)
        print(f"{name}: {after:.3f} recalibrated, {unchanged:.3f} as it was")
    print(f"ece above chance: {np.mean([one.ece[0] - one.chance for one in found]):.3f} (at most 0.02 is wanted)")
    print(
        f"intervals that hold what is right: intercept {sum(one.intercept for one in found)}, slope {sum(one.slope for one in found)} of 20"
    )


if __name__ == "__main__":
    main()
