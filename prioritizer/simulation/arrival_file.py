"""Arrivals from a CSV file: `arrived_at`, and where they are known `stat`, `label`, `probability`, `reading_minutes`."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np

from prioritizer.errors import ConfigError
from prioritizer.queue_simulation.scenario import Known

COLUMNS = ("arrived_at", "stat", "label", "probability", "reading_minutes")
YES_NO = {"1": 1.0, "true": 1.0, "yes": 1.0, "0": 0.0, "false": 0.0, "no": 0.0}
SHOWN_FAULTS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrivals:
    """A file of arrivals: the studies, and the reading times that it holds, in minutes."""

    known: Known
    reading_seen: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _ArrivalLine:
    at: datetime | float
    stat: float
    label: float
    probability: float
    reading: float


def read_arrivals(path: Path) -> Arrivals:
    """The file's studies in order of arrival. Raises ConfigError naming every line at fault, with the mend."""
    lines, faults = _lines(path)
    if {isinstance(line.at, datetime) for line in lines} == {True, False}:
        faults.append(f"{path}: arrived_at is a moment in some lines and minutes in others; use one of them")
    if not lines and not faults:
        faults.append(f"{path} holds no arrivals")
    if faults:
        more = [f"and {len(faults) - SHOWN_FAULTS} more lines"] if len(faults) > SHOWN_FAULTS else []
        raise ConfigError((*faults[:SHOWN_FAULTS], *more))
    minutes = np.array(minutes_of([line.at for line in lines]))
    order = np.argsort(minutes, kind="stable")
    stat, label, probability = (np.array([getattr(line, name) for line in lines])[order] for name in ("stat", "label", "probability"))
    known = Known(
        arrived=minutes[order],
        stat=None if np.isnan(stat).all() else stat == 1,
        labels=None if np.isnan(label).all() else label,
        probabilities=None if np.isnan(probability).all() else probability,
    )
    return Arrivals(known=known, reading_seen=tuple(line.reading for line in lines if not math.isnan(line.reading)))


def minutes_of(moments: list[datetime | float]) -> list[float]:
    """Minutes from the local midnight before the first moment, so that the hours of the day are those of the site."""
    dated = [moment.astimezone() for moment in moments if isinstance(moment, datetime)]
    if not dated:
        return [float(moment) for moment in moments if not isinstance(moment, datetime)]
    midnight = min(dated).replace(hour=0, minute=0, second=0, microsecond=0)
    return [(moment - midnight).total_seconds() / 60 for moment in dated]


def _lines(path: Path) -> tuple[list[_ArrivalLine], list[str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            unknown = sorted(set(reader.fieldnames or ()) - set(COLUMNS))
            if "arrived_at" not in (reader.fieldnames or ()):
                return [], [f"{path} has no column arrived_at; it may have {', '.join(COLUMNS)}"]
            lines: list[_ArrivalLine] = []
            faults = [f"{path}: unknown column {name}; known are {', '.join(COLUMNS)}" for name in unknown]
            for number, row in enumerate(reader, start=2):
                try:
                    lines.append(_line(row))
                except ValueError as error:
                    faults.append(f"{path} line {number}: {error}")
            return lines, faults
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError((f"{path} cannot be read as text ({type(error).__name__})",)) from error


def _line(row: Mapping[str, str | None]) -> _ArrivalLine:
    """One line. Raises ValueError saying what is wrong with it."""
    return _ArrivalLine(
        at=_moment((row.get("arrived_at") or "").strip()),
        stat=_yes_no(row, "stat"),
        label=_yes_no(row, "label"),
        probability=_number(row, "probability", 0.0, 1.0),
        reading=_number(row, "reading_minutes", 0.001, 24 * 60.0),
    )


def _moment(text: str) -> datetime | float:
    try:
        minutes = float(text)
    except ValueError:
        pass
    else:
        if 0 <= minutes < math.inf:
            return minutes
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        raise ValueError(f"arrived_at is {text!r}; write 2026-11-22T08:30 or minutes from the first midnight") from error


def _yes_no(row: Mapping[str, str | None], name: str) -> float:
    text = (row.get(name) or "").strip().lower()
    if text and text not in YES_NO:
        raise ValueError(f"{name} is {text!r}; write 1 or 0, or leave it empty")
    return YES_NO.get(text, math.nan)


def _number(row: Mapping[str, str | None], name: str, low: float, high: float) -> float:
    text = (row.get(name) or "").strip()
    if not text:
        return math.nan
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not low <= value <= high:
        raise ValueError(f"{name} is {text!r}; write a number from {low:g} to {high:g}, or leave it empty")
    return value
