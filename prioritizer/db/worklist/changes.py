"""What happened to the list since the moment at which a browser drew it.

Every change of the list is an event, written in the transaction that made it, so no second account of what changed can disagree
with the first. A moment is named by a mark. On SQLite, with one writer at a time, it is the newest event's number. On Postgres a
smaller number may be committed after a greater one, so the mark holds the snapshot that was read, and what is not visible in it
is new. No transaction here that tells something lasts as long as `MAX_TRANSACTION`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from prioritizer.db.list_order.order import View, Wanted, changing, chosen, in_view, lasting
from prioritizer.db.schema import connect
from prioritizer.db.schema.events import Kind, who
from prioritizer.db.schema.tables import events, studies
from prioritizer.errors import NotAllowed
from prioritizer.ranking.deadlines import Band
from prioritizer.states import ReadingState

MAX_TOLD = 12
"""Changes that are told one by one; the others are counted."""
MAX_LOOKED_AT = 500
MAX_TRANSACTION = timedelta(minutes=2)
"""Longer than any transaction that writes an event."""
_MARK = re.compile(r"\d{1,18}(:\d{1,20}:\d{1,20}:(\d{1,20}(,\d{1,20}){0,400})?)?", re.ASCII)
MOVES = (Kind.PLACED, Kind.PINNED, Kind.UNPINNED)
TELLING = (
    Kind.ARRIVED, Kind.LATE, Kind.REOPENED, Kind.GREW, *MOVES, Kind.CLAIMED, Kind.RELEASED, Kind.TAKEN_OVER, Kind.LEASE_ENDED, Kind.READ,
    Kind.OVERDUE,
    Kind.EXPIRED, Kind.SCORED, Kind.INELIGIBLE, Kind.FAILED, Kind.RERANKED, Kind.CALIBRATION_ACTIVATED,
)  # fmt: skip
"""The kinds that change what the list shows."""
WEIGHTIEST = ("read", "expired", "new", "moved_up", "moved_down", "grown", "taken", "freed", "scored")
"""What a study is counted as: the first of these that happened to it."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A moment of the ledger. Events up to `number` had been seen then; of later ones those that `snapshot` shows."""

    number: int
    snapshot: str = ""

    def __str__(self) -> str:
        return f"{self.number}:{self.snapshot}" if self.snapshot else str(self.number)

    @classmethod
    def parse(cls, text: str) -> Mark:
        """A mark from an address. Raises NotAllowed."""
        if not _MARK.fullmatch(text):
            raise NotAllowed("this page was drawn by another version of prioritizer; load it again")
        number, _, snapshot = text.partition(":")
        if snapshot and not _is_snapshot(snapshot):
            raise NotAllowed("this page was drawn by another version of prioritizer; load it again")
        return cls(int(number), snapshot)


def _is_snapshot(text: str) -> bool:
    """`xmin:xmax:xip,...` as Postgres writes it, which refuses any other with an error."""
    first, last, among = text.split(":")
    inside = [int(number) for number in among.split(",")] if among else []
    return int(first) <= int(last) < 2**63 and inside == sorted(set(inside)) and all(int(first) <= number < int(last) for number in inside)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorklistChange:
    """One change in words: which study, what, when."""

    study_uid: str
    patient_name: str
    kind: str
    said: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What happened from mark `since` to mark `mark`, to studies of one list; the reader's own steps left out."""

    since: Mark
    mark: Mark
    new: int = 0
    moved_up: int = 0
    moved_down: int = 0
    taken: int = 0
    """Claimed by others."""
    freed: int = 0
    read: int = 0
    """Read by others."""
    expired: int = 0
    """Open for longer than the site allows: they stand in a view of their own now."""
    scored: int = 0
    """AI came to a result, or to none, that moved nothing."""
    grown: int = 0
    """More images came to a study that had stood there for a while."""
    stat: int = 0
    """New or pinned STAT studies among them."""
    overdue: int = 0
    reordered: bool = False
    """The whole list was placed again."""
    more: bool = False
    """There was more than is counted."""
    told: tuple[WorklistChange, ...] = field(default=())

    @property
    def urgent(self) -> bool:
        """True for a new STAT study, or one that has become overdue."""
        return bool(self.stat or self.overdue)

    @property
    def any(self) -> bool:
        """True where there is something to show."""
        counted = sum(getattr(self, name) for name in (*WEIGHTIEST, "stat", "overdue"))
        return bool(counted) or self.reordered


def mark(tx: sa.Connection, now: datetime) -> Mark:
    """This transaction's moment."""
    newest = sa.select(events.c.id).order_by(events.c.id.desc()).limit(1)
    if tx.dialect.name != "postgresql":
        return Mark(tx.scalar(newest) or 0)
    # Numbers are given in order: what is older than the longest transaction cannot be joined by a smaller number any more.
    older = newest.where(events.c.at < now - MAX_TRANSACTION).scalar_subquery()
    row = tx.execute(sa.select(older, sa.cast(sa.func.pg_current_snapshot(), sa.Text))).one()
    return Mark(row[0] or 0, row[1])


def mark_now(engine: sa.Engine, now: datetime) -> Mark:
    """The moment of the ledger now."""
    with connect.reading(engine) as tx:
        return mark(tx, now)


def anything(engine: sa.Engine, before: Mark, now: datetime) -> tuple[bool, bool, Mark]:
    """Whether the list changed after a mark, whether urgently, and the mark of now."""
    with connect.reading(engine) as tx:
        found = tx.scalar(sa.select(events.c.id).where(*_after(tx, before)).limit(1)) is not None
        return found, found and bool(_urgent(tx, before, 1)), mark(tx, now)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asker:
    """Who asks for news, and what their page shows."""

    reader: str
    """What they did themselves is no news to them."""
    quiet: Collection[Kind] = ()
    """Kinds that this page may not tell."""
    shown: Collection[str] = ()
    """Studies that stand on the page, though they may fit its list no more."""


def since(engine: sa.Engine, before: Mark, wanted: Wanted, asker: Asker, now: datetime) -> Changes:
    """What happened after a mark to the studies of one list, and to those that the page shows.

    Of very many events the newest are counted, and whatever is urgent however long ago it was.
    """
    with connect.reading(engine) as tx:
        # The kind is hidden from the planner: the primary key, read backwards, ends after so many rows.
        told = sa.func.coalesce(events.c.kind, "").in_(TELLING)
        query = sa.select(*_TOLD).where(events.c.id > before.number, told, *_unseen(tx, before)).order_by(events.c.id.desc())
        newest = tx.execute(query.limit(MAX_LOOKED_AT + 1)).all()
        more = len(newest) > MAX_LOOKED_AT
        found = {row.id: row for row in (*newest[:MAX_LOOKED_AT], *(_urgent(tx, before, MAX_LOOKED_AT) if more else ()))}
        rows = [row for row in _of_others([found[number] for number in sorted(found)], asker.reader) if row.kind not in asker.quiet]
        uids = sorted({row.study_uid for row in rows if row.study_uid})
        shown: dict[str, sa.Row[Any]] = {
            row.study_uid: row
            for some in _parts(uids)
            for row in tx.execute(_of_list(wanted, asker.shown, now).where(studies.c.study_uid.in_(some)))
        }
        at = mark(tx, now)
    return _counted(before, at, rows, shown, asker.reader, more=more)


_TOLD = tuple(events.c[name] for name in ("id", "study_uid", "kind", "actor", "detail", "said", "at"))


def _urgent(tx: sa.Connection, before: Mark, most: int) -> Sequence[sa.Row[Any]]:
    """The newest events after a mark that must be told at once: of unread STAT studies, and of those that became overdue."""
    after = (events.c.id > before.number, *_unseen(tx, before))
    stat = sa.select(studies.c.study_uid).where(in_view(View.OPEN), studies.c.stat == sa.true())
    # The kind is hidden from the planner: the few STAT studies lead to their events, not a million arrivals to the STAT ones.
    moves = sa.and_(events.c.study_uid.in_(stat), sa.func.coalesce(events.c.kind, "").in_((Kind.ARRIVED, Kind.LATE, *MOVES)))
    then = tx.scalar(sa.select(events.c.at).where(events.c.id == before.number))
    late = sa.and_(events.c.kind == Kind.OVERDUE, events.c.at >= then - MAX_TRANSACTION if then else sa.true())
    each = (sa.select(*_TOLD).where(*after, which).order_by(events.c.id.desc()).limit(most) for which in (moves, late))
    return [row for query in each for row in tx.execute(query)]


def _of_others(rows: Sequence[sa.Row[Any]], reader: str) -> list[sa.Row[Any]]:
    """Without what the reader did, and without the move that their own pin made."""
    own = {(row.study_uid, row.at) for row in rows if row.actor == reader and row.kind in (Kind.PINNED, Kind.UNPINNED)}
    whole = (Kind.RERANKED, Kind.CALIBRATION_ACTIVATED)
    return [
        row
        for row in rows
        if (row.actor != reader or row.kind in whole) and not (row.kind == Kind.PLACED and (row.study_uid, row.at) in own)
    ]


def _after(tx: sa.Connection, before: Mark) -> list[sa.ColumnElement[bool]]:
    """Events that change a list and that were not there at a mark."""
    return [events.c.id > before.number, sa.func.coalesce(events.c.kind, "").in_(TELLING), *_unseen(tx, before)]


def _unseen(tx: sa.Connection, before: Mark) -> list[sa.ColumnElement[bool]]:
    """Of the events with greater numbers, those that had not been committed."""
    if tx.dialect.name == "postgresql" and before.snapshot:
        return [sa.and_(sa.true(), sa.text(_UNSEEN).bindparams(snapshot=before.snapshot))]
    return []


_UNSEEN = """NOT pg_visible_in_snapshot((
    (pg_snapshot_xmax(pg_current_snapshot())::text::bigint / 4294967296 * 4294967296 + events.xmin::text::bigint
     - CASE WHEN events.xmin::text::bigint > pg_snapshot_xmax(pg_current_snapshot())::text::bigint % 4294967296
            THEN 4294967296 ELSE 0 END)::text)::xid8, CAST(:snapshot AS pg_snapshot))"""
"""A row knows the low half of the transaction that wrote it; the other half is that of now, or the one before."""


def _parts(uids: list[str], size: int = 500) -> list[list[str]]:
    return [uids[at : at + size] for at in range(0, len(uids), size)]


def _of_list(wanted: Wanted, shown: Collection[str], now: datetime) -> sa.Select[tuple[str, str, bool, str]]:
    """Studies of the list as it is asked for, those that the page shows, and those that stood in it and were read or expired.

    Of a list by what changes (claims, AI's state) nobody knows what stood in it beyond what the page shows.
    """
    gone = sa.or_(studies.c.reading_state == ReadingState.READ, studies.c.expired_at.is_not(None))
    left = sa.false() if changing(wanted, now) or wanted.view is not View.OPEN else sa.and_(gone, studies.c.listed, *lasting(wanted, now))
    fits = sa.or_(sa.and_(*chosen(wanted, now)), left, studies.c.study_uid.in_(list(shown)))
    return sa.select(studies.c.study_uid, studies.c.patient_name, studies.c.stat, studies.c.reading_state).where(fits)


def _counted(before: Mark, newest: Mark, rows: Sequence[Any], mine: dict[str, sa.Row[Any]], reader: str, *, more: bool) -> Changes:
    """Each study counts once, by the weightiest thing that happened to it. What others did with the reader's own claim is told in words."""
    found: dict[str, set[str]] = {}
    told, reordered = [], False
    for row in rows:
        kind = Kind(row.kind)
        if kind in (Kind.RERANKED, Kind.CALIBRATION_ACTIVATED):
            reordered = True
        if row.study_uid not in mine:
            continue
        word = _word(kind, row.detail)
        found.setdefault(row.study_uid, set()).add(word)
        if word not in ("scored", "taken", "freed") or kind is Kind.TAKEN_OVER or (row.detail or {}).get("holder") == reader:
            told.append(
                WorklistChange(
                    study_uid=row.study_uid, patient_name=mine[row.study_uid].patient_name, kind=row.kind, said=_said(kind, row), at=row.at
                )
            )
    counts = dict.fromkeys(WEIGHTIEST, 0)
    for words in found.values():
        first = next((word for word in WEIGHTIEST if word in words), None)
        if first:
            counts[first] += 1
    urgent = {uid for uid, words in found.items() if words & {"new", "moved_up"} and mine[uid].stat}
    late = {uid for uid, words in found.items() if "overdue" in words and mine[uid].reading_state != ReadingState.READ}
    return Changes(
        since=before, mark=newest, **counts, stat=len(urgent), overdue=len(late), reordered=reordered, more=more,
        told=tuple(told[-MAX_TOLD:]),
    )  # fmt: skip


def _said(kind: Kind, row: Any) -> str:
    actor = who(row.actor, row.detail)
    if kind is Kind.TAKEN_OVER:
        return f"{actor} took it over{row.said.removeprefix('taken over')}"
    return f"{actor} {row.said}" if kind is Kind.RELEASED else str(row.said)


WORDS = {
    Kind.ARRIVED: "new", Kind.LATE: "new", Kind.REOPENED: "new", Kind.PINNED: "moved_up", Kind.UNPINNED: "moved_down",
    Kind.CLAIMED: "taken",
    Kind.TAKEN_OVER: "taken", Kind.RELEASED: "freed", Kind.LEASE_ENDED: "freed", Kind.READ: "read", Kind.EXPIRED: "expired",
    Kind.OVERDUE: "overdue", Kind.GREW: "grown",
}  # fmt: skip
"""What a change is counted as."""


def _word(kind: Kind, detail: dict[str, object]) -> str:
    if kind is Kind.PLACED:
        due, before = (str(detail.get(name, "")) for name in ("due_at", "before"))
        if not before:  # written by an earlier version
            return "moved_up" if detail.get("band") == Band.HIGH else "moved_down"
        earlier, later = datetime.fromisoformat(due), datetime.fromisoformat(before)
        return "moved_up" if earlier < later else "moved_down" if earlier > later else "scored"
    return WORDS.get(kind, "scored")
