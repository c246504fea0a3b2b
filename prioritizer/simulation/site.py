"""The site as a simulation sees it: arrivals, readers, model and rules, with a line for every assumption that was made."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import sqlalchemy as sa

from prioritizer.calibration.maps import Calibration
from prioritizer.config.policy import SitePolicy, policy_of
from prioritizer.config.settings import Settings
from prioritizer.db.activity import arrivals
from prioritizer.db.activity.arrivals import Arrived
from prioritizer.db.decisions import calibrations
from prioritizer.errors import CalibrationChanged, ConfigError, NotFound
from prioritizer.inference.bundle import Bundle, open_bundle
from prioritizer.queue_simulation.compare import Setting
from prioritizer.queue_simulation.scenario import HOURS, BinormalModel, Known, Scenario
from prioritizer.queue_simulation.simulate import MINUTE, with_windows
from prioritizer.ranking.deadlines import RankingPolicy, Stage
from prioritizer.ranking.study_risk import risk_of_logits
from prioritizer.simulation.arrival_file import minutes_of, read_arrivals
from prioritizer.statistics.logistic import odds_of, sigmoid

PREVALENCE = 0.1
"""Assumed where nobody says better."""
REPLICATIONS = 5
DAYS_BACK = 28
RATE = 12.0
"""Studies an hour, where the ledger holds too few arrivals."""
MAX_UTILISATION = 0.95
"""Readers are added until they are no busier than this: the site's own number is not known here."""
MIN_ARRIVALS = 30
SPLIT = "val_report"
LOW_SENSITIVITY = 0.99
"""Where demote_low is set and the model is known by its operating point: this share of pneumonia stays above t_low."""
Said = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulationRequest:
    """What a person asked for; None: taken from the site, its bundle or its ledger."""

    rate: float | None = None
    """Studies an hour, averaged over the day."""
    by_hour: tuple[float, ...] = ()
    file: Path | None = None
    from_ledger: bool = False
    days: float = 10
    """Days of each replication; with `from_ledger`, how many days back."""
    readers: int = 1
    open_hours: tuple[int, int] | None = None
    """First and last hour of reading, for example (7, 19); None: day and night."""
    reading_minutes: float = 4.0
    reading_cv: float = 0.6
    prevalence: float | None = None
    stat_share: float = 0.05
    not_scored_share: float = 0.05
    ai_minutes: float = 0.5
    sensitivity: float | None = None
    specificity: float | None = None
    at_sensitivity: tuple[float, ...] = ()
    """Other thresholds on the same ROC curve, tried beside the first."""
    t_high: tuple[float, ...] = ()
    """Other thresholds on known probabilities, tried beside the first."""
    windows: tuple[tuple[float, float], ...] = ()
    """HIGH and NEUTRAL windows in minutes."""
    replications: int = 10
    seed: int = 0


def site_of(
    settings: Settings, engine: sa.Engine | None, request: SimulationRequest, now: datetime, *, calibration: Calibration | None = None
) -> tuple[Scenario, RankingPolicy, Said]:
    """Scenario, the site's rules as if in stage active, and the assumptions. Raises ConfigError, NotFound, CalibrationChanged.

    `calibration` is tried in the place of the one in force.
    """
    bundle = open_bundle(settings.model.bundle)
    configured = policy_of(settings, bundle)
    policy = replace(configured, ranking=replace(configured.ranking, stage=Stage.ACTIVE))
    known, seen, where = _arrivals(engine, request, policy, bundle, now, calibration)
    model, model_said = _model(bundle, request)
    prevalence = PREVALENCE if request.prevalence is None else request.prevalence
    scenario = Scenario(
        model=model,
        per_hour=request.rate or 0.0,
        by_hour=request.by_hour,
        days=request.days,
        known=known,
        readers=_readers(request),
        reading_minutes=request.reading_minutes,
        reading_cv=request.reading_cv,
        reading_seen=seen,
        prevalence=prevalence,
        stat_share=request.stat_share,
        not_scored_share=request.not_scored_share,
        ai_minutes=request.ai_minutes,
    )
    if known is None or known.probabilities is None:
        if request.t_high:
            raise ConfigError(("--t-high needs arrivals with probabilities; with --sensitivity and --specificity use --at-sensitivity",))
        ranking, scores = policy.ranking.with_thresholds(model.t_high, model.threshold_at(LOW_SENSITIVITY)), model_said
    else:
        ranking, scores = _thresholds(engine, policy, bundle, request, calibration)
    return scenario, ranking, _assumptions(scenario, ranking, request, where, scores)


def settings_to_compare(scenario: Scenario, policy: RankingPolicy, request: SimulationRequest) -> tuple[Setting, ...]:
    """The windows that were asked for, then the thresholds, each at the first windows."""
    pairs = request.windows or ((policy.high / MINUTE, policy.neutral / MINUTE),)
    found = [Setting(name=f"deadlines {high:g}/{neutral:g}", policy=with_windows(policy, high, neutral)) for high, neutral in pairs]
    first = found[0]
    for sensitivity in request.at_sensitivity:
        rules = first.policy.with_thresholds(scenario.model.threshold_at(sensitivity), first.policy.t_low)
        found.append(Setting(name=f"{first.name}, sensitivity {sensitivity:g}", policy=rules))
    by_probability = (
        Setting(name=f"{first.name}, t_high {t_high:g}", policy=first.policy.with_thresholds(t_high, first.policy.t_low))
        for t_high in request.t_high
    )
    return (*found, *by_probability)


def _readers(request: SimulationRequest) -> tuple[int, ...]:
    if request.open_hours is None:
        return (request.readers,)
    first, last = request.open_hours
    return tuple(request.readers if first <= hour < last else 0 for hour in range(HOURS))


def _arrivals(
    engine: sa.Engine | None, request: SimulationRequest, policy: SitePolicy, bundle: Bundle, now: datetime, calibration: Calibration | None
) -> tuple[Known | None, tuple[float, ...], str]:
    """Real arrivals, measured reading times, and where the arrivals come from."""
    if request.file is not None:
        found = read_arrivals(request.file)
        return found.known, found.reading_seen, f"{len(found.known.arrived)} arrivals of {request.file.name}"
    if not request.from_ledger:
        shape = "the given profile of the day" if request.by_hour else "the same at every hour"
        return None, (), f"{request.rate:g} studies an hour on average, {shape}, independent of each other (Poisson), {request.days:g} days"
    assert engine is not None
    rows = arrivals.since(engine, now - timedelta(days=request.days), bundle.digest)
    if len(rows) < MIN_ARRIVALS:
        said = f"the ledger holds {len(rows)} arrivals of the last {request.days:g} days, {MIN_ARRIVALS} are needed"
        raise NotFound(f"{said}; give more --days, or --rate for drawn arrivals")
    applies = calibration or _applying(engine, policy, bundle)
    probabilities = np.array([_risk_at_one_threshold(applies, row) for row in rows])
    known = Known(
        arrived=np.array(minutes_of([row.at for row in rows])),
        stat=np.array([row.stat for row in rows]),
        probabilities=None if np.isnan(probabilities).all() else probabilities,
    )
    return known, (), f"{len(rows)} arrivals of the ledger, the last {request.days:g} days"


def _risk_at_one_threshold(applies: Calibration, row: Arrived) -> float:
    """The risk of a study, NaN without a score; where the calibration has a map for each age, moved to the threshold for children.

    A simulation knows one threshold: the log odds of an adult are moved by the difference of the two.
    """
    its = applies.for_age(row.age_years)
    risk = risk_of_logits(its, row.logits)
    if risk is None or its.t_high == applies.t_high:
        return math.nan if risk is None else risk
    if risk >= its.t_high:
        return max(moved_odds(risk, its.t_high, applies.t_high), applies.t_high)
    return min(moved_odds(risk, its.t_high, applies.t_high), float(np.nextafter(applies.t_high, 0.0)))


def moved_odds(probability: float, threshold: float, other: float) -> float:
    """The probability whose log odds lie as far from those of `other` as these lie from those of `threshold`."""
    given, before, after = odds_of(np.array([probability, threshold, other]))
    return float(sigmoid(given - before + after))


def _applying(engine: sa.Engine, policy: SitePolicy, bundle: Bundle) -> Calibration:
    """The calibration that is in force."""
    applies = calibrations.applying(engine, policy)
    if applies.fault:
        raise CalibrationChanged(applies.fault)
    return applies.calibration or bundle.calibration


def _thresholds(
    engine: sa.Engine | None, policy: SitePolicy, bundle: Bundle, request: SimulationRequest, calibration: Calibration | None
) -> tuple[RankingPolicy, str]:
    """The rules with the thresholds that known probabilities are held against."""
    if request.at_sensitivity:
        raise ConfigError(("--at-sensitivity needs a model known by --sensitivity and --specificity; with probabilities use --t-high",))
    applies = calibration or (_applying(engine, policy, bundle) if engine is not None and request.from_ledger else bundle.calibration)
    said = f"known probabilities, taken at their word where the label is not known, at t_high {applies.t_high:.3f} ({applies.id})"
    return policy.ranking.with_thresholds(applies.t_high, applies.t_low), said


def _model(bundle: Bundle, request: SimulationRequest) -> tuple[BinormalModel, str]:
    """The model's operating point and where it comes from."""
    if request.sensitivity is not None and request.specificity is not None:
        sensitivity, specificity, where = request.sensitivity, request.specificity, "as stated"
    else:
        metrics = bundle.card.get("metrics", {})
        reported = [one for one in metrics if one.startswith(SPLIT) and "specificity" in metrics[one]]
        # Of several sets the one on which the fewest without the finding are left where they were: nobody is promised more.
        name = min(reported, key=lambda one: float(np.ravel(metrics[one]["specificity"])[0]), default=SPLIT)
        measured = metrics.get(name, {})
        if "sensitivity" not in measured or "specificity" not in measured:
            raise ConfigError((f"the card of {bundle.name} has no sensitivity and specificity; give --sensitivity and --specificity",))
        sensitivity, specificity = (float(np.ravel(measured[name])[0]) for name in ("sensitivity", "specificity"))
        where = f"the card of {bundle.name} on its own {name}; your site's will be lower"
    said = f"sensitivity {sensitivity:.3f}, specificity {specificity:.3f} ({where}); scores from the binormal ROC curve through that point"
    return BinormalModel(sensitivity=sensitivity, specificity=specificity), said


def _assumptions(scenario: Scenario, policy: RankingPolicy, request: SimulationRequest, where: str, scores: str) -> Said:
    """Everything that was assumed, name and value."""
    hours = f"from {request.open_hours[0]} to {request.open_hours[1]} o'clock" if request.open_hours else "day and night"
    measured = len(scenario.reading_seen)
    times = f"{measured} measured times drawn again" if measured else f"log-normal, coefficient of variation {scenario.reading_cv:g}"
    known = scenario.known
    with_scores = known is not None and known.probabilities is not None
    mean = "of the probabilities and labels" if with_scores else f"{scenario.prevalence:.0%}"
    stated = "" if request.prevalence is not None or with_scores else " (assumed; give --prevalence)"
    stat = "as recorded" if known is not None and known.stat is not None else f"{scenario.stat_share:.0%} of studies, drawn"
    unscored = "as recorded" if with_scores else f"{scenario.not_scored_share:.0%} of studies"
    return (
        ("arrivals", where),
        ("readers", f"{request.readers}, {hours}; a study begun is finished, a free reader takes the head of the list"),
        ("reading a study", f"{scenario.mean_reading:.3g} minutes on average ({times}), the same for every class"),
        ("load", f"{scenario.load:.0%} of the readers' time" + ("; above 100 % the list grows without end" if scenario.load >= 1 else "")),
        ("prevalence", mean + stated),
        ("model", scores),
        ("STAT", f"{stat}; read first under every way of ordering"),
        ("not scored", f"{unscored}; in order of arrival"),
        ("score", f"{scenario.ai_minutes:g} minutes after arrival; neutral until then"),
        ("raising is suspended", f"above {policy.max_high_share:.0%} of the last {policy.last_n} scored studies"),
        ("demote_low", "on" if policy.demote_low else "off"),
        ("the list", "empty at the start of each replication; after its last arrival it is read to the end"),
        ("replications", f"{request.replications}, seed {request.seed}; the same studies under every way of ordering"),
    )
