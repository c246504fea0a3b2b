"""`prioritizer init`: a commented configuration from six answers, proved before it is written."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prioritizer.config.read import read_settings
from prioritizer.config.settings import is_loopback
from prioritizer.config.template import configuration_text
from prioritizer.errors import ConfigError

TITLE_AT_HOST = re.compile(r"^(?P<ae>[^@\s]{1,16})@(?P<host>[^:\s]+)(?::(?P<port>\d{1,5}))?$")


@dataclass(frozen=True, slots=True, kw_only=True)
class InitAnswers:
    """What `init` asks for."""

    site: str
    """Its name; empty where it is to be given later."""
    ae_title: str
    port: int
    peers: tuple[str, ...]
    pacs: str
    data: Path


def title_at_host(text: str, *, with_port: bool) -> tuple[str, str, int]:
    """AE title, host and port of AE@host:port. Raises ConfigError with an example."""
    match = TITLE_AT_HOST.match(text)
    example = "PACS@192.0.2.9:104" if with_port else "DX1@192.0.2.3"
    if match is None or (with_port and not match["port"]):
        raise ConfigError((f"{text!r} is not understood; write it like {example}",))
    return match["ae"], match["host"], int(match["port"] or 0)


def data_beside(target: Path) -> Path:
    """Where the data belongs: the service's state folder for a configuration in /etc, else a folder beside the file."""
    return Path("/var/lib/prioritizer") if target.resolve().is_relative_to("/etc") else Path("var")


def write_configuration(target: Path, answers: InitAnswers) -> None:
    """Write the file; nothing is overwritten. The service's user must read it, so it holds no secret. Raises ConfigError."""
    peers = [dict(zip(("ae_title", "host"), title_at_host(peer, with_port=False)[:2], strict=True)) for peer in answers.peers]
    beyond_loopback = any(not is_loopback(peer["host"]) for peer in peers)
    chosen: dict[str, Any] = {
        "listener": {"ae_title": answers.ae_title, "host": "0.0.0.0" if beyond_loopback else "127.0.0.1", "port": answers.port},
        "peers": peers,
        "store": {"data": answers.data},
    }
    if answers.site:
        chosen["site"] = {"name": answers.site}
    if answers.pacs:
        ae_title, host, port = title_at_host(answers.pacs, with_port=True)
        chosen["destinations"] = [{"name": "pacs", "ae_title": ae_title, "host": host, "port": port}]
    try:
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    except FileExistsError as error:
        raise ConfigError((f"{target} exists already; it was not touched. Choose another file name",)) from error
    except OSError as error:
        raise ConfigError((f"{target} cannot be written: {error.strerror}",)) from error
    os.fchmod(descriptor, 0o644)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(configuration_text(chosen))
    try:
        read_settings(target)
    except ConfigError:
        target.unlink()
        raise
