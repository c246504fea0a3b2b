"""A file on which the sandbox dies twice while it reads others is FAILED; deaths over several files are the machine's, and are tried again."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from prioritizer.daemon import differing_copies as judged
from prioritizer.daemon.receive import ReceiveWorker
from prioritizer.daemon.score import Deaths, ScoreWorker
from prioritizer.db.instances import differing_copies
from prioritizer.db.worklist import study
from prioritizer.errors import Transient
from prioritizer.inference.engine import Outputs
from prioritizer.inference.sandbox import ChildDied
from tests.support.ledgers import POLICY
from tests.support.phantom_spool import Box, phantom
from tests.support.score_worker import station


@pytest.fixture
def box(ledger: sa.Engine, tmp_path: Path) -> Box:
    box = Box(ledger, tmp_path)
    for number in (1, 2, 3):
        box.stored(phantom(number))
    box.receive()
    return box


def at_once(box: Box) -> None:
    """What was put back for a second may be taken now."""
    with box.ledger.begin() as tx:
        tx.exec_driver_sql("UPDATE instances SET not_before = NULL")


def turns(box: Box, work: ScoreWorker, number: int) -> None:
    for _ in range(number):
        at_once(box)
        try:
            work.step()
        except Transient:
            continue


def states(box: Box) -> dict[str, str]:
    return {row.patient_id: row.ai_state for row in box.rows()}


BAD = str(phantom(2).SOPInstanceUID)


def dies_on_one(path: Path) -> Any:
    if BAD in path.name:
        raise ChildDied("the process that read it died (exit code -11)")
    return np.zeros((224, 224), np.float32)


def dies(path: Path) -> Any:
    raise ChildDied("the process that read it died (exit code -9)")


def test_the_second_death_on_one_file_while_others_are_read_is_the_file_s(box: Box):
    turns(box, station(box, dies_on_one), 8)
    found = states(box)
    assert found.pop(phantom(2).PatientID) == "FAILED"
    assert "FAILED" not in found.values()
    assert "2 times" in box.row(str(phantom(2).StudyInstanceUID)).ai_reason


def test_deaths_over_several_files_are_the_machine_s_and_nothing_is_failed(box: Box):
    work = station(box, dies)
    turns(box, work, 40)
    assert set(states(box).values()) == {"WAITING"}
    well = station(box, dies_on_one, deaths=work.deaths)
    turns(box, well, 10)
    assert sorted(states(box).values()) == ["FAILED", "SCORED", "SCORED"] or states(box)[phantom(2).PatientID] == "FAILED"


def test_a_file_that_is_alone_is_judged_by_an_image_of_our_own(ledger: sa.Engine, tmp_path: Path):
    box = Box(ledger, tmp_path)
    box.stored(phantom(2))
    box.receive()
    turns(box, station(box, dies, reads_others=lambda: False), 5)
    assert set(states(box).values()) == {"WAITING"}
    turns(box, station(box, dies, reads_others=lambda: True), 3)
    assert set(states(box).values()) == {"FAILED"}


@pytest.mark.parametrize("number", [50])
def test_an_engine_that_dies_for_as_long_as_it_likes_fails_no_image(box: Box, number: int):
    def engine_dies(picture: Any) -> Outputs:
        raise Transient("the engine the process that read it died (exit code -9)")

    turns(box, station(box, dies_on_one, engine_dies), number)
    found = states(box)
    found.pop(phantom(2).PatientID)
    assert set(found.values()) == {"WAITING"}
    instances = [one for row in box.rows() for one in study.study_instances(box.ledger, row.study_uid)]
    assert len(instances) == 3


def test_a_spool_that_is_away_fails_no_image(box: Box):
    work = station(box, dies_on_one)
    away = box.spool.objects
    away.rename(away.with_name("away"))
    work.spool = SimpleNamespace(find=lambda uid: None, objects=away)  # a spool of its own would make the folder again
    turns(box, work, 5)
    assert set(states(box).values()) == {"WAITING"}


def test_deaths_are_told_apart_by_what_was_read_since():
    deaths = Deaths()
    assert not deaths.died("a")
    assert not deaths.died("a")
    deaths.read("b")
    assert deaths.died("a")
    deaths.forget("a")
    assert not deaths.died("a")


def test_files_that_die_one_after_the_other_are_not_judged_by_an_image_of_our_own(box: Box):
    turns(box, station(box, dies, reads_others=lambda: True), 40)
    assert set(states(box).values()) == {"WAITING"}, "the machine cannot read any of three: one small image clears none"


def test_a_copy_whose_pixels_the_sandbox_dies_on_once_is_looked_at_again(box: Box):
    box.stored(phantom(1, StudyDescription="other bytes"))
    tries = iter(range(9))

    def dies_once(one: Path, other: Path) -> bool:
        if next(tries) == 0:
            raise ChildDied("the process that read it died (exit code -9)")
        return True

    worker = box.receive(same_pixels=dies_once)
    assert differing_copies.waiting(box.ledger) == []
    assert worker._copies is not None
    worker._copies._retries._waits.clear()
    worker.step()
    assert (differing_copies.waiting(box.ledger), box.spool.copies()) == ([], [])


def test_a_copy_whose_pixels_the_sandbox_always_dies_on_waits_for_a_person(box: Box):
    box.stored(phantom(1, StudyDescription="other bytes"))

    def always(one: Path, other: Path) -> bool:
        raise ChildDied("the process that read it died (exit code -9)")

    worker = box.receive(same_pixels=always)
    assert worker._copies is not None
    for _ in range(judged.MAX_DEATHS):
        worker._copies._retries._waits.clear()
        worker.step()
    assert len(differing_copies.waiting(box.ledger)) == 1


def test_whatever_one_copy_raises_the_others_are_judged(box: Box):
    box.stored(phantom(1, StudyDescription="other bytes"))
    box.stored(phantom(2, PatientID="RIGHT-2"))

    def bad(one: Path, other: Path) -> bool:
        raise AttributeError("a foreign library")

    box.receive(same_pixels=bad)
    assert [one.sop_instance_uid for one in differing_copies.waiting(box.ledger)] == [phantom(2).SOPInstanceUID]


def test_copies_that_can_never_be_judged_keep_no_later_one_waiting(box: Box, monkeypatch: pytest.MonkeyPatch):
    for number in (1, 3, 4):
        box.stored(phantom(number, StudyDescription="other bytes"))
    box.stored(phantom(2, PatientID="RIGHT-2"))
    monkeypatch.setattr(judged, "WAIT_S", 0.0)
    monkeypatch.setattr(judged, "MAX_WAIT_S", 0.0)

    def bad(one: Path, other: Path) -> bool:
        raise AttributeError("a foreign library")

    worker = ReceiveWorker(engine=box.ledger, spool=box.spool, policy=POLICY, same_pixels=bad)
    for _ in range(2 * 4):
        worker.step()
    assert [one.sop_instance_uid for one in differing_copies.waiting(box.ledger)] == [phantom(2).SOPInstanceUID]


def test_a_copy_that_failed_once_has_its_turn_while_others_keep_coming(box: Box, monkeypatch: pytest.MonkeyPatch):
    worker = box.receive()
    box.stored(phantom(1, PatientID="RIGHT-2"))
    mine, genuine, first = box.spool.copies()[0], judged.Copies._judge, [True]

    def judge(self: judged.Copies, path: Path, *rest: Any) -> bool:
        if path == mine and first:
            first.clear()
            raise OSError(5, "EIO")
        return genuine(self, path, *rest)

    monkeypatch.setattr(judged.Copies, "_judge", judge)
    worker.step()
    assert worker._copies is not None
    worker._copies._retries.now = lambda: 1e12
    for number in range(3):
        box.stored(phantom(1, StationName=f"station {number}"))
        worker.step()
    assert [one.sop_instance_uid for one in differing_copies.waiting(box.ledger)] == [phantom(1).SOPInstanceUID]
