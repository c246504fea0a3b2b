"""`prioritizer simulate`: the site's rules on drawn or real arrivals, against order of arrival and against strictly by AI."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from prioritizer.config.settings import Settings
from prioritizer.errors import ConfigError
from prioritizer.queue_simulation.compare import Effect, as_drawn, compare, settings_of, variants_of
from prioritizer.queue_simulation.scenario import HOURS, Scenario
from prioritizer.simulation.site import SimulationRequest, settings_to_compare, site_of

Tick = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulationOutcome:
    """What was simulated, on which assumptions, and what came of it."""

    request: SimulationRequest
    made_at: datetime
    scenario: Scenario
    assumptions: tuple[tuple[str, str], ...]
    effects: tuple[Effect, ...]
    """Order of arrival, strictly by AI, then every setting asked for."""
    variants: tuple[tuple[str, tuple[Effect, ...]], ...]
    """The same with other figures of the site and the model (EXPERIENCE R17)."""


def run(
    settings: Settings, engine: sa.Engine | None, request: SimulationRequest, now: datetime, tick: Tick = lambda done, of: None
) -> SimulationOutcome:
    """Simulate. `engine` is needed for --from-ledger only. Raises ConfigError for what cannot be asked, NotFound, CalibrationChanged."""
    _possible(request)
    scenario, policy, said = site_of(settings, engine, request, now)
    tried = settings_of(policy, settings_to_compare(scenario, policy, request))
    changes = (("as stated", as_drawn), *variants_of(policy.t_high))
    found = []
    for index, (name, change) in enumerate(changes):
        counted = _counting(tick, index * request.replications, len(changes) * request.replications)
        found.append((name, compare(scenario, tried, replications=request.replications, seed=request.seed, change=change, tick=counted)))
    return SimulationOutcome(
        request=request, made_at=now, scenario=scenario, assumptions=said, effects=found[0][1], variants=tuple(found[1:])
    )


def _counting(tick: Tick, before: int, of: int) -> Callable[[int], None]:
    return lambda done: tick(before + done, of)


def _possible(request: SimulationRequest) -> None:
    """Raises ConfigError naming everything in the request that does not go together."""
    shares = {
        "--prevalence": request.prevalence,
        "--stat-share": request.stat_share,
        "--not-scored-share": request.not_scored_share,
        "--sensitivity": request.sensitivity,
        "--specificity": request.specificity,
        **{f"--at-sensitivity {share:g}": share for share in request.at_sensitivity},
        **{f"--t-high {share:g}": share for share in request.t_high},
    }
    positive = {"--rate": request.rate, "--days": request.days, "--reading-minutes": request.reading_minutes}
    faults = [f"{name} is a share between 0 and 1" for name, share in shares.items() if share is not None and not 0 <= share <= 1]
    faults += [f"{name} must be above 0" for name, value in positive.items() if value is not None and not value > 0]
    if (request.rate is not None) + (request.file is not None) + request.from_ledger != 1:
        faults.append("say where the arrivals come from with one of --rate, --arrivals, --from-ledger")
    if (request.sensitivity is None) != (request.specificity is None):
        faults.append("--sensitivity and --specificity go together")
    if request.reading_cv < 0 or request.ai_minutes < 0 or request.readers < 1 or request.replications < 2:
        faults.append("--reading-cv and --ai-minutes are not below 0, --readers not below 1, --replications not below 2")
    faults += _faults_of_hours(request)
    if faults:
        raise ConfigError(tuple(faults))


def _faults_of_hours(request: SimulationRequest) -> list[str]:
    """What is wrong with the windows and the hours of the day."""
    crossed = [(high, neutral) for high, neutral in request.windows if not 0 <= high < neutral]
    faults = [f"--window {high:g}/{neutral:g}: the first must be the shorter" for high, neutral in crossed]
    if request.by_hour and (len(request.by_hour) != HOURS or min(request.by_hour) < 0 or not sum(request.by_hour)):
        faults.append("--by-hour wants 24 numbers from midnight on, none below 0, not all 0")
    if request.open_hours is not None and not 0 <= request.open_hours[0] < request.open_hours[1] <= HOURS:
        faults.append("--open wants two hours of one day, the earlier first, for example 7-19")
    return faults
