"""An override: a person's decision on the site's rules, above the configuration. What it changes, and whether what comes of it is safe.

An override holds only the values that it changes. It is judged by the very rules of the configuration, each time it is put over one: a
settings override that was safe over yesterday's configuration may not be over today's.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError

from prioritizer.config.read import unsafe_ranking
from prioritizer.config.sections import Ranking, Site
from prioritizer.config.settings import Settings
from prioritizer.errors import SettingsOverrideUnfit
from prioritizer.ranking.deadlines import RankingPolicy, Stage

WINDOWS = MappingProxyType({"high_minutes": "high", "neutral_minutes": "neutral", "low_minutes": "low"})
"""The windows by their key in the configuration, and how the policy calls them."""
KEYS = ("stage", *WINDOWS, "max_high_share")
MINUTE = timedelta(minutes=1)
Changes = Mapping[str, str | float]
MAX_REASON = 500


def text_of(changes: Changes) -> str:
    """The canonical JSON of a settings override: what is stored, and what its digest is taken of."""
    return json.dumps(dict(changes), sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def digest_of(text: str) -> str:
    """Hex SHA-256 of a stored document."""
    return hashlib.sha256(text.encode()).hexdigest()


def read(text: str, sha256: str) -> dict[str, str | float]:
    """The values that a stored settings override changes. Raises SettingsOverrideUnfit where it is not what was stored."""
    if digest_of(text) != sha256:
        raise SettingsOverrideUnfit("it is not what was stored (its digest differs)")
    try:
        found = json.loads(text)
    except ValueError as error:
        raise SettingsOverrideUnfit("it cannot be read") from error
    if not isinstance(found, dict) or not found or found.keys() - set(KEYS):
        raise SettingsOverrideUnfit("it changes what no settings override may change: made by a newer prioritizer?")
    return found


def values_of(policy: RankingPolicy) -> dict[str, str | float]:
    """What a settings override may change, as a policy has it."""
    windows = {key: getattr(policy, name) / MINUTE for key, name in WINDOWS.items()}
    return {"stage": str(policy.stage), **windows, "max_high_share": policy.max_high_share}


def configured(settings: Settings) -> dict[str, str | float]:
    """What a settings override may change, as the configuration has it."""
    return {"stage": str(settings.site.stage), **{key: getattr(settings.ranking, key) for key in KEYS[1:]}}


def changed(policy: RankingPolicy, wanted: Mapping[str, Any]) -> dict[str, str | float]:
    """Of the wanted values those that differ from the configured ones of `policy`, as numbers. Raises SettingsOverrideUnfit."""
    if unknown := sorted(wanted.keys() - set(KEYS)):
        raise SettingsOverrideUnfit(f"{', '.join(unknown)}: a settings override changes {', '.join(KEYS)}, nothing else")
    before = values_of(policy)
    stage, ranking = _checked(before, wanted)
    after = {"stage": str(stage), **{key: getattr(ranking, key) for key in KEYS[1:]}}
    return {key: after[key] for key in KEYS if key in wanted and after[key] != before[key]}


def over(policy: RankingPolicy, changes: Changes) -> RankingPolicy:
    """The policy with a settings override over it. Raises SettingsOverrideUnfit where the configuration would refuse what comes of it."""
    stage, ranking = _checked(values_of(policy), changes)
    windows: dict[str, Any] = {name: timedelta(minutes=getattr(ranking, key)) for key, name in WINDOWS.items() if key in changes}
    return replace(policy, stage=stage, max_high_share=ranking.max_high_share, **windows)


def applied(settings: Settings, changes: Changes) -> Settings:
    """The settings with an override over them. Raises SettingsOverrideUnfit where the configuration would refuse what comes of it."""
    stage, ranking = _checked(configured(settings), changes)
    kept = {key: getattr(ranking, key) for key in KEYS[1:] if key in changes}
    return settings.model_copy(
        update={"site": settings.site.model_copy(update={"stage": stage}), "ranking": settings.ranking.model_copy(update=kept)}
    )


def _checked(before: Changes, changes: Mapping[str, Any]) -> tuple[Stage, Ranking]:
    """Stage and windows that come of it, held against every rule of the configuration."""
    values: dict[str, Any] = {**before, **changes}
    try:
        stage = Site(stage=values.pop("stage")).stage
        ranking = Ranking(**values)
    except ValidationError as error:
        said = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
        raise SettingsOverrideUnfit(said) from error
    if faults := unsafe_ranking(ranking):
        raise SettingsOverrideUnfit("; ".join(said for _, said in faults))
    return stage, ranking


def in_words(changes: Changes) -> str:
    """A settings override in words."""
    return ", ".join(f"{NAMES[key]} {value_in_words(key, changes[key])}" for key in KEYS if key in changes)


def value_in_words(key: str, value: str | float) -> str:
    """One value as people read it."""
    if key == "stage":
        return str(value)
    return f"{float(value):.0%}" if key == "max_high_share" else f"{float(value):g} min"


NAMES = MappingProxyType(
    {
        "stage": "stage",
        "high_minutes": "deadline of a raised study",
        "neutral_minutes": "deadline of every other study",
        "low_minutes": "deadline of a demoted study",
        "max_high_share": "most that may be raised",
    }
)
