"""A threshold as a candidate: the map that applies, another threshold, a report with the simulated effect. Nothing takes effect here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import sqlalchemy as sa

from prioritizer.calibration.maps import AgeGroup, Calibration, as_document
from prioritizer.calibration.operating_point import Trade
from prioritizer.calibration.threshold import SeenHere, ThresholdWish, ages_meant, threshold_of, with_threshold
from prioritizer.calibration.verdict import CARE
from prioritizer.config.policy import policy_of
from prioritizer.config.settings import Settings
from prioritizer.daemon.settings_in_force import in_force_for
from prioritizer.db.activity import arrivals
from prioritizer.db.decisions import calibrations
from prioritizer.db.decisions.calibrations import CalibrationRow, CandidateVerdict
from prioritizer.db.in_force.calibration import digest_of, document_text
from prioritizer.errors import CalibrationChanged, ConfigError, NotFound
from prioritizer.file_scoring.upload import trade_of
from prioritizer.inference.bundle import Bundle, open_bundle
from prioritizer.queue_simulation.compare import FIFO, Effect, Setting, compare
from prioritizer.queue_simulation.simulate import in_order_of_arrival
from prioritizer.ranking.deadlines import Stage
from prioritizer.ranking.study_risk import risk_of_logits
from prioritizer.recalibration.effect import moved_last_week
from prioritizer.reports import page
from prioritizer.reports.page import Report, Section, Table
from prioritizer.reports.page import ReportVerdict as Shown
from prioritizer.simulation import wording as words
from prioritizer.simulation.site import DAYS_BACK, MAX_UTILISATION, RATE, REPLICATIONS, SimulationRequest, site_of

RULE = (
    "A threshold without new labels: nothing new is known of whether the map is right here, so it is never more than 'activate with care'."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposed:
    """A threshold beside the one in force, before anything is kept."""

    bundle: Bundle
    in_force: Calibration
    entered: Calibration
    """The candidate: the same maps, one of them with another threshold."""
    ages: AgeGroup | None
    """Whose threshold; None: everybody's."""
    activation: int
    how: str
    said: str
    made_at: datetime

    @property
    def before(self) -> Calibration:
        """The map in force that gets another threshold."""
        return self.in_force if self.ages is None else self.in_force.of_group(self.ages)

    @property
    def after(self) -> Calibration:
        """The same map with it."""
        return self.entered if self.ages is None else self.entered.of_group(self.ages)


def propose(
    engine: sa.Engine, settings: Settings, wish: ThresholdWish, by: str, now: datetime, *, expected: int | None = None
) -> CalibrationRow:
    """Enter the candidate, its report written before. Raises NotAllowed with what stands in the way, ModelError, CalibrationChanged."""
    found = proposed(engine, settings, wish, now)
    path = (settings.store.data / "recalibration" / f"{found.entered.id}.html").resolve()
    write(found, engine, settings, by, path)
    verdict = CandidateVerdict(word=CARE, said=found.said, report=str(path))
    activation = found.activation if expected is None else expected
    policy = policy_of(settings, found.bundle)
    return calibrations.add(engine, found.bundle.digest, found.entered, verdict, by, now, expected=(policy, activation))


def proposed(engine: sa.Engine, settings: Settings, wish: ThresholdWish, now: datetime) -> Proposed:
    """The threshold that is meant, and what is known of it."""
    bundle = open_bundle(settings.model.bundle)
    applies = calibrations.applying(engine, policy_of(settings, bundle))
    if applies.fault:
        raise CalibrationChanged(applies.fault)
    in_force = applies.calibration or bundle.calibration
    ages = ages_meant(wish, in_force)
    before = in_force if ages is None else in_force.of_group(ages)
    trade = trade_of(bundle, ages or "")
    t_high, how = threshold_of(wish, before, trade, seen_here(engine, bundle, in_force, ages, now))
    raised = with_threshold(before, t_high)
    made = replace(raised if ages is None else in_force.with_group(ages, raised), id="")
    name = f"threshold-{now:%Y%m%d}-{digest_of(document_text(bundle.digest, made) + now.isoformat())[:12]}"
    said = f"The map of {before.id}, raised from a probability of {t_high:.4f} instead of {before.t_high:.4f}: {how}."
    if trade is not None:
        said += " On the bundle's report films " + " instead of ".join(_at(trade, before, t) for t in (t_high, before.t_high)) + "."
    return Proposed(
        bundle=bundle,
        in_force=in_force,
        entered=replace(made, id=name),
        ages=ages,
        activation=applies.activation,
        how=how,
        said=said,
        made_at=now,
    )


def seen_here(engine: sa.Engine, bundle: Bundle, in_force: Calibration, ages: AgeGroup | None, now: datetime) -> SeenHere:
    """The logits at which the studies of the last days are raised by the calibration in force, and how many days they fill.

    With `ages` those of an age group alone.
    """
    rows = [row for row in arrivals.since(engine, now - timedelta(days=DAYS_BACK), bundle.digest) if row.logits]
    rows = [row for row in rows if ages is None or in_force.group_of(row.age_years) is ages]
    days = (now - rows[0].at) / timedelta(days=1) if rows else DAYS_BACK
    logits = np.array([_raised_at(in_force.for_age(row.age_years), row.logits) for row in rows], dtype=np.float64)
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
        tables=(
            Table(
                caption=f"The threshold for {found.ages}" if found.ages else "The threshold",
                header=("", f"in force: {before.id}", after.id),
                rows=rows,
            ),
        ),
    )
    sections = (
        what,
        *simulated(found, engine, in_force),
        *moved_last_week(found.in_force, found.entered, found.made_at, found.bundle, engine, in_force),
    )
    facts = {"before": as_document(found.in_force), "candidate": as_document(found.entered), "how": found.how, "by": by}
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
    request = SimulationRequest(from_ledger=True, days=DAYS_BACK, replications=REPLICATIONS)
    try:
        scenario, _, _ = site_of(settings, engine, request, found.made_at)
    except NotFound:
        request = SimulationRequest(rate=RATE, replications=REPLICATIONS)
        scenario, _, _ = site_of(settings, engine, request, found.made_at)
    request = replace(request, readers=max(1, math.ceil(scenario.load / MAX_UTILISATION)))
    effects: list[Effect] = []
    for name, whole, its in (("in force", found.in_force, found.before), ("proposed", found.entered, found.after)):
        scenario, policy, assumed = site_of(settings, engine, request, found.made_at, calibration=whole)
        active = replace(policy, stage=Stage.ACTIVE)
        if scenario.known is None or scenario.known.probabilities is None:
            trade = trade_of(found.bundle, found.ages or "")
            if trade is None:
                raise NotFound("too few arrivals with a score, and the bundle's card says nothing of other thresholds")
            at = scenario.model.threshold_at(_point(trade, its, its.t_high)[0])
            active = active.with_thresholds(at, min(active.t_low, at))
        tried = (
            Setting(name=FIFO, policy=in_order_of_arrival(active)),
            Setting(name=f"{name}: {its.t_high:.4f}", policy=active),
        )
        one = compare(scenario, tried, replications=REPLICATIONS, seed=0)
        effects += one if not effects else one[1:]
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
