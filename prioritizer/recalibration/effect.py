"""What a recalibration does to the list: simulated with the threshold before and the proposed one, and to last week's studies."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np
import sqlalchemy as sa

from prioritizer.calibration.maps import Calibration
from prioritizer.config.policy import policy_of
from prioritizer.config.settings import Settings
from prioritizer.db.activity import arrivals
from prioritizer.inference.bundle import Bundle
from prioritizer.queue_simulation.compare import FIFO, SICK, Effect, Setting, compare
from prioritizer.queue_simulation.scenario import BinormalModel, Known, Scenario
from prioritizer.queue_simulation.simulate import MINUTE, in_order_of_arrival, with_windows
from prioritizer.ranking.deadlines import RankingPolicy, Stage
from prioritizer.ranking.moves import Listed, moves
from prioritizer.recalibration.outcome import RecalibrationOutcome
from prioritizer.reports.page import Section, Table
from prioritizer.simulation import wording as words
from prioritizer.simulation.arrival_file import minutes_of
from prioritizer.simulation.site import DAYS_BACK, MAX_UTILISATION, MIN_ARRIVALS, RATE, REPLICATIONS

WEEK, MAX_SHOWN = 7, 20
READING = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ThresholdChange:
    """What a new threshold does to the model as the list sees it."""

    before: BinormalModel
    after: BinormalModel
    prevalence: float


def sections(outcome: RecalibrationOutcome, engine: sa.Engine, settings: Settings) -> tuple[Section, ...]:
    """Everything that the report says of the list."""
    return (*simulated(outcome, engine, settings), *who_moves(outcome, engine, settings))


def who_moves(outcome: RecalibrationOutcome, engine: sa.Engine, settings: Settings) -> tuple[Section, ...]:
    """R18; none without a candidate."""
    if outcome.entered is None:
        return ()
    return moved_last_week(outcome.in_force, outcome.entered, outcome.made_at, outcome.bundle, engine, settings)


def moved_last_week(
    before: Calibration, after: Calibration, now: datetime, bundle: Bundle, engine: sa.Engine, settings: Settings
) -> tuple[Section, ...]:
    """Last week's studies by one calibration and by another."""
    rows = arrivals.since(engine, now - timedelta(days=WEEK), bundle.digest)
    known = [
        Listed(study_uid=row.study_uid, at=row.at, logits=row.logits, age_years=row.age_years)
        for row in rows
        if row.logits and not row.stat
    ]
    found = moves(known, before, after, policy_of(settings, bundle).ranking)
    title = "Who would have moved last week"
    if not known:
        return (Section(title=title, answers="R18", text=("No study that this bundle scored arrived in the last seven days.",)),)
    said = (
        f"{len(found)} of the {len(known)} studies that arrived in the last seven days and were scored would have another place "
        "if all stood on one list, at the site's windows and in stage active. STAT studies move by no calibration."
    )
    cells = tuple(
        (move.study_uid, f"{move.at:%Y-%m-%d %H:%M} UTC", *move.probabilities, *(str(band) for band in move.bands), f"{move.overtakes:+d}")
        for move in found[:MAX_SHOWN]
    )
    header = ("study", "arrived", "probability before", "after", "band before", "after", "studies overtaken")
    tables = (Table(caption=f"The {len(cells)} that move furthest", header=header, rows=cells),) if cells else ()
    return (Section(title=title, answers="R18", text=(said,), tables=tables),)


def simulated(outcome: RecalibrationOutcome, engine: sa.Engine, settings: Settings) -> tuple[Section, ...]:
    """The section for a recalibration; none where the cohort gave no sensitivity and specificity, or only of one class."""
    point, before, gathered = outcome.point, outcome.figures_before or {}, outcome.gathered
    if point is None or gathered is None or "sensitivity" not in before or "specificity" not in before:
        return ()
    change = ThresholdChange(
        before=BinormalModel(sensitivity=before["sensitivity"].value, specificity=before["specificity"].value),
        after=BinormalModel(sensitivity=point.sensitivity.value, specificity=point.specificity.value),
        prevalence=outcome.request.prevalence or gathered.sample.prevalence,
    )
    start = outcome.made_at - timedelta(days=DAYS_BACK)
    rows = arrivals.since(engine, start, outcome.bundle.digest)
    moments, stat = [row.at for row in rows], [row.stat for row in rows]
    return (section(change, policy_of(settings, outcome.bundle).ranking, moments, stat, outcome.request.seed),)


def section(change: ThresholdChange, policy: RankingPolicy, moments: list[datetime], stat: list[bool], seed: int = 0) -> Section:
    """Order of arrival, the threshold before, and the proposed one, at the site's windows, as one table.

    `moments` and `stat` are the arrivals of the site; where they are too few, arrivals are drawn.
    """
    room = _room(change, moments, stat)
    active = replace(policy, stage=Stage.ACTIVE)
    found: list[Effect] = []
    for name, model in (("before", change.before), ("proposed", change.after)):
        rules = with_windows(active.with_thresholds(model.t_high, 0.0), policy.high / MINUTE, policy.neutral / MINUTE)
        tried = (Setting(name=FIFO, policy=in_order_of_arrival(rules)), Setting(name=f"{name}: {_said(model)}", policy=rules))
        effects = compare(replace(room, model=model), tried, replications=REPLICATIONS, seed=seed)
        found += effects if not found else effects[1:]
    header = (*words.EFFECT_HEADER, "all with pneumonia: mean turn-around")
    rows = tuple((*words.effect_row(effect), words.with_interval(effect.classes[SICK].mean)) for effect in found)
    return Section(
        title="Simulated effect",
        answers="R16",
        text=(*_assumed(room, moments), *words.warnings(room, found)),
        tables=(Table(caption=words.EFFECT_CAPTION, header=header, rows=rows),),
    )


def _room(change: ThresholdChange, moments: list[datetime], stat: list[bool]) -> Scenario:
    """One reading room for both thresholds, with as many readers as keep up."""
    enough = len(moments) >= MIN_ARRIVALS
    known = Known(arrived=np.array(minutes_of(list(moments))), stat=np.array(stat)) if enough else None
    room = Scenario(model=change.after, per_hour=RATE, days=10, known=known, reading_minutes=READING, prevalence=change.prevalence)
    return replace(room, readers=(max(1, math.ceil(room.load / MAX_UTILISATION)),))


def _said(model: BinormalModel) -> str:
    return f"sensitivity {model.sensitivity:.2f}, specificity {model.specificity:.2f}"


def _assumed(room: Scenario, moments: list[datetime]) -> tuple[str, ...]:
    """What the figures rest on."""
    traffic = f"{len(moments)} arrivals of the ledger" if room.known is not None else f"{RATE:g} drawn arrivals an hour"
    return (
        f"{words.SIMULATED} Assumed: {traffic}, {room.readers[0]} reader(s) day and night, {READING:g} minutes a study, "
        f"prevalence {room.prevalence:.0%}, the site's windows, stage active, load {room.load:.0%}. Thresholds are compared on "
        "the same studies, each on the binormal ROC curve through its operating point in this cohort; the proposed one is cross-fitted.",
        "Your own room: prioritizer simulate --from-ledger --readers N --reading-minutes M.",
    )
