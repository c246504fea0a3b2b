"""What a person confirms is what they were shown, and what comes meanwhile is asked in its own right."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pydicom
import pytest
import sqlalchemy as sa

from prioritizer.clock import utc_now
from prioritizer.daemon import confirmed_copies, identity_confirmation
from prioritizer.daemon import differing_copies as judged
from prioritizer.daemon.receive import read_any
from prioritizer.db.activity import queues
from prioritizer.db.instances import differing_copies as instances_differing_copies
from prioritizer.db.instances import differing_copies as kept_copies
from prioritizer.db.instances import joining, taking_copies
from prioritizer.db.instances.differing_copies import Newer
from prioritizer.db.processing import deliver
from prioritizer.db.schema import clock_steps
from prioritizer.db.schema.tables import instances
from prioritizer.db.worklist import rows
from prioritizer.errors import NotAllowed, Transient
from prioritizer.states import CopyState
from prioritizer.study import HELD_WORDS, Hold
from tests.support.differing_copies import IN_A_MINUTE, RIGHT, STUDY, THIRD, UID, dies, later, lost, other_pixels, settle, states
from tests.support.ledgers import LEASE, POLICY, score_next
from tests.support.phantom_spool import Box, module_of_step, phantom


@pytest.mark.parametrize("restarts", [False, True])
def test_a_copy_that_came_while_another_was_being_taken_waits_and_holds_the_result(
    box: Box, monkeypatch: pytest.MonkeyPatch, restarts: bool
):
    box.stored(phantom(1, **RIGHT))
    worker = box.receive()
    dies(monkeypatch, box)
    assert box.row(STUDY).identity == instances_differing_copies.BEING_TAKEN
    box.stored(phantom(1, **THIRD))
    while worker.step():
        pass
    later(box.receive() if restarts else worker)
    row = box.row(STUDY)
    assert (row.patient_id, states(box)) == ("RIGHT-2", [CopyState.TAKEN, CopyState.WAITING])
    assert "THIRD-3" in row.identity
    assert instances_differing_copies.BEING_TAKEN not in row.identity
    assert queues.why_unpublished(box.ledger, STUDY) == HELD_WORDS[Hold.IDENTITY]
    settle(box, take=False)
    assert (box.row(STUDY).identity, queues.why_unpublished(box.ledger, STUDY)) == ("", "")


@pytest.mark.parametrize("take", [False, True])
def test_a_copy_that_comes_at_the_very_moment_is_not_settled_unseen(box: Box, monkeypatch: pytest.MonkeyPatch, take: bool):
    box.stored(phantom(1, **RIGHT))
    box.receive()
    shown, genuine = instances_differing_copies.mark_of(box.ledger, STUDY), rows.study

    def study(engine: sa.Engine, uid: str) -> rows.WorklistRow:
        box.stored(phantom(1, **THIRD))
        box.receive()
        return genuine(engine, uid)

    with monkeypatch.context() as patched:
        patched.setattr(identity_confirmation.rows, "study", study)
        with pytest.raises(NotAllowed, match="something else came since"):
            settle(box, take=take, shown=shown)
    assert states(box) == [CopyState.WAITING, CopyState.WAITING]
    assert "THIRD-3" in box.row(STUDY).identity


def test_a_confirmed_copy_whose_file_is_gone_waits_also_where_another_was_taken(box: Box, monkeypatch: pytest.MonkeyPatch):
    box.stored(phantom(1, 2))
    box.receive()
    for image in (1, 2):
        box.stored(phantom(1, image, **RIGHT))
    worker = box.receive()
    dies(monkeypatch, box, in_place=False)
    box.spool.copies()[0].unlink()
    for _ in range(3):
        later(worker)
        worker._copies._takings._waits.clear()
    assert sorted(states(box)) == [CopyState.TAKEN, CopyState.WAITING]
    assert "its file is gone or cannot be read" in box.row(STUDY).identity
    assert instances_differing_copies.BEING_TAKEN not in box.row(STUDY).identity
    settle(box, take=False)
    assert sorted(states(box)) == [CopyState.KEPT, CopyState.TAKEN]


@pytest.mark.parametrize("in_place", [False, True])
def test_a_confirmed_copy_that_the_disk_does_not_give_is_tried_ever_later_and_then_a_person_is_asked(
    box: Box, monkeypatch: pytest.MonkeyPatch, in_place: bool
):
    box.stored(phantom(1, **RIGHT))
    worker = box.receive()
    dies(monkeypatch, box, in_place=in_place)
    tries: list[Path] = []

    def read(path: Path) -> None:
        tries.append(path)
        raise OSError(errno.EIO, "EIO")

    assert worker._copies is not None
    worker._copies.read = read
    for _ in range(20):
        later(worker)
    assert len(tries) == 1, "not in every turn"
    with pytest.raises(NotAllowed, match="look again in a minute"):
        settle(box, take=False)
    for _ in range(judged.MAX_TRIES):
        worker._copies._takings.now = lambda: 1e12
        later(worker)
        worker._copies._takings._waits = {study: (0.0, wait, n) for study, (_, wait, n) in worker._copies._takings._waits.items()}
    if in_place:
        assert states(box) == [CopyState.TAKING], "the other patient's picture lies there: what is shown cannot be kept"
        assert queues.why_unpublished(box.ledger, STUDY) == HELD_WORDS[Hold.IDENTITY]
        return
    assert states(box) == [CopyState.WAITING]
    assert "cannot be read" in box.row(STUDY).identity
    settle(box, take=False)
    assert (states(box), box.row(STUDY).identity) == ([CopyState.KEPT], "")


def test_what_a_clock_ahead_dated_as_begun_is_ended(box: Box, monkeypatch: pytest.MonkeyPatch):
    box.stored(phantom(1, **RIGHT))
    worker = box.receive()
    with monkeypatch.context() as patched:
        patched.setattr(taking_copies, "settle", lambda *_, **__: 1 / 0)
        with contextlib.suppress(ZeroDivisionError):
            ahead = utc_now() + timedelta(days=2)
            confirmed_copies.confirm(box.ledger, box.spool, read_any, STUDY, take=True, who="anna", policy=POLICY, clock=lambda: ahead)
    later(worker)
    assert states(box) == [CopyState.TAKEN]


def test_the_newest_copy_is_the_one_that_came_last_whatever_the_clock_did(box: Box):
    worker = box.receive()
    assert worker._copies is not None
    worker._copies.clock = lambda: utc_now() + timedelta(hours=2)
    box.stored(phantom(1, **THIRD))
    worker.step()
    worker._copies.clock = utc_now
    clock_steps.hold_to_present(box.ledger, utc_now())
    box.stored(phantom(1, **RIGHT))
    while worker.step():
        pass
    settle(box, take=True)
    assert box.row(STUDY).patient_id == "RIGHT-2"


def test_a_row_with_a_copy_of_another_study_joins_the_first_and_the_copy_still_waits(box: Box):
    box.stored(phantom(1, SOPInstanceUID="1.2.3.77", PatientID="B-2", PatientName="Bee^Other"))
    box.stored(phantom(5))
    box.receive()
    second = next(row.study_uid for row in box.rows() if "~" in row.study_uid)
    box.stored(phantom(1, SOPInstanceUID=str(phantom(5).SOPInstanceUID), PatientID="B-2", PatientName="Bee^Other"))
    box.receive()
    assert instances_differing_copies.newer_for(box.ledger, second) is Newer.FIRST_ROW
    assert "one study now" in settle(box, take=True, study=second)
    assert [one.study_uid for one in instances_differing_copies.waiting(box.ledger)] == [STUDY]
    assert "has the SOP Instance UID of an image" in box.row(STUDY).identity


def test_other_pixels_of_an_image_that_named_no_study_wait_on_the_row_of_its_study(ledger: sa.Engine, tmp_path: Path):
    box = Box(ledger, tmp_path)
    box.stored(phantom(1, StudyInstanceUID=""))
    box.receive()
    box.stored(other_pixels())
    box.receive()
    assert [row.study_uid for row in box.rows()] == [STUDY]
    assert [one.study_uid for one in instances_differing_copies.waiting(ledger)] == [STUDY]
    assert "other pixels, confirm" in box.row(STUDY).identity
    assert list(box.spool.quarantined()) == [], "the first picture is still the one that is held"


def test_the_same_image_that_named_no_study_takes_its_place_in_the_study(ledger: sa.Engine, tmp_path: Path):
    box = Box(ledger, tmp_path)
    box.stored(phantom(1, StudyInstanceUID=""))
    box.receive()
    box.stored(phantom(1))
    box.receive()
    assert ([row.study_uid for row in box.rows()], instances_differing_copies.waiting(ledger)) == ([STUDY], [])


def test_a_correction_that_came_compressed_with_loss_waits(ledger: sa.Engine, tmp_path: Path):
    box = Box(ledger, tmp_path)
    box.stored(phantom(1, BodyPartExamined="ABDOMEN"))
    box.receive()
    lossy = phantom(1, BodyPartExamined="CHEST")
    lossy.compress("1.2.840.10008.1.2.4.91", encoding_plugin="pylibjpeg", j2k_cr=[2], generate_instance_uid=False)
    box.stored(lossy, syntax="1.2.840.10008.1.2.4.91")
    box.receive(same_pixels=lambda one, other: True)
    assert "other description, confirm" in box.row(STUDY).identity
    settle(box, take=True)
    with ledger.begin() as tx:
        assert tx.scalar(sa.select(instances.c.attributes))["body_part"] == "CHEST"


def test_the_stat_of_an_order_counts_also_where_the_pixels_differ(box: Box):
    sent = other_pixels()
    sent.RequestedProcedurePriority = "STAT"
    box.stored(sent)
    box.receive()
    row = box.row(STUDY)
    assert (row.stat, "other pixels" in row.identity) == (True, True)


def test_the_stat_of_an_order_of_another_patient_does_not_count_until_it_is_confirmed(box: Box):
    box.stored(phantom(1, RequestedProcedurePriority="STAT", **RIGHT))
    box.receive()
    assert not box.row(STUDY).stat
    settle(box, take=True)
    assert box.row(STUDY).stat


def test_a_copy_that_was_kept_aside_is_listed_and_not_published_after_the_ledger_was_lost(box: Box):
    box.stored(phantom(1, **RIGHT))
    box.receive()
    settle(box, take=False)
    assert box.spool.remove(UID), "as retention does"
    lost(box.ledger)
    box.receive()
    box.chores().reconcile()
    score_next(box.ledger, 0.9)
    assert [row.patient_id for row in box.rows()] == ["RIGHT-2"]
    assert box.spool.copies() == []
    assert "only a copy is left" in box.row(STUDY).identity
    assert deliver.claim_study(box.ledger, "p", LEASE, utc_now() + 5 * IN_A_MINUTE) is None
    settle(box, take=False)
    assert deliver.claim_study(box.ledger, "p", LEASE, utc_now() + 5 * IN_A_MINUTE) is not None


@pytest.mark.parametrize("step", ["put_in_place", "drop_copy"])
def test_a_copy_of_nothing_that_is_held_is_listed_through_a_fault_at_any_step(box: Box, monkeypatch: pytest.MonkeyPatch, step: str):
    box.stored(phantom(1, **RIGHT))
    assert box.spool.remove(UID)
    lost(box.ledger)
    genuine: Callable[..., Any] = getattr(box.spool, step)
    tries = iter(range(9))

    def fails_once(*rest: Any) -> Any:
        if next(tries) == 0:
            raise OSError(errno.EIO, "EIO")
        return genuine(*rest)

    monkeypatch.setattr(box.spool, step, fails_once)
    worker = box.receive()
    assert worker._copies is not None
    worker._copies._retries._waits.clear()
    while worker.step():
        pass
    assert [row.patient_id for row in box.rows()] == ["RIGHT-2"]
    assert (box.spool.find(UID) is not None, box.spool.copies()) == (True, [])


def test_a_confirmed_copy_that_was_lost_when_it_lay_in_its_place_is_settled_by_what_lies_there(box: Box, monkeypatch: pytest.MonkeyPatch):
    box.stored(phantom(1, **RIGHT))
    worker = box.receive()
    dies(monkeypatch, box)
    box.spool.copies()[0].unlink()
    later(worker)
    file = box.spool.find(UID)
    assert file is not None
    assert (states(box), box.row(STUDY).patient_id, pydicom.dcmread(file).PatientID) == ([CopyState.TAKEN], "RIGHT-2", "RIGHT-2")
    assert (box.row(STUDY).identity, queues.why_unpublished(box.ledger, STUDY)) == ("", "")


def ended_by_another_meanwhile(box: Box, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Between what a worker is told and what it does, another process ends the taking, and a third patient's copy comes."""
    genuine: Callable[..., Any] = getattr(module_of_step(name), name)
    once = [True]

    def told(*rest: Any) -> Any:
        found = genuine(*rest)
        if once:
            once.clear()
            confirmed_copies.end_taking(box.ledger, box.spool, read_any, STUDY, who="anna", policy=POLICY)
            box.stored(phantom(1, **THIRD))
            box.receive()
        return found

    monkeypatch.setattr(module_of_step(name), name, told)


@pytest.mark.parametrize("name", ["being_taken", "taken_of"])
def test_of_two_that_end_one_taking_the_second_settles_and_holds_nothing(box: Box, monkeypatch: pytest.MonkeyPatch, name: str):
    box.stored(phantom(1, **RIGHT))
    worker = box.receive()
    dies(monkeypatch, box)
    ended_by_another_meanwhile(box, monkeypatch, name)
    later(worker)
    assert states(box) == [CopyState.TAKEN, CopyState.WAITING]
    assert "THIRD-3" in box.row(STUDY).identity
    settle(box, take=False)
    assert (box.row(STUDY).identity, queues.why_unpublished(box.ledger, STUDY)) == ("", "")


def test_take_said_again_ends_what_was_begun_and_joins_no_patients(box: Box, monkeypatch: pytest.MonkeyPatch):
    box.stored(phantom(1, SOPInstanceUID="1.2.3.77", PatientID="B-2", PatientName="Bee^Other"))
    box.receive()
    second = next(row.study_uid for row in box.rows() if "~" in row.study_uid)
    box.stored(phantom(1, SOPInstanceUID="1.2.3.77", PatientID="B-2", PatientName="Ceh^Other"))
    box.receive()
    with monkeypatch.context() as patched:
        patched.setattr(taking_copies, "settle", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            settle(box, take=True, study=second)
    with pytest.raises(NotAllowed, match="being put in its place"):
        joining.join(box.ledger, second, "anna", POLICY, utc_now())
    settle(box, take=True, study=second)
    assert {row.study_uid: row.patient_name for row in box.rows()} == {STUDY: phantom(1).PatientName, second: "Ceh^Other"}


def test_without_a_mark_too_nothing_is_settled_that_came_after_the_listing(box: Box, monkeypatch: pytest.MonkeyPatch):
    box.stored(phantom(1, **RIGHT))
    box.receive()
    genuine = instances_differing_copies.waiting

    def waiting(*rest: Any) -> Any:
        found = genuine(*rest)
        box.stored(phantom(1, **THIRD))
        box.receive()
        return found

    with monkeypatch.context() as patched:
        patched.setattr(kept_copies, "waiting", waiting)
        with pytest.raises(NotAllowed, match="something else came since"):
            settle(box, take=True)
    assert states(box) == [CopyState.WAITING, CopyState.WAITING]


def test_a_fault_of_any_kind_in_one_taking_stops_no_other_copy(box: Box, monkeypatch: pytest.MonkeyPatch):
    box.stored(phantom(2))
    box.receive()
    box.stored(phantom(1, **RIGHT))
    worker = box.receive()
    dies(monkeypatch, box)
    box.stored(phantom(2, **THIRD))
    monkeypatch.setattr(judged, "end_taking", lambda *_, **__: 1 / 0)
    later(worker)
    later(worker)
    assert str(phantom(2).StudyInstanceUID) in {one.study_uid for one in instances_differing_copies.waiting(box.ledger)}


def test_a_process_that_cannot_be_started_keeps_one_copy_waiting(box: Box):
    box.stored(phantom(1, StudyDescription="other bytes"))
    box.stored(phantom(2))
    worker = box.receive(same_pixels=lambda one, other: cannot_start())
    box.stored(phantom(2, **THIRD))
    for _ in range(3):
        worker.step()
    assert [one.sop_instance_uid for one in instances_differing_copies.waiting(box.ledger)] == [phantom(2).SOPInstanceUID]


def cannot_start() -> bool:
    raise Transient("no process can be started now")


def test_a_copy_that_stands_alone_is_listed_also_where_the_ledger_stores_nothing_of_its_header(box: Box, monkeypatch: pytest.MonkeyPatch):
    box.stored(phantom(1, **RIGHT))
    assert box.spool.remove(UID)
    lost(box.ledger)
    genuine = judged.receive.receive

    def receive(engine: sa.Engine, arrivals: Any, *rest: Any, **more: Any) -> int:
        if any(one.instance.patient_id for one in arrivals):
            raise OverflowError("a value that does not fit")
        return genuine(engine, arrivals, *rest, **more)

    monkeypatch.setattr(judged.receive, "receive", receive)
    box.receive()
    assert len(box.rows()) == 1
    assert box.spool.copies() == []


def test_a_copy_that_stands_alone_is_asked_about_also_in_a_study_that_is_read_today(box: Box):
    box.stored(phantom(1, 2))
    box.stored(phantom(1, 2, StationName="another"))
    (waits,) = box.spool.inbox()
    waits.unlink()  # lost before it was entered
    box.receive()
    assert box.row(STUDY).instances == 2
    assert "only a copy is left" in box.row(STUDY).identity
    assert queues.why_unpublished(box.ledger, STUDY)


def test_a_damaged_copy_is_replaced_when_it_is_sent_again(box: Box):
    box.stored(phantom(1, **RIGHT))
    (copy,) = box.spool.copies()
    whole = copy.read_bytes()
    copy.write_bytes(whole[:-9])
    box.stored(phantom(1, **RIGHT))
    assert pydicom.dcmread(copy).PatientID == "RIGHT-2"
    assert len(box.spool.copies()) == 1
