"""Is a calibration made at this site in force, and was it judged fit? Then another population is no reason to score nothing."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from prioritizer.db import connect
from prioritizer.db.calibrations import applying
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Local:
    """What the site's own calibration makes of an image that is unlike the training data."""

    holds_back: bool
    """Studies are moved or marked (stages pilot and active, by the ruling in force) and none that was judged fit is in force."""
    limit: float | None
    """That of such a calibration, in units of the bundle's; None: the bundle's own."""


def local(engine: sa.Engine, policy: Policy) -> Local:
    """Read from the ledger; only of images beyond the bundle's limit is it asked."""
    with connect.one_look(engine):
        fit = judged_fit(engine, policy.bundle_digest)
        applies = applying(engine, policy).calibration
        moves = holding(engine, policy).policy.stage is not Stage.SHADOW
    return Local(holds_back=moves and not fit, limit=applies.local_limit if applies is not None and fit else None)
