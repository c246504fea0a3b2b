"""Alembic from inside the package: the revisions travel in the wheel."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory


def folder() -> Path:
    """The folder of the revisions: inside an installed package, or the checkout's `migrations/`."""
    packed = Path(str(resources.files("prioritizer"))) / "_data" / "migrations"
    return packed if packed.is_dir() else Path(__file__).resolve().parents[2] / "migrations"


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
