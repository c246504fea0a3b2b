"""The verbs of the physicist: recalibrate on local cases, look at calibrations, activate and roll back."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prioritizer.calibration.maps import AgeGroup
from prioritizer.cli.exit_codes import out, print_json, talk, verb
from prioritizer.cli.options import AsJson, ConfigFile, ledger_of
from prioritizer.clock import utc_now
from prioritizer.earlier_keys import with_earlier_keys

if TYPE_CHECKING:
    import sqlalchemy as sa

    from prioritizer.config.policy import SitePolicy
    from prioritizer.config.settings import Settings
    from prioritizer.db.decisions.activation import Activated
    from prioritizer.db.decisions.calibrations import CalibrationRow
    from prioritizer.inference.bundle import Bundle

app = typer.Typer()
calibration = typer.Typer(help="Calibrations of this site: look at them, approve, activate, go back.", no_args_is_help=True)
app.add_typer(calibration, name="calibration")

Name = Annotated[str, typer.Argument(metavar="ID", help="Id of a calibration, or the end of it.")]
Who = Annotated[str, typer.Option("--as", help="Who does this; it is recorded.", show_default="the user signed in here")]


@app.command()
@verb
def recalibrate(
    cohort: Annotated[Path | None, typer.Option(help="Folder of 100 to 300 local cases with their labels.")] = None,
    labels: Annotated[Path | None, typer.Option(help="Label file, where it is not in the cohort's folder.")] = None,
    prevalence: Annotated[float | None, typer.Option(help="Share of pneumonia among the site's studies, 0 to 1.")] = None,
    unlabelled: Annotated[bool, typer.Option("--unlabelled", help="Use no labels: only move the mean to --prevalence.")] = False,
    label_noise: Annotated[float, typer.Option(help="Share of the positive labels that are false, 0 to 1.")] = 0.0,
    target_sensitivity: Annotated[float, typer.Option(help="Sensitivity at which the threshold is set.")] = 0.95,
    flags_per_day: Annotated[float | None, typer.Option(help="Studies that may be raised a day, instead of a sensitivity.")] = None,
    studies_per_day: Annotated[float | None, typer.Option(help="Studies a day; goes with --flags-per-day.")] = None,
    auc_floor: Annotated[float, typer.Option(help="ROC-AUC below which activating is advised against.")] = 0.75,
    ages: Annotated[AgeGroup | None, typer.Option(help="Fit the map for these alone. Default: each that the cohort carries.")] = None,
    ignore_scope: Annotated[bool, typer.Option("--ignore-scope", help="Use images outside the scope too: for evaluation only.")] = False,
    report: Annotated[Path | None, typer.Option(help="HTML file to write, with a JSON beside it. Default: in the state folder.")] = None,
    cache: Annotated[Path | None, typer.Option(help="Folder of the logits seen before. Default: in the state folder.")] = None,
    by: Annotated[str, typer.Option(help="Who prepares it; it is recorded.", show_default="the user signed in here")] = getpass.getuser(),
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Fit a local calibration and report on it. Makes a candidate; activates nothing. Exit 1 when the cohort carries none."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from prioritizer.calibration.operating_point import Wish
    from prioritizer.calibration.verdict import NOT
    from prioritizer.recalibration.outcome import RecalibrationRequest
    from prioritizer.recalibration.recalibrate import run

    engine, settings = ledger_of(config)
    request = RecalibrationRequest(
        cohort=cohort,
        labels=labels,
        unlabelled=unlabelled,
        prevalence=prevalence,
        label_noise=label_noise,
        wish=Wish(sensitivity=target_sensitivity, flags_per_day=flags_per_day, studies_per_day=studies_per_day),
        ages=ages,
        ignore_scope=ignore_scope,
        auc_floor=auc_floor,
        by=by,
        report=report,
        cache=cache,
    )
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=talk, transient=True) as progress:
        bar = progress.add_task("scoring the cohort", total=None)
        outcome, path = run(
            engine, settings, request, utc_now(),
            tick=lambda done, of: progress.update(bar, completed=done, total=of),
        )  # fmt: skip
    if as_json:
        from prioritizer.recalibration.report import facts

        print_json({"verdict": outcome.advice.word, "said": outcome.advice.said, "report": str(path), **facts(outcome)})
    else:
        out.print(f"{outcome.advice.word.upper()}: {outcome.advice.said}", style="bold", markup=False, highlight=False, soft_wrap=True)
        talk.print(f"report: {path}", markup=False, highlight=False, soft_wrap=True)
        if outcome.entered is not None:
            out.print(f"candidate {outcome.entered.id}", markup=False, highlight=False)
            first = f"Read the report, then: prioritizer calibration activate {outcome.entered.id}"
            against = "Read the report: it advises against activating this candidate, and says what would have to change."
            talk.print(against if outcome.advice.word == NOT else first, markup=False, soft_wrap=True)
    if outcome.entered is None:
        raise typer.Exit(1)


def _site(config: Path | None) -> tuple[sa.Engine, Settings, Bundle, SitePolicy]:
    """The ledger, the settings, the bundle and its policy."""
    from prioritizer.config.policy import policy_of
    from prioritizer.inference.bundle import open_bundle

    engine, settings = ledger_of(config)
    bundle = open_bundle(settings.model.bundle)
    return engine, settings, bundle, policy_of(settings, bundle)


@calibration.command("list")
@verb
def list_(config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Every calibration with its state, and the bundle's own."""
    from prioritizer.cli import print_calibrations
    from prioritizer.db.decisions import calibrations

    engine, _, bundle, policy = _site(config)
    rows, applies = calibrations.listed(engine), calibrations.applying(engine, policy)
    if as_json:
        print_json([*(print_calibrations.as_json(row) for row in rows), print_calibrations.own_as_json(bundle, applies)])
    else:
        print_calibrations.show_list(rows, bundle, applies, out)


def _described(engine: sa.Engine, name: str, bundle: Bundle, policy: SitePolicy) -> dict[str, Any]:
    """One calibration, the bundle's own included."""
    from prioritizer.cli import print_calibrations
    from prioritizer.db.decisions import calibrations

    if name in ("own", bundle.calibration.id):
        return print_calibrations.own_as_json(bundle, calibrations.applying(engine, policy))
    return print_calibrations.as_json(calibrations.find(engine, name))


@calibration.command()
@verb
def show(name: Name, config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Everything about one calibration; `own` is the bundle's own."""
    from prioritizer.cli import print_calibrations

    engine, _, bundle, policy = _site(config)
    told = _described(engine, name, bundle, policy)
    if as_json:
        print_json(told)
    else:
        print_calibrations.show_one(told, out)


@calibration.command()
@verb
def diff(a: Name, b: Name, config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Two calibrations beside each other: thresholds, and the probability at some logits; `own` is the bundle's own."""
    from prioritizer.cli import print_calibrations
    from prioritizer.db.decisions import calibrations

    engine, _, bundle, _ = _site(config)
    own = ("own", bundle.calibration.id)
    one, other = (bundle.calibration if name in own else calibrations.find(engine, name).calibration for name in (a, b))
    told = print_calibrations.difference(one, other)
    if as_json:
        print_json(told)
    else:
        print_calibrations.show_difference(told, out)


@calibration.command()
@verb
def approve(name: Name, who: Who = getpass.getuser(), config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Agree to a candidate that another person made."""
    from prioritizer.db.decisions import calibrations

    engine, _ = ledger_of(config)
    row = calibrations.find(engine, name)
    calibrations.approve(engine, row.id, who, utc_now())
    _say_row(calibrations.find(engine, row.id), f"approved by {who}", as_json=as_json)


@calibration.command()
@verb
def reject(
    name: Name,
    reason: Annotated[str, typer.Option(help="Why; it is recorded.")] = "",
    who: Who = getpass.getuser(),
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Decide against a candidate, permanently."""
    from prioritizer.db.decisions import calibrations

    engine, _ = ledger_of(config)
    row = calibrations.find(engine, name)
    calibrations.reject(engine, row.id, who, reason, utc_now())
    _say_row(calibrations.find(engine, row.id), "rejected", as_json=as_json)


@calibration.command()
@verb
def activate(
    name: Name,
    against_advice: Annotated[str, typer.Option(metavar="REASON", help="Why, although its report advises against it; recorded.")] = "",
    who: Who = getpass.getuser(),
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Put a calibration in force: every unread study is scored and placed again in that moment. No restart."""
    from prioritizer.db.decisions import activation, calibrations

    engine, settings, _, policy = _site(config)
    decision = activation.Decision(who=who, second_person=settings.calibration.second_person, against_advice=against_advice)
    row = calibrations.find(engine, name)
    _say_done(activation.activate(engine, row.id, decision, policy, utc_now()), as_json=as_json)


@calibration.command()
@verb
def rollback(
    own: Annotated[bool, typer.Option("--own", help="Straight to the bundle's own calibration.")] = False,
    who: Who = getpass.getuser(),
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Go back to what applied before the active calibration. Needs nobody's approval."""
    from prioritizer.db.decisions import activation

    engine, _, _, policy = _site(config)
    _say_done(activation.roll_back(engine, who, policy, utc_now(), to_own=own), as_json=as_json)


@calibration.command()
@verb
def threshold(
    t_high: Annotated[float | None, typer.Option(help="Raise from this probability.")] = None,
    target_sensitivity: Annotated[float | None, typer.Option(help="Or at this sensitivity on the bundle's own report films.")] = None,
    flags_per_day: Annotated[float | None, typer.Option(help="Or so that at most so many studies are raised a day here.")] = None,
    ages: Annotated[AgeGroup | None, typer.Option(help="Whose threshold, where children and adults have a map each.")] = None,
    who: Who = getpass.getuser(),
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Another threshold on the calibration that applies, as a candidate with its simulated effect. Activates nothing."""
    from prioritizer.calibration.threshold import ThresholdWish
    from prioritizer.cli import print_calibrations
    from prioritizer.recalibration.threshold_proposal import propose

    engine, settings = ledger_of(config)
    wish = ThresholdWish(probability=t_high, sensitivity=target_sensitivity, flags_per_day=flags_per_day, ages=ages)
    row = propose(engine, settings, wish, who, utc_now())
    if as_json:
        print_json(print_calibrations.as_json(row))
        return
    out.print(f"candidate {row.id}: {row.verdict_said}", markup=False, highlight=False, soft_wrap=True)
    talk.print(f"report, with the simulated effect: {row.report}", markup=False, highlight=False, soft_wrap=True)
    talk.print(f"Read it, then: prioritizer calibration activate {row.id}", markup=False, soft_wrap=True)


def _say_row(row: CalibrationRow, done: str, *, as_json: bool) -> None:
    from prioritizer.cli import print_calibrations

    if as_json:
        print_json(print_calibrations.as_json(row))
    else:
        talk.print(f"{row.id} {done}", markup=False, highlight=False)


def _say_done(done: Activated, *, as_json: bool) -> None:
    from dataclasses import asdict

    if as_json:
        print_json(with_earlier_keys(asdict(done)))
        return
    said = f"{done.calibration} applies now, in place of {done.before} (activation {done.activation}): {done.scored_again} unread studies"
    talk.print(f"{said} scored again, {done.moved} moved, {done.published_again} to be published again", markup=False, soft_wrap=True)
    if done.unscored:
        talk.print(f"{done.unscored} studies that are unlike the training data are left unscored now, in order of arrival", soft_wrap=True)
    if done.left_out:
        talk.print(f"{done.left_out} images that were left unscored as unlike the training data are to be scored now", soft_wrap=True)
