"""The page of a simulation, and the section "Simulated effect" that another report can hold. Items of EXPERIENCE R16 and R17."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from prioritizer.queue_simulation.compare import CLASSES, FALSE, FLAGGED, GRID, MISSED, QUIET, STAT, UNSCORED, Effect
from prioritizer.reports import page, plots
from prioritizer.reports.page import Plot, Report, ReportVerdict, Section, Table
from prioritizer.simulation import wording as words
from prioritizer.simulation.run import SimulationOutcome

DRAWN = (FLAGGED, MISSED, QUIET)
BARS = (FLAGGED, MISSED, FALSE, QUIET, UNSCORED, STAT)
RULE = "every way of ordering gets the same studies, scores and reading times; intervals are over independent replications"
LIMITS = (
    "Readers here never choose, pause, or open a study out of order, and a study takes as long whoever reads it. Real rooms differ: use "
    "the figures to choose between settings, and measure the turn-around of the real list afterwards.",
    "Nobody's wait has a ceiling in minutes: while more arrives than can be read, every order waits long. What is bounded is overtaking: "
    "a study is passed only by studies that arrive within the bound after it, so AI lets it wait for the flagged ones of those, no more.",
)


def write(outcome: SimulationOutcome, path: Path) -> Path:
    """The page and the JSON beside it."""
    return page.write(report_of(outcome), path)


def report_of(outcome: SimulationOutcome) -> Report:
    """The whole report."""
    first, asked = outcome.effects[0], outcome.effects[2:]
    sentence = " ".join((words.buys(asked[0]), words.costs(asked[0], first)))
    return Report(
        title="Simulation of the reading room",
        made_at=outcome.made_at,
        verdict=ReportVerdict(word="simulated, not measured", sentence=sentence, rule=RULE),
        sections=(_effects(outcome), _turnaround(outcome), _distributions(outcome.effects), _bars(outcome.effects), *_sure(outcome)),
        facts=words.facts(outcome),
    )


def _effects(outcome: SimulationOutcome) -> Section:
    first, asked = outcome.effects[0], outcome.effects[2:]
    text = [" ".join((words.buys(effect), words.costs(effect, first))) for effect in asked[1:]]
    rows = tuple(words.effect_row(effect) for effect in outcome.effects)
    table = Table(caption=words.EFFECT_CAPTION, header=words.EFFECT_HEADER, rows=rows)
    notes = (*text, *words.warnings(outcome.scenario, outcome.effects))
    return Section(title="What it buys and what it costs", answers="R16", text=notes, tables=(table,))


def _turnaround(outcome: SimulationOutcome) -> Section:
    tables = tuple(_class_table(name, outcome.effects) for name in CLASSES if outcome.effects[0].classes[name].n)
    text = "Minutes from arrival to the end of reading; 95 % intervals over replications. A flag is the model's, raised or not."
    return Section(title="Turn-around", answers="R16", text=(text,), tables=tables)


def _class_table(name: str, effects: Sequence[Effect]) -> Table:
    rows = []
    for effect in effects:
        found = effect.classes[name]
        figures = [words.with_interval(figure) for figure in (found.mean, found.median, found.p95, found.longest)]
        overdue = "-" if math.isinf(effect.setting.bound) else found.overdue
        rows.append((words.named(effect), found.n, *figures, words.minutes(found.longest_of_all), overdue))
    header = ("order", "n", "mean", "median", "p95", "longest of a replication", "longest of all", "OVERDUE")
    return Table(caption=_titled(name), header=header, rows=tuple(rows))


def _titled(name: str) -> str:
    return name[0].upper() + name[1:]


def _distributions(effects: Sequence[Effect]) -> Section:
    drawn = tuple(_distribution(name, effects) for name in DRAWN if effects[0].classes[name].n)
    text = "The share of a class that was read, by minutes after arrival: a curve further left is earlier. Axes end where 99.5 % were read."
    return Section(title="Turn-around, every study", answers="R16", text=(text,), plots=drawn)


def _distribution(name: str, effects: Sequence[Effect]) -> Plot:
    held = [effect for effect in effects if effect.classes[name].n]
    curves = [
        plots.Curve(name=effect.setting.name, x=effect.classes[name].spread, y=GRID, dashed=index == 0) for index, effect in enumerate(held)
    ]
    furthest = max(float(np.interp(0.995, GRID, effect.classes[name].spread)) for effect in held)
    svg = plots.lines(
        curves, x="minutes after arrival", y="share read", x_range=(0.0, furthest * 1.02), y_range=(0.0, 1.0), size=(4.4, 3.4)
    )
    alt = f"Share of the class '{name}' that was read, over the minutes since arrival, one curve for each way of ordering"
    return Plot(caption=_titled(name), svg=svg, alt=alt)


def _bars(effects: Sequence[Effect]) -> Section:
    names = [name for name in BARS if effects[0].classes[name].n]
    drawn = []
    for what, figure in (("mean", "mean"), ("95th percentile", "p95"), ("longest of all", "longest_of_all")):
        series = [(effect.setting.name, [_height(effect, name, figure) for name in names]) for effect in effects]
        groups = [name.replace(", ", ",\n") for name in names]
        svg = plots.bars(groups, series, y=f"minutes, {what}", size=(9.0, 3.4))
        drawn.append(Plot(caption=f"Turn-around, {what}", svg=svg, alt=f"Bars of the {what} turn-around by class and way of ordering"))
    return Section(title="Turn-around by class", answers="R16", plots=tuple(drawn))


def _height(effect: Effect, name: str, figure: str) -> float:
    found = effect.classes[name]
    value = found.longest_of_all if figure == "longest_of_all" else getattr(found, figure).value
    return float(np.nan_to_num(value))


def _sure(outcome: SimulationOutcome) -> tuple[Section, Section]:
    """How the result hangs on what was told, and what was assumed."""
    rows = tuple(words.variant_rows(outcome))
    table = Table(caption="Turn-around in minutes, the same arrivals", header=words.VARIANT_HEADER, rows=rows)
    text = "The site's prevalence and the model's specificity are seldom known well. Choose a setting that you would accept in every row."
    return (
        Section(title="If the figures were otherwise", answers="R17", text=(text,), tables=(table,)),
        Section(
            title="Assumptions",
            answers="R16",
            text=LIMITS,
            tables=(Table(caption="What was simulated", header=("", ""), rows=outcome.assumptions),),
        ),
    )
