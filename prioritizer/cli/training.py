"""The verbs of the data scientist: look at data, train, export, evaluate, compare. They need the extra `train`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prioritizer.cli import data as cli_data
from prioritizer.cli.exit_codes import out, print_json, talk, verb
from prioritizer.cli.options import AsJson

if TYPE_CHECKING:
    from prioritizer.learning.evaluation.trials import EvaluationRequest

app = typer.Typer()
app.add_typer(cli_data.app, name="data")
recipes_app = typer.Typer(help="The training recipes that ship, and every key of them.", no_args_is_help=True)
app.add_typer(recipes_app, name="recipes")


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
    data: Annotated[Path, typer.Option(help="Class folders, labels.csv, a public set, or a sources file .toml (docs/learning.md).")],
    recipe: Annotated[str, typer.Option(help="A shipped recipe (`recipes list`), or a TOML file.", show_default="plain")] = "",
    labels: Annotated[Path | None, typer.Option(help="Label file, where it is not found by itself.")] = None,
    weights: Annotated[Path | None, typer.Option(help="Initial weights: a local .safetensors file. Default: random.")] = None,
    masks: Annotated[Path | None, typer.Option(help="Lung masks, PNG files named as the films, for a recipe with lung_loss.")] = None,
    changes: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a key of the recipe: lung_loss=0, phases.1.epochs=3.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of weights, order and changes; the same as --set seed=N.")] = None,
    without: Annotated[list[str] | None, typer.Option(metavar="SITE", help="Leave a site out; several times, several sites.")] = None,
    teacher: Annotated[
        list[Path] | None, typer.Option(metavar="RUN", help="Folder of an earlier run, for a recipe with teacher; may be repeated.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the run was stopped.")] = False,
    smoke: Annotated[bool, typer.Option("--smoke", help="Two batches a phase, to see that everything works.")] = False,
) -> None:
    """Train a network from a recipe. Several GPUs: `torchrun --nproc-per-node=N -m prioritizer train ...`. Needs the extra `train`."""
    from prioritizer.learning.training.recipes import find_recipe
    from prioritizer.learning.training.train import train as run_training

    put = [*(changes or ()), *([] if seed is None else [f"seed={seed}"])]
    asked = find_recipe(recipe or "plain", put) if recipe or put else None
    with progress_bar() as (say, tick):
        run_training(
            data,
            run,
            asked,
            labels=labels,
            weights=weights,
            masks=masks,
            without=without or (),
            teacher=teacher or (),
            resume=resume,
            smoke=smoke,
            say=say,
            tick=tick,
        )


@app.command()
@verb
def runs(
    root: Annotated[Path, typer.Argument(help="Folder that holds runs.")] = Path("runs"),
    report: Annotated[Path | None, typer.Option(help="HTML page with the curves of each, and a JSON beside it.")] = None,
    as_json: AsJson = False,
) -> None:
    """Every run of a folder: how far it came, its figures on the split that chooses, what it cost, what its recipe changed."""
    from rich.table import Table as Shown
    from rich.text import Text

    from prioritizer.learning.training import run_index
    from prioritizer.reports import page

    found = run_index.index(root)
    if report is not None:
        talk.print(f"report: {page.write(run_index.report_of(root, found), report.resolve())}", markup=False, soft_wrap=True)
    if as_json:
        print_json([run_index.facts_of(one) for one in found])
        return
    table = Shown(*run_index.HEADER)
    for one in found:
        table.add_row(*(Text(page.formatted(cell)) for cell in run_index.row_of(one)))
    out.print(table)
    talk.print(run_index.NO_EVIDENCE, markup=False, soft_wrap=True)


@app.command()
@verb
def export(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    data: Annotated[Path, typer.Option(help="The cohort or sources file it was trained on.")],
    statement: Annotated[Path | None, typer.Option(help="TOML with what a person must state: intended use, scope, limits.")] = None,
    target: Annotated[Path | None, typer.Option(help="Bundle folder to write.")] = None,
    init_statement: Annotated[
        Path | None, typer.Option(help="Write a statement to be completed, with this run's figures, and no bundle.")
    ] = None,
    labels: Annotated[Path | None, typer.Option(help="Label file, where it is not found by itself.")] = None,
    external: Annotated[list[str] | None, typer.Option(metavar="NAME=DIR", help="Cohort with labels, for evaluation only.")] = None,
    never_seen: Annotated[
        list[Path] | None, typer.Option(metavar="RUN", help="Run of the same recipe without a site: the card tells what it is worth there.")
    ] = None,
) -> None:
    """Write the bundle of a finished run: graph, guard, calibration, figures, proof. Needs the extra `train`."""
    from prioritizer.errors import ConfigError
    from prioritizer.learning.bundling.card_statement import read_statement
    from prioritizer.learning.bundling.export import export as write_bundle
    from prioritizer.learning.evaluation.never_seen import measured

    cohorts = {name: Path(folder) for name, _, folder in (pair.partition("=") for pair in external or [])}
    if init_statement is not None:
        _init_statement(run, data, labels, init_statement)
        return
    if statement is None or target is None:
        raise ConfigError(("give --statement and --target; --init-statement FILE writes a statement to be completed",))
    with progress_bar() as (say, tick):
        also: dict[str, Any] = {}
        for other in never_seen or ():
            say(f"judging {other.name} on the site that it was trained without")
            also |= {name: (one.figures, one.counts) for name, one in measured(other, data, labels).items()}
        write_bundle(run, data, target, read_statement(statement), cohorts, labels=labels, also=also, say=say, tick=tick)


def _init_statement(run: Path, data: Path, labels: Path | None, target: Path) -> None:
    from prioritizer.learning.bundling import statement_template
    from prioritizer.learning.evaluation.evaluate import evaluate as run_evaluation
    from prioritizer.learning.evaluation.trials import EvaluationRequest

    with progress_bar() as (say, tick):
        found = run_evaluation(run, EvaluationRequest(data=data, labels=labels), with_cost=False, say=say, tick=tick)
        say(f"written: {statement_template.write(run, data, labels, found, target)}; complete it, then give it as --statement")


@recipes_app.command("list")
@verb
def list_recipes(as_json: AsJson = False) -> None:
    """The shipped recipes, each with what it is for."""
    from prioritizer.learning.training.recipe_listing import purpose_of
    from prioritizer.learning.training.recipes import find_recipe, shipped_names

    found = [
        {"name": name, "architecture": (recipe := find_recipe(name)).architecture, "epochs": recipe.epochs, "purpose": purpose_of(name)}
        for name in shipped_names()
    ]
    if as_json:
        print_json({"recipes": found})
        return
    for one in found:
        _tell(f"{one['name']}: {one['architecture']}, {one['epochs']} epochs\n    {one['purpose']}")


@recipes_app.command("show")
@verb
def show_recipe(
    recipe: Annotated[str, typer.Argument(help="A shipped recipe, or a TOML file.")],
    changes: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="As `train --set` would change it.")] = None,
    as_json: AsJson = False,
) -> None:
    """Every key of a recipe with its value, default and meaning."""
    from prioritizer.learning.training.recipe_listing import in_words, keys_of, purpose_of
    from prioritizer.learning.training.recipes import find_recipe

    found = find_recipe(recipe, changes or ())
    if as_json:
        print_json({"recipe": recipe, **found.model_dump(mode="json")})
        return
    if purpose := purpose_of(recipe):
        _tell(purpose)
    for key in keys_of(found):
        _tell(in_words(key))


SubjectFolder = Annotated[Path, typer.Argument(metavar="RUN_OR_BUNDLE", help="Folder that `train` or `export` wrote.")]
DataFolder = Annotated[Path, typer.Option(help="Cohort or sources file; for a run the one it was trained on (docs/learning.md).")]
LabelsFile = Annotated[Path | None, typer.Option(help="Label file, where it is not found by itself.")]
Split = Annotated[
    str,
    typer.Option(
        help="val_report, left_out (of train --without), select, calib, train or all.", show_default="val_report where there are splits"
    ),
]
SplitsFile = Annotated[Path | None, typer.Option(help="splits.json of the run a bundle was made of; a run brings its own.")]
On = Annotated[list[str] | None, typer.Option(metavar="NAME=DIR", help="Another labelled cohort beside it, for evaluation only.")]
SeenInTraining = Annotated[bool, typer.Option("--seen-in-training", help="Report on training films all the same; no evidence.")]
TargetSensitivity = Annotated[float, typer.Option(help="Sensitivity on calib at which a run's threshold is set; bundles have their own.")]
Seed = Annotated[int, typer.Option(help="Seed of bootstrap, folds and samples.")]
NoCost = Annotated[bool, typer.Option("--no-cost", help="Leave out the measurement of time and memory.")]


def _request(data: Path, labels: Path | None, split: str, splits: Path | None, on: list[str] | None, *, seen: bool) -> EvaluationRequest:
    from prioritizer.errors import ConfigError
    from prioritizer.learning.evaluation.trials import EvaluationRequest

    pairs = [pair.partition("=") for pair in on or []]
    faults = tuple(f"--on {name}{sign}{folder}: give NAME=DIR" for name, sign, folder in pairs if not (name and folder))
    if faults:
        raise ConfigError(faults)
    cohorts = {name: Path(folder) for name, _, folder in pairs}
    return EvaluationRequest(data=data, labels=labels, split=split, splits=splits, on=cohorts, seen_allowed=seen)


@app.command()
@verb
def evaluate(
    subject: SubjectFolder,
    data: DataFolder,
    labels: LabelsFile = None,
    split: Split = "",
    splits: SplitsFile = None,
    on: On = None,
    prevalence: Annotated[float | None, typer.Option(help="Share of pneumonia at the site, 0 to 1. Default: that of the cohort.")] = None,
    target_sensitivity: TargetSensitivity = 0.95,
    report: Annotated[Path | None, typer.Option(help="HTML page to write; its figures stand beside it as JSON.")] = None,
    seed: Seed = 0,
    no_cost: NoCost = False,
    seen_in_training: SeenInTraining = False,
    as_json: AsJson = False,
) -> None:
    """Every figure of a run or bundle with its interval, subgroups, shortcut controls, hits and misses, and a verdict."""
    from prioritizer.learning.evaluation.evaluate import evaluate as run_evaluation
    from prioritizer.learning.evaluation.report import facts_of, report_of
    from prioritizer.reports.page import write
    from prioritizer.statistics.measures import NAMES

    asked = _request(data, labels, split, splits, on, seen=seen_in_training)
    with progress_bar() as (say, tick):
        found = run_evaluation(
            subject, asked, target=target_sensitivity, prevalence=prevalence, with_cost=not no_cost, seed=seed, say=say, tick=tick
        )
        if report:
            say(f"written: {write(report_of(found), report)}; it shows radiographs and must not leave the site")
    if as_json:
        print_json({"verdict": found.fitness.word, "why": found.fitness.said, **facts_of(found)})
        return
    for one in found.judgements:
        _tell(f"{one.trial.name}: {one.evidence.events} with, {one.evidence.non_events} without pneumonia; t_high {one.at.threshold:.4f}")
        _tell(f"  {'ROC-AUC of the logits (DeLong)':<52} {one.auc}")
        for key, name in NAMES.items():
            _tell(f"  {name:<52} {one.figures[key]}")
    _tell(f"{found.fitness.word}: {found.fitness.said}")


@app.command()
@verb
def compare(
    subjects: Annotated[list[Path], typer.Argument(metavar="RUN_OR_BUNDLE...", help="Two or more; each is compared with the first.")],
    data: DataFolder,
    labels: LabelsFile = None,
    split: Split = "",
    splits: SplitsFile = None,
    on: On = None,
    target_sensitivity: TargetSensitivity = 0.95,
    report: Annotated[Path | None, typer.Option(help="HTML page to write; its figures stand beside it as JSON.")] = None,
    markdown: Annotated[Path | None, typer.Option(help="Markdown file to write: the tables alone, no image.")] = None,
    seed: Seed = 0,
    no_cost: NoCost = False,
    seen_in_training: SeenInTraining = False,
    as_json: AsJson = False,
) -> None:
    """Runs and bundles on the same films: figures side by side, paired differences with intervals, cost, and where they disagree."""
    from prioritizer.learning.evaluation.compare import compare as run_comparison
    from prioritizer.learning.evaluation.compare_report import facts_of, markdown_of, report_of
    from prioritizer.reports.page import write

    asked = _request(data, labels, split, splits, on, seen=seen_in_training)
    with progress_bar() as (say, tick):
        found = run_comparison(subjects, asked, target=target_sensitivity, with_cost=not no_cost, seed=seed, say=say, tick=tick)
        if report:
            say(f"written: {write(report_of(found), report)}; it shows radiographs and must not leave the site")
        if markdown:
            markdown.write_text(markdown_of(found), encoding="utf-8")
            say(f"written: {markdown}")
    if as_json:
        print_json(facts_of(found))
    elif not markdown:
        out.print(markdown_of(found), markup=False, highlight=False, soft_wrap=True)


def _tell(line: str) -> None:
    out.print(line, markup=False, highlight=False, soft_wrap=True)
