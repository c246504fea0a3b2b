"""The reading worklist, read only: ranked rows, their deliveries, what stands on them. Keyset paging on the order index."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from prioritizer.config.policy import SitePolicy
from prioritizer.db.in_force.settings import ruled
from prioritizer.db.list_order.cursor import PageCursor, whole
from prioritizer.db.list_order.order import WORKLIST, View, Wanted, chosen, common_words, in_view, order_keys, stands_after
from prioritizer.db.list_order.placement import high_suspended
from prioritizer.db.schema import connect
from prioritizer.db.schema.tables import alarms, deliveries, results, studies
from prioritizer.errors import NotAllowed, NotFound
from prioritizer.ranking.deadlines import Band
from prioritizer.states import DeliveryState
from prioritizer.study import HELD_WORDS, AIState, Hold


@dataclass(frozen=True, slots=True, kw_only=True)
class WorklistRow:
    """One study as the list shows it. Moments are UTC."""

    study_uid: str
    patient_id: str
    patient_name: str
    patient_birth_date: str
    patient_sex: str
    age_years: float | None
    accession_number: str
    study_description: str
    modality: str
    calling_ae: str
    first_received_at: datetime
    instances: int
    entries: int
    """How often something to look at came: every object, and every image that came again with other pixels."""
    stat: bool
    pinned_by: str | None
    ai_state: str
    ai_reason: str
    risk: float | None
    band: str
    due_at: datetime
    overdue_at: datetime | None
    place_reason: str
    reading_state: str
    reader: str | None
    reader_since: datetime | None
    reader_until: datetime | None
    read_at: datetime | None
    identity: str = ""
    """What must be confirmed about whose study it is, a line each; empty where nothing must."""


FIELDS = tuple(WorklistRow.__dataclass_fields__)
COLUMNS = [studies.c[name] for name in FIELDS]


def rows(
    engine: sa.Engine, wanted: Wanted = WORKLIST, *, now: datetime | None = None, limit: int = 200, after: PageCursor | None = None
) -> list[WorklistRow]:
    """The next `limit` rows of what is wanted behind the place `after`; `now` decides whose claims still hold."""
    with connect.reading(engine) as tx:
        return rows_in(tx, wanted, now or datetime.now(UTC), limit, after)


def rows_in(tx: sa.Connection, wanted: Wanted, now: datetime, limit: int, after: PageCursor | None = None) -> list[WorklistRow]:
    """The same in the caller's transaction."""
    query = sa.select(*COLUMNS).where(*chosen(wanted, now)).order_by(*order_keys(wanted)).limit(limit)
    if after is not None:
        query = query.where(stands_after(wanted, whole(tx, after)))
    return [WorklistRow(**row._mapping) for row in tx.execute(query)]


MAX_COUNTED = 1000


def count(engine: sa.Engine, wanted: Wanted, now: datetime) -> int:
    """How many studies a list holds, counted as far as `MAX_COUNTED`."""
    with connect.reading(engine) as tx:
        first = sa.select(studies.c.study_uid).where(*chosen(wanted, now)).limit(MAX_COUNTED).subquery()
        return tx.scalar(sa.select(sa.func.count()).select_from(first)) or 0


def too_common(engine: sa.Engine, text: str) -> tuple[str, ...]:
    """The words of a search that begin too many names and numbers to be looked for."""
    with connect.reading(engine) as tx:
        return common_words(tx, text)


def senders(engine: sa.Engine) -> list[str]:
    """The AE titles that the open studies came from."""
    with connect.reading(engine) as tx:
        return sorted(tx.scalars(sa.select(studies.c.calling_ae).distinct().where(in_view(View.OPEN))))


def share_raised(engine: sa.Engine, last_n: int) -> tuple[int, int]:
    """How many of the last scored studies were raised, of how many."""
    recent = sa.select(studies.c.band).where(studies.c.ai_state == AIState.SCORED).order_by(studies.c.first_received_at.desc())
    with connect.reading(engine) as tx:
        bands = tx.scalars(recent.limit(last_n)).all()
    return sum(band == Band.HIGH for band in bands), len(bands)


def study(engine: sa.Engine, study_uid: str) -> WorklistRow:
    """One study. Raises NotFound."""
    with connect.reading(engine) as tx:
        row = tx.execute(sa.select(*COLUMNS).where(studies.c.study_uid == study_uid)).one_or_none()
    if row is None:
        raise NotFound(f"no study {study_uid} in the ledger; `prioritizer worklist --json` lists the UIDs")
    return WorklistRow(**row._mapping)


def find(engine: sa.Engine, text: str) -> WorklistRow:
    """The study that a person means: its UID, its accession number, or the end of its UID. Raises NotFound, NotAllowed."""
    endings = sa.and_(studies.c.listed, studies.c.study_uid.endswith(text, autoescape=True))
    for meant in (studies.c.study_uid == text, studies.c.accession_number == text, endings):
        with connect.reading(engine) as tx:
            found = tx.execute(sa.select(*COLUMNS).where(meant).limit(2)).all()
        if len(found) == 1:
            return WorklistRow(**found[0]._mapping)
        if found:
            raise NotAllowed(f"{text} means several studies; give more of the Study UID")
    raise NotFound(f"no study {text} in the ledger; `prioritizer worklist --json` lists the UIDs")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryRow:
    """One result on its way to one destination."""

    study_uid: str
    result_uid: str
    destination: str
    state: str
    attempts: int
    reason_text: str
    created_at: datetime
    sent_at: datetime | None
    not_before: datetime | None


def delivery_columns() -> list[sa.ColumnElement[Any]]:
    """The columns of a DeliveryRow; one that is held back says so as its reason."""
    hold = sa.select(studies.c.held).where(studies.c.study_uid == deliveries.c.study_uid).scalar_subquery()
    reason = sa.case(
        (deliveries.c.state != DeliveryState.PENDING, deliveries.c.reason_text),
        *((hold == why, said) for why, said in HELD_WORDS.items()),
        else_=deliveries.c.reason_text,
    )
    named = {"reason_text": reason.label("reason_text")}
    return [named.get(name, deliveries.c[name]) for name in DeliveryRow.__dataclass_fields__]


def unfinished_deliveries(engine: sa.Engine, study_uid: str | None = None) -> list[DeliveryRow]:
    """Deliveries that are waiting or refused; of one study: all of them."""
    query = sa.select(*delivery_columns()).order_by(deliveries.c.created_at)
    if study_uid is not None:
        query = query.where(deliveries.c.study_uid == study_uid)
    else:
        query = query.where(deliveries.c.state.in_([DeliveryState.PENDING, DeliveryState.REJECTED]))
    with connect.reading(engine) as tx:
        return [DeliveryRow(**row._mapping) for row in tx.execute(query)]


def result_bytes(engine: sa.Engine, result_uid: str) -> bytes:
    """The stored Part 10 bytes of a result object. Raises NotFound."""
    with connect.reading(engine) as tx:
        data: bytes | None = tx.scalar(sa.select(results.c.data).where(results.c.sop_instance_uid == result_uid))
    if data is None:
        raise NotFound(f"no result {result_uid} in the ledger")
    return data


def standing_alarms(engine: sa.Engine) -> list[tuple[str, datetime, str, str]]:
    """Alarms that are on: name, since, what, mend."""
    with connect.reading(engine) as tx:
        return [(row.name, row.since, row.said, row.mend) for row in tx.execute(sa.select(alarms).order_by(alarms.c.since))]


def to_confirm(engine: sa.Engine) -> int:
    """Studies of which somebody must say whose they are."""
    with connect.reading(engine) as tx:
        return tx.scalar(sa.select(sa.func.count()).select_from(studies).where(studies.c.listed, sa.text("identity <> ''"))) or 0


def unconfirmed(engine: sa.Engine, limit: int = 200) -> list[WorklistRow]:
    """The studies of which somebody must say whose they are, the newest first."""
    query = sa.select(*COLUMNS).where(studies.c.listed, sa.text("identity <> ''")).order_by(studies.c.last_received_at.desc())
    with connect.reading(engine) as tx:
        return [WorklistRow(**row._mapping) for row in tx.execute(query.limit(limit))]


def held_after_rebuild(engine: sa.Engine) -> int:
    """Studies whose results are held back since they were entered again from the spool."""
    held = sa.and_(sa.text("held <> ''"), studies.c.held == Hold.REBUILT)
    with connect.reading(engine) as tx:
        return tx.scalar(sa.select(sa.func.count()).select_from(studies).where(held)) or 0


def raising_is_suspended(engine: sa.Engine, policy: SitePolicy) -> bool:
    """True while the share of HIGH among the last N scored studies is over the site's limit."""
    with connect.reading(engine) as tx:
        return high_suspended(tx, ruled(tx, policy, held=False).policy.ranking)
