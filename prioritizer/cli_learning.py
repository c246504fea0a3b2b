"""The verbs of the data scientist: look at data, train, export. They need the extra `train`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from prioritizer import cli_data
from prioritizer.contract import talk, verb

app = typer.Typer()
app.add_typer(cli_data.app, name="data")


@contextmanager
def progress_bar() -> Iterator[tuple[Callable[[str], None], Callable[[int, int, str], None]]]:
    """Two functions: one says a line above the bar, one moves the bar (done, of, what)."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    with Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=talk) as progress:
        bar = progress.add_task("starting", total=None)
        yield (
            lambda said: progress.console.print(said, markup=False, highlight=False, soft_wrap=True),
            lambda done, of, said: progress.update(bar, completed=done, total=of, description=said),
        )


@app.command()
@verb
def train(
    run: Annotated[Path, typer.Argument(help="Folder of the run: recipe, split, checkpoints, figures. Never overwritten.")],
    data: Annotated[Path, typer.Option(help="The cohort: class folders, labels.csv, or a public set (docs/learning.md).")],
    recipe: Annotated[str, typer.Option(help="plain, chestaid, two-phase, house, or a TOML file.", show_default="plain")] = "",
    labels: Annotated[Path | None, typer.Option(help="Label file, where it is not found by itself.")] = None,
    weights: Annotated[Path | None, typer.Option(help="Initial weights: a local .safetensors file. Default: random.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the run was stopped.")] = False,
    smoke: Annotated[bool, typer.Option("--smoke", help="Two batches a phase, to see that everything works.")] = False,
) -> None:
    """Train a network from a recipe. Several GPUs: `torchrun --nproc-per-node=N -m prioritizer train ...`. Needs the extra `train`."""
    from prioritizer.learning.recipes import find_recipe
    from prioritizer.learning.train import train as run_training

    asked = find_recipe(recipe) if recipe else None
    with progress_bar() as (say, tick):
        run_training(data, run, asked, labels=labels, weights=weights, resume=resume, smoke=smoke, say=say, tick=tick)


@app.command()
@verb
def export(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    data: Annotated[Path, typer.Option(help="The cohort it was trained on.")],
    statement: Annotated[Path, typer.Option(help="TOML with what a person must state: intended use, scope, limits.")],
    target: Annotated[Path, typer.Option(help="Bundle folder to write.")],
    labels: Annotated[Path | None, typer.Option(help="Label file, where it is not found by itself.")] = None,
    external: Annotated[list[str] | None, typer.Option(metavar="NAME=DIR", help="Cohort with labels, for evaluation only.")] = None,
) -> None:
    """Write the bundle of a finished run: graph, guard, calibration, figures, proof. Needs the extra `train`."""
    from prioritizer.learning.export import export as write_bundle
    from prioritizer.learning.export import read_statement

    cohorts = {name: Path(folder) for name, _, folder in (pair.partition("=") for pair in external or [])}
    with progress_bar() as (say, tick):
        write_bundle(run, data, target, read_statement(statement), cohorts, labels=labels, say=say, tick=tick)
