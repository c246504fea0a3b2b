"""Verbs on the worklist and its studies."""

from __future__ import annotations

import getpass
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from prioritizer.cli.earlier_names import keep_verb
from prioritizer.cli.exit_codes import out, talk, verb
from prioritizer.cli.options import AsJson, ConfigFile, Reader, in_force_of, ledger_of
from prioritizer.clock import utc_now
from prioritizer.errors import NotFound

if TYPE_CHECKING:
    import sqlalchemy as sa

    from prioritizer.config.policy import SitePolicy
    from prioritizer.config.settings import Settings

app = typer.Typer()
StudyName = Annotated[str, typer.Argument(metavar="STUDY", help="Study UID, the end of it, or the accession number.")]


def policy_for(settings: Settings) -> SitePolicy:
    """The ranking policy with the bundle's thresholds; raises ModelError when the bundle cannot be trusted."""
    from prioritizer.config.policy import policy_of
    from prioritizer.inference.bundle import open_bundle

    return policy_of(settings, open_bundle(settings.model.bundle))


def study_uid_of(engine: sa.Engine, text: str) -> str:
    """The UID of the study that a person means."""
    from prioritizer.db.worklist import rows

    return rows.find(engine, text).study_uid


@app.command()
@verb
def worklist(
    config: ConfigFile = None,
    as_json: AsJson = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="CSV on standard output.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Show it again every 2 seconds until Ctrl-C.")] = False,
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


@app.command("mark-read")
@verb
def mark_read(study: StudyName, reader: Reader = getpass.getuser(), config: ConfigFile = None) -> None:
    """Mark a study as read: it leaves the list."""
    from prioritizer.db.worklist import reading

    engine, _ = ledger_of(config)
    reading.read(engine, study_uid_of(engine, study), reader, utc_now())
    talk.print("read")


keep_verb(app, "read", "mark-read", mark_read)


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
    from prioritizer.db.processing import requeue as processing_requeue

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
        done = processing_requeue.discard_failed(engine, meant_by(engine, uid), who, discard, policy_for(settings), now)
        talk.print(f"{done} images discarded: not scored, their study stays on the list")
    elif deliveries and everything:
        talk.print(f"the results of {deliver.requeue_all(engine, who, now)} studies will be sent again")
    elif deliveries:
        talk.print(f"{deliver.requeue_deliveries(engine, study_uid_of(engine, uid), who, now)} results will be sent again")
    elif everything:
        found = processing_requeue.requeue_failed(engine, who, policy_for(settings), now)
        gone = f"; of {found.gone} the pixels were deleted after reading: send those again, or --discard them" if found.gone else ""
        talk.print(f"{found.again} images will be scored again{gone}")
    else:
        done = processing_requeue.requeue(engine, meant_by(engine, uid), who, policy_for(settings), now)
        talk.print(f"{done} images will be scored again")


def meant_by(engine: sa.Engine, text: str) -> str:
    """The UID of the study that a person means, or of the one image that they name by its SOP Instance UID."""
    with suppress(NotFound):
        return study_uid_of(engine, text)
    return text
