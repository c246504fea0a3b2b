"""The board of a period: taken from the ledger, kept in it, and who must act when a figure left its range."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from prioritizer import monitoring
from prioritizer.config import AlarmRule, Settings
from prioritizer.db import monitoring as kept_boards
from prioritizer.db.housekeeping import Alarm
from prioritizer.errors import NotAllowed
from prioritizer.monitoring import Drift, Rule

LATEST = "latest"
FRESH = timedelta(minutes=1)
"""So old a board may be when somebody looks; for a period that is over, any."""
MONTH = re.compile(r"(\d{4})-(0[1-9]|1[0-2])")
STANDING = tuple(f"board-{name}" for name in monitoring.NAMES)
"""The alarms that a board sets and clears."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """A name and the moments it runs between, UTC."""

    name: str
    start: datetime
    end: datetime


def period_of(name: str, settings: Settings, now: datetime) -> Period:
    """`latest`: the last monitoring.days; `2026-11`: a month. Raises NotAllowed."""
    if name == LATEST:
        return Period(name=name, start=now - timedelta(days=settings.monitoring.days), end=now)
    found = MONTH.fullmatch(name)
    if found is None:
        raise NotAllowed(f"{name!r} is no period; say {LATEST}, or a month as 2026-11")
    year, month = int(found[1]), int(found[2])
    if not 2000 <= year <= 9998:
        raise NotAllowed(f"{name!r} is no period that can be told of")
    start = datetime(year, month, 1, tzinfo=UTC)
    return Period(name=name, start=start, end=datetime(year + month // 12, month % 12 + 1, 1, tzinfo=UTC))


def board_of(engine: sa.Engine, settings: Settings, bundle_digest: str, period: Period, now: datetime) -> dict[str, Any]:
    """The board of a period as the ledger stands now."""
    studies = kept_boards.seen(engine, period.start, min(period.end, now))
    reference, drifts = drifts_of(engine, settings, bundle_digest, period)
    passed = kept_boards.passed(engine, period.start, min(period.end, now))
    found = monitoring.board(studies, drifts, rules_of(settings), passed)
    said = f"{reference.start:%Y-%m-%d} to {reference.end:%Y-%m-%d}" if reference else ""
    return {"period": period.name, "from": period.start.isoformat(), "to": period.end.isoformat(), "reference": said, **found}


def drifts_of(engine: sa.Engine, settings: Settings, bundle_digest: str, period: Period) -> tuple[Period | None, list[Drift]]:
    """Drift of this bundle's logits and embeddings against its first days here; none where the periods overlap."""
    began = kept_boards.first_scored(engine, bundle_digest)
    if began is None:
        return None, []
    reference = Period(name="reference", start=began, end=began + timedelta(days=settings.monitoring.reference_days))
    if reference.end > period.start:
        return reference, []
    before = kept_boards.sample(engine, bundle_digest, reference.start, reference.end, newest=False)
    now = kept_boards.sample(engine, bundle_digest, period.start, period.end, newest=True)
    found = [monitoring.psi(before[0], now[0], "scores"), monitoring.psi_of_embeddings(before[1], now[1])]
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
    "sensitivity": (0.8, "set stage pilot or shadow; recalibrate on local cases"),
    "specificity": (0.5, "recalibrate on local cases, or raise the threshold"),
    "ppv": (0.1, "recalibrate on local cases, or raise the threshold"),
}


def watch(engine: sa.Engine, settings: Settings, bundle_digest: str, now: datetime) -> list[Alarm]:
    """Compute and keep the latest board, and those of the month and of the month before; returns what must stand as alarms."""
    board = board_of(engine, settings, bundle_digest, period_of(LATEST, settings, now), now)
    kept_boards.keep(engine, LATEST, board, now)
    for name in (f"{now:%Y-%m}", f"{now.replace(day=1) - timedelta(days=1):%Y-%m}"):
        kept_boards.keep(engine, name, board_of(engine, settings, bundle_digest, period_of(name, settings, now), now), now)
    return [Alarm(name=f"board-{one['name']}", said=one["said"], mend=f"{one['owner']}: {one['action']}") for one in board["alarms"]]


def told(engine: sa.Engine, settings: Settings, bundle_digest: str, name: str, now: datetime) -> tuple[datetime, dict[str, Any]]:
    """A board and when it was computed: the kept one while it is fresh or its period over, else computed now. Raises NotAllowed."""
    period = period_of(name, settings, now)
    found = kept_boards.kept(engine, name)
    if found is not None and (found[0] >= period.end or now - found[0] < FRESH):
        return found
    board = board_of(engine, settings, bundle_digest, period, now)
    if board["arrived"]:
        kept_boards.keep(engine, name, board, now)
    return now, board
