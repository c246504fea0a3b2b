"""What the board is computed from, and the boards that were: one a period, kept as it was told."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import Any

import numpy as np
import sqlalchemy as sa

from prioritizer.db import connect
from prioritizer.db.events import Kind
from prioritizer.db.tables import boards, events, feedback, instances, scores, studies
from prioritizer.monitoring import Float64, Passed, Seen
from prioritizer.ranking import Band
from prioritizer.study import AIState, Finding, InstanceState

MOST_SAMPLED = 2000


def seen(engine: sa.Engine, start: datetime, end: datetime) -> list[Seen]:
    """The studies that arrived from `start` to before `end`, with the newest word that readers said of each."""
    arrived = (studies.c.last_received_at >= start, studies.c.first_received_at >= start, studies.c.first_received_at < end)
    columns = (
        "study_uid", "first_received_at", "reader_since", "read_at", "reading_state", "stat", "band", "overdue_at", "ai_state", "risk",
        "calling_ae", "age_years", "patient_sex",
    )  # fmt: skip
    query = sa.select(*(studies.c[name] for name in columns)).where(*arrived, studies.c.listed)
    mine = sa.select(studies.c.study_uid).where(*arrived)
    said = sa.select(feedback).where(
        feedback.c.study_uid.in_(mine), feedback.c.withdrawn_at.is_(None), feedback.c.finding != Finding.UNSURE
    )
    why = sa.select(instances.c.study_uid, sa.func.min(instances.c.reason)).where(
        instances.c.study_uid.in_(mine), instances.c.state.in_([InstanceState.INELIGIBLE, InstanceState.FAILED])
    )
    with connect.reading(engine) as tx:
        words = {row.study_uid: row for row in tx.execute(said.order_by(feedback.c.id))}
        reasons: dict[str, str] = {row[0]: row[1] for row in tx.execute(why.group_by(instances.c.study_uid))}
        return [_seen(row, words.get(row.study_uid), reasons.get(row.study_uid, "")) for row in tx.execute(query)]


def passed(engine: sa.Engine, start: datetime, end: datetime) -> Passed:
    """How often a study was claimed from `start` to before `end`, and how many were skipped or passed by on the way, by band."""
    query = sa.select(events.c.kind, events.c.detail).where(
        events.c.kind.in_([Kind.CLAIMED, Kind.SKIPPED]), events.c.at >= start, events.c.at < end
    )
    claims, skipped, by = 0, Counter[str](), Counter[str]()
    with connect.reading(engine) as tx:
        for row in tx.execute(query):
            if row.kind == Kind.SKIPPED:
                skipped[str(row.detail.get("band", Band.NEUTRAL))] += 1
            else:
                claims += 1
                by.update(row.detail.get("passed") or {})
    return Passed(claims=claims, skipped=dict(skipped), passed_by=dict(by))


def _seen(row: Any, word: Any, reason: str) -> Seen:
    """A word said before there was a score is judged by the score that came: nothing had been raised or left when it was said."""
    judged = word if word and word.ai_state == AIState.SCORED else row
    was_read = row.reading_state == "READ" and row.read_at is not None
    return Seen(
        arrived=row.first_received_at, began=row.reader_since if was_read else None, read=row.read_at if was_read else None,
        stat=row.stat, raised=judged.band == "HIGH", overdue=row.overdue_at is not None, ai_state=row.ai_state,
        reason=reason, risk=row.risk, sender=row.calling_ae, age_years=row.age_years, sex=row.patient_sex,
        finding=word.finding if word else None, blind=not (word.seen or word.ranked) if word else None,
    )  # fmt: skip


def first_scored(engine: sa.Engine, bundle_digest: str) -> datetime | None:
    """When this bundle scored for the first time here."""
    query = sa.select(scores.c.scored_at).where(scores.c.bundle_digest == bundle_digest).order_by(scores.c.id).limit(1)
    with connect.reading(engine) as tx:
        found: datetime | None = tx.scalar(query)
    return found


def sample(engine: sa.Engine, bundle_digest: str, start: datetime, end: datetime, *, newest: bool) -> tuple[Float64, Float64]:
    """Logits (N,) and embeddings (N, D) of images scored from `start` to before `end`, one an image, at most `MOST_SAMPLED`."""
    order = scores.c.id.desc() if newest else scores.c.id
    query = sa.select(scores.c.sop_instance_uid, scores.c.logit, scores.c.embedding).where(
        scores.c.bundle_digest == bundle_digest, scores.c.scored_at >= start, scores.c.scored_at < end
    )
    with connect.reading(engine) as tx:
        rows = {row.sop_instance_uid: row for row in tx.execute(query.order_by(order).limit(MOST_SAMPLED))}
    logits = np.array([row.logit for row in rows.values()], dtype=np.float64)
    vectors = [np.frombuffer(row.embedding, dtype="<f2").astype(np.float64) for row in rows.values()]
    return logits, np.stack(vectors) if vectors else np.zeros((0, 1))


def keep(engine: sa.Engine, period: str, document: dict[str, Any], now: datetime) -> None:
    """The board of a period, in the place of the one before."""
    with connect.writing(engine) as tx:
        done = tx.execute(boards.update().where(boards.c.period == period).values(document=document, computed_at=now))
        if not done.rowcount:
            tx.execute(boards.insert().values(period=period, document=document, computed_at=now))


def kept(engine: sa.Engine, period: str) -> tuple[datetime, dict[str, Any]] | None:
    """The board of a period and when it was computed; None where there is none."""
    with connect.reading(engine) as tx:
        row = tx.execute(sa.select(boards).where(boards.c.period == period)).one_or_none()
    return (row.computed_at, row.document) if row else None


def periods(engine: sa.Engine) -> list[str]:
    """The periods of which a board is kept, the newest first."""
    with connect.reading(engine) as tx:
        return list(tx.scalars(sa.select(boards.c.period).order_by(boards.c.period.desc())))
