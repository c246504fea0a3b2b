"""A row of the list in the words people read: no band name, no number, nothing that says normal."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from prioritizer.db.worklist import Row
from prioritizer.eligibility import age_words
from prioritizer.study import AIState, ReadingState

RAISED = "raised"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One row as text. `mark` is the glyph, `tone` the colour class: glyph, word and colour always go together."""

    study_uid: str
    mark: str
    tone: str
    due: str
    patient: str
    study: str
    sender: str
    arrived: datetime
    ai: str
    reader: str
    reason: str


def line(row: Row, now: datetime, *, marks: bool) -> Line:
    """The row at the moment `now`; without `marks` (stage shadow) nothing is shown as raised."""
    mark, tone, due = due_words(row, now, marks=marks)
    return Line(
        study_uid=row.study_uid,
        mark=mark,
        tone=tone,
        due=due,
        patient=patient_words(row),
        study=study_words(row),
        sender=row.calling_ae,
        arrived=row.first_received_at,
        ai=ai_words(row, marks=marks),
        reader=reader_words(row, now),
        reason=row.place_reason,
    )


def due_words(row: Row, now: datetime, *, marks: bool) -> tuple[str, str, str]:
    """Glyph, tone and the deadline in words."""
    if row.reading_state == ReadingState.READ:
        return "", "read", f"read {span(now - row.read_at)} ago" if row.read_at else "read"
    if row.stat:
        return "!!", "alarm", "STAT now"
    left = row.due_at - now
    if left < timedelta(0):
        return "!!", "alarm", f"OVERDUE {span(-left)}"
    if marks and row.band == "HIGH":
        return ">^", "raised", f"RAISED due in {span(left)}"
    return "", "neutral", f"due in {span(left)}"


def ai_words(row: Row, *, marks: bool) -> str:
    """The AI column. A scored study that is not raised carries no mark at all."""
    match AIState(row.ai_state):
        case AIState.WAITING:
            return "waiting"
        case AIState.FAILED:
            return f"failed: {row.ai_reason}"
        case AIState.NOT_SCORED:
            return f"not scored: {row.ai_reason}"
        case AIState.SCORED:
            partly = f" (one image failed: {row.ai_reason})" if row.ai_reason else ""
            return (RAISED if marks and row.band == "HIGH" else "-") + partly


def patient_words(row: Row) -> str:
    """Name as the hospital writes it, age and sex."""
    name = row.patient_name.split("=")[0].replace("^", ", ", 1).replace("^", " ").strip(", ") or "(no name)"
    age = age_words(row.age_years) if row.age_years is not None else "age ?"
    return f"{name}  {age} {row.patient_sex}".strip()


def study_words(row: Row) -> str:
    """Modality, description and number of objects."""
    objects = f"{row.instances} image" + ("s" if row.instances != 1 else "")
    return " ".join(part for part in (row.modality, row.study_description, objects) if part)


def reader_words(row: Row, now: datetime) -> str:
    """Who has the study and for how long."""
    if row.reading_state == ReadingState.OPEN or row.reader is None:
        return ""
    since = row.read_at if row.reading_state == ReadingState.READ else row.reader_since
    if row.reading_state == ReadingState.CLAIMED and row.reader_until is not None and row.reader_until < now:
        return ""
    return f"{row.reader} {span(now - since)}" if since else row.reader


def span(length: timedelta) -> str:
    """A length in the two largest units: 40 s, 12 min, 1 h 48, 3 d 2 h."""
    seconds = max(int(length.total_seconds()), 0)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min"
    if seconds < 86400:
        return f"{seconds // 3600} h {seconds % 3600 // 60:02d}"
    return f"{seconds // 86400} d {seconds % 86400 // 3600} h"
