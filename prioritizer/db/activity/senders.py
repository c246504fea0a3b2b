"""Who sends to us: when each was heard last, how much today, what was refused, and what came since a moment. Read only."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from prioritizer.config.read import is_ae_title
from prioritizer.db.activity.queues import MAX_COUNTED, Some, counted
from prioritizer.db.schema import connect
from prioritizer.db.schema.tables import ECHO, instances, notices, studies

BACK = timedelta(days=30)
"""Further back nobody looks: a sender that was silent for so long is told as such."""
REFUSALS = ("refused-association", "refused-object", "quarantined", "conflict")
"""Every kind of notice but a C-ECHO. Asked for by name, each is a range of the index."""
REFUSED = notices.c.kind.in_(REFUSALS)
ADMITTED_BY_A_PEER = ("calling-ae", "calling-ae-unusable", "peer", "address")
"""Codes of refused associations that a [[peers]] entry cures. Where the called AE title is wrong too, none does."""
WILDCARD_COMMENT = "# It gives no AE title that can be written here: any title is admitted from its address."


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """What one AE title sent."""

    calling_ae: str
    last: datetime | None
    """None: nothing in the last 30 days."""
    today: int
    """Studies since the day began."""
    echoed: datetime | None
    """Its last C-ECHO; None: none ever."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NoticeRow:
    """A refusal, quarantine or conflict that the listener told."""

    at: datetime
    kind: str
    address: str
    calling_ae: str
    called_ae: str
    reason: str
    detail: dict[str, Any]

    @property
    def admitting_toml(self) -> str:
        """The lines that admit a refused peer, ready to paste; empty where no peer entry would."""
        code = self.detail.get("code")
        if self.kind != "refused-association" or code not in ADMITTED_BY_A_PEER:
            return ""
        host = json.dumps(self.address)
        if code == "calling-ae-unusable" or not is_ae_title(self.calling_ae):
            return f'{WILDCARD_COMMENT}\n[[peers]]\nae_title = "*"\nhost = {host}'
        # What a stranger called itself is quoted as TOML quotes: it stays one value of one key.
        return f"[[peers]]\nae_title = {json.dumps(self.calling_ae)}\nhost = {host}"


NOTICE = [notices.c[name] for name in NoticeRow.__dataclass_fields__]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedImage:
    """One image that came."""

    received_at: datetime
    calling_ae: str
    address: str
    study_uid: str
    sop_instance_uid: str
    state: str
    reason_text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Came:
    """What came since a moment, the newest first."""

    images: list[ReceivedImage]
    echoes: list[NoticeRow]
    refusals: list[NoticeRow]


def heard(engine: sa.Engine, titles: set[str], day: datetime, now: datetime) -> list[Sent]:
    """The given AE titles and every other that sent something today."""
    recent = sa.select(studies.c.calling_ae, sa.func.count(), sa.func.max(studies.c.last_received_at)).where(
        studies.c.last_received_at >= day
    )
    echoes = sa.select(notices.c.calling_ae, sa.func.max(notices.c.at)).where(notices.c.kind == ECHO).group_by(notices.c.calling_ae)
    with connect.reading(engine) as tx:
        echoed: dict[str, datetime] = {row[0]: row[1] for row in tx.execute(echoes)}
        found = {}
        for title, count, last in tx.execute(recent.group_by(studies.c.calling_ae)):
            found[title] = Sent(calling_ae=title, last=last, today=count, echoed=echoed.get(title))
        for title in (titles | {title for title, at in echoed.items() if at >= day}) - found.keys():
            before = sa.select(studies.c.last_received_at).where(studies.c.calling_ae == title, studies.c.last_received_at >= now - BACK)
            last = tx.scalar(before.order_by(studies.c.last_received_at.desc()).limit(1))
            found[title] = Sent(calling_ae=title, last=last, today=0, echoed=echoed.get(title))
    return [found[title] for title in sorted(found)]


def refused_since(engine: sa.Engine, since: datetime) -> int:
    """Notices of the listener since then: associations, objects and conflicts refused."""
    with connect.reading(engine) as tx:
        return tx.scalar(sa.select(sa.func.count()).select_from(notices).where(REFUSED, notices.c.at >= since)) or 0


def newest_notices(engine: sa.Engine, limit: int) -> Some[NoticeRow]:
    """The newest refusals, quarantines and conflicts, and how many there are."""
    with connect.reading(engine) as tx:
        rows = _newest(tx, limit)
        if len(rows) < limit:
            return Some(rows=rows, total=len(rows))
        total = sum(counted(tx, sa.select(notices.c.id).where(notices.c.kind == kind)) for kind in REFUSALS)
        return Some(rows=rows, total=min(total, MAX_COUNTED + 1))


def last_refusals(engine: sa.Engine, titles: Collection[str], now: datetime) -> dict[str, NoticeRow]:
    """The newest refusal of each AE title in the last 30 days, however often others were refused since."""
    with connect.reading(engine) as tx:
        newest = {title: _notices(tx, (notices.c.calling_ae == title) & REFUSED & (notices.c.at >= now - BACK), 1) for title in titles}
    return {title: found[0] for title, found in newest.items() if found}


def came(engine: sa.Engine, title: str, since: datetime, limit: int = 10) -> Came:
    """What an AE title sent since a moment. Refusals of everybody: a device that is set up wrongly often calls itself something else."""
    columns = [instances.c[name] for name in ReceivedImage.__dataclass_fields__]
    arrived = (
        sa.select(*columns)
        .join(studies, studies.c.study_uid == instances.c.study_uid)
        .where(studies.c.last_received_at >= since, instances.c.received_at >= since, instances.c.calling_ae == title)
        .order_by(instances.c.received_at.desc(), instances.c.sop_instance_uid)
        .limit(limit)
    )
    with connect.reading(engine) as tx:
        return Came(
            images=[ReceivedImage(**row._mapping) for row in tx.execute(arrived)],
            echoes=_notices(tx, (notices.c.kind == ECHO) & (notices.c.calling_ae == title) & (notices.c.at >= since), limit),
            refusals=_notices(tx, REFUSED & (notices.c.at >= since), limit),
        )


def _newest(tx: sa.Connection, limit: int) -> list[NoticeRow]:
    """The newest of each kind are the first of the index; the newest of these are the newest of all."""
    found = [notice for kind in REFUSALS for notice in _notices(tx, notices.c.kind == kind, limit)]
    return sorted(found, key=lambda notice: notice.at, reverse=True)[:limit]


def _notices(tx: sa.Connection, which: sa.ColumnElement[bool], limit: int) -> list[NoticeRow]:
    query = sa.select(*NOTICE).where(which).order_by(notices.c.at.desc(), notices.c.id.desc()).limit(limit)
    return [NoticeRow(**row._mapping) for row in tx.execute(query)]
