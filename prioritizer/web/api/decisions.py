"""What decides the order, for programs: calibrations and the site's rules, with the same steps and refusals as on the pages.

A step says which activation, or which change of the rules, it was decided on (`shown`); where another is in force by then it is refused.
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field, JsonValue

from prioritizer.config import settings_override as rules
from prioritizer.db.decisions import activation as decisions_activation
from prioritizer.db.decisions import calibrations, settings_overrides
from prioritizer.db.decisions.activation import Activated, Decision
from prioritizer.db.in_force.settings import holding
from prioritizer.earlier_keys import with_earlier_keys
from prioritizer.web.api.documents import problems
from prioritizer.web.http.context import Context, RequestContext, Viewer
from prioritizer.web.pages.calibrations import Beside, Physicist, applying, beside

routes = APIRouter(prefix="/api", responses=problems())
Shown = Annotated[int | None, Query(ge=0, lt=2**31)]
"""What was in force when it was decided; without it the step is done whatever is."""
Number = Annotated[int, Field(ge=0, le=settings_overrides.LARGEST)]


class CalibrationOf(BaseModel):
    """One calibration of a bundle."""

    id: str
    state: str
    bundle_digest: str
    sha256: str
    method: str
    n: int
    events: int
    """Of the cases it was made on, those with pneumonia."""
    t_high: float | None
    """Studies are raised from this probability; absent where it is not what was stored."""
    t_low: float | None
    t_high_adults: float | None
    """That for adults, where they have a map of their own; `t_high` is then that for children."""
    t_low_adults: float | None
    fault: str
    verdict: str
    verdict_said: str
    made_at: datetime
    made_by: str
    approved_at: datetime | None
    approved_by: str | None
    activated_at: datetime | None
    activated_by: str | None
    activation: int | None


class Calibrations(BaseModel):
    """Every calibration, the newest first, and what is in force."""

    in_force: str
    """Its id; empty where none can be trusted."""
    activation: int
    fault: str
    calibrations: list[CalibrationOf]


DEPRECATED: dict[str, JsonValue] = {"deprecated": True}


class TookEffect(BaseModel):
    """What an activation did."""

    calibration: str
    before: str
    activation: int
    scored_again: int
    scored_anew: int = Field(json_schema_extra=DEPRECATED)
    """`scored_again`, by its name before 0.2."""
    moved: int
    published_again: int
    published_anew: int = Field(json_schema_extra=DEPRECATED)
    """`published_again`, by its name before 0.2."""
    unscored: int
    """Studies that lost every score, as unlike the training data."""
    left_out: int
    """Images left unscored as unlike the training data, which are to be scored now."""


class RulingOf(BaseModel):
    """One settings override above the configuration."""

    id: int
    state: str
    changes: dict[str, Any]
    reason: str
    fault: str
    effect: dict[str, Any]
    """As it was simulated when proposed; empty for readers in stage shadow."""
    proposed_at: datetime
    proposed_by: str
    approved_at: datetime | None
    approved_by: str | None
    activated_at: datetime | None
    activated_by: str | None
    ended_at: datetime | None
    ended_by: str | None


class SettingsDocument(BaseModel):
    """The site's rules."""

    configured: dict[str, Any]
    in_force: dict[str, Any]
    ruling: int | None
    """The one in force."""
    change: int
    """How often the rules were changed: what a step says it was shown."""
    fault: str
    rulings: list[RulingOf]


class RulesChanged(BaseModel):
    """What a decision on the rules did."""

    before: int | None
    after: int | None
    change: int
    moved: int
    retracted: int


class Reason(BaseModel):
    """Why."""

    reason: str = Field(default="", max_length=500, pattern=r"^[^\x00]*$")


NO_REASON = Reason()


def calibration_of(one: Beside) -> CalibrationOf:
    """A row for programs."""
    own = ("t_high", "t_low", "t_high_adults", "t_low_adults", "fault")
    values = {name: getattr(one.row, name) for name in CalibrationOf.model_fields if name not in own}
    adults = one.map.adults if one.map else None
    return CalibrationOf(
        **values,
        t_high=one.map.t_high if one.map else None,
        t_low=one.map.t_low if one.map else None,
        t_high_adults=adults.t_high if adults else None,
        t_low_adults=adults.t_low if adults else None,
        fault=one.fault,
    )


def took_effect(context: RequestContext, done: Activated) -> TookEffect:
    """What it did; the figures above the list are counted again."""
    context.forget()
    return TookEffect(**with_earlier_keys(asdict(done)))


@routes.get("/calibrations")
def show_calibrations(context: Context, person: Viewer) -> Calibrations:
    """Every calibration, and which is in force."""
    applies = applying(context)
    return Calibrations(
        in_force=applies.calibration.id if applies.calibration else "",
        activation=applies.activation,
        fault=applies.fault,
        calibrations=[calibration_of(beside(row)) for row in calibrations.listed(context.engine)],
    )


@routes.get("/calibrations/{name}", responses=problems(404))
def show_calibration(context: Context, person: Viewer, name: str) -> CalibrationOf:
    """One calibration."""
    return calibration_of(beside(calibrations.find(context.engine, name)))


@routes.post("/calibrations/rollback", responses=problems(404, 409))
def roll_back(context: Context, person: Physicist, shown: Shown = None, *, own: bool = False) -> TookEffect:
    """What applied before applies again, or with `own` the bundle's own."""
    policy = context.backend.policy()
    return took_effect(
        context, decisions_activation.roll_back(context.engine, person.name, policy, context.now, to_own=own, expected=shown)
    )


@routes.post("/calibrations/{name}/activate", responses=problems(404, 409))
def activate(context: Context, person: Physicist, name: str, why: Reason, shown: Shown = None) -> TookEffect:
    """Put it in force. `reason` is asked for where its report advises against it."""
    decision = Decision(
        who=person.name, second_person=context.backend.settings().calibration.second_person, against_advice=why.reason.strip()
    )
    policy = context.backend.policy()
    return took_effect(context, decisions_activation.activate(context.engine, name, decision, policy, context.now, expected=shown))


@routes.post("/calibrations/{name}/{step}", responses=problems(404, 409))
def decide(context: Context, person: Physicist, name: str, step: Literal["approve", "reject"], why: Reason) -> CalibrationOf:
    """Agree as a second person, or decide against it permanently."""
    if step == "approve":
        calibrations.approve(context.engine, name, person.name, context.now)
    else:
        calibrations.reject(context.engine, name, person.name, why.reason.strip(), context.now)
    return show_calibration(context, person, name)


@routes.get("/rules")
def show_rules(context: Context, person: Viewer) -> SettingsDocument:
    """What is configured, what is in force, and every settings override, the newest first."""
    holds, may = holding(context.engine, context.backend.policy()), context.shows_ai_to(person)
    return SettingsDocument(
        configured=rules.configured(context.backend.configured()),
        in_force=rules.values_of(holds.policy.ranking),
        ruling=holds.active.id if holds.active else None,
        change=holds.change,
        fault=holds.fault,
        rulings=[ruling_of(row, sees_effect=may) for row in settings_overrides.listed(context.engine)],
    )


def ruling_of(row: Any, *, sees_effect: bool) -> RulingOf:
    """A settings override for programs."""
    own = ("changes", "effect")
    values = {name: getattr(row, name) for name in RulingOf.model_fields if name not in own}
    return RulingOf(**values, changes={} if row.fault else dict(row.changes), effect=dict(row.effect) if sees_effect else {})


@routes.post("/rules/{step}", responses=problems(404, 409))
def change_rules(context: Context, person: Physicist, step: Literal["end", "back"], shown: Shown = None) -> RulesChanged:
    """The configuration alone holds again, or what held before."""
    work = settings_overrides.end if step == "end" else settings_overrides.back
    return changed(context, work(context.engine, context.backend.policy(), person.name, context.now, shown))


@routes.post("/rules/{number}/activate", responses=problems(404, 409))
def activate_ruling(context: Context, person: Physicist, number: Number, why: Reason = NO_REASON, shown: Shown = None) -> RulesChanged:
    """Put it in force in one transaction. `reason` is asked for where it leaves shadow against its acceptance report."""
    second = context.backend.settings().calibration.second_person
    decision = Decision(who=person.name, second_person=second, against_advice=why.reason)
    return changed(context, settings_overrides.activate(context.engine, context.backend.policy(), number, decision, context.now, shown))


@routes.post("/rules/{number}/{step}", responses=problems(404, 409))
def decide_ruling(
    context: Context, person: Physicist, number: Number, step: Literal["approve", "reject"], why: Reason, shown: Shown = None
) -> RulingOf:
    """Agree as a second person, or decide against it permanently."""
    if step == "approve":
        settings_overrides.approve(context.engine, context.backend.policy(), number, person.name, context.now, shown)
    else:
        settings_overrides.reject(context.engine, context.backend.policy(), number, person.name, why.reason, context.now, shown)
    return ruling_of(settings_overrides.find(context.engine, number), sees_effect=context.shows_ai_to(person))


def changed(context: RequestContext, done: settings_overrides.Done) -> RulesChanged:
    """What it did; the figures above the list are counted again."""
    context.forget()
    return RulesChanged(**{name: getattr(done, name) for name in RulesChanged.model_fields})
