"""The verbs of the reading room beside its pages: what was found, the board, who did what."""

from __future__ import annotations

import getpass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prioritizer.cli.earlier_names import keep_verb
from prioritizer.cli.exit_codes import out, print_json, talk, verb
from prioritizer.cli.options import AsJson, ConfigFile, Reader, in_force_of, ledger_of
from prioritizer.clock import utc_now
from prioritizer.study import ReaderFinding

if TYPE_CHECKING:
    from prioritizer.config.settings import Settings

app = typer.Typer()


@app.command()
@verb
def finding(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="Study UID, the end of it, or accession number.")],
    found: Annotated[ReaderFinding, typer.Argument(metavar="FINDING", help="What was found.")],
    note: Annotated[str, typer.Option(help="A line of text.")] = "",
    blind: Annotated[bool, typer.Option("--blind", help="Neither AI's result nor the order it gave was known.")] = False,
    reader: Reader = getpass.getuser(),
    config: ConfigFile = None,
) -> None:
    """Record a reader's finding of a study: present, absent, or unsure. A new one replaces the earlier one, which is kept as withdrawn."""
    from prioritizer.db.worklist import feedback, rows
    from prioritizer.ranking.deadlines import Stage

    engine, settings = in_force_of(config)
    ranked = not blind and settings.site.stage is not Stage.SHADOW
    feedback.say(engine, rows.find(engine, study).study_uid, reader, found, utc_now(), ranked=ranked, note=note)
    talk.print(f"finding {found}, recorded for {reader}")


keep_verb(app, "say", "finding", finding)


@app.command()
@verb
def dashboard(
    period: Annotated[str, typer.Argument(metavar="[PERIOD]", help="latest, or a month as 2026-11.")] = "latest",
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Turn-around beside order of arrival, what was raised and confirmed, drift, and the figures that left their range."""
    from prioritizer.daemon import dashboard_period

    engine, settings = ledger_of(config)
    now = utc_now()
    told = dashboard_period.board_of(engine, settings, _digest(settings), dashboard_period.period_of(period, settings, now), now)
    if as_json:
        print_json(told)
        return
    show_board(told)


keep_verb(app, "board", "dashboard", dashboard)


def _digest(settings: Settings) -> str:
    """The bundle's; empty where there is none, and then no drift is told."""
    from prioritizer.errors import ModelError
    from prioritizer.inference.bundle import open_bundle

    try:
        return open_bundle(settings.model.bundle).digest
    except ModelError:
        return ""


PASSED = {"skipped": "skipped", "passed_by": "passed by"}


def show_board(told: dict[str, Any]) -> None:
    """The board on a terminal."""
    from rich.text import Text

    out.print(Text(f"{told['first_day']} to {told['last_day']}: {told['arrived']} studies arrived, {told['read']} read", style="bold"))
    for alarm in told["alarms"]:
        out.print(Text(f"!! {alarm['said']}. {alarm['owner']}: {alarm['action']}.", style="bold red"), soft_wrap=True)
    _show_waits(told)
    for name in ("overdue", "raised", "not_scored"):
        out.print(Text(f"{name.replace('_', ' '):>12}  {_share(told[name])}"))
    passed = told["passed"]
    said = ", ".join(f"{passed[key]['raised']} raised and {passed[key]['others']} others {words}" for key, words in PASSED.items())
    out.print(Text(f"{'claims':>12}  {passed['claims']}; {said}"), soft_wrap=True)
    for name, figures in told["words"].items():
        said = ", ".join(f"{key} {_share(value)}" for key, value in figures.items())
        out.print(Text(f"{name:>12}  {said}"), soft_wrap=True)
    bands = [f"{one['spoken']} of {one['studies']} {name} ({one['present']} present)" for name, one in told["spoken"]["all"].items()]
    asked = f"asked for {told['asked']['asked']}, given {told['asked']['given']}"
    out.print(Text(f"{'spoken of':>12}  {', '.join(bands)}; {asked}"), soft_wrap=True)
    for one in told["drift"]:
        out.print(Text(f"{'drift':>12}  {one['of']}: index {one['value']:.3f}, by chance {one['by_chance']:.3f}"))


def _show_waits(told: dict[str, Any]) -> None:
    """Minutes to read, and minutes so far of those that nobody has read."""
    from rich.table import Table

    table = Table("", "n", "median", "p95", "longest", "median by arrival", "p95 by arrival", "longest by arrival", title="Minutes to read")
    for one in told["waits"]:
        figures = [one[f"{order}{figure}"] for order in ("", "fifo_") for figure in ("median", "p95", "longest")]
        table.add_row(one["group"], str(one["n"]), *(f"{value:.0f}" for value in figures))
    out.print(table)
    waiting = [(one["group"], one["n"], one["longest"]) for one in told["unread"]]
    earlier = told.get("earlier")
    if earlier and earlier["n"]:
        waiting.append(("from before these days", earlier["n"], earlier["longest"]))
    if waiting:
        table = Table("", "n", "longest so far", title="Minutes waited, not read yet")
        for group, count, longest in waiting:
            table.add_row(group, str(count), f"{longest:.0f}")
        out.print(table)


def _share(told: dict[str, Any]) -> str:
    if told["value"] is None:
        return told.get("why") or "none yet"
    said = " as said" if "why" in told else ""
    return f"{told['value']:.2f} ({told['low']:.2f} to {told['high']:.2f}; {told['hits']} of {told['of']}{said})"


@app.command()
@verb
def audit(
    actor: Annotated[str, typer.Option(help="What this person did.")] = "",
    kind: Annotated[str, typer.Option(help="Events of this kind.")] = "",
    study: Annotated[str, typer.Option(help="What happened to this study.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=100_000)] = 50,
    before: Annotated[int, typer.Option(min=0, help="Older than the entry with this id, as --json tells it.")] = 0,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Who did what, the newest first."""
    from dataclasses import asdict

    from rich.text import Text

    from prioritizer.db.audit import audit_log as ledger
    from prioritizer.db.audit.audit_log import AuditFilter
    from prioritizer.db.schema.events import Kind
    from prioritizer.db.worklist import rows

    if kind and kind not in list(Kind):
        raise typer.BadParameter(f"{kind!r} is none of {', '.join(sorted(Kind))}", param_hint="--kind")
    engine, _ = ledger_of(config)
    uid = rows.find(engine, study).study_uid if study else ""
    found = ledger.entries(engine, AuditFilter(actor=actor, kind=kind, study_uid=uid, before=before), limit)
    if as_json:
        print_json([asdict(entry) for entry in found])
        return
    for entry in found:
        about = f"  study {entry.study_uid}" if entry.study_uid else ""
        out.print(Text(f"{entry.at.astimezone():%Y-%m-%d %H:%M:%S}  {entry.who}: {entry.said}{about}"), soft_wrap=True)
