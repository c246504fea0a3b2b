"""The last configuration that worked, kept beside the data, so that a broken file never stops intake.

With faults in the configuration `serve` comes up on the last good one with AI off: the listener takes and spools, the list is
STAT and order of arrival, and every page names the faults.
"""

from __future__ import annotations

import json
import os
import tomllib
from pathlib import Path

from pydantic import ValidationError

from prioritizer.config.settings import Settings
from prioritizer.errors import ConfigError

NAME = "last-good-configuration.json"


def remember(settings: Settings) -> None:
    """Keep these settings; they were taken up without a fault."""
    settings.store.data.mkdir(parents=True, exist_ok=True)
    partial = settings.store.data / f"{NAME}.partial"
    partial.write_text(json.dumps(settings.model_dump(mode="json")), encoding="utf-8")
    partial.replace(settings.store.data / NAME)


def last_good(config_file: Path | None, error: ConfigError) -> Settings:
    """The settings that worked last. Raises the original error when there are none."""
    for folder in _data_folders(config_file):
        kept = folder / NAME
        if kept.is_file():
            try:
                return Settings(**json.loads(kept.read_text(encoding="utf-8")))
            except (ValueError, ValidationError):
                continue
    raise error


def _data_folders(config_file: Path | None) -> list[Path]:
    """Where the data may lie: as the environment says, as the faulty file says, or the default beside it."""
    base = config_file.resolve().parent if config_file is not None else Path.cwd()
    found = [Path(os.environ["PRIORITIZER_STORE__DATA"])] if "PRIORITIZER_STORE__DATA" in os.environ else []
    if config_file is not None and config_file.is_file():
        try:
            store = tomllib.loads(config_file.read_text(encoding="utf-8")).get("store", {})
            found.append(base / str(store["data"]))
        except (ValueError, KeyError, TypeError, AttributeError):
            pass
    return [*found, base / "var"]
