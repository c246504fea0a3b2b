"""The command line: one thin command per verb. What all of them promise (streams, exit codes, errors) stands in `contract`."""

from __future__ import annotations

import getpass
import sys
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prioritizer import __version__
from prioritizer.cli import accounts, calibration, identity, settings_overrides, simulate, training
from prioritizer.cli import reading as cli_reading
from prioritizer.cli.exit_codes import out, print_proofs, talk, verb
from prioritizer.cli.options import STANDARD_FILES, AsJson, ConfigFile, Reader, in_force_of, ledger_of, settings_of
from prioritizer.clock import utc_now
from prioritizer.errors import ConfigError, NotFound

if TYPE_CHECKING:
    import sqlalchemy as sa

    from prioritizer.config.settings import Settings
    from prioritizer.ranking.deadlines import Policy

HELP = """Orders a chest radiograph reading worklist by calibrated risk, under a bound. Triage support, never a diagnosis.

First steps: prioritizer init  ->  prioritizer check  ->  prioritizer serve, and in another window  prioritizer demo."""
app = typer.Typer(help=HELP, no_args_is_help=True, add_completion=True, pretty_exceptions_enable=False, rich_markup_mode="rich")
app.add_typer(training.app)
app.add_typer(calibration.app)
app.add_typer(settings_overrides.app)
app.add_typer(accounts.app)
app.add_typer(simulate.app)
app.add_typer(cli_reading.app)
app.add_typer(identity.app)


def policy_for(settings: Settings) -> Policy:
    """The ranking policy with the bundle's thresholds; raises ModelError when the bundle cannot be trusted."""
    from prioritizer.config.policy import policy_of
    from prioritizer.inference.bundle import open_bundle

    return policy_of(settings, open_bundle(settings.model.bundle))


@app.callback(invoke_without_command=True)
def main(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    """Shared options."""
    if version:
        print(__version__)
        raise typer.Exit


StudyName = Annotated[str, typer.Argument(metavar="STUDY", help="Study UID, the end of it, or the accession number.")]


def study_uid_of(engine: sa.Engine, text: str) -> str:
    """The UID of the study that a person means."""
    from prioritizer.db.worklist import rows

    return rows.find(engine, text).study_uid


# --- the daemon ------------------------------------------------------------------------------------------------


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
    from prioritizer.cli.init import Answers, data_beside, write_configuration

    def ask(given: Any, question: str, default: str) -> str:
        if given is not None:
            return str(given)
        return str(typer.prompt(question, default=default)) if sys.stdin.isatty() else default

    answers = Answers(
        site=ask(site, "Name of the site, for example hospital and city", ""),
        ae_title=ask(ae_title, "AE title that modalities call", "PRIORITIZER"),
        port=int(ask(port, "DICOM port", "11112")),
        peers=tuple(peer) if peer is not None else tuple(ask(None, "Modalities, AE@host separated by blanks", "").split()),
        pacs=ask(pacs, "PACS for the results, AE@host:port", ""),
        data=Path(ask(data, "Folder for everything that is kept", str(data_beside(target)))),
    )
    write_configuration(target, answers)
    talk.print(f"{target} written. Next: prioritizer check --config {target}")


# --- the list --------------------------------------------------------------------------------------------------


@app.command()
@verb
def worklist(
    config: ConfigFile = None,
    as_json: AsJson = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="CSV on standard output.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Show it anew every 2 seconds until Ctrl-C.")] = False,
    fifo: Annotated[bool, typer.Option("--fifo", help="In order of arrival (STAT first).")] = False,
    why: Annotated[str | None, typer.Option("--why", metavar="STUDY", help="Everything that happened to one study.")] = None,
    view: Annotated[str, typer.Option(help="open, expired or read.")] = "open",
    limit: Annotated[int, typer.Option(min=1, max=10000)] = 100,
) -> None:
    """The reading worklist, in the order to read it."""
    from prioritizer.cli import print_worklist
    from prioritizer.daemon.settings_in_force import in_force_for

    engine, configured = ledger_of(config)
    if why is not None:
        print_worklist.show_why(engine, why, as_json=as_json, out=out)
        return
    if view not in ("open", "expired", "read"):
        raise typer.BadParameter(f"{view!r} is none of open, expired, read", param_hint="--view")
    if watch:
        print_worklist.watch(engine, configured, fifo=fifo, view=view, limit=limit)
        return
    settings = in_force_for(engine, configured)
    print_worklist.show(
        engine, settings, fifo=fifo, view=view, limit=limit, form="json" if as_json else "csv" if as_csv else "table", out=out
    )


@app.command()
@verb
def status(config: ConfigFile = None, as_json: AsJson = False) -> None:
    """What needs a person: alarms, failed images, results not sent, refusals with the TOML that would admit the peer."""
    from prioritizer.cli import print_worklist

    engine, settings = in_force_of(config)
    print_worklist.show_status(engine, settings, as_json=as_json, out=out)


@app.command()
@verb
def claim(
    study: StudyName,
    reader: Reader = getpass.getuser(),
    take_over: Annotated[bool, typer.Option("--take-over", help="Take it from the reader who has it.")] = False,
    release: Annotated[bool, typer.Option("--release", help="Give it back.")] = False,
    config: ConfigFile = None,
) -> None:
    """Claim a study for reading; the claim runs out by itself after ranking.claim_minutes."""
    from prioritizer.db.worklist import reading

    engine, settings = ledger_of(config)
    if release:
        reading.release(engine, study_uid_of(engine, study), reader, utc_now())
        talk.print("released")
        return
    lease = timedelta(minutes=settings.ranking.claim_minutes)
    reading.claim(engine, study_uid_of(engine, study), reader, lease, utc_now(), take_over=take_over)
    talk.print(f"claimed by {reader} for {settings.ranking.claim_minutes:g} min")


@app.command()
@verb
def read(study: StudyName, reader: Reader = getpass.getuser(), config: ConfigFile = None) -> None:
    """Mark a study as read: it leaves the list."""
    from prioritizer.db.worklist import reading

    engine, _ = ledger_of(config)
    reading.read(engine, study_uid_of(engine, study), reader, utc_now())
    talk.print("read")


@app.command()
@verb
def pin(
    study: StudyName,
    reader: Reader = getpass.getuser(),
    remove: Annotated[bool, typer.Option("--remove", help="Take the pin away.")] = False,
    config: ConfigFile = None,
) -> None:
    """Put a study into class STAT: first on the list, whatever AI says."""
    from prioritizer.db.worklist import reading

    engine, settings = ledger_of(config)
    reading.pin(engine, study_uid_of(engine, study), reader, policy_for(settings), utc_now(), remove=remove)
    talk.print("unpinned" if remove else "pinned: first on the list")


@app.command()
@verb
def requeue(
    uid: Annotated[str, typer.Argument(metavar="[STUDY]", help="Study UID, the end of it, accession number, or an SOP Instance UID.")] = "",
    everything: Annotated[bool, typer.Option("--all", help="Every image that failed, or with --deliveries every refused result.")] = False,
    deliveries: Annotated[bool, typer.Option("--deliveries", help="Send results again instead of scoring again.")] = False,
    give_up: Annotated[str, typer.Option(metavar="REASON", help="Give up a study's refused results; why is kept.")] = "",
    discard: Annotated[str, typer.Option(metavar="REASON", help="Give up a study's images that failed, or one image; why is kept.")] = "",
    config: ConfigFile = None,
) -> None:
    """Score again what failed or was not scored, or send again what a destination refused; or give either up, with a reason.

    A discarded image is not scored; its study stays on the list.
    """
    from prioritizer.db.processing import deliver
    from prioritizer.db.processing import score as processing_score

    if bool(uid) == everything:
        raise typer.BadParameter("name one study, or say --all", param_hint="STUDY")
    if (give_up or discard) and everything:
        raise typer.BadParameter("what is given up is named one at a time", param_hint="--give-up" if give_up else "--discard")
    if bool(give_up) + bool(discard) + deliveries > 1:
        raise typer.BadParameter("say one of --deliveries, --give-up, --discard", param_hint="--discard" if discard else "--give-up")
    engine, settings = ledger_of(config)
    who, now = getpass.getuser(), utc_now()
    if give_up:
        done = deliver.discard_deliveries(engine, study_uid_of(engine, uid), who, give_up, now)
        talk.print(f"{done} refused results given up")
    elif discard:
        done = processing_score.discard_failed(engine, meant_by(engine, uid), who, discard, policy_for(settings), now)
        talk.print(f"{done} images discarded: not scored, their study stays on the list")
    elif deliveries and everything:
        talk.print(f"the results of {deliver.requeue_all(engine, who, now)} studies will be sent again")
    elif deliveries:
        talk.print(f"{deliver.requeue_deliveries(engine, study_uid_of(engine, uid), who, now)} results will be sent again")
    elif everything:
        found = processing_score.requeue_failed(engine, who, policy_for(settings), now)
        gone = f"; of {found.gone} the pixels were deleted after reading: send those again, or --discard them" if found.gone else ""
        talk.print(f"{found.again} images will be scored again{gone}")
    else:
        done = processing_score.requeue(engine, meant_by(engine, uid), who, policy_for(settings), now)
        talk.print(f"{done} images will be scored again")


def meant_by(engine: sa.Engine, text: str) -> str:
    """The UID of the study that a person means, or of the one image that they name by its SOP Instance UID."""
    with suppress(NotFound):
        return study_uid_of(engine, text)
    return text


# --- files -----------------------------------------------------------------------------------------------------


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
