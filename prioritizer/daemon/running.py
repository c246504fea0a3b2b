"""What the parts of the daemon may ask of it."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

import sqlalchemy as sa

from prioritizer.config.policy import SitePolicy
from prioritizer.config.settings import Settings
from prioritizer.daemon.settings_in_force import SettingsInForce
from prioritizer.dicom.spool.spool import Spool
from prioritizer.errors import ModelError
from prioritizer.inference.bundle import Bundle
from prioritizer.inference.sandbox import Sandbox
from prioritizer.inference.worker import EngineProcess


class Running(Protocol):
    """The daemon as its workers, its page and its start see it."""

    engine: sa.Engine
    spool: Spool
    sandbox: Sandbox
    settings: Settings
    """The configuration as it was last read."""
    in_force: SettingsInForce
    """The configuration with the active settings override over it."""
    bundle: Bundle | None
    scorer: EngineProcess | None
    name: str
    """`host:pid`, as it stands in leases and in the table of daemons."""
    ai_off: str
    """Why AI is off; empty while it is on."""
    ai_off_since: datetime
    stopping: bool

    def policy(self) -> SitePolicy:
        """The site's ranking rules now; without AI nothing is moved up."""

    def turn_ai_off(self, error: ModelError) -> None:
        """No more scores, and every page says why."""

    def ready(self) -> list[str]:
        """What stands in the way of full service."""
