"""What a person must state of a bundle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import tomlkit

from prioritizer.calibration.maps import AgeGroup, Calibration
from prioritizer.errors import ConfigError

TO_STATE = "STATE THIS"
"""Stands in the template of a statement where only a person can say something."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """What a person must say of a bundle; nothing here can be measured."""

    name: str
    title: str
    intended_use: str
    data_source: str
    data_licence: str
    min_age_years: float
    max_age_years: float
    training_ages: str
    limits: tuple[str, ...]
    findings: Mapping[str, str] = field(default_factory=dict)
    """What the label means where it is not pneumonia, by age group: `adults = "opacity suspicious of pneumonia"`."""

    seen: Mapping[str, str] = field(default_factory=dict)
    """Sets of the card that a choice of a person saw, by the beginning of their name, and which: recipes compared on them, for example."""

    def seen_by(self, name: str) -> dict[str, str]:
        """What the card says of a set that a choice saw."""
        return next(({"seen": why} for begin, why in self.seen.items() if name.startswith(begin)), {})

    def meant(self, calibration: Calibration) -> Calibration:
        """The calibration with what the probability of each of its maps is of. Raises ConfigError for a group that it has no map for."""
        unknown = sorted(self.findings.keys() - {str(group) for group in AgeGroup})
        if unknown:
            raise ConfigError((f"findings: {', '.join(unknown)} is no age group; say children or adults",))
        if not calibration.groups:
            words = set(self.findings.values())
            return replace(calibration, finding=words.pop()) if len(words) == 1 else calibration
        for group in calibration.groups:
            its = calibration.of_group(group)
            calibration = calibration.with_group(group, replace(its, finding=self.findings.get(group, its.finding)))
        return calibration


def read_statement(path: Path) -> Statement:
    """The statement in a TOML file."""
    values = tomlkit.parse(path.read_text(encoding="utf-8")).unwrap()
    left = [key for key, value in values.items() if TO_STATE in str(value)]
    if left:
        raise ConfigError(tuple(f"{path}: {key} still says {TO_STATE}: only a person can say it" for key in left))
    try:
        return Statement(**{**values, "limits": tuple(values["limits"])})
    except (KeyError, TypeError) as error:
        raise ConfigError((f"{path}: {error}",)) from error
