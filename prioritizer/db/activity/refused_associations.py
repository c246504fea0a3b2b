"""What the listener refused, entered in the ledger: associations, objects, and who was heard."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from prioritizer.db.schema import connect
from prioritizer.db.schema.tables import ECHO, notices


def record_notice(engine: sa.Engine, name: str, notice: Mapping[str, Any], at: datetime, now: datetime) -> None:
    """Enter one notice of the listener, once however often it is handed in. Of the C-ECHOs of a peer only the newest is kept."""
    columns = ("kind", "address", "calling_ae", "called_ae", "reason")
    # Postgres takes no NUL in a text, and a hostile peer's AE title may hold one.
    texts = {key: str(notice.get(key) or "").replace("\0", "\N{REPLACEMENT CHARACTER}")[:500] for key in columns}
    echo = texts["kind"] == ECHO
    if echo:
        name = f"{ECHO} {texts['calling_ae']} {texts['address']}"[:80]
    with connect.writing(engine) as tx:
        if tx.scalar(sa.select(sa.literal(1)).where(notices.c.name == name)):
            if echo:
                tx.execute(notices.update().where(notices.c.name == name, notices.c.at < at).values(at=at))
            return
        detail = {key: value for key, value in notice.items() if key not in columns}
        tx.execute(notices.insert().values(name=name, at=at, detail=detail, **texts))
