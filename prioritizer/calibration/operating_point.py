"""Where studies are raised: the threshold by target sensitivity or by flags a day, never measured on the cases it was set by."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prioritizer.calibration.local_fit import Sample, folds_of
from prioritizer.calibration.maps import Calibration, threshold_at_sensitivity
from prioritizer.statistics.logistic import Float64
from prioritizer.statistics.proportion import Clusters, clusters_of, effective_number, proportion_interval

MIN_FOR_SENSITIVITY = 50
"""Patients with pneumonia below which no sensitivity is claimed: the threshold keeps raising the studies it raises now."""
MIN_FOR_LOW = 100
LOW_SENSITIVITY = 0.99
RULE = (
    "The threshold is set on all cases. Its sensitivity and specificity are measured in cross-validation by patient, each case at a "
    "threshold set without its patient; intervals are exact (Clopper and Pearson), of as many independent cases "
    "as the patients' images are worth."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What the site asks of the threshold."""

    sensitivity: float = 0.95
    flags_per_day: float | None = None
    studies_per_day: float | None = None

    @property
    def share(self) -> float | None:
        """The largest share of studies that may be raised, where the site gave flags a day."""
        return self.flags_per_day / self.studies_per_day if self.flags_per_day is not None and self.studies_per_day else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """`hits` of `of`, with the exact 95 % interval, by patient where patients are known."""

    hits: int
    of: int
    clusters: Clusters = ()
    """(hits, cases) of each patient; empty: every case is of a patient of its own."""

    @classmethod
    def of_patients(cls, hits: NDArray[np.bool_], patients: Sequence[str]) -> Share:
        """The share of these cases that are hits, with the patient of each."""
        return cls(hits=int(hits.sum()), of=len(hits), clusters=clusters_of(hits, patients))

    @property
    def value(self) -> float:
        """The share; NaN of none."""
        return self.hits / self.of if self.of else float("nan")

    @property
    def low(self) -> float:
        """The lower bound."""
        return proportion_interval(self.hits, self.of, clusters=self.clusters)[0]

    @property
    def high(self) -> float:
        """The upper bound."""
        return proportion_interval(self.hits, self.of, clusters=self.clusters)[1]

    @property
    def patients(self) -> int:
        """How many patients the cases are of."""
        return len(self.clusters) or self.of

    @property
    def worth(self) -> float:
        """How many independent cases these are worth."""
        return effective_number(self.clusters) if self.clusters else float(self.of)

    def __str__(self) -> str:
        of_patients = f" of {self.patients} patients" if self.patients < self.of else ""
        return f"{self.value:.3f} ({self.low:.3f}-{self.high:.3f}), {self.hits} of {self.of}{of_patients}"


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatingPoint:
    """The proposed thresholds and what they did on cases they were not set by."""

    t_high: float
    t_low: float
    how: str
    sensitivity: Share
    specificity: Share
    raised: float
    """Expected share of the site's studies that are raised."""


Setting = Callable[[Float64, Float64, Float64], float]
"""Logits, labels and weights to the logit at and above which a study is raised."""


def operating_point(
    sample: Sample, before: Calibration, after: Calibration, wish: Wish, prevalence: float | None, seed: int = 0
) -> OperatingPoint:
    """Thresholds for the map `after`, measured cross-fitted; `prevalence` is the site's where the cohort was enriched."""
    setting, how = _setting(sample, before, wish)
    weights = _weights(sample.labels, prevalence)
    folds = folds_of(sample, seed)
    raised = np.zeros(len(sample.labels), dtype=np.bool_)
    for number in np.unique(folds):
        test = folds == number
        raised[test] = sample.logits[test] >= setting(sample.logits[~test], sample.labels[~test], weights[~test])
    t_high = probability_at(after, setting(sample.logits, sample.labels, weights))
    positive = sample.labels == 1
    return OperatingPoint(
        t_high=t_high,
        t_low=min(t_high, _t_low(sample, before, after)),
        how=how,
        sensitivity=_share(raised, positive, sample.patients),
        specificity=_share(~raised, ~positive, sample.patients),
        raised=float(np.average(raised, weights=weights)),
    )


def _share(hits: NDArray[np.bool_], among: NDArray[np.bool_], patients: Sequence[str]) -> Share:
    return Share.of_patients(hits[among], [patients[i] for i in np.flatnonzero(among).tolist()])


def kept(before: Calibration, after: Calibration) -> tuple[float, float]:
    """t_high and t_low of `after` that part the studies as those of `before` do; what a flat stretch of a map ties is raised."""
    t_high, t_low = (probability_at(after, before.logit_at(t)) for t in (before.t_high, before.t_low))
    return t_high, min(t_high, t_low)


def by_flags(logits: Float64, weights: Float64, share: float) -> float:
    """The lowest logit at and above which at most `share` of the weight lies; just above the highest where even one case is too much."""
    order = np.argsort(-logits, kind="stable")
    ordered, reached = logits[order], np.cumsum(weights[order]) / weights.sum()
    last_of_tie = np.append(ordered[1:] != ordered[:-1], True)
    within = np.flatnonzero(last_of_tie & (reached <= share + 1e-12))
    return float(ordered[within[-1]]) if len(within) else float(np.nextafter(ordered[0], np.inf))


def probability_at(calibration: Calibration, logit: float) -> float:
    """The probability at a logit, kept within what a threshold may be; an infinite logit raises nothing or everything."""
    if logit == np.inf:
        return float(np.nextafter(1.0, 2.0))
    return 0.0 if logit == -np.inf else calibration.probability(logit)


def _setting(sample: Sample, before: Calibration, wish: Wish) -> tuple[Setting, str]:
    share, events = wish.share, sample.patients_with(1)
    if share is not None:
        said = f"at most {wish.flags_per_day:g} of {wish.studies_per_day:g} studies a day are raised"
        return lambda x, y, w: by_flags(x, w, share), said
    if events < MIN_FOR_SENSITIVITY:
        at = before.logit_at(before.t_high)
        said = f"raises the studies that are raised now: {events} patients with pneumonia carry no claim of sensitivity"
        return lambda x, y, w: at, f"{said} ({MIN_FOR_SENSITIVITY} are needed)"
    return lambda x, y, w: threshold_at_sensitivity(x, y, wish.sensitivity), f"target sensitivity {wish.sensitivity:g}"


def _t_low(sample: Sample, before: Calibration, after: Calibration) -> float:
    if sample.patients_with(1) < MIN_FOR_LOW:
        return kept(before, after)[1]
    return probability_at(after, threshold_at_sensitivity(sample.logits, sample.labels, LOW_SENSITIVITY))


def _weights(labels: Float64, prevalence: float | None) -> Float64:
    """What each case stands for at the site: 1, or as many as brings the cohort to the site's prevalence."""
    if prevalence is None:
        return np.ones(len(labels))
    mix = float(labels.mean())
    return np.where(labels == 1, prevalence / mix, (1 - prevalence) / (1 - mix))


def reclassified(before: Sequence[str], after: Sequence[str], labels: Float64) -> list[tuple[str, str, int, int]]:
    """(band before, band after, negatives, positives) of every pair of bands that holds a case."""
    pairs = Counter(zip(before, after, labels.astype(int).tolist(), strict=True))
    moves = sorted({(old, new) for old, new, _ in pairs})
    return [(old, new, pairs[old, new, 0], pairs[old, new, 1]) for old, new in moves]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trade:
    """What a threshold anywhere would give, measured once: float64, one shape, `logit` rising.

    In logits, so that it holds whatever calibration is in force: a monotone map changes the number that a threshold is called by,
    not which cases lie above it.
    """

    logit: Float64
    sensitivity: Float64
    specificity: Float64

    def at(self, logit: float) -> tuple[float, float]:
        """Sensitivity and specificity of raising from this logit on."""
        return self._between(logit, self.sensitivity), self._between(logit, self.specificity)

    def _between(self, logit: float, shares: Float64) -> float:
        # A straight line between two equal points may leave them by the last bit: no share is above all that were counted.
        return float(np.clip(np.interp(logit, self.logit, shares), shares.min(), shares.max()))


def trade(logits: Float64, labels: Float64, points: int = 101) -> Trade:
    """Sensitivity and specificity at `points` quantiles of the logits; both classes must be there."""
    at = np.unique(np.quantile(logits, np.linspace(0, 1, points)))
    positive, negative = np.sort(logits[labels == 1]), np.sort(logits[labels == 0])
    below = np.searchsorted(positive, at, side="left") / len(positive)
    return Trade(logit=at, sensitivity=1.0 - below, specificity=np.searchsorted(negative, at, side="left") / len(negative))
