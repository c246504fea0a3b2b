"""Two networks on the same cases: the difference of every figure, each draw of patients judged by both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from prioritizer.statistics import delong
from prioritizer.statistics.delong import Difference
from prioritizer.statistics.intervals import RESAMPLES, Cases, Figure, Float64, interval, resamples
from prioritizer.statistics.measures import BIASED, NAMES, drawn_values, figures_of, values


@dataclass(frozen=True, slots=True, kw_only=True)
class Rated:
    """One network's calibrated probabilities of the common cases, and its own threshold."""

    probabilities: Float64
    logits: Float64
    """Uncalibrated, for the ROC area: a map with steps ties what the network tells apart."""
    threshold: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairing:
    """The figures of every network, and of each but the first what it adds to those of the first."""

    figures: tuple[Mapping[str, Figure], ...]
    aucs: tuple[Figure, ...]
    """ROC area of the logits (DeLong, by patient)."""
    differences: tuple[Mapping[str, Figure], ...]
    delong: tuple[Difference, ...]


def paired(rated: Sequence[Rated], labels: Float64, patients: Sequence[str], seed: int = 0, draws: int = RESAMPLES) -> Pairing:
    """Every figure of every network with intervals by patient; the same draws serve all, so that differences are paired."""
    cases = [Cases(probabilities=one.probabilities, labels=labels, patients=patients) for one in rated]
    samples = resamples(cases[0], seed, draws)
    found = [values(case, one.threshold) for case, one in zip(cases, rated, strict=True)]
    drawn = [drawn_values(case, one.threshold, samples) for case, one in zip(cases, rated, strict=True)]
    return Pairing(
        figures=tuple(figures_of(value, draw) for value, draw in zip(found, drawn, strict=True)),
        aucs=tuple(delong.area(labels, one.logits, patients) for one in rated),
        differences=tuple(
            {name: _difference(name, found[0], found[k], drawn[0], drawn[k]) for name in NAMES} for k in range(1, len(rated))
        ),
        delong=tuple(delong.difference(labels, rated[0].logits, one.logits, patients) for one in rated[1:]),
    )


def _difference(
    name: str, first: Mapping[str, float], other: Mapping[str, float], first_drawn: Mapping[str, Float64], drawn: Mapping[str, Float64]
) -> Figure:
    gaps = drawn[name] - first_drawn[name]
    gap = other[name] - first[name]
    if name in BIASED and np.isfinite(gaps).any():
        # What resampling adds to a calibration error it does not add to both alike: the draws are moved to the difference that is there.
        gaps = gaps - (np.nanmean(gaps) - gap)
    return interval(gap, gaps)


def most_disputed(rated: Sequence[Rated], count: int) -> list[int]:
    """Indices of the cases whose probabilities lie furthest apart, the furthest first."""
    spread = np.ptp(np.stack([one.probabilities for one in rated]), axis=0)
    return [int(index) for index in np.argsort(-spread, kind="stable")[:count]]
