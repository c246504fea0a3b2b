"""May a network, or a calibration, be put to work? One of three words for each cohort, by floors that stand here; the worst word counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from prioritizer.calibration.local_fit import MIN_CLASS, MODERATE
from prioritizer.calibration.operating_point import MIN_FOR_SENSITIVITY, Share
from prioritizer.statistics.intervals import Figure

FIT, CARE, NOT = "fit to activate", "activate with care", "do not activate"
AUC_FLOOR, SENSITIVITY_FLOOR, SPECIFICITY_FLOOR = 0.75, 0.80, 0.50
WORST_ECE = 0.1
SLOPES = (0.5, 2.0)
MAX_REFUSED = 0.20
_ORDER = (FIT, CARE, NOT)


def rule_of(auc_floor: float = AUC_FLOOR) -> str:
    """The rule as reports state it; the floor of the ROC-AUC may be the site's own."""
    return (
        f"Do not activate: fewer than {MIN_CLASS} patients with or without pneumonia; or the films were seen in training; or the 95 % "
        f"interval of the ROC-AUC lies wholly below {auc_floor:g}, or of the sensitivity at the threshold below {SENSITIVITY_FLOOR:g}. "
        f"Activate with care: one of these intervals reaches below its floor, or that of the sensitivity lies below it where the site "
        f"chose how much is raised; that of the specificity reaches below {SPECIFICITY_FLOOR:g}; "
        f"fewer than {MIN_FOR_SENSITIVITY} patients with or without pneumonia; "
        f"calibration error (equal counts) above {WORST_ECE:g}, or slope outside {SLOPES[0]:g} to {SLOPES[1]:g}; no labels to judge by, "
        f"or text-mined ones; the scope ignored; ROC-AUC below {auc_floor:g} when matched by file statistics, on a disturbed copy or "
        f"without the border; more than {MAX_REFUSED:.0%} refused by the guard; or films of the training's own source only. Otherwise: "
        f"fit to activate. The worst cohort counts. With fewer than {MODERATE} patients of a class the form of the calibration curve "
        "cannot be judged (Van Calster 2019)."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What is known of a network on one cohort. Figures by the keys of `measures.NAMES`, but `auc` with its own interval."""

    cohort: str
    events: int
    non_events: int
    auc: Figure
    figures: Mapping[str, Figure]
    sensitivity: Share
    specificity: Share
    """At the threshold, which was never set by the cases that they are measured on."""
    own_source: bool = False
    """The films come from the data the network was trained on, of other patients."""
    seen: bool = False
    """The network was trained or chosen on these very films, or its threshold was."""
    scope_ignored: bool = False
    """Films outside the scope were judged too."""
    threshold_chosen: bool = False
    """The site said how many studies are to be raised, or at which lower sensitivity: a low one is then its wish."""
    mined: bool = False
    """Labels were text-mined: they are wrong often enough to hide a good network."""
    controls: Mapping[str, float] = field(default_factory=dict)
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
    """The word, the sentence that says why, and the rule."""

    word: str
    said: str
    rule: str


def judge(evidence: Sequence[Evidence], *, auc_floor: float = AUC_FLOOR) -> Fitness:
    """The worst word of all cohorts, and every reason for it."""
    own_only = all(one.own_source for one in evidence)
    found = [(one, *_of_one(one, auc_floor, own_only=own_only)) for one in evidence]
    word = max((word for _, word, _ in found), key=_ORDER.index)
    said = [_sentence(one, reasons) for one, its, reasons in found if its == word and reasons]
    good = [f"{_named(one)}ROC-AUC {one.auc}, sensitivity {one.sensitivity.value:.3f}." for one, _, _ in found]
    return Fitness(word=word, said=" ".join(said or good), rule=rule_of(auc_floor))


def without_labels(auc_floor: float = AUC_FLOOR) -> Fitness:
    """The word on what was made without a label: it may not be wrong, but nobody can know."""
    said = "Shifted to a stated prevalence without labels: whether the model separates here is not known."
    return Fitness(word=CARE, said=said, rule=rule_of(auc_floor))


def worst(found: Sequence[Fitness]) -> Fitness:
    """The most careful of them."""
    return max(found, key=lambda one: _ORDER.index(one.word))


def _named(one: Evidence) -> str:
    return f"{one.cohort}: " if one.cohort else ""


def _sentence(one: Evidence, reasons: Sequence[str]) -> str:
    text = "; ".join(reasons)
    return f"{_named(one)}{text if one.cohort else text[:1].upper() + text[1:]}."


def _of_one(one: Evidence, auc_floor: float, *, own_only: bool) -> tuple[str, list[str]]:
    against = _against(one, auc_floor)
    if against:
        return NOT, against
    care = _care(one, auc_floor, own_only=own_only)
    return (CARE, care) if care else (FIT, [])


def _against(one: Evidence, auc_floor: float) -> list[str]:
    have, have_not = one.patients_of_each
    if min(have, have_not) < MIN_CLASS:
        return [f"{have} patients with and {have_not} without pneumonia are too few to judge, {MIN_CLASS} of each are needed"]
    reasons = ["the network, its calibration or its threshold was made on these films: their figures flatter it"] if one.seen else []
    if one.auc.high < auc_floor:
        reasons.append(
            f"ROC-AUC {one.auc} lies below {auc_floor:g}: the model does not separate pneumonia from the rest in these images, and no "
            "calibration can mend that. Leave AI in stage shadow or switch it off for this population"
        )
    if one.sensitivity.high < SENSITIVITY_FLOOR and not one.threshold_chosen:
        reasons.append(f"sensitivity {one.sensitivity} lies below {SENSITIVITY_FLOOR:g}")
    return reasons


def _care(one: Evidence, auc_floor: float, *, own_only: bool) -> list[str]:
    reasons = _of_figures(one, auc_floor)
    if one.mined:
        reasons.append("labels are text-mined, which are wrong too often to judge by")
    if one.scope_ignored:
        reasons.append("the model's scope was ignored: these figures are for evaluation")
    reasons += [f"ROC-AUC {value:.2f} {name}" for name, value in one.controls.items() if value < auc_floor]
    if one.refused is not None and one.refused > MAX_REFUSED:
        reasons.append(f"{one.refused:.0%} of the films are refused by the guard")
    if own_only:
        reasons.append("films of the training's own source: they say nothing of another hospital")
    return reasons


def _of_figures(one: Evidence, auc_floor: float) -> list[str]:
    """What of the figures asks for care."""
    slope, ece = one.figures["calibration_slope"].value, one.figures["ece_equal_mass"].value
    reasons = []
    if one.auc.low < auc_floor:
        reasons.append(f"ROC-AUC {one.auc} reaches below {auc_floor:g}: it may separate too poorly, and no calibration mends that")
    for name, share, floor in (("sensitivity", one.sensitivity, SENSITIVITY_FLOOR), ("specificity", one.specificity, SPECIFICITY_FLOOR)):
        if share.low < floor:
            reasons.append(f"{name} {share} reaches below {floor:g}")
    have, have_not = one.patients_of_each
    if min(have, have_not) < MIN_FOR_SENSITIVITY:
        few = f"{have} patients with and {have_not} without pneumonia"
        reasons.append(f"{few}: too few to claim a sensitivity, {MIN_FOR_SENSITIVITY} of each are needed")
    if ece > WORST_ECE:
        reasons.append(f"the calibration error is {ece:.3f}, above {WORST_ECE:g}")
    if not SLOPES[0] <= slope <= SLOPES[1]:
        reasons.append(f"calibration slope {slope:.2f} is outside {SLOPES[0]:g} to {SLOPES[1]:g}")
    return reasons
