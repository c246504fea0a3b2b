"""May a network be put to work? One of three words for each cohort, by floors that stand here and nowhere else; the worst word counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from prioritizer.advice import AUC_FLOOR, CARE, FIT, NOT, WORST_ECE
from prioritizer.at_threshold import Counts
from prioritizer.measures import Figure
from prioritizer.recalibration import MODERATE

LEAST_CASES = 30
"""Patients with and without pneumonia below which no cohort carries a verdict: repeated films of one are one piece of evidence."""
SENSITIVITY_FLOOR, SPECIFICITY_FLOOR = 0.80, 0.50
SLOPES = (0.5, 2.0)
MOST_REFUSED = 0.20
RULE = (
    f"Do not activate: fewer than {LEAST_CASES} patients with or without pneumonia; or the network has seen these films; or the 95 % "
    f"interval of the ROC-AUC lies wholly below {AUC_FLOOR:g}, of the sensitivity at the threshold below {SENSITIVITY_FLOOR:g}, or of the "
    f"specificity below {SPECIFICITY_FLOOR:g}. Activate with care: one of these intervals reaches below its floor; calibration error "
    f"(equal counts) above {WORST_ECE:g}, or slope outside {SLOPES[0]:g} to {SLOPES[1]:g}; fewer than {MODERATE} patients with or without "
    f"pneumonia, so that calibration cannot be judged (Van Calster 2019); ROC-AUC below {AUC_FLOOR:g} when matched by file statistics, "
    f"on a disturbed copy or without the border; more than {MOST_REFUSED:.0%} refused by the guard; or films of the training's own source "
    "only. Otherwise: fit to activate. The worst cohort counts."
)
_ORDER = (FIT, CARE, NOT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What is known of a network on one cohort. Figures by the keys of `measures.NAMES`, but `auc` with its own interval."""

    cohort: str
    events: int
    non_events: int
    auc: Figure
    figures: Mapping[str, Figure]
    at_threshold: Counts
    own_source: bool
    """The films come from the data the network was trained on, of other patients."""
    seen: bool
    """The network was trained or chosen on these very films, or its threshold was."""
    controls: Mapping[str, float]
    """ROC-AUCs from which a shortcut is taken away, by name."""
    refused: float | None = None
    """Share refused by the guard; None without one."""
    patients: tuple[int, int] | None = None
    """Patients with a film that shows pneumonia, and with one that does not; None: every film is of a patient of its own."""

    @property
    def patients_of_each(self) -> tuple[int, int]:
        """Patients with pneumonia, and without."""
        return self.patients or (self.events, self.non_events)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitness:
    """The word and why."""

    word: str
    said: str
    rule: str = RULE


def judge(evidence: Sequence[Evidence]) -> Fitness:
    """The worst word of all cohorts, and every reason for it."""
    own_only = all(one.own_source for one in evidence)
    found = [(one, *_of_one(one, own_only=own_only)) for one in evidence]
    word = max((word for _, word, _ in found), key=_ORDER.index)
    said = [f"{one.cohort}: {'; '.join(reasons)}." for one, its, reasons in found if its == word and reasons]
    good = [f"{one.cohort}: ROC-AUC {one.auc}, sensitivity {one.at_threshold.sensitivity.value:.3f}." for one, _, _ in found]
    return Fitness(word=word, said=" ".join(said or good))


def _of_one(one: Evidence, *, own_only: bool) -> tuple[str, list[str]]:
    against = _against(one)
    if against:
        return NOT, against
    care = _care(one, own_only=own_only)
    return (CARE, care) if care else (FIT, [])


def _against(one: Evidence) -> list[str]:
    have, have_not = one.patients_of_each
    if min(have, have_not) < LEAST_CASES:
        return [f"{have} patients with and {have_not} without pneumonia are too few to judge, {LEAST_CASES} of each are needed"]
    reasons = ["the network, its calibration or its threshold was made on these films: their figures flatter it"] if one.seen else []
    return reasons + [f"{name} {text} lies below {floor:g}" for name, text, _, high, floor in _floors(one) if high < floor]


def _care(one: Evidence, *, own_only: bool) -> list[str]:
    slope, ece = one.figures["calibration_slope"].value, one.figures["ece_equal_mass"].value
    reasons = [f"{name} {text} reaches below {floor:g}" for name, text, low, _, floor in _floors(one) if low < floor]
    have, have_not = one.patients_of_each
    if min(have, have_not) < MODERATE:
        few = f"{have} patients with and {have_not} without pneumonia"
        reasons.append(f"{few}: too few to judge calibration, {MODERATE} of each are needed")
    if ece > WORST_ECE:
        reasons.append(f"calibration error {ece:.3f} is above {WORST_ECE:g}")
    if not SLOPES[0] <= slope <= SLOPES[1]:
        reasons.append(f"calibration slope {slope:.2f} is outside {SLOPES[0]:g} to {SLOPES[1]:g}")
    reasons += [f"ROC-AUC {value:.2f} {name}" for name, value in one.controls.items() if value < AUC_FLOOR]
    if one.refused is not None and one.refused > MOST_REFUSED:
        reasons.append(f"{one.refused:.0%} of the films are unlike the training data")
    if own_only:
        reasons.append("films of the training's own source: they say nothing of another hospital")
    return reasons


def _floors(one: Evidence) -> list[tuple[str, str, float, float, float]]:
    """(figure, its text, lower bound, upper bound, floor) of each figure that has a floor."""
    sens, spec = one.at_threshold.sensitivity, one.at_threshold.specificity
    return [
        ("ROC-AUC", str(one.auc), one.auc.low, one.auc.high, AUC_FLOOR),
        ("sensitivity", str(sens), sens.low, sens.high, SENSITIVITY_FLOOR),
        ("specificity", str(spec), spec.low, spec.high, SPECIFICITY_FLOOR),
    ]
