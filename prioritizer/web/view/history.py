"""What happened to a study, as far as this reader may be told now.

The ledger keeps everything. A page without AI does not tell where AI put a study, and nobody reads what another found before they said
what they found themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from prioritizer.access import May, Person
from prioritizer.db.schema.events import Kind
from prioritizer.db.worklist.feedback import ReaderFeedback
from prioritizer.db.worklist.rows import WorklistRow
from prioritizer.db.worklist.study import Event
from prioritizer.states import ReadingState
from prioritizer.web.view.wording import Manner

OF_ITS_PLACE = (Kind.PLACED, Kind.RECALIBRATED, Kind.OVERDUE)
"""What tells where AI put a study: also the moment at which it became overdue."""


def may_hear_others(person: Person, row: WorklistRow, said: Sequence[ReaderFeedback]) -> bool:
    """True for who said what they found, and for who judges readings: of a study that is read, or where they may read none themselves."""
    if any(word.reader == person.name and word.withdrawn_at is None for word in said):
        return True
    return person.may(May.CALIBRATE) and (row.reading_state == ReadingState.READ or not person.may(May.READ))


def told_to(person: Person, row: WorklistRow, manner: Manner, said: Sequence[ReaderFeedback], happened: Sequence[Event]) -> list[Event]:
    """The events, oldest first, without those that this page may not tell; of what others found only that they said it."""
    hears = may_hear_others(person, row, said)
    return [
        event if hears or event.kind != Kind.FEEDBACK or event.actor == person.name else replace(event, said="said what they found")
        for event in happened
        if manner.marks or event.kind not in OF_ITS_PLACE
    ]


def left_out(manner: Manner, happened: Sequence[Event]) -> bool:
    """True where the page must say that it does not tell everything."""
    return not manner.marks and any(event.kind in OF_ITS_PLACE for event in happened)
