"""The verb `simulate`: what windows and thresholds would do to the waits, before they are set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from prioritizer.cli.exit_codes import out, print_json, talk, verb
from prioritizer.cli.options import AsJson, ConfigFile, in_force_of, settings_of
from prioritizer.clock import utc_now

app = typer.Typer()


@app.command()
@verb
def simulate(
    rate: Annotated[float | None, typer.Option(help="Studies an hour, averaged over the day.")] = None,
    arrivals: Annotated[Path | None, typer.Option(help="CSV with arrived_at (ISO or minutes); stat, label, probability if known.")] = None,
    from_ledger: Annotated[bool, typer.Option("--from-ledger", help="The arrivals and probabilities of this site's last --days.")] = False,
    by_hour: Annotated[str, typer.Option(metavar="N,N,...", help="24 relative rates from midnight on; goes with --rate.")] = "",
    days: Annotated[float, typer.Option(help="Days of each replication; with --from-ledger, days back.")] = 10,
    readers: Annotated[int, typer.Option(help="Readers at work.")] = 1,
    open_hours: Annotated[str, typer.Option("--open", metavar="H-H", help="Hours of reading, for example 7-19. Default: all.")] = "",
    reading_minutes: Annotated[float, typer.Option(help="Minutes that a study takes to read, on average.")] = 4.0,
    reading_cv: Annotated[float, typer.Option(help="Standard deviation of the reading time over its mean.")] = 0.6,
    prevalence: Annotated[float | None, typer.Option(help="Share of pneumonia among the studies.", show_default="0.1")] = None,
    sensitivity: Annotated[float | None, typer.Option(help="Of the model at its threshold.", show_default="its card's")] = None,
    specificity: Annotated[float | None, typer.Option(help="Of the model at its threshold.", show_default="its card's")] = None,
    at_sensitivity: Annotated[list[float] | None, typer.Option(help="Try the threshold of this sensitivity too. Repeatable.")] = None,
    t_high: Annotated[list[float] | None, typer.Option(help="With known probabilities: try this threshold too. Repeatable.")] = None,
    window: Annotated[
        list[str] | None, typer.Option(metavar="HIGH/NEUTRAL", help="Minutes, e.g. 30/120. Repeatable.", show_default="the site's")
    ] = None,
    stat_share: Annotated[float, typer.Option(help="Share of STAT studies, where it is not known.")] = 0.05,
    not_scored_share: Annotated[float, typer.Option(help="Share of studies that the model does not score.")] = 0.05,
    ai_minutes: Annotated[float, typer.Option(help="Minutes from arrival to score.")] = 0.5,
    replications: Annotated[int, typer.Option(help="Independent repetitions; the intervals are over them.")] = 10,
    seed: Annotated[int, typer.Option(help="Seed: the same figures again.")] = 0,
    report: Annotated[Path | None, typer.Option(help="HTML file to write, with a JSON beside it.")] = None,
    csv: Annotated[Path | None, typer.Option(help="CSV file to write: one line a class and order.")] = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """What the windows and the threshold buy and cost in minutes, against order of arrival. Changes nothing."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from prioritizer.daemon.without_ledger import settings_at
    from prioritizer.simulation import wording
    from prioritizer.simulation.run import run
    from prioritizer.simulation.site import SimulationRequest

    engine, settings = in_force_of(config) if from_ledger else (None, settings_at(settings_of(config)[0]))
    request = SimulationRequest(
        rate=rate, file=arrivals, from_ledger=from_ledger, by_hour=_numbers(by_hour, ",", "--by-hour"), days=days, readers=readers,
        open_hours=_hours(open_hours),
        reading_minutes=reading_minutes, reading_cv=reading_cv, prevalence=prevalence, sensitivity=sensitivity, specificity=specificity,
        at_sensitivity=tuple(at_sensitivity or ()), t_high=tuple(t_high or ()), windows=tuple(_pair(text) for text in window or ()),
        stat_share=stat_share, not_scored_share=not_scored_share, ai_minutes=ai_minutes, replications=replications, seed=seed,
    )  # fmt: skip
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=talk, transient=True) as progress:
        bar = progress.add_task("simulating", total=None)
        outcome = run(settings, engine, request, utc_now(), tick=lambda done, of: progress.update(bar, completed=done, total=of))
    if report is not None:
        from prioritizer.simulation.report import write

        talk.print(f"report: {write(outcome, report)}", markup=False, highlight=False, soft_wrap=True)
    if csv is not None:
        wording.write_csv(outcome, csv)
    if as_json:
        print_json(wording.facts(outcome))
    else:
        from prioritizer.cli.print_simulation import show

        show(outcome, out)


def _numbers(text: str, separator: str, option: str) -> tuple[float, ...]:
    """The numbers of an option; none of an empty one. Raises BadParameter, for exit code 2."""
    try:
        return tuple(float(part) for part in text.split(separator)) if text else ()
    except ValueError as error:
        raise typer.BadParameter(f"{option} {text}: numbers with {separator} between them are wanted") from error


def _pair(text: str) -> tuple[float, float]:
    found = _numbers(text, "/", "--window")
    if len(found) != 2:
        raise typer.BadParameter(f"--window {text}: two numbers of minutes, for example 30/120")
    return found[0], found[1]


def _hours(text: str) -> tuple[int, int] | None:
    found = _numbers(text, "-", "--open")
    if not found:
        return None
    if len(found) != 2 or any(hour != int(hour) for hour in found):
        raise typer.BadParameter(f"--open {text}: two whole hours, for example 7-19")
    return int(found[0]), int(found[1])
