"""What stands still is an alarm, with its age, who acts and what they do first; and no alarm stands where all is well."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from prioritizer.clock import utc_now
from prioritizer.config.sections import DestinationSection, Listener
from prioritizer.config.settings import Settings
from prioritizer.daemon import alarms
from prioritizer.daemon.alarms import AlarmInputs, Lasting, Parts
from prioritizer.db.activity import daemons
from prioritizer.db.instances import healing
from prioritizer.db.schema import clock_steps
from prioritizer.db.worklist import rows
from prioritizer.study import FileFault
from tests.support.ledgers import POLICY, film, publish, receive, scored, together
from tests.support.phantom_spool import Box, phantom

PACS = DestinationSection(name="pacs", ae_title="PACS", host="127.0.0.1", port=11113)
ROOMY = Listener(min_free_mib=0, min_free_share=0.0)


@pytest.fixture
def box(ledger: sa.Engine, tmp_path: Path) -> Box:
    return Box(ledger, tmp_path, Settings(destinations=(PACS,), listener=ROOMY))


def look(box: Box, **more: object) -> AlarmInputs:
    usual: dict[str, object] = {
        "engine": box.ledger, "spool": box.spool, "settings": box.settings, "policy": POLICY, "ready": [], "parts": Parts(),
        "failing": {}, "growth": 0.0, "unlisted": 0, "now": utc_now(),
    }  # fmt: skip
    return AlarmInputs(**(usual | more))


def names(box: Box, lasting: Lasting | None = None, **more: object) -> set[str]:
    found = alarms.alarms_now(look(box, **more), lasting or Lasting())
    assert all(": " in alarm.mend for alarm in found)
    return {alarm.name for alarm in found}


def test_where_all_is_well_nothing_stands(box: Box):
    receive(box.ledger, film(at=utc_now()))
    assert names(box) == set()
    assert {judge.__name__ for judge in alarms.JUDGES}


def test_an_inbox_that_ages(box: Box):
    box.stored(phantom(1))
    path = next(box.spool.inbox())
    old = utc_now().timestamp() - 600
    os.utime(path, (old, old))
    assert "inbox" in names(box)


def test_a_scoring_queue_that_ages(box: Box):
    receive(box.ledger, film(at=utc_now() - timedelta(minutes=30)))
    lasting, now = Lasting(), utc_now()
    assert "scoring" not in names(box, lasting, now=now)
    assert "scoring" in names(box, lasting, now=now + timedelta(minutes=6))


def test_results_that_nobody_takes(box: Box):
    scored(box.ledger)
    publish(box.ledger, destinations=("pacs", "old-pacs"))
    found = names(box, now=utc_now() + timedelta(days=20))
    assert {"delivery", "destination-unknown"} <= found
    assert "delivery" not in names(box, now=utc_now())
    assert "destination-unknown" in names(box, now=utc_now())


def test_results_that_are_not_built(box: Box):
    scored(box.ledger)
    assert "publishing" in names(box, now=utc_now() + timedelta(hours=2))


def test_a_worker_or_a_job_that_fails_in_a_row(box: Box):
    assert "failing" not in names(box, parts=Parts(failing={"publish": 2}))
    assert "failing" in names(box, parts=Parts(failing={"publish": 5}))
    lasting, now = Lasting(), utc_now()
    assert "failing" not in names(box, lasting, failing={"scrub": "OSError"}, now=now)
    assert "failing" in names(box, lasting, failing={"scrub": "OSError"}, now=now + timedelta(minutes=2))


def test_work_that_is_owed_for_long(box: Box):
    lasting, now = Lasting(), utc_now()
    owed = Parts(owed=("placing every study by the settings of now",))
    assert "owed" not in names(box, lasting, parts=owed, now=now)
    assert "owed" in names(box, lasting, parts=owed, now=now + timedelta(minutes=1))
    assert "owed" not in names(box, lasting, now=now + timedelta(minutes=2))


def test_a_disk_that_fills(box: Box):
    free = box.spool.free_bytes()
    assert "disk-forecast" in names(box, growth=free / 3)
    assert "disk-forecast" not in names(box, growth=free / 30)
    assert "disk-forecast" not in names(box, growth=-1.0)
    full = Box(box.ledger, box.folder, Settings(listener=Listener(min_free_mib=1 << 40 >> 20)))
    full.settings = Settings(listener=Listener(min_free_share=1.0))
    assert "disk" in names(full)


def test_files_and_studies_that_somebody_must_look_at(box: Box):
    receive(box.ledger, film(1, patient_id="A"), film(2, patient_id="B"))
    healing.set_fault(box.ledger, {"1.2.3.1"}, FileFault.MISSING, utc_now())
    healing.set_fault(box.ledger, {"1.2.3.2"}, FileFault.DAMAGED, utc_now())
    clock_steps.record_step(box.ledger, timedelta(hours=-1), utc_now())
    box.spool.quarantine(b"abc", "why", acknowledged=True)
    (box.folder / "spool" / "inbox" / "a folder").mkdir()
    found = names(box)
    assert {"files-missing", "files-damaged", "identity", "clock", "set-aside", "strangers"} <= found
    assert "clock" not in names(box, now=utc_now() + timedelta(hours=2))


def test_alarms_that_cannot_be_judged_are_an_alarm_and_the_others_stand(box: Box, monkeypatch: pytest.MonkeyPatch):
    receive(box.ledger, film(1, at=utc_now()))
    healing.set_fault(box.ledger, ["1.2.3.1"], FileFault.MISSING, utc_now())

    def copies(self: object) -> list[Path]:
        raise OSError(5, "EIO")

    monkeypatch.setattr(type(box.spool), "copies_waiting", copies)
    assert names(box) == {"blind", "files-missing"}


def test_an_alarm_that_cannot_be_judged_now_is_not_cleared(box: Box, monkeypatch: pytest.MonkeyPatch):
    receive(box.ledger, film(1, at=utc_now()))
    healing.set_fault(box.ledger, ["1.2.3.1"], FileFault.MISSING, utc_now())
    chores = box.chores()
    chores.alarms()

    def cannot(*_: object) -> set[str]:
        raise OSError(5, "EIO")

    with monkeypatch.context() as patched:
        patched.setattr(alarms.healing, "faulty", cannot)
        chores.alarms()
        assert {"files-missing", "blind"} <= {name for name, *_ in rows.standing_alarms(box.ledger)}
    healing.set_fault(box.ledger, ["1.2.3.1"], FileFault.NONE, utc_now())
    chores.alarms()
    assert not {"files-missing", "blind"} & {name for name, *_ in rows.standing_alarms(box.ledger)}


def test_a_reason_in_quarantine_that_cannot_be_read_counts_as_one_to_look_at(box: Box, monkeypatch: pytest.MonkeyPatch):
    box.spool.quarantine(b"abc", "why", acknowledged=True)
    genuine = Path.read_bytes

    def read_bytes(self: Path) -> bytes:
        if self.suffix == ".json":
            raise OSError(5, "EIO")
        return genuine(self)

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    assert box.spool.set_aside() == 1
    assert [facts["reason"] for _, facts in box.spool.quarantined()] == ["the file that said why is lost or cannot be read"]


def test_every_alarm_has_a_name_that_is_cleared_again(box: Box):
    everything = look(box, ready=["x"], parts=Parts(failing={"a": 9}))
    assert {alarm.name for alarm in alarms.alarms_now(everything, Lasting())} <= set(alarms.NAMES)


def test_a_daemon_that_was_not_heard_is_told(ledger: sa.Engine):
    from prioritizer.cli.print_worklist import daemon_words

    assert "no daemon runs" in daemon_words(ledger)
    daemons.beat(ledger, "host:1", "d", "/spool")
    assert daemon_words(ledger) == ""
    with ledger.begin() as tx:
        tx.exec_driver_sql("UPDATE daemons SET seen_at = seen_at - 120000000")
    assert "was not heard since" in daemon_words(ledger)
    assert daemons.serving(ledger)[0].silent
    daemons.leave(ledger, "host:1")
    assert daemons.serving(ledger) == []


def test_of_two_daemons_one_serves_until_it_is_silent(ledger: sa.Engine):
    assert daemons.beat(ledger, "host:1", "d", "/one") is None
    found = daemons.beat(ledger, "host:2", "e", "/two")
    assert found is not None
    assert (found.worker, found.bundle_digest) == ("host:1", "d")
    assert [one.worker for one in daemons.serving(ledger)] == ["host:1"]
    with ledger.begin() as tx:
        tx.exec_driver_sql("UPDATE daemons SET seen_at = seen_at - 120000000")
    assert daemons.beat(ledger, "host:2", "e", "/two") is None
    taken = daemons.beat(ledger, "host:1", "d", "/one")
    assert taken is not None
    assert taken.worker == "host:2"


def test_of_many_that_start_at_once_one_serves(ledger: sa.Engine):
    answers = together(*(lambda n=n: daemons.beat(ledger, f"host:{n}", "d", f"/{n}") for n in range(6)))
    assert sum(answer is None for answer in answers) == 1
