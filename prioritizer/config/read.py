"""Read the configuration file, and report every fault of it at once with file and line."""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from prioritizer.config.sections import (
    AE_TITLE,
    Ranking,
)
from prioritizer.config.settings import Settings, is_loopback, reaches
from prioritizer.config.web_sections import FILES_OF_WEB, Web
from prioritizer.errors import ConfigError


def read_settings(path: Path | None) -> Settings:
    """The settings in `path`, or the defaults; raises ConfigError with every fault found."""
    if path is None:
        return _validated({}, None, "")
    if not path.is_file():
        raise ConfigError((f"{path}: no such file; `prioritizer init` writes one",))
    try:
        text = path.read_text(encoding="utf-8")
        values = tomllib.loads(text)
    except OSError as error:
        raise ConfigError((f"{path}: cannot be read: {error.strerror}",)) from error
    except ValueError as error:
        raise ConfigError((f"{path}: not valid TOML: {error}",)) from error
    return _validated(values, path, text)


def _validated(values: dict[str, Any], path: Path | None, text: str) -> Settings:
    """Settings from parsed TOML, with relative folders resolved against the file."""
    try:
        settings = Settings(**values)
    except ValidationError as error:
        raise ConfigError(tuple(_fault(path, text, dict(e)) for e in error.errors())) from error
    base = path.resolve().parent if path is not None else Path.cwd()
    store = settings.store.model_copy(update={"data": base / settings.store.data})
    bundle = base / settings.model.bundle if settings.model.bundle is not None else None
    files = {key: base / given for key in FILES_OF_WEB if (given := getattr(settings.web, key)) is not None}
    settings = settings.model_copy(
        update={
            "store": store,
            "model": settings.model.model_copy(update={"bundle": bundle}),
            "web": settings.web.model_copy(update=files),
        }
    )
    faults = unsafe(settings)
    if faults:
        raise ConfigError(tuple(f"{path or 'defaults'}{line_suffix(text, where)}: {said}" for where, said in faults))
    return settings


def unsafe(settings: Settings) -> list[tuple[tuple[str | int, ...], str]]:
    """What is valid by type and must not be started: (key path, sentence)."""
    faults: list[tuple[tuple[str | int, ...], str]] = []
    if not is_loopback(settings.listener.host) and not settings.peers:
        faults.append((("listener", "host"), "listener.host is not loopback and no [[peers]] is listed; name who may send"))
    faults += _unsafe_web(settings.web)
    faults += unsafe_ranking(settings.ranking)
    names = [destination.name for destination in settings.destinations]
    for index, destination in enumerate(settings.destinations):
        where = ("destinations", index, "name")
        if names.index(destination.name) != index:
            faults.append((where, f"destinations: the name {destination.name!r} is used twice"))
        if reaches(destination.host, settings.listener.host) and destination.port == settings.listener.port:
            faults.append((where, f"destination {destination.name!r} is our own listener: results would come back to us"))
    alarms = [rule.name for rule in settings.alarms]
    faults += [
        (("alarms", place, "name"), f"alarms: {name!r} is given twice") for place, name in enumerate(alarms) if alarms.index(name) != place
    ]
    if settings.publish.ceiling_seconds < settings.publish.quiet_seconds:
        faults.append((("publish", "ceiling_seconds"), "publish.ceiling_seconds must not be below quiet_seconds"))
    return faults


def unsafe_ranking(ranking: Ranking) -> list[tuple[tuple[str | int, ...], str]]:
    """Windows that do not go together. They are compared as the spans that the list uses, so that every process judges alike."""
    high, neutral, low = (timedelta(minutes=given) for given in (ranking.high_minutes, ranking.neutral_minutes, ranking.low_minutes))
    faults: list[tuple[tuple[str | int, ...], str]] = []
    if high >= neutral:
        faults.append((("ranking", "high_minutes"), "ranking.high_minutes must be below neutral_minutes, or nothing is raised"))
    if low < neutral:
        faults.append((("ranking", "low_minutes"), "ranking.low_minutes must not be below neutral_minutes"))
    return faults


def _unsafe_web(web: Web) -> list[tuple[tuple[str | int, ...], str]]:
    faults: list[tuple[tuple[str | int, ...], str]] = []
    if not is_loopback(web.host) and not web.secure:
        said = "web.host is not loopback: passwords would cross the network in clear; set tls_certificate and tls_key, or behind_proxy"
        faults.append((("web", "host"), said))
    if (web.tls_certificate is None) != (web.tls_key is None):
        faults.append((("web", "tls_certificate"), "web.tls_certificate and web.tls_key go together"))
    for key in FILES_OF_WEB:
        path = getattr(web, key)
        if path is not None and not path.is_file():
            faults.append((("web", key), f"web.{key}: {path} is not there"))
    if web.auth == "oidc":
        missing = [key for key in ("oidc_issuer", "oidc_client_id") if not getattr(web, key)]
        faults += [(("web", "auth"), f"web.auth is oidc and {' and '.join(missing)} is not set")] if missing else []
        if web.behind_proxy and not web.address:
            faults.append((("web", "auth"), "web.auth is oidc behind a proxy: set web.address, to which the provider sends people back"))
        issuer = urlsplit(web.oidc_issuer)
        if issuer.scheme == "http" and not is_loopback(issuer.hostname or ""):
            faults.append((("web", "oidc_issuer"), "web.oidc_issuer must be https: whoever stands in between could sign in as anybody"))
    if web.auth == "proxy" and not web.behind_proxy:
        faults.append((("web", "auth"), "web.auth is proxy and behind_proxy is not set; say that a proxy stands before the page"))
    return faults


def is_ae_title(text: str) -> bool:
    """True where the text may stand as an AE title in a configuration."""
    return len(text) <= 16 and re.fullmatch(AE_TITLE, text) is not None


def _fault(path: Path | None, text: str, error: dict[str, Any]) -> str:
    """One validation error as `file:line: key: what is wrong; the mend`."""
    where: tuple[str | int, ...] = error["loc"]
    key = ".".join(str(part) for part in where)
    variable = "PRIORITIZER_" + "__".join(str(part) for part in where).upper()
    source = variable if variable in os.environ else f"{path or 'environment'}{line_suffix(text, where)}"
    head = f"{source}: {key}"
    if error["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(where[-1]), _known_keys(where[:-1]), n=1)
        return f"{head}: unknown key" + (f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(_known_keys(where[:-1]))}")
    if error["type"] == "string_pattern_mismatch" and where[-1] in ("ae_title", "calling_ae_title"):
        return f"{head}: an AE title has 1 to 16 printable ASCII characters, no backslash and no blank at either end"
    return f"{head}: {error['msg']}"


def _known_keys(where: tuple[str | int, ...]) -> list[str]:
    """The keys that may stand in the table at `where`."""
    fields: dict[str, FieldInfo] = dict(Settings.model_fields)
    for part in where:
        if isinstance(part, int) or part not in fields:
            continue
        annotation = fields[part].annotation
        inner = getattr(annotation, "__args__", (annotation,))[0]
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            fields = dict(inner.model_fields)
    return sorted(fields)


def line_suffix(text: str, where: tuple[str | int, ...]) -> str:
    """`:LINE` of the key at `where` in the TOML text, or of its table; empty when neither is written there."""
    tables = [part for part in where if isinstance(part, str)]
    wanted_index = next((part for part in where if isinstance(part, int)), 0)
    table, key = tables[0] if tables else "", tables[-1] if len(tables) > 1 else ""
    current, seen, table_line = "", -1, 0
    for number, line in enumerate(text.splitlines(), start=1):
        header = re.match(r"\s*\[\[?\s*([\w.-]+)\s*\]?\]", line)
        if header:
            current = header.group(1)
            seen += current == table
            if current == table and (seen == wanted_index or "[[" not in line):
                table_line = number
        elif (current == table and table_line and key and re.match(rf"\s*{re.escape(key)}\s*=", line)) or (
            not current and re.match(rf"\s*{re.escape(table)}\s*=", line)
        ):
            return f":{number}"
    return f":{table_line}" if table_line else ""
