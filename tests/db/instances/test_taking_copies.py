"""A crash, or a fault of the ledger, between the file that is put in place and its row."""

from __future__ import annotations

from contextlib import suppress

import pytest
import sqlalchemy as sa

from prioritizer.clock import utc_now
from prioritizer.daemon import identity_confirmation
from prioritizer.db.instances import differing_copies, healing
from prioritizer.db.processing import deliver
from prioritizer.db.worklist import reading
from prioritizer.errors import NotAllowed
from prioritizer.states import CopyState
from prioritizer.study import FileFault
from tests.support.differing_copies import RIGHT, STUDY, UID, lose, other_pixels, settle, states
from tests.support.ledgers import LEASE, POLICY, score_next
from tests.support.phantom_spool import Box, module_of_step, phantom


def fails_once(monkeypatch: pytest.MonkeyPatch, name: str, error: BaseException) -> None:
    """The next call of this step of the ledger fails, the one after it does not."""
    genuine, left = getattr(module_of_step(name), name), [1]

    def step(*args: object, **more: object) -> object:
        if left[0]:
            left[0] = 0
            raise error
        return genuine(*args, **more)

    monkeypatch.setattr(module_of_step(name), name, step)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("a fault")])
def test_a_copy_that_heals_is_taken_however_often_that_is_begun(box: Box, monkeypatch: pytest.MonkeyPatch, error: BaseException):
    score_next(box.ledger, 0.9)
    reading.read(box.ledger, STUDY, "anna", utc_now())
    lose(box)
    box.stored(other_pixels())
    fails_once(monkeypatch, "enter_taken", error)
    with suppress(KeyboardInterrupt):
        box.receive()
    box.chores().reconcile()
    assert healing.faulty(box.ledger, FileFault.MISSING) | healing.faulty(box.ledger, FileFault.DAMAGED) == {UID}, "not whole yet"
    box.receive()
    assert (box.row(STUDY).reading_state, box.row(STUDY).ai_state) == ("OPEN", "WAITING")
    assert (box.spool.copies(), box.spool.find(UID) is not None) == ([], True)


def test_what_came_after_retention_is_not_unlinked_by_a_start_in_between(box: Box, monkeypatch: pytest.MonkeyPatch):
    score_next(box.ledger, 0.9)
    with box.ledger.begin() as tx:
        tx.execute(sa.text("UPDATE instances SET pixels_deleted_at = 1"))
    box.spool.remove(UID)
    box.stored(phantom(1))
    fails_once(monkeypatch, "enter_taken", KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        box.receive()
    box.chores().reconcile()
    box.receive()
    assert box.spool.find(UID) is not None


def test_what_a_person_took_is_ended_after_a_fault_and_keep_is_refused_meanwhile(box: Box, monkeypatch: pytest.MonkeyPatch):
    score_next(box.ledger, 0.9)
    box.stored(phantom(1, **RIGHT))
    box.receive()
    fails_once(monkeypatch, "settle", KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        settle(box, take=True)
    with pytest.raises(NotAllowed, match="is being put in its place"):
        settle(box, take=False)
    assert deliver.claim_study(box.ledger, "p", LEASE, utc_now()) is None
    box.receive()
    assert (box.row(STUDY).patient_id, states(box), box.spool.copies()) == ("RIGHT-2", [CopyState.TAKEN], [])
    assert deliver.claim_study(box.ledger, "p", LEASE, utc_now()) is not None


def test_of_two_copies_that_wait_the_newest_is_taken(box: Box):
    box.stored(phantom(1, PatientName="Older^Person"))
    box.receive()
    box.stored(phantom(1, **RIGHT))
    box.receive()
    settle(box, take=True)
    assert box.row(STUDY).patient_id == "RIGHT-2"
    assert sorted(states(box)) == [CopyState.KEPT, CopyState.TAKEN]


def test_nothing_is_confirmed_that_was_not_shown(box: Box):
    box.stored(phantom(1, **RIGHT))
    box.receive()
    shown = differing_copies.mark_of(box.ledger, STUDY)
    box.stored(phantom(1, PatientID="WRONG-3", PatientName="Wrong^Person"))
    box.receive()
    how = {"who": "anna", "policy": POLICY, "shown": shown}
    for take in (True, False):
        with pytest.raises(NotAllowed, match="something else came"):
            identity_confirmation.settle(box.ledger, box.spool, STUDY, take=take, **how)
    assert box.row(STUDY).patient_id == phantom(1).PatientID
