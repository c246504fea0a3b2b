"""Other bytes under a SOP Instance UID that is held: the same image, a correction that waits, or another study's."""

from __future__ import annotations

from pathlib import Path

import pydicom
import pytest
import sqlalchemy as sa

from prioritizer.clock import utc_now
from prioritizer.daemon.receive import read_any
from prioritizer.db.instances import differing_copies, taking_copies
from prioritizer.db.processing import deliver, score
from prioritizer.dicom.spool.intake import StoreOutcome
from prioritizer.errors import NotAllowed
from prioritizer.states import CopyState, InstanceState
from tests.support.differing_copies import RIGHT, STUDY, UID, settle, states
from tests.support.ledgers import LEASE, NOW, POLICY, kinds, publish, score_next, site_policy
from tests.support.phantom_spool import Box, encoded, phantom

JPEG_2000 = "1.2.840.10008.1.2.4.91"


def test_the_same_image_in_another_transfer_syntax_is_the_same_image(box: Box):
    assert box.stored(phantom(1), implicit=True) is StoreOutcome.CONFLICT
    box.receive()
    assert box.row(STUDY).identity == ""
    assert (states(box), box.spool.copies()) == ([CopyState.SAME], [])
    assert "conflict" not in kinds(box.ledger, STUDY)


def test_an_image_that_was_sent_in_a_wrong_transfer_syntax_and_then_in_the_right_one_can_be_taken(ledger: sa.Engine, tmp_path: Path):
    box, image = Box(ledger, tmp_path), phantom(1)
    image.compress("1.2.840.10008.1.2.4.90", encoding_plugin="pylibjpeg", generate_instance_uid=False)
    box.stored(image, syntax="1.2.840.10008.1.2.4.70")  # it says JPEG and holds JPEG 2000
    box.receive()
    claim = score.claim_instance(ledger, "scorer", LEASE)
    assert claim is not None
    assert score.finish_unscored(ledger, claim, InstanceState.FAILED, "malformed", "the pixels cannot be decoded", POLICY, NOW)
    assert box.stored(image, syntax="1.2.840.10008.1.2.4.90") is StoreOutcome.CONFLICT
    box.receive()
    assert "other pixels, confirm" in box.row(STUDY).identity
    settle(box, take=True)
    assert score.claim_instance(ledger, "scorer", LEASE) is not None
    assert pydicom.dcmread(box.spool.find(UID) or Path()).file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.4.90"


def test_the_stat_of_an_order_that_came_with_a_copy_counts(box: Box):
    box.stored(phantom(1, RequestedProcedurePriority="STAT"), implicit=True)
    box.receive()
    assert box.row(STUDY).stat


def test_a_corrected_resend_waits_on_the_row_and_holds_the_result_back(box: Box):
    score_next(box.ledger, 0.9)
    box.stored(phantom(1, **RIGHT))
    box.receive()
    row = box.row(STUDY)
    assert row.patient_id == phantom(1).PatientID
    assert "particulars changed, confirm" in row.identity
    assert "RIGHT-2" in row.identity
    assert deliver.claim_study(box.ledger, "p", LEASE, NOW) is None
    assert "RIGHT-2" not in "".join(event.said for event in worklist_why(box))


def worklist_why(box: Box) -> list[object]:
    from prioritizer.db.worklist import study as worklist_study

    return worklist_study.why(box.ledger, STUDY)


def test_a_result_that_was_built_before_the_correction_is_not_sent_meanwhile(box: Box):
    score_next(box.ledger, 0.9)
    publish(box.ledger)
    box.stored(phantom(1, **RIGHT))
    box.receive()
    assert deliver.claim_delivery(box.ledger, "pacs", "d", LEASE) is None
    settle(box, take=False)
    assert deliver.claim_delivery(box.ledger, "pacs", "d", LEASE) is not None


def test_taking_the_copy_corrects_row_file_and_search_and_scores_nothing_twice(box: Box):
    score_next(box.ledger, 0.9)
    box.stored(phantom(1, **RIGHT))
    box.receive()
    settle(box, take=True)
    row = box.row(STUDY)
    assert (row.patient_id, row.patient_name, row.identity) == ("RIGHT-2", "Right^Person", "")
    held = box.spool.find(UID)
    assert held is not None
    assert pydicom.dcmread(held).PatientID == "RIGHT-2"
    assert states(box) == [CopyState.TAKEN]
    assert box.row(STUDY).risk == pytest.approx(0.9)
    assert deliver.claim_study(box.ledger, "p", LEASE, utc_now()) is not None
    from prioritizer.db.list_order.order import Wanted
    from tests.support.ledgers import listed

    assert listed(box.ledger, text="right-2") == listed(box.ledger, text=str(phantom(1).PatientID)) == [STUDY]
    assert Wanted(text="x").text == "x"


def test_keeping_what_is_shown_leaves_the_file_and_ends_the_mark(box: Box):
    box.stored(phantom(1, **RIGHT))
    box.receive()
    settle(box, take=False)
    assert box.row(STUDY).identity == ""
    assert pydicom.dcmread(box.spool.find(UID) or Path()).PatientID == phantom(1).PatientID
    assert states(box) == [CopyState.KEPT]
    box.receive()
    assert states(box) == [CopyState.KEPT]
    with pytest.raises(NotAllowed, match="nothing of this study waits"):
        settle(box, take=False)


def test_a_crash_between_file_and_ledger_is_gone_on_with(box: Box, monkeypatch: pytest.MonkeyPatch):
    box.stored(phantom(1, **RIGHT))
    box.receive()

    def crash(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(taking_copies, "settle", crash)
    with pytest.raises(KeyboardInterrupt):
        settle(box, take=True)
    monkeypatch.undo()
    settle(box, take=True)
    assert box.row(STUDY).patient_id == "RIGHT-2"


def test_other_pixels_of_the_same_patient_wait_too(box: Box):
    other = phantom(1)
    other.PixelData = bytes(reversed(other.PixelData))
    box.stored(other)
    box.receive()
    assert "other pixels, confirm" in box.row(STUDY).identity
    score_next(box.ledger, 0.2)
    assert deliver.claim_study(box.ledger, "p", LEASE, utc_now()) is not None


def test_what_lossy_compression_left_of_an_image_is_the_same_image(box: Box):
    lossy = phantom(1)
    lossy.compress("1.2.840.10008.1.2.4.91", encoding_plugin="pylibjpeg", j2k_cr=[2], generate_instance_uid=False)
    box.stored(lossy, syntax=JPEG_2000)
    box.receive()
    assert (states(box), box.row(STUDY).identity) == ([CopyState.SAME], "")


def test_one_sop_instance_uid_in_two_studies_lists_both(box: Box):
    second = phantom(2, SOPInstanceUID=UID)
    box.stored(second)
    box.receive()
    row = box.row(str(second.StudyInstanceUID))
    assert (row.patient_id, row.ai_state) == (second.PatientID, "NOT_SCORED")
    assert "SOP Instance UID" in row.ai_reason
    assert UID[-12:] in row.identity
    assert UID[-12:] in box.row(STUDY).identity
    score_next(box.ledger, 0.2)
    assert score.claim_instance(box.ledger, "w", LEASE) is None
    box.chores().reconcile()
    assert len(box.rows()) == 2


def test_a_nameless_row_becomes_its_study_when_the_image_comes_whole(box: Box):
    cut = phantom(3)
    box.stored(cut, raw=b"\x08\x00\x16\x00UI")
    box.receive()
    nameless = f"no-study-uid.{cut.SOPInstanceUID}"
    assert box.row(nameless).ai_state == "FAILED"
    box.stored(cut)
    box.receive()
    row = box.row(str(cut.StudyInstanceUID))
    assert (row.patient_id, row.ai_state) == (cut.PatientID, "WAITING")
    assert nameless not in [one.study_uid for one in box.rows()]


def test_a_copy_of_what_nobody_holds_is_an_arrival(box: Box):
    box.stored(phantom(1, **RIGHT))
    copy = box.spool.copies()[0]
    with box.ledger.begin() as tx:
        for table in ("differing_copies", "events", "terms", "instances", "studies"):
            tx.exec_driver_sql(f"DELETE FROM {table}")
    box.spool.object_path(UID).unlink()
    box.receive()
    assert not copy.exists()
    assert [row.patient_id for row in box.rows()] == ["RIGHT-2"]


def test_a_report_that_came_twice_is_nothing_to_confirm(ledger: sa.Engine, tmp_path: Path):
    box = Box(ledger, tmp_path)
    report = phantom(4, SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11", Modality="SR", PixelData=None)
    box.stored(report)
    box.receive()
    box.stored(report, implicit=True)
    box.receive()
    assert states(box) == [CopyState.SAME]


def test_a_copy_that_the_disk_does_not_give_stops_neither_copies_nor_arrivals(box: Box, monkeypatch: pytest.MonkeyPatch):
    box.stored(phantom(1, **RIGHT))
    box.stored(phantom(2))
    box.receive(same_pixels=lambda one, other: False)
    box.stored(phantom(2, PatientID="OTHER-2"))
    box.stored(phantom(3))
    genuine = taking_copies.enter_waiting

    def enter(engine: sa.Engine, file: str, *rest: object) -> None:
        raise OSError(5, "EIO")

    monkeypatch.setattr(taking_copies, "enter_waiting", enter)
    worker = box.receive()
    assert len(box.rows()) == 3
    monkeypatch.setattr(taking_copies, "enter_waiting", genuine)
    assert worker._copies is not None
    worker._copies._retries._waits.clear()
    worker.step()
    assert "OTHER-2" in box.row(str(phantom(2).StudyInstanceUID)).identity


def test_a_study_uid_that_comes_later_gives_the_image_its_study(ledger: sa.Engine, tmp_path: Path):
    box = Box(ledger, tmp_path)
    box.stored(phantom(5, StudyInstanceUID=""))
    box.receive()
    box.stored(phantom(5))
    box.receive()
    assert [row.study_uid for row in box.rows()] == [phantom(5).StudyInstanceUID]


def test_an_image_that_breaks_off_is_listed_in_the_study_that_it_names(box: Box):
    other = phantom(6, SOPInstanceUID=UID)
    box.stored(other, raw=encoded(other)[:-500])
    box.receive()
    assert box.row(str(other.StudyInstanceUID)).patient_id == other.PatientID


def test_copies_whose_pixels_cannot_be_compared_wait(box: Box):
    box.stored(phantom(1, StudyDescription="other bytes"))

    def unreadable(one: Path, other: Path) -> bool:
        from prioritizer.errors import Unprocessable

        raise Unprocessable("pixels", "cannot be read")

    box.receive(same_pixels=unreadable)
    assert len(differing_copies.waiting(box.ledger)) == 1
    assert read_any(box.spool.copies()[0]).instance.sop_instance_uid == UID
    assert site_policy().ranking.t_high
