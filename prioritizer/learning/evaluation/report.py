"""The report on a network as one page and as JSON: the head R1-R6, performance R7-R15, one block of sections for each cohort."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from prioritizer import __version__
from prioritizer.calibration.maps import Calibration, as_document
from prioritizer.calibration.operating_point import Share
from prioritizer.learning.evaluation import control_sections, gallery
from prioritizer.learning.evaluation import sections as evaluation_sections
from prioritizer.learning.evaluation.calibrated import Fitted
from prioritizer.learning.evaluation.cost import Cost
from prioritizer.learning.evaluation.evaluate import Evaluation, Judgement
from prioritizer.learning.training.run_folder import curves_of
from prioritizer.reports import plots
from prioritizer.reports.page import Plot, Report, ReportVerdict, Section, Table
from prioritizer.statistics.intervals import Figure
from prioritizer.statistics.measures import NAMES


def report_of(found: Evaluation) -> Report:
    """The whole page."""
    fit = found.fitness
    many = len(found.judgements) > 1
    blocks: list[Section] = []
    for one in found.judgements:
        title = f"{one.trial.name}: " if many else ""
        blocks += [_flow(one, title), *evaluation_sections.sections(found, one, title)]
        blocks += gallery.sections(found.fitted, one.looked, one.calibration, title)
    return Report(
        title=f"Evaluation of {found.fitted.subject.name}",
        made_at=found.made_at,
        verdict=ReportVerdict(word=fit.word, sentence=fit.said, rule=fit.rule),
        sections=(_head(found.fitted), _overview(found.judgements), *_learning(found.fitted), *blocks, *_cost(found.cost)),
        facts=facts_of(found),
    )


def _head(ready: Fitted) -> Section:
    subject, calibration = ready.subject, ready.calibration
    rows = (
        *subject.told.items(),
        ("Intended use", subject.intended_use or "not stated"),
        ("Scope", subject.scope or "not stated"),
        ("Preprocessing, code", f"{subject.spec.id}, prioritizer {__version__}"),
        *(row for group, its in calibration.maps() for row in _map_rows(group, its)),
        ("Where they come from", ready.how),
    )
    said = "Scope rules are not applied here: every readable film is scored. The threshold was fixed before these films were looked at."
    return Section(title="What was evaluated", answers="R2, R5, R9", text=(said,), tables=(Table(caption="", header=("", ""), rows=rows),))


def _map_rows(group: str, its: Calibration) -> tuple[tuple[str, str], ...]:
    """One map and its thresholds, with the age group it is for."""
    who = f", {group}" if group else ""
    return (
        (f"Calibration{who}", f"{its.id}: log odds = {its.slope:.3f} * logit {its.intercept:+.3f}"),
        (f"Thresholds{who}", f"t_high {its.t_high:.4f}, t_low {its.t_low:.4f}"),
    )


def _overview(judgements: Sequence[Judgement]) -> Section:
    counted = (f"{one.evidence.events} / {one.evidence.non_events}" for one in judgements)
    rows: list[tuple[object, ...]] = [("Films with / without pneumonia", *counted)]
    rows += [("ROC-AUC of the logits (DeLong)", *(one.auc for one in judgements))]
    rows += [(name, *(one.figures[key] for one in judgements)) for key, name in NAMES.items()]
    text = (
        "Intervals are 95 %: bootstrapped by patient (1,000 draws), that of the first ROC-AUC after DeLong with the films of a patient "
        "kept together. A difference inside the intervals is none.",
    )
    table = Table(caption="All figures at t_high", header=("", *(one.trial.name for one in judgements)), rows=tuple(rows))
    return Section(title="Figures", answers="R8, R9, R10", text=text, tables=(table,))


def _learning(ready: Fitted) -> tuple[Section, ...]:
    epochs = ready.subject.epochs
    if not epochs:
        return ()
    drawn = plots.lines(list(curves_of(list(epochs))), x="epoch", y="loss, or 1 - ROC-AUC", size=(7.0, 3.8))
    alt = "Training loss, and loss and ROC-AUC on the select split, by epoch"
    text = ("Only the training loss and the split select are drawn: no film of this report had a part in them.",)
    return (Section(title="Learning curves", text=text, plots=(Plot(caption="By epoch", svg=drawn, alt=alt),)),)


def _flow(one: Judgement, title: str) -> Section:
    """From files to figures, R3, R4, R6, and what the number of films can carry, R7."""
    looked, evidence = one.looked, one.evidence
    faults = Counter(fault.what for fault in (*one.trial.faults, *looked.faults))
    rows = [(f"fault: {what}", count) for what, count in faults.most_common()]
    rows += [("analysed", len(looked.images)), ("patients", len(set(looked.patients)))]
    rows += [("with pneumonia", evidence.events), ("without", evidence.non_events)]
    sources = sorted({image.label_source for image in looked.images if image.label_source})
    sources_said = f"Source of the labels: {', '.join(sources)}. " if sources else ""
    text = [
        f"Labels: {one.trial.form}. {sources_said}"
        "Whether they were given without sight of the network, how films were picked and when is not in the files: a person must state it.",
        "Films that cannot be read enter no figure; in service they stand in order of arrival.",
    ]
    if one.trial.seen:
        text.insert(0, f"NOT EVIDENCE: {one.trial.seen}.")
    elif one.trial.unseen:
        text.append(one.trial.unseen)
    elif not one.trial.own_source:
        text.append("A bundle holds no list of the films it was trained on: make sure that none of these is among them.")
    return Section(
        title=f"{title}from files to figures" if title else "From files to figures",
        answers="R3, R4, R6, R7",
        text=tuple(text),
        tables=(Table(caption="Counts", header=("", "n"), rows=tuple(rows)),),
    )


def _cost(cost: Cost | None) -> tuple[Section, ...]:
    if cost is None:
        return ()
    return (Section(title="Cost", text=(COST_SAID,), tables=(Table(caption="", header=("", ""), rows=cost_rows(cost)),)),)


COST_SAID = (
    "One thread, one picture at a time, medians of twelve rounds taken in turns with DenseNet-121 under torch in the same process. "
    "Milliseconds are those of this machine at that hour; the ratio travels."
)


def cost_rows(cost: Cost) -> tuple[tuple[str, str], ...]:
    """The cost in words."""
    return (
        ("Parameters", f"{cost.parameters / 1e6:.2f} million"),
        ("Time an image, of DenseNet-121's", f"{cost.ratio:.2f}"),
        ("Time an image here", f"{cost.ms:.1f} ms (DenseNet-121: {cost.reference_ms:.1f} ms)"),
        ("Peak memory of a process with nothing else", f"{cost.peak_mib:.0f} MiB"),
    )


def plain(figure: Figure | Share | None) -> list[float | None] | None:
    """[value, low, high] for JSON; null for what could not be computed."""
    if figure is None:
        return None
    return [None if number != number else round(number, 6) for number in (figure.value, figure.low, figure.high)]  # noqa: PLR0124 - NaN


def facts_of(found: Evaluation) -> dict[str, Any]:
    """Every figure by name. No image, file name or patient."""
    subject = found.fitted.subject
    return {
        "subject": {"name": subject.name, "kind": subject.kind, "preprocessing": subject.spec.id, **subject.told},
        "calibration": as_document(found.fitted.calibration),
        "how": found.fitted.how,
        "seed": found.seed,
        "cohorts": {one.trial.name: _facts(one, found.prevalence) for one in found.judgements},
        "cost": {**asdict(found.cost), "ratio": found.cost.ratio} if found.cost else None,
    }


def _facts(one: Judgement, prevalence: float | None) -> dict[str, Any]:
    robust, evidence = one.robustness, one.evidence
    return {
        "n": len(one.looked.images),
        "patients": len(set(one.looked.patients)),
        "events": evidence.events,
        "faults": dict(Counter(fault.what for fault in (*one.trial.faults, *one.looked.faults))),
        "own_source": one.trial.own_source,
        "seen": one.trial.seen,
        "roc_auc_delong": plain(one.auc),
        "figures": {name: plain(figure) for name, figure in one.figures.items()},
        "confusion": {key: value for key, value in asdict(one.at).items() if key != "by_patient"},
        "exact": {name: plain(getattr(one.at, name)) for name in ("sensitivity", "specificity", "ppv", "npv")},
        "predictive_values": {
            f"{share:g}": {"ppv": plain(ppv), "npv": plain(npv)} for share, ppv, npv in evaluation_sections.predictive(one, prevalence)
        },
        "against": {name: plain(figure) for name, figure in one.against.items()},
        "subgroups": [
            {
                "kind": group.kind,
                "name": group.name,
                "n": group.n,
                "events": group.events,
                "small": group.small,
                **{name: plain(getattr(group, name)) for name in ("auc", "sensitivity", "specificity", "slope")},
            }
            for group in one.groups
        ],
        "shortcuts": {
            "metadata_only": plain(robust.metadata),
            "matched": None if robust.metadata is None else robust.matched,
            "copies": {name: plain(figure) for name, figure in robust.copies.items()},
            "copies_n": robust.n,
            "refused_by_guard": robust.refused,
        },
        "saliency": control_sections.where_facts(one),
    }
