"""What an override would do before it is saved: simulated beside the rules in force, and on the list as it stands at this moment."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from prioritizer.config import settings_override
from prioritizer.config.policy import SitePolicy, policy_of
from prioritizer.config.settings import Settings
from prioritizer.daemon import dashboard_period
from prioritizer.db.decisions.calibrations import applying
from prioritizer.db.decisions.what_if import open_places
from prioritizer.db.in_force.settings import holding
from prioritizer.errors import ConfigError, ModelError, NotFound
from prioritizer.inference.bundle import open_bundle
from prioritizer.monitoring.acceptance import acceptance
from prioritizer.queue_simulation.compare import ALL, FALSE, FIFO, FLAGGED, MISSED, QUIET, UNSCORED, Effect, Setting, compare
from prioritizer.queue_simulation.scenario import Scenario
from prioritizer.queue_simulation.simulate import in_order_of_arrival
from prioritizer.ranking import moves
from prioritizer.ranking.deadlines import RankingPolicy, Stage
from prioritizer.simulation import wording as words
from prioritizer.simulation.site import DAYS_BACK, MAX_UTILISATION, RATE, REPLICATIONS, Said, SimulationRequest, site_of
from prioritizer.statistics.intervals import Figure

MAX_ARRIVALS = 2000
"""The newest arrivals that are simulated: a page waits for it."""
MAX_SHOWN = 20
SAID_BY_THE_RULES = ("raising is suspended",)
"""Assumptions of the simulation that a settings override may change: each way of ordering names its own."""
NOW, PROPOSED = "in force now", "proposed"
KEPT = 16
"""Effects that are remembered, so that what is saved is what was shown."""


def effect_of(settings: Settings, engine: sa.Engine, changes: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    """The effect of an override over the configured `settings`, as JSON; no changes: the configuration. Raises SettingsOverrideUnfit."""
    told: dict[str, Any] = {"made_at": now.isoformat(), "fault": ""}
    try:
        bundle = open_bundle(settings.model.bundle)
        policy = policy_of(settings, bundle)
    except ModelError:
        policy = policy_of(settings, None)
    wanted = settings_override.changed(policy.ranking, changes)
    told["changes"] = wanted
    if leaves_shadow(holding(engine, policy).policy.ranking, _over(policy.ranking, wanted)):
        told["acceptance"] = _accepted(settings, engine, policy, now)
    told |= _moves(engine, policy, wanted)
    try:
        told |= _simulated(settings, engine, policy, wanted, now)
    except (ConfigError, ModelError, NotFound) as error:
        told["fault"] = f"the effect cannot be simulated: {error}"
    return told


def leaves_shadow(before: RankingPolicy, after: RankingPolicy) -> bool:
    """True for a change by which readers begin to see what AI thinks."""
    return before.stage is Stage.SHADOW and after.stage is not Stage.SHADOW


def _accepted(settings: Settings, engine: sa.Engine, policy: SitePolicy, now: datetime) -> dict[str, Any]:
    """What this site measured in shadow."""
    _, board = dashboard_period.dashboard_of(engine, settings, policy.bundle_digest, dashboard_period.LATEST, now)
    calibration = applying(engine, policy).calibration
    return acceptance(board, local_calibration=calibration is not None and calibration != policy.own)


def _moves(engine: sa.Engine, policy: SitePolicy, wanted: Mapping[str, str | float]) -> dict[str, Any]:
    """Which open studies would stand elsewhere at this moment."""
    found = open_places(engine, policy, wanted)
    suspended = (found.suspended_before, found.suspended_after)
    moved = moves.shifts(found.standings, found.before, found.after, suspended=suspended)
    shown = [{"study_uid": one.study_uid, "from": one.before, "to": one.after, "why": one.reason} for one in moved[:MAX_SHOWN]]
    return {"open": len(found.standings), "moved": len(moved), "moves": shown}


def _simulated(
    settings: Settings, engine: sa.Engine, policy: SitePolicy, wanted: Mapping[str, str | float], now: datetime
) -> dict[str, Any]:
    scenario, rules, assumed, own = _room(settings, engine, now)
    base = replace(rules, stage=policy.ranking.stage)
    held = holding(engine, policy).changes
    tried = (
        Setting(name=FIFO, policy=in_order_of_arrival(base)),
        Setting(name=NOW, policy=_over(base, held)),
        Setting(name=PROPOSED, policy=_over(base, wanted)),
    )
    effects = compare(scenario, tried, replications=REPLICATIONS, seed=0)
    return {
        "own_arrivals": own,
        "assumed": [list(pair) for pair in assumed if pair[0] not in SAID_BY_THE_RULES],
        "warnings": list(words.warnings(scenario, effects)),
        "orders": [_order(effect) for effect in effects],
        "said": _said(effects[2], effects[0]),
    }


def _said(proposed: Effect, first: Effect) -> list[str]:
    """What the proposed rules buy and cost."""
    if proposed.setting.policy.stage is not Stage.ACTIVE:
        return [f"{PROPOSED}: the list stays in order of arrival (stage {proposed.setting.policy.stage})."]
    return [words.buys(proposed), words.costs(proposed, first)]


def _over(policy: RankingPolicy, changes: Mapping[str, str | float]) -> RankingPolicy:
    return settings_override.over(policy, changes) if changes else policy


def _room(settings: Settings, engine: sa.Engine, now: datetime) -> tuple[Scenario, RankingPolicy, Said, bool]:
    """The site's own arrivals where there are enough, else drawn ones; with as many readers as keep up."""
    request = SimulationRequest(from_ledger=True, days=DAYS_BACK, replications=REPLICATIONS)
    try:
        scenario, policy, said = site_of(settings, engine, request, now)
    except NotFound:
        request = SimulationRequest(rate=RATE, replications=REPLICATIONS)
        scenario, policy, said = site_of(settings, engine, request, now)
    count = len(scenario.known.arrived) if scenario.known is not None else 0
    days = request.days * min(1.0, MAX_ARRIVALS / count) if count else request.days
    readers = max(1, math.ceil(scenario.load / MAX_UTILISATION))
    if (readers, days) != (request.readers, request.days):
        scenario, policy, said = site_of(settings, engine, replace(request, readers=readers, days=days), now)
    return scenario, policy, said, request.from_ledger


def _order(effect: Effect) -> dict[str, Any]:
    """One way of ordering: minutes from arrival to the end of reading."""
    rules, everyone = effect.setting.policy, effect.classes[ALL]
    return {
        "order": effect.setting.name,
        "rules": "STAT, then arrival" if effect.setting.name == FIFO else settings_override.in_words(settings_override.values_of(rules)),
        "raised": _number(effect.raised.value),
        "flagged": _mean(effect, (FLAGGED, FALSE)),
        "others": _mean(effect, (MISSED, QUIET, UNSCORED)),
        "longest": _number(everyone.longest_of_all),
        "pneumonia_flagged": _figure(effect.classes[FLAGGED].mean),
        "pneumonia_not_flagged": _figure(effect.classes[MISSED].mean),
        "later_at_most": _number(effect.furthest_back),
        "overdue": _number(everyone.overdue / max(everyone.n, 1)),
    }


def _mean(effect: Effect, names: Sequence[str]) -> float | None:
    """The mean over several classes, each as heavy as it is large."""
    held = [effect.classes[name] for name in names if effect.classes[name].n]
    total = sum(found.n for found in held)
    return _number(sum(found.n * found.mean.value for found in held) / total) if total else None


def _figure(figure: Figure) -> dict[str, float | None]:
    return {"value": _number(figure.value), "low": _number(figure.low), "high": _number(figure.high)}


def _number(value: float) -> float | None:
    """A number as JSON holds it: none where there is none."""
    return float(value) if math.isfinite(value) else None


class Remembered:
    """Effects for the page, one simulated at a time; the last few are kept, so that what is saved is what was shown."""

    def __init__(self, engine: sa.Engine, settings: Callable[[], Settings], now: Callable[[], datetime]) -> None:
        self._engine, self._settings, self._now = engine, settings, now
        self._turn = threading.Lock()
        self._kept: OrderedDict[tuple[str, int, str], dict[str, Any]] = OrderedDict()

    def __call__(self, changes: Mapping[str, Any], *, again: bool = True) -> dict[str, Any]:
        """The effect; with `again` false the one that was shown of the same values under the same rules, where there was one."""
        settings = self._settings()
        policy = policy_of(settings, None)
        rules = settings_override.text_of(settings_override.configured(settings))
        key = (settings_override.text_of(settings_override.changed(policy.ranking, changes)), holding(self._engine, policy).change, rules)
        with self._turn:
            kept = None if again else self._kept.get(key)
            if kept is None:
                kept = self._kept[key] = effect_of(settings, self._engine, changes, self._now())
                self._kept.move_to_end(key)
                while len(self._kept) > KEPT:
                    self._kept.popitem(last=False)
            return kept
