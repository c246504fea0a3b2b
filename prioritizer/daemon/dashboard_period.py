"""The board of a period: taken from the ledger, kept in it, and who must act when a figure left its range."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import sqlalchemy as sa

from prioritizer.config.sections import AlarmRule
from prioritizer.config.settings import Settings
from prioritizer.db.activity import monitoring as kept_boards
from prioritizer.db.processing.housekeeping import Alarm
from prioritizer.errors import NotAllowed
from prioritizer.monitoring import drift
from prioritizer.monitoring.dashboard import NAMES, Rule, board
from prioritizer.monitoring.drift import Drift

LATEST = "latest"
FRESH = timedelta(minutes=1)
"""So old a board may be when somebody looks; for a period that is over, any."""
MONTH = re.compile(r"(\d{4})-(0[1-9]|1[0-2])")
STANDING = tuple(f"board-{name}" for name in NAMES)
"""The alarms that a board sets and clears."""
INSTANT = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """A name and the moments it runs between, UTC; the second is not in it."""

    name: str
    start: datetime
    end: datetime


def zone_of(settings: Settings) -> ZoneInfo | None:
    """The zone whose days and months the site counts; None stands for the machine's, as in `datetime.astimezone`."""
    return settings.page_zone


def period_of(name: str, settings: Settings, now: datetime) -> Period:
    """`latest`: the last monitoring.days; `2026-11`: a month as the site's clocks count it. Raises NotAllowed."""
    if name == LATEST:
        return Period(name=name, start=now - timedelta(days=settings.monitoring.days), end=now)
    found = MONTH.fullmatch(name)
    if found is None:
        raise NotAllowed(f"{name!r} is no period; say {LATEST}, or a month as 2026-11")
    year, month = int(found[1]), int(found[2])
    if not 2000 <= year <= 9998:
        raise NotAllowed(f"{name!r} is no period that can be told of")
    following = _first_of(year + month // 12, month % 12 + 1, settings)
    return Period(name=name, start=_first_of(year, month, settings), end=following)


def _first_of(year: int, month: int, settings: Settings) -> datetime:
    """The moment a month begins at the site; summer time is that of its day."""
    return datetime(year, month, 1, tzinfo=zone_of(settings)).astimezone(UTC)


def months_to_keep(settings: Settings, now: datetime) -> tuple[str, str]:
    """The month that it is at the site, and the one before."""
    here = now.astimezone(zone_of(settings))
    return f"{here:%Y-%m}", f"{here.replace(day=1) - timedelta(days=1):%Y-%m}"


def board_of(engine: sa.Engine, settings: Settings, bundle_digest: str, period: Period, now: datetime) -> dict[str, Any]:
    """The board of a period as the ledger stands now. Its days are the site's, and `last_day` is in it."""
    end = min(period.end, now)
    studies = kept_boards.seen(engine, period.start, end, settings.monitoring.ask_share)
    reference, drifts = drifts_of(engine, settings, bundle_digest, period)
    found = board(studies, now, drifts, rules_of(settings), kept_boards.passed(engine, period.start, end), zone_of(settings))
    return {**_when_told(period, settings), "reference": _days(reference, settings) if reference else "", **found} | (
        {"earlier": _earlier(engine, period, now)} if period.name == LATEST else {}
    )


def _when_told(period: Period, settings: Settings) -> dict[str, str]:
    start, end, last = (moment.astimezone(zone_of(settings)) for moment in (period.start, period.end, period.end - INSTANT))
    days = {"first_day": f"{start:%Y-%m-%d}", "last_day": f"{last:%Y-%m-%d}"}
    return {"period": period.name, "from": start.isoformat(), "to": end.isoformat(), **days}


def _days(period: Period, settings: Settings) -> str:
    told = _when_told(period, settings)
    return f"{told['first_day']} to {told['last_day']}"


def _earlier(engine: sa.Engine, period: Period, now: datetime) -> dict[str, Any]:
    """What waits from before the period: nobody may be forgotten because they have waited too long to be counted."""
    count, first = kept_boards.unread_before(engine, period.start)
    return {"n": count, "longest": None if first is None else (now - first) / timedelta(minutes=1)}


def drifts_of(engine: sa.Engine, settings: Settings, bundle_digest: str, period: Period) -> tuple[Period | None, list[Drift]]:
    """Drift of this bundle's logits and embeddings in the period, as far as it lies beyond the bundle's first days here."""
    began = kept_boards.began_to_serve(engine, bundle_digest)
    if began is None:
        return None, []
    reference = Period(name="reference", start=began, end=began + timedelta(days=settings.monitoring.reference_days))
    start = max(period.start, reference.end)
    if start >= period.end:
        return reference, []
    before = kept_boards.sample(engine, bundle_digest, reference.start, reference.end)
    now = kept_boards.sample(engine, bundle_digest, start, period.end)
    found = [drift.psi(before[0], now[0], "scores"), drift.psi_of_embeddings(before[1], now[1])]
    return reference, [one for one in found if one is not None]


def rules_of(settings: Settings) -> list[Rule]:
    """The site's rules, and for what it says nothing of, those that come with prioritizer."""
    own: dict[str, AlarmRule] = {rule.name: rule for rule in settings.alarms}
    found = []
    for name, (threshold, action) in DEFAULTS.items():
        rule = own.get(name)
        found.append(
            Rule(
                name=name,
                threshold=threshold if rule is None else rule.threshold,
                owner=(rule.owner if rule else "") or settings.monitoring.owner,
                action=(rule.action if rule else "") or action,
            )
        )
    return found


DEFAULTS = {
    "psi-scores": (0.25, "look for a new device, protocol or population; recalibrate on local cases if it stays"),
    "psi-embeddings": (0.25, "look for a new device or processing; compare films of both periods"),
    "overdue": (0.05, "read them; widen ranking.neutral_minutes or add readers, `prioritizer simulate` shows the effect"),
    "not-scored": (0.5, "see the reasons on the board: a sender without age or view, or another population"),
    "raised": (0.4, "look for a drift; recalibrate, or raise the threshold"),
    "sensitivity": (0.8, "have more studies spoken of that were not moved up; set stage pilot or shadow; recalibrate on local cases"),
    "specificity": (0.5, "recalibrate on local cases, or raise the threshold"),
    "ppv": (0.1, "recalibrate on local cases, or raise the threshold"),
}


def watch(engine: sa.Engine, settings: Settings, bundle_digest: str, now: datetime) -> list[Alarm]:
    """Compute and keep the latest board, and those of the month and of the month before; returns what must stand as alarms."""
    latest = board_of(engine, settings, bundle_digest, period_of(LATEST, settings, now), now)
    kept_boards.keep(engine, LATEST, latest, now)
    for name in months_to_keep(settings, now):
        kept_boards.keep(engine, name, board_of(engine, settings, bundle_digest, period_of(name, settings, now), now), now)
    return [Alarm(name=f"board-{one['name']}", said=one["said"], mend=f"{one['owner']}: {one['action']}") for one in latest["alarms"]]


def dashboard_of(engine: sa.Engine, settings: Settings, bundle_digest: str, name: str, now: datetime) -> tuple[datetime, dict[str, Any]]:
    """A board and when it was computed: the kept one while it is fresh or its period over, else computed now. Raises NotAllowed."""
    period = period_of(name, settings, now)
    found = kept_boards.kept(engine, name)
    if found is not None and (_is_final(found, period) or timedelta(0) <= now - found[0] < FRESH):
        return found
    computed = board_of(engine, settings, bundle_digest, period, now)
    if computed["arrived"]:
        kept_boards.keep(engine, name, computed, now)
    return now, computed


def _is_final(found: tuple[datetime, dict[str, Any]], period: Period) -> bool:
    """True when a kept board is of the whole period; where the site's zone was changed, its months are others than they were."""
    computed_at, document = found
    of = tuple(datetime.fromisoformat(document[edge]) for edge in ("from", "to"))
    return period.name != LATEST and computed_at >= period.end and of == (period.start, period.end)
