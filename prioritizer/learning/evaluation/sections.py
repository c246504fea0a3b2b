"""The sections on one cohort: separation, thresholds, calibration, usefulness, then those of `control_sections`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from prioritizer.calibration.local_fit import MODERATE
from prioritizer.learning.evaluation import control_sections
from prioritizer.learning.evaluation.evaluate import Evaluation, Judgement
from prioritizer.reports import assessment, plots
from prioritizer.reports.page import Plot, Section, Table, formatted
from prioritizer.statistics import at_threshold, curves
from prioritizer.statistics.at_threshold import ThresholdCounts, counts
from prioritizer.statistics.calibration_error import reliability
from prioritizer.statistics.intervals import Cases, Figure, interval
from prioritizer.statistics.measures import smooth_reliability

PREVALENCES = (0.02, 0.1, 0.3)
"""Shares of pneumonia for which a mark is explained, beside that of the site: a general clinic, a winter, a ward."""
OTHER_THRESHOLDS = (0.1, 0.25, 0.5, 0.75, 0.9)
"""Stated here, not looked for: a threshold found on these films would flatter itself."""
UNIT = (0.0, 1.0)
SQUARE, LOW = (4.2, 3.6), (4.2, 3.0)
"""Inches: two such plots stand side by side on the page."""
MIN_TO_DRAW = 10
"""Patients of each class below which no smooth curve is drawn: it would be the shape of the kernel."""


def sections(found: Evaluation, one: Judgement, title: str) -> tuple[Section, ...]:
    """All of them, in reading order."""
    made = (
        _separation(found, one),
        _thresholds(found, one),
        _calibration(found, one),
        assessment.decision(one.decision, "the network"),
        assessment.subgroups(one.groups, one.auc),
        *_against(one),
        control_sections.shortcuts(one),
        *control_sections.where(found, one),
    )
    return tuple(_titled(section, title) for section in made)


def _titled(section: Section, title: str) -> Section:
    if not title:
        return section
    return Section(
        title=f"{title}{section.title[:1].lower()}{section.title[1:]}" if not section.title.startswith("ROC") else title + section.title,
        answers=section.answers,
        text=section.text,
        tables=section.tables,
        plots=section.plots,
    )


def _separation(found: Evaluation, one: Judgement) -> Section:
    cases, threshold = one.cases, one.calibration.t_high
    # Of the logits: a map with steps ties what the network tells apart.
    scored = replace(cases, probabilities=one.looked.logits)
    roc, pr = curves.roc(scored, found.seed), curves.precision_recall(scored, found.seed)
    at, share = one.at, float(cases.labels.mean())
    point = plots.Curve(name="at t_high", x=[1 - at.specificity.value], y=[at.sensitivity.value], marker="o")
    drawn = (
        Plot(
            caption=f"ROC curve with its 95 % band, area {one.auc}",
            svg=plots.lines(
                [_band("network", roc), point], x="1 - specificity", y="sensitivity", diagonal=True, x_range=UNIT, y_range=UNIT, size=SQUARE
            ),
            alt=f"ROC curve with area {one.auc}",
        ),
        Plot(
            caption=f"Precision, area {one.figures['pr_auc']}",
            svg=plots.lines(
                [_band("network", pr), plots.Curve(name="chance", x=[0, 1], y=[share, share], dashed=True)],
                x="sensitivity",
                y="precision",
                x_range=UNIT,
                y_range=UNIT,
                size=SQUARE,
            ),
            alt=f"Precision-recall curve with area {one.figures['pr_auc']}",
        ),
        Plot(
            caption="Probabilities by class; dashed: t_high",
            svg=plots.histograms(_by_class(cases), x="probability of pneumonia", x_range=UNIT, vertical=min(threshold, 1.0), size=LOW),
            alt="Histograms of the probability for films with and without pneumonia",
        ),
    )
    return Section(title="Separation", answers="R8", plots=drawn)


def _band(name: str, band: curves.BandedCurve) -> plots.Curve:
    return plots.Curve(name=name, x=band.x, y=band.y, low=band.low, high=band.high)


def _by_class(cases: Cases) -> list[tuple[str, Any]]:
    named = (("with pneumonia", 1), ("without", 0))
    return [(name, cases.probabilities[cases.labels == label]) for name, label in named]


def _thresholds(found: Evaluation, one: Judgement) -> Section:
    cases, calibration, at = one.cases, one.calibration, one.at
    low = counts(cases.labels, cases.probabilities, calibration.t_low, cases.patients)
    named = [(f"t_high {at.threshold:.3f}", at), (f"t_low {low.threshold:.3f}", low)]
    named += [(f"{value:g}", counts(cases.labels, cases.probabilities, value, cases.patients)) for value in OTHER_THRESHOLDS]
    rows = tuple(_threshold_row(name, one_at) for name, one_at in named)
    marks = tuple((f"{share:.1%}", ppv, npv) for share, ppv, npv in predictive(one, found.prevalence))
    grid = np.array([[at.passed, at.alarms], [at.missed, at.caught]])
    grid_drawn = Plot(
        caption="Films at t_high",
        svg=plots.matrix(grid, rows=("without", "with"), columns=("not raised", "raised"), x="network", y="pneumonia"),
        alt=f"{at.caught} caught, {at.missed} missed, {at.alarms} false alarms, {at.passed} passed",
    )
    few = frozenset() if at.holds_claims else frozenset(range(len(rows)))
    where = "that of this cohort" if found.prevalence is None else "as stated for the site"
    return Section(
        title="Thresholds",
        answers="R9, R12",
        text=(f"At t_high = {at.threshold:.4f}: {at.sentence}", f"The table's first prevalence is {where}."),
        tables=(
            Table(
                caption="Sensitivity to predictive values with exact 95 % intervals (Clopper and Pearson), by patient",
                header=("threshold", "sensitivity", "specificity", "PPV", "NPV", "false discovery / omission", "raised"),
                rows=rows,
                greyed=few,
            ),
            Table(
                caption="What a mark at t_high means at other shares of pneumonia (Bayes; intervals by patient)",
                header=("share of pneumonia", "PPV", "NPV"),
                rows=marks,
                greyed=frozenset() if at.holds_claims else frozenset(range(len(marks))),
            ),
        ),
        plots=(grid_drawn,),
    )


def _threshold_row(name: str, at: ThresholdCounts) -> tuple[object, ...]:
    raised = (at.caught + at.alarms) / max(at.caught + at.alarms + at.missed + at.passed, 1)
    shares = (at.sensitivity, at.specificity, at.ppv, at.npv)
    told = [f"{s.value:.3f} ({s.low:.3f}-{s.high:.3f})" if s.of else None for s in shares]
    return (name, *told, f"{formatted(1 - at.ppv.value)} / {formatted(1 - at.npv.value)}", f"{raised:.0%}")


def predictive(one: Judgement, prevalence: float | None) -> list[tuple[float, Figure, Figure]]:
    """PPV and NPV at the site's share of pneumonia (default: the cohort's) and at three others, with intervals by patient."""
    own = float(one.cases.labels.mean()) if prevalence is None else prevalence
    found = []
    for share in (own, *PREVALENCES):
        value = [at_threshold.predictive_values(np.array(one.at.sensitivity.value), np.array(one.at.specificity.value), share)]
        drawn = at_threshold.predictive_values(one.drawn["sensitivity"], one.drawn["specificity"], share)
        found.append((share, interval(float(value[0][0]), drawn[0]), interval(float(value[0][1]), drawn[1])))
    return found


def _calibration(found: Evaluation, one: Judgement) -> Section:
    cases, figures = one.cases, one.figures
    events, others = one.evidence.patients_of_each
    bins = reliability(cases.probabilities, cases.labels, equal_mass=True)
    points = [plots.Curve(name="ten equal counts", x=[b.predicted for b in bins], y=[b.observed for b in bins], marker="o", dashed=True)]
    if min(events, others) >= MIN_TO_DRAW:
        smooth = smooth_reliability(cases, found.seed)
        points.insert(0, plots.Curve(name="smooth, 95 % band", x=smooth.predicted, y=smooth.observed, low=smooth.low, high=smooth.high))
    rows = tuple(
        (name, figures[key])
        for key, name in (
            ("calibration_in_the_large", "Intercept with slope 1, in the large (0 is right; above 0: probabilities too low)"),
            ("calibration_slope", "Slope (1 is right; below 1: too sure of itself)"),
            ("calibration_intercept", "Intercept beside that slope"),
            ("ece", "Calibration error of P(positive), ten equal widths"),
            ("ece_equal_mass", "Calibration error of P(positive), ten equal counts"),
            ("brier", "Brier score"),
            ("brier_reliability", "  of it reliability: miscalibration"),
            ("brier_resolution", "  less resolution: what the network tells apart"),
            ("brier_uncertainty", "  plus uncertainty: of the cohort alone"),
        )
    )
    text = [f"The interval of the slope is {figures['calibration_slope'].high - figures['calibration_slope'].low:.2f} wide."]
    if min(events, others) < MODERATE:
        text.append(
            f"{events} patients with and {others} without pneumonia are too few to judge calibration: {MODERATE} of each are asked for "
            "(Van Calster et al. 2019). The curve below is no evidence."
        )
    drawn = (
        Plot(
            caption="Observed rate over predicted probability",
            svg=plots.lines(points, x="predicted probability", y="observed rate", diagonal=True, x_range=UNIT, y_range=UNIT, size=SQUARE),
            alt="Reliability diagram against the diagonal of perfect calibration",
        ),
        Plot(
            caption="Where the probabilities lie",
            svg=plots.histograms([("all films", cases.probabilities)], x="predicted probability", x_range=UNIT, size=LOW),
            alt="Histogram of the predicted probabilities",
        ),
    )
    table = Table(caption="95 % intervals by patient", header=("", ""), rows=rows)
    return Section(title="Calibration", answers="R7, R10", text=tuple(text), tables=(table,), plots=drawn)


def _against(one: Judgement) -> tuple[Section, ...]:
    """R13: what the films without pneumonia have instead; none where that is not known."""
    if not one.against:
        return ()
    text = "Films with pneumonia against the healthy alone flatter: those with another disease look more like them."
    rows = tuple((f"against {name}", figure) for name, figure in one.against.items())
    table = Table(caption="ROC-AUC with its 95 % interval", header=("", "ROC-AUC"), rows=rows)
    return (Section(title="Against what", answers="R13", text=(text,), tables=(table,)),)
