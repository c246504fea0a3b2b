"""What readers do: claim, release, read, pin. One compare-and-set each; the loser is told who won."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from prioritizer.config.policy import QuietTime, SitePolicy
from prioritizer.db.in_force import site_policy
from prioritizer.db.in_force.calibration import PolicyInForce, in_force
from prioritizer.db.list_order.order import KEYS, WORKING, WORKLIST, Wanted, chosen, nobody_has, order_keys, stands_before
from prioritizer.db.list_order.placement import put_in_place, replace_study
from prioritizer.db.processing.result_revisions import bump_revision
from prioritizer.db.schema import connect
from prioritizer.db.schema.columns import NO_READER
from prioritizer.db.schema.events import Kind, record
from prioritizer.db.schema.instance_rows import instance_of
from prioritizer.db.schema.tables import differing_copies, events, instances, studies
from prioritizer.errors import NotAllowed, NotFound
from prioritizer.ranking.deadlines import minutes
from prioritizer.scope.header_rules import may_be_a_radiograph
from prioritizer.states import CopyState, ReadingState
from prioritizer.study import STAT_PRIORITIES, AIState

AT_ONCE = QuietTime(quiet=timedelta(0), ceiling=timedelta(minutes=10))
"""When the result of a study that a person opened again is published: no more images are expected."""


class ReadingAction(StrEnum):
    """What a reader does to a study."""

    CLAIM = "claim"
    TAKE_OVER = "take-over"
    RELEASE = "release"
    READ = "read"
    REOPEN = "reopen"
    PIN = "pin"
    UNPIN = "unpin"


def _study(tx: sa.Connection, study_uid: str) -> sa.Row[Any]:
    row = tx.execute(sa.select(studies).where(studies.c.study_uid == study_uid).with_for_update()).one_or_none()
    if row is None:
        raise NotFound(f"no study {study_uid} in the ledger")
    return row


def set_values(tx: sa.Connection, study_uid: str, **values: Any) -> None:
    """Set columns of one study."""
    tx.execute(studies.update().where(studies.c.study_uid == study_uid).values(**values))


def _held(row: sa.Row[Any], now: datetime) -> bool:
    return row.reading_state == ReadingState.CLAIMED and row.reader_until is not None and row.reader_until > now


def claim(
    engine: sa.Engine,
    study_uid: str,
    reader: str,
    lease: timedelta,
    now: datetime,
    *,
    take_over: bool = False,
    wanted: Wanted = WORKLIST,
) -> None:
    """`reader` has the study until `now + lease`; claiming one's own again renews it. Raises NotAllowed with the holder's name.

    Free studies that stand before it in the list that is `wanted` were passed by: how many, by band, is kept with the claim.
    """
    with connect.writing(engine) as tx:
        row = _study(tx, study_uid)
        if row.reading_state == ReadingState.READ:
            raise NotAllowed(f"{row.reader} read the study {minutes(now - row.read_at)} ago")
        other = _held(row, now) and row.reader != reader
        if other and not take_over:
            raise NotAllowed(
                f"{row.reader} has had this study for {minutes(now - row.reader_since)}; take it over if they cannot go on (--take-over)"
            )
        renewed = _held(row, now) and row.reader == reader
        since = row.reader_since if renewed else now
        set_values(tx, study_uid, reading_state=ReadingState.CLAIMED, reader=reader, reader_since=since, reader_until=now + lease)
        if other:
            record(tx, Kind.TAKEN_OVER, f"taken over from {row.reader}", now, study=study_uid, actor=reader)
        elif not renewed:
            passed = passed_by(tx, row, wanted, now)
            said = "claimed" + (f", {sum(passed.values())} that stand before it passed by" if passed else "")
            record(tx, Kind.CLAIMED, said, now, study=study_uid, actor=reader, passed=passed)


MAX_SKIPPED = 50
MAX_PASSED = 500
"""Further than this nobody counts how many studies were passed by."""


def claim_next(
    engine: sa.Engine, reader: str, lease: timedelta, now: datetime, wanted: Wanted = WORKLIST, passing: Collection[str] = ()
) -> str | None:
    """Claim the first study of a list that nobody has, the ones in `passing` left out: its UID, or None when there is none left.

    However a list is sorted for looking, the next study is the one due first, or in order of arrival the one that came first. The ones
    in `passing` are skipped: that is kept, and whoever had one has it no longer. Any other claim stays until it is read or released.
    """
    if len(passing) > MAX_SKIPPED:
        raise NotAllowed(f"at most {MAX_SKIPPED} studies are skipped at once")
    wanted = _to_work_by(wanted)
    with connect.writing(engine) as tx:
        # Those that are skipped are held first, in one order: two who skip each other's study never wait in a ring.
        for row in tx.execute(
            sa.select(studies).where(studies.c.study_uid.in_(set(passing))).order_by(studies.c.study_uid).with_for_update()
        ).all():
            _skip(tx, row, reader, now)
        free = (*chosen(wanted, now), nobody_has(now), studies.c.study_uid.not_in(list(passing)))
        query = sa.select(studies.c.study_uid).where(*free).order_by(*order_keys(wanted)).limit(1).with_for_update(skip_locked=True)
        uid: str | None = tx.scalar(query)
        if uid is not None:
            set_values(tx, uid, reading_state=ReadingState.CLAIMED, reader=reader, reader_since=now, reader_until=now + lease)
            record(tx, Kind.CLAIMED, "claimed as the next study", now, study=uid, actor=reader)
        return uid


def upcoming(engine: sa.Engine, now: datetime, wanted: Wanted, passing: Collection[str]) -> str | None:
    """The study that `claim_next` would give now; nothing is claimed and nothing written."""
    free = (*chosen(_to_work_by(wanted), now), nobody_has(now), studies.c.study_uid.not_in(list(passing)))
    with connect.reading(engine) as tx:
        found: str | None = tx.scalar(sa.select(studies.c.study_uid).where(*free).order_by(*order_keys(_to_work_by(wanted))).limit(1))
    return found


def _skip(tx: sa.Connection, row: sa.Row[Any], reader: str, now: datetime) -> None:
    if row.reading_state == ReadingState.READ:  # an old page was pressed on
        return
    record(tx, Kind.SKIPPED, "skipped for the next one", now, study=row.study_uid, actor=reader, band=row.band)
    if row.reading_state == ReadingState.CLAIMED and row.reader == reader:
        set_values(tx, row.study_uid, reading_state=ReadingState.OPEN, **NO_READER)
        record(tx, Kind.RELEASED, "released by the skip", now, study=row.study_uid, actor=reader)


def _to_work_by(wanted: Wanted) -> Wanted:
    """The same choice of studies in an order that people work by, also from the list of one's own claims."""
    return replace(wanted, order=wanted.order if wanted.order in WORKING else WORKLIST.order, backwards=False, reader="")


def passed_by(tx: sa.Connection, row: sa.Row[Any], wanted: Wanted, now: datetime) -> dict[str, int]:
    """How many free studies stand before this one in a list that people work by, by band: whoever claims it passes them by."""
    wanted = _to_work_by(wanted)
    at = {name: row._mapping[name] for name in ("stat", *KEYS[wanted.order])}
    ahead = sa.select(studies.c.band).where(*chosen(wanted, now), nobody_has(now), stands_before(wanted, at)).limit(MAX_PASSED)
    return dict(Counter(tx.scalars(ahead)))


def release(engine: sa.Engine, study_uid: str, reader: str, now: datetime, *, force: bool = False) -> None:
    """The study is free again; only its reader may, or anyone with `force`. What was said of it is kept, and the holder is told."""
    with connect.writing(engine) as tx:
        row = _study(tx, study_uid)
        if row.reading_state != ReadingState.CLAIMED:
            raise NotAllowed("the study is not claimed")
        if row.reader != reader and not force:
            raise NotAllowed(f"{row.reader} has this study, not {reader}")
        set_values(tx, study_uid, reading_state=ReadingState.OPEN, **NO_READER)
        said = "released" if row.reader == reader else f"released the claim of {row.reader}"
        record(tx, Kind.RELEASED, said, now, study=study_uid, actor=reader, holder=row.reader)


def read(engine: sa.Engine, study_uid: str, reader: str, now: datetime, *, seen: int | None = None) -> None:
    """The study leaves the list. Raises NotAllowed while another reader has it, or when it was read before.

    `seen`: the study's entries that the reader had before them. Where an image came since, it is refused: nobody has looked at that one.
    """
    with connect.writing(engine) as tx:
        row = _study(tx, study_uid)
        if row.reading_state == ReadingState.READ:
            raise NotAllowed(f"the study was read before, by {row.reader}")
        if _held(row, now) and row.reader != reader:
            raise NotAllowed(f"{row.reader} has this study; take it over first")
        more = _images_after(tx, study_uid, seen) if seen is not None and row.entries > seen else 0
        if more:
            raise NotAllowed(f"{more} image{'s' if more > 1 else ''} came while the study was open: look at it again, then read it")
        began = row.reader_since if row.reader == reader else now
        set_values(tx, study_uid, reading_state=ReadingState.READ, reader=reader, reader_since=began, reader_until=None, read_at=now)
        record(tx, Kind.READ, "read", now, study=study_uid, actor=reader)


def _images_after(tx: sa.Connection, study_uid: str, seen: int) -> int:
    """How many objects that may be radiographs entered the study, or came again with other pixels, behind the first `seen` entries."""
    later = sa.select(instances).where(instances.c.study_uid == study_uid, instances.c.entry > seen)
    return sum(may_be_a_radiograph(instance_of(row)) for row in tx.execute(later))


def reopen(engine: sa.Engine, study_uid: str, reader: str, now: datetime) -> None:
    """A read study is on the list again, placed by the rules of today: a key slipped, or there is more to look at. Raises NotAllowed."""
    with connect.writing(engine) as tx:
        policy = site_policy.remembered(tx)
        rules = in_force(tx, policy) if policy is not None else None
        row = _study(tx, study_uid)
        if row.reading_state != ReadingState.READ:
            raise NotAllowed("the study is not read: it is on the list")
        set_values(tx, study_uid, reading_state=ReadingState.OPEN, read_at=None, expired_at=None, listed_since=now, **NO_READER)
        record(tx, Kind.REOPENED, f"opened again, read before by {row.reader}", now, study=study_uid, actor=reader)
        if rules is not None:
            _as_of_today(tx, row, rules, now)


def _as_of_today(tx: sa.Connection, before: sa.Row[Any], rules: PolicyInForce, now: datetime) -> None:
    """Scores, place and result of a study that was read by the calibration, settings and stage that hold now."""
    replace_study(tx, before.study_uid, rules, now)
    after = _study(tx, before.study_uid)
    if after.ai_state == AIState.SCORED and (after.band, after.deciding_instance) != (before.band, before.deciding_instance):
        bump_revision(tx, before.study_uid, AT_ONCE, now)


def pin(engine: sa.Engine, study_uid: str, actor: str, policy: SitePolicy, now: datetime, *, remove: bool = False) -> None:
    """A person puts the study into class STAT, or takes that back. An order's own STAT cannot be taken back."""
    with connect.writing(engine) as tx:
        policy = in_force(tx, policy).policy
        row = _study(tx, study_uid)
        if remove and row.pinned_by is None:
            raise NotAllowed("the study is not pinned" + ("; its order is STAT" if row.stat else ""))
        if remove:
            set_values(tx, study_uid, pinned_by=None, stat=_ordered_stat(tx, study_uid))
        else:
            set_values(tx, study_uid, pinned_by=actor, stat=True, expired_at=None, listed_since=now)
        record(tx, Kind.UNPINNED if remove else Kind.PINNED, "unpinned" if remove else "pinned", now, study=study_uid, actor=actor)
        put_in_place(tx, study_uid, policy.ranking, now)


def _ordered_stat(tx: sa.Connection, study_uid: str) -> bool:
    """True when an instance of the study carries an order priority of STAT or HIGH, or did as it came again."""
    sent = tx.scalars(sa.select(instances.c.attributes).where(instances.c.study_uid == study_uid)).all()
    settled = differing_copies.c.state.in_((CopyState.SAME, CopyState.TAKEN))
    mine = sa.select(differing_copies.c.particulars).where(differing_copies.c.study_uid == study_uid, settled)
    return any(str(a.get("priority", "")).upper() in STAT_PRIORITIES for a in (*sent, *tx.scalars(mine)))


def held_in_order(tx: sa.Connection, wanted: sa.ColumnElement[bool]) -> Sequence[str]:
    """The UIDs of these studies, their rows held in one order: two jobs that hold many never wait for each other in a ring."""
    return tx.scalars(sa.select(studies.c.study_uid).where(wanted).order_by(studies.c.study_uid).with_for_update()).all()


ONE_LOOK = timedelta(minutes=1)
"""So long a page that is loaded again by its own steps, and the films that it fetches, are one look at the study."""


def opened(engine: sa.Engine, study_uid: str, actor: str, now: datetime, one_look: timedelta = ONE_LOOK) -> None:
    """A person looked at the study: what a reader had seen cannot be added truthfully later. Raises NotFound."""
    before = sa.select(events.c.id).where(
        events.c.study_uid == study_uid, events.c.kind == Kind.OPENED, events.c.actor == actor, events.c.at > now - one_look
    )
    with connect.reading(engine) as tx:
        if tx.execute(before.limit(1)).first() is not None:
            return
    with connect.writing(engine) as tx:
        _study(tx, study_uid)
        record(tx, Kind.OPENED, "opened", now, study=study_uid, actor=actor)
