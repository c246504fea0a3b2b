"""Engines and transactions: SQLite in WAL with full durability, Postgres through psycopg 3."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DatabaseError, DBAPIError, OperationalError

from prioritizer.errors import ConfigError, Transient

BUSY_MS = 15_000
"""Milliseconds a SQLite writer waits for another before it gives up."""


OLD_REVISION = frozenset({"UndefinedTable", "UndefinedColumn"})
"""What Postgres says of a database that was not migrated; SQLite says it operationally."""


def open_ledger(url: str) -> sa.Engine:
    """An engine for `url`. SQLite: WAL, synchronous FULL, foreign keys, every write transaction takes the lock at its start."""
    parsed = sa.make_url(url)
    if parsed.get_backend_name() == "sqlite":
        if parsed.database:
            Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
        engine = sa.create_engine(parsed, connect_args={"timeout": BUSY_MS / 1000}, pool_size=8, max_overflow=16)
        event.listen(engine, "connect", _set_up_sqlite)
        event.listen(engine, "begin", _begin)
        return engine
    if parsed.get_backend_name() == "postgresql":
        return sa.create_engine(parsed.set(drivername="postgresql+psycopg"), pool_pre_ping=True, connect_args={"connect_timeout": 5})
    raise ConfigError((f"store.url: {parsed.get_backend_name()} is not supported; use postgresql:// or leave it empty for SQLite",))


def missing_file(url: str) -> Path | None:
    """Where the file of a SQLite ledger should lie and does not: opening it would make an empty one."""
    parsed = sa.make_url(url)
    file = Path(parsed.database) if parsed.get_backend_name() == "sqlite" and parsed.database else None
    return None if file is None or file.exists() else file


def _set_up_sqlite(connection: Any, record: Any) -> None:
    # The driver must not begin transactions on its own: BEGIN IMMEDIATE is ours, so that a writer never upgrades mid-way.
    connection.isolation_level = None
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", f"busy_timeout={BUSY_MS}"):
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: sa.Connection) -> None:
    readonly = connection.get_execution_options().get("prioritizer_readonly")
    connection.exec_driver_sql("BEGIN" if readonly else "BEGIN IMMEDIATE")


_LOOK: ContextVar[sa.Connection | None] = ContextVar("look", default=None)
"""The read transaction of the page that is being drawn here."""


@contextmanager
def writing(engine: sa.Engine) -> Iterator[sa.Connection]:
    """One write transaction, committed at the end. A database that cannot be reached is Transient."""
    look = _LOOK.get()
    if look is not None and look.engine is engine:
        raise RuntimeError("a page that looks does not write: it would not see what it wrote")
    with _as_transient(), engine.begin() as tx:
        yield tx


@contextmanager
def reading(engine: sa.Engine) -> Iterator[sa.Connection]:
    """One consistent read, that of `one_look` where a page is being drawn. A database that cannot be reached is Transient."""
    look = _LOOK.get()
    if look is not None and look.engine is engine:
        yield look
        return
    with _as_transient(), engine.connect().execution_options(prioritizer_readonly=True) as tx:
        yield tx


@contextmanager
def one_look(engine: sa.Engine) -> Iterator[None]:
    """Everything that is read inside is of one moment: a page's rows agree with its mark, so that no change falls between them."""
    options: dict[str, Any] = {"prioritizer_readonly": True}
    if engine.dialect.name == "postgresql":
        options |= {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
    with _as_transient(), engine.connect().execution_options(**options) as tx:
        token = _LOOK.set(tx)
        try:
            yield
        finally:
            _LOOK.reset(token)


def insert(tx: sa.Connection, table: sa.Table) -> postgresql.Insert | sqlite.Insert:
    """An INSERT that may say what is done where the row is there already; both databases write it alike."""
    return postgresql.insert(table) if tx.dialect.name == "postgresql" else sqlite.insert(table)


def answers(engine: sa.Engine) -> bool:
    """True when the database can be used now."""
    try:
        with reading(engine) as tx:
            tx.execute(sa.select(sa.literal(1)))
    except Transient:
        return False
    return True


@contextmanager
def _as_transient() -> Iterator[None]:
    try:
        yield
    except OperationalError as error:
        raise Transient(f"the database cannot be used now ({type(error.orig).__name__})") from error
    except sa.exc.TimeoutError as error:  # every connection of the pool waits
        raise Transient("no connection to the database is free") from error
    except DBAPIError as error:
        if error.connection_invalidated:
            raise Transient("the connection to the database was lost") from error
        if type(error.orig).__name__ in OLD_REVISION:
            raise Transient("the database is not at this version's revision; run `prioritizer migrate`") from error
        if type(error) is DatabaseError:  # SQLite says so of a file that is damaged or no database
            raise Transient("the database is damaged: restore it, or move it away, so that it is rebuilt from the spool") from error
        raise
