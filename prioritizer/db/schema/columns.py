"""What the tables are made of: moments, checks, partial indexes, and the MetaData they share."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy import CheckConstraint, Index, MetaData
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

UNREAD = "listed AND reading_state <> 'READ'"
READ = "listed AND reading_state = 'READ'"
"""Conditions of partial indexes, as text: a database uses such an index only for a query that says the same without parameters."""
LEFT_OUT = "state = 'INELIGIBLE' AND reason = 'out_of_distribution'"
SCORED_BEYOND = "state = 'SCORED' AND out_of_distribution > 1"
"""Images beyond the limit of the training data, left unscored for it or scored; also conditions of partial indexes."""
NO_READER: dict[str, None] = {"reader": None, "reader_since": None, "reader_until": None}
"""The columns of a study that nobody has claimed or read."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


class Instant(sa.types.TypeDecorator[datetime]):
    """A moment as microseconds since 1970 UTC: sorts and compares alike on every database."""

    impl = sa.BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> int | None:
        """Aware moment to microseconds."""
        return None if value is None else (value - EPOCH) // MICROSECOND

    def process_result_value(self, value: int | None, dialect: sa.Dialect) -> datetime | None:
        """Microseconds to an aware moment in UTC."""
        return None if value is None else EPOCH + value * MICROSECOND


class database_now(FunctionElement[datetime]):  # noqa: N801 - reads as the SQL function it is
    """The database's own clock: leases of several hosts are compared on one clock."""

    type = Instant()
    inherit_cache = True


@compiles(database_now, "sqlite")
def _sqlite_now(element: database_now, compiler: Any, **kw: Any) -> str:
    return "CAST((julianday('now') - 2440587.5) * 86400000000.0 AS INTEGER)"


@compiles(database_now, "postgresql")
def _postgres_now(element: database_now, compiler: Any, **kw: Any) -> str:
    return "CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS bigint)"


def one_of(column: str, values: type[StrEnum]) -> CheckConstraint:
    """A CHECK that `column` holds a member of `values`."""
    listed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({listed})", name=f"{column}_known")


def partial_index(name: str, where: str, *columns: Any) -> Index:
    """An index over the rows where a condition holds."""
    return Index(name, *columns, sqlite_where=sa.text(where), postgresql_where=sa.text(where))


metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)
