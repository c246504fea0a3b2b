"""One frozen Settings of all sections; `read` makes it of a TOML file.

Environment variables override single values: PRIORITIZER_STORE__URL, PRIORITIZER_WEB__PORT (two underscores between levels).
"""

from __future__ import annotations

import ipaddress
from pathlib import Path
from zoneinfo import ZoneInfo

from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from prioritizer.config.sections import (
    AlarmRule,
    CalibrationSection,
    DestinationSection,
    Listener,
    Log,
    Model,
    Monitoring,
    Peer,
    PublishSection,
    Ranking,
    Reading,
    ScopeSection,
    Site,
    Store,
)
from prioritizer.config.web_sections import Viewer, Web


class Settings(BaseSettings):
    """The whole configuration."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", env_prefix="PRIORITIZER_", env_nested_delimiter="__")

    site: Site = Site()
    listener: Listener = Listener()
    peers: tuple[Peer, ...] = ()
    destinations: tuple[DestinationSection, ...] = ()
    store: Store = Store()
    model: Model = Model()
    scope: ScopeSection = ScopeSection()
    ranking: Ranking = Ranking()
    calibration: CalibrationSection = CalibrationSection()
    publish: PublishSection = PublishSection()
    reading: Reading = Reading()
    viewers: tuple[Viewer, ...] = ()
    monitoring: Monitoring = Monitoring()
    alarms: tuple[AlarmRule, ...] = ()
    web: Web = Web()
    log: Log = Log()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Environment over the values given (which come from the TOML file)."""
        return env_settings, init_settings

    @property
    def database_url(self) -> str:
        """The store's SQLAlchemy URL."""
        return self.store.url or f"sqlite:///{self.store.data / 'ledger.sqlite3'}"

    @property
    def zone(self) -> ZoneInfo | None:
        """The time zone of result objects; None: the machine's."""
        return ZoneInfo(self.site.time_zone) if self.site.time_zone else None

    @property
    def page_zone(self) -> ZoneInfo | None:
        """The time zone of pages; None: the machine's."""
        return ZoneInfo(self.web.time_zone) if self.web.time_zone else self.zone

    @property
    def spool_folder(self) -> Path:
        """Where received objects lie."""
        return self.store.data / "spool"

    def peer(self, ae_title: str) -> Peer | None:
        """The first peer with this AE title, else the first that stands for any."""
        named = [peer for peer in self.peers if peer.ae_title == ae_title]
        return next(iter(named or [peer for peer in self.peers if peer.ae_title == "*"]), None)


def is_loopback(host: str) -> bool:
    """True for localhost and the loopback ranges."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def reaches(host: str, bound: str) -> bool:
    """True when a connection to `host` surely arrives at a socket of this machine bound to `bound`."""
    return host == bound or (is_loopback(host) and (is_loopback(bound) or bound in ("0.0.0.0", "::")))
