"""A row of the list in the words people read: no band name, no number, nothing that says normal."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from prioritizer.db.worklist import Row
from prioritizer.eligibility import age_words
from prioritizer.operating_point import Share
from prioritizer.ranking import EARLIER, in_short
from prioritizer.study import AIState, ReadingState

RAISED = "raised"
AI_NAMES = {
    AIState.WAITING: "waiting", AIState.SCORED: "scored", AIState.NOT_SCORED: "not scored", AIState.FAILED: "failed",
}  # fmt: skip
UNMARKED = "marks are not shown here"
FEWEST_WORDS = 30
"""Fewer words of readers on raised studies say nothing of how often raising is right here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How the house writes, and how much this page may tell."""

    marks: bool = True
    """False in stage shadow, and on a list without AI."""
    neutral: timedelta | None = None
    """On a list without AI: every deadline is arrival and this, or the deadline would tell what AI thinks."""
    masked: bool = False
    """No name, number or birth date."""
    date_format: str = "%Y-%m-%d"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One row as text. `mark` is the glyph, `tone` the colour class: glyph, word and colour always go together."""

    study_uid: str
    mark: str
    tone: str
    due: str
    patient: str
    person: str
    """Age and sex."""
    born: str
    """Birth date and number, as far as they are known and may be shown."""
    study: str
    images: str
    accession: str
    sender: str
    arrived: datetime
    ai: str
    reader: str
    reason: str
    chip: str
    """The reason in a few words."""


def line(row: Row, now: datetime, manner: Manner) -> Line:
    """The row at the moment `now`."""
    mark, tone, due = due_words(row, now, manner)
    reason = place_words(row, manner)
    return Line(
        study_uid=row.study_uid,
        mark=mark,
        tone=tone,
        due=due,
        patient=patient_words(row, masked=manner.masked),
        person=person_words(row),
        born=born_words(row, manner),
        study=study_words(row),
        images=image_words(row),
        accession="" if manner.masked else row.accession_number,
        sender=row.calling_ae,
        arrived=row.first_received_at,
        ai=ai_words(row, marks=manner.marks),
        reader=reader_words(row, now),
        reason=reason,
        chip=in_short(reason),
    )


def due_of(row: Row, manner: Manner) -> datetime:
    """The deadline that this page may tell."""
    return row.due_at if manner.neutral is None or row.stat else row.first_received_at + manner.neutral


def due_words(row: Row, now: datetime, manner: Manner) -> tuple[str, str, str]:
    """Glyph, tone and the deadline in words."""
    if row.reading_state == ReadingState.READ:
        return "", "read", f"read {span(now - row.read_at)} ago" if row.read_at else "read"
    if row.stat:
        return "!!", "alarm", "STAT now"
    left = due_of(row, manner) - now
    if left < timedelta(0):
        return "!!", "alarm", f"OVERDUE {span(-left)}"
    if manner.marks and row.band == "HIGH":
        moved = "" if row.place_reason.startswith(EARLIER) else ", not moved,"
        return ">^", "raised", f"RAISED{moved} due in {span(left)}"
    return "", "neutral", f"due in {span(left)}"


def place_words(row: Row, manner: Manner) -> str:
    """Why it stands here, as far as this page may tell."""
    return row.place_reason if manner.marks or row.stat else UNMARKED


def ai_words(row: Row, *, marks: bool) -> str:
    """The AI column. A scored study that is not raised carries no mark at all."""
    match AIState(row.ai_state):
        case AIState.WAITING:
            return f"waiting: {row.ai_reason}" if row.ai_reason else "waiting"
        case AIState.FAILED:
            return f"failed: {row.ai_reason}"
        case AIState.NOT_SCORED:
            return f"not scored: {row.ai_reason}"
        case AIState.SCORED:
            partly = f" (one image failed: {row.ai_reason})" if row.ai_reason else ""
            return (RAISED if marks and row.band == "HIGH" else "-") + partly


def patient_words(row: Row, *, masked: bool = False) -> str:
    """Name as the hospital writes it; masked: the end of the Study UID, so that two people can speak of one study."""
    return f"study ..{row.study_uid[-6:]}" if masked else name_words(row.patient_name)


def name_words(name: str) -> str:
    """A DICOM person name (PS3.5 6.2) for people: the first group, family name first."""
    return name.split("=", maxsplit=1)[0].replace("^", ", ", 1).replace("^", " ").strip(", ") or "(no name)"


def person_words(row: Row) -> str:
    """Age and sex."""
    age = age_words(row.age_years) if row.age_years is not None else "age ?"
    return f"{age} {row.patient_sex}".strip()


def born_words(row: Row, manner: Manner) -> str:
    """Number and birth date."""
    if manner.masked:
        return ""
    return " ".join(part for part in (row.patient_id, date_words(row.patient_birth_date, manner.date_format)) if part)


def date_words(text: str, form: str) -> str:
    """A DICOM date as the house writes dates; what is no date is shown as it was sent."""
    try:
        return datetime.strptime(text.strip(), "%Y%m%d").strftime(form)  # noqa: DTZ007 - a date has no zone
    except ValueError:
        return text.strip()


def study_words(row: Row) -> str:
    """Modality and description."""
    return " ".join(part for part in (row.modality, row.study_description) if part)


def image_words(row: Row) -> str:
    """How many images have come."""
    return f"{row.instances} image" + ("s" if row.instances != 1 else "")


def reader_words(row: Row, now: datetime) -> str:
    """Who has the study and for how long."""
    if row.reading_state == ReadingState.OPEN or row.reader is None:
        return ""
    since = row.read_at if row.reading_state == ReadingState.READ else row.reader_since
    if row.reading_state == ReadingState.CLAIMED and row.reader_until is not None and row.reader_until < now:
        return ""
    return f"{row.reader} {span(now - since)}" if since else row.reader


def frequency_words(confirmed: int, said: int, days: int) -> str:
    """How often a raised study was found to be positive here; the share with its 95 % interval, or why it is not known."""
    begin = "raised = placed earlier"
    if said < FEWEST_WORDS:
        return f"{begin}; how often that is right is not yet known here ({said} of {FEWEST_WORDS} words of readers in {days} days)."
    share = Share(hits=confirmed, of=said)
    return (
        f"{begin}; of 100 raised here in the last {days} days, {share.value * 100:.0f} were confirmed "
        f"(95 % {share.low * 100:.0f} to {share.high * 100:.0f}; {said} words of readers)."
    )


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
