"""A row of the list in the words people read: no band name, no number, nothing that says normal."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from prioritizer.calibration.operating_point import Share
from prioritizer.db.worklist.rows import WorklistRow
from prioritizer.ranking.deadlines import EARLIER, Stage, in_short
from prioritizer.scope.verdict import age_words
from prioritizer.states import ReadingState
from prioritizer.study import AIState

RAISED = "raised"
AI_NAMES = {
    AIState.WAITING: "waiting", AIState.SCORED: "scored", AIState.NOT_SCORED: "not scored", AIState.FAILED: "failed",
}  # fmt: skip
CONFIRM = "whose study? to be confirmed"
UNMARKED = "marks are not shown here"
MIN_WORDS = 30
"""Fewer raised studies that readers spoke of say nothing of how often raising is right here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How the site writes, and how much this page may tell."""

    marks: bool = True
    """False in stage shadow, and on a list without AI."""
    neutral: timedelta | None = None
    """On a list without AI: every deadline is arrival and this, or the deadline would tell what AI thinks."""
    masked: bool = False
    """No name, number or birth date."""
    name_format: str = "family-first"
    name_groups: str = "alphabetic"
    date_format: str = "%Y-%m-%d"
    ai_off: bool = False
    """Nothing is scored now."""
    person: str = ""
    """Whose page it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One row as text. `mark` is the glyph, `tone` the colour class: glyph, word and colour always go together."""

    study_uid: str
    mark: str
    tone: str
    due: str
    due_at: str
    """Of a study whose deadline runs, ISO 8601; the page counts it down."""
    before: str
    """The words before the count-down."""
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
    read: bool
    mine: bool
    """The reader whose page this is has it."""
    confirm: str
    """That somebody must say whose study it is; empty where nobody must. Holds no patient data."""


def beside(value: float, other: float) -> str:
    """A probability with two digits, or with as many more as distinguish it from the one it is compared with."""
    digits = next((digits for digits in range(2, 7) if f"{value:.{digits}f}" != f"{other:.{digits}f}"), 2)
    return f"{value:.{digits}f}"


def line(row: WorklistRow, now: datetime, manner: Manner) -> Line:
    """The row at the moment `now`."""
    mark, tone, due = due_words(row, now, manner)
    reason = place_words(row, manner)
    runs = row.reading_state != ReadingState.READ and not row.stat
    return Line(
        study_uid=row.study_uid,
        mark=mark,
        tone=tone,
        due=due,
        due_at=due_of(row, manner).isoformat() if runs else "",
        before=raised_words(row, manner) if runs else "",
        patient=patient_words(row, manner),
        person=person_words(row),
        born=born_words(row, manner),
        study=study_words(row),
        images=image_words(row),
        accession="" if manner.masked else row.accession_number,
        sender=row.calling_ae,
        arrived=row.first_received_at,
        ai=ai_words(row, manner),
        reader=reader_words(row, now),
        reason=reason,
        chip=in_short(reason),
        read=row.reading_state == ReadingState.READ,
        mine=row.reading_state == ReadingState.CLAIMED and bool(manner.person) and row.reader == manner.person,
        confirm=CONFIRM if row.identity else "",
    )


def due_of(row: WorklistRow, manner: Manner) -> datetime:
    """The deadline that this page may tell."""
    return row.due_at if manner.neutral is None or row.stat else row.first_received_at + manner.neutral


def due_words(row: WorklistRow, now: datetime, manner: Manner) -> tuple[str, str, str]:
    """Glyph, tone and the deadline in words."""
    if row.reading_state == ReadingState.READ:
        return "", "read", f"read {span(now - row.read_at)} ago" if row.read_at else "read"
    if row.stat:
        return "!!", "alarm", f"STAT now, {span(now - row.first_received_at)}"
    left = due_of(row, manner) - now
    if left < timedelta(0):
        return "!!", "alarm", f"OVERDUE {span(-left)}"
    raised = raised_words(row, manner)
    return (">^", "raised", f"{raised} due in {span(left)}") if raised else ("", "neutral", f"due in {span(left)}")


def raised_words(row: WorklistRow, manner: Manner) -> str:
    """The word of a raised study; whether it stands earlier for it is said too. Empty for every other."""
    if not manner.marks or row.band != "HIGH":
        return ""
    return "RAISED" if row.place_reason.startswith(EARLIER) else "RAISED, not moved,"


def place_words(row: WorklistRow, manner: Manner) -> str:
    """Why it stands here, as far as this page may tell."""
    return row.place_reason if manner.marks or row.stat else UNMARKED


def ai_words(row: WorklistRow, manner: Manner) -> str:
    """The AI column. A scored study that is not raised carries no mark at all."""
    match AIState(row.ai_state):
        case AIState.WAITING if manner.ai_off:
            return "off"
        case AIState.WAITING:
            return f"waiting: {row.ai_reason}" if row.ai_reason else "waiting"
        case AIState.FAILED:
            return f"failed: {row.ai_reason}"
        case AIState.NOT_SCORED:
            return f"not scored: {row.ai_reason}"
        case AIState.SCORED:
            partly = f" (one image failed: {row.ai_reason})" if row.ai_reason else ""
            return (RAISED if manner.marks and row.band == "HIGH" else "-") + partly


def patient_words(row: WorklistRow, manner: Manner) -> str:
    """Name as the hospital writes it; masked: the end of the Study UID, so that two people can speak of one study."""
    return f"study ..{row.study_uid[-6:]}" if manner.masked else name_words(row.patient_name, manner.name_format, manner.name_groups)


NAME_GROUPS = ("alphabetic", "ideographic", "phonetic")


def name_words(name: str, form: str = "family-first", groups: str = "alphabetic") -> str:
    """A DICOM person name (PS3.5 6.2) for people, family name first, given name first, or as it was sent.

    `groups` names the one that is shown, or `all`; a name without that one is shown by the first that it has.
    """
    written = [_group_words(group, form, latin=number == 0) for number, group in enumerate(name.split("=")[:3])]
    known = [group for group in written if group]
    if groups == "all":
        return " = ".join(known) or "(no name)"
    chosen = NAME_GROUPS.index(groups)
    return (written[chosen] if chosen < len(written) else "") or next(iter(known), "(no name)")


def _group_words(group: str, form: str, *, latin: bool) -> str:
    """One group of a name; ideographic and phonetic ones have the family name first and no comma."""
    if form == "as-sent":
        return group.strip()
    family, *others = (part.strip() for part in group.split("^"))
    given = " ".join(part for part in others if part)
    if not latin:
        return f"{family} {given}".strip()
    return f"{given} {family}".strip() if form == "given-first" else ", ".join(part for part in (family, given) if part)


def person_words(row: WorklistRow) -> str:
    """Age and sex."""
    age = age_words(row.age_years) if row.age_years is not None else "age ?"
    return f"{age} {row.patient_sex}".strip()


def born_words(row: WorklistRow, manner: Manner) -> str:
    """Number and birth date."""
    if manner.masked:
        return ""
    return " ".join(part for part in (row.patient_id, date_words(row.patient_birth_date, manner.date_format)) if part)


def date_words(text: str, form: str) -> str:
    """A DICOM date as the site writes dates; what is no date is shown as it was sent."""
    try:
        return datetime.strptime(text.strip(), "%Y%m%d").strftime(form)  # noqa: DTZ007 - a date has no zone
    except ValueError:
        return text.strip()


def study_words(row: WorklistRow) -> str:
    """Modality and description."""
    return " ".join(part for part in (row.modality, row.study_description) if part)


def image_words(row: WorklistRow) -> str:
    """How many images have come."""
    return f"{row.instances} image" + ("s" if row.instances != 1 else "")


def reader_words(row: WorklistRow, now: datetime) -> str:
    """Who has the study and for how long."""
    if row.reading_state == ReadingState.OPEN or row.reader is None:
        return ""
    since = row.read_at if row.reading_state == ReadingState.READ else row.reader_since
    if row.reading_state == ReadingState.CLAIMED and row.reader_until is not None and row.reader_until < now:
        return ""
    return f"{row.reader} {span(now - since)}" if since else row.reader


def meaning_words(stage: Stage, *, suspended: bool) -> str:
    """What "raised" does to a study at this moment."""
    if stage is not Stage.ACTIVE:
        return f"raised = would be placed earlier; in stage {stage} the list stays in order of arrival"
    if suspended:
        return "raised = would be placed earlier; raising is suspended now, newly raised studies stay in order of arrival"
    return "raised = placed earlier"


def frequency_words(confirmed: int, said: int, days: int, begin: str = "raised = placed earlier") -> str:
    """How often a raised study was found to be positive here; the share with its 95 % interval, or why it is not known."""
    if said < MIN_WORDS:
        known = f"{said} of {MIN_WORDS} raised studies that readers spoke of in {days} days"
        return f"{begin}; how often that is right is not yet known here ({known})."
    share = Share(hits=confirmed, of=said)
    return (
        f"{begin}; of 100 raised here in the last {days} days, {share.value * 100:.0f} were confirmed "
        f"(95 % {share.low * 100:.0f} to {share.high * 100:.0f}; {said} studies that readers spoke of)."
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
