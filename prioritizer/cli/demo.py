"""`prioritizer demo`: a modality, a PACS and a reader in one command, against a running daemon."""

from __future__ import annotations

import itertools
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy as sa
from rich.console import Console

from prioritizer.cli import print_worklist
from prioritizer.config.sections import DestinationSection as ConfiguredDestination
from prioritizer.config.settings import Settings
from prioritizer.daemon.settings_in_force import in_force_for
from prioritizer.db.worklist import rows
from prioritizer.dicom.scu.destination import Destination
from prioritizer.dicom.scu.send_files import send_files
from prioritizer.dicom.scu.sender import Sender
from prioritizer.dicom.stand_ins.pacs import PacsStandIn, running_pacs
from prioritizer.dicom.stand_ins.phantom_files import PhantomPatient, phantom_file, phantom_study_uid
from prioritizer.errors import ConfigError, NotFound, PermanentRefusal, Transient
from prioritizer.study import AIState

SCORING_PATIENCE_S = 60.0
PUBLISHING_PATIENCE_S = 90.0


def run_demo(engine: sa.Engine, settings: Settings, *, studies: int, pacs_port: int, keep: Path, out: Console, talk: Console) -> bool:
    """Send `studies` phantoms, show the list before and after scoring, and what came back; True when all of it happened."""
    pacs = _destination_on(settings, pacs_port)
    host = settings.listener.host if settings.listener.host != "0.0.0.0" else "127.0.0.1"
    daemon = Destination(name="daemon", ae_title=settings.listener.ae_title, host=host, port=settings.listener.port, calling_ae="DEMO_DX1")
    try:
        Sender().echo(daemon)
    except (Transient, PermanentRefusal) as error:
        raise Transient(f"no daemon answers: {error}. Start it first: make run, or prioritizer serve --config ...") from error
    with running_pacs(pacs.ae_title, "127.0.0.1", pacs_port) as stand_in, tempfile.TemporaryDirectory() as folder:
        talk.print(f"1. {studies} phantom radiographs, by C-STORE from {daemon.calling_ae} to {daemon.ae_title}@{host}:{daemon.port}")
        uids = _send_phantoms(engine, Path(folder), studies, daemon, talk)
        if not _wait_scored(engine, uids, talk):
            return False
        talk.print("2. The list, re-ordered:")
        print_worklist.show(engine, in_force_for(engine, settings), fifo=False, view="open", limit=100, form="table", out=out)
        talk.print(f"3. Why the first of them stands where it does (study {_first(engine, uids)}):")
        print_worklist.show_why(engine, _first(engine, uids), as_json=False, out=out)
        return _wait_results(stand_in, uids, keep, out, talk)


def _destination_on(settings: Settings, port: int) -> ConfiguredDestination:
    found = next((d for d in settings.destinations if d.port == port), None)
    if found is None:
        raise ConfigError((f"no [[destinations]] points to 127.0.0.1:{port}, where the demo plays the PACS; see config/demo.toml",))
    return found


def _send_phantoms(engine: sa.Engine, folder: Path, studies: int, daemon: Destination, talk: Console) -> list[str]:
    """Phantoms with numbers that the ledger does not know yet, of adults, two of three plain, which the bundled network does not raise.

    They are drawings: what it says of them means nothing. Returns their study UIDs.
    """
    first = next(n for n in itertools.count(1) if not _known(engine, phantom_study_uid(n)))
    patients = [
        PhantomPatient(
            number=first + n,
            taken_at=datetime.now(UTC),
            opacity=n % 3 == 2,
            plain=n % 3 != 2,
            age=f"0{30 + 7 * n % 50}Y",
            sex="FM"[n % 2],
        )
        for n in range(studies)
    ]
    for patient in patients:
        (folder / f"phantom-{patient.number:04d}.dcm").write_bytes(phantom_file(patient))
    for outcome in send_files([folder], daemon):
        talk.print(f"   {outcome.path.name}: {outcome.said}")
    return [phantom_study_uid(patient.number) for patient in patients]


def _known(engine: sa.Engine, study_uid: str) -> bool:
    try:
        rows.study(engine, study_uid)
    except NotFound:
        return False
    return True


def _states(engine: sa.Engine, uids: list[str]) -> list[str]:
    found = []
    for uid in uids:
        try:
            found.append(rows.study(engine, uid).ai_state)
        except NotFound:
            found.append("not listed yet")
    return found


def _wait_scored(engine: sa.Engine, uids: list[str], talk: Console) -> bool:
    deadline = time.monotonic() + SCORING_PATIENCE_S
    while time.monotonic() < deadline:
        states = _states(engine, uids)
        if all(state in (AIState.SCORED, AIState.NOT_SCORED, AIState.FAILED) for state in states):
            return True
        time.sleep(0.2)
    talk.print(f"   not scored in {SCORING_PATIENCE_S:g} s: {states}; `prioritizer status` says why", style="bold red")
    return False


def _first(engine: sa.Engine, uids: list[str]) -> str:
    return next(row.study_uid for row in rows.rows(engine, limit=1000) if row.study_uid in uids)


def _wait_results(stand_in: PacsStandIn, uids: list[str], keep: Path, out: Console, talk: Console) -> bool:
    talk.print("4. Waiting for the overlays (published when a study has been quiet for a while) ...")
    stand_in.wait_for(len(uids), PUBLISHING_PATIENCE_S)
    pictures = [(study, path) for study, path in stand_in.write_pictures(keep) if study in uids]
    for study, path in pictures:
        out.print(f"   study {study}: {path}", markup=False, highlight=False, soft_wrap=True)
    if len(pictures) < len(uids):
        talk.print(f"   only {len(pictures)} of {len(uids)} came back; `prioritizer status` says why", style="bold red")
        return False
    talk.print("Done. The phantoms stay on the list until they are read: prioritizer mark-read STUDY_UID --config ...")
    return True
