"""The command line: one thin command per verb. What all of them promise (streams, exit codes, errors) is in `exit_codes`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from prioritizer import __version__
from prioritizer.cli import accounts, calibration, files, identity, settings_overrides, simulate, training, worklist
from prioritizer.cli import reading as cli_reading
from prioritizer.cli.exit_codes import print_proofs, talk, verb
from prioritizer.cli.options import STANDARD_FILES, AsJson, ConfigFile, ledger_of, settings_of
from prioritizer.errors import ConfigError

HELP = """Orders a chest radiograph reading worklist by calibrated risk, under a bound. Triage support, never a diagnosis.

First steps: prioritizer init  ->  prioritizer check  ->  prioritizer serve, and in another window  prioritizer demo."""
app = typer.Typer(help=HELP, no_args_is_help=True, add_completion=True, pretty_exceptions_enable=False, rich_markup_mode="rich")
app.add_typer(worklist.app)
app.add_typer(files.app)
app.add_typer(training.app)
app.add_typer(calibration.app)
app.add_typer(settings_overrides.app)
app.add_typer(accounts.app)
app.add_typer(simulate.app)
app.add_typer(cli_reading.app)
app.add_typer(identity.app)


@app.callback(invoke_without_command=True)
def main(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    """Shared options."""
    if version:
        print(__version__)
        raise typer.Exit


@app.command()
@verb
def serve(config: ConfigFile = None) -> None:
    """Run the daemon: listener, scoring, publishing, page. SIGTERM drains, SIGHUP reloads the configuration."""
    from prioritizer.daemon.serve import serve as run
    from prioritizer.daemon.serve import serve_in_recovery

    try:
        settings, path = settings_of(config)
    except ConfigError as fault:
        serve_in_recovery(fault, config or next((file for file in STANDARD_FILES if file.is_file()), None))
        return
    run(settings, path)


@app.command()
@verb
def check(config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Prove configuration, database, bundle, codecs, disk and peers; start nothing. Exit 1 when anything is wrong."""
    from prioritizer.selfcheck.check import prove

    settings, path = settings_of(config)
    print_proofs(prove(settings, path), as_json=as_json)


@app.command()
@verb
def migrate(config: ConfigFile = None) -> None:
    """Bring the database to this version's revision. Back it up first; `serve` does this by itself for SQLite only."""
    from prioritizer.db.schema import connect, migrations

    settings, _ = settings_of(config)
    engine = connect.open_ledger(settings.database_url)
    before = migrations.current(engine)
    migrations.upgrade(engine)
    talk.print(f"{engine.dialect.name}: revision {before or 'none'} -> {migrations.current(engine)}")


@app.command()
@verb
def init(
    target: Annotated[Path, typer.Argument(help="File to write.")] = Path("prioritizer.toml"),
    site: Annotated[str | None, typer.Option(help="Name of the site, unique among yours: it goes into the UID of every result.")] = None,
    ae_title: Annotated[str | None, typer.Option(help="What modalities will call.")] = None,
    port: Annotated[int | None, typer.Option(help="DICOM port.")] = None,
    peer: Annotated[list[str] | None, typer.Option(help="AE@host of a modality; may be repeated.")] = None,
    pacs: Annotated[str | None, typer.Option(help="AE@host:port of the PACS that gets the results; empty for none.")] = None,
    data: Annotated[Path | None, typer.Option(help="Folder for everything that is kept.")] = None,
) -> None:
    """Write a commented configuration. Asks for what is not given, on a terminal."""
    from prioritizer.cli.init import InitAnswers, data_beside, write_configuration

    def ask(given: Any, question: str, default: str) -> str:
        if given is not None:
            return str(given)
        return str(typer.prompt(question, default=default)) if sys.stdin.isatty() else default

    answers = InitAnswers(
        site=ask(site, "Name of the site, for example hospital and city", ""),
        ae_title=ask(ae_title, "AE title that modalities call", "PRIORITIZER"),
        port=int(ask(port, "DICOM port", "11112")),
        peers=tuple(peer) if peer is not None else tuple(ask(None, "Modalities, AE@host separated by blanks", "").split()),
        pacs=ask(pacs, "PACS for the results, AE@host:port", ""),
        data=Path(ask(data, "Folder for everything that is kept", str(data_beside(target)))),
    )
    write_configuration(target, answers)
    talk.print(f"{target} written. Next: prioritizer check --config {target}")


@app.command()
@verb
def conformance() -> None:
    """The DICOM conformance statement of this version, as Markdown."""
    from prioritizer.dicom.conformance import statement

    print(statement(), end="")


@app.command()
@verb
def doctor(
    send_images: Annotated[bool, typer.Option("--send", help="Send a phantom image to the listener and to every destination.")] = False,
    device: Annotated[str, typer.Option("--wait-for", metavar="AE", help="Wait for an image from this device, and tell what comes.")] = "",
    seconds: Annotated[float, typer.Option(min=1, max=86400, help="How long to wait for the device.")] = 300,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Walk each chain of a live system from the bottom up, and stop at the first broken layer with its mend; or wait for a device."""
    from prioritizer.selfcheck.doctor import examine, wait_for

    if device:
        engine, _ = ledger_of(config)
        talk.print(f"Waiting for {device}: send a C-ECHO, then an image, from the device.", markup=False)
        print_proofs(wait_for(engine, device, seconds), as_json=as_json)
        return
    settings, _ = settings_of(config)
    print_proofs(examine(settings, send=send_images), as_json=as_json)
