"""Verbs on files: score them, send them, and the demonstration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from prioritizer.cli.exit_codes import out, talk, verb
from prioritizer.cli.options import AsJson, ConfigFile, ledger_of, settings_of

app = typer.Typer()


@app.command()
@verb
def score(
    paths: Annotated[list[Path], typer.Argument(help="DICOM, PNG or JPEG files, or folders of them.")],
    overlay: Annotated[Path | None, typer.Option(help="Write the radiograph with its heat map here (one file only).")] = None,
    ignore_scope: Annotated[bool, typer.Option("--ignore-scope", help="Score what is out of scope too: for evaluation only.")] = False,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Score files without a daemon. --json: one object a line: file, state, reason, logit, probability, band."""
    from prioritizer.file_scoring.score import score_files

    settings, _ = settings_of(config)
    failed = score_files(paths, settings, overlay=overlay, ignore_scope=ignore_scope, as_json=as_json, out=out, talk=talk)
    if failed:
        raise typer.Exit(1)


@app.command()
@verb
def send(
    paths: Annotated[list[Path], typer.Argument(help="DICOM files or folders.")],
    to: Annotated[str, typer.Option("--to", metavar="AE@HOST:PORT", help="Where to send.")],
    calling: Annotated[str, typer.Option("--from", help="Our AE title.")] = "PRIORITIZER_SCU",
    as_json: AsJson = False,
) -> None:
    """Send DICOM files by C-STORE, like a small modality. Exit 1 when any was refused."""
    from prioritizer.cli.send import send_paths

    if not send_paths(paths, to, calling, as_json=as_json, out=out, talk=talk):
        raise typer.Exit(1)


@app.command()
@verb
def demo(
    config: ConfigFile = None,
    studies: Annotated[int, typer.Option(min=1, max=200, help="Phantom studies to send.")] = 8,
    pacs_port: Annotated[int, typer.Option(help="Port of the PACS stand-in; a destination must point to it.")] = 11113,
    keep: Annotated[Path, typer.Option(help="Folder for the overlays that came back.")] = Path("demo-results"),
) -> None:
    """Send phantom radiographs into a running daemon over real C-STORE and show the list and what the PACS got."""
    from prioritizer.cli.demo import run_demo

    engine, settings = ledger_of(config)
    if not run_demo(engine, settings, studies=studies, pacs_port=pacs_port, keep=keep, out=out, talk=talk):
        raise typer.Exit(1)
