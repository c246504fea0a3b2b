"""`prioritizer identity`: whose study it is, where that must be confirmed; and `prioritizer rebuild`: a lost ledger from the spool."""

from __future__ import annotations

import getpass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from prioritizer.cli.exit_codes import out, print_json, talk, verb
from prioritizer.cli.options import AsJson, ConfigFile, Reader, ledger_of
from prioritizer.clock import utc_now

if TYPE_CHECKING:
    import sqlalchemy as sa

    from prioritizer.daemon.receive import Rebuilt

app = typer.Typer()
identity = typer.Typer(help="Whose study it is, where that must be confirmed: list, keep, take.", no_args_is_help=True)
app.add_typer(identity, name="identity")
Shown = Annotated[str, typer.Option(help="The mark that `identity list` shows: nothing is done where something else came since.")]
StudyName = Annotated[str, typer.Argument(metavar="STUDY", help="Study UID, the end of it, or the accession number.")]


@identity.command("list")
@verb
def show(config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Every study of which it must be confirmed whose it is, with both patients and the step for each. Shows patient data."""
    from prioritizer.cli.print_worklist import as_listed
    from prioritizer.patient_identity import LABELS

    engine, _ = ledger_of(config)
    found = as_listed(engine)
    if as_json:
        print_json(found)
        return
    for one in found:
        out.print(f"{one['study_uid']}  shown as {one['patient_name'] or 'no name'} ({one['patient_id'] or 'no Patient ID'})", markup=False)
        for text in one["identity"]:
            out.print(f"  {text}", markup=False)
        for stated in one["stated"]:
            particulars = "; ".join(f"{LABELS[name]} {value or 'not stated'}" for name, value in stated["particulars"].items())
            against = f"; contradicts: {', '.join(LABELS[name] for name in stated['differs'])}" if stated["differs"] else ""
            out.print(f"    {stated['what']}, arrived {stated['arrived'][:19]}Z: {particulars}{against}", markup=False)
        keep_words, take_words = (
            ("two patients", "one patient, the first row's") if one["joins"] else ("what is shown is right", "what came since is right")
        )
        out.print(f"  {keep_words}: prioritizer identity keep {one['study_uid']} --shown {one['shown']}", markup=False)
        if one["can_take"]:
            out.print(f"  {take_words}: prioritizer identity take {one['study_uid']} --shown {one['shown']}", markup=False)
    if not found:
        out.print("Nothing must be confirmed.")


def _settle(config: ConfigFile, study: str, reader: str, shown: str, *, take: bool) -> None:
    from prioritizer.config.policy import policy_of
    from prioritizer.daemon.identity_confirmation import settle
    from prioritizer.db.worklist import rows
    from prioritizer.dicom.spool.spool import Spool
    from prioritizer.inference.bundle import open_bundle

    engine, settings = ledger_of(config)
    uid, policy = rows.find(engine, study).study_uid, policy_of(settings, open_bundle(settings.model.bundle))
    spool = Spool(settings.spool_folder)
    done = settle(engine, spool, uid, take=take, who=reader, policy=policy, shown=shown)
    talk.print(done, markup=False)


@identity.command()
@verb
def keep(study: StudyName, shown: Shown = "", reader: Reader = getpass.getuser(), config: ConfigFile = None) -> None:
    """What the row shows is right: copies that came since stay aside, two patients stay two rows."""
    _settle(config, study, reader, shown, take=False)


@identity.command()
@verb
def take(study: StudyName, shown: Shown = "", reader: Reader = getpass.getuser(), config: ConfigFile = None) -> None:
    """What came since is right: the copy takes the place of the image, or the second row joins the first."""
    _settle(config, study, reader, shown, take=True)


class PublishAgain(StrEnum):
    """Whether the results of studies that were entered again are sent again."""

    YES = "yes"
    NO = "no"


@app.command()
@verb
def rebuild(
    publish: Annotated[
        PublishAgain | None, typer.Option(help="yes: send the results of these studies again. no: the PACS has them.")
    ] = None,
    config: ConfigFile = None,
) -> None:
    """Enter what lies in the spool and the ledger does not know: by their receipts, the earliest arrival wins.

    The daemon does this by itself at its start. The results of such studies wait until --publish says whether they are sent again; the
    same result has the same UID and the same bytes, whenever it is made.
    """
    engine, found = _rebuilt(config)
    talk.print(f"{found.entered} images entered from the spool, {found.set_aside} files without a receipt put into quarantine")
    if found.left:
        talk.print(f"{found.left} files could not be read or entered now; the log names why. Run this again")
    if publish is not None:
        from prioritizer.db.instances.rebuilding import decide
        from prioritizer.db.worklist.rows import held_after_rebuild

        done = decide(engine, publish=publish is PublishAgain.YES, who=getpass.getuser(), now=utc_now())
        what = "their results are built and sent" if publish is PublishAgain.YES else "nothing of before is sent again"
        talk.print(f"{done} studies: {what}")
        if left := held_after_rebuild(engine):
            talk.print(f"{left} studies are not decided: images of theirs wait for their score. Run this again when they have it")


def _rebuilt(config: ConfigFile) -> tuple[sa.Engine, Rebuilt]:
    from prioritizer.config.policy import policy_of
    from prioritizer.daemon.receive import rebuild as enter
    from prioritizer.db.processing import receive
    from prioritizer.dicom.spool.spool import Spool
    from prioritizer.inference.bundle import open_bundle

    engine, settings = ledger_of(config)
    policy = policy_of(settings, open_bundle(settings.model.bundle))
    known = set(receive.known_instances(engine))
    return engine, enter(engine, Spool(settings.spool_folder), known, policy, utc_now())
