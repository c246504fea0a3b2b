"""A clock that was ahead, and was set back: what it dated lies in the future, and is brought to the present.

Left as it is, a study that arrived while the clock was ahead would stand behind everything for as long as the clock was ahead, and
whoever held it would hold it for as long. A clock that is behind for a while makes the same of everything: once it is set forward, what
had been moved stands where its receipt says, and nothing counts as old that only the clock made old.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from prioritizer.config.policy import QuietTime
from prioritizer.db.in_force import site_policy
from prioritizer.db.in_force.calibration import PolicyInForce, in_force
from prioritizer.db.list_order.placement import put_in_place
from prioritizer.db.processing.leases import MAX_WAIT
from prioritizer.db.schema import connect
from prioritizer.db.schema.columns import EPOCH, MICROSECOND
from prioritizer.db.schema.events import Kind, record
from prioritizer.db.schema.instance_rows import OWN_OBJECT
from prioritizer.db.schema.tables import events, instances, studies
from prioritizer.ranking.deadlines import minutes
from prioritizer.states import ReadingState

NO_STEP = timedelta(seconds=20)
"""What lies no further ahead is the wait between a look at the clock and the ledger's lock, and no step."""
SEEN_WITHIN = timedelta(minutes=1)
"""Between a step and the look that sees it."""
DAY = timedelta(days=1)
MADE = datetime(2025, 1, 1, tzinfo=UTC)
"""No ledger is older than prioritizer: a clock that is before this is behind for certain."""
ARRIVALS = (Kind.ARRIVED, Kind.GREW, Kind.LATE)
STANDS_FOR = timedelta(hours=1)
"""So long after a step of the clock its alarm stands."""


def bring_to_present(tx: sa.Connection, rules: PolicyInForce, now: datetime) -> int:
    """No arrival lies in the future: those that do arrived just now, in their order, behind every earlier one. Returns how many studies."""
    ahead = sa.select(studies).where(studies.c.last_received_at > now + NO_STEP).order_by(studies.c.first_received_at, studies.c.study_uid)
    rows = tx.execute(ahead.with_for_update()).all()
    for place, row in enumerate(rows):
        moment = now - (len(rows) - place) * MICROSECOND
        arrived = min(row.first_received_at, moment)
        values = {"first_received_at": arrived, "last_received_at": max(arrived, moment)}
        tx.execute(studies.update().where(studies.c.study_uid == row.study_uid).values(values))
        late = (instances.c.study_uid == row.study_uid) & (instances.c.received_at > moment)
        tx.execute(instances.update().where(late).values(received_at=moment))
        put_in_place(tx, row.study_uid, rules.policy.ranking, now)
    if rows:
        furthest = max(row.last_received_at for row in rows) - now
        said = f"{len(rows)} studies had arrived up to {minutes(furthest)} ahead of the clock as it is now: they arrived just before now"
        record(tx, Kind.CLOCK_STEPPED, said, now, seconds=-furthest.total_seconds(), of_arrivals=True)
    return len(rows)


def hold_results_to_present(engine: sa.Engine, quiet: QuietTime, now: datetime) -> int:
    """Results that a clock which was ahead put off are due as if their study had changed now; returns of how many studies."""
    latest = now + max(quiet.ceiling, quiet.quiet, MAX_WAIT) + NO_STEP
    with connect.writing(engine) as tx:
        ahead = sa.or_(studies.c.not_before > latest, studies.c.publish_by > latest)
        due = {"not_before": now + quiet.quiet, "publish_by": now + quiet.ceiling}
        return tx.execute(studies.update().where(studies.c.revision > studies.c.published_revision, ahead).values(due)).rowcount


def keep_on_the_list(engine: sa.Engine, now: datetime) -> int:
    """Unread studies that a clock moved do not expire by it: a restart may have hidden that it was set right; returns how many."""
    moved = sa.select(sa.literal(1)).where(instances.c.study_uid == studies.c.study_uid, instances.c.receipt_at > instances.c.received_at)
    unread = studies.c.listed & (studies.c.reading_state != ReadingState.READ) & studies.c.expired_at.is_(None)
    with connect.writing(engine) as tx:
        return tx.execute(studies.update().where(unread, moved.exists()).values(listed_since=now)).rowcount


def hold_to_present(engine: sa.Engine, now: datetime) -> int:
    """Arrivals and readers' claims that a clock which was ahead left in the future; returns how many studies."""
    with connect.writing(engine) as tx:
        policy = site_policy.remembered(tx)
        if policy is None:
            return 0
        held = bring_to_present(tx, in_force(tx, policy), now)
        ahead = (studies.c.reading_state == ReadingState.CLAIMED) & (studies.c.reader_since > now)
        # The lease keeps its length: in the raw microseconds of the columns.
        until, since = (sa.type_coerce(studies.c[name], sa.BigInteger) for name in ("reader_until", "reader_since"))
        moment = (now - EPOCH) // MICROSECOND
        ends = sa.type_coerce(moment + until - since, studies.c.reader_until.type)
        return held + tx.execute(studies.update().where(ahead).values(reader_since=now, reader_until=ends)).rowcount


def gone_forward(engine: sa.Engine, step: timedelta, now: datetime) -> int:
    """The clock was set forward by `step`: what was moved by no more than that has its own arrival again; returns how many studies.

    No unread study expires until the time that the site gives has passed from now on, and a reader's claim keeps what it had left. The
    step is written down in the same commit: what moves times by a difference is done once.
    """
    with connect.writing(engine) as tx:
        put_back = _put_back(tx, step, now)
        if put_back:
            message = f"{put_back} studies that a clock behind had brought forward are dated by their receipts again"
            record(tx, Kind.CLOCK_STEPPED, message, now)
        _record_step(tx, step, now)
        return put_back


def _put_back(tx: sa.Connection, step: timedelta, now: datetime) -> int:
    unread = studies.c.listed & (studies.c.reading_state != ReadingState.READ)
    held = tx.scalars(sa.select(studies.c.study_uid).where(unread).order_by(studies.c.study_uid).with_for_update()).all()
    tx.execute(studies.update().where(unread, studies.c.expired_at.is_(None)).values(listed_since=now))
    alive = (studies.c.reading_state == ReadingState.CLAIMED) & (studies.c.reader_until > now - step)
    moved_on = {name: _later(studies.c[name], step) for name in ("reader_since", "reader_until")}
    tx.execute(studies.update().where(alive).values(moved_on))
    policy = site_policy.remembered(tx)
    if policy is None:
        return 0
    rules = in_force(tx, policy)
    last = _last_of_later(tx, now - step, now) if step >= DAY else None
    back, forward = _steps(tx, step, now - step, last)
    unseen, since = _unseen_step_back(tx, now - step, last) if step >= DAY else (None, None)
    if back is not None:  # somebody saw it go back, at the latest then
        back, since = min(back, unseen or back), None
    else:
        back = unseen
    by = sa.type_coerce(instances.c.receipt_at, sa.BigInteger) - sa.type_coerce(instances.c.received_at, sa.BigInteger)
    moved = (by > 0) & (by <= (step + forward + SEEN_WITHIN) // MICROSECOND) & (instances.c.receipt_at <= now)
    came: sa.ColumnElement[bool] = sa.false()
    if back is not None:
        came = (
            _while_behind(instances.c.received_at, back, now - step) & (by == 0) & _has_event_since(instances.c.study_uid, since, *ARRIVALS)
        )
        for column, kind in ((studies.c.read_at, Kind.READ), (studies.c.expired_at, Kind.EXPIRED)):
            then = _while_behind(column, back, now - step) & _has_event_since(studies.c.study_uid, since, kind)
            tx.execute(studies.update().where(then).values({column.name: _later(column, step)}))
    uids = sorted(set(tx.scalars(sa.select(instances.c.study_uid).where(sa.or_(moved, came)))) & set(held))
    for uid in uids:
        mine = instances.c.study_uid == uid
        arrived = sa.case((moved, instances.c.receipt_at), else_=_later(instances.c.received_at, step))
        tx.execute(instances.update().where(mine, sa.or_(moved, came)).values(received_at=arrived))
        span = sa.select(sa.func.min(instances.c.received_at), sa.func.max(instances.c.received_at)).where(
            mine, instances.c.reason != OWN_OBJECT
        )
        first, last = tx.execute(span).one()
        if first is not None:
            tx.execute(studies.update().where(studies.c.study_uid == uid).values(first_received_at=first, last_received_at=last))
            put_in_place(tx, uid, rules.policy.ranking, now)
    return len(uids)


def _last_of_later(tx: sa.Connection, before: datetime, now: datetime) -> int | None:
    """The last event that is dated later than a clock that stood at `before`, and not later than now."""
    later = (events.c.at > before + SEEN_WITHIN) & (events.c.at <= now - SEEN_WITHIN)
    last: int | None = tx.scalar(sa.select(sa.func.max(events.c.id)).where(later))
    return last


def _steps(tx: sa.Connection, step: timedelta, before: datetime, last: int | None) -> tuple[datetime | None, timedelta]:
    """Before a step forward: when the clock went back by as much, by that clock, and by how much it went forward since.

    Looked at is the day before, and what came after the event `last`, which is dated later than the clock stood at. Only what undoes a
    step back, before the clock came to where it had been, says that it was behind in between: the first is None otherwise. A
    machine that stood still for as long as its clock had once been ahead was not behind.
    """
    of_late = events.c.at > before - DAY
    if last is not None:
        of_late |= events.c.id > last
    recent = (events.c.kind == Kind.CLOCK_STEPPED) & of_late & (events.c.at <= before + SEEN_WITHIN)
    back, by, forward = None, timedelta(0), timedelta(0)
    for row in tx.execute(sa.select(events.c.at, events.c.detail).where(recent).order_by(events.c.id)):
        seconds = float(row.detail.get("seconds", 0))
        if seconds < 0:
            back, by, forward = back or row.at, max(by, timedelta(seconds=-seconds)), timedelta(0)
        else:
            forward += timedelta(seconds=seconds)
    undone = back is not None and not forward and abs(step - by) <= by / 10 + SEEN_WITHIN and before - back < by
    return back if undone else None, forward


def _unseen_step_back(tx: sa.Connection, before: datetime, last: int | None) -> tuple[datetime | None, int | None]:
    """Since when, by a clock that stood at `before`, it was behind, and the last event of before that; None twice where it was not.

    Nobody saw it go back: the machine started with it. It was behind where the ledger had already written of a later moment (`last`).
    """
    if last is None and before >= MADE:
        return None, None
    if last is not None and before >= MADE and _went_back(tx, last):
        return None, None  # what was written of a later moment was written by a clock that was ahead, and somebody saw it set right
    behind = (events.c.id > (last or 0)) & (events.c.at <= before + SEEN_WITHIN)
    return tx.scalar(sa.select(sa.func.min(events.c.at)).where(behind)), last or 0


def _went_back(tx: sa.Connection, since: int) -> bool:
    """A step back that somebody saw is on record behind this event."""
    steps = sa.select(events.c.detail).where(events.c.kind == Kind.CLOCK_STEPPED, events.c.id > since)
    return any(float(detail.get("seconds", 0)) < 0 and not detail.get("of_arrivals") for detail in tx.scalars(steps))


def _has_event_since(study_uid: sa.Column[str], since: int | None, *kinds: Kind) -> sa.ColumnElement[bool]:
    """The study has such an event behind this one; any study where it is None."""
    if since is None:
        return sa.true()
    later = sa.select(sa.literal(1)).where(events.c.study_uid == study_uid, events.c.id > since, events.c.kind.in_(kinds))
    return later.exists()


def _while_behind(column: sa.Column[datetime], back: datetime, before: datetime) -> sa.ColumnElement[bool]:
    return sa.and_(column >= back, column <= before + SEEN_WITHIN)


def _later(column: sa.Column[datetime], step: timedelta) -> sa.ColumnElement[Any]:
    return sa.type_coerce(sa.type_coerce(column, sa.BigInteger) + step // MICROSECOND, column.type)


def record_step(engine: sa.Engine, step: timedelta, now: datetime) -> None:
    """The machine's clock was set, by so much: an event, and so an alarm."""
    with connect.writing(engine) as tx:
        _record_step(tx, step, now)


def _record_step(tx: sa.Connection, step: timedelta, now: datetime) -> None:
    where = "forward" if step > timedelta(0) else "back"
    message = f"the clock was set {where} by {abs(step).total_seconds():.0f} s"
    record(tx, Kind.CLOCK_STEPPED, message, now, seconds=step.total_seconds())


def last_step(engine: sa.Engine, now: datetime, within: timedelta = STANDS_FOR) -> str:
    """What the last step of the clock was, while it is recent; empty where there was none. What a clock ahead dated does not count."""
    steps = (events.c.kind == Kind.CLOCK_STEPPED) & (events.c.at <= now + SEEN_WITHIN)
    with connect.reading(engine) as tx:
        row = tx.execute(sa.select(events.c.at, events.c.said).where(steps).order_by(events.c.id.desc()).limit(1)).one_or_none()
    return row.said if row is not None and row.at > now - within else ""


def forward_of_late(engine: sa.Engine, now: datetime, within: timedelta = DAY) -> timedelta:
    """By how much the clock was set forward of late: so much older everything looks by that alone.

    What a later step back undid is not counted, nor what a clock ahead dated; at most the time since 1970.
    """
    stepped = events.c.kind == Kind.CLOCK_STEPPED
    first = sa.select(sa.func.min(events.c.id)).where(stepped, events.c.at > now - within, events.c.at <= now + SEEN_WITHIN)
    steps = sa.select(events.c.at, events.c.detail).where(stepped, events.c.id >= first.scalar_subquery()).order_by(events.c.id)
    forward = ahead = 0.0
    with connect.reading(engine) as tx:
        for row in tx.execute(steps):
            # The event of the arrivals that a step moved is no second step.
            seconds = 0.0 if row.detail.get("of_arrivals") else float(row.detail.get("seconds", 0))
            if seconds < 0:  # it undoes what a clock ahead dated before it undoes anything else
                undone = min(ahead, -seconds)
                ahead, forward = ahead - undone, max(forward + seconds + undone, 0.0)
            elif row.at > now + SEEN_WITHIN:
                ahead += seconds
            elif row.at > now - within:
                forward += seconds
    return timedelta(seconds=min(forward, (now - EPOCH).total_seconds()))
