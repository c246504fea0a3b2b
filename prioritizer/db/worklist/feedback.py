"""What readers say of a study, and what they had seen when they said it. Nothing is overwritten; the newest word counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from prioritizer.db.list_order.placement import latest_scores
from prioritizer.db.schema import connect
from prioritizer.db.schema.events import Kind, record
from prioritizer.db.schema.people_tables import feedback
from prioritizer.db.schema.tables import events, studies
from prioritizer.errors import NotAllowed, NotFound
from prioritizer.study import AIState, ReaderFinding

MAX_NOTE = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaderFeedback:
    """One reader's word on a study. `seen`: the AI result had been revealed to them; `ranked`: they came to it by the re-ordered list."""

    id: int
    study_uid: str
    reader: str
    at: datetime
    finding: str
    note: str
    seen: bool
    ranked: bool
    band: str
    ai_state: str
    risk: float | None
    withdrawn_at: datetime | None


FIELDS = tuple(ReaderFeedback.__dataclass_fields__)


def revealed(engine: sa.Engine, study_uid: str, eyes: str, now: datetime) -> None:
    """The AI result of a study was shown to somebody; written down once. Raises NotFound, and NotAllowed where there is no result yet."""
    with connect.writing(engine) as tx:
        row = _study(tx, study_uid)
        if row.ai_state != AIState.SCORED:
            raise NotAllowed("AI has no result of this study that could be shown")
        if not _has_seen(tx, study_uid, (eyes,)):
            record(tx, Kind.REVEALED, "the AI result was shown", now, study=study_uid, actor=eyes)


def tried(engine: sa.Engine, who: str, now: datetime, *, outside: bool) -> None:
    """Somebody tried a file that is no study; neither the file nor its name is kept."""
    with connect.writing(engine) as tx:
        record(tx, Kind.TRIED, "tried a file" + (" outside the scope" if outside else ""), now, actor=who)


def seen_at(engine: sa.Engine, study_uid: str, eyes: Sequence[str]) -> datetime | None:
    """When the AI result of this study was first shown to one of these eyes."""
    query = sa.select(sa.func.min(events.c.at)).where(*_reveals(study_uid, eyes))
    with connect.reading(engine) as tx:
        found: datetime | None = tx.scalar(query)
    return found


def say(
    engine: sa.Engine,
    study_uid: str,
    reader: str,
    finding: ReaderFinding,
    now: datetime,
    *,
    ranked: bool,
    note: str = "",
    eyes: Sequence[str] = (),
) -> int:
    """Keep what a reader says; an earlier word of the same reader is withdrawn, not lost. Returns its number. Raises NotFound, NotAllowed.

    What had been seen is taken from the events, never from what a browser claims. `eyes`: whose, where a program speaks for the reader.
    """
    note = " ".join(note.split())
    if len(note) > MAX_NOTE:
        raise NotAllowed(f"a note has at most {MAX_NOTE} characters")
    with connect.writing(engine) as tx:
        row = _study(tx, study_uid)
        seen = _has_seen(tx, study_uid, eyes or (reader,))
        mine = (feedback.c.study_uid == study_uid, feedback.c.reader == reader, feedback.c.withdrawn_at.is_(None))
        tx.execute(feedback.update().where(*mine).values(withdrawn_at=now))
        deciding = latest_scores(tx, study_uid)
        values: dict[str, Any] = {
            "study_uid": study_uid, "reader": reader, "at": now, "finding": finding, "note": note, "seen": seen, "ranked": ranked,
            "band": row.band, "ai_state": row.ai_state, "risk": row.risk if row.ai_state == AIState.SCORED else None,
            "score": deciding[0].id if deciding else None,
        }  # fmt: skip
        number: int = tx.execute(feedback.insert().values(**values).returning(feedback.c.id)).scalar_one()
        blinded = "after the AI result was shown" if seen else "before the AI result was shown"
        record(tx, Kind.FEEDBACK, f"finding {finding}, said {blinded}", now, study=study_uid, actor=reader, seen=seen, ranked=ranked)
        return number


def withdraw(engine: sa.Engine, study_uid: str, reader: str, now: datetime) -> None:
    """Take one's own word back. Raises NotAllowed where there is none."""
    mine = (feedback.c.study_uid == study_uid, feedback.c.reader == reader, feedback.c.withdrawn_at.is_(None))
    with connect.writing(engine) as tx:
        if not tx.execute(feedback.update().where(*mine).values(withdrawn_at=now)).rowcount:
            raise NotAllowed("you have said nothing of this study that could be taken back")
        record(tx, Kind.FEEDBACK_WITHDRAWN, "took the word back", now, study=study_uid, actor=reader)


def said_of(engine: sa.Engine, study_uid: str) -> list[ReaderFeedback]:
    """Everything that was said of a study, oldest first, the withdrawn too."""
    query = sa.select(*(feedback.c[name] for name in FIELDS)).where(feedback.c.study_uid == study_uid).order_by(feedback.c.id)
    with connect.reading(engine) as tx:
        return [ReaderFeedback(**row._mapping) for row in tx.execute(query)]


def standing_of(engine: sa.Engine, study_uid: str, reader: str) -> ReaderFeedback | None:
    """What this reader says of a study now; None where they said nothing, or took it back."""
    return next((word for word in reversed(said_of(engine, study_uid)) if word.reader == reader and word.withdrawn_at is None), None)


def confirmed_of_raised(engine: sa.Engine, since: datetime) -> tuple[int, int]:
    """Of the raised studies that readers spoke of since then: how many were confirmed, of how many.

    Each study counts once, by the newest word on it that stands, whoever's it is; who could not say has said nothing. A word said before
    there was a score counts against the score that came.
    """
    newer = feedback.alias()
    later = sa.select(newer.c.id).where(newer.c.study_uid == feedback.c.study_uid, newer.c.id > feedback.c.id)
    replaced = later.where(newer.c.withdrawn_at.is_(None), newer.c.finding != ReaderFinding.UNSURE).exists()
    # Asked for only where a word came before the score: a join would read the whole ledger beside every word.
    came = sa.select(studies.c.band).where(studies.c.study_uid == feedback.c.study_uid).scalar_subquery()
    band = sa.case((feedback.c.ai_state == AIState.SCORED, feedback.c.band), else_=came)
    count, present = sa.func.count(), sa.func.coalesce(sa.func.sum(sa.case((feedback.c.finding == ReaderFinding.PRESENT, 1), else_=0)), 0)
    spoken = (feedback.c.at >= since, feedback.c.withdrawn_at.is_(None), band == "HIGH", feedback.c.finding != ReaderFinding.UNSURE)
    with connect.reading(engine) as tx:
        row = tx.execute(sa.select(present, count).select_from(feedback).where(*spoken, ~replaced)).one()
    return row[0], row[1]


def _reveals(study_uid: str, eyes: Sequence[str]) -> tuple[sa.ColumnElement[bool], ...]:
    return events.c.study_uid == study_uid, events.c.kind == Kind.REVEALED, events.c.actor.in_(list(eyes))


def _has_seen(tx: sa.Connection, study_uid: str, eyes: Sequence[str]) -> bool:
    return tx.execute(sa.select(events.c.id).where(*_reveals(study_uid, eyes)).limit(1)).first() is not None


def _study(tx: sa.Connection, study_uid: str) -> sa.Row[Any]:
    row = tx.execute(sa.select(studies).where(studies.c.study_uid == study_uid).with_for_update()).one_or_none()
    if row is None:
        raise NotFound(f"no study {study_uid} in the ledger")
    return row
