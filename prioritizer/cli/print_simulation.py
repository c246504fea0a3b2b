"""A simulation on the terminal: what each way of ordering buys and costs, turn-around by class, and what was assumed."""

from __future__ import annotations

import math

from rich.console import Console
from rich.table import Table
from rich.text import Text

from prioritizer.queue_simulation.compare import CLASSES
from prioritizer.simulation import wording as words
from prioritizer.simulation.run import SimulationOutcome

SHOWN = CLASSES[:6]


def show(outcome: SimulationOutcome, out: Console) -> None:
    """Tables, sentences, assumptions."""
    out.print(_turnaround(outcome))
    out.print(_effects(outcome))
    for effect in outcome.effects[2:]:
        for sentence in (words.buys(effect), words.costs(effect, outcome.effects[0])):
            out.print(Text(sentence, style="bold"), soft_wrap=True)
    for warning in words.warnings(outcome.scenario, outcome.effects):
        out.print(Text(f"!! {warning}", style="bold yellow"), soft_wrap=True)
    out.print(Text(f"\n{words.SIMULATED} Assumed:"), soft_wrap=True)
    for name, value in outcome.assumptions:
        out.print(Text(f"  {name}: {value}"), soft_wrap=True)


def _turnaround(outcome: SimulationOutcome) -> Table:
    table = Table(title="Turn-around from arrival to read, minutes (95 % interval over replications)", title_justify="left")
    for name in ("Class", "Order"):
        table.add_column(name)
    for name in ("n", "Mean", "Median", "p95", "Longest", "OVERDUE"):
        table.add_column(name, justify="right")
    before = ""
    for name, effect, found in words.class_rows(outcome.effects):
        if name not in SHOWN:
            continue
        if before and name != before:
            table.add_section()
        figures = (words.with_interval(found.mean), words.minutes(found.median.value), words.minutes(found.p95.value))
        cells = (name if name != before else "", effect.setting.name, str(found.n), *figures)
        table.add_row(
            *map(Text, (*cells, words.minutes(found.longest_of_all), "-" if math.isinf(effect.setting.bound) else str(found.overdue)))
        )
        before = name
    return table


def _effects(outcome: SimulationOutcome) -> Table:
    table = Table(title=words.EFFECT_CAPTION, title_justify="left")
    for index, name in enumerate(words.EFFECT_HEADER):
        table.add_column(name.capitalize() if index == 0 else name, justify="right" if index else "left")
    for effect in outcome.effects:
        table.add_row(*map(Text, words.effect_row(effect)))
    return table
