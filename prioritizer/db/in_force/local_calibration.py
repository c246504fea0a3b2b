"""What the calibration made at this site means for an image that is unlike the training data."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from prioritizer.config.policy import SitePolicy
from prioritizer.db.decisions.calibrations import applying
from prioritizer.db.in_force.calibration import PolicyInForce


@dataclass(frozen=True, slots=True, kw_only=True)
class Local:
    """What the site's own calibration makes of an image that is unlike the training data."""

    holds_back: bool
    """Studies are moved or marked (stages pilot and active, by the settings override in force) and none that was judged fit is in force."""
    limit: float | None
    """That of such a calibration, in units of the bundle's; None: the bundle's own."""


def of(rules: PolicyInForce) -> Local:
    """What holds by these rules: wherever an image is judged, this is asked."""
    return Local(holds_back=rules.holds_back, limit=rules.local_limit)


def local(engine: sa.Engine, policy: SitePolicy) -> Local:
    """Read from the ledger; only of images beyond the bundle's limit is it asked."""
    return of(applying(engine, policy))
