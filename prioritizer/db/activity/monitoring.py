"""What the board is computed from, and the boards that were: one a period, kept as it was told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import numpy as np
import sqlalchemy as sa

from prioritizer.db.list_order.order import Order, View, Wanted, in_view, order_keys
from prioritizer.db.schema import connect
from prioritizer.db.schema.events import Kind
from prioritizer.db.schema.instance_rows import OWN_OBJECT
from prioritizer.db.schema.people_tables import feedback
from prioritizer.db.schema.site_tables import boards
from prioritizer.db.schema.tables import events, instances, scores, studies
from prioritizer.monitoring.agreement import asked_for
from prioritizer.monitoring.studies import Beyond, MonitoredStudy, StandingFeedback
from prioritizer.monitoring.turnaround import Float64, Passed
from prioritizer.ranking.deadlines import LATER, Band, in_short
from prioritizer.scope.guard_rules import OUT_OF_DISTRIBUTION, UNLIKE
from prioritizer.states import InstanceState, ReadingState
from prioritizer.study import AIState, ReaderFinding

MAX_SAMPLED = 2000
AT_ONCE = 500
"""Images whose scores are asked for by one statement."""
MAX_EARLIER = 1000
"""So many studies from before a period are counted as unread; a site that marks nothing as read has them all."""


def seen(engine: sa.Engine, start: datetime, end: datetime, ask_share: float = 0.0) -> list[MonitoredStudy]:
    """The studies that arrived from `start` to before `end`, with the words of readers that stand.

    `ask_share`: the share of studies of which a finding is asked for.
    """
    columns = (
        "study_uid", "first_received_at", "reader_since", "read_at", "reading_state", "stat", "band", "place_reason", "overdue_at",
        "ai_state", "risk", "calling_ae", "age_years", "patient_sex", "patient_id", "issuer",
    )  # fmt: skip
    query = sa.select(*(studies.c[name] for name in columns)).where(*_arrived(start, end), studies.c.listed)
    words: dict[str, list[Any]] = {}
    reasons: dict[str, str] = {}
    with connect.reading(engine) as tx:
        for row in tx.execute(_words(start, end)):
            words.setdefault(row.study_uid, []).append(row)
        for row in tx.execute(_reasons(start, end)):
            reasons.setdefault(row.study_uid, row.reason)
        beyond = {row.study_uid: (row.drawn, row.scored, row.left_out) for row in tx.execute(_beyond(start, end))}
        several = {row.study_uid: (row.highest, row.images) for row in tx.execute(_several(start, end))}
        patients: dict[tuple[str, str], str] = {}
        return [
            replace(
                _seen(row, words.get(row.study_uid, []), reasons.get(row.study_uid, ""), several.get(row.study_uid)),
                patient=_patient(patients, row),
                asked=asked_for(row.study_uid, ask_share),
                beyond=Beyond(*beyond.get(row.study_uid, ())),
            )
            for row in tx.execute(query)
        ]


def _patient(patients: dict[tuple[str, str], str], row: Any) -> str:
    """A number for each patient, and nothing of them; a study without a Patient ID is of a patient of its own."""
    return patients.setdefault((row.patient_id, row.issuer), f"patient {len(patients)}") if row.patient_id else ""


def _several(start: datetime, end: datetime) -> sa.Select[Any]:
    """The highest probability and the number of scored images of the period's studies that have more than one."""
    mine = sa.select(studies.c.study_uid).where(*_arrived(start, end, (AIState.SCORED,)))
    scored = (instances.c.study_uid.in_(mine), instances.c.state == InstanceState.SCORED)
    of_several = sa.select(instances.c.study_uid).where(*scored).group_by(instances.c.study_uid).having(sa.func.count() > 1)
    image = sa.and_(scores.c.sop_instance_uid == instances.c.sop_instance_uid, instances.c.state == InstanceState.SCORED)
    newest = sa.select(sa.func.max(scores.c.id)).join(instances, image).where(instances.c.study_uid.in_(of_several))
    found = sa.select(instances.c.study_uid, sa.func.max(scores.c.probability).label("highest"), sa.func.count().label("images")).join(
        scores, image
    )
    return found.where(scores.c.id.in_(newest.group_by(scores.c.sop_instance_uid))).group_by(instances.c.study_uid)


def _arrived(start: datetime, end: datetime, states: Sequence[AIState] = tuple(AIState)) -> tuple[sa.ColumnElement[bool], ...]:
    """Studies that arrived in the period. Their states are always named: so the index that begins with them gives no study but these."""
    return studies.c.ai_state.in_(list(states)), studies.c.first_received_at >= start, studies.c.first_received_at < end


def _words(start: datetime, end: datetime) -> sa.Select[Any]:
    """What readers said and stand by of the period's studies, oldest first; nothing was said of one before it arrived."""
    mine = sa.select(studies.c.study_uid).where(*_arrived(start, end))
    said = (feedback.c.at >= start, feedback.c.withdrawn_at.is_(None), feedback.c.finding != ReaderFinding.UNSURE)
    return sa.select(feedback).where(*said, feedback.c.study_uid.in_(mine)).order_by(feedback.c.id)


def _reasons(start: datetime, end: datetime) -> sa.Select[Any]:
    """Why the period's studies were not scored, by study: first what failed, which is why the study is failed."""
    mine = sa.select(studies.c.study_uid).where(*_arrived(start, end, (AIState.NOT_SCORED, AIState.FAILED)))
    left_out = instances.c.state.in_([InstanceState.INELIGIBLE, InstanceState.FAILED]) & (instances.c.reason != OWN_OBJECT)
    grouped = (instances.c.study_uid, instances.c.state)
    found = sa.select(instances.c.study_uid, sa.func.min(instances.c.reason).label("reason"))
    return found.where(instances.c.study_uid.in_(mine), left_out).group_by(*grouped).order_by(instances.c.state)


def _beyond(start: datetime, end: datetime) -> sa.Select[Any]:
    """The images of the period's studies that were looked at, and those beyond the limit: scored with that warning, or left unscored."""
    mine = sa.select(studies.c.study_uid).where(*_arrived(start, end))
    left_out = (instances.c.state == InstanceState.INELIGIBLE) & (instances.c.reason == OUT_OF_DISTRIBUTION)
    scored = instances.c.state == InstanceState.SCORED
    warned = sa.cast(scores.c.warnings, sa.Text).contains(UNLIKE, autoescape=True)
    rows = scores.alias()
    newest = sa.select(sa.func.max(rows.c.id)).where(rows.c.sop_instance_uid == instances.c.sop_instance_uid).correlate(instances)
    flagged = sa.select(sa.literal(1)).where(scores.c.id == newest.scalar_subquery(), warned).correlate(instances).exists()

    def images(condition: sa.ColumnElement[bool]) -> sa.ColumnElement[int]:
        return sa.func.sum(sa.case((condition, 1), else_=0))

    counted = (sa.func.count().label("drawn"), images(scored & flagged).label("scored"), images(left_out).label("left_out"))
    found = sa.select(instances.c.study_uid, *counted).where(instances.c.study_uid.in_(mine), scored | left_out)
    return found.group_by(instances.c.study_uid)


def unread_before(engine: sa.Engine, start: datetime) -> tuple[int, datetime | None]:
    """How many studies that arrived before `start` nobody has read, at most `MAX_EARLIER`, and when the first of them arrived."""
    found: list[datetime] = []
    with connect.reading(engine) as tx:
        for view, order in ((View.OPEN, Order.ARRIVAL), (View.EXPIRED, Order.DEADLINE)):
            wanted = Wanted(view=view, order=order)
            query = sa.select(studies.c.first_received_at).where(in_view(view), studies.c.first_received_at < start)
            found += tx.scalars(query.order_by(*order_keys(wanted)).limit(MAX_EARLIER))
    return min(len(found), MAX_EARLIER), min(found, default=None)


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


def _seen(row: Any, words: Sequence[Any], reason: str, several: tuple[float, int] | None) -> MonitoredStudy:
    highest, images = several or (row.risk, 1)
    was_read = row.reading_state == ReadingState.READ and row.read_at is not None
    return MonitoredStudy(
        arrived=row.first_received_at, began=row.reader_since if was_read else None, read=row.read_at if was_read else None,
        stat=row.stat, raised=row.band == Band.HIGH, later=row.band == Band.LOW and in_short(row.place_reason) == LATER,
        overdue=row.overdue_at is not None, ai_state=row.ai_state, reason=reason, risk=highest, images=images, sender=row.calling_ae,
        age_years=row.age_years, sex=row.patient_sex, said=tuple(_said(word, row) for word in words),
    )  # fmt: skip


def _said(word: Any, row: Any) -> StandingFeedback:
    """A word said before there was a score is judged by the score that came: nothing had been raised or left when it was said."""
    judged = word if word.ai_state == AIState.SCORED else row
    raised = judged.band == Band.HIGH if judged.ai_state == AIState.SCORED else None
    return StandingFeedback(finding=word.finding, blind=not (word.seen or word.ranked), raised=raised)


def began_to_serve(engine: sa.Engine, bundle_digest: str) -> datetime | None:
    """When this bundle scored for the first time here, or took over from another; None where it did neither.

    Looked up by the first score of all and by the changes of bundle: the scores themselves are too many to be searched.
    """
    first = sa.select(scores.c.bundle_digest, scores.c.scored_at).order_by(scores.c.id).limit(1)
    changes = sa.select(events.c.at, events.c.detail).where(events.c.kind == Kind.BUNDLE_CHANGED).order_by(events.c.at)
    with connect.reading(engine) as tx:
        row = tx.execute(first).one_or_none()
        if row is not None and row.bundle_digest == bundle_digest:
            found: datetime = row.scored_at
            return found
        return next((row.at for row in tx.execute(changes) if row.detail.get("to") == bundle_digest), None)


def sample(engine: sa.Engine, bundle_digest: str, start: datetime, end: datetime) -> tuple[Float64, Float64]:
    """Logits (N,) and embeddings (N, D) by this bundle of studies that arrived from `start` to before `end`: the image that decides each.

    One a study, for the images of a study are no independent draws; at most `MAX_SAMPLED`, spread evenly over the period: a few days of
    a large site are not its month.
    """
    scored = (*_arrived(start, end, (AIState.SCORED,)), studies.c.deciding_instance.is_not(None))
    images = sa.select(studies.c.deciding_instance).where(*scored).order_by(studies.c.first_received_at)
    with connect.reading(engine) as tx:
        uids = tx.scalars(images).all()
        chosen = [uids[int(place)] for place in np.linspace(0, len(uids) - 1, min(len(uids), MAX_SAMPLED))]
        rows: dict[str, Any] = {}
        for first in range(0, len(chosen), AT_ONCE):
            rows |= _newest_scores(tx, bundle_digest, chosen[first : first + AT_ONCE])
    logits = np.array([row.logit for row in rows.values()], dtype=np.float64)
    vectors = [np.frombuffer(row.embedding, dtype="<f2").astype(np.float64) for row in rows.values()]
    return logits, np.stack(vectors) if vectors else np.zeros((0, 1))


def _newest_scores(tx: sa.Connection, bundle_digest: str, images: Sequence[str]) -> dict[str, Any]:
    """The newest score by this bundle of each image."""
    query = sa.select(scores.c.sop_instance_uid, scores.c.logit, scores.c.embedding).where(
        scores.c.sop_instance_uid.in_(images), scores.c.bundle_digest == bundle_digest
    )
    return {row.sop_instance_uid: row for row in tx.execute(query.order_by(scores.c.id))}


def keep(engine: sa.Engine, period: str, document: dict[str, Any], now: datetime) -> None:
    """The board of a period, in the place of the one before."""
    with connect.writing(engine) as tx:
        told = {"document": document, "computed_at": now}
        tx.execute(
            connect.insert(tx, boards).values(period=period, **told).on_conflict_do_update(index_elements=[boards.c.period], set_=told)
        )


def kept(engine: sa.Engine, period: str) -> tuple[datetime, dict[str, Any]] | None:
    """The board of a period and when it was computed; None where there is none."""
    with connect.reading(engine) as tx:
        row = tx.execute(sa.select(boards).where(boards.c.period == period)).one_or_none()
    return (row.computed_at, row.document) if row else None


def periods(engine: sa.Engine) -> list[str]:
    """The periods of which a board is kept, the newest first."""
    with connect.reading(engine) as tx:
        return list(tx.scalars(sa.select(boards.c.period).order_by(boards.c.period.desc())))
