"""The risk of a study from its images: the highest probability, calibrated for how many there are.

The highest of several calibrated probabilities is too high: each further image is another chance to be high by accident. What a highest
probability is worth follows from the model in which a calibrated log odds of an image is normal in both classes with one spread, and two
images of one study are correlated within a class (the equal-variance binormal model of ROC analysis, Dorfman and Alf 1969).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import ArrayLike

from prioritizer.calibration.maps import Calibration
from prioritizer.statistics.logistic import Float64, odds_of, sigmoid

NODES, WEIGHTS = (np.asarray(part, dtype=np.float64) for part in np.polynomial.hermite_e.hermegauss(41))
GRID = np.linspace(math.log(1e-4), -math.log(1e-4), 200)
"""Log odds at which the correction is computed; it is the nearest end's beyond them and by straight lines between them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagesOfAStudy:
    """How the calibrated log odds of the images of one study lie."""

    prevalence: float
    """Share of studies with the finding."""
    separation: float
    """Distance of the two classes in standard deviations, d'; ROC-AUC = Phi(d' / sqrt(2))."""
    correlation: float
    """Of two images of one study, within a class: 0 is unrelated, 1 is the same image twice."""

    def log_odds_of_highest(self, highest: ArrayLike, images: int) -> Float64:
        """Log odds of the finding, given the log odds of the highest of `images` images, any shape; of one image, those of that image."""
        x = np.asarray(highest, dtype=np.float64)
        if images <= 1:
            return x
        prior, d = float(odds_of(np.asarray(self.prevalence))), self.separation
        gained = GRID - prior
        sick, well = (self._log_density((gained + side * d * d / 2) / d, images) for side in (-1.0, 1.0))
        lowered = np.minimum(prior + sick - well - GRID, 0.0)
        return np.asarray(x + np.interp(x, GRID, lowered), dtype=np.float64)

    def _log_density(self, x: Float64, images: int) -> Float64:
        """Of the highest of so many equally correlated standard normal variables (David and Nagaraja 2003), shape (N,)."""
        common, own = math.sqrt(self.correlation), math.sqrt(1 - self.correlation)
        rest = (x[:, None] - common * NODES) / own
        logs = -(rest**2) / 2 + (images - 1) * _log_below(rest)
        top = logs.max(axis=1, keepdims=True)
        return np.asarray(np.log((WEIGHTS * np.exp(logs - top)).sum(axis=1)) + top[:, 0], dtype=np.float64)


STEPS = np.linspace(-36.0, 12.0, 9601)
LOG_BELOW = np.array([math.log(math.erfc(-step / math.sqrt(2)) / 2) for step in STEPS.tolist()])
"""Log of the standard normal distribution function at `STEPS`."""


def _log_below(x: Float64) -> Float64:
    """Log of the standard normal distribution function, by straight lines between `STEPS`."""
    return np.asarray(np.interp(x, STEPS, LOG_BELOW), dtype=np.float64)


STATED = ImagesOfAStudy(prevalence=0.15, separation=1.75, correlation=0.5)
"""What placing takes for granted, for every bundle: ROC-AUC 0.89, and images that are half alike. See docs/decisions/0018."""
MADE_BY = "highest-of-n/1"
"""Names the rule and its numbers in events: whoever changes either changes this."""
MAX_IMAGES = 20
"""Further images lower nothing more."""


@cache
def _lowered_by(images: int) -> Float64:
    """What placing takes off the log odds of the highest of so many images, at `GRID`."""
    return STATED.log_odds_of_highest(GRID, images) - GRID


def study_risk(probabilities: Sequence[float]) -> float | None:
    """The highest calibrated probability of the eligible frontal images, lowered for each further one; None when there is none.

    One image's risk is its probability. No study is taken below the mean of its images: images that agree are no accident, and an image
    that was sent twice lowers nothing.
    """
    if len(probabilities) <= 1:
        return max(probabilities, default=None)
    highest = max(probabilities)
    odds = float(odds_of(np.asarray(highest)))
    lowered = float(sigmoid(np.asarray(odds + np.interp(odds, GRID, _lowered_by(min(len(probabilities), MAX_IMAGES))))))
    return min(max(lowered, math.fsum(probabilities) / len(probabilities)), highest)


def risk_of_logits(calibration: Calibration, logits: Sequence[float]) -> float | None:
    """The risk of a study whose eligible frontal images have these logits."""
    return study_risk(calibration.probabilities(np.array(logits)).tolist())
