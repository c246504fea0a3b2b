"""May a candidate be activated? Three words, by a rule that was written before any figure was known."""

from __future__ import annotations

from dataclasses import dataclass

from prioritizer.measures import Figure

FIT, CARE, NOT = "fit to activate", "activate with care", "do not activate"
AUC_FLOOR = 0.75
WORST_ECE = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """The word, the sentence that says why, and the rule."""

    word: str
    said: str
    rule: str


def rule_of(floor: float) -> str:
    """The rule as the report states it."""
    return (
        f"ROC-AUC interval wholly below {floor:g}: do not activate. Its point, or its lower end, below {floor:g}; or a cross-validated "
        f"calibration error above {WORST_ECE:g}; or no labels to judge by; or the scope ignored: "
        "activate with care. Otherwise: fit to activate."
    )


def advise(auc: Figure | None, ece: float | None, *, floor: float = AUC_FLOOR, winner: str = "", scope_ignored: bool = False) -> Advice:
    """The advice on a candidate; `auc` and `ece` (cross-validated) are None where there are no labels."""
    rule = rule_of(floor)
    if auc is None or ece is None:
        said = "Shifted to a stated prevalence without labels: whether the model separates here is not known."
        return Advice(word=CARE, said=said, rule=rule)
    if auc.high < floor:
        said = (
            f"ROC-AUC {auc}: the model does not separate pneumonia from the rest in these images, and no calibration can mend that. "
            "Leave AI in stage shadow or switch it off for this population."
        )
        return Advice(word=NOT, said=said, rule=rule)
    reasons = []
    if auc.low < floor:
        reasons.append(f"ROC-AUC {auc} reaches below {floor:g}: it may separate too poorly, and no calibration mends that")
    if ece > WORST_ECE:
        reasons.append(f"The cross-validated calibration error is {ece:.3f}, above {WORST_ECE:g}")
    if scope_ignored:
        reasons.append("The model's scope was ignored: these figures are for evaluation")
    kept = " What applies now is as good as any fit: only thresholds are proposed." if winner == "none" else ""
    if reasons:
        return Advice(word=CARE, said=f"{'. '.join(reasons)}.{kept}", rule=rule)
    return Advice(word=FIT, said=f"ROC-AUC {auc}, cross-validated calibration error {ece:.3f}.{kept}", rule=rule)
