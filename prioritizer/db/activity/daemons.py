"""Who serves this ledger: every daemon writes its row while it runs, by the database's clock.

Two daemons with different bundles would take back each other's scores, and neither finds the files of the other's spool: one serves, the
other receives and waits.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa

from prioritizer.db.in_force.settings import hold_settings
from prioritizer.db.schema import connect
from prioritizer.db.schema.columns import MICROSECOND, database_now
from prioritizer.db.schema.site_tables import daemons

SILENT = timedelta(seconds=60)
"""A daemon that was not heard for so long does not run any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingDaemon:
    """A daemon as the ledger knows it."""

    worker: str
    bundle_digest: str
    spool: str
    seen_at: datetime
    silent: bool
    """Not heard for `SILENT`."""


def beat(engine: sa.Engine, worker: str, bundle_digest: str, spool: str) -> ServingDaemon | None:
    """This daemon serves the ledger, unless another one does: then that one is returned and nothing is written.

    One at a time: of two that start in the same moment the second sees the first.
    """
    values = {"bundle_digest": bundle_digest, "spool": spool, "seen_at": database_now()}
    with connect.writing(engine) as tx:
        hold_settings(tx)
        other = next((one for one in _serving(tx) if one.worker != worker and not one.silent), None)
        if other is None:
            row = connect.insert(tx, daemons).values(worker=worker, started_at=database_now(), **values)
            tx.execute(row.on_conflict_do_update(index_elements=["worker"], set_=values))
    return other


def leave(engine: sa.Engine, worker: str) -> None:
    """This daemon, or one that is known to be gone, runs no longer."""
    with connect.writing(engine) as tx:
        tx.execute(daemons.delete().where(daemons.c.worker == worker))


def serving(engine: sa.Engine) -> list[ServingDaemon]:
    """Every daemon that did not leave, the one heard last first."""
    with connect.reading(engine) as tx:
        return _serving(tx)


def _serving(tx: sa.Connection) -> list[ServingDaemon]:
    # Heard in the future: the clock was ahead then, and whoever runs now is heard by the clock of now.
    since = sa.type_coerce(database_now(), sa.BigInteger) - sa.type_coerce(daemons.c.seen_at, sa.BigInteger)
    silent = sa.or_(since > SILENT // MICROSECOND, since < -SILENT // MICROSECOND)
    columns = (daemons.c.worker, daemons.c.bundle_digest, daemons.c.spool, daemons.c.seen_at, silent.label("silent"))
    rows = tx.execute(sa.select(*columns).order_by(daemons.c.seen_at.desc())).all()
    return [ServingDaemon(**{**row._mapping, "silent": bool(row.silent)}) for row in rows]
