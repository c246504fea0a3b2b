"""What a simulation found, in words and as rows: the same for the terminal, the page, CSV and JSON."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from prioritizer.queue_simulation.compare import ALL, CLASSES, FLAGGED, MISSED, ClassFigures, Effect
from prioritizer.queue_simulation.scenario import Scenario
from prioritizer.simulation.run import SimulationOutcome
from prioritizer.statistics.intervals import Figure

SIMULATED = "A simulation, not a measurement: it is as right as its assumptions."
NO_BREAK = "\N{NO-BREAK SPACE}"
"""Keeps a value and its interval on one line of a narrow table."""
CSV_HEADER = (
    "figures", "order", "class", "n", "mean", "mean_low", "mean_high", "median", "median_low", "median_high", "p95", "p95_low", "p95_high",
    "longest", "longest_low", "longest_high", "longest_of_all", "overdue",
)  # fmt: skip


def minutes(value: float) -> str:
    """Minutes as people read them: whole from 10 on, a dash where there are none."""
    if math.isnan(value):
        return "-"
    return f"{value:.0f}" if abs(value) >= 10 else f"{round(value, 1) + 0.0:.1f}"  # + 0.0: no minus before a zero


def with_interval(figure: Figure) -> str:
    """A value in minutes with its 95 % interval."""
    if math.isnan(figure.value) or math.isnan(figure.low):
        return minutes(figure.value)
    parts = (minutes(figure.value), f"({minutes(figure.low)}", "to", f"{minutes(figure.high)})")
    return NO_BREAK.join(parts)


def named(effect: Effect) -> str:
    """The name of a way of ordering, a short one kept on one line."""
    name = effect.setting.name
    return name.replace(" ", NO_BREAK) if len(name) <= 18 else name


def buys(effect: Effect) -> str:
    """What a setting buys, in one sentence."""
    gain = effect.gain
    if math.isnan(gain.value):
        return f"{effect.setting.name}: no study with pneumonia was flagged."
    word = "earlier" if gain.value >= 0 else "later"
    sure = "" if math.isnan(gain.low) else f" (95 % interval {minutes(gain.low)} to {minutes(gain.high)})"
    return (
        f"{effect.setting.name}: a flagged study with pneumonia is read {minutes(abs(gain.value))} min {word} than in order of arrival, "
        f"on average{sure}."
    )


def costs(effect: Effect, first: Effect) -> str:
    """What a setting costs, in one sentence."""
    own, before = effect.longest(MISSED), first.classes[MISSED].longest_of_all
    others = f"no study without a flag was read more than {minutes(effect.furthest_back)} min later than in order of arrival"
    if effect.setting.policy.t_high != first.setting.policy.t_high or math.isnan(own):
        # Another threshold misses other studies: their longest waits are not comparable.
        return f"It costs: {others}."
    return (
        f"It costs: the longest wait of a study with pneumonia that is not flagged is {minutes(own)} min instead of {minutes(before)} "
        f"({own - before:+.0f} min), and {others}."
    )


def warnings(scenario: Scenario, effects: Sequence[Effect]) -> tuple[str, ...]:
    """What must be known before the figures are read."""
    found = []
    if scenario.load >= 1:
        said = f"More arrives than can be read ({scenario.load:.0%} of the readers' time): the list grows without end"
        found.append(f"{said}, and every figure depends on how many days were simulated.")
    for effect in effects:
        share = effect.suspended.value
        if share > 0.01:
            said = f"{effect.setting.name}: {share:.0%} of the flagged studies were not raised"
            found.append(f"{said}, because more than max_high_share of the studies before them had been (ranking.max_high_share).")
    return tuple(found)


def class_rows(effects: Sequence[Effect]) -> Iterator[tuple[str, Effect, ClassFigures]]:
    """(class, effect, figures), class by class, so that the ways of ordering stand beneath each other."""
    for name in CLASSES:
        for effect in effects:
            if effect.classes[name].n:
                yield name, effect, effect.classes[name]


def effect_row(effect: Effect) -> tuple[str, ...]:
    """Raised, gain, price, furthest back, overtaken, bound, OVERDUE of one setting."""
    everyone, bound = effect.classes[ALL], effect.setting.bound
    return (
        named(effect),
        f"{effect.raised.value:.1%}",
        with_interval(effect.gain),
        with_interval(effect.price),
        minutes(effect.furthest_back),
        minutes(effect.overtaken),
        "none" if math.isinf(bound) else minutes(bound),
        "-" if math.isinf(bound) else f"{everyone.overdue / max(everyone.n, 1):.1%}",
    )


EFFECT_HEADER = (
    "order",
    "studies raised",
    "pneumonia, flagged: earlier by",
    "pneumonia, not flagged: later by",
    "no flag: later by at most",
    "overtaken by arrivals up to ... after",
    "the bound",
    "OVERDUE",
)
EFFECT_CAPTION = "Against order of arrival, minutes (95 % interval over replications)"


def variant_rows(outcome: SimulationOutcome) -> list[tuple[str, ...]]:
    """One row a variant and setting: turn-around of flagged pneumonia, longest of missed pneumonia, studies raised."""
    return [
        (
            name.replace(" ", NO_BREAK),
            named(effect),
            with_interval(effect.classes[FLAGGED].mean),
            minutes(effect.longest(MISSED)),
            minutes(effect.furthest_back),
            f"{effect.raised.value:.1%}",
            "-" if math.isnan(effect.suspended.value) else f"{effect.suspended.value:.0%}",
        )
        for name, effects in (("as stated", outcome.effects), *outcome.variants)
        for effect in effects
    ]


VARIANT_HEADER = (
    "if",
    "order",
    "pneumonia, flagged: mean turn-around",
    "pneumonia, not flagged: longest",
    "no flag: later by at most",
    "studies raised",
    "flags suspended",
)


def facts(outcome: SimulationOutcome) -> dict[str, Any]:
    """Every figure by name, for JSON; what could not be computed is null."""
    told = {
        "simulation": SIMULATED,
        "assumptions": dict(outcome.assumptions),
        "load": outcome.scenario.load,
        "said": [sentence for effect in outcome.effects[2:] for sentence in (buys(effect), costs(effect, outcome.effects[0]))],
        "warnings": list(warnings(outcome.scenario, outcome.effects)),
        "orders": [_effect_facts(effect) for effect in outcome.effects],
        "variants": {name: [_effect_facts(effect) for effect in effects] for name, effects in outcome.variants},
    }
    return {key: _plain(value) for key, value in told.items()}


def _effect_facts(effect: Effect) -> dict[str, Any]:
    policy = effect.setting.policy
    figures = {name: getattr(effect, name) for name in ("raised", "suspended", "gain", "price")}
    return {
        "order": effect.setting.name,
        "bound_minutes": effect.setting.bound,
        "t_high": policy.t_high,
        "furthest_back": effect.furthest_back,
        "overtaken": effect.overtaken,
        **{name: asdict(figure) for name, figure in figures.items()},
        "classes": {
            name: {key: value for key, value in asdict(found).items() if key != "spread"} for name, found in effect.classes.items()
        },
    }


def _plain(value: Any) -> Any:
    """Numbers that JSON has no word for become null."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_csv(outcome: SimulationOutcome, path: Path) -> None:
    """One line a variant, setting and class, minutes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(CSV_HEADER)
        for variant, effects in (("as stated", outcome.effects), *outcome.variants):
            for name, effect, found in class_rows(effects):
                figures = [f"{x:.3f}" for f in (found.mean, found.median, found.p95, found.longest) for x in (f.value, f.low, f.high)]
                writer.writerow([variant, effect.setting.name, name, found.n, *figures, f"{found.longest_of_all:.3f}", found.overdue])
