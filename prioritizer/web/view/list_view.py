"""The list as a person asked for it: query, columns, saved lists, and what is shown above it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from urllib.parse import quote

from prioritizer.access import May, Person
from prioritizer.db.list_order.order import View, Wanted
from prioritizer.db.worklist import preferences
from prioritizer.db.worklist import rows as worklist_rows
from prioritizer.db.worklist.rows import WorklistRow
from prioritizer.errors import NotAllowed
from prioritizer.study import study_instance_uid
from prioritizer.web.http.context import RequestContext
from prioritizer.web.view.list_query import ListQuery, parsed, without_place
from prioritizer.web.view.wording import Manner

COLUMNS = {"study": "Study", "from": "From", "arrived": "Arrived", "ai": "AI", "reader": "Reader", "why": "Why here?"}
"""What may be left out of the list, by what each is called in a choice; due time and patient always stand."""
SITE_VIEWS = (
    ("everything open", ""),
    ("last 4 h", "?hours=4"),
    ("overdue", "?overdue=1"),
    ("my claims", "?mine=1"),
    ("not scored", "?ai=NOT_SCORED"),
    ("failed", "?ai=FAILED"),
    ("open too long", "?view=expired"),
    ("read", "?view=read"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedView:
    """A list under a name, as the menu shows it."""

    name: str
    query: str
    count: int | None
    """How many studies stand in it; None where nobody counts that far."""
    current: bool
    whose: str = ""
    """"site", "mine", or empty for those that come with prioritizer."""


def manner_of(context: RequestContext, asked: ListQuery | None = None) -> Manner:
    """How this page writes."""
    settings = context.backend.settings()
    blind = asked is not None and asked.address.blind
    return Manner(
        marks=context.shows_ai and not blind,
        neutral=timedelta(minutes=settings.ranking.neutral_minutes) if blind else None,
        masked=settings.reading.mask_patients,
        name_format=settings.reading.name_format,
        name_groups=settings.reading.name_groups,
        date_format=settings.reading.date_format,
        ai_off=bool(context.backend.operation.ai_off()[0]),
    )


def wanted_of(context: RequestContext, asked: ListQuery, person: Person) -> Wanted:
    """The list for the ledger. Raises NotAllowed where choosing by AI's opinion would tell it on a page that does not."""
    manner = manner_of(context, asked)
    if asked.address.raised and not manner.marks:
        raise NotAllowed("this list does not tell which studies were raised, so it cannot be searched by that; take the filter away")
    common = worklist_rows.too_common(context.engine, asked.address.q) if asked.address.q else ()
    return replace(asked.wanted(person.name), neutral=manner.neutral, common=common)


OF_THE_LIST = ("overdue", "expired", "raising-suspended", "calibration-changed", "not-ready")
"""Alarms that those who read must know; the others are on the page System, for those who mend them."""


def alarms_for(context: RequestContext, person: Person, manner: Manner | None = None) -> list[tuple[str, datetime, str, str]]:
    """The alarms that stand above a list, or with no `manner` those of the page System: none that would tell what AI thinks."""
    found = worklist_rows.standing_alarms(context.engine)
    if manner is not None and not person.may(May.OPERATE):
        found = [one for one in found if one[0] in OF_THE_LIST]
    marks = context.shows_ai if manner is None else manner.marks
    if marks or (manner is None and person.may(May.CALIBRATE)):
        return found
    hidden = ("raising-suspended", "overdue") if manner is not None and manner.neutral is not None else ("raising-suspended",)
    return [one for one in found if not one[0].startswith("board-") and one[0] not in hidden]


def is_plain(asked: ListQuery) -> bool:
    """True for a list of everything, in whatever order."""
    a = asked.address
    return a.view is View.OPEN and not (a.q or a.sender or a.ai or a.raised or a.overdue or a.mine or a.hours or a.after)


def columns(context: RequestContext, person: Person) -> list[str]:
    """The columns that this reader chose, in their order."""
    chosen = preferences.of(context.engine, person.name).get("columns")
    return [name for name in (COLUMNS if chosen is None else chosen) if name in COLUMNS]


def shown_columns(chosen: Sequence[str], asked: ListQuery) -> list[str]:
    """Blind, the two that tell AI's opinion are left out."""
    return [name for name in chosen if not (asked.address.blind and name in ("ai", "why"))]


def views(context: RequestContext, person: Person, asked: ListQuery) -> list[SavedView]:
    """The menu of lists: those that come with prioritizer, the site's, the reader's own."""
    here, counts, blind = without_place(asked).query(), context.counts(), asked.address.blind
    known = {"everything open": counts.open, "not scored": counts.not_scored, "failed": counts.failed, "open too long": counts.expired,
             "overdue": counts.overdue_by_arrival if blind else counts.overdue, "last 4 h": counts.recent,
             "my claims": counts.claims.get(person.name, 0)}  # fmt: skip
    found = [SavedView(name=name, query=query, count=known.get(name), current=here == query) for name, query in SITE_VIEWS]
    for saved in preferences.views(context.engine, person.name):
        wanted = parsed(saved.query)
        if wanted is None or (wanted.address.raised and not manner_of(context, wanted).marks):
            continue
        count = (
            context.counted(person.name, saved.query, wanted_of(context, wanted, person)) if wanted.address.view is not View.READ else None
        )
        whose = "mine" if saved.person else "site"
        found.append(SavedView(name=saved.name, query=saved.query, count=count, current=here == saved.query, whose=whose))
    return found


def viewers_of(context: RequestContext, row: WorklistRow, manner: Manner) -> list[tuple[str, str]]:
    """The viewers of the site with their links to one study; what a peer sent is quoted, so that it stays a value. Masked: none."""
    viewers = context.backend.settings().viewers
    if manner.masked or not viewers:
        return []
    values = {"study_uid": study_instance_uid(row.study_uid), "accession_number": row.accession_number, "patient_id": row.patient_id}
    quoted = {name: quote(value, safe="") for name, value in values.items()}
    return [(viewer.name, viewer.url.format(**quoted)) for viewer in viewers]


def list_of(query: str) -> ListQuery:
    """The list that a form was sent from; the plain one where the form does not say. Raises NotAllowed for what is none."""
    found = parsed(query)
    if found is None:
        raise NotAllowed("the list that this page was opened from cannot be read: load the list again")
    return found


def study_address(study_uid: str, asked: ListQuery) -> str:
    """The address of a study opened from a list."""
    query = asked.query(after=asked.address.after, at="")
    return f"/study/{quote(study_uid, safe='')}" + (f"?list={quote(query, safe='')}" if query else "")
