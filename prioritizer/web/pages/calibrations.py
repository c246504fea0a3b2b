"""Calibrations of the site: compare, approve, activate, reject, go back. Making one from local cases is a verb of the command line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Form
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse, Response

from prioritizer.access import May, Person
from prioritizer.calibration.maps import AgeGroup, Calibration
from prioritizer.calibration.threshold import ThresholdWish
from prioritizer.db.decisions import activation as decisions_activation
from prioritizer.db.decisions import calibrations
from prioritizer.db.decisions.activation import Decision
from prioritizer.db.decisions.calibrations import CalibrationRow
from prioritizer.db.decisions.what_if import places_by
from prioritizer.db.in_force.calibration import PolicyInForce
from prioritizer.errors import CalibrationChanged, ModelError, NotAllowed, NotFound
from prioritizer.ranking import moves
from prioritizer.states import CalibrationState
from prioritizer.web.http.context import Context, RequestContext, Text, Viewer, needs

MAX_MOVED = 20
"""Studies that are told one by one, those that move furthest."""
routes = APIRouter(prefix="/calibrations")
Physicist = Annotated[Person, needs(May.CALIBRATE)]
NowInForce = Annotated[int, Form(alias="shown", ge=0, lt=2**31)]
Whose = Annotated[AgeGroup | None, Form()]
"""Whose threshold, where children and adults have a map each."""
ShownActivation = Annotated[int | None, Form(ge=0, lt=2**31)]
"""The activation that the form was shown; a program that says none decides on whatever is in force."""
LOGITS = (-6.0, -4.0, -2.0, -1.0, 0.0, 1.0, 2.0, 4.0, 6.0)
WITHIN = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox"
"""A report is a page of its own, made by the recalibration: it is shown without any right to run or to ask."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """A calibration beside the one in force."""

    row: CalibrationRow
    map: Calibration | None
    """None where it is not what was stored."""
    fault: str = ""
    has_report: bool = False


def applying(context: RequestContext) -> PolicyInForce:
    """What is in force."""
    return calibrations.applying(context.engine, context.backend.policy())


def beside(row: CalibrationRow) -> Beside:
    """A row with its map, where that is the one that was stored."""
    has_report = bool(row.report) and Path(row.report).suffix == ".html" and Path(row.report).is_file()
    try:
        return Beside(row=row, map=row.calibration, has_report=has_report)
    except CalibrationChanged as error:
        return Beside(row=row, map=None, fault=str(error), has_report=has_report)


@routes.get("", response_class=HTMLResponse)
def show(context: Context, person: Viewer) -> HTMLResponse:
    """Every calibration, the newest first, and what is in force."""
    return listed(context, person)


def listed(context: RequestContext, person: Person, status: int = 200, **said: Any) -> HTMLResponse:
    """The list, with what was just done or tried, or what stood in the way."""
    applies, own = applying(context), context.backend.policy().own
    return context.render(
        "calibrations.html",
        status,
        person=person,
        rows=[beside(row) for row in calibrations.listed(context.engine)],
        applies=applies,
        own=own,
        own_active=own is not None and applies.calibration == own,
        digest=context.backend.policy().bundle_digest,
        may=person.may(May.CALIBRATE),
        second_person=context.backend.settings().calibration.second_person,
        back=back_names(context),
        **({"fault": "", "done": "", "effect": None} | said),
    )


def back_names(context: RequestContext) -> list[tuple[str, str]]:
    """The ways back from what is active: what the form says of each, and what it leads to. None while the bundle's own applies."""
    own = context.backend.policy().own
    try:
        before = decisions_activation.goes_back_to(context.engine, context.backend.policy())
    except NotAllowed:
        return []
    ways = [("", before.id)] if before is not None else []
    return [*ways, ("yes", f"the bundle's own, {own.id}" if own else "the bundle's own")]


def effect_of(context: RequestContext, other: Calibration) -> dict[str, Any]:
    """Which open studies would stand elsewhere at this moment, and how many would be raised. Nothing is written."""
    found = places_by(context.engine, context.backend.policy(), other)
    held = (found.suspended_before, found.suspended_after)
    moved = moves.shifts(found.standings, found.before, found.after, suspended=held, then=found.then)
    return {
        "open": len(found.standings),
        "raised": found.raised,
        "moved": len(moved),
        "moves": moved[:MAX_MOVED],
        "stage": found.after.stage,
        "suspends": found.suspended_after and not found.suspended_before,
        "suspended": found.suspended_after,
    }


def may_apply(context: RequestContext, one: Beside) -> bool:
    """True for a calibration that could be put in force here."""
    policy = context.backend.policy()
    could = one.row.state in (CalibrationState.CANDIDATE, CalibrationState.RETIRED)
    return could and policy.own is not None and one.row.bundle_digest == policy.bundle_digest


@routes.get("/{name}", response_class=HTMLResponse)
def show_one(context: Context, person: Viewer, name: str) -> HTMLResponse:
    """One calibration beside the one in force: maps, thresholds, verdict."""
    found, applies = beside(calibrations.find(context.engine, name)), applying(context)
    now = applies.calibration
    both = [one for one in (now, found.map) if one is not None]
    groups = next((one.groups for one in both if one.groups), ())
    tables = [(str(group), [one.of_group(group) for one in both]) for group in groups] or [("", both)]
    return context.render(
        "calibration.html",
        person=person,
        one=found,
        now=now,
        activation=applies.activation,
        tables=[
            (
                group,
                [one.t_high for one in maps],
                [one.logit_at(one.t_high) for one in maps],
                [(logit, [one.probability(logit) for one in maps]) for logit in LOGITS],
            )
            for group, maps in tables
        ],
        may=person.may(May.CALIBRATE),
        second_person=context.backend.settings().calibration.second_person,
        advised_against=found.row.verdict == calibrations.ADVISED_AGAINST,
        effect=effect_of(context, found.map)
        if found.map is not None and context.shows_ai_to(person) and may_apply(context, found)
        else None,
    )


@routes.get("/{name}/report")
def report(context: Context, person: Physicist, name: str) -> Response:
    """The report of the recalibration as it was written; it names studies and what AI makes of them."""
    found = beside(calibrations.find(context.engine, name))
    if not found.has_report:
        raise NotFound(f"the report of {found.row.id} is not on this machine: {found.row.report or 'none was written'}")
    return FileResponse(found.row.report, media_type="text/html", headers={"Content-Security-Policy": WITHIN})


@routes.post("/threshold", response_class=HTMLResponse)
def threshold(
    context: Context,
    person: Physicist,
    shown: NowInForce,
    probability: Text = "",
    sensitivity: Text = "",
    flags_per_day: Text = "",
    ages: Whose = None,
) -> Response:
    """Another threshold on the calibration in force, as a candidate with its simulated effect in its report."""
    try:
        wish = ThresholdWish(
            probability=_number(probability), sensitivity=_number(sensitivity), flags_per_day=_number(flags_per_day), ages=ages
        )
        name = context.backend.decisions.propose_threshold(wish, person.name, shown)
    except (NotAllowed, ModelError) as error:
        return listed(context, person, 409, fault=str(error))
    return RedirectResponse(f"/calibrations/{name}", 303)


def _number(text: str) -> float | None:
    """A number of the form; none where nothing was written. Raises NotAllowed."""
    if not text.strip():
        return None
    try:
        return float(text)
    except ValueError as error:
        raise NotAllowed(f"{text.strip()[:20]!r} is no number") from error


@routes.post("/rollback/preview", response_class=HTMLResponse)
def preview_back(context: Context, person: Physicist, own: Text = "") -> HTMLResponse:
    """What going back would do, beside what is in force. Nothing is changed."""
    policy = context.backend.policy()
    try:
        chosen = decisions_activation.goes_back_to(context.engine, policy, to_own=own == "yes")
        other = chosen.calibration if chosen is not None else policy.own
    except (NotAllowed, CalibrationChanged) as error:
        return listed(context, person, 409, fault=str(error))
    if other is None:
        return listed(context, person, 409, fault="no bundle serves: what going back would do cannot be told")
    return listed(context, person, effect=effect_of(context, other), tried=other, to_own="yes" if chosen is None else "")


@routes.post("/rollback", response_class=HTMLResponse)
def roll_back(context: Context, person: Physicist, own: Text = "", shown: ShownActivation = None) -> Response:
    """What applied before applies again, or the bundle's own."""
    try:
        decisions_activation.roll_back(
            context.engine, person.name, context.backend.policy(), context.now, to_own=own == "yes", expected=shown
        )
    except NotAllowed as error:
        return listed(context, person, 409, fault=str(error))
    context.forget()
    return RedirectResponse("/calibrations", 303)


@routes.post("/{name}/approve")
def approve(context: Context, person: Physicist, name: str) -> Response:
    """A second person agrees."""
    calibrations.approve(context.engine, name, person.name, context.now)
    return RedirectResponse(f"/calibrations/{name}", 303)


@routes.post("/{name}/reject")
def reject(context: Context, person: Physicist, name: str, reason: Text = "") -> Response:
    """Decide against it, permanently."""
    calibrations.reject(context.engine, name, person.name, reason.strip(), context.now)
    return RedirectResponse("/calibrations", 303)


@routes.post("/{name}/activate", response_class=HTMLResponse)
def activate(context: Context, person: Physicist, name: str, against_advice: Text = "", shown: ShownActivation = None) -> Response:
    """Put it in force: every unread study is scored and placed again by it in one transaction."""
    decision = Decision(
        who=person.name, second_person=context.backend.settings().calibration.second_person, against_advice=against_advice.strip()
    )
    try:
        done = decisions_activation.activate(context.engine, name, decision, context.backend.policy(), context.now, expected=shown)
    except NotAllowed as error:
        return listed(context, person, 409, fault=str(error))
    context.forget()
    said = f"{done.calibration} is in force (activation {done.activation}): {done.scored_again} studies scored again, {done.moved} moved."
    if done.unscored:
        said += f" {done.unscored} studies that are unlike the training data are left unscored now, in order of arrival."
    if done.left_out:
        said += f" {done.left_out} images that were left unscored as unlike the training data are to be scored now."
    return listed(context, person, done=said)
