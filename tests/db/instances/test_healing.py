"""Sending again heals: a damaged, missing, unreadable or deleted file is replaced by the one that comes, and its alarm ends."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from prioritizer.clock import utc_now
from prioritizer.db.instances import healing
from prioritizer.db.processing import requeue, score
from prioritizer.db.worklist import reading, study
from prioritizer.dicom.spool.intake import StoreOutcome
from prioritizer.states import InstanceState
from prioritizer.study import FileFault
from tests.support.ledgers import LEASE, POLICY, kinds, score_of
from tests.support.phantom_spool import Box, phantom


@pytest.fixture
def box(ledger: sa.Engine, tmp_path: Path) -> Box:
    box = Box(ledger, tmp_path)
    box.stored(phantom(1))
    box.receive()
    return box


UID = str(phantom(1).SOPInstanceUID)
STUDY = str(phantom(1).StudyInstanceUID)


def test_a_flipped_bit_is_found_and_healed_by_the_same_image(box: Box):
    path = box.spool.object_path(UID)
    damaged = bytearray(path.read_bytes())
    damaged[-50] ^= 1
    path.write_bytes(damaged)
    chores = box.chores()
    chores.scrub()
    assert healing.faulty(box.ledger, FileFault.DAMAGED) == {UID}
    assert box.stored(phantom(1)) is StoreOutcome.CONFLICT
    box.receive()
    assert healing.faulty(box.ledger, FileFault.DAMAGED) == set()
    chores.scrub()
    chores.scrub()
    assert healing.faulty(box.ledger, FileFault.DAMAGED) == set()
    assert box.spool.copies() == []
    assert [facts["reason"] for _, facts in box.spool.quarantined()] == ["the file was damaged"]
    assert kinds(box.ledger, STUDY)[-2:] == ["file-fault", "healed"]


def test_the_damage_is_known_after_a_restart(box: Box):
    path = box.spool.object_path(UID)
    path.write_bytes(path.read_bytes()[:-2])
    box.chores().scrub()
    assert healing.faulty(box.ledger, FileFault.DAMAGED) == {UID}


def test_a_damaged_header_is_healed_too(box: Box):
    path = box.spool.object_path(UID)
    damaged = bytearray(path.read_bytes())
    damaged[140:300] = bytes(160)
    path.write_bytes(damaged)
    assert box.stored(phantom(1)) is StoreOutcome.CONFLICT
    box.receive()
    assert box.spool.object_path(UID).read_bytes()[128:132] == b"DICM"
    assert box.spool.copies() == []


def test_a_missing_file_is_an_alarm_until_it_comes_again(box: Box):
    box.spool.object_path(UID).unlink()
    box.chores().reconcile()
    assert healing.faulty(box.ledger, FileFault.MISSING) == {UID}
    box.stored(phantom(1))
    box.receive()
    assert healing.faulty(box.ledger, FileFault.MISSING) == set()
    assert box.spool.find(UID) is not None


def test_an_image_that_wanted_its_file_is_scored_when_it_comes(box: Box):
    claim = score.claim_instance(box.ledger, "w", LEASE)
    assert claim is not None
    box.spool.object_path(UID).unlink()
    score.finish_unscored(box.ledger, claim, InstanceState.FAILED, healing.FILE_MISSING, "its file is not in the spool", POLICY, utc_now())
    box.stored(phantom(1))
    box.receive()
    assert study.study_instances(box.ledger, STUDY)[0].state == "RECEIVED"
    assert box.row(STUDY).ai_state == "WAITING"


def test_what_retention_deleted_comes_back_and_can_be_scored_again(box: Box):
    claim = score.claim_instance(box.ledger, "w", LEASE)
    assert claim is not None
    score.finish_unscored(box.ledger, claim, InstanceState.FAILED, "sandbox", "x", POLICY, utc_now())
    reading.read(box.ledger, STUDY, "anna", utc_now() - timedelta(days=30))
    box.chores().retention()
    assert box.spool.find(UID) is None
    box.stored(phantom(1))
    box.receive()
    assert box.spool.find(UID) is not None
    assert requeue.requeue(box.ledger, STUDY, "op", POLICY, utc_now()) == 1
    assert box.row(STUDY).reading_state == "READ"


def test_after_a_crash_between_commit_and_settling_the_same_file_changes_nothing(box: Box):
    before = kinds(box.ledger, STUDY)
    path = box.spool.object_path(UID)
    path.rename(box.spool.root / "inbox" / path.name)
    box.receive()
    assert kinds(box.ledger, STUDY) == before
    assert box.spool.find(UID) == path


def test_another_patient_in_the_place_of_a_lost_file_waits_and_sends_nothing(box: Box):
    box.spool.object_path(UID).unlink()
    box.stored(phantom(1, PatientID="ANOTHER", PatientName="Other^One"))
    box.receive()
    row = box.row(STUDY)
    assert row.patient_id == phantom(1).PatientID
    assert "particulars changed, confirm" in row.identity
    with box.ledger.connect() as tx:
        assert tx.scalar(sa.text("SELECT held FROM studies")) == "identity"


def test_a_score_stays_when_its_file_comes_again(box: Box):
    claim = score.claim_instance(box.ledger, "w", LEASE)
    assert claim is not None

    assert score.finish_scored(box.ledger, claim, score_of(0.7), POLICY, utc_now())
    box.spool.object_path(UID).unlink()
    box.stored(phantom(1))
    box.receive()
    assert box.row(STUDY).risk == pytest.approx(0.7)
