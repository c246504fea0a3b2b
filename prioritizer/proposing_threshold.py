"""A threshold as a candidate: the map that applies, another threshold, a report with the simulated effect. Nothing takes effect here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import sqlalchemy as sa

from prioritizer import simulation_words as words
from prioritizer.advice import CARE
from prioritizer.calibration import Calibration, as_document
from prioritizer.config import Settings
from prioritizer.db import arrivals, calibrations
from prioritizer.db.calibrations import Row, Verdict
from prioritizer.db.in_force import digest_of, document_text
from prioritizer.errors import CalibrationChanged, ConfigError, NotFound
from prioritizer.house_rules import policy_of
from prioritizer.inference.bundle import Bundle, open_bundle
from prioritizer.operating_point import Trade
from prioritizer.ranking import Stage
from prioritizer.reports import page
from prioritizer.reports.page import Report, Section, Table
from prioritizer.reports.page import Verdict as Shown
from prioritizer.ruled import in_force_for
from prioritizer.simulated_effect import BUSIEST, DAYS_BACK, RATE, REPLICATIONS, moved_last_week
from prioritizer.simulated_site import Request, site_of
from prioritizer.simulation import in_order_of_arrival
from prioritizer.simulation_figures import FIFO, Setting, compare
from prioritizer.study_risk import risk_of_logits
from prioritizer.threshold import SeenHere, ThresholdWish, threshold_of, with_threshold
from prioritizer.trying import trade_of

RULE = "A threshold without new labels: whether the map is right here is not known anew, so it is never more than 'activate with care'."


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposed:
    """A threshold beside the one in force, before anything is kept."""

    bundle: Bundle
    before: Calibration
    after: Calibration
    activation: int
    how: str
    said: str
    made_at: datetime


def propose(engine: sa.Engine, settings: Settings, wish: ThresholdWish, by: str, now: datetime, *, expected: int | None = None) -> Row:
    """Enter the candidate, its report written before. Raises NotAllowed with what stands in the way, ModelError, CalibrationChanged."""
    found = proposed(engine, settings, wish, now)
    path = (settings.store.data / "recalibration" / f"{found.after.id}.html").resolve()
    write(found, engine, settings, by, path)
    verdict = Verdict(word=CARE, said=found.said, report=str(path))
    activation = found.activation if expected is None else expected
    policy = policy_of(settings, found.bundle)
    return calibrations.add(engine, found.bundle.digest, found.after, verdict, by, now, expected=(policy, activation))


def proposed(engine: sa.Engine, settings: Settings, wish: ThresholdWish, now: datetime) -> Proposed:
    """The threshold that is meant, and what is known of it."""
    bundle = open_bundle(settings.model.bundle)
    applies = calibrations.applying(engine, policy_of(settings, bundle))
    if applies.fault:
        raise CalibrationChanged(applies.fault)
    before = applies.calibration or bundle.calibration
    trade = trade_of(bundle)
    t_high, how = threshold_of(wish, before, trade, seen_here(engine, bundle, before, now))
    made = replace(with_threshold(before, t_high), id="")
    name = f"threshold-{now:%Y%m%d}-{digest_of(document_text(bundle.digest, made) + now.isoformat())[:12]}"
    said = f"The map of {before.id}, raised from a probability of {t_high:.4f} instead of {before.t_high:.4f}: {how}."
    if trade is not None:
        said += " On the bundle's report films " + " instead of ".join(_at(trade, before, t) for t in (t_high, before.t_high)) + "."
    return Proposed(
        bundle=bundle, before=before, after=replace(made, id=name), activation=applies.activation, how=how, said=said, made_at=now
    )


def seen_here(engine: sa.Engine, bundle: Bundle, before: Calibration, now: datetime) -> SeenHere:
    """The logits at which the studies of the last days are raised by the calibration `before`, and how many days they fill."""
    rows = [row for row in arrivals.since(engine, now - timedelta(days=DAYS_BACK), bundle.digest) if row.logits]
    days = (now - rows[0].at) / timedelta(days=1) if rows else DAYS_BACK
    logits = np.array([_raised_at(before, row.logits) for row in rows], dtype=np.float64)
    return SeenHere(logits=logits, days=min(max(days, 1.0), DAYS_BACK))


def _raised_at(calibration: Calibration, logits: Sequence[float]) -> float:
    """The logit of one image whose probability is the risk of a study with these: of one image its own."""
    return logits[0] if len(logits) == 1 else calibration.logit_at(risk_of_logits(calibration, logits) or 0.0)


def _at(trade: Trade, calibration: Calibration, t_high: float) -> str:
    sensitivity, specificity = _point(trade, calibration, t_high)
    return f"sensitivity {sensitivity:.3f}, specificity {specificity:.3f}"


def _point(trade: Trade, calibration: Calibration, t_high: float) -> tuple[float, float]:
    """What the card says of a threshold; beyond its films everything or nothing is raised."""
    return trade.at(float(np.clip(calibration.logit_at(t_high), trade.logit[0], trade.logit[-1])))


def write(found: Proposed, engine: sa.Engine, settings: Settings, by: str, path: Path) -> Path:
    """The report: what it is, what it does to the list, who would have moved."""
    before, after = found.before, found.after
    in_force = in_force_for(engine, settings)
    rows: tuple[tuple[object, ...], ...] = (
        ("map", f"{before.method}, unchanged", f"{after.method}"),
        ("raised from a probability of", before.t_high, after.t_high),
        ("that is from a logit of", before.logit_at(before.t_high), after.logit_at(after.t_high)),
    )
    what = Section(
        title="What is proposed",
        text=(found.said, f"Proposed by {by}."),
        tables=(Table(caption="The threshold", header=("", f"in force: {before.id}", after.id), rows=rows),),
    )
    sections = (
        what,
        *simulated(found, engine, in_force),
        *moved_last_week(before, after, found.made_at, found.bundle, engine, in_force),
    )
    facts = {"before": as_document(before), "candidate": as_document(after), "how": found.how, "by": by}
    verdict = Shown(word=CARE, sentence=found.said, rule=RULE)
    return page.write(
        Report(title=f"Another threshold for {found.bundle.name}", made_at=found.made_at, verdict=verdict, sections=sections, facts=facts),
        path,
    )


def simulated(found: Proposed, engine: sa.Engine, settings: Settings) -> tuple[Section, ...]:
    """Order of arrival, the threshold in force and the proposed one on the same studies; why not, where it cannot be simulated."""
    try:
        return (_section(found, engine, settings),)
    except (ConfigError, NotFound) as error:
        return (Section(title="Simulated effect", answers="R16", text=(f"It cannot be simulated: {error}.",)),)


def _section(found: Proposed, engine: sa.Engine, settings: Settings) -> Section:
    request = Request(from_ledger=True, days=DAYS_BACK, replications=REPLICATIONS)
    try:
        scenario, policy, assumed = site_of(settings, engine, request, found.made_at)
    except NotFound:
        request = Request(rate=RATE, replications=REPLICATIONS)
        scenario, policy, assumed = site_of(settings, engine, request, found.made_at)
    readers = max(1, math.ceil(scenario.load / BUSIEST))
    if readers > 1:
        scenario, policy, assumed = site_of(settings, engine, replace(request, readers=readers), found.made_at)
    active = replace(policy, stage=Stage.ACTIVE)
    thresholds = found.before.t_high, found.after.t_high
    if scenario.known is None or scenario.known.probabilities is None:
        trade = trade_of(found.bundle)
        if trade is None:
            raise NotFound("too few arrivals with a score, and the bundle's card says nothing of other thresholds")
        first, second = (scenario.model.threshold_at(_point(trade, found.before, t_high)[0]) for t_high in thresholds)
        thresholds = first, second
    names = (f"in force: {found.before.t_high:.4f}", f"proposed: {found.after.t_high:.4f}")
    tried = [Setting(name=FIFO, policy=in_order_of_arrival(active))]
    tried += [
        Setting(name=name, policy=active.with_thresholds(t_high, min(active.t_low, t_high)))
        for name, t_high in zip(names, thresholds, strict=True)
    ]
    effects = compare(scenario, tried, replications=REPLICATIONS, seed=0)
    said = (f"{words.SIMULATED} The site's windows, stage active.", *words.warnings(scenario, effects))
    rows = tuple(words.effect_row(effect) for effect in effects)
    return Section(
        title="Simulated effect",
        answers="R16",
        text=(*said, *(words.buys(effect) for effect in effects[1:])),
        tables=(
            Table(caption=words.EFFECT_CAPTION, header=words.EFFECT_HEADER, rows=rows),
            Table(caption="What was assumed", header=("", ""), rows=assumed),
        ),
    )
