"""Each file of the inbox is judged alone: whatever one of them is, the others go on the list."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prioritizer.daemon import receive as daemon_receive
from prioritizer.daemon.receive import ReceiveWorker, read_any
from prioritizer.dicom.spool import files, intake
from prioritizer.dicom.spool.intake import StoreOutcome
from prioritizer.dicom.spool.part10 import encode_header
from prioritizer.errors import Transient
from tests.support.ledgers import POLICY, kinds
from tests.support.phantom_spool import Box, encoded, phantom, receipt_of


@pytest.fixture
def box(ledger: sa.Engine, tmp_path: Path) -> Box:
    return Box(ledger, tmp_path)


def age_as_fd(raw: bytes) -> bytes:
    """Patient's Age with VR FD and 4 bytes: pydicom raises BytesLengthException, which is no ValueError."""
    at = raw.index(b"\x10\x00\x10\x10AS\x04\x00")
    return raw[:at] + b"\x10\x00\x10\x10FD\x04\x00" + raw[at + 8 :]


def test_an_odd_value_representation_stops_no_later_study(box: Box):
    odd = phantom(1)
    box.stored(odd, raw=age_as_fd(encoded(odd)))
    box.stored(phantom(2))
    box.receive()
    assert {row.patient_id for row in box.rows()} == {odd.PatientID, phantom(2).PatientID}


def test_a_file_without_a_receipt_goes_to_quarantine_and_the_others_on_the_list(box: Box):
    inbox = box.spool.root / "inbox"
    (inbox / "1.2.dcm").write_bytes(b"")
    (inbox / "1.3.dcm").write_bytes(b"no DICOM at all")
    (inbox / "notes.txt").write_text("left by somebody")
    (inbox / "folder.dcm").mkdir()
    (inbox / ".nfs0001").write_bytes(b"x")
    box.stored(phantom(1))
    worker = box.receive()
    assert len(box.rows()) == 1
    assert sorted(path.name for path in inbox.iterdir()) == [".nfs0001", "folder.dcm"]
    assert sorted(bool(facts["acknowledged"]) for _, facts in box.spool.quarantined()) == [True, True, True]
    assert box.spool.set_aside() == 3
    assert len(worker._retries) == 0


def test_a_file_that_the_disk_does_not_give_waits_while_the_others_go_on(box: Box, monkeypatch: pytest.MonkeyPatch):
    bad, good = phantom(1), phantom(2)
    box.stored(bad)
    box.stored(good)
    genuine = daemon_receive.read_receipt

    def read(path: Path) -> object:
        if str(bad.SOPInstanceUID) in path.name:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return genuine(path)

    monkeypatch.setattr(daemon_receive, "read_receipt", read)
    worker = box.receive()
    assert [row.patient_id for row in box.rows()] == [good.PatientID]
    assert len(worker._retries) == 1
    monkeypatch.undo()
    box.receive()
    assert len(box.rows()) == 2


def test_a_reading_that_raises_anything_is_a_listed_arrival(box: Box, monkeypatch: pytest.MonkeyPatch):
    """Foreign libraries raise what they like: ZeroDivisionError stands for all of it."""
    box.stored(phantom(1))
    box.stored(phantom(2))
    genuine = daemon_receive.read_arrival

    def read(path: Path) -> object:
        if str(phantom(1).SOPInstanceUID) in path.name:
            raise ZeroDivisionError
        return genuine(path)

    monkeypatch.setattr(daemon_receive, "read_arrival", read)
    box.receive()
    assert sorted(row.ai_state for row in box.rows()) == ["FAILED", "WAITING"]


def test_a_batch_that_the_ledger_does_not_take_is_entered_one_by_one(box: Box, monkeypatch: pytest.MonkeyPatch):
    for number in (1, 2, 3):
        box.stored(phantom(number))
    genuine = daemon_receive.receive.receive
    odd = phantom(2).PatientID

    def receive(engine: sa.Engine, arrivals: list[object], *rest: object, **more: object) -> int:
        if any(one.instance.patient_id == odd for one in arrivals):
            raise sa.exc.DataError("INSERT", {}, ValueError("a value that does not fit"))
        return genuine(engine, arrivals, *rest, **more)

    monkeypatch.setattr(daemon_receive.receive, "receive", receive)
    box.receive()
    reasons = {row.patient_id: row.ai_reason for row in box.rows()}
    assert reasons == {phantom(1).PatientID: "", phantom(3).PatientID: "", "": daemon_receive.NOT_STORED}


def test_a_receipt_that_is_cut_inside_an_element_stops_no_other(box: Box):
    """Its group length is whole and its last element is not: struct.error, which is no ValueError."""
    box.stored(phantom(1))
    path = next(box.spool.inbox())
    whole = path.read_bytes()
    path.write_bytes(whole[:140] + (13).to_bytes(4, "little") + whole[144:])
    box.stored(phantom(2))
    box.receive()
    assert [row.patient_id for row in box.rows()] == [phantom(2).PatientID]
    assert box.spool.set_aside() == 1


def test_files_that_the_disk_never_gives_keep_no_later_one_waiting(box: Box, monkeypatch: pytest.MonkeyPatch):
    many = 3 * daemon_receive.RECEIVE_BATCH
    for number in range(many + 1):
        box.stored(phantom(number))
    genuine, good = daemon_receive.read_receipt, str(phantom(many).SOPInstanceUID)

    def read(path: Path) -> object:
        if good not in path.name:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return genuine(path)

    monkeypatch.setattr(daemon_receive, "read_receipt", read)
    monkeypatch.setattr(daemon_receive, "WAIT_S", 0.0)
    monkeypatch.setattr(daemon_receive, "MAX_WAIT_S", 0.0)
    worker = ReceiveWorker(engine=box.ledger, spool=box.spool, policy=POLICY)
    for _ in range(2 * 3):  # every wait is over at once: the failed ones are due at each of these turns
        assert worker.step()
    assert [row.patient_id for row in box.rows()] == [phantom(many).PatientID]


def test_a_link_to_nothing_does_not_keep_the_station_busy(box: Box):
    (box.spool.root / "inbox" / "1 2.dcm").symlink_to("/nonexistent")
    box.stored(phantom(1))
    worker = box.receive()  # ends when nothing is due
    assert (len(box.rows()), worker.step()) == (1, False)


def test_an_arrival_that_collides_for_ever_stops_no_other(box: Box, monkeypatch: pytest.MonkeyPatch):
    for number in (1, 2, 3):
        box.stored(phantom(number))
    genuine = daemon_receive.receive.enter

    def enter(tx: object, arrival: object, *rest: object, **more: object) -> bool:
        if arrival.instance.sop_instance_uid == phantom(2).SOPInstanceUID:
            raise sa.exc.IntegrityError("INSERT", {}, ValueError("already there"))
        return genuine(tx, arrival, *rest, **more)

    monkeypatch.setattr(daemon_receive.receive, "enter", enter)
    worker = box.receive()
    assert {row.patient_id for row in box.rows()} == {phantom(1).PatientID, phantom(3).PatientID}
    assert len(worker._retries) == 1


def test_a_ledger_that_does_not_answer_loses_nothing(box: Box, monkeypatch: pytest.MonkeyPatch):
    box.stored(phantom(1))

    def down(*_: object, **__: object) -> int:
        raise Transient("the database cannot be used now")

    monkeypatch.setattr(daemon_receive.receive, "receive", down)
    with pytest.raises(Transient):
        box.receive()
    monkeypatch.undo()
    box.receive()
    assert len(box.rows()) == 1


def test_a_notice_that_cannot_be_understood_is_passed_over(box: Box):
    box.spool.board.post("refused-association", calling_ae="X", address="127.0.0.1")
    (odd,) = box.spool.notices()
    odd.write_text('{"kind": "refused-association", "at": "yesterday"}')
    box.stored(phantom(1))
    box.receive()
    assert len(box.rows()) == 1
    assert box.spool.notices() == []


@pytest.mark.parametrize("fault", ["cannot be read", "cannot be deleted", "no object", "no folder"])
def test_a_notice_that_cannot_be_taken_holds_up_no_other_and_no_copy(box: Box, monkeypatch: pytest.MonkeyPatch, fault: str):
    box.stored(phantom(1))
    box.receive()
    bad = box.spool.board.post("refused-object", address="192.0.2.1", reason="bad")
    assert bad is not None
    box.spool.board.post("refused-object", address="192.0.2.2", reason="good")
    box.stored(phantom(1, PatientID="RIGHT-2"))
    if fault == "no object":
        bad.write_text("[" * 100_000)
    asked = failing(monkeypatch, {"cannot be read": "read_bytes", "cannot be deleted": "unlink", "no folder": "iterdir"}.get(fault), bad)
    worker = box.receive()  # ends: nothing is tried again at once
    assert "RIGHT-2" in box.row(str(phantom(1).StudyInstanceUID)).identity
    tries = len(asked)
    assert not worker.step()
    assert fault == "no folder" or len(asked) == tries
    reasons = {"cannot be read": ["good"], "cannot be deleted": ["bad", "good"], "no object": ["good"], "no folder": []}
    assert reasons_of_notices(box) == reasons[fault]
    monkeypatch.undo()
    worker._notices._waits.clear()
    worker.step()
    assert reasons_of_notices(box) == (["good"] if fault == "no object" else ["bad", "good"])
    assert box.spool.notices() == []


def failing(monkeypatch: pytest.MonkeyPatch, method: str | None, of: Path) -> list[Path]:
    """This method of a path, or of its folder, fails with EIO until undone; returns what it was asked of."""
    asked: list[Path] = []
    if method is None:
        return asked
    genuine = getattr(Path, method)

    def fails(self: Path, *how: object, **more: object) -> object:
        if self in (of, of.parent):
            asked.append(self)
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return genuine(self, *how, **more)

    monkeypatch.setattr(Path, method, fails)
    return asked


def reasons_of_notices(box: Box) -> list[str]:
    with box.ledger.connect() as tx:
        return list(tx.scalars(sa.text("SELECT reason FROM notices ORDER BY reason")))


def test_a_copy_is_listed_where_the_disk_does_not_give_the_first_in_the_inbox(box: Box, monkeypatch: pytest.MonkeyPatch):
    box.stored(phantom(1))
    lost = lost_to_the_disk(monkeypatch, next(iter(box.spool.inbox())))
    worker = ReceiveWorker(engine=box.ledger, spool=box.spool, policy=POLICY)
    worker.step()
    assert box.stored(phantom(1)) is StoreOutcome.CONFLICT
    while worker.step():
        pass
    assert [row.patient_id for row in box.rows()] == [phantom(1).PatientID]
    assert (box.spool.copies(), list(box.spool.inbox())) == ([], [])
    ((aside, told),) = box.spool.quarantined()
    assert (aside.stat().st_ino, told["acknowledged"], box.spool.set_aside()) == (lost, True, 1)


def test_where_the_disk_gives_nothing_the_first_stays(box: Box, monkeypatch: pytest.MonkeyPatch):
    box.stored(phantom(1))
    box.stored(phantom(1, PatientID="RIGHT-2"))
    (first,), (copy,) = box.spool.inbox(), box.spool.copies()
    lost_to_the_disk(monkeypatch, first)

    def none(path: Path) -> str:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    for module in (files, intake):
        monkeypatch.setattr(module, "data_set_digest", none)
    with pytest.raises(OSError, match="open files"):
        box.spool.make_way(copy)
    assert (list(box.spool.inbox()), box.spool.copies()) == ([first], [copy])


def lost_to_the_disk(monkeypatch: pytest.MonkeyPatch, path: Path) -> int:
    """The disk does not give this file any more, wherever it is moved; returns its number."""
    number, genuine = path.stat().st_ino, Path.open

    def opened(self: Path, mode: str = "r", *how: object, **more: object) -> object:
        if "r" in mode and self.exists() and self.stat().st_ino == number:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return genuine(self, mode, *how, **more)

    monkeypatch.setattr(Path, "open", opened)
    return number


def test_a_file_that_is_lost_while_the_ledger_does_not_take_it_waits_alone(box: Box, monkeypatch: pytest.MonkeyPatch):
    for number in (1, 2, 3):
        box.stored(phantom(number))
    genuine, odd = daemon_receive.receive.receive, phantom(2)

    def receive(engine: sa.Engine, arrivals: list[object], *rest: object, **more: object) -> int:
        if any(one.instance.patient_id == odd.PatientID for one in arrivals):
            raise sa.exc.DataError("INSERT", {}, ValueError("a value that does not fit"))
        return genuine(engine, arrivals, *rest, **more)

    def bare(path: Path) -> object:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(daemon_receive.receive, "receive", receive)
    monkeypatch.setattr(daemon_receive.attributes, "bare_instance", bare)
    worker = box.receive()
    assert {row.patient_id for row in box.rows()} == {phantom(1).PatientID, phantom(3).PatientID}
    assert (len(worker._retries), [path.stem for path in box.spool.inbox()]) == (1, [str(odd.SOPInstanceUID)])


def test_a_stranger_whose_kind_the_disk_does_not_say_stops_nothing(box: Box, monkeypatch: pytest.MonkeyPatch):
    odd = box.spool.root / "inbox" / "odd"
    odd.write_bytes(b"x")
    failing(monkeypatch, "is_file", odd)
    box.stored(phantom(1))
    box.receive()
    assert (len(box.rows()), odd.exists()) == (1, True)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_bytes_behind_a_valid_receipt_give_an_arrival(tmp_path: Path, data: st.DataObject):
    one = phantom(1)
    whole = encoded(one)
    cut = data.draw(st.integers(0, len(whole)))
    at = data.draw(st.integers(0, max(cut - 1, 0)))
    noise = data.draw(st.binary(max_size=24))
    path = tmp_path / "any.dcm"
    path.write_bytes(encode_header(receipt_of(one)) + whole[:at] + noise + whole[at + len(noise) : cut])
    arrival = read_any(path)
    assert arrival.instance.sop_instance_uid == one.SOPInstanceUID
    assert arrival.instance.sha256


def test_a_report_or_presentation_state_leaves_a_read_study_read(box: Box):
    from prioritizer.db.worklist import reading
    from tests.support.ledgers import NOW, film, receive, scored

    for number, sop_class in enumerate(("88.11", "11.1", "88.67", "104.1", "88.59"), start=2):
        study = f"1.2.{number}"
        scored(box.ledger, study)
        reading.read(box.ledger, study, "anna", NOW)
        uid = f"1.2.840.10008.5.1.4.1.1.{sop_class}"
        receive(box.ledger, film(number, study, sop_class_uid=uid, has_pixels=False, modality="SR"))
        assert box.row(study).reading_state == "READ"
        assert "late-instance" not in kinds(box.ledger, study)
        receive(box.ledger, film(number + 10, study))
        assert box.row(study).reading_state == "OPEN"
