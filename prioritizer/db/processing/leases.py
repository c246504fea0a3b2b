"""One claim statement for every kind of work: compare-and-set with a lease, the same on SQLite and Postgres.

SQLite serialises writers (BEGIN IMMEDIATE); Postgres skips rows that another worker is taking (FOR UPDATE SKIP LOCKED), without
which two workers take the same row.

Each claim has a token of its own behind the worker's name: a worker that took the same row twice finishes only what it holds now.
"""

from __future__ import annotations

import secrets
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from prioritizer.db.schema.columns import MICROSECOND, database_now
from prioritizer.db.schema.tables import deliveries, studies

MAX_WAIT = timedelta(hours=1)
"""No lease and no wait before the next try is longer. One that ends later was written while a clock was ahead, and holds nobody up."""
MAX_WAIT_AFTER_REFUSAL = timedelta(hours=10)
"""A destination that refuses is asked again after up to 8 hours and a fifth (`back_off`)."""


def free(table: sa.Table) -> sa.ColumnElement[bool]:
    """Rows that are due and that nobody holds now."""
    now, latest = database_now(), _from_now(MAX_WAIT)
    latest_try = _from_now(MAX_WAIT_AFTER_REFUSAL) if table is deliveries else latest
    due = sa.or_(table.c.not_before.is_(None), table.c.not_before <= now)
    if table is not studies:  # a site may wait longer than that until a study is quiet
        due = sa.or_(due, table.c.not_before > latest_try)
    return sa.and_(due, sa.or_(table.c.claimed_until.is_(None), table.c.claimed_until < now, table.c.claimed_until > latest))


def _from_now(span: timedelta) -> sa.ColumnElement[int]:
    """The database's clock and a span, in the raw microseconds of the column."""
    return sa.type_coerce(sa.type_coerce(database_now(), sa.BigInteger) + span // MICROSECOND, sa.BigInteger)


def claim_one(
    tx: sa.Connection,
    table: sa.Table,
    wanted: sa.ColumnElement[bool],
    order: list[Any],
    worker: str,
    lease: timedelta,
) -> sa.Row[Any] | None:
    """Take the first free row that is wanted, for `lease`; None when there is none. Its `claimed_by` is what finishes the claim."""
    key = next(iter(table.primary_key.columns))
    chosen = sa.select(key).where(wanted, free(table)).order_by(*order).limit(1).with_for_update(skip_locked=True)
    until = sa.type_coerce(_from_now(lease), table.c.claimed_until.type)
    statement = (
        table.update()
        .where(key == chosen.scalar_subquery(), free(table))
        .values(claimed_by=f"{worker}#{secrets.token_hex(4)}", claimed_until=until, attempts=table.c.attempts + 1)
        .returning(table)
    )
    return tx.execute(statement).one_or_none()


def owned(table: sa.Table, row_key: Any, claimed_by: str) -> sa.ColumnElement[bool]:
    """The row, only while this very claim still holds it: a worker whose lease ran out and was taken over finishes nothing."""
    key = next(iter(table.primary_key.columns))
    return sa.and_(key == row_key, table.c.claimed_by == claimed_by)
