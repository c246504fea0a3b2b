"""Who would move: studies that arrived, ordered by the calibration before and by a candidate, as if all were on one list."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from prioritizer.calibration.maps import Calibration
from prioritizer.ranking import deadlines
from prioritizer.ranking.deadlines import Band, RankingPolicy, Stage, Standing
from prioritizer.ranking.study_risk import risk_of_logits
from prioritizer.study import AIState, Probability


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A study that was scored, with the logits of its images."""

    study_uid: str
    at: datetime
    logits: tuple[float, ...]
    age_years: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """One study under both calibrations."""

    study_uid: str
    at: datetime
    probabilities: tuple[float, float]
    bands: tuple[Band, Band]
    overtakes: int
    """Studies that it newly stands before, less those that newly stand before it."""


def moves(known: Sequence[Listed], before: Calibration, after: Calibration, policy: RankingPolicy) -> list[Move]:
    """Every study whose place changes, the furthest first. STAT studies move by no calibration and are not asked for.

    The site's windows, stage active, raising not suspended: what the calibration does, whatever the site's stage makes of it today.
    """
    if not known:
        return []
    active = replace(policy, stage=Stage.ACTIVE)
    orders, bands, chances = [], [], []
    for calibration in (before, after):
        risks = [risk_of_logits(calibration.for_age(one.age_years), one.logits) or 0.0 for one in known]
        rules = active.with_thresholds_of(calibration)
        standings = [
            Standing(
                study_uid=one.study_uid,
                first_received_at=one.at,
                ai_state=AIState.SCORED,
                risk=Probability(risk),
                age_years=one.age_years,
            )
            for one, risk in zip(known, risks, strict=True)
        ]
        places = [deadlines.place(standing, rules) for standing in standings]
        keys = [deadlines.sort_key(standing, place.due_at) for standing, place in zip(standings, places, strict=True)]
        orders.append({index: rank for rank, index in enumerate(sorted(range(len(known)), key=keys.__getitem__))})
        bands.append([place.band for place in places])
        chances.append(risks)
    found = [
        Move(
            study_uid=one.study_uid,
            at=one.at,
            probabilities=(chances[0][index], chances[1][index]),
            bands=(bands[0][index], bands[1][index]),
            overtakes=orders[0][index] - orders[1][index],
        )
        for index, one in enumerate(known)
    ]
    return sorted((move for move in found if move.overtakes), key=lambda move: (-abs(move.overtakes), move.at))


@dataclass(frozen=True, slots=True, kw_only=True)
class Shift:
    """One open study under two sets of rules; places count from 1."""

    study_uid: str
    before: int
    after: int
    reason: str
    """Of the new place."""


def shifts(
    standings: Sequence[Standing],
    before: RankingPolicy,
    after: RankingPolicy,
    *,
    suspended: tuple[bool, bool] = (False, False),
    then: Sequence[Standing] | None = None,
) -> list[Shift]:
    """Every open study that would stand elsewhere by the rules `after`, the furthest first. Stages are as the rules have them.

    `then` is the same studies, in the same order, as another calibration would judge them; None where it stays.
    """
    places, orders = [], []
    for rules, held, known in ((before, suspended[0], standings), (after, suspended[1], standings if then is None else then)):
        found = [deadlines.place(standing, rules, high_suspended=held) for standing in known]
        keys = [deadlines.sort_key(standing, place.due_at) for standing, place in zip(known, found, strict=True)]
        orders.append({index: rank for rank, index in enumerate(sorted(range(len(keys)), key=keys.__getitem__), start=1)})
        places.append(found)
    moved = [
        Shift(study_uid=one.study_uid, before=orders[0][index], after=orders[1][index], reason=places[1][index].reason)
        for index, one in enumerate(standings)
        if orders[0][index] != orders[1][index]
    ]
    return sorted(moved, key=lambda shift: (-abs(shift.before - shift.after), shift.after))
