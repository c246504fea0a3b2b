"""Tables and plots of the recalibration report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from prioritizer.calibration import local_fit, operating_point
from prioritizer.reports import assessment, plots
from prioritizer.reports.page import Plot, Section, Table

if TYPE_CHECKING:
    from prioritizer.recalibration.outcome import RecalibrationOutcome
NAMES = {
    "roc_auc": "ROC-AUC",
    "pr_auc": "PR-AUC",
    "brier": "Brier score",
    "log_loss": "Log loss, nats",
    "ece": "Calibration error of P(positive), ten equal widths",
    "ece_equal_mass": "Calibration error of P(positive), ten equal counts",
    "calibration_slope": "Calibration slope (1 is right)",
    "calibration_intercept": "Calibration intercept (0 is right)",
}


def of_methods(outcome: RecalibrationOutcome) -> Section:
    """Every method that was compared, and why one was chosen."""
    fit = outcome.fit
    assert fit is not None
    rows = [
        (t.method + (" (winner)" if t.method == fit.winner else ""), "yes" if t.allowed else "no", t.why, t.log_loss, t.gain)
        for t in fit.trials
    ]
    sample = outcome.sample if outcome.gathered else None
    text = [local_fit.RULE]
    if sample is not None and sample.rarer < local_fit.MODERATE:
        said = f"{sample.rarer} patients in the rarer class: enough to mend an intercept and perhaps a slope, too few to judge the curve"
        text.append(f"{said} (Van Calster 2019 asks for {local_fit.MODERATE} with and {local_fit.MODERATE} without).")
    if outcome.request.label_noise:
        text.append(
            "Where positive labels are false, each is worth the chance that it is true. Curves, log losses and calibration errors of this "
            "page are of the labels as they are; the candidate says the chance of the finding. The threshold is that of the labels: its "
            "sensitivity for the finding is no lower where false positives score lower."
        )
    if outcome.noisy:
        text.append(outcome.noisy)
    header = ("method", "allowed", "why", "log loss, cross-validated", "gain over changing nothing")
    table = table_of("Methods; 95 % intervals by patient", header, rows)
    return Section(title="Which map", answers="R7, R19", text=tuple(text), tables=(table,))


def of_performance(outcome: RecalibrationOutcome) -> Section:
    """Figures before and after."""
    before, after = outcome.figures_before or {}, outcome.figures_after or {}
    rows: list[tuple[object, ...]] = [("ROC-AUC of the logits, that no map changes", outcome.auc, outcome.auc)]
    rows += [(name, before[key], after[key]) for key, name in NAMES.items() if key in before and key != "roc_auc"]
    header = ("", "before", "after, cross-validated")
    text = ["Each case is judged by a map that was fitted without its patient; intervals are bootstrapped by patient."]
    if outcome.fit is not None and outcome.fit.offset:
        text.append("The cohort was enriched: both columns are at the cohort's mix, the candidate itself is for the stated prevalence.")
    return Section(title="Before and after", answers="R8, R10, R21", text=tuple(text), tables=(table_of("Figures", header, rows),))


def of_diagrams(outcome: RecalibrationOutcome) -> Section:
    """Reliability diagrams before and after."""
    found = outcome.assessment
    assert found is not None
    sides = (("before", found.reliability_before), ("after", found.reliability_after))
    smooth = [
        plots.Curve(name=f"{name}, smooth", x=of.smooth.predicted, y=of.smooth.observed, low=of.smooth.low, high=of.smooth.high)
        for name, of in sides
    ]
    bins = [
        plots.Curve(
            name=f"{name}, ten equal counts", x=[b.predicted for b in of.bins], y=[b.observed for b in of.bins], marker="o", dashed=True
        )
        for name, of in sides
    ]
    unit = (0.0, 1.0)
    drawn = plots.lines(
        [*smooth, *bins], x="predicted probability", y="observed rate", diagonal=True, x_range=unit, y_range=unit, size=(6.4, 5.0)
    )
    spread = plots.histograms([(name, of.probabilities) for name, of in sides], x="predicted probability", x_range=unit)
    alt = "Observed rate of pneumonia over predicted probability, before and after, against the diagonal of perfect calibration"
    shown = (
        Plot(caption="Reliability before and after (cross-validated), with 95 % bands by patient", svg=drawn, alt=alt),
        Plot(caption="Where the probabilities lie", svg=spread, alt="Histograms of the predicted probabilities before and after"),
    )
    return Section(title="Reliability", answers="R10, R21", plots=shown)


def of_thresholds(outcome: RecalibrationOutcome) -> Section:
    """The thresholds, and what they give on the cohort."""
    point, found = outcome.point, outcome.assessment
    assert point is not None
    assert found is not None
    rows = [
        ("t_high", outcome.before.t_high, point.t_high),
        ("t_low (used only where a site demotes)", outcome.before.t_low, point.t_low),
        ("sensitivity at t_high", (outcome.figures_before or {}).get("sensitivity"), point.sensitivity),
        ("specificity at t_high", (outcome.figures_before or {}).get("specificity"), point.specificity),
        ("share of studies raised", (outcome.figures_before or {}).get("share_raised"), point.raised),
    ]
    values = [(f"{one.prevalence:.0%}", one.among_high, one.among_others) for one in found.predictive]
    header = ("prevalence", "of 100 raised, with pneumonia", "of 100 not raised, with pneumonia")
    low = f"Lower bound of the sensitivity: {point.sensitivity.low:.3f}. {operating_point.RULE}"
    tables = (table_of("Thresholds", ("", "before", "proposed, cross-fitted"), rows), table_of("What a mark means", header, values))
    return Section(title="Thresholds", answers="R9, R12", text=(f"How it was set: {point.how}.", low), tables=tables)


def of_worth(outcome: RecalibrationOutcome) -> tuple[Section, ...]:
    """Decision curve and subgroups, of probabilities that no case of the same patient had a part in."""
    found = outcome.assessment
    assert found is not None
    return (
        assessment.decision(found.decision, "the candidate, cross-validated", beside={"before": found.net_benefit_before}),
        assessment.subgroups(found.subgroups, found.auc),
    )


def of_moves(outcome: RecalibrationOutcome) -> Section:
    """Which images of the cohort would change their band."""
    assert outcome.assessment is not None
    text = "Bands of these very images by the calibration before and by the candidate; LOW differs from NEUTRAL only where a site demotes."
    table = table_of("Images", ("before", "after", "without pneumonia", "with pneumonia"), outcome.assessment.moves)
    return Section(title="Which images change their band", answers="R21", text=(text,), tables=(table,))


def table_of(caption: str, header: tuple[str, ...], rows: Sequence[tuple[object, ...]]) -> Table:
    """A table of the report."""
    return Table(caption=caption, header=header, rows=tuple(rows))
