"""One claim statement for every kind of work: compare-and-set with a lease, the same on SQLite and Postgres.

SQLite serialises writers (BEGIN IMMEDIATE); Postgres skips rows that another worker is taking (FOR UPDATE SKIP LOCKED), without
which two workers take the same row.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from prioritizer.db.tables import MICROSECOND, database_now


def free(table: sa.Table) -> sa.ColumnElement[bool]:
    """Rows that are due and that nobody holds now."""
    now = database_now()
    return sa.and_(
        sa.or_(table.c.not_before.is_(None), table.c.not_before <= now),
        sa.or_(table.c.claimed_until.is_(None), table.c.claimed_until < now),
    )


def claim_one(
    tx: sa.Connection,
    table: sa.Table,
    wanted: sa.ColumnElement[bool],
    order: list[Any],
    worker: str,
    lease: timedelta,
) -> sa.Row[Any] | None:
    """Take the first free row that is wanted, for `lease`; None when there is none."""
    key = next(iter(table.primary_key.columns))
    chosen = sa.select(key).where(wanted, free(table)).order_by(*order).limit(1).with_for_update(skip_locked=True)
    # type_coerce: the lease is added to the raw microseconds of the database's clock.
    until = sa.type_coerce(sa.type_coerce(database_now(), sa.BigInteger) + lease // MICROSECOND, sa.BigInteger)
    statement = (
        table.update()
        .where(key == chosen.scalar_subquery(), free(table))
        .values(claimed_by=worker, claimed_until=sa.type_coerce(until, table.c.claimed_until.type), attempts=table.c.attempts + 1)
        .returning(table)
    )
    return tx.execute(statement).one_or_none()


def owned(table: sa.Table, row_key: Any, worker: str) -> sa.ColumnElement[bool]:
    """The row, only while `worker` still owns it: a worker whose lease ran out and was taken over finishes nothing."""
    key = next(iter(table.primary_key.columns))
    return sa.and_(key == row_key, table.c.claimed_by == worker)
