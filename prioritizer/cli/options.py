"""What the verbs share: the configuration they work on, the ledger of the site, who is asking."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prioritizer.errors import ConfigError, Transient

if TYPE_CHECKING:
    import sqlalchemy as sa

    from prioritizer.config.policy import SitePolicy
    from prioritizer.config.settings import Settings

ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        envvar="PRIORITIZER_CONFIG",
        help="TOML file. Default: ./prioritizer.toml, then /etc/prioritizer/prioritizer.toml.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="JSON on standard output, also for errors.")]
Reader = Annotated[str, typer.Option("--as", help="Who is reading.", show_default="the user signed in here")]
STARTING_S = 20.0
"""Seconds that a verb waits for a daemon which is bringing the ledger to this version."""
STANDARD_FILES = (Path("prioritizer.toml"), Path("/etc/prioritizer/prioritizer.toml"))


def settings_of(config: Path | None) -> tuple[Settings, Path | None]:
    """The settings and the file they came from."""
    from prioritizer.config.read import read_settings

    path = config or next((file for file in STANDARD_FILES if file.is_file()), None)
    return read_settings(path), path


def ledger_of(config: Path | None) -> tuple[sa.Engine, Settings]:
    """The ledger of the configured site, at this version's revision. Asking for it makes none where none is."""
    from sqlalchemy.exc import SQLAlchemyError

    from prioritizer.db.schema import connect, migrations

    settings, path = settings_of(config)
    if path is None:
        print("no configuration was found, defaults hold: name one with --config or PRIORITIZER_CONFIG", file=sys.stderr)
    deadline = time.monotonic() + STARTING_S
    while missing := connect.missing_file(settings.database_url):
        if not _daemon_starts(settings) or time.monotonic() >= deadline:
            raise ConfigError((f"there is no database at {missing}: the daemon makes it at its first start; is store.data right?",))
        time.sleep(0.2)
    engine = connect.open_ledger(settings.database_url)
    try:
        while (revision := migrations.current(engine)) != migrations.head() and _daemon_starts(settings) and time.monotonic() < deadline:
            time.sleep(0.2)
    except SQLAlchemyError as error:
        raise Transient(f"the database cannot be opened now ({type(error).__name__}); is it up, and is store.url right?") from error
    if revision != migrations.head():
        raise ConfigError((f"the database is at revision {revision}, this version wants {migrations.head()}; run `prioritizer migrate`",))
    return engine, settings


def _daemon_starts(settings: Settings) -> bool:
    """True while a daemon holds the spool and has the embedded ledger to itself: it brings it to this version at its start."""
    from prioritizer.dicom.spool.lock import LOCK_NAME, is_locked

    return not settings.store.url and is_locked(settings.spool_folder / LOCK_NAME)


def in_force_of(config: Path | None) -> tuple[sa.Engine, Settings]:
    """The ledger, and the settings in force: the configured ones with the active settings override over them."""
    from prioritizer.daemon.settings_in_force import in_force_for

    engine, settings = ledger_of(config)
    return engine, in_force_for(engine, settings)


def rules_of(settings: Settings) -> SitePolicy:
    """The configured ranking rules; without the bundle's thresholds where it cannot be trusted, for then nothing is raised here."""
    from prioritizer.config.policy import policy_of
    from prioritizer.errors import ModelError
    from prioritizer.inference.bundle import open_bundle

    try:
        return policy_of(settings, open_bundle(settings.model.bundle))
    except ModelError:
        return policy_of(settings, None)
