"""The verbs of the data scientist: look at data, train, export. They need the extra `train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from prioritizer.contract import talk, verb

app = typer.Typer()


@app.command()
@verb
def train(
    data: Annotated[Path, typer.Option(help="Folder with NORMAL/ and PNEUMONIA/.")],
    run: Annotated[Path, typer.Option(help="Folder of the run: recipe, split, checkpoints, figures.")],
    recipe: Annotated[
        Path | None, typer.Option(help="TOML recipe. Default: the recipe's own defaults (config/recipes/plain.toml).")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue after the last finished epoch.")] = False,
) -> None:
    """Train a network from a recipe. Needs the extra `train`."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from prioritizer.learning.recipes import Recipe, read_recipe
    from prioritizer.learning.train import train as run_training

    with Progress(TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn(), console=talk) as progress:
        bar = progress.add_task("reading images", total=None)
        run_training(
            data,
            run,
            read_recipe(recipe) if recipe else Recipe(),
            resume=resume,
            say=lambda said: progress.console.print(said, markup=False, highlight=False),
            tick=lambda done, of, said: progress.update(bar, completed=done, total=of, description=said),
        )


@app.command()
@verb
def export(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    data: Annotated[Path, typer.Option(help="The folder it was trained on.")],
    statement: Annotated[Path, typer.Option(help="TOML with what a person must state: intended use, scope, limits.")],
    target: Annotated[Path, typer.Option(help="Bundle folder to write.")],
    external: Annotated[list[str] | None, typer.Option(metavar="NAME=DIR", help="Cohort with labels.csv, for evaluation only.")] = None,
) -> None:
    """Write the bundle of a finished run: calibrate, measure, export, prove. Needs the extra `train`."""
    from prioritizer.learning.export import export as write_bundle
    from prioritizer.learning.export import read_statement

    cohorts = {name: Path(folder) for name, _, folder in (pair.partition("=") for pair in external or [])}
    write_bundle(run, data, target, read_statement(statement), cohorts, say=lambda said: talk.print(said, markup=False))
