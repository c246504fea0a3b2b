"""What a threshold does: the four counts, their shares with exact intervals, and what a mark means at a given prevalence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from prioritizer.calibration.operating_point import MIN_FOR_SENSITIVITY, Share
from prioritizer.statistics.intervals import Float64

CAUGHT, MISSED, ALARMS, PASSED = range(4)


@dataclass(frozen=True, slots=True, kw_only=True)
class ThresholdCounts:
    """Cases at or above and below a threshold. Intervals of their shares are exact (Clopper and Pearson 1934), by patient."""

    threshold: float
    caught: int
    """Positives raised."""
    missed: int
    """Positives not raised."""
    alarms: int
    """Negatives raised."""
    passed: int
    """Negatives not raised."""
    by_patient: tuple[tuple[int, int, int, int], ...] = ()
    """(caught, missed, alarms, passed) of each patient; empty: every case is of a patient of its own."""

    @property
    def sensitivity(self) -> Share:
        """Of the positives, those raised."""
        return self._share(CAUGHT, MISSED)

    @property
    def specificity(self) -> Share:
        """Of the negatives, those not raised."""
        return self._share(PASSED, ALARMS)

    @property
    def ppv(self) -> Share:
        """Of those raised, the positives; one minus the false discovery rate."""
        return self._share(CAUGHT, ALARMS)

    @property
    def npv(self) -> Share:
        """Of those not raised, the negatives; one minus the false omission rate."""
        return self._share(PASSED, MISSED)

    @property
    def holds_claims(self) -> bool:
        """There are enough patients with and without the finding to say what the threshold does."""
        return self._rarer >= MIN_FOR_SENSITIVITY

    @property
    def _rarer(self) -> int:
        """Patients of the rarer class: repeated images of one patient are one piece of evidence."""
        return min(self.sensitivity.patients, self.specificity.patients)

    def _share(self, hit: int, other: int) -> Share:
        counted = (self.caught, self.missed, self.alarms, self.passed)
        clusters = tuple((one[hit], one[hit] + one[other]) for one in self.by_patient if one[hit] + one[other])
        return Share(hits=counted[hit], of=counted[hit] + counted[other], clusters=clusters)

    @property
    def sentence(self) -> str:
        """What a radiologist would read, or why nothing can be said."""
        if not self.holds_claims:
            return f"No claim: the rarer class has {self._rarer} patients, {MIN_FOR_SENSITIVITY} are needed to say what a threshold does."
        raised, rest = _of_100(self.ppv), _of_100(self.npv)
        first = f"Of 100 films raised, {raised} show pneumonia and {100 - raised} do not" if self.ppv.of else "No film is raised"
        second = f"of 100 not raised, {100 - rest} show it" if self.npv.of else "every film is raised"
        low = f"{100 * self.sensitivity.low:.0f}"
        return f"{first}; {second}. {_of_100(self.sensitivity)} of 100 with pneumonia are raised (at least {low}, with 97.5 % certainty)."


def _of_100(share: Share) -> int:
    return round(100 * share.value) if share.of else 0


def counts(labels: Float64, probabilities: Float64, threshold: float, patients: Sequence[str] = ()) -> ThresholdCounts:
    """The four counts at a threshold; `patients`: the patient of each case, empty where each is of another."""
    raised, positive = probabilities >= threshold, labels == 1
    kind = np.where(positive, np.where(raised, CAUGHT, MISSED), np.where(raised, ALARMS, PASSED))
    found: dict[str, list[int]] = {}
    for patient, its in zip(patients, kind.tolist(), strict=bool(patients)):
        found.setdefault(patient, [0, 0, 0, 0])[its] += 1
    return ThresholdCounts(
        threshold=threshold,
        caught=int((raised & positive).sum()),
        missed=int((~raised & positive).sum()),
        alarms=int((raised & ~positive).sum()),
        passed=int((~raised & ~positive).sum()),
        by_patient=tuple((one[CAUGHT], one[MISSED], one[ALARMS], one[PASSED]) for one in found.values()),
    )


def predictive_values(sensitivity: Float64, specificity: Float64, prevalence: float) -> tuple[Float64, Float64]:
    """PPV and NPV at another prevalence by Bayes' rule, of any one shape; NaN where nothing is, or nothing is not, raised."""
    caught, missed = sensitivity * prevalence, (1 - sensitivity) * prevalence
    alarms, passed = (1 - specificity) * (1 - prevalence), specificity * (1 - prevalence)
    with np.errstate(invalid="ignore", divide="ignore"):
        return caught / (caught + alarms), passed / (passed + missed)
