"""Confidence intervals by resampling whole patients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]
RESAMPLES = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        if np.isnan(self.value):
            return "-"
        between = " to " if self.low < 0 else "-"
        return f"{self.value:.3f} ({self.low:.3f}{between}{self.high:.3f})"

    def __format__(self, spec: str) -> str:
        """The value in the format that is asked for; without one, with its interval."""
        return format(self.value, spec) if spec else str(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cases:
    """Calibrated probabilities with labels (0 or 1) and the patient of each case."""

    probabilities: Float64
    labels: Float64
    patients: Sequence[str]

    def only(self, index: NDArray[np.int64]) -> Cases:
        """The cases of these indices, in their order."""
        return Cases(probabilities=self.probabilities[index], labels=self.labels[index], patients=[self.patients[i] for i in index])


def interval(value: float, drawn: Float64, *, centred: bool = False) -> Figure:
    """The value between the 2.5th and 97.5th percentile of what was drawn; draws without a figure do not count.

    `centred` takes off what resampling itself adds: a calibration error only grows when cases are drawn twice.
    """
    known = drawn[np.isfinite(drawn)]
    if not len(known) or not np.isfinite(value):
        return Figure(value=value, low=float("nan"), high=float("nan"))
    if centred:
        known = np.maximum(known - (known.mean() - value), 0.0)
    low, high = np.percentile(known, [2.5, 97.5])
    return Figure(value=value, low=min(float(low), value), high=max(float(high), value))


def resamples(cases: Cases, seed: int, draws: int = RESAMPLES) -> list[NDArray[np.int64]]:
    """Case indices of so many draws of whole patients with replacement, each holding both classes; none where a class is missing."""
    if len(np.unique(cases.labels)) < 2:
        return []
    rng = np.random.default_rng(seed)
    index_of: dict[str, list[int]] = {}
    for index, patient in enumerate(cases.patients):
        index_of.setdefault(patient, []).append(index)
    groups = [np.array(group) for group in index_of.values()]
    found: list[NDArray[np.int64]] = []
    while len(found) < draws:
        chosen = np.concatenate([groups[g] for g in rng.integers(0, len(groups), len(groups))])
        if 0 < cases.labels[chosen].sum() < len(chosen):
            found.append(chosen)
    return found
