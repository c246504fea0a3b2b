"""The commented TOML that `init` writes and `config/prioritizer.toml` holds: every key with its default and reason."""

from __future__ import annotations

import enum
import json
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from prioritizer.config.sections import AlarmRule, DestinationSection, Peer
from prioritizer.config.settings import Settings
from prioritizer.config.web_sections import Viewer

HEAD = """\
# prioritizer: configuration.
# Every key is listed. A key behind "#" has the value shown; remove the "#" to change it. Unknown keys are errors.
# `prioritizer check --config THIS_FILE` proves it and starts nothing. `systemctl reload prioritizer` takes up [[peers]],
# [ranking], [scope], [publish] and site.stage; the rest needs a restart and is named when it does.
# What people decide with `prioritizer overrides` lies above site.stage, the windows and max_high_share.
"""
TABLES: Mapping[str, type[BaseModel]] = {"peers": Peer, "destinations": DestinationSection, "viewers": Viewer, "alarms": AlarmRule}


def configuration_text(chosen: Mapping[str, Any]) -> str:
    """The TOML text; `chosen` is section -> key -> value, or a list of tables for peers, destinations and viewers."""
    parts = [HEAD]
    for name, field in Settings.model_fields.items():
        if name in TABLES:
            parts += _tables(name, TABLES[name], chosen.get(name, ()))
        else:
            parts.append(_section(name, field, chosen.get(name, {})))
    return "\n".join(parts)


def _section(name: str, field: FieldInfo, chosen: Mapping[str, Any]) -> str:
    model: type[BaseModel] = field.annotation  # type: ignore[assignment]
    lines = [*_comment(model.__doc__ or ""), f"[{name}]"]
    for key, inner in model.model_fields.items():
        lines += _comment(inner.description or "")
        lines.append(_entry(key, chosen[key]) if key in chosen else f"# {_entry(key, inner.default)}")
    return "\n".join(lines) + "\n"


def _tables(name: str, model: type[BaseModel], chosen: Any) -> list[str]:
    lines = _comment(f"{model.__doc__} One [[{name}]] table each.")
    for key, inner in model.model_fields.items():
        text = inner.description or ""
        lines += _comment(f"{key}: {text}") if text else []
    written = ["\n".join([f"[[{name}]]", *(_entry(key, value) for key, value in table.items())]) + "\n" for table in chosen]
    example = [f"# [[{name}]]", *(f"# {line}" for line in EXAMPLES[name])] if not chosen else []
    return ["\n".join([*lines, *example]) + "\n", *written]


EXAMPLES = {
    "peers": ('ae_title = "DX1"', 'host = "192.0.2.3"'),
    "destinations": ('name = "pacs"', 'ae_title = "PACS"', 'host = "192.0.2.9"', "port = 104"),
    "alarms": ('name = "overdue"', "threshold = 0.1", 'owner = "Dr Ito"'),
    "viewers": ('name = "OHIF"', 'url = "https://pacs.example/viewer?StudyInstanceUIDs={study_uid}"'),
}


def _comment(text: str) -> list[str]:
    return [f"# {line}" for paragraph in text.strip().splitlines() for line in textwrap.wrap(paragraph.strip(), 110)]


def _entry(key: str, value: Any) -> str:
    return f"{key} = {_toml(value)}"


def _toml(value: Any) -> str:
    if value is None:
        return '""'
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (enum.Enum, Path)):
        value = str(value)
    if isinstance(value, (tuple, list)):
        return "[" + ", ".join(_toml(one) for one in value) + "]"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else f"{value}"
