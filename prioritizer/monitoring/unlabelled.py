"""Sensitivity, specificity and predictive value without a label: what calibrated probabilities expect of the studies they raised.

A raised study is expected to be a true positive as often as its risk says (CBPE, NannyML). Where a study has several images its highest
probability is too high for a risk. What it is worth follows from how the highest ones of the period lie (`study_risk`): prevalence and
separation are taken from their mean and spread, and the correlation of the images of one study, of which nothing is known without
labels, is anything from `CORRELATIONS[0]` to `CORRELATIONS[2]`: the intervals hold for each of these.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from prioritizer.ranking.study_risk import MAX_IMAGES, ImagesOfAStudy
from prioritizer.statistics.intervals import Figure
from prioritizer.statistics.logistic import Float64, odds_of, sigmoid

Flags = NDArray[np.bool_]
Int64 = NDArray[np.int64]
CORRELATIONS = (0.1, 0.5, 0.9)
"""The least, the usual and the largest: two images of one study are alike, and never the same image."""
USUAL_IMAGES = 3
"""Where the number of images of a study is not known, it is taken for one, and the intervals hold up to so many."""
DRAWS = 300
ROUNDS = 12
NAMES = ("sensitivity", "specificity", "ppv")


@dataclass(frozen=True, slots=True, kw_only=True)
class Raising:
    """The scored studies of a period, every array (N,)."""

    highest: Float64
    """The highest calibrated probability of its images."""
    images: Int64
    """How many images that is the highest of; 0 where it is not known."""
    raised: Flags


def expected(studies: Raising) -> dict[str, Figure]:
    """Each of NAMES with the 95 % interval of what it was, by the probabilities alone; NaN where nothing was scored or raised."""
    readings = [studies.images] if (studies.images > 0).all() else [np.maximum(studies.images, 1), _filled(studies.images)]
    risks: list[Float64] = []
    for images in readings:
        several = bool((images > 1).any())
        risks += [_risks(studies.highest, images, correlation) for correlation in (CORRELATIONS if several else CORRELATIONS[1:2])]
    usual = risks[1 if len(risks) == len(CORRELATIONS) else 0]
    values = _figures(usual, studies.raised)
    drawn = [_drawn(risk, studies.raised) for risk in risks]
    return {
        name: Figure(
            value=values[index],
            low=min(values[index], *(one[index][0] for one in drawn)),
            high=max(values[index], *(one[index][1] for one in drawn)),
        )
        for index, name in enumerate(NAMES)
    }


def _filled(images: Int64) -> Int64:
    return np.where(images > 0, images, USUAL_IMAGES)


def _risks(highest: Float64, images: Int64, correlation: float) -> Float64:
    """What the highest probabilities are worth; those of one image stay as they are."""
    if not (images > 1).any():
        return highest
    odds = odds_of(np.clip(highest, 1e-4, 1 - 1e-4))
    risk, prevalence = highest, float(np.clip(highest.mean(), 0.001, 0.999))
    for _ in range(ROUNDS):
        model = ImagesOfAStudy(
            prevalence=prevalence, separation=_separation(odds, images, prevalence, correlation), correlation=correlation
        )
        risk = highest.copy()
        for count in np.unique(images[images > 1]).tolist():
            mine = images == count
            risk[mine] = sigmoid(model.log_odds_of_highest(odds[mine], min(count, MAX_IMAGES)))
        found = float(np.clip(risk.mean(), 0.001, 0.999))
        if abs(found - prevalence) < 1e-4:
            break
        prevalence = found
    return risk


def _separation(odds: Float64, images: Int64, prevalence: float, correlation: float) -> float:
    """Separation d' from the spread of the highest log odds: its variance is within d'^2 and between p (1 - p) d'^4."""
    spread = within = 0.0
    for count in np.unique(images).tolist():
        mine = odds[images == count]
        spread += float(((mine - mine.mean()) ** 2).sum()) / len(odds)
        within += len(mine) / len(odds) * (correlation + (1 - correlation) * _variance_of_highest(min(count, MAX_IMAGES)))
    between = prevalence * (1 - prevalence)
    squared = (-within + np.sqrt(within**2 + 4 * between * spread)) / (2 * between)
    return float(np.clip(np.sqrt(squared), 0.3, 5.0))


@cache
def _variance_of_highest(count: int) -> float:
    """Variance of the highest of `count` unrelated standard normal draws."""
    return float(np.random.default_rng(0).standard_normal((4000, count)).max(axis=1).var()) if count > 1 else 1.0


def _figures(risk: Float64, raised: Flags) -> tuple[float, float, float]:
    with np.errstate(invalid="ignore", divide="ignore"):
        return (
            float(np.float64(risk[raised].sum()) / risk.sum()),
            float(np.float64((1 - risk[~raised]).sum()) / (1 - risk).sum()),
            float(np.float64(risk[raised].sum()) / raised.sum()),
        )


def _drawn(risk: Float64, raised: Flags) -> list[tuple[float, float]]:
    """95 % intervals of the three figures when the findings are drawn by these risks."""
    rng = np.random.default_rng(0)
    rows = np.array([_figures((rng.random(len(risk)) < risk).astype(np.float64), raised) for _ in range(DRAWS)])
    found = []
    for column in rows.T:
        known = column[np.isfinite(column)]
        low, high = np.percentile(known, [2.5, 97.5]) if len(known) else (np.nan, np.nan)
        found.append((float(low), float(high)))
    return found
