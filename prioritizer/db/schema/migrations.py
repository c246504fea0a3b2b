"""Alembic from inside the package: the revisions travel in the wheel."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError

from prioritizer.errors import Transient


def folder() -> Path:
    """The folder of the revisions: inside an installed package, or the checkout's `migrations/`."""
    packed = Path(str(resources.files("prioritizer"))) / "_data" / "migrations"
    return packed if packed.is_dir() else Path(__file__).resolve().parents[3] / "migrations"


def _config(connection: sa.Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(folder()))
    config.attributes["connection"] = connection
    return config


def head() -> str | None:
    """The newest revision that this version of prioritizer knows."""
    return ScriptDirectory.from_config(_config()).get_current_head()


def current(engine: sa.Engine) -> str | None:
    """The revision of the database; None for an empty one."""
    with engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def upgrade(engine: sa.Engine) -> None:
    """Bring the database to `head`; does nothing when it is there."""
    with engine.begin() as connection:
        command.upgrade(_config(connection), "head")


def prepare(engine: sa.Engine) -> None:
    """See that the ledger is at this version's revision: the embedded SQLite is migrated here, a Postgres only by `migrate`.

    Raises Transient with what stands in the way: intake goes on meanwhile, and it is tried again.
    """
    try:
        if engine.dialect.name == "sqlite":
            upgrade(engine)
        elif current(engine) != head():
            raise Transient("the database is not at this version's revision; run `prioritizer migrate`")
    except CommandError as error:
        raise Transient("the database is of a newer prioritizer than this one: run that one, or restore a backup") from error
    except sa.exc.OperationalError as error:
        raise Transient("the database does not answer; intake goes on, the list catches up") from error
    except sa.exc.SQLAlchemyError as error:
        kind = type(error).__name__
        said = f"the database cannot be used ({kind}): restore it, or move it away, so that it is rebuilt from the spool"
        raise Transient(said) from error
