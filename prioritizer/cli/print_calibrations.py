"""Calibrations for people and for machines: the list, one of them, two beside each other."""

from __future__ import annotations

from dataclasses import asdict, replace
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from prioritizer.calibration.maps import AgeGroup, Calibration, as_document
from prioritizer.db.decisions.calibrations import CalibrationRow
from prioritizer.db.in_force.calibration import PolicyInForce
from prioritizer.errors import CalibrationChanged
from prioritizer.inference.bundle import Bundle

LOGITS = (-6.0, -4.0, -2.0, -1.0, 0.0, 1.0, 2.0, 4.0, 6.0)
"""Where `diff` compares two maps."""


def as_json(row: CalibrationRow) -> dict[str, Any]:
    """A row for machines: the calibration as a table, moments as ISO 8601, and whether it is what was stored."""
    told = {key: value.isoformat() if isinstance(value, datetime) else value for key, value in asdict(row).items() if key != "document"}
    try:
        return {**told, "calibration": as_document(row.calibration), "trusted": True}
    except CalibrationChanged as error:
        return {**told, "calibration": None, "trusted": False, "fault": str(error)}


def own_as_json(bundle: Bundle, applies: PolicyInForce) -> dict[str, Any]:
    """The bundle's own calibration in the same words."""
    own = bundle.calibration
    active = applies.calibration is not None and applies.calibration == own
    return {
        "id": own.id,
        "bundle_digest": bundle.digest,
        "state": "ACTIVE" if active else "OWN",
        "own": True,
        "calibration": as_document(own),
        "trusted": True,
    }


def show_list(rows: list[CalibrationRow], bundle: Bundle, applies: PolicyInForce, out: Console) -> None:
    """One line a calibration, the bundle's own last."""
    table = Table(expand=True)
    for name in ("Id", "State", "Made", "By", "Approved", "Cases", "t_high", "Verdict"):
        table.add_column(name, no_wrap=name in ("Id", "State", "Made"))
    for row in rows:
        t_high = _t_high(row) if row.bundle_digest == bundle.digest else "other bundle"
        made, approved = f"{row.made_at.astimezone():%Y-%m-%d}", row.approved_by or ""
        cells = (row.id, row.state, made, row.made_by, approved, _cases(row), t_high, row.verdict)
        table.add_row(*map(Text, cells), style="bold" if row.state == "ACTIVE" else "")
    own = bundle.calibration
    state = "ACTIVE" if applies.calibration == own else ""
    cells = (own.id, state, "", "the bundle", "", own.cases, own.raised_from, "")
    table.add_row(*map(Text, cells), style="bold" if state else "")
    out.print(table)
    if applies.fault:
        out.print(Text(f"!! {applies.fault}: nothing is raised. Go back with `prioritizer calibration rollback`.", style="bold red"))


def _cases(row: CalibrationRow) -> str:
    try:
        return row.calibration.cases
    except CalibrationChanged:
        return str(row.n)


def _t_high(row: CalibrationRow) -> str:
    try:
        return row.calibration.raised_from
    except CalibrationChanged:
        return "CHANGED"


def show_one(told: dict[str, Any], out: Console) -> None:
    """Every fact of one calibration."""
    for key, value in told.items():
        for inner, text in value.items() if isinstance(value, dict) else ((key, value),):
            if text not in (None, ""):
                out.print(Text(f"{inner:>14}  {text}"), soft_wrap=True)


def difference(one: Calibration, other: Calibration) -> dict[str, Any]:
    """What differs: maps at some logits, thresholds, and the logits from which a study is raised; `adults` where they have a map."""
    adults = {}
    if one.adults is not None or other.adults is not None:
        adults = {"adults": difference(one.of_group(AgeGroup.ADULTS), other.of_group(AgeGroup.ADULTS))}
        one, other = replace(one, adults=None), replace(other, adults=None)
    return adults | {
        "a": one.id,
        "b": other.id,
        "thresholds": {name: [getattr(one, name), getattr(other, name)] for name in ("t_high", "t_low")},
        "raised_from_logit": [one.logit_at(one.t_high), other.logit_at(other.t_high)],
        "probability_at_logit": {f"{x:g}": [one.probability(x), other.probability(x)] for x in LOGITS},
    }


def show_difference(told: dict[str, Any], out: Console) -> None:
    """The two beside each other; for adults by themselves, where they have a map."""
    if "adults" in told:
        show_difference(told["adults"], out)
    table = Table("", told["a"], told["b"])
    rows = [(name, *values) for name, values in told["thresholds"].items()]
    rows += [("raised from logit", *told["raised_from_logit"])]
    rows += [(f"probability at logit {x}", *values) for x, values in told["probability_at_logit"].items()]
    for name, a, b in rows:
        table.add_row(name, f"{a:.4f}", f"{b:.4f}")
    out.print(table)
    if all(a == b for _, a, b in rows):
        out.print("Map and thresholds are the same.")
