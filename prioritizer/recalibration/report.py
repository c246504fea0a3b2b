"""The report on a recalibration: what a person must have read before a candidate is activated. Items of EXPERIENCE R1-R13 and R19-R22."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prioritizer import __version__
from prioritizer.calibration.cohort_lint import WHOLE
from prioritizer.calibration.maps import as_document
from prioritizer.recalibration.report_tables import of_diagrams, of_methods, of_moves, of_performance, of_thresholds, of_worth, table_of
from prioritizer.reports import page
from prioritizer.reports.page import Report, Section, Table
from prioritizer.reports.page import ReportVerdict as Shown
from prioritizer.statistics.intervals import Figure

if TYPE_CHECKING:
    from prioritizer.recalibration.outcome import RecalibrationOutcome

SHOWN_FAULTS = 300


def write(outcome: RecalibrationOutcome, path: Path, effect: Sequence[Section] = ()) -> Path:
    """The page and the JSON beside it; `effect`: what the candidate does to the list."""
    advice = outcome.advice
    return page.write(
        Report(
            title=f"Recalibration of {outcome.bundle.name}",
            made_at=outcome.made_at,
            verdict=Shown(word=advice.word, sentence=advice.said, rule=advice.rule),
            sections=(*_of_each(outcome, _sections), *effect, _sign_off(outcome), *_of_each(outcome, _every_fault)),
            facts=facts(outcome) | ({"other_ages": [facts(one) for one in outcome.also]} if outcome.also else {}),
        ),
        path,
    )


def _of_each(outcome: RecalibrationOutcome, sections: Callable[[RecalibrationOutcome], Sequence[Section]]) -> list[Section]:
    """The sections of every age group; each with its group in the title where there are two."""
    if not outcome.also:
        return list(sections(outcome))
    return [
        replace(section, title=f"{str(one.ages).capitalize()}: {section.title[:1].lower()}{section.title[1:]}")
        for one in (outcome, *outcome.also)
        for section in sections(one)
    ]


def facts(outcome: RecalibrationOutcome) -> dict[str, Any]:
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


def _sections(outcome: RecalibrationOutcome) -> list[Section]:
    found = [_what_this_is(outcome)]
    if outcome.gathered is not None:
        found += [_flow(outcome), _lint(outcome)]
    if outcome.fit is not None:
        found += [
            of_methods(outcome),
            of_performance(outcome),
            of_diagrams(outcome),
            of_thresholds(outcome),
            *of_worth(outcome),
            of_moves(outcome),
        ]
    return found


def _what_this_is(outcome: RecalibrationOutcome) -> Section:
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


def _unlike(outcome: RecalibrationOutcome) -> tuple[tuple[str, str], ...]:
    """How the cohort lies to the training data, and the limit that it sets; nothing where that was not looked at."""
    known = [image.unlike for image in outcome.gathered.analysed if image.unlike is not None] if outcome.gathered else []
    if not known:
        return ()
    beyond = sum(distance > 1 for distance in known)
    limit = outcome.entered.local_limit if outcome.entered else None
    after = f"the candidate's limit is {limit:.2f} times the bundle's" if limit is not None else "too few images for a limit of this site"
    return (("Unlike the training data", f"{beyond} of {len(known)} images; {after}"),)


def _flow(outcome: RecalibrationOutcome) -> Section:
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
    return Section(title="From files to figures", answers="R3, R4, R6", text=text, tables=(table_of("Counts", ("", "n"), rows),))


def _lint(outcome: RecalibrationOutcome) -> Section:
    """Faults by kind; each of them stands at the end of the page."""
    gathered = outcome.gathered
    assert gathered is not None
    counts = Counter((finding.what, finding.excludes) for finding in gathered.findings)
    kinds = [(what, "left out" if out else "warning", count) for (what, out), count in counts.most_common()]
    whole = tuple(f"{finding.what.capitalize()}: {finding.said}." for finding in gathered.findings if finding.file == WHOLE)
    if not kinds:
        return Section(title="Faults of the cohort", answers="R20", text=("None was found.",))
    table = table_of("Kinds; every one is listed at the end", ("fault", "what becomes of the image", "n"), kinds)
    return Section(title="Faults of the cohort", answers="R20", text=whole, tables=(table,))


def _every_fault(outcome: RecalibrationOutcome) -> tuple[Section, ...]:
    gathered = outcome.gathered
    if gathered is None or not gathered.findings:
        return ()
    found = sorted(gathered.findings, key=lambda finding: (finding.file != WHOLE, not finding.excludes, finding.what, finding.file))
    rows = [(finding.file, "left out" if finding.excludes else "warning", f"{finding.what}: {finding.said}") for finding in found]
    more = (f"{len(rows) - SHOWN_FAULTS} more stand in the JSON beside this page.",) if len(rows) > SHOWN_FAULTS else ()
    table = table_of("", ("file", "", "what"), rows[:SHOWN_FAULTS])
    return (Section(title="Every fault", answers="R20", text=more, tables=(table,)),)


def _sign_off(outcome: RecalibrationOutcome) -> Section:
    rows = [("Prepared by", outcome.request.by, f"{outcome.made_at:%Y-%m-%d}"), ("Reviewed by", "", ""), ("Activated by", "", "")]
    rows += [("Valid until", "", ""), ("Next check planned", "", "")]
    name = outcome.entered.id if outcome.entered else ""
    text = (
        f"Activate: prioritizer calibration activate {name}. Unread studies are scored and placed again in that moment, which is recorded.",
        "Go back: prioritizer calibration rollback returns to what applied before; with --own to the bundle's own calibration.",
    )
    shown = text if outcome.entered else ("No candidate was made: nothing can be activated.",)
    return Section(title="Sign-off", answers="R22", text=shown, tables=(table_of("", ("", "name", "date"), rows),))
