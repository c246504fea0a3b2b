"""Confirmations that meet: of two processes, of two copies of one image, of a page and what comes while it is drawn; both databases."""

from __future__ import annotations

import errno
import os
import re
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pydicom
import pytest

from prioritizer.access import Role
from prioritizer.cli import print_worklist
from prioritizer.clock import utc_now
from prioritizer.daemon import confirmed_copies
from prioritizer.daemon.receive import read_any
from prioritizer.db.activity import queues
from prioritizer.db.instances import differing_copies, taking_copies
from prioritizer.db.processing import deliver
from prioritizer.db.worklist import rows
from prioritizer.dicom.read import attributes
from prioritizer.dicom.spool import files, intake, part10
from prioritizer.dicom.spool import spool as spool_module
from prioritizer.errors import NotAllowed
from prioritizer.states import CopyState
from prioritizer.web.pages import study as page
from tests.support.differing_copies import RIGHT, STUDY, THIRD, UID, dies, later, lost, other_pixels, settle, states
from tests.support.ledgers import LEASE, POLICY, score_next
from tests.support.page_client import at
from tests.support.phantom_spool import Box, phantom


def in_file(box: Box) -> str:
    file = box.spool.find(UID)
    assert file is not None
    return str(pydicom.dcmread(file).PatientID)


def a_report() -> pydicom.Dataset:
    sr = phantom(1, 5)
    sr.SOPClassUID, sr.Modality, sr.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.88.11", "SR", "1.2.3.99"
    del sr.PixelData
    return sr


@pytest.mark.parametrize("comes_again", [False, True])
@pytest.mark.parametrize("at_which", ["put_in_place", "settle"])
def test_who_ends_a_taking_late_overrules_no_later_word(
    box: Box, monkeypatch: pytest.MonkeyPatch, at_which: str, comes_again: bool
) -> None:
    """A process is stopped while it puts a copy in its place, another ends that, and a third copy is confirmed meanwhile.

    Where the first copy was sent again, and so lies there again, the late one puts it in its place once more, and takes it back.
    """
    box.stored(phantom(1, **RIGHT))
    worker = box.receive()
    dies(monkeypatch, box)
    owner: Any = taking_copies if at_which == "settle" else spool_module.Spool
    genuine, stopped = getattr(owner, at_which), [True]

    def late(*rest: Any, **more: Any) -> Any:
        if stopped:
            stopped.clear()
            confirmed_copies.end_taking(box.ledger, box.spool, read_any, STUDY, who="anna", policy=POLICY)
            box.stored(phantom(1, **THIRD))
            box.receive()
            settle(box, take=True)
            assert (box.row(STUDY).patient_id, in_file(box)) == ("THIRD-3", "THIRD-3")
            if comes_again:
                box.stored(phantom(1, **RIGHT))
        return genuine(*rest, **more)

    monkeypatch.setattr(owner, at_which, late)
    later(worker)
    assert not stopped
    assert (box.row(STUDY).patient_id, in_file(box)) == ("THIRD-3", "THIRD-3")
    file, held = box.spool.find(UID), differing_copies.held(box.ledger, UID)
    assert file is not None
    assert held is not None
    assert attributes.sha256_of(file) == held.instance.sha256


def test_of_two_copies_that_are_being_taken_the_later_word_counts_whatever_the_clock_did(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    box.stored(phantom(1, **RIGHT))
    worker = box.receive()
    dies(monkeypatch, box, in_place=False)
    first = box.spool.copies()[0]
    box.stored(phantom(1, **THIRD))
    while worker.step():
        pass
    second = next(path for path in box.spool.copies() if path != first)
    an_hour_ago = time.time() - 3600  # the clock was an hour ahead when the first came
    os.utime(second, (an_hour_ago, an_hour_ago))
    settle(box, take=True)
    assert (box.row(STUDY).patient_id, in_file(box)) == ("THIRD-3", "THIRD-3")
    assert sorted(states(box)) == [CopyState.KEPT, CopyState.TAKEN]
    assert box.row(STUDY).identity == ""


def test_a_confirmed_copy_that_the_disk_does_not_give_is_asked_again_though_the_first_is_damaged(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    box.stored(phantom(1, **RIGHT))
    worker = box.receive()
    dies(monkeypatch, box, in_place=False)
    copy, file = box.spool.copies()[0], box.spool.find(UID)
    assert file is not None
    data = bytearray(file.read_bytes())
    data[-9] ^= 0xFF
    file.unlink()
    file.write_bytes(data)
    genuine = Path.open

    def opens(self: Path, *rest: Any, **more: Any) -> Any:
        if self == copy and (not rest or "r" in rest[0]):
            raise OSError(errno.EIO, "EIO")
        return genuine(self, *rest, **more)

    monkeypatch.setattr(Path, "open", opens)
    for _ in range(12):
        later(worker)
        takings = worker._copies._takings  # type: ignore[union-attr]
        takings._waits = {key: (0.0, *rest) for key, (_, *rest) in takings._waits.items()}  # type: ignore[misc]
    assert states(box) == [CopyState.WAITING]
    assert "cannot be read" in box.row(STUDY).identity
    settle(box, take=False)
    assert (states(box), box.row(STUDY).identity) == ([CopyState.KEPT], "")


def test_the_mark_of_a_page_holds_nothing_that_came_while_it_was_drawn(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    box.stored(phantom(1, **RIGHT))
    box.receive()
    genuine = page.side_by_side

    def drawn(*rest: Any) -> Any:
        found = genuine(*rest)
        box.stored(phantom(1, **THIRD))
        box.receive()
        return found

    monkeypatch.setattr(page, "side_by_side", drawn)
    with at(box.ledger, "ada", Role.ADMIN, settle_identity=lambda *_: None) as client:
        text = client.get(f"/study/{STUDY}").text
    assert "RIGHT-2" in text
    (mark,) = set(re.findall(r'name="shown" value="([0-9a-f]{16})"', text))
    with pytest.raises(NotAllowed, match="something else came"):
        settle(box, take=True, shown=mark)


def test_the_mark_of_the_list_holds_nothing_that_came_while_it_was_made(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    box.stored(phantom(1, **RIGHT))
    box.receive()
    before, genuine = differing_copies.mark_of(box.ledger, STUDY), print_worklist.side_by_side

    def made(*rest: Any) -> Any:
        found = genuine(*rest)
        box.stored(phantom(1, **THIRD))
        box.receive()
        return found

    if box.ledger.dialect.name == "sqlite":  # a second writer in this very thread would look with the eyes of the list
        return
    import threading

    def aside(*rest: Any) -> Any:
        thread = threading.Thread(target=made, args=rest)
        thread.start()
        thread.join()
        return genuine(*rest)

    monkeypatch.setattr(print_worklist, "side_by_side", aside)
    (doubt,) = print_worklist.as_listed(box.ledger)
    assert differing_copies.mark_of(box.ledger, STUDY) != before
    assert doubt["shown"] == before


def test_two_copies_of_one_short_name_are_both_kept(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    genuine = part10.data_set_digest
    for module in (files, intake):
        monkeypatch.setattr(module, "data_set_digest", lambda path: "0" * 12 + genuine(path)[12:])
    for stated in (RIGHT, THIRD):
        box.stored(phantom(1, **stated))
    assert {str(pydicom.dcmread(path).PatientID) for path in box.spool.copies()} == {"RIGHT-2", "THIRD-3"}
    box.stored(phantom(1, **THIRD))
    assert len(box.spool.copies()) == 2
    box.receive()
    assert states(box) == [CopyState.WAITING, CopyState.WAITING]


def test_a_report_that_comes_first_to_an_empty_ledger_lets_no_result_of_before_out(box: Box) -> None:
    lost(box.ledger)
    box.stored(a_report())
    box.receive()
    box.chores().reconcile()
    score_next(box.ledger, 0.9)
    assert rows.held_after_rebuild(box.ledger) == 1
    assert deliver.claim_study(box.ledger, "p", LEASE, utc_now() + timedelta(minutes=5)) is None


def test_a_copy_decided_against_in_a_lost_ledger_is_asked_about_though_a_new_image_came_first(box: Box) -> None:
    box.stored(other_pixels())
    box.receive()
    settle(box, take=False)
    assert box.spool.remove(UID)  # as retention does once the study is read
    lost(box.ledger)
    box.stored(phantom(1, 2))
    box.receive()
    box.chores().reconcile()
    for p in (0.9, 0.2):
        score_next(box.ledger, p)
    box.stored(phantom(1, 3))
    box.receive()
    score_next(box.ledger, 0.3)
    assert "only a copy is left of image" in box.row(STUDY).identity
    assert deliver.claim_study(box.ledger, "p", LEASE, utc_now() + timedelta(minutes=5)) is None
    assert queues.why_unpublished(box.ledger, STUDY)
    settle(box, take=False)
    assert deliver.claim_study(box.ledger, "p", LEASE, utc_now() + timedelta(minutes=5)) is not None


def test_an_older_copy_that_is_sent_again_after_a_newer_was_taken_is_asked_about(box: Box) -> None:
    for stated in (RIGHT, THIRD):
        box.stored(phantom(1, **stated))
        worker = box.receive()
    settle(box, take=True)
    assert box.row(STUDY).patient_id == "THIRD-3"
    assert not worker.step()
    box.stored(phantom(1, **RIGHT))
    while worker.step():
        pass
    assert "RIGHT-2" in box.row(STUDY).identity
    settle(box, take=True)
    assert (box.row(STUDY).patient_id, in_file(box)) == ("RIGHT-2", "RIGHT-2")


def test_a_copy_that_a_person_decided_against_is_not_asked_about_when_it_is_sent_again(box: Box) -> None:
    box.stored(phantom(1, **RIGHT))
    worker = box.receive()
    settle(box, take=False)
    box.stored(phantom(1, **RIGHT))
    while worker.step():
        pass
    assert (box.row(STUDY).identity, states(box)) == ("", [CopyState.KEPT])
