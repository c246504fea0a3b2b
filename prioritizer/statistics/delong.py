"""The ROC area with its variance, and two ROC areas of the same cases compared (DeLong, DeLong and Clarke-Pearson 1988).

Images of one patient are not independent: the placement values are added up by patient before their variance is taken (Obuchowski,
Biometrics 1997), which for one image a patient is DeLong's estimate, but for a class that has several patients.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from prioritizer.statistics.intervals import Figure

Float64 = NDArray[np.float64]
Z95 = NormalDist().inv_cdf(0.975)


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """ROC area of the second minus that of the first, with its interval, and the p value of no difference (two-sided)."""

    figure: Figure
    p: float
    """NaN where the two are the same on every case."""


def areas(labels: Float64, scores: Sequence[Float64], patients: Sequence[str] | None = None) -> tuple[Float64, Float64]:
    """ROC areas (K,) of K scores on the same cases, and their covariance (K, K); NaN where a class has fewer than two patients."""
    positive = labels == 1
    m, n = int(positive.sum()), int((~positive).sum())
    count = len(scores)
    groups = np.arange(len(labels)) if patients is None else np.unique(np.asarray(patients, dtype=np.str_), return_inverse=True)[1]
    if min(len(np.unique(groups[positive])), len(np.unique(groups[~positive]))) < 2:
        return np.full(count, np.nan), np.full((count, count), np.nan)
    placed = [_placements(score, positive) for score in scores]
    area = np.array([value[positive].mean() for value in placed])
    centred = np.array(placed) - area[:, None]
    many = int(groups.max()) + 1
    of_positives = np.array([np.bincount(groups[positive], row[positive], many) for row in centred])
    of_negatives = np.array([np.bincount(groups[~positive], row[~positive], many) for row in centred])
    i_pos, i_neg, i_all = (len(np.unique(part)) for part in (groups[positive], groups[~positive], groups))
    s10 = of_positives @ of_positives.T * i_pos / (i_pos - 1) / m**2
    s01 = of_negatives @ of_negatives.T * i_neg / (i_neg - 1) / n**2
    cross = of_positives @ of_negatives.T * i_all / (i_all - 1) / (m * n)
    return area, s10 + s01 + cross + cross.T


def _placements(score: Float64, positive: NDArray[np.bool_]) -> Float64:
    """Of each positive the share of negatives below it, of each negative the share of positives above it; ties count half."""
    found = np.empty(len(score))
    for mine, sign in ((positive, 1), (~positive, -1)):
        others = np.sort(sign * score[~mine])
        below = np.searchsorted(others, sign * score[mine], side="left")
        reached = np.searchsorted(others, sign * score[mine], side="right")
        found[mine] = (below + reached) / 2 / len(others)
    return found


def area(labels: Float64, scores: Float64, patients: Sequence[str] | None = None) -> Figure:
    """ROC area with its 95 % interval on the logit scale, which stays within 0 and 1; without a width where all pairs are in order."""
    (value,), ((variance,),) = areas(labels, [scores], patients)
    if not np.isfinite(value):
        return Figure(value=float("nan"), low=float("nan"), high=float("nan"))
    if not 0 < value < 1:
        return Figure(value=float(value), low=float(value), high=float(value))
    logit, wide = np.log(value / (1 - value)), Z95 * np.sqrt(variance) / (value * (1 - value))
    low, high = (1 / (1 + np.exp(-(logit + side * wide))) for side in (-1, 1))
    return Figure(value=float(value), low=float(low), high=float(high))


def difference(labels: Float64, first: Float64, second: Float64, patients: Sequence[str] | None = None) -> Difference:
    """The paired test of two scores on the same cases."""
    found, covariance = areas(labels, [first, second], patients)
    gap = float(found[1] - found[0])
    error = float(np.sqrt(max(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1], 0.0)))
    figure = Figure(value=gap, low=gap - Z95 * error, high=gap + Z95 * error)
    p = 2 * NormalDist().cdf(-abs(gap) / error) if error > 1e-12 else float("nan")
    return Difference(figure=figure, p=p)
