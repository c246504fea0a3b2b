"""From the network's logit to a probability that means what it says at a site.

A map has two steps. Knots, where there are any, take the logit to a probability by straight lines between them (isotonic
regression, Zadrozny and Elkan 2002). Then an affine map of the log odds: probability = sigmoid(slope * log odds + intercept).
Without knots the log odds are the network's logit: temperature scaling (Guo et al. 2017) is slope = 1/T with intercept 0, Platt
scaling (1999) frees both, a shift moves the intercept alone. Every map keeps the order of the logits; a map with knots may tie them.

A calibration may hold two such maps, one for children and one for adults: the same logit then means something else for each
(docs/decisions/0022).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from prioritizer.statistics.logistic import Float64, odds_of, sigmoid

Knots = tuple[tuple[float, float], ...]
ADULT_FROM_YEARS = 18.0
PNEUMONIA = "pneumonia"


class AgeGroup(StrEnum):
    """Whom a map is for, where a calibration has two."""

    CHILDREN = "children"
    ADULTS = "adults"


def age_group(years: float) -> AgeGroup:
    """Children are under 18 years."""
    return AgeGroup.CHILDREN if years < ADULT_FROM_YEARS else AgeGroup.ADULTS


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """A fitted map with the thresholds that go with it; `id` names it in every score.

    With `adults`, this is the map for children, and `adults` that for patients of 18 years and more: ask for the map of a patient with
    `for_age`.
    """

    id: str
    method: str
    slope: float
    intercept: float
    t_high: float
    """Probability at or above which a study is placed in the HIGH band."""
    t_low: float
    """Probability below which a study may be placed in the LOW band, where a site demotes."""
    fitted_on: str = ""
    n: int = 0
    events: int = 0
    prevalence: float | None = None
    """Share of positives that the probabilities are meant for; None: events / n."""
    knots: Knots = ()
    """(logit, probability), both rising; below the first and above the last the end's probability holds. Empty: none."""
    finding: str = PNEUMONIA
    """What the probability is of: what the labels meant that the map was fitted on."""
    local_limit: float | None = None
    """How far an image may lie from the training data before it is told as unlike it, in units of the bundle's limit: fitted on a local
    cohort. None: the bundle's own limit holds, which is 1."""
    adults: Calibration | None = None
    """The map for adults, where they have one of their own; its `id` is not stored."""

    @property
    def groups(self) -> tuple[AgeGroup, ...]:
        """The age groups that have a map of their own; empty where one map is for everybody."""
        return tuple(AgeGroup) if self.adults is not None else ()

    def for_age(self, years: float | None) -> Calibration:
        """The map for a patient of this age, itself without a second one; it is named after the calibration and the group.

        Without an age it is that of the two maps that raises from the lower logit: nobody is placed later for want of an age.
        """
        return self if self.adults is None else self.of_group(self.group_of(years))

    def group_of(self, years: float | None) -> AgeGroup:
        """Whose map is asked for a patient of this age, where there are two."""
        if years is not None:
            return age_group(years)
        return min(AgeGroup, key=lambda group: (its := self.of_group(group)).logit_at(its.t_high))

    def of_group(self, group: AgeGroup) -> Calibration:
        """The map of an age group; of a calibration with one map, that."""
        if self.adults is None:
            return self
        its = self if group is AgeGroup.CHILDREN else self.adults
        return replace(its, id=f"{self.id} ({group})" if self.id else str(group), adults=None)

    def with_group(self, group: AgeGroup, its: Calibration) -> Calibration:
        """This calibration with the map `its` for an age group, and the other group's as it is."""
        one = replace(its, id="", adults=None)
        if group is AgeGroup.ADULTS:
            return replace(self, adults=one)
        return replace(one, id=self.id, adults=self.adults, local_limit=self.local_limit)

    def maps(self) -> tuple[tuple[str, Calibration], ...]:
        """Each map with the name of its age group; the one map of a calibration for everybody has none."""
        return tuple((str(group), self.of_group(group)) for group in self.groups) or (("", self),)

    @property
    def cases(self) -> str:
        """On how many cases each map was fitted, and how many of them have the finding, in words."""
        return "; ".join(f"{its.n}, {its.events} with the finding{f' ({group})' if group else ''}" for group, its in self.maps())

    @property
    def raised_from(self) -> str:
        """The probability from which studies are raised, in words, for each age group where they differ."""
        return ", ".join(f"{its.t_high:.3f}{f' for {group}' if group else ''}" for group, its in self.maps())

    def log_odds(self, logits: ArrayLike) -> Float64:
        """Calibrated log odds of pneumonia for logits of any shape."""
        x = np.asarray(logits, dtype=np.float64)
        return self.slope * (odds_of(interpolated(x, self.knots)) if self.knots else x) + self.intercept

    def probabilities(self, logits: ArrayLike) -> Float64:
        """Calibrated probabilities of pneumonia for logits of any shape."""
        return sigmoid(self.log_odds(logits))

    def probability(self, logit: float) -> float:
        """Calibrated probability of pneumonia for one logit."""
        return float(self.probabilities(logit))

    def moved(self, slope: float, intercept: float, method: str) -> Calibration:
        """This map with its calibrated log odds taken to slope * log odds + intercept."""
        return replace(self, method=method, slope=slope * self.slope, intercept=slope * self.intercept + intercept)

    def logit_at(self, probability: float) -> float:
        """The smallest logit whose probability is at least `probability`; infinite where none is."""
        if not 0 < probability < 1:
            return -math.inf if probability <= 0 else math.inf
        wanted = (float(odds_of(np.asarray(probability))) - self.intercept) / self.slope
        if not self.knots:
            return wanted
        x, y = np.array(self.knots).T
        before = int(np.searchsorted(odds_of(y), wanted - 1e-12, side="left"))
        if before == 0:
            return -math.inf
        if before == len(x):
            return math.inf
        share = (float(sigmoid(np.asarray(wanted))) - y[before - 1]) / (y[before] - y[before - 1])
        return float(x[before - 1] + np.clip(share, 0, 1) * (x[before] - x[before - 1]))


def as_document(calibration: Calibration) -> dict[str, Any]:
    """The calibration as JSON holds it."""
    document = asdict(replace(calibration, adults=None))
    absent = {"knots": (), "prevalence": None, "finding": PNEUMONIA, "local_limit": None, "adults": None}
    found = {key: value for key, value in document.items() if key not in absent or value != absent[key]}
    if calibration.adults is not None:
        found["adults"] = {key: value for key, value in as_document(calibration.adults).items() if key != "id"}
    return found


def from_document(document: Mapping[str, Any]) -> Calibration:
    """The calibration in a JSON document. Raises ValueError, TypeError or KeyError when it is none, or one that turns the order round."""
    known = {field.name for field in fields(Calibration)}
    unknown = sorted(document.keys() - known)
    if unknown:
        raise ValueError(f"unknown {', '.join(unknown)}: made by a newer prioritizer?")
    knots = tuple((float(x), float(y)) for x, y in document.get("knots", ()))
    adults = from_document({**document["adults"], "id": ""}) if document.get("adults") is not None else None
    if adults is not None and adults.adults is not None:
        raise ValueError("the map for adults holds a map for adults")
    found = Calibration(**{**document, "knots": knots, "adults": adults})
    limits = [] if found.local_limit is None else [found.local_limit]
    numbers = np.array(
        [found.slope, found.intercept, found.t_high, found.t_low, *limits, *(value for knot in knots for value in knot)], dtype=float
    )
    if not np.isfinite(numbers).all() or found.slope <= 0:
        raise ValueError("a calibration has finite numbers and a slope above 0")
    x, y = np.array(knots).T if knots else (np.zeros(0), np.zeros(0))
    if (np.diff(x) <= 0).any() or (np.diff(y) < 0).any() or ((y <= 0) | (y >= 1)).any():
        raise ValueError("the knots of a calibration rise, and lie between 0 and 1")
    return found


def interpolated(logits: Float64, knots: Knots) -> Float64:
    """Straight lines between the knots, constant beyond the first and the last."""
    x, y = np.array(knots).T
    found: Float64 = np.interp(logits, x, y)
    return found


def fit_isotonic(logits: Float64, labels: Float64) -> Knots:
    """Pool adjacent violators: the rising step function nearest to the labels, as the corners of its blocks.

    Equal logits are one case with their mean label. Probabilities stay 1 / (N + 2) away from 0 and 1: no count of cases proves a
    probability of 0. Between two blocks the map is a straight line, beyond the outer ones it is constant.
    """
    x, index, weights = np.unique(logits, return_inverse=True, return_counts=True)
    means = np.bincount(index, weights=labels) / weights
    blocks: list[list[float]] = []  # mean, weight, first, last
    for place, (mean, weight) in enumerate(zip(means.tolist(), weights.tolist(), strict=True)):
        blocks.append([mean, weight, place, place])
        while len(blocks) > 1 and blocks[-2][0] >= blocks[-1][0]:
            mean_b, weight_b, _, last = blocks.pop()
            mean_a, weight_a, first, _ = blocks.pop()
            weight_ab = weight_a + weight_b
            blocks.append([(mean_a * weight_a + mean_b * weight_b) / weight_ab, weight_ab, first, last])
    edge = 1 / (len(logits) + 2)
    corners = [(float(x[int(end)]), float(np.clip(b[0], edge, 1 - edge))) for b in blocks for end in dict.fromkeys((b[2], b[3]))]
    return tuple(corners)


# --- thresholds and figures ----------------------------------------------------------------------------------------


def threshold_at_sensitivity(probabilities: Float64, labels: Float64, target: float) -> float:
    """The highest threshold whose sensitivity on these cases is at least `target`."""
    positive = np.sort(probabilities[labels == 1])
    if not len(positive):
        raise ValueError("no positive case: no threshold has a sensitivity")
    allowed_misses = int(np.floor((1 - target) * len(positive) + 1e-9))
    return float(positive[min(allowed_misses, len(positive) - 1)])
