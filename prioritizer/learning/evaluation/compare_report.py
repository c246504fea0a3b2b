"""The comparison as a page, as JSON and as Markdown tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from prioritizer import __version__
from prioritizer.calibration.local_fit import MIN_CLASS, MODERATE
from prioritizer.calibration.maps import as_document
from prioritizer.learning.evaluation import gallery
from prioritizer.learning.evaluation.compare import Bout, Comparison
from prioritizer.learning.evaluation.report import COST_SAID, cost_rows, plain
from prioritizer.learning.evaluation.robustness import ELSEWHERE, NO_LUNGS, UNCHANGED
from prioritizer.reports import plots
from prioritizer.reports.page import Plot, Report, Section, Table, formatted
from prioritizer.statistics import curves
from prioritizer.statistics.calibration_error import reliability
from prioritizer.statistics.delong import Difference
from prioritizer.statistics.intervals import Cases
from prioritizer.statistics.measures import NAMES, smooth_reliability
from prioritizer.statistics.paired import most_disputed

DISPUTED = 8
"""Films shown on which the networks lie furthest apart."""
UNIT = (0.0, 1.0)
HOW = (
    "Same films for all. Intervals are 95 %, bootstrapped by patient with the same draws for every network; ROC-AUC of the logits after "
    "DeLong with the films of a patient kept together, differences by the paired test. An interval that holds 0 is no difference. Many "
    "figures are looked at together: one in twenty differs by chance."
)


def report_of(found: Comparison) -> Report:
    """The whole page."""
    sections = [_head(found)]
    for bout in found.bouts:
        sections += [
            _figures(found, bout),
            _differences(found, bout),
            _shortcuts(found, bout),
            _drawn(found, bout),
            *_disputed(found, bout),
        ]
    if found.costs:
        sections.append(Section(title="Cost", text=(COST_SAID,), tables=(_cost_table(found),)))
    return Report(
        title=f"Comparison of {', '.join(found.names)}",
        made_at=found.made_at,
        verdict=None,
        sections=tuple(sections),
        facts=facts_of(found),
    )


def _head(found: Comparison) -> Section:
    rows = []
    for name, one in zip(found.names, found.networks, strict=True):
        told = one.subject.told
        rows.append((name, one.subject.kind, told["Architecture"], one.subject.spec.id, one.calibration.method, one.calibration.t_high))
    header = ("", "kind", "architecture", "preprocessing", "map", "t_high")
    how = tuple(f"{name}: {one.how}." for name, one in zip(found.names, found.networks, strict=True))
    text = (f"Each network is compared with the first, {found.names[0]}.", HOW, *how, f"prioritizer {__version__}.")
    return Section(title="What was compared", answers="R5, R9", text=text, tables=(Table(caption="", header=header, rows=tuple(rows)),))


def _counts_said(bout: Bout) -> list[str]:
    events = int(bout.labels.sum())
    others = len(bout.labels) - events
    patients = len(set(bout.looked[0].patients))
    said = [f"{len(bout.labels)} films of {patients} patients, {events} with and {others} without pneumonia. Labels: {bout.trial.form}."]
    if bout.left_out:
        said.append(f"{bout.left_out} films that not every network could read are left out.")
    if bout.trial.seen:
        said.append(f"NOT EVIDENCE: {bout.trial.seen}.")
    if min(events, others) < MIN_CLASS:
        said.append("Too few films to tell networks apart.")
    elif min(events, others) < MODERATE:
        said.append(f"Fewer than {MODERATE} of a class: calibration cannot be judged (Van Calster 2019).")
    return said


def _figure_rows(bout: Bout) -> Iterator[tuple[object, ...]]:
    yield ("ROC-AUC of the logits (DeLong)", *bout.pairing.aucs)
    for key, name in NAMES.items():
        yield (name, *(figures[key] for figures in bout.pairing.figures))


def _figures(found: Comparison, bout: Bout) -> Section:
    table = Table(caption="Figures, each at its own t_high", header=("", *found.names), rows=tuple(_figure_rows(bout)))
    return Section(title=bout.trial.name, answers="R7, R8, R10", text=tuple(_counts_said(bout)), tables=(table,))


def _difference_rows(bout: Bout) -> Iterator[tuple[object, ...]]:
    yield ("ROC-AUC of the logits (DeLong, paired)", *(_tested(one) for one in bout.pairing.delong))
    for key, name in NAMES.items():
        if key != "brier_uncertainty":  # the cohort's, and the same for all
            yield (name, *(_signed(differences[key]) for differences in bout.pairing.differences))


def _tested(one: Difference) -> str:
    p = "no difference on any film" if one.p != one.p else "p < 0.001" if one.p < 0.001 else f"p = {one.p:.3f}"
    return f"{_signed(one.figure)}, {p}"


def _signed(figure: Any) -> str | None:
    if figure.value != figure.value:
        return None
    apart = " *" if figure.low > 0 or figure.high < 0 else ""
    return f"{figure.value:+.3f} ({figure.low:+.3f} to {figure.high:+.3f}){apart}"


def _differences(found: Comparison, bout: Bout) -> Section:
    header = ("", *(f"{name} less {found.names[0]}" for name in found.names[1:]))
    table = Table(caption="Paired differences; * marks an interval without 0", header=header, rows=tuple(_difference_rows(bout)))
    return Section(title=f"{bout.trial.name}: differences", answers="R8", tables=(table,))


def _shortcut_rows(bout: Bout) -> Iterator[tuple[object, ...]]:
    metadata = bout.robust[0].metadata
    if metadata is not None:
        yield ("A model of file statistics, no picture", *(metadata for _ in bout.robust))
        yield ("Matched by file statistics", *(robust.matched for robust in bout.robust))
    said = {
        UNCHANGED: f"Unchanged, the {bout.robust[0].n} films of the copies",
        NO_LUNGS: "Lungs covered (should fall towards 0.5)",
        ELSEWHERE: "Lungs in the surround of a film of the other class (0 if the surround alone were read)",
    }
    for name in bout.robust[0].copies:
        yield (said.get(name, name[:1].upper() + name[1:]), *(robust.copies[name] for robust in bout.robust))
    yield ("Refused by its guard", *(None if robust.refused is None else f"{robust.refused:.1%}" for robust in bout.robust))
    inside = [looked.inside[np.isfinite(looked.inside)] for looked in bout.looked]
    yield ("Share of the map inside the lungs", *(float(values.mean()) if len(values) else None for values in inside))


def _shortcuts(found: Comparison, bout: Bout) -> Section:
    table = Table(caption="ROC-AUC on changed pictures, and controls", header=("", *found.names), rows=tuple(_shortcut_rows(bout)))
    return Section(title=f"{bout.trial.name}: shortcuts", answers="R14", tables=(table,))


def _drawn(found: Comparison, bout: Bout) -> Section:
    rocs, smooth = [], []
    few = min(bout.labels.sum(), (1 - bout.labels).sum()) < MIN_CLASS
    for name, one in zip(found.names, bout.rated, strict=True):
        cases = Cases(probabilities=one.probabilities, labels=bout.labels, patients=bout.looked[0].patients)
        band = curves.roc(replace(cases, probabilities=one.logits), found.seed)
        rocs.append(plots.Curve(name=name, x=band.x, y=band.y, low=band.low, high=band.high))
        if few:
            bins = reliability(one.probabilities, bout.labels, bins=5, equal_mass=True)
            smooth.append(plots.Curve(name=name, x=[b.predicted for b in bins], y=[b.observed for b in bins], marker="o"))
        else:
            line = smooth_reliability(cases, found.seed)
            smooth.append(plots.Curve(name=name, x=line.predicted, y=line.observed, low=line.low, high=line.high))
    size = (4.2, 3.8)
    roc = plots.lines(rocs, x="1 - specificity", y="sensitivity", diagonal=True, x_range=UNIT, y_range=UNIT, size=size)
    how = "five equal counts" if few else "smooth, 95 % bands"
    rely = plots.lines(smooth, x="predicted probability", y="observed rate", diagonal=True, x_range=UNIT, y_range=UNIT, size=size)
    return Section(
        title=f"{bout.trial.name}: curves",
        answers="R8, R10",
        plots=(
            Plot(caption="ROC curves with 95 % bands by patient", svg=roc, alt="ROC curves of all networks"),
            Plot(caption=f"Reliability: {how}", svg=rely, alt="Reliability of all networks against the diagonal"),
        ),
    )


def _disputed(found: Comparison, bout: Bout) -> tuple[Section, ...]:
    images, thumbnails = bout.looked[0].images, []
    for place, index in enumerate(most_disputed(bout.rated, DISPUTED), start=1):
        said = "pneumonia" if images[index].label else "no pneumonia"
        for name, network, looked, rated in zip(found.names, found.networks, bout.looked, bout.rated, strict=True):
            p = rated.probabilities[index]
            caption = f"Film {place}, {name}: {p:.3f}{', raised' if p >= rated.threshold else ''}. {said}. {images[index].path.name}"
            thumbnails.append(gallery.thumbnail(network, looked, index, caption))
    text = ("The films whose probabilities lie furthest apart, each film once for every network with its own heat map.",)
    title = f"{bout.trial.name}: where they disagree most"
    return (Section(title=title, answers="M6", text=text, thumbnails=tuple(thumbnails), thumbnails_hold_images=True),)


def _cost_table(found: Comparison) -> Table:
    rows = [cost_rows(cost) for cost in found.costs]
    turned = tuple((cells[0][0], *(cell[1] for cell in cells)) for cells in zip(*rows, strict=True))
    return Table(caption="", header=("", *found.names), rows=turned)


def facts_of(found: Comparison) -> dict[str, Any]:
    """Every figure by name. No image, file name or patient."""
    return {
        "networks": [
            {"name": name, "kind": one.subject.kind, **one.subject.told, "calibration": as_document(one.calibration), "how": one.how}
            for name, one in zip(found.names, found.networks, strict=True)
        ],
        "seed": found.seed,
        "cohorts": {bout.trial.name: _facts(bout) for bout in found.bouts},
        "cost": [{**asdict(cost), "ratio": cost.ratio} for cost in found.costs],
    }


def _facts(bout: Bout) -> dict[str, Any]:
    pairing = bout.pairing
    return {
        "n": len(bout.labels),
        "events": int(bout.labels.sum()),
        "left_out": bout.left_out,
        "seen": bout.trial.seen,
        "roc_auc_delong": [plain(auc) for auc in pairing.aucs],
        "figures": [{name: plain(figure) for name, figure in figures.items()} for figures in pairing.figures],
        "differences": [{name: plain(figure) for name, figure in figures.items()} for figures in pairing.differences],
        "delong": [{"difference": plain(one.figure), "p": None if one.p != one.p else one.p} for one in pairing.delong],
        "shortcuts": [
            {
                "metadata_only": plain(robust.metadata),
                "matched": None if robust.metadata is None else robust.matched,
                "copies": {name: plain(figure) for name, figure in robust.copies.items()},
                "refused_by_guard": robust.refused,
            }
            for robust in bout.robust
        ],
    }


def markdown_of(found: Comparison) -> str:
    """The tables as Markdown, without images, file names or patients."""
    parts = [f"# Comparison of {', '.join(found.names)}", HOW]
    parts += [f"- {name}: {one.how}." for name, one in zip(found.names, found.networks, strict=True)]
    for bout in found.bouts:
        parts += [f"## {bout.trial.name}", " ".join(_counts_said(bout))]
        parts.append(_markdown(("", *found.names), list(_figure_rows(bout))))
        parts.append(f"Differences from {found.names[0]}, paired; * marks an interval without 0.")
        parts.append(_markdown(("", *found.names[1:]), list(_difference_rows(bout))))
        parts.append("ROC-AUC on changed pictures, and controls.")
        parts.append(_markdown(("", *found.names), list(_shortcut_rows(bout))))
    if found.costs:
        parts += ["## Cost", COST_SAID, _markdown(("", *found.names), list(_cost_table(found).rows))]
    return "\n\n".join(parts).replace("\n\n- ", "\n- ").replace("\n- ", "\n\n- ", 1) + "\n"


def _markdown(header: Sequence[str], rows: Sequence[tuple[object, ...]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "|---" * len(header) + "|"]
    lines += ["| " + " | ".join(formatted(cell).replace("|", "/") for cell in row) + " |" for row in rows]
    return "\n".join(lines)
