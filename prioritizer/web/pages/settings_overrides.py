"""The site's rules: what is configured, what people ruled above it, what is in force; and settings overrides, tried before they are saved.

Every form says which change of the rules it was shown; where something else is in force by then, the ledger refuses it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Form
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from prioritizer.access import May, Person
from prioritizer.config import settings_override as rules
from prioritizer.db.decisions import settings_overrides
from prioritizer.db.decisions.activation import Decision
from prioritizer.db.decisions.settings_overrides import Done, Proposal
from prioritizer.db.in_force.settings import SettingsOverrideRow, holding
from prioritizer.errors import NotAllowed, NotFound, SettingsOverrideUnfit
from prioritizer.ranking.deadlines import Stage
from prioritizer.web.http.context import Context, RequestContext, Text, Viewer, needs

routes = APIRouter(prefix="/rules")
Physicist = Annotated[Person, needs(May.CALIBRATE)]
ShownChange = Annotated[int, Form(ge=0, le=settings_overrides.LARGEST)]
DIGITS = 10
"""Of the largest number that a settings override may have."""


@routes.get("", response_class=HTMLResponse)
def show(context: Context, person: Viewer) -> HTMLResponse:
    """The rules in force, the form to propose others, candidates and history."""
    return page(context, person)


def page(context: RequestContext, person: Person, status: int = 200, **said: Any) -> HTMLResponse:
    """The page, with what was just done, tried, or stood in the way."""
    holds, configured = holding(context.engine, context.backend.policy()), rules.configured(context.backend.configured())
    in_force = rules.values_of(holds.policy.ranking)
    table = [
        (
            rules.NAMES[key],
            rules.value_in_words(key, configured[key]),
            rules.value_in_words(key, holds.changes[key]) if key in holds.changes else "",
            rules.value_in_words(key, in_force[key]),
        )
        for key in rules.KEYS
    ]
    rows = [(row, words_of(row)) for row in settings_overrides.listed(context.engine)]
    usual = {
        "holds": holds,
        "table": table,
        "configured": configured,
        "fields": FIELDS,
        "stages": list(Stage),
        "candidates": [(row, said) for row, said in rows if row.state == "CANDIDATE"],
        "past": [(row, said) for row, said in rows if row.state != "CANDIDATE"],
        "may": person.may(May.CALIBRATE),
        "sees": context.shows_ai_to(person),
        "second_person": context.backend.settings().calibration.second_person,
        "given": {},
        "reason": "",
        "most": rules.MAX_REASON,
        "effect": None,
        "step": "",
        "fault": "",
        "done": "",
    }
    return context.render("rules.html", status, person=person, **(usual | said))


FIELDS = (
    ("high_minutes", "Deadline of a raised study, minutes"),
    ("neutral_minutes", "Deadline of every other study, minutes"),
    ("low_minutes", "Deadline of a demoted study, minutes"),
    ("max_high_share", "Most that may be raised, 0 to 1"),
)


def words_of(row: SettingsOverrideRow) -> str:
    """What a settings override changes, in words, or why its document cannot be trusted."""
    return f"!! {row.fault}" if row.fault else rules.in_words(row.changes)


def given(
    stage: Text = "", high_minutes: Text = "", neutral_minutes: Text = "", low_minutes: Text = "", max_high_share: Text = ""
) -> dict[str, str]:
    """The values of the form; what is empty stays as configured."""
    found = {
        "stage": stage,
        "high_minutes": high_minutes,
        "neutral_minutes": neutral_minutes,
        "low_minutes": low_minutes,
        "max_high_share": max_high_share,
    }
    return {key: value.strip() for key, value in found.items() if value.strip()}


Given = Annotated[dict[str, str], Depends(given)]


def effect_rows(effect: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Each way of ordering: its name, its rules, and what they do."""
    return [
        (
            one["order"],
            one["rules"],
            *(_minutes(one[name]) for name in ("flagged", "others", "longest")),
            _with_interval(one["pneumonia_flagged"]),
            _share(one["raised"]),
            _share(one["overdue"]),
        )
        for one in effect.get("orders", ())
    ]


def _minutes(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}" if abs(value) >= 10 else f"{value:.1f}"


def _with_interval(told: Mapping[str, float | None]) -> str:
    if told["low"] is None:
        return _minutes(told["value"])
    return f"{_minutes(told['value'])} ({_minutes(told['low'])} to {_minutes(told['high'])})"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


@routes.post("/preview", response_class=HTMLResponse)
def preview(context: Context, person: Physicist, wanted: Given, reason: Text = "") -> HTMLResponse:
    """What it would do, simulated beside what is in force. Nothing is kept."""
    try:
        effect = context.backend.decisions.simulate(wanted, again=True)
    except SettingsOverrideUnfit as error:
        return page(context, person, 422, fault=str(error), given=wanted, reason=reason)
    if not effect["changes"]:
        said = "nothing differs from the configuration; to go back to it, end the settings override that is in force"
        return page(context, person, 422, fault=said, given=wanted, reason=reason)
    return page(
        context, person, effect=effect, rows=effect_rows(effect), tried=rules.in_words(effect["changes"]), given=wanted, reason=reason
    )


@routes.post("/{step}/preview", response_class=HTMLResponse)
def preview_step(context: Context, person: Physicist, step: Literal["end", "back"]) -> HTMLResponse:
    """What ending or going back would do, simulated beside what is in force. Nothing is changed."""
    policy = context.backend.policy()
    try:
        settings_overrides.active_of(holding(context.engine, policy))
        chosen = settings_overrides.before_the_active(context.engine, policy) if step == "back" else None
        effect = context.backend.decisions.simulate(chosen.changes if chosen else {}, again=True)
    except NotAllowed as error:
        return page(context, person, 409, fault=str(error))
    tried = f"settings override {chosen.id} again, {words_of(chosen)}" if chosen else "the configuration alone"
    return page(context, person, effect=effect, rows=effect_rows(effect), tried=tried, step=step)


@routes.post("/propose", response_class=HTMLResponse)
def propose(context: Context, person: Physicist, wanted: Given, shown: ShownChange, reason: Text = "") -> Response:
    """Keep it as a candidate, with the effect that was shown."""
    try:
        effect = context.backend.decisions.simulate(wanted, again=False)
        row = settings_overrides.propose(
            context.engine, context.backend.policy(), Proposal(wanted=wanted, reason=reason, effect=effect), person.name, context.now, shown
        )
    except NotAllowed as error:
        return page(context, person, 409, fault=str(error), given=wanted, reason=reason)
    return RedirectResponse(f"/rules/{row.id}", 303)


@routes.post("/end", response_class=HTMLResponse)
def end(context: Context, person: Physicist, shown: ShownChange) -> Response:
    """The configuration alone holds again."""
    return decided(
        context, person, lambda: settings_overrides.end(context.engine, context.backend.policy(), person.name, context.now, shown)
    )


@routes.post("/back", response_class=HTMLResponse)
def back(context: Context, person: Physicist, shown: ShownChange) -> Response:
    """What held before holds again."""
    return decided(
        context, person, lambda: settings_overrides.back(context.engine, context.backend.policy(), person.name, context.now, shown)
    )


@routes.get("/{number}", response_class=HTMLResponse)
def show_one(context: Context, person: Viewer, number: str) -> HTMLResponse:
    """One settings override: who did what, why, and what was simulated when it was proposed."""
    row = settings_overrides.find(context.engine, number_of(number))
    return context.render(
        "rule.html",
        person=person,
        row=row,
        what=words_of(row),
        holds=holding(context.engine, context.backend.policy()),
        effect=row.effect,
        rows=effect_rows(row.effect),
        may=person.may(May.CALIBRATE),
        leaves=leaves(context, row),
        sees=context.shows_ai_to(person),
        second_person=context.backend.settings().calibration.second_person,
    )


def leaves(context: RequestContext, row: SettingsOverrideRow) -> bool:
    """True for a settings override by which readers would begin to see AI's opinion now."""
    try:
        return not context.shows_ai and rules.over(context.backend.policy().ranking, row.changes).stage is not Stage.SHADOW
    except SettingsOverrideUnfit:
        return False


def number_of(text: str) -> int:
    """The number in an address. Raises NotFound for what is none, however long."""
    if not (text.isascii() and text.isdecimal() and len(text) <= DIGITS):
        raise NotFound("there is no settings override of this number")
    return int(text)


@routes.post("/{number}/approve", response_class=HTMLResponse)
def approve(context: Context, person: Physicist, number: str, shown: ShownChange) -> Response:
    """A second person agrees."""
    try:
        settings_overrides.approve(context.engine, context.backend.policy(), number_of(number), person.name, context.now, shown)
    except NotAllowed as error:
        return page(context, person, 409, fault=str(error))
    return RedirectResponse(f"/rules/{number_of(number)}", 303)


@routes.post("/{number}/reject", response_class=HTMLResponse)
def reject(context: Context, person: Physicist, number: str, shown: ShownChange, reason: Text = "") -> Response:
    """Decide against it, permanently."""
    try:
        settings_overrides.reject(context.engine, context.backend.policy(), number_of(number), person.name, reason, context.now, shown)
    except NotAllowed as error:
        return page(context, person, 409, fault=str(error))
    return RedirectResponse("/rules", 303)


@routes.post("/{number}/activate", response_class=HTMLResponse)
def activate(context: Context, person: Physicist, number: str, shown: ShownChange, against_advice: Text = "") -> Response:
    """Put it in force: every unread study is placed again by it in one transaction."""
    second = context.backend.settings().calibration.second_person
    decision = Decision(who=person.name, second_person=second, against_advice=against_advice)
    wanted = number_of(number)
    return decided(
        context, person, lambda: settings_overrides.activate(context.engine, context.backend.policy(), wanted, decision, context.now, shown)
    )


def decided(context: RequestContext, person: Person, work: Callable[[], Done]) -> Response:
    """Do what was decided, and show what it did or what stood in the way."""
    try:
        done = work()
    except NotAllowed as error:
        return page(context, person, 409, fault=str(error))
    context.forget()
    after = f"Settings override {done.after}" if done.after is not None else "The configuration alone"
    more = f" {done.retracted} results that waited are not sent." if done.retracted else ""
    return page(context, person, done=f"{after} is in force (change {done.change}): {done.moved} unread studies moved.{more}")
