"""What arrived at the site, read only: moments, STAT and stored logits, for simulating other windows and thresholds on them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from prioritizer.db import connect
from prioritizer.db.tables import scores, studies


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrived:
    """One study, without its patient."""

    study_uid: str
    at: datetime
    stat: bool
    logit: float | None
    """Of the deciding image, by the asked bundle; None where that bundle gave none. Its probability is the calibration's to say."""


def since(engine: sa.Engine, start: datetime, bundle_digest: str) -> list[Arrived]:
    """The listed studies that arrived at or after `start`, in order of arrival."""
    newest = sa.select(sa.func.max(scores.c.id)).where(scores.c.bundle_digest == bundle_digest).group_by(scores.c.sop_instance_uid)
    decider = sa.and_(scores.c.sop_instance_uid == studies.c.deciding_instance, scores.c.id.in_(newest))
    query = (
        sa.select(studies.c.study_uid, studies.c.first_received_at, studies.c.stat, studies.c.pinned_by, scores.c.logit)
        .select_from(studies.outerjoin(scores, decider))
        .where(studies.c.listed, studies.c.first_received_at >= start)
        .order_by(studies.c.first_received_at, studies.c.study_uid)
    )
    with connect.reading(engine) as tx:
        return [
            Arrived(study_uid=uid, at=at, stat=stat or pinned_by is not None, logit=logit)
            for uid, at, stat, pinned_by, logit in tx.execute(query)
        ]
