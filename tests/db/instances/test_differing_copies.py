"""Other bytes under a SOP Instance UID that is held: the same image, a correction that waits, or another study's."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pydicom
import pytest
import sqlalchemy as sa

from prioritizer.clock import utc_now
from prioritizer.daemon import identity_confirmation
from prioritizer.daemon.receive import read_any
from prioritizer.db.instances import differing_copies, healing, taking_copies
from prioritizer.db.instances.differing_copies import Newer
from prioritizer.db.processing import deliver, requeue, score
from prioritizer.db.worklist import deadlines, reading
from prioritizer.dicom.spool.intake import Outcome
from prioritizer.errors import NotAllowed
from prioritizer.states import CopyState, DeliveryState, InstanceState
from prioritizer.study import FileFault
from tests.support.ledgers import LEASE, NOW, POLICY, deliveries_of, kinds, publish, result_of, score_next, score_of, site_policy
from tests.support.phantom_spool import Box, encoded, module_of_step, phantom

UID = str(phantom(1).SOPInstanceUID)
STUDY = str(phantom(1).StudyInstanceUID)
JPEG_2000 = "1.2.840.10008.1.2.4.91"
RIGHT = {"PatientID": "RIGHT-2", "PatientName": "Right^Person"}


@pytest.fixture
def box(ledger: sa.Engine, tmp_path: Path) -> Box:
    box = Box(ledger, tmp_path)
    box.stored(phantom(1))
    box.receive()
    return box


def settle(box: Box, *, take: bool, study: str = STUDY) -> str:
    return identity_confirmation.settle(box.ledger, box.spool, study, take=take, who="anna", policy=POLICY)


def states(box: Box) -> list[str]:
    with box.ledger.connect() as tx:
        return list(tx.scalars(sa.text("SELECT state FROM differing_copies ORDER BY file")))


def test_the_same_image_in_another_transfer_syntax_is_the_same_image(box: Box):
    assert box.stored(phantom(1), implicit=True) is Outcome.CONFLICT
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
    assert box.stored(image, syntax="1.2.840.10008.1.2.4.90") is Outcome.CONFLICT
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
    from prioritizer.db.order.order import Wanted
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


# --- other bytes come when what is held is gone or damaged ---------------------------------------------------------------

OTHER = {"StudyInstanceUID": "1.2.999", "PatientID": "B-2", "PatientName": "Bee^Other"}


def lose(box: Box) -> None:
    box.spool.object_path(UID).unlink()
    box.chores().reconcile()


def damage(box: Box) -> None:
    path = box.spool.object_path(UID)
    damaged = bytearray(path.read_bytes())
    damaged[-5] ^= 1
    path.write_bytes(damaged)
    box.chores().scrub()


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
    assert deliver.claim_study(box.ledger, "p", LEASE, utc_now()) is not None, "it is built anew, with the right name"


def test_a_result_that_is_being_built_when_the_copy_is_taken_is_not_kept(box: Box):
    score_next(box.ledger, 0.9)
    claim = deliver.claim_study(box.ledger, "p", LEASE, utc_now())
    assert claim is not None
    box.stored(phantom(1, **RIGHT))
    box.receive()
    settle(box, take=True)
    assert not deliver.finish_published(box.ledger, claim, result_of(), ("pacs",), utc_now())


def other_pixels() -> pydicom.Dataset:
    other = phantom(1)
    other.PixelData = bytes(reversed(other.PixelData))
    return other


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


# --- a crash, or a fault of the ledger, between file and row -------------------------------------------------------------


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


# --- what a row states after a copy was taken ---------------------------------------------------------------------------


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
        assert box.stored(phantom(1, StationName=f"try {number}")) is Outcome.CONFLICT
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
