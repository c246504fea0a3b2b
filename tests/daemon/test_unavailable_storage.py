"""A file, a folder or a database that is not given for a while: nothing is hidden by it, nothing else stops, and an alarm stands."""

from __future__ import annotations

import errno
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from prioritizer.clock import utc_now
from prioritizer.daemon import alarms
from prioritizer.daemon import receive as daemon_receive
from prioritizer.daemon.alarms import Parts
from prioritizer.daemon.receive import ReceiveWorker
from prioritizer.daemon.scheduled_jobs import ScheduledJobs
from prioritizer.db.activity import refused_associations
from prioritizer.db.instances import healing, retention
from prioritizer.db.processing import receive as processing_receive
from prioritizer.db.schema import connect
from prioritizer.db.schema.tables import instances, notices
from prioritizer.db.worklist import rows as worklist_rows
from prioritizer.dicom.spool import notices as kinds
from prioritizer.dicom.spool import spool as spool_module
from prioritizer.errors import Transient
from prioritizer.study import FileFault
from tests.support.differing_copies import RIGHT, STUDY, UID, lost
from tests.support.ledgers import POLICY
from tests.support.phantom_spool import Box, Well, phantom


def all_connections(box: Box) -> list[sa.Connection]:
    """Of the pool: as pages hold them while the database stalls."""
    box.ledger.pool._timeout = 0.05  # type: ignore[attr-defined]
    held: list[sa.Connection] = []
    while True:
        try:
            held.append(box.ledger.connect().execution_options(prioritizer_readonly=True))
        except sa.exc.TimeoutError:
            return held


def give_back(held: list[sa.Connection]) -> None:
    while held:
        held.pop().close()


def not_given(monkeypatch: pytest.MonkeyPatch, folder: Path, error: type[OSError] = OSError) -> None:
    """The disk does not list this folder."""
    for name in ("scandir", "listdir"):
        genuine = getattr(os, name)

        def asked(path: Any = ".", genuine: Any = genuine) -> Any:
            if str(path) == str(folder):
                raise error(errno.EIO, "EIO")
            return genuine(path)

        monkeypatch.setattr(os, name, asked)


def names_of(box: Box, **known: Any) -> set[str]:
    """The alarms an hour later."""
    given: dict[str, Any] = {"ready": [], "parts": Parts(), "failing": {}, "growth": 0.0, "unlisted": 0}
    look = alarms.AlarmInputs(
        engine=box.ledger, spool=box.spool, settings=box.settings, policy=POLICY, now=utc_now() + timedelta(hours=1), **given | known
    )
    return {alarm.name for alarm in alarms.alarms_now(look, alarms.Lasting())}


def standing_names(box: Box) -> set[str]:
    return {name for name, *_ in worklist_rows.standing_alarms(box.ledger)}


def test_no_free_connection_makes_no_image_nameless(box: Box) -> None:
    box.stored(phantom(2))
    worker = ReceiveWorker(engine=box.ledger, spool=box.spool, policy=POLICY)
    held = all_connections(box)
    with pytest.raises(Transient, match="no connection"):
        worker.step()
    give_back(held)
    while worker.step():
        pass
    assert {row.patient_id for row in box.rows()} == {"PHANTOM-0001", "PHANTOM-0002"}


def test_no_free_connection_makes_no_rebuilt_image_nameless(box: Box) -> None:
    lost(box.ledger)
    held = all_connections(box)
    with pytest.raises(Transient, match="no connection"):
        daemon_receive.rebuild(box.ledger, box.spool, set(), POLICY, utc_now())
    give_back(held)
    daemon_receive.rebuild(box.ledger, box.spool, set(), POLICY, utc_now())
    assert [row.patient_id for row in box.rows()] == ["PHANTOM-0001"]


@pytest.mark.parametrize("refused", [True, False])
def test_only_values_that_the_ledger_refuses_are_entered_bare(box: Box, monkeypatch: pytest.MonkeyPatch, refused: bool) -> None:
    box.stored(phantom(2))
    genuine, faults = processing_receive.receive, [True, True]

    def receive(*rest: Any, **more: Any) -> int:
        if faults:
            faults.pop()
            raise sa.exc.DataError("", {}, ValueError()) if refused else sa.exc.InvalidRequestError()
        return genuine(*rest, **more)

    monkeypatch.setattr(processing_receive, "receive", receive)
    worker = ReceiveWorker(engine=box.ledger, spool=box.spool, policy=POLICY)
    worker.step()
    rows = {row.patient_id for row in box.rows()}
    assert rows == ({"PHANTOM-0001", ""} if refused else {"PHANTOM-0001"})
    if not refused:
        worker._retries._waits.clear()
        while worker.step():
            pass
        assert {row.patient_id for row in box.rows()} == {"PHANTOM-0001", "PHANTOM-0002"}


@pytest.mark.parametrize("error", [Transient("stalls"), sa.exc.InvalidRequestError()])
def test_a_notice_waits_for_the_ledger(box: Box, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    box.spool.board.post(kinds.QUARANTINED, reason="x", file="f.dcm", acknowledged=True)
    worker = ReceiveWorker(engine=box.ledger, spool=box.spool, policy=POLICY)

    def fails(*rest: Any) -> None:
        raise error

    with monkeypatch.context() as now:
        now.setattr(refused_associations, "record_notice", fails)
        try:
            worker._take_notices()
        except Transient:
            assert isinstance(error, Transient)
    assert len(box.spool.notices()) == 1
    worker._notices._waits.clear()
    worker._take_notices()
    with connect.reading(box.ledger) as tx:
        assert tx.scalar(sa.select(sa.func.count()).select_from(notices)) == 1


@pytest.mark.parametrize("of_a_copy", [False, True])
def test_a_file_that_the_disk_does_not_describe_is_an_alarm_or_listed(box: Box, monkeypatch: pytest.MonkeyPatch, of_a_copy: bool) -> None:
    box.stored(phantom(1, **RIGHT) if of_a_copy else phantom(2))
    (path,) = box.spool.copies() if of_a_copy else box.spool.inbox()
    genuine = spool_module.since_when

    def since(entry: os.DirEntry[str]) -> int:
        if entry.name == path.name:
            raise OSError(errno.EUCLEAN, "Structure needs cleaning")
        return genuine(entry)

    monkeypatch.setattr(spool_module, "since_when", since)
    assert names_of(box) & {"copies", "inbox"}  # as long as nobody looked at it
    box.receive()
    assert box.row(STUDY).identity if of_a_copy else len(box.rows()) == 2


@pytest.mark.parametrize("error", [OSError, PermissionError])
def test_a_folder_that_the_disk_does_not_give_stops_no_other_of_a_rebuild(
    box: Box, monkeypatch: pytest.MonkeyPatch, error: type[OSError]
) -> None:
    for number in (2, 3):
        box.stored(phantom(number))
    box.receive()
    lost(box.ledger)
    file = box.spool.find(UID)
    assert file is not None
    with monkeypatch.context() as now:
        not_given(now, file.parent, error)
        chores = box.chores()
        chores.reconcile()
        assert len(box.rows()) == 2
        assert names_of(box, unlisted=chores._unlisted) >= {"unlisted"}
    chores._reconcile_at = 0.0
    chores.reconcile()
    assert len(box.rows()) == 3
    assert chores._unlisted == 0


def test_a_held_file_that_the_disk_does_not_describe_is_damaged_and_stops_no_other(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    box.stored(phantom(2))
    box.receive()
    bad, genuine = box.spool.find(UID), Path.exists

    def exists(self: Path, **more: Any) -> bool:
        if self == bad:
            raise OSError(errno.EIO, "EIO")
        return genuine(self, **more)

    monkeypatch.setattr(Path, "exists", exists)
    chores = box.chores()
    for _ in range(6):
        chores.scrub()
    assert healing.faulty(box.ledger, FileFault.DAMAGED) == {UID}
    chores.reconcile()
    assert chores._reconciled
    assert not healing.faulty(box.ledger, FileFault.MISSING)


@pytest.mark.parametrize("folder", ["inbox", "quarantine", "conflicts"])
def test_a_folder_of_the_spool_that_is_not_given_blinds_no_other_alarm(box: Box, monkeypatch: pytest.MonkeyPatch, folder: str) -> None:
    with box.ledger.begin() as tx:
        tx.execute(instances.update().values(file_fault=FileFault.MISSING))
    junk = box.folder / "junk.dcm"
    junk.write_bytes(b"nothing")
    box.spool.quarantine(junk, "unreadable", acknowledged=True)
    box.chores().alarms()
    assert standing_names(box) >= {"set-aside", "files-missing"}
    not_given(monkeypatch, box.folder / "spool" / folder)
    fresh = Box(box.ledger, box.folder)  # a restart: nothing is remembered
    chores = ScheduledJobs(box.ledger, fresh.spool, lambda: box.settings, Well(), lambda: POLICY, Parts)
    for _ in range(3):
        chores.alarms()
        assert standing_names(box) >= {"set-aside", "files-missing", "blind"}


def test_a_restart_clears_no_alarm_before_it_has_looked(box: Box) -> None:
    chores = box.chores()
    chores._unlisted = 3
    chores.alarms()
    assert "unlisted" in standing_names(box)
    after = box.chores()
    after.alarms()
    assert "unlisted" in standing_names(box)
    after.reconcile()
    after.alarms()
    assert "unlisted" not in standing_names(box)


def test_a_file_that_cannot_be_deleted_keeps_no_other(box: Box) -> None:
    box.stored(phantom(2))
    box.receive()
    with box.ledger.begin() as tx:
        uids = list(tx.scalars(sa.select(instances.c.sop_instance_uid)))
        tx.execute(instances.update().values(pixels_deleted_at=utc_now()))
    gone = list[str]()

    def unlink(uid: str) -> None:
        if uid == UID:
            raise OSError(errno.EPERM, "EPERM")
        gone.append(uid)

    assert retention.unlink_marked(box.ledger, uids, unlink) == 1
    assert gone == [uid for uid in uids if uid != UID]
