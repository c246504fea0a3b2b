"""Sections that more than one report holds: whom a network serves, and whether raising by it is of use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from prioritizer.calibration.operating_point import Share
from prioritizer.reports import plots
from prioritizer.reports.page import Plot, Section, Table
from prioritizer.statistics.curves import DecisionCurve
from prioritizer.statistics.intervals import Figure, Float64
from prioritizer.statistics.subgroups import Subgroup

NO_GROUPS = "The cohort states neither age, sex, view, scanner, site nor subtype, or one for all: nothing can be said of groups."


def subgroups(groups: Sequence[Subgroup], whole: Figure) -> Section:
    """R13. `whole` is the ROC-AUC of all films."""
    if not groups:
        return Section(title="Subgroups", answers="R13", text=(NO_GROUPS,))
    rows = tuple(
        (group.kind, group.name, group.n, group.events, group.auc, _short(group.sensitivity), _short(group.specificity), group.slope)
        for group in groups
    )
    table = Table(
        caption="At t_high; small cells are greyed and are no evidence",
        header=(
            "",
            "group",
            "n",
            "events",
            "ROC-AUC (DeLong)",
            "sensitivity (by patient)",
            "specificity (by patient)",
            "calibration slope",
        ),
        rows=rows,
        greyed=frozenset(index for index, group in enumerate(groups) if group.small),
    )
    seen = [(f"{g.kind}: {g.name}", g.auc.value, g.auc.low, g.auc.high) for g in groups if not g.small and g.auc.value == g.auc.value]
    if not seen:
        return Section(title="Subgroups", answers="R13", tables=(table,))
    svg = plots.intervals(seen, x="ROC-AUC", vertical=whole.value)
    drawn = Plot(caption="ROC-AUC by group; dashed: all films", svg=svg, alt="ROC-AUC by group with intervals")
    return Section(title="Subgroups", answers="R13", tables=(table,), plots=(drawn,))


def _short(share: Share) -> str | None:
    return f"{share.value:.3f} ({share.low:.3f}-{share.high:.3f})" if share.of else None


def decision(found: DecisionCurve, name: str, *, beside: Mapping[str, Float64] | None = None) -> Section:
    """R11: net benefit with its band, beside it that of others at the same thresholds, of raising all and of raising none."""
    x, useful = found.model.x, found.useful
    said = (
        f"The lower bound of {name} beats raising everything and raising nothing from {useful[0]:.2f} to {useful[1]:.2f}."
        if useful
        else f"At no threshold does the lower bound of {name} beat both raising everything and raising nothing."
    )
    others = [plots.Curve(name=other, x=x, y=benefit) for other, benefit in (beside or {}).items()]
    drawn = plots.lines(
        [
            plots.Curve(name=name, x=x, y=found.model.y, low=found.model.low, high=found.model.high),
            *others,
            plots.Curve(name="raise all", x=x, y=found.everything, dashed=True),
            plots.Curve(name="raise none", x=x, y=np.zeros_like(x), dashed=True),
        ],
        x="threshold probability: a study this likely should come early",
        y="net benefit",
        y_range=(-0.1, found.share + 0.05),
        size=(6.0, 3.8),
    )
    text = ("Net benefit: pneumonias raised less false alarms, weighed by the odds of the threshold (Vickers and Elkin 2006).", said)
    plot = Plot(caption="Decision curve with its 95 % band, at the cohort's share of pneumonia", svg=drawn, alt=said)
    return Section(title="Is it of use", answers="R11", text=text, plots=(plot,))
