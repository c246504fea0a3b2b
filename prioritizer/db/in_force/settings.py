"""Which settings override lies above the configuration, read inside the transaction that uses it, and held until that transaction ends.

Who scores or places holds the row of `site_rules` shared, who decides on an override holds it alone; always this row first, then the
bundle's, then studies. An override that does not hold over the configuration at hand, or is not what was stored, is set aside here, in
the same transaction: the configuration alone holds, and whoever asks is told why.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from prioritizer.config import settings_override
from prioritizer.config.policy import SitePolicy
from prioritizer.db.schema import connect
from prioritizer.db.schema.site_tables import rulings, site_rules
from prioritizer.errors import SettingsOverrideUnfit
from prioritizer.states import SettingsOverrideState


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingsOverrideRow:
    """A settings override as the ledger keeps it."""

    id: int
    state: str
    document: str
    sha256: str
    reason: str
    effect: dict[str, Any]
    """What was simulated when it was proposed."""
    proposed_at: datetime
    proposed_by: str
    approved_at: datetime | None
    approved_by: str | None
    activated_at: datetime | None
    activated_by: str | None
    ended_at: datetime | None
    ended_by: str | None
    """Who ended it, or rejected it."""
    replaced: int | None

    @property
    def changes(self) -> dict[str, str | float]:
        """The values that it changes. Raises SettingsOverrideUnfit where it is not what was stored."""
        return settings_override.read(self.document, self.sha256)

    @property
    def fault(self) -> str:
        """Why its document cannot be trusted; empty where it can."""
        try:
            settings_override.read(self.document, self.sha256)
        except SettingsOverrideUnfit as error:
            return str(error)
        return ""


COLUMNS = [rulings.c[name] for name in SettingsOverrideRow.__dataclass_fields__]


@dataclass(frozen=True, slots=True, kw_only=True)
class OverriddenPolicy:
    """The site's rules as they hold in this transaction."""

    policy: SitePolicy
    """The configured rules with the settings override over them."""
    change: int = 0
    """How often what lies above the configuration was changed."""
    active: SettingsOverrideRow | None = None
    changes: Mapping[str, str | float] = field(default_factory=dict)
    """What the active settings override changes; empty where none holds."""
    fault: str = ""
    """Why the active settings override was set aside; then the configuration alone holds."""


def ruled(tx: sa.Connection, policy: SitePolicy, *, alone: bool = False, held: bool = True) -> OverriddenPolicy:
    """The rules of `policy` with the active settings override over them, held until the commit; `alone` by who decides on overrides."""
    change = _held_change(tx, alone=alone) if held else int(tx.scalar(sa.select(site_rules.c.change)) or 0)
    # A query of its own, after the row is held: on Postgres a joined row would be that of before the wait.
    active = active_row(tx)
    if active is None:
        return OverriddenPolicy(policy=policy, change=change)
    try:
        changes = active.changes
        ranking = settings_override.over(policy.ranking, changes)
        return OverriddenPolicy(policy=replace(policy, ranking=ranking), change=change, active=active, changes=changes)
    except SettingsOverrideUnfit as error:
        return OverriddenPolicy(policy=policy, change=change, active=active, fault=f"settings override {active.id} is set aside: {error}")


def holding(engine: sa.Engine, policy: SitePolicy) -> OverriddenPolicy:
    """What holds now, read only."""
    with connect.reading(engine) as tx:
        return ruled(tx, policy, held=False)


def active_row(tx: sa.Connection) -> SettingsOverrideRow | None:
    """The active settings override; None while the configuration alone holds."""
    found = tx.execute(sa.select(*COLUMNS).where(rulings.c.state == SettingsOverrideState.ACTIVE)).one_or_none()
    return SettingsOverrideRow(**found._mapping) if found else None


def hold_settings(tx: sa.Connection) -> None:
    """Hold the one row that stands for the site alone, until the commit."""
    _held_change(tx, alone=True)


def _held_change(tx: sa.Connection, *, alone: bool) -> int:
    wanted = sa.select(site_rules.c.change).with_for_update(read=not alone)
    found = tx.scalar(wanted)
    if found is None:
        insert = postgresql.insert if tx.dialect.name == "postgresql" else sqlite.insert
        tx.execute(insert(site_rules).values(one=1, change=0).on_conflict_do_nothing())
        found = tx.scalar(wanted)
    return int(found or 0)
