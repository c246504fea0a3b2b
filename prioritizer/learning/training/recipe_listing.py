"""Recipes in words: what each is for, and every key with its value, default and meaning."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic_core import PydanticUndefined

from prioritizer.learning.training.recipes import RecipeTable, shipped_folder


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One key of a recipe."""

    name: str
    """As `train --set` takes it."""
    value: Any
    default: Any
    """None where there is none."""
    meaning: str


def purpose_of(name: str) -> str:
    """The comment at the head of a shipped recipe's file, or of a file; empty where there is none."""
    path = shipped_folder() / f"{name}.toml"
    lines = (path if path.is_file() else Path(name)).read_text(encoding="utf-8").splitlines()
    head = []
    for line in lines:
        if not line.startswith("#"):
            break
        head.append(line.lstrip("# ").rstrip())
    return " ".join(head)


def keys_of(table: RecipeTable, above: str = "") -> Iterator[Key]:
    """Every key of a recipe, tables and phases opened."""
    for name, field in type(table).model_fields.items():
        value, full = getattr(table, name), f"{above}{name}"
        if isinstance(value, RecipeTable):
            yield from keys_of(value, f"{full}.")
        elif isinstance(value, tuple) and value and all(isinstance(one, RecipeTable) for one in value):
            for number, one in enumerate(value, start=1):
                yield from keys_of(one, f"{full}.{number}.")
        else:
            default = None if field.default is PydanticUndefined else field.default
            yield Key(name=full, value=value, default=default, meaning=" ".join((field.description or "").split()))


def in_words(key: Key) -> str:
    """`key = value (default ...): meaning`."""
    default = "no default" if key.default is None else "the default" if key.value == key.default else f"default {key.default}"
    return f"{key.name} = {key.value}  ({default})" + (f"\n    {key.meaning}" if key.meaning else "")
