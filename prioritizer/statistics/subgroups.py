"""Does it serve everyone alike? Figures by age, sex, view, scanner, site and subtype; cells too small to be evidence say so."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from prioritizer.calibration.operating_point import Share
from prioritizer.statistics import delong
from prioritizer.statistics.at_threshold import counts
from prioritizer.statistics.intervals import Cases, Figure, Float64, interval, resamples
from prioritizer.statistics.measures import calibration_line

AGES = ((0.0, 1.0), (1.0, 6.0), (6.0, 18.0), (18.0, 40.0), (40.0, 65.0), (65.0, 121.0))
SMALL = 10
"""Patients with, or without, pneumonia below which a group is greyed."""
MAX_GROUPS = 8
"""Largest groups of one kind that are shown."""
DRAWS = 200


class Described(Protocol):
    """What is known of an image beside its label; empty or None where it is not."""

    @property
    def age_years(self) -> float | None:
        """Age of the patient when it was taken."""

    @property
    def sex(self) -> str:
        """`M`, `F` or `O`."""

    @property
    def view(self) -> str:
        """`AP`, `PA`, or as the source says."""

    @property
    def scanner(self) -> str:
        """Maker or model of the device."""

    @property
    def site(self) -> str:
        """Where it was taken."""

    @property
    def subtype(self) -> str:
        """Of the pneumonia."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """A `Described` of its own, for images whose header completes what the label file says."""

    age_years: float | None = None
    sex: str = ""
    view: str = ""
    scanner: str = ""
    site: str = ""
    subtype: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subgroup:
    """One group: how many, and the figures within it."""

    kind: str
    name: str
    n: int
    events: int
    auc: Figure
    sensitivity: Share
    specificity: Share
    slope: Figure

    @property
    def small(self) -> bool:
        """Too few to be read as evidence."""
        return min(self.sensitivity.patients, self.specificity.patients) < SMALL


def subgroups(images: Sequence[Described], cases: Cases, logits: Float64, threshold: float, seed: int = 0) -> tuple[Subgroup, ...]:
    """Every group of every kind that is known of some film and tells films apart."""
    return tuple(_figures(kind, name, index, cases, logits, threshold, seed) for kind, name, index in _groups(images, cases.labels))


def _groups(images: Sequence[Described], labels: Float64) -> Iterator[tuple[str, str, NDArray[np.int64]]]:
    """(kind, name, indices) of each group."""
    for kind, values in {
        "age": [_age_band(image.age_years) for image in images],
        "sex": [image.sex for image in images],
        "view": [image.view for image in images],
        "scanner": [image.scanner for image in images],
        "site": [image.site for image in images],
    }.items():
        counted = Counter(values)
        if len(counted) < 2:
            continue
        known = [name for name, _ in counted.most_common(MAX_GROUPS)]
        names = sorted(known, key=_by_age) if kind == "age" else known
        yield from ((kind, name or "not known", np.flatnonzero(np.array(values) == name)) for name in names)
    for subtype in sorted({image.subtype for image, label in zip(images, labels, strict=True) if image.subtype and label}):
        mine = np.array([image.subtype == subtype for image in images])
        yield "subtype", f"{subtype}, against all without pneumonia", np.flatnonzero(mine | (labels == 0))


def _age_band(age: float | None) -> str:
    if age is None:
        return ""
    return next((f"{low:g} to under {high:g} years" if high < 121 else f"{low:g} years and over" for low, high in AGES if age < high), "")


def _by_age(band: str) -> float:
    return float(band.split(maxsplit=1)[0]) if band else float("inf")


def _figures(kind: str, name: str, index: NDArray[np.int64], cases: Cases, logits: Float64, threshold: float, seed: int) -> Subgroup:
    part = cases.only(index)
    at = counts(part.labels, part.probabilities, threshold, part.patients)
    return Subgroup(
        kind=kind,
        name=name,
        n=len(index),
        events=int(part.labels.sum()),
        auc=delong.area(part.labels, logits[index], part.patients),
        sensitivity=at.sensitivity,
        specificity=at.specificity,
        slope=_slope(part, seed),
    )


def _slope(cases: Cases, seed: int) -> Figure:
    """Calibration slope with its interval; none where a group is small."""
    if min(cases.labels.sum(), (1 - cases.labels).sum()) < SMALL:
        return Figure(value=float("nan"), low=float("nan"), high=float("nan"))
    drawn = [calibration_line(cases.probabilities[i], cases.labels[i])[0] for i in resamples(cases, seed, DRAWS)]
    return interval(calibration_line(cases.probabilities, cases.labels)[0], np.array(drawn))
