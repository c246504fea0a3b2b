"""What a row states after a copy was taken."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa

from prioritizer.clock import utc_now
from prioritizer.db.instances import differing_copies, healing
from prioritizer.db.instances.differing_copies import Newer
from prioritizer.db.processing import deliver, requeue, score
from prioritizer.db.worklist import reading
from prioritizer.dicom.spool.intake import StoreOutcome
from prioritizer.errors import NotAllowed
from prioritizer.states import InstanceState
from prioritizer.study import FileFault
from tests.support.differing_copies import RIGHT, STUDY, UID, damage, lose, other_pixels, settle
from tests.support.ledgers import LEASE, POLICY, score_next
from tests.support.phantom_spool import Box, phantom


def test_an_image_that_still_states_the_former_patient_holds_the_result(box: Box):
    box.stored(phantom(1, 2))
    box.receive()
    score_next(box.ledger, 0.2)
    score_next(box.ledger, 0.9)
    box.stored(phantom(1, **RIGHT))
    box.receive()
    settle(box, take=True)
    assert "still states" in box.row(STUDY).identity
    assert deliver.claim_study(box.ledger, "p", LEASE, utc_now()) is None
    settle(box, take=False)
    assert deliver.claim_study(box.ledger, "p", LEASE, utc_now()) is not None


def test_a_copy_that_heals_completes_the_row_and_another_patient_gets_a_row_of_their_own(ledger: sa.Engine, tmp_path: Path):
    box = Box(ledger, tmp_path)
    box.stored(phantom(1, PatientID="", PatientName="", PatientBirthDate=""))
    box.receive()
    lose(box)
    box.stored(phantom(1))
    box.receive()
    assert box.row(STUDY).patient_id == phantom(1).PatientID
    box.stored(phantom(2, StudyInstanceUID=STUDY))
    box.receive()
    assert len(box.rows()) == 2


def test_of_another_patient_nothing_of_the_former_stays(box: Box):
    stated = {**RIGHT, "PatientBirthDate": "", "PatientSex": ""}
    box.stored(phantom(1, **stated))
    box.receive()
    settle(box, take=True)
    row = box.row(STUDY)
    assert (row.patient_id, row.patient_birth_date, row.patient_sex) == ("RIGHT-2", "", "")


@pytest.mark.parametrize("there", [False, True])
def test_a_doubt_follows_an_image_to_the_study_that_it_names(ledger: sa.Engine, tmp_path: Path, there: bool):
    box = Box(ledger, tmp_path)
    if there:
        box.stored(phantom(5, 2))
    box.stored(phantom(5, 1, StudyInstanceUID=""))
    box.receive()
    box.stored(phantom(5, 1, StudyInstanceUID="", **RIGHT))
    box.receive()
    box.stored(phantom(5, 1))
    box.receive()
    study = str(phantom(5).StudyInstanceUID)
    assert "RIGHT-2" in box.row(study).identity
    assert [one.study_uid for one in differing_copies.waiting(ledger)] == [study]
    assert settle(box, take=False, study=study) == "what the row shows was kept"


def test_pixels_that_came_under_an_open_page_were_not_seen(box: Box):
    score_next(box.ledger, 0.9)
    reading.claim(box.ledger, STUDY, "ben", LEASE, utc_now())
    shown = box.row(STUDY).entries
    lose(box)
    box.stored(other_pixels())
    box.receive()
    with pytest.raises(NotAllowed, match="1 image came"):
        reading.read(box.ledger, STUDY, "ben", utc_now(), seen=shown)
    reading.read(box.ledger, STUDY, "ben", utc_now(), seen=box.row(STUDY).entries)


def test_the_same_pixels_drawn_otherwise_were_not_seen(box: Box):
    score_next(box.ledger, 0.9)
    reading.read(box.ledger, STUDY, "anna", utc_now())
    lose(box)
    box.stored(phantom(1, WindowCenter="300", WindowWidth="200"))
    box.receive()
    assert (box.row(STUDY).reading_state, box.row(STUDY).ai_state) == ("OPEN", "WAITING")


def test_an_age_that_was_corrected_is_judged_again(box: Box):
    score_next(box.ledger, 0.9)
    box.stored(phantom(1, PatientAge="060Y", **RIGHT))
    box.receive()
    settle(box, take=True)
    row = box.row(STUDY)
    assert (row.ai_state, row.age_years) == ("WAITING", 60.0)


def test_a_description_that_was_corrected_is_judged_again_and_opens_no_read_study(box: Box):
    claim = score.claim_instance(box.ledger, "w", LEASE)
    assert claim is not None
    score.finish_unscored(box.ledger, claim, InstanceState.INELIGIBLE, "body-part", "body part HAND", POLICY, utc_now())
    reading.read(box.ledger, STUDY, "anna", utc_now())
    box.stored(phantom(1, StudyDescription="Chest, corrected"))
    box.receive()
    row = box.row(STUDY)
    assert (row.ai_state, row.reading_state) == ("WAITING", "READ")
    assert box.spool.copies() == []


def test_the_stat_of_an_order_that_came_with_what_heals_counts_and_outlives_a_pin(box: Box):
    damage(box)
    box.stored(phantom(1, RequestedProcedurePriority="STAT"))
    box.receive()
    assert box.row(STUDY).stat
    reading.pin(box.ledger, STUDY, "anna", POLICY, utc_now())
    reading.pin(box.ledger, STUDY, "anna", POLICY, utc_now(), remove=True)
    assert box.row(STUDY).stat


def test_a_stat_that_came_with_the_same_image_outlives_a_pin(box: Box):
    box.stored(phantom(1, RequestedProcedurePriority="STAT"), implicit=True)
    box.receive()
    reading.pin(box.ledger, STUDY, "anna", POLICY, utc_now())
    reading.pin(box.ledger, STUDY, "anna", POLICY, utc_now(), remove=True)
    assert box.row(STUDY).stat


def test_a_file_that_the_disk_does_not_give_is_damaged_and_sending_again_heals_it(box: Box):
    path = box.spool.object_path(UID)
    path.unlink()
    path.symlink_to("/proc/self/mem")  # it opens, and reading it is a fault of the disk
    box.chores().scrub()
    assert healing.faulty(box.ledger, FileFault.DAMAGED) == {UID}
    for number in range(3):
        assert box.stored(phantom(1, StationName=f"try {number}")) is StoreOutcome.CONFLICT
    box.stored(phantom(2))
    box.receive()
    assert healing.faulty(box.ledger, FileFault.DAMAGED) == set()
    assert len(box.rows()) == 2
    assert not path.is_symlink()
    (aside,) = [(file, facts) for file, facts in box.spool.quarantined() if file.is_symlink()]
    assert aside[1]["sop_instance_uid"] == UID, "what the disk did not give is listed with its reason"


def test_an_arrival_and_a_copy_of_one_image_at_the_same_moment_are_both_kept(box: Box):
    box.stored(phantom(1, **RIGHT))
    (copy,) = box.spool.copies()
    box.spool.object_path(UID).unlink()
    box.stored(phantom(1, PatientID="C-3"))
    assert not box.spool.make_way(copy)
    box.receive()
    assert copy.exists()
    assert [one.particulars["patient_id"] for one in differing_copies.waiting(box.ledger)] == ["RIGHT-2", "C-3"], (
        "each is compared with what is known"
    )


def test_an_object_that_is_never_scored_is_not_asked_to_be(box: Box):
    second = phantom(2, SOPInstanceUID=UID)
    box.stored(second)
    box.receive()
    with pytest.raises(NotAllowed, match="nothing to score again"):
        requeue.requeue(box.ledger, str(second.StudyInstanceUID), "op", POLICY, utc_now())


def test_where_nothing_newer_can_be_taken_take_is_refused_and_nothing_is_settled(box: Box):
    box.stored(phantom(2, StudyInstanceUID=STUDY))
    box.receive()
    with pytest.raises(NotAllowed, match="can only be kept"):
        settle(box, take=True)
    assert "another patient" in box.row(STUDY).identity
    assert differing_copies.newer_for(box.ledger, STUDY) is Newer.NOTHING
    other = phantom(3, SOPInstanceUID=UID)
    box.stored(other)
    box.receive()
    assert differing_copies.newer_for(box.ledger, str(other.StudyInstanceUID)) is Newer.NOTHING
    assert "shown as PHANTOM^ONE" in settle(box, take=True, study=f"{STUDY}~2")
