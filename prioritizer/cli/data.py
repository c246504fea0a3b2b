"""The verbs on data: what a cohort holds, before anything is trained on it. They need the extra `train`."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prioritizer.cli.exit_codes import out, print_json, talk, verb
from prioritizer.cli.options import AsJson

if TYPE_CHECKING:
    from prioritizer.learning.cohorts.labelled_image import Cohort
    from prioritizer.learning.cohorts.splits import Splits
    from prioritizer.learning.description.describe import Description

app = typer.Typer(help="Look at labelled data before training on it.", no_args_is_help=True)


@app.callback()
def data() -> None:
    """Look at labelled data before training on it."""


@app.command()
@verb
def describe(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="NORMAL/ and PNEUMONIA/, labels.csv, a public set, or a sources file .toml.")
    ],
    labels: Annotated[Path | None, typer.Option(help="Label file, where it does not lie in DIR.")] = None,
    splits: Annotated[Path | None, typer.Option(help="splits.json of a run: looks for patients and films in two splits.")] = None,
    report: Annotated[Path | None, typer.Option(help="HTML page to write; its figures stand beside it as JSON.")] = None,
    recipe: Annotated[Path | None, typer.Option(help="Recipe whose augmentation the page shows. Default: the default recipe.")] = None,
    negatives: Annotated[str, typer.Option(help="Public sets: not-pneumonia or no-finding.")] = "not-pneumonia",
    uncertain: Annotated[str, typer.Option(help="Uncertain labels (-1): ignore, positive or negative.")] = "ignore",
    seed: Annotated[int, typer.Option(help="Seed of folds and bootstrap.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Balance, files, duplicates, faults, and what the files alone say of the label. Exit code 1 where the data must be mended."""
    from prioritizer.learning.cohorts.read import LabelPolicy, read_cohort
    from prioritizer.learning.cohorts.splits import read_splits
    from prioritizer.learning.description.describe import facts_of
    from prioritizer.learning.description.report import report_of, verdict_of
    from prioritizer.reports.page import write

    cohort = read_cohort(folder, labels, policy=LabelPolicy(negatives=negatives, uncertain=uncertain))
    found = _described(cohort, read_splits(splits, cohort.images, cohort.root) if splits else None, seed)
    if report:
        from prioritizer.learning.training.example_batch import augmentation
        from prioritizer.learning.training.recipes import Recipe, read_recipe

        page = report_of(found, datetime.now(UTC), augmentation(read_recipe(recipe) if recipe else Recipe()))
        talk.print(f"written: {write(page, report)}", markup=False, highlight=False)
    verdict = verdict_of(found)
    if as_json:
        print_json({"verdict": verdict.word, **facts_of(found)})
    else:
        _print(found, f"{verdict.word}: {verdict.sentence}")
    if verdict.word == "mend the data":
        raise typer.Exit(1)


def _described(cohort: Cohort, splits: Splits | None, seed: int) -> Description:
    """The description, with a bar while a person watches."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from prioritizer.learning.description.describe import describe as run_describe

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=talk, transient=True, disable=not talk.is_terminal) as progress:
        bar = progress.add_task("reading files", total=None)
        return run_describe(
            cohort, splits, seed=seed, tick=lambda said, done, of: progress.update(bar, description=said, completed=done, total=of)
        )


def _print(found: Description, verdict: str) -> None:
    from prioritizer.learning.description.describe import class_counts

    lines = [found.cohort.form]
    lines += [f"{name}: {counts['images']} images of {counts['patients']} patients" for name, counts in class_counts(found.images).items()]
    lines += [f"fault {fault.what}: {fault.file}: {fault.said}" for fault in found.faults[:10]]
    if len(found.faults) > 10:
        lines.append(f"{len(found.faults) - 10} more faults; --json or --report lists them")
    exact = sum(pair.exact for pair in found.pairs)
    lines.append(f"films given twice: {exact} identical pairs, {len(found.pairs) - exact} saved again")
    for line in (*lines, verdict):
        out.print(line, markup=False, highlight=False, soft_wrap=True)
