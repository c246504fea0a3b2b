"""Settings overrides on the terminal and as JSON: what is configured, overridden and in force, and what an override was simulated to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from prioritizer.config import settings_override
from prioritizer.config.settings import Settings
from prioritizer.db.in_force.settings import OverriddenPolicy, SettingsOverrideRow
from prioritizer.simulation.wording import SIMULATED, minutes


def as_json(row: SettingsOverrideRow) -> dict[str, Any]:
    """Everything about one settings override."""
    return {**asdict(row), "changes": {} if row.fault else row.changes, "fault": row.fault}


def in_force_as_json(settings: Settings, holds: OverriddenPolicy) -> dict[str, Any]:
    """What is configured, what is overridden, what is in force."""
    return {
        "configured": settings_override.configured(settings),
        "ruled": dict(holds.changes),
        "in_force": settings_override.values_of(holds.policy.ranking),
        "ruling": holds.active.id if holds.active else None,
        "change": holds.change,
        "fault": holds.fault,
    }


def show_list(settings: Settings, holds: OverriddenPolicy, rows: Sequence[SettingsOverrideRow], out: Console) -> None:
    """The rules in force, then every settings override, the newest first."""
    if holds.fault:
        out.print(Text(f"!! {holds.fault}. The configuration alone holds.", style="bold red"), soft_wrap=True)
    told = in_force_as_json(settings, holds)
    table = Table("Rule", "Configured", "Overridden", "In force", title="The site's rules", title_justify="left")
    for key in settings_override.KEYS:
        ruled = settings_override.value_in_words(key, told["ruled"][key]) if key in told["ruled"] else ""
        cells = (
            settings_override.NAMES[key],
            settings_override.value_in_words(key, told["configured"][key]),
            ruled,
            settings_override.value_in_words(key, told["in_force"][key]),
        )
        table.add_row(*map(Text, cells))
    out.print(table)
    if not rows:
        out.print("No settings override was ever proposed: the configuration alone holds.")
    for row in rows:
        out.print(Text(f"{row.id:>4}  {row.state.lower():<9}  {said_of(row)}"), soft_wrap=True)


def said_of(row: SettingsOverrideRow) -> str:
    """One settings override in a line."""
    what = f"!! {row.fault}" if row.fault else settings_override.in_words(row.changes)
    approved = f"; approved by {row.approved_by}" if row.approved_by else ""
    return f"{what}; proposed by {row.proposed_by} on {row.proposed_at:%Y-%m-%d}: {row.reason}{approved}"


def show_one(row: SettingsOverrideRow, out: Console) -> None:
    """Who did what with a settings override, and what it was simulated to do."""
    what = f"!! {row.fault}" if row.fault else settings_override.in_words(row.changes)
    out.print(Text(f"settings override {row.id}, {row.state.lower()}: {what}", style="bold"))
    out.print(Text(f"reason: {row.reason}"), soft_wrap=True)
    last = "rejected" if row.state == "REJECTED" else "ended"
    for word, who, at in (
        ("proposed", row.proposed_by, row.proposed_at),
        ("approved", row.approved_by, row.approved_at),
        ("activated", row.activated_by, row.activated_at),
        (last, row.ended_by, row.ended_at),
    ):
        if who and at:
            out.print(Text(f"{word} by {who}, {at.astimezone():%Y-%m-%d %H:%M}"))
    show_effect(row.effect, out)


def show_acceptance(found: Mapping[str, Any], out: Console) -> None:
    """What was measured here in shadow, and what of it speaks against leaving it."""
    for said in found.get("said", ()):
        out.print(Text(f"measured in shadow: {said}"), soft_wrap=True)
    for fault in found.get("faults", ()):
        out.print(Text(f"!! not yet: {fault}", style="bold yellow"), soft_wrap=True)


def show_effect(effect: Mapping[str, Any], out: Console) -> None:
    """The simulated effect: each way of ordering, and which open studies would stand elsewhere."""
    show_acceptance(effect.get("acceptance") or {}, out)
    if effect.get("fault"):
        out.print(Text(f"!! {effect['fault']}", style="bold yellow"), soft_wrap=True)
    if effect.get("orders"):
        header = ("Order", "flagged", "all others", "longest", "raised", "OVERDUE")
        table = Table(*header, title="Minutes from arrival to read, simulated", title_justify="left")
        for one in effect["orders"]:
            waits = [minute(one[name]) for name in ("flagged", "others", "longest")]
            table.add_row(*map(Text, (f"{one['order']}: {one['rules']}", *waits, share(one["raised"]), share(one["overdue"]))))
        out.print(table)
    for said in (*effect.get("said", ()), *(f"!! {warning}" for warning in effect.get("warnings", ()))):
        out.print(Text(said), soft_wrap=True)
    if "moved" in effect:
        out.print(Text(f"{effect['moved']} of {effect['open']} open studies would stand elsewhere at that moment."))
    for one in effect.get("moves", ()):
        out.print(Text(f"  {one['from']} -> {one['to']}  {one['study_uid']}  {one['why']}"), soft_wrap=True)
    if effect.get("assumed"):
        out.print(Text(f"{SIMULATED} Assumed:"), soft_wrap=True)
    for name, value in effect.get("assumed", ()):
        out.print(Text(f"  {name}: {value}"), soft_wrap=True)


def minute(value: float | None) -> str:
    """Minutes, a dash where there are none."""
    return "-" if value is None else minutes(value)


def share(value: float | None) -> str:
    """A share in percent, a dash where there is none."""
    return "-" if value is None else f"{value:.1%}"
