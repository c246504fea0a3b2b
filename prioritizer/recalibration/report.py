"""The report on a recalibration: what a person must have read before a candidate is activated. Items of EXPERIENCE R1-R13 and R19-R22."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from prioritizer import __version__
from prioritizer.calibration import local_fit, operating_point
from prioritizer.calibration.cohort_lint import WHOLE
from prioritizer.calibration.maps import Float64, as_document, odds_of, reliability, sigmoid
from prioritizer.reports import assessment, page, plots
from prioritizer.reports.page import Plot, Report, Section, Table
from prioritizer.reports.page import Verdict as Shown
from prioritizer.statistics import delong
from prioritizer.statistics.measures import Cases, Figure, smooth_reliability
from prioritizer.statistics.subgroups import subgroups

if TYPE_CHECKING:
    from prioritizer.recalibration.recalibrate import Outcome

SHOWN_FAULTS = 300
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
PREVALENCES = (0.02, 0.05, 0.1, 0.3)


def write(outcome: Outcome, path: Path, extra_sections: Sequence[Section] = ()) -> Path:
    """The page and the JSON beside it."""
    advice = outcome.advice
    return page.write(
        Report(
            title=f"Recalibration of {outcome.bundle.name}",
            made_at=outcome.made_at,
            verdict=Shown(word=advice.word, sentence=advice.said, rule=advice.rule),
            sections=(*_of_each(outcome, _sections), *extra_sections, _sign_off(outcome), *_of_each(outcome, _every_fault)),
            facts=facts(outcome) | ({"other_ages": [facts(one) for one in outcome.also]} if outcome.also else {}),
        ),
        path,
    )


def _of_each(outcome: Outcome, sections: Callable[[Outcome], Sequence[Section]]) -> list[Section]:
    """The sections of every age group; each with its group in the title where there are two."""
    if not outcome.also:
        return list(sections(outcome))
    return [
        replace(section, title=f"{str(one.ages).capitalize()}: {section.title[:1].lower()}{section.title[1:]}")
        for one in (outcome, *outcome.also)
        for section in sections(one)
    ]


def facts(outcome: Outcome) -> dict[str, Any]:
    """Every figure of the report by name, for the JSON."""
    fit, point, gathered = outcome.fit, outcome.point, outcome.gathered
    told: dict[str, Any] = {
        "bundle": {"name": outcome.bundle.name, "digest": outcome.bundle.digest, "preprocessing": outcome.bundle.preprocessing.id},
        "ages": str(outcome.ages) if outcome.ages else None,
        "before": as_document(outcome.before),
        "candidate": as_document(outcome.entered) if outcome.entered and outcome.candidate else None,
        "refused": outcome.refused,
        "by": outcome.request.by,
        "seed": outcome.request.seed,
    }
    if gathered is not None:
        told["findings"] = [asdict(finding) for finding in gathered.findings]
        told["counts"] = {"files": len(gathered.images), "analysed": len(gathered.analysed)}
    if fit is not None:
        told["winner"] = fit.winner
        told["methods"] = [
            {"method": t.method, "allowed": t.allowed, "why": t.why, "log_loss": _plain(t.log_loss), "gain": _plain(t.gain)}
            for t in fit.trials
        ]
        told["roc_auc"] = _plain(outcome.auc)
        told["figures_before"] = {name: _plain(figure) for name, figure in (outcome.figures_before or {}).items()}
        told["figures_after"] = {name: _plain(figure) for name, figure in (outcome.figures_after or {}).items()}
    if point is not None:
        told["thresholds"] = {
            "t_high": point.t_high,
            "t_low": point.t_low,
            "how": point.how,
            "raised": point.raised,
            "sensitivity": [point.sensitivity.value, point.sensitivity.low, point.sensitivity.high],
            "specificity": [point.specificity.value, point.specificity.low, point.specificity.high],
        }
    return told


def _plain(figure: Figure | None) -> dict[str, float] | None:
    return asdict(figure) if figure is not None else None


def _sections(outcome: Outcome) -> list[Section]:
    found = [_what_this_is(outcome)]
    if outcome.gathered is not None:
        found += [_flow(outcome), _lint(outcome)]
    if outcome.fit is not None:
        found += [_methods(outcome), _performance(outcome), _diagrams(outcome), _thresholds(outcome), *_worth(outcome), _moves(outcome)]
    return found


def _what_this_is(outcome: Outcome) -> Section:
    bundle, before, request = outcome.bundle, outcome.before, outcome.request
    made = outcome.candidate
    prevalence = f"{request.prevalence:.3f}, as stated" if request.prevalence is not None else "that of the cohort"
    rows = (
        ("Bundle", f"{bundle.name}, {bundle.digest}"),
        ("Intended use", str(bundle.card.get("intended_use", "not stated"))),
        ("Scope", f"{'/'.join(bundle.scope.modalities)}, {bundle.scope.min_age_years:g} to {bundle.scope.max_age_years:g} years"),
        ("Preprocessing, code", f"{bundle.preprocessing.id}, prioritizer {__version__}"),
        *([("Whose map", f"that for {outcome.ages}; the other one is {'fitted too' if outcome.also else 'kept'}")] if outcome.ages else []),
        ("Calibration before", f"{before.id} ({before.method}), t_high {before.t_high:.3f}"),
        ("Candidate", f"{made.id} ({made.method}), t_high {made.t_high:.3f}" if made else f"none: {outcome.refused}"),
        ("Prevalence it is meant for", prevalence),
        *_unlike(outcome),
        *([("Positive labels taken as false", f"{request.label_noise:.1%}, as stated")] if request.label_noise else []),
        ("Scope rules", "IGNORED, for evaluation only" if request.ignore_scope else "enforced"),
    )
    return Section(title="What was recalibrated", answers="R2, R5", tables=(Table(caption="", header=("", ""), rows=rows),))


def _unlike(outcome: Outcome) -> tuple[tuple[str, str], ...]:
    """How the cohort lies to the training data, and the limit that it sets; nothing where that was not looked at."""
    known = [image.unlike for image in outcome.gathered.analysed if image.unlike is not None] if outcome.gathered else []
    if not known:
        return ()
    beyond = sum(distance > 1 for distance in known)
    limit = outcome.entered.local_limit if outcome.entered else None
    after = f"the candidate's limit is {limit:.2f} times the bundle's" if limit is not None else "too few images for a limit of this site"
    return (("Unlike the training data", f"{beyond} of {len(known)} images; {after}"),)


def _flow(outcome: Outcome) -> Section:
    gathered = outcome.gathered
    assert gathered is not None
    excluded = Counter(finding.what for finding in gathered.findings if finding.excludes)
    kept = gathered.analysed
    rows: list[tuple[object, ...]] = [("images with a label" if gathered.labelled else "files", len(gathered.images))]
    rows += [(f"left out: {what}", count) for what, count in excluded.most_common()]
    rows += [("analysed", len(kept)), ("patients", len({image.patient for image in kept}))]
    if gathered.labelled:
        rows += [("with pneumonia", sum(image.label for image in kept)), ("without", sum(1 - image.label for image in kept))]
    text = (f"The cohort: {gathered.form}.", "Images that are left out enter no figure; in service they stand in order of arrival.")
    return Section(title="From files to figures", answers="R3, R4, R6", text=text, tables=(_table("Counts", ("", "n"), rows),))


def _lint(outcome: Outcome) -> Section:
    """Faults by kind; each of them stands at the end of the page."""
    gathered = outcome.gathered
    assert gathered is not None
    counts = Counter((finding.what, finding.excludes) for finding in gathered.findings)
    kinds = [(what, "left out" if out else "warning", count) for (what, out), count in counts.most_common()]
    whole = tuple(f"{finding.what.capitalize()}: {finding.said}." for finding in gathered.findings if finding.file == WHOLE)
    if not kinds:
        return Section(title="Faults of the cohort", answers="R20", text=("None was found.",))
    table = _table("Kinds; every one is listed at the end", ("fault", "what becomes of the image", "n"), kinds)
    return Section(title="Faults of the cohort", answers="R20", text=whole, tables=(table,))


def _every_fault(outcome: Outcome) -> tuple[Section, ...]:
    gathered = outcome.gathered
    if gathered is None or not gathered.findings:
        return ()
    found = sorted(gathered.findings, key=lambda finding: (finding.file != WHOLE, not finding.excludes, finding.what, finding.file))
    rows = [(finding.file, "left out" if finding.excludes else "warning", f"{finding.what}: {finding.said}") for finding in found]
    more = (f"{len(rows) - SHOWN_FAULTS} more stand in the JSON beside this page.",) if len(rows) > SHOWN_FAULTS else ()
    table = _table("", ("file", "", "what"), rows[:SHOWN_FAULTS])
    return (Section(title="Every fault", answers="R20", text=more, tables=(table,)),)


def _methods(outcome: Outcome) -> Section:
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
    table = _table("Methods; 95 % intervals by patient", header, rows)
    return Section(title="Which map", answers="R7, R19", text=tuple(text), tables=(table,))


def _performance(outcome: Outcome) -> Section:
    before, after = outcome.figures_before or {}, outcome.figures_after or {}
    rows: list[tuple[object, ...]] = [("ROC-AUC of the logits, that no map changes", outcome.auc, outcome.auc)]
    rows += [(name, before[key], after[key]) for key, name in NAMES.items() if key in before and key != "roc_auc"]
    header = ("", "before", "after, cross-validated")
    text = ["Each case is judged by a map that was fitted without its patient; intervals are bootstrapped by patient."]
    if outcome.fit is not None and outcome.fit.offset:
        text.append("The cohort was enriched: both columns are at the cohort's mix, the candidate itself is for the stated prevalence.")
    return Section(title="Before and after", answers="R8, R10, R21", text=tuple(text), tables=(_table("Figures", header, rows),))


def _diagrams(outcome: Outcome) -> Section:
    fit, gathered = outcome.fit, outcome.gathered
    assert fit is not None
    assert gathered is not None
    sample = outcome.sample
    curves = []
    samples = []
    for name, odds in (("before", fit.before), ("after", fit.held_out)):
        p = sigmoid(sample.as_labelled(odds))
        smooth = smooth_reliability(Cases(probabilities=p, labels=sample.labels, patients=sample.patients))
        curves.append(plots.Curve(name=f"{name}, smooth", x=smooth.predicted, y=smooth.observed, low=smooth.low, high=smooth.high))
        curves.append(_bins(f"{name}, ten equal counts", p, sample.labels))
        samples.append((name, p))
    ordered = [curves[0], curves[2], curves[1], curves[3]]
    unit = (0.0, 1.0)
    drawn = plots.lines(ordered, x="predicted probability", y="observed rate", diagonal=True, x_range=unit, y_range=unit, size=(6.4, 5.0))
    spread = plots.histograms(samples, x="predicted probability", x_range=unit)
    alt = "Observed rate of pneumonia over predicted probability, before and after, against the diagonal of perfect calibration"
    shown = (
        Plot(caption="Reliability before and after (cross-validated), with 95 % bands by patient", svg=drawn, alt=alt),
        Plot(caption="Where the probabilities lie", svg=spread, alt="Histograms of the predicted probabilities before and after"),
    )
    return Section(title="Reliability", answers="R10, R21", plots=shown)


def _bins(name: str, p: Float64, labels: Float64) -> plots.Curve:
    found = reliability(p, labels, equal_mass=True)
    return plots.Curve(name=name, x=[b.predicted for b in found], y=[b.observed for b in found], marker="o", dashed=True)


def _thresholds(outcome: Outcome) -> Section:
    point, made, request = outcome.point, outcome.candidate, outcome.request
    assert point is not None
    assert made is not None
    rows = [
        ("t_high", outcome.before.t_high, point.t_high),
        ("t_low (used only where a site demotes)", outcome.before.t_low, point.t_low),
        ("sensitivity at t_high", (outcome.figures_before or {}).get("sensitivity"), point.sensitivity),
        ("specificity at t_high", (outcome.figures_before or {}).get("specificity"), point.specificity),
        ("share of studies raised", (outcome.figures_before or {}).get("share_raised"), point.raised),
    ]
    sens, spec = point.sensitivity.value, point.specificity.value
    shares = sorted({*PREVALENCES, *([request.prevalence] if request.prevalence else [])})
    values = [(f"{p:.0%}", *_predictive(sens, spec, p)) for p in shares]
    header = ("prevalence", "of 100 raised, with pneumonia", "of 100 not raised, with pneumonia")
    low = f"Lower bound of the sensitivity: {point.sensitivity.low:.3f}. {operating_point.RULE}"
    tables = (_table("Thresholds", ("", "before", "proposed, cross-fitted"), rows), _table("What a mark means", header, values))
    return Section(title="Thresholds", answers="R9, R12", text=(f"How it was set: {point.how}.", low), tables=tables)


def _predictive(sens: float, spec: float, p: float) -> tuple[float, float]:
    """Of 100 raised, how many have pneumonia; of 100 not raised, how many have it."""
    raised, rest = sens * p + (1 - spec) * (1 - p), (1 - sens) * p + spec * (1 - p)
    return (100 * sens * p / raised if raised else float("nan")), (100 * (1 - sens) * p / rest if rest else float("nan"))


def _worth(outcome: Outcome) -> tuple[Section, ...]:
    """Decision curve and subgroups, of probabilities that no case of the same patient had a part in."""
    fit, gathered, made = outcome.fit, outcome.gathered, outcome.candidate
    assert fit is not None
    assert gathered is not None
    assert made is not None
    sample = outcome.sample
    before, after = (
        Cases(probabilities=sigmoid(sample.as_labelled(odds)), labels=sample.labels, patients=sample.patients)
        for odds in (fit.before, fit.held_out)
    )
    # The candidate's threshold, moved to the cohort's mix, where these probabilities lie.
    at = float(sigmoid(sample.as_labelled(odds_of(np.array(made.t_high)) + fit.offset)))
    groups = subgroups([image.traits for image in gathered.analysed], after, sample.logits, at, outcome.request.seed)
    whole = delong.area(sample.labels, sample.logits, sample.patients)
    return (
        assessment.decision(after, "the candidate, cross-validated", beside={"before": before}, seed=outcome.request.seed),
        assessment.subgroups(groups, whole),
    )


def _moves(outcome: Outcome) -> Section:
    fit, made, gathered = outcome.fit, outcome.candidate, outcome.gathered
    assert fit is not None
    assert made is not None
    assert gathered is not None
    sample = outcome.sample
    bands = [
        np.where(p >= t_high, "HIGH", np.where(p < t_low, "LOW", "NEUTRAL")).tolist()
        for p, t_high, t_low in (
            (outcome.before.probabilities(sample.logits), outcome.before.t_high, outcome.before.t_low),
            (made.probabilities(sample.logits), made.t_high, made.t_low),
        )
    ]
    rows = operating_point.reclassified(bands[0], bands[1], sample.labels)
    text = "Bands of these very images by the calibration before and by the candidate; LOW differs from NEUTRAL only where a site demotes."
    table = _table("Images", ("before", "after", "without pneumonia", "with pneumonia"), rows)
    return Section(title="Which images change their band", answers="R21", text=(text,), tables=(table,))


def _sign_off(outcome: Outcome) -> Section:
    rows = [("Prepared by", outcome.request.by, f"{outcome.made_at:%Y-%m-%d}"), ("Reviewed by", "", ""), ("Activated by", "", "")]
    rows += [("Valid until", "", ""), ("Next check planned", "", "")]
    name = outcome.entered.id if outcome.entered else ""
    text = (
        f"Activate: prioritizer calibration activate {name}. Unread studies are scored and placed anew in that moment, and it is recorded.",
        "Go back: prioritizer calibration rollback returns to what applied before; with --own to the bundle's own calibration.",
    )
    shown = text if outcome.entered else ("No candidate was made: nothing can be activated.",)
    return Section(title="Sign-off", answers="R22", text=shown, tables=(_table("", ("", "name", "date"), rows),))


def _table(caption: str, header: tuple[str, ...], rows: Sequence[tuple[object, ...]]) -> Table:
    return Table(caption=caption, header=header, rows=tuple(rows))
