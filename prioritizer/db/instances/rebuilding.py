"""Results of studies that were entered again from the spool: a person says once whether they are sent again."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa

from prioritizer.db.schema import connect
from prioritizer.db.schema.events import Kind, record
from prioritizer.db.schema.tables import instances, studies
from prioritizer.states import InstanceState
from prioritizer.study import Hold


def decide(engine: sa.Engine, *, publish: bool, who: str, now: datetime) -> int:
    """Send the results of every study that waits for this, or none of them; returns of how many studies.

    A study with an image that waits for its score has no result yet: where none is to be sent, it is asked about again once it has.
    """
    with connect.writing(engine) as tx:
        waiting = sa.and_(sa.text("held <> ''"), studies.c.held == Hold.REBUILT)
        if not publish:
            unscored = sa.select(sa.literal(1)).where(
                instances.c.study_uid == studies.c.study_uid, instances.c.state == InstanceState.RECEIVED
            )
            waiting = sa.and_(waiting, ~unscored.exists())
        uids = tx.scalars(sa.select(studies.c.study_uid).where(waiting).order_by(studies.c.study_uid).with_for_update()).all()
        # Where whose study it is waits to be confirmed, that is asked next.
        held = sa.case((studies.c.identity == "", Hold.NONE), else_=Hold.IDENTITY)
        values = {"held": held} if publish else {"held": held, "published_revision": studies.c.revision}
        tx.execute(studies.update().where(studies.c.study_uid.in_(uids)).values(values))
        said = "its result is built and sent again" if publish else "its result is not sent again: the PACS has it"
        for uid in uids:
            record(tx, Kind.REBUILT, f"entered again from the spool: {said}", now, study=uid, actor=who)
        return len(uids)
