"""The verbs of the site's rules: stage, windows and the share raised, ruled by people above the configuration."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prioritizer.cli.earlier_names import keep_group
from prioritizer.cli.exit_codes import out, print_json, talk, verb
from prioritizer.cli.options import AsJson, ConfigFile, ledger_of, rules_of
from prioritizer.clock import utc_now
from prioritizer.ranking.deadlines import Stage

if TYPE_CHECKING:
    from collections.abc import Mapping

    import sqlalchemy as sa

    from prioritizer.config.policy import SitePolicy
    from prioritizer.config.settings import Settings
    from prioritizer.db.decisions.settings_overrides import Done

app = typer.Typer()
overrides = typer.Typer(
    help="Settings overrides, above the configuration: propose with the simulated effect, approve, activate, go back.", no_args_is_help=True
)
app.add_typer(overrides, name="overrides")

Number = Annotated[int, typer.Argument(metavar="NUMBER", help="Number of a settings override, as `overrides show` lists it.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only simulate: nothing is changed.")]
Who = Annotated[str, typer.Option("--as", help="Who does this; it is recorded.", show_default="the user signed in here")]


def _site(config: Path | None) -> tuple[sa.Engine, Settings, SitePolicy]:
    """The ledger, the configuration and its rules."""
    engine, settings = ledger_of(config)
    return engine, settings, rules_of(settings)


@overrides.command()
@verb
def show(
    number: Annotated[int | None, typer.Argument(metavar="[NUMBER]", help="One settings override, with its simulated effect.")] = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """What is configured, what is overridden, what is in force, and every settings override; or one of them."""
    from prioritizer.cli import print_settings_overrides
    from prioritizer.db.decisions import settings_overrides
    from prioritizer.db.in_force.settings import holding

    engine, settings, policy = _site(config)
    if number is not None:
        row = settings_overrides.find(engine, number)
        print_json(print_settings_overrides.as_json(row)) if as_json else print_settings_overrides.show_one(row, out)
        return
    holds, rows = holding(engine, policy), settings_overrides.listed(engine)
    if as_json:
        print_json(
            print_settings_overrides.in_force_as_json(settings, holds)
            | {"rulings": [print_settings_overrides.as_json(row) for row in rows]}
        )
    else:
        print_settings_overrides.show_list(settings, holds, rows, out)


@overrides.command()
@verb
def propose(
    reason: Annotated[str, typer.Option(help="Why; it is recorded. Needed unless --dry-run.")] = "",
    stage: Annotated[Stage | None, typer.Option(help="shadow, pilot or active.", show_default="as configured")] = None,
    high_minutes: Annotated[float | None, typer.Option(help="Deadline of a raised study.", show_default="as configured")] = None,
    neutral_minutes: Annotated[float | None, typer.Option(help="Deadline of every other study.", show_default="as configured")] = None,
    low_minutes: Annotated[float | None, typer.Option(help="Deadline of a demoted study.", show_default="as configured")] = None,
    max_high_share: Annotated[float | None, typer.Option(help="Most that may be raised, 0 to 1.", show_default="as configured")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only simulate: nothing is kept.")] = False,
    who: Who = getpass.getuser(),
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Simulate a settings override beside the rules in force, and keep it as a candidate. What is not given stays as configured."""
    from prioritizer.cli import print_settings_overrides
    from prioritizer.db.decisions import settings_overrides
    from prioritizer.db.in_force.settings import holding
    from prioritizer.simulation.settings_effect import effect_of

    engine, settings, policy = _site(config)
    given = {
        "stage": stage,
        "high_minutes": high_minutes,
        "neutral_minutes": neutral_minutes,
        "low_minutes": low_minutes,
        "max_high_share": max_high_share,
    }
    wanted = {key: str(value) if key == "stage" else value for key, value in given.items() if value is not None}
    shown = holding(engine, policy).change
    if dry_run:
        _say_effect(settings, engine, wanted, as_json=as_json)
        return
    effect = effect_of(settings, engine, wanted, utc_now())
    proposal = settings_overrides.Proposal(wanted=wanted, reason=reason, effect=effect)
    row = settings_overrides.propose(engine, policy, proposal, who, utc_now(), shown)
    if as_json:
        print_json(print_settings_overrides.as_json(row))
        return
    print_settings_overrides.show_one(row, out)
    second = f"another person: prioritizer overrides approve {row.id}; then " if settings.calibration.second_person else ""
    talk.print(f"A candidate; nothing is changed yet. Next, {second}prioritizer overrides activate {row.id}", markup=False, soft_wrap=True)


@overrides.command()
@verb
def approve(number: Number, who: Who = getpass.getuser(), config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Agree to a candidate that another person proposed."""
    from prioritizer.db.decisions import settings_overrides

    engine, _, policy = _site(config)
    settings_overrides.approve(engine, policy, number, who, utc_now())
    _say_row(engine, number, f"approved by {who}", as_json=as_json)


@overrides.command()
@verb
def reject(
    number: Number,
    reason: Annotated[str, typer.Option(help="Why; it is recorded.")] = "",
    who: Who = getpass.getuser(),
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Decide against a candidate, permanently."""
    from prioritizer.db.decisions import settings_overrides

    engine, _, policy = _site(config)
    settings_overrides.reject(engine, policy, number, who, reason, utc_now())
    _say_row(engine, number, f"rejected by {who}", as_json=as_json)


@overrides.command()
@verb
def activate(
    number: Number,
    against_advice: Annotated[str, typer.Option(metavar="REASON", help="Why, although its acceptance report advises against it.")] = "",
    who: Who = getpass.getuser(),
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Put a candidate in force: every unread study is placed again in that moment. No restart."""
    from prioritizer.db.decisions import settings_overrides
    from prioritizer.db.decisions.activation import Decision

    engine, settings, policy = _site(config)
    decision = Decision(who=who, second_person=settings.calibration.second_person, against_advice=against_advice)
    _say_done(settings_overrides.activate(engine, policy, number, decision, utc_now()), as_json=as_json)


@overrides.command()
@verb
def end(dry_run: DryRun = False, who: Who = getpass.getuser(), config: ConfigFile = None, as_json: AsJson = False) -> None:
    """End the settings override in force: the configuration alone holds again. Needs nobody's approval."""
    from prioritizer.db.decisions import settings_overrides
    from prioritizer.db.in_force.settings import holding

    engine, settings, policy = _site(config)
    if dry_run:
        settings_overrides.active_of(holding(engine, policy))
        _say_effect(settings, engine, {}, as_json=as_json)
        return
    _say_done(settings_overrides.end(engine, policy, who, utc_now()), as_json=as_json)


@overrides.command()
@verb
def rollback(dry_run: DryRun = False, who: Who = getpass.getuser(), config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Go back to what held before the settings override in force: the one before it, or the configuration. Needs nobody's approval."""
    from prioritizer.db.decisions import settings_overrides

    engine, settings, policy = _site(config)
    if dry_run:
        chosen = settings_overrides.before_the_active(engine, policy)
        _say_effect(settings, engine, chosen.changes if chosen else {}, as_json=as_json)
        return
    _say_done(settings_overrides.back(engine, policy, who, utc_now()), as_json=as_json)


def _say_effect(settings: Settings, engine: sa.Engine, changes: Mapping[str, Any], *, as_json: bool) -> None:
    from prioritizer.cli import print_settings_overrides
    from prioritizer.simulation.settings_effect import effect_of

    effect = effect_of(settings, engine, changes, utc_now())
    print_json(effect) if as_json else print_settings_overrides.show_effect(effect, out)


def _say_row(engine: sa.Engine, number: int, done: str, *, as_json: bool) -> None:
    from prioritizer.cli import print_settings_overrides
    from prioritizer.db.decisions import settings_overrides

    if as_json:
        print_json(print_settings_overrides.as_json(settings_overrides.find(engine, number)))
    else:
        talk.print(f"settings override {number} {done}", markup=False, highlight=False)


def _say_done(done: Done, *, as_json: bool) -> None:
    from dataclasses import asdict

    if as_json:
        print_json(asdict(done))
        return
    after, before = (
        f"settings override {number}" if number is not None else "the configuration alone" for number in (done.after, done.before)
    )
    more = f"; {done.retracted} results that waited are not sent" if done.retracted else ""
    said = f"{after} holds now, in place of {before} (change {done.change}): {done.moved} unread studies moved{more}"
    talk.print(said, markup=False, highlight=False, soft_wrap=True)


keep_group(app, "rules", "overrides", overrides, {"back": "rollback"})
