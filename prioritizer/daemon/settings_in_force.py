"""The settings in force: the configured ones with the active settings override over them. For those who show things and those who publish.

Whoever places a study is given the configured rules and asks the ledger in its own transaction (`db.in_force`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import sqlalchemy as sa

from prioritizer.config import settings_override
from prioritizer.config.policy import policy_of
from prioritizer.config.settings import Settings
from prioritizer.db.in_force.settings import OverriddenPolicy, holding
from prioritizer.db.processing.housekeeping import Alarm
from prioritizer.errors import SettingsOverrideUnfit, Transient

FRESH_S = 1.0
"""Seconds for which a page may go on with what it read: a request asks ten times."""
SET_ASIDE = "ruling-set-aside"
MEND = (
    "Propose a settings override that goes with the configuration, or `prioritizer overrides end`, or mend the configuration and reload. "
    "Until then the configuration alone holds"
)


def holding_for(engine: sa.Engine, settings: Settings) -> OverriddenPolicy:
    """What holds over these settings now. Raises Transient."""
    return holding(engine, policy_of(settings, None))


def in_force_for(engine: sa.Engine, settings: Settings) -> Settings:
    """These settings with the settings override that holds over them. Raises Transient."""
    return over(settings, holding_for(engine, settings).changes)


def over(settings: Settings, changes: Mapping[str, str | float]) -> Settings:
    """Settings with the changes over them, where they go together; else the settings alone, as the ledger has it."""
    try:
        return settings_override.applied(settings, changes) if changes else settings
    except SettingsOverrideUnfit:
        return settings


def alarm_of(found: OverriddenPolicy, settings: Settings) -> Alarm | None:
    """The alarm of a settings override that was set aside, with who is asked to mend it."""
    if not found.fault or found.active is None:
        return None
    who = f"{settings.monitoring.owner}, and {found.active.activated_by}, who put it in force"
    return Alarm(name=SET_ASIDE, said=f"{found.fault}. {who}", mend=MEND)


class SettingsInForce:
    """The settings in force for pages: read from the ledger at most once a second; with the ledger down, the last that was read."""

    def __init__(self, engine: sa.Engine, configured: Callable[[], Settings], clock: Callable[[], float] = time.monotonic) -> None:
        self._engine, self._configured, self._clock = engine, configured, clock
        self._read: tuple[float, Mapping[str, str | float]] | None = None
        self._made: tuple[Settings, Mapping[str, str | float], Settings] | None = None

    def __call__(self) -> Settings:
        """The settings in force."""
        settings, changes = self._configured(), self._changes()
        made = self._made
        if made is None or made[0] is not settings or made[1] is not changes:
            made = self._made = (settings, changes, over(settings, changes))
        return made[2]

    def forget(self) -> None:
        """A settings override was decided here: read again."""
        self._read = None

    def _changes(self) -> Mapping[str, str | float]:
        read, now = self._read, self._clock()
        if read is not None and now - read[0] < FRESH_S:
            return read[1]
        try:
            changes = holding_for(self._engine, self._configured()).changes
        except Transient:
            changes = read[1] if read is not None else {}
        if read is not None and dict(read[1]) == dict(changes):
            changes = read[1]
        self._read = (now, changes)
        return changes
