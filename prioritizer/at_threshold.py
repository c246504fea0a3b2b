"""What a threshold does: the four counts, their shares with exact intervals, and what a mark means at a given prevalence."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from prioritizer.measures import Float64
from prioritizer.operating_point import LEAST_FOR_SENSITIVITY, Share


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Cases at or above and below a threshold. Intervals of their shares are exact (Clopper and Pearson 1934)."""

    threshold: float
    caught: int
    """Positives raised."""
    missed: int
    """Positives not raised."""
    alarms: int
    """Negatives raised."""
    passed: int
    """Negatives not raised."""

    @property
    def sensitivity(self) -> Share:
        """Of the positives, those raised."""
        return Share(hits=self.caught, of=self.caught + self.missed)

    @property
    def specificity(self) -> Share:
        """Of the negatives, those not raised."""
        return Share(hits=self.passed, of=self.passed + self.alarms)

    @property
    def ppv(self) -> Share:
        """Of those raised, the positives; one minus the false discovery rate."""
        return Share(hits=self.caught, of=self.caught + self.alarms)

    @property
    def npv(self) -> Share:
        """Of those not raised, the negatives; one minus the false omission rate."""
        return Share(hits=self.passed, of=self.passed + self.missed)

    @property
    def holds_claims(self) -> bool:
        """There are enough patients with and without the finding to say what the threshold does."""
        return min(self.caught + self.missed, self.alarms + self.passed) >= LEAST_FOR_SENSITIVITY

    @property
    def sentence(self) -> str:
        """What a radiologist would read, or why nothing can be said."""
        if not self.holds_claims:
            fewer = min(self.caught + self.missed, self.alarms + self.passed)
            return f"No claim: the rarer class has {fewer} cases, {LEAST_FOR_SENSITIVITY} are needed to say what a threshold does."
        raised, rest = _of_100(self.ppv), _of_100(self.npv)
        first = f"Of 100 films raised, {raised} show pneumonia and {100 - raised} do not" if self.ppv.of else "No film is raised"
        second = f"of 100 not raised, {100 - rest} show it" if self.npv.of else "every film is raised"
        low = f"{100 * self.sensitivity.low:.0f}"
        return f"{first}; {second}. {_of_100(self.sensitivity)} of 100 with pneumonia are raised (at least {low}, with 97.5 % certainty)."


def _of_100(share: Share) -> int:
    return round(100 * share.value) if share.of else 0


def counts(labels: Float64, probabilities: Float64, threshold: float) -> Counts:
    """The four counts at a threshold."""
    raised, positive = probabilities >= threshold, labels == 1
    return Counts(
        threshold=threshold,
        caught=int((raised & positive).sum()),
        missed=int((~raised & positive).sum()),
        alarms=int((raised & ~positive).sum()),
        passed=int((~raised & ~positive).sum()),
    )


def predictive_values(sensitivity: Float64, specificity: Float64, prevalence: float) -> tuple[Float64, Float64]:
    """PPV and NPV at another prevalence by Bayes' rule, of any one shape; NaN where nothing is, or nothing is not, raised."""
    caught, missed = sensitivity * prevalence, (1 - sensitivity) * prevalence
    alarms, passed = (1 - specificity) * (1 - prevalence), specificity * (1 - prevalence)
    with np.errstate(invalid="ignore", divide="ignore"):
        return caught / (caught + alarms), passed / (passed + missed)
