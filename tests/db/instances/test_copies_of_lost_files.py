"""Other bytes come when the file that is held is gone or damaged."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pydicom
import pytest
import sqlalchemy as sa

from prioritizer.clock import utc_now
from prioritizer.db.instances import differing_copies, healing
from prioritizer.db.processing import deliver, score
from prioritizer.db.worklist import deadlines, reading
from prioritizer.errors import NotAllowed
from prioritizer.states import DeliveryState
from prioritizer.study import FileFault
from tests.support.differing_copies import RIGHT, STUDY, UID, damage, lose, other_pixels, settle
from tests.support.ledgers import LEASE, POLICY, deliveries_of, publish, result_of, score_next, score_of
from tests.support.phantom_spool import Box, encoded, phantom

OTHER = {"StudyInstanceUID": "1.2.999", "PatientID": "B-2", "PatientName": "Bee^Other"}


@pytest.mark.parametrize("harm", [lose, damage])
def test_another_study_under_the_uid_of_a_lost_or_damaged_file_lists_both_and_heals_nothing(box: Box, harm: Callable[[Box], None]):
    harm(box)
    box.stored(phantom(1, **OTHER))
    box.receive()
    assert {row.study_uid: row.patient_id for row in box.rows()} == {STUDY: phantom(1).PatientID, "1.2.999": "B-2"}
    faults = healing.faulty(box.ledger, FileFault.MISSING) | healing.faulty(box.ledger, FileFault.DAMAGED)
    assert faults == {UID}, "the first is not whole, and its alarm stands"
    assert len(box.spool.copies()) == 1


@pytest.mark.parametrize("harm", [lose, damage])
def test_another_patient_under_the_uid_of_a_lost_or_damaged_file_waits_and_heals_nothing(box: Box, harm: Callable[[Box], None]):
    score_next(box.ledger, 0.9)
    harm(box)
    box.stored(phantom(1, **RIGHT))
    box.receive()
    assert box.row(STUDY).patient_id == phantom(1).PatientID
    assert "particulars changed, confirm" in box.row(STUDY).identity
    assert deliver.claim_study(box.ledger, "p", LEASE, utc_now()) is None
    assert healing.faulty(box.ledger, FileFault.MISSING) | healing.faulty(box.ledger, FileFault.DAMAGED) == {UID}
    settle(box, take=True)
    assert box.row(STUDY).patient_id == "RIGHT-2"
    assert healing.faulty(box.ledger, FileFault.MISSING) | healing.faulty(box.ledger, FileFault.DAMAGED) == set()
    assert pydicom.dcmread(box.spool.object_path(UID)).PatientID == "RIGHT-2"


def test_keeping_what_is_shown_of_a_lost_file_leaves_its_alarm(box: Box):
    lose(box)
    box.stored(phantom(1, **RIGHT))
    box.receive()
    settle(box, take=False)
    assert (box.row(STUDY).identity, box.spool.find(UID)) == ("", None)
    assert healing.faulty(box.ledger, FileFault.MISSING) == {UID}
    box.stored(phantom(1))
    box.receive()
    assert healing.faulty(box.ledger, FileFault.MISSING) == set()


def test_a_damaged_file_is_not_replaced_by_a_copy_that_breaks_off(box: Box):
    damage(box)
    held = box.spool.object_path(UID).read_bytes()
    box.stored(phantom(1), raw=encoded(phantom(1))[:-500])
    box.receive()
    assert box.spool.object_path(UID).read_bytes() == held
    assert len(differing_copies.waiting(box.ledger)) == 1


def test_a_copy_that_states_no_study_stays_with_the_row_of_what_is_held(box: Box):
    damage(box)
    box.stored(phantom(1, StudyInstanceUID=""))
    box.receive()
    assert [row.study_uid for row in box.rows()] == [STUDY]


def test_a_result_that_waits_to_be_sent_is_not_sent_once_the_copy_is_taken(box: Box):
    score_next(box.ledger, 0.9)
    publish(box.ledger)
    box.stored(phantom(1, **RIGHT))
    box.receive()
    settle(box, take=True)
    assert deliveries_of(box.ledger, STUDY) == {"2.25.1": DeliveryState.RETRACTED}
    assert deliver.claim_study(box.ledger, "p", LEASE, utc_now()) is not None, "it is built again, with the right name"


def test_a_result_that_is_being_built_when_the_copy_is_taken_is_not_kept(box: Box):
    score_next(box.ledger, 0.9)
    claim = deliver.claim_study(box.ledger, "p", LEASE, utc_now())
    assert claim is not None
    box.stored(phantom(1, **RIGHT))
    box.receive()
    settle(box, take=True)
    assert not deliver.finish_published(box.ledger, claim, result_of(), ("pacs",), utc_now())


@pytest.mark.parametrize("harm", [lose, damage])
def test_pixels_that_nobody_looked_at_are_scored_and_a_read_study_is_open_again(box: Box, harm: Callable[[Box], None]):
    score_next(box.ledger, 0.9)
    publish(box.ledger)
    reading.read(box.ledger, STUDY, "anna", utc_now())
    harm(box)
    box.stored(other_pixels())
    box.receive()
    row = box.row(STUDY)
    assert (row.reading_state, row.ai_state) == ("OPEN", "WAITING")
    assert deliveries_of(box.ledger, STUDY) == {"2.25.1": DeliveryState.RETRACTED}
    deadlines.expire(box.ledger, utc_now() - timedelta(minutes=1), utc_now())
    assert box.row(STUDY).study_uid in [one.study_uid for one in box.rows()]
    score_next(box.ledger, 0.2)
    assert box.row(STUDY).risk == pytest.approx(0.2)


def test_a_score_of_pixels_that_are_gone_is_not_kept_of_those_that_came(box: Box):
    claim = score.claim_instance(box.ledger, "w", LEASE)
    assert claim is not None
    damage(box)
    box.stored(other_pixels())
    box.receive()
    assert not score.finish_scored(box.ledger, claim, score_of(0.9), POLICY, utc_now())
    assert box.row(STUDY).ai_state == "WAITING"


def test_the_same_pixels_after_a_reading_open_nothing(box: Box):
    score_next(box.ledger, 0.9)
    reading.read(box.ledger, STUDY, "anna", utc_now())
    damage(box)
    box.stored(phantom(1, StationName="another"))
    box.receive()
    row = box.row(STUDY)
    assert (row.reading_state, row.risk) == ("READ", pytest.approx(0.9))


def test_a_nameless_image_that_becomes_part_of_a_read_study_opens_it(ledger: sa.Engine, tmp_path: Path):
    box = Box(ledger, tmp_path)
    box.stored(phantom(5, 1))
    box.stored(phantom(5, 2, StudyInstanceUID=""))
    box.receive()
    study = str(phantom(5).StudyInstanceUID)
    reading.read(ledger, study, "anna", utc_now(), seen=1)
    box.stored(phantom(5, 2, RequestedProcedurePriority="STAT"))
    box.receive()
    row = box.row(study)
    assert (row.reading_state, row.stat, row.instances) == ("OPEN", True, 2)
    assert [one.study_uid for one in box.rows()] == [study]
    with pytest.raises(NotAllowed, match="1 image came"):
        reading.read(ledger, study, "anna", utc_now(), seen=1)
    reading.read(ledger, study, "anna", utc_now(), seen=2)


def test_a_name_that_is_used_again_is_looked_at_again(box: Box):
    box.stored(phantom(1, **RIGHT))
    worker = box.receive()
    settle(box, take=True)
    box.stored(phantom(1))
    while worker.step():
        pass
    settle(box, take=True)
    box.stored(phantom(1, **RIGHT))
    while worker.step():
        pass
    assert "RIGHT-2" in box.row(STUDY).identity
