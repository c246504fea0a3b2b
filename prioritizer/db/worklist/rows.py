"""The reading worklist, read only: ranked rows, one study's history, counts. Keyset paging on the order index."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from prioritizer.db.in_force.settings import ruled
from prioritizer.db.instances.identity import keys_under
from prioritizer.db.order.cursor import Place, whole
from prioritizer.db.order.order import WORKLIST, View, Wanted, chosen, common_words, in_view, is_overdue, order_keys, stands_after
from prioritizer.db.order.placement import high_suspended
from prioritizer.db.schema import connect
from prioritizer.db.schema.events import who
from prioritizer.db.schema.tables import alarms, deliveries, events, instances, results, scores, studies
from prioritizer.errors import NotAllowed, NotFound
from prioritizer.ranking.deadlines import Band, Policy
from prioritizer.study import ANOTHER_PATIENT, HELD_WORDS, AIState, DeliveryState, Hold


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
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


FIELDS = tuple(Row.__dataclass_fields__)
COLUMNS = [studies.c[name] for name in FIELDS]


def rows(
    engine: sa.Engine, wanted: Wanted = WORKLIST, *, now: datetime | None = None, limit: int = 200, after: Place | None = None
) -> list[Row]:
    """The next `limit` rows of what is wanted behind the place `after`; `now` decides whose claims still hold."""
    with connect.reading(engine) as tx:
        return rows_in(tx, wanted, now or datetime.now(UTC), limit, after)


def rows_in(tx: sa.Connection, wanted: Wanted, now: datetime, limit: int, after: Place | None = None) -> list[Row]:
    """The same in the caller's transaction."""
    query = sa.select(*COLUMNS).where(*chosen(wanted, now)).order_by(*order_keys(wanted)).limit(limit)
    if after is not None:
        query = query.where(stands_after(wanted, whole(tx, after)))
    return [Row(**row._mapping) for row in tx.execute(query)]


MOST_COUNTED = 1000


def count(engine: sa.Engine, wanted: Wanted, now: datetime) -> int:
    """How many studies a list holds, counted as far as `MOST_COUNTED`."""
    with connect.reading(engine) as tx:
        first = sa.select(studies.c.study_uid).where(*chosen(wanted, now)).limit(MOST_COUNTED).subquery()
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


def study(engine: sa.Engine, study_uid: str) -> Row:
    """One study. Raises NotFound."""
    with connect.reading(engine) as tx:
        row = tx.execute(sa.select(*COLUMNS).where(studies.c.study_uid == study_uid)).one_or_none()
    if row is None:
        raise NotFound(f"no study {study_uid} in the ledger; `prioritizer worklist --json` lists the UIDs")
    return Row(**row._mapping)


def find(engine: sa.Engine, text: str) -> Row:
    """The study that a person means: its UID, its accession number, or the end of its UID. Raises NotFound, NotAllowed."""
    endings = sa.and_(studies.c.listed, studies.c.study_uid.endswith(text, autoescape=True))
    for meant in (studies.c.study_uid == text, studies.c.accession_number == text, endings):
        with connect.reading(engine) as tx:
            found = tx.execute(sa.select(*COLUMNS).where(meant).limit(2)).all()
        if len(found) == 1:
            return Row(**found[0]._mapping)
        if found:
            raise NotAllowed(f"{text} means several studies; give more of the Study UID")
    raise NotFound(f"no study {text} in the ledger; `prioritizer worklist --json` lists the UIDs")


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One line of a study's history."""

    at: datetime
    kind: str
    actor: str
    who: str
    """The actor, with the token that a program did it with."""
    said: str
    sop_instance_uid: str | None


def why(engine: sa.Engine, study_uid: str) -> list[Event]:
    """Everything that happened to a study, and to rows that joined it, oldest first. Raises NotFound."""
    study(engine, study_uid)
    with connect.reading(engine) as tx:
        others = [] if ANOTHER_PATIENT in study_uid else keys_under(study_uid)[1:]
        joined = tx.scalars(sa.select(studies.c.study_uid).where(studies.c.study_uid.in_(others), ~studies.c.listed)).all()
        query = sa.select(events).where(events.c.study_uid.in_([study_uid, *joined])).order_by(events.c.at, events.c.id)
        return [
            Event(at=e.at, kind=e.kind, actor=e.actor, who=who(e.actor, e.detail), said=e.said, sop_instance_uid=e.sop_instance_uid)
            for e in tx.execute(query)
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceRow:
    """One instance of a study with its newest score."""

    sop_instance_uid: str
    state: str
    reason: str
    reason_text: str
    probability: float | None
    logit: float | None
    bundle_digest: str | None
    calibration_id: str | None
    activation: int | None
    engine: str | None
    precision: str | None
    warnings: list[str] | None
    received_at: datetime
    scored_at: datetime | None
    modality: str
    view: str
    has_film: bool
    """A single image that may be shown: not our own result, no report, its pixels still here."""
    out_of_distribution: float | None = None
    """How far it lies from the training data, in units of the limit of the bundle named in `measured_by`; None where that is not known."""
    measured_by: str = ""


OF_ATTRIBUTES = ("modality", "view", "has_film")


def study_instances(engine: sa.Engine, study_uid: str) -> list[InstanceRow]:
    """The instances of a study in order of arrival."""
    of_study = sa.select(instances.c.sop_instance_uid).where(instances.c.study_uid == study_uid)
    newest = sa.select(sa.func.max(scores.c.id)).where(scores.c.sop_instance_uid.in_(of_study)).group_by(scores.c.sop_instance_uid)
    joined = instances.outerjoin(scores, sa.and_(scores.c.sop_instance_uid == instances.c.sop_instance_uid, scores.c.id.in_(newest)))
    names = [name for name in InstanceRow.__dataclass_fields__ if name not in OF_ATTRIBUTES]
    columns = [instances.c[name] if name in instances.c else scores.c[name] for name in names]
    more = (instances.c.attributes.label("attributes"), instances.c.pixels_deleted_at.label("gone"))
    query = sa.select(*columns, *more).select_from(joined).where(instances.c.study_uid == study_uid).order_by(instances.c.received_at)
    with connect.reading(engine) as tx:
        return [_instance(row, names) for row in tx.execute(query)]


def _instance(row: Any, names: Sequence[str]) -> InstanceRow:
    said = row.attributes
    shown = said.get("has_pixels") and said.get("number_of_frames") == 1 and not said.get("made_by_us") and row.gone is None
    own = {name: row._mapping[name] for name in names}
    return InstanceRow(**own, modality=said.get("modality", ""), view=said.get("view_position", ""), has_film=bool(shown))


def saliency_of(engine: sa.Engine, sop_instance_uid: str) -> bytes:
    """The newest heat map of an image: float32 little-endian, square. Raises NotFound."""
    query = sa.select(scores.c.saliency).where(scores.c.sop_instance_uid == sop_instance_uid).order_by(scores.c.id.desc()).limit(1)
    with connect.reading(engine) as tx:
        found: bytes | None = tx.scalar(query)
    if found is None:
        raise NotFound("this image has no score")
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """The figures above the list."""

    open: int
    overdue: int
    overdue_by_arrival: int
    """Past the deadline that arrival alone gives: what a list without AI tells."""
    raised: int
    waiting: int
    not_scored: int
    failed: int
    expired: int
    unsent: int
    rejected: int
    recent: int
    """Arrived within `RECENT`."""
    claims: Mapping[str, int]
    """Open studies that each reader has."""
    oldest: datetime | None
    last_arrival: datetime | None
    last_sender: str


RECENT = timedelta(hours=4)
NEUTRAL = Policy().neutral


def counts(engine: sa.Engine, now: datetime | None = None, neutral: timedelta = NEUTRAL) -> Counts:
    """Counts over the open list, the deliveries and the last arrival. `neutral`: the window of a study that is not raised."""
    now = now or datetime.now(UTC)

    def when(condition: sa.ColumnElement[bool]) -> sa.ColumnElement[int]:
        return sa.func.coalesce(sa.func.sum(sa.case((condition, 1), else_=0)), 0)

    with connect.reading(engine) as tx:
        listed = tx.execute(
            sa.select(
                sa.func.count(),
                when(is_overdue(now)),
                when(is_overdue(now, neutral)),
                when(studies.c.band == "HIGH"),
                when(studies.c.ai_state == "WAITING"),
                when(studies.c.ai_state == "NOT_SCORED"),
                when(studies.c.ai_state == "FAILED"),
                when(studies.c.first_received_at >= now - RECENT),
                sa.func.min(studies.c.first_received_at),
            ).where(in_view(View.OPEN))
        ).one()
        expired = tx.scalar(sa.select(sa.func.count()).select_from(studies).where(in_view(View.EXPIRED)))
        unfinished = sa.text("state IN ('PENDING', 'REJECTED')")  # the words of the partial index
        each = sa.select(deliveries.c.state, sa.func.count()).where(unfinished).group_by(deliveries.c.state)
        sent: dict[str, int] = {row[0]: row[1] for row in tx.execute(each)}
        newest = sa.select(studies.c.last_received_at, studies.c.calling_ae).order_by(studies.c.last_received_at.desc()).limit(1)
        last = tx.execute(newest).one_or_none()
        held = sa.select(studies.c.reader, sa.func.count()).where(in_view(View.OPEN), studies.c.reader_until > now)
        claims = {row[0]: row[1] for row in tx.execute(held.group_by(studies.c.reader))}
    return Counts(
        open=listed[0], overdue=listed[1], overdue_by_arrival=listed[2], raised=listed[3], waiting=listed[4], not_scored=listed[5],
        failed=listed[6], recent=listed[7], oldest=listed[8], expired=expired or 0, unsent=sent.get(DeliveryState.PENDING, 0),
        rejected=sent.get(DeliveryState.REJECTED, 0), claims=claims, last_arrival=last[0] if last else None,
        last_sender=last[1] if last else "",
    )  # fmt: skip


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


def unconfirmed(engine: sa.Engine, limit: int = 200) -> list[Row]:
    """The studies of which somebody must say whose they are, the newest first."""
    query = sa.select(*COLUMNS).where(studies.c.listed, sa.text("identity <> ''")).order_by(studies.c.last_received_at.desc())
    with connect.reading(engine) as tx:
        return [Row(**row._mapping) for row in tx.execute(query.limit(limit))]


def held_after_rebuild(engine: sa.Engine) -> int:
    """Studies whose results are held back since they were entered again from the spool."""
    held = sa.and_(sa.text("held <> ''"), studies.c.held == Hold.REBUILT)
    with connect.reading(engine) as tx:
        return tx.scalar(sa.select(sa.func.count()).select_from(studies).where(held)) or 0


def raising_is_suspended(engine: sa.Engine, policy: Policy) -> bool:
    """True while the share of HIGH among the last N scored studies is over the site's limit."""
    with connect.reading(engine) as tx:
        return high_suspended(tx, ruled(tx, policy, held=False).policy)
