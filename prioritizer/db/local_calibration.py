"""Is a calibration made at this site in force, and was it judged fit? Then another population is no reason to score nothing."""

from __future__ import annotations

import sqlalchemy as sa

from prioritizer.db import connect
from prioritizer.db.ruled import holding
from prioritizer.db.tables import calibrations
from prioritizer.fitness import FIT
from prioritizer.ranking import Policy, Stage
from prioritizer.study import CalibrationState


def judged_fit(engine: sa.Engine, bundle_digest: str) -> bool:
    """True where a calibration is active for the bundle whose report said "fit to activate"."""
    wanted = sa.select(sa.literal(1)).where(
        calibrations.c.bundle_digest == bundle_digest, calibrations.c.state == CalibrationState.ACTIVE, calibrations.c.verdict == FIT
    )
    with connect.reading(engine) as tx:
        return tx.scalar(wanted) is not None


def holds_back(engine: sa.Engine, policy: Policy) -> bool:
    """True where studies are moved or marked (stages pilot and active, by the ruling in force) without such a calibration."""
    return holding(engine, policy).policy.stage is not Stage.SHADOW and not judged_fit(engine, policy.bundle_digest)
