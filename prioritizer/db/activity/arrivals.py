"""What arrived at the site, read only: moments, STAT and stored logits, for simulating other windows and thresholds on them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

import sqlalchemy as sa

from prioritizer.db.schema import connect
from prioritizer.db.schema.tables import instances, scores, studies
from prioritizer.states import InstanceState


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrived:
    """One study, without its patient."""

    study_uid: str
    at: datetime
    stat: bool
    logits: tuple[float, ...] = ()
    """Of its scored images, by the asked bundle; none where that bundle gave none. The risk is the calibration's to say."""
    age_years: float | None = None
    """Which map of the calibration is asked hangs on it."""


def since(engine: sa.Engine, start: datetime, bundle_digest: str) -> list[Arrived]:
    """The listed studies that arrived at or after `start`, in order of arrival."""
    newest = sa.select(sa.func.max(scores.c.id)).where(scores.c.bundle_digest == bundle_digest).group_by(scores.c.sop_instance_uid)
    of_study = sa.and_(instances.c.study_uid == studies.c.study_uid, instances.c.state == InstanceState.SCORED)
    of_image = sa.and_(scores.c.sop_instance_uid == instances.c.sop_instance_uid, scores.c.id.in_(newest))
    query = (
        sa.select(
            studies.c.study_uid, studies.c.first_received_at, studies.c.stat, studies.c.pinned_by, studies.c.age_years, scores.c.logit
        )
        .select_from(studies.outerjoin(instances, of_study).outerjoin(scores, of_image))
        .where(studies.c.listed, studies.c.first_received_at >= start)
        .order_by(studies.c.first_received_at, studies.c.study_uid)
    )
    found: dict[str, Arrived] = {}
    with connect.reading(engine) as tx:
        for uid, at, stat, pinned_by, age, logit in tx.execute(query):
            one = found.setdefault(uid, Arrived(study_uid=uid, at=at, stat=stat or pinned_by is not None, age_years=age))
            if logit is not None:
                found[uid] = replace(one, logits=(*one.logits, logit))
    return list(found.values())
