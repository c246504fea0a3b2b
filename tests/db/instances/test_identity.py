"""No row mixes two people; later objects complete and correct a row, and both stay findable."""

from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa

from prioritizer.db.instances import joining
from prioritizer.db.processing import deliver, score
from prioritizer.db.worklist import feedback, reading
from prioritizer.errors import NotAllowed, NotFound
from prioritizer.ranking.study_risk import study_risk
from prioritizer.study import ReaderFinding, row_key, study_instance_uid
from tests.support.ledgers import (
    LEASE,
    NOW,
    POLICY,
    deliveries_of,
    film,
    kinds,
    listed,
    own_object,
    publish,
    receive,
    result_of,
    score_next,
    score_of,
)

ANNA = {"patient_id": "A-1", "patient_name": "Muster^Anna", "patient_birth_date": "20200101"}
OTO = {"patient_id": "B-2", "patient_name": "Probe^Oto", "patient_birth_date": "20180505"}


def row(ledger: sa.Engine, key: str):
    from prioritizer.db.worklist import rows

    return rows.study(ledger, key)


def test_two_patients_under_one_study_uid_are_two_marked_rows(ledger: sa.Engine):
    receive(ledger, film(1, **ANNA))
    receive(ledger, film(2, **OTO))
    first, second = row(ledger, "1.2.3"), row(ledger, row_key("1.2.3", 2))
    assert (first.patient_id, second.patient_id) == ("A-1", "B-2")
    assert "B-2" in first.identity
    assert "A-1" in second.identity
    assert "identity" in kinds(ledger)
    assert listed(ledger, text="oto") == [second.study_uid]
    assert listed(ledger, text="1.2.3") == ["1.2.3", second.study_uid]
    assert study_instance_uid(second.study_uid) == "1.2.3"


def test_each_patient_s_further_images_join_their_own_row(ledger: sa.Engine):
    receive(ledger, film(1, **ANNA), film(2, **OTO), film(3, **ANNA), film(4, **OTO), film(5, patient_name=""))
    assert [row(ledger, row_key("1.2.3", number)).instances for number in (1, 2)] == [3, 2]


@pytest.mark.parametrize(
    "change", [{"patient_id": ""}, {"patient_birth_date": ""}, {"patient_name": ""}, {"patient_name": "MUSTER^ANNA^^"}]
)
def test_what_is_not_stated_contradicts_nobody(ledger: sa.Engine, change: dict[str, str]):
    receive(ledger, film(1, **ANNA), film(2, **{**ANNA, **change}))
    assert listed(ledger) == ["1.2.3"]
    assert row(ledger, "1.2.3").identity == ""


def test_a_dose_report_that_came_first_does_not_name_the_row(ledger: sa.Engine):
    report = {"sop_class_uid": "1.2.840.10008.5.1.4.1.1.88.67", "has_pixels": False, "modality": "SR", "study_description": "Dose"}
    receive(ledger, film(1, **report, patient_name="", patient_id="", age_years=None))
    receive(ledger, film(2, **ANNA, modality="CR", study_description="CHEST", accession_number="ACC-1"))
    found = row(ledger, "1.2.3")
    assert (found.patient_id, found.modality, found.study_description, found.accession_number) == ("A-1", "CR", "CHEST", "ACC-1")
    assert listed(ledger, text="acc-1") == ["1.2.3"]
    assert "completed" in kinds(ledger)


def test_a_later_image_of_the_same_number_corrects_the_name_and_both_are_found(ledger: sa.Engine):
    receive(ledger, film(1, **ANNA))
    receive(ledger, film(2, **{**ANNA, "patient_name": "Richtig^Anna"}))
    assert row(ledger, "1.2.3").patient_name == "Richtig^Anna"
    assert "corrected" in kinds(ledger)
    assert listed(ledger, text="muster") == listed(ledger, text="richtig") == ["1.2.3"]


def test_a_study_of_two_orders_keeps_the_first_number_and_is_found_by_both(ledger: sa.Engine):
    receive(ledger, film(1, **ANNA, accession_number="ACC-1"), film(2, **ANNA, accession_number="ACC-2"))
    assert row(ledger, "1.2.3").accession_number == "ACC-1"
    assert listed(ledger, text="acc-2") == ["1.2.3"]
    assert "corrected" not in kinds(ledger)


def test_another_name_without_a_number_does_not_rename_the_row(ledger: sa.Engine):
    receive(ledger, film(1, **ANNA))
    receive(ledger, film(2, patient_name="Probe^Oto", patient_id=""))
    found = row(ledger, "1.2.3")
    assert found.patient_name == "Muster^Anna"
    assert "under another name" in found.identity


def test_a_result_of_our_own_makes_no_row_of_its_own(ledger: sa.Engine):
    receive(ledger, film(1, **ANNA))
    receive(ledger, own_object(ledger, 2, **OTO))
    assert listed(ledger) == ["1.2.3"]


def test_a_tenth_patient_under_one_uid_is_listed_too(ledger: sa.Engine):
    for number in range(1, 13):
        receive(ledger, film(number, patient_id=f"P-{number}", patient_name=""))
    assert len(listed(ledger)) == 12


def test_two_rows_become_one_by_a_person_s_word(ledger: sa.Engine):
    receive(ledger, film(1, **ANNA))
    score_next(ledger, 0.2)
    receive(ledger, film(2, **OTO))
    score_next(ledger, 0.8)
    second = row_key("1.2.3", 2)
    feedback.say(ledger, second, "ben", ReaderFinding.PRESENT, NOW, ranked=True)
    reading.read(ledger, "1.2.3", "ben", NOW)
    assert joining.join(ledger, second, "anna", POLICY, NOW) == "1.2.3"
    found = row(ledger, "1.2.3")
    assert (found.instances, found.risk, found.reading_state, found.identity) == (2, pytest.approx(study_risk([0.2, 0.8])), "OPEN", "")
    assert listed(ledger) == listed(ledger, text="oto") == ["1.2.3"]
    assert feedback.standing_of(ledger, "1.2.3", "ben") is not None
    assert "identity-settled" in kinds(ledger)


def test_the_first_row_joins_nothing(ledger: sa.Engine):
    receive(ledger, film(1, **ANNA), film(2, **OTO))
    with pytest.raises(NotAllowed, match="first row"):
        joining.join(ledger, "1.2.3", "anna", POLICY, NOW)


def test_a_report_that_came_while_a_study_was_open_does_not_stop_its_reading(ledger: sa.Engine):
    receive(ledger, film(1, **ANNA))
    receive(ledger, film(2, **ANNA, sop_class_uid="1.2.840.10008.5.1.4.1.1.11.1", has_pixels=False, modality="PR"))
    reading.read(ledger, "1.2.3", "ben", NOW, seen=1)
    receive(ledger, film(3, "1.2.4"))
    receive(ledger, film(4, "1.2.4"))
    with pytest.raises(NotAllowed, match="1 image came"):
        reading.read(ledger, "1.2.4", "ben", NOW, seen=1)


# --- two rows become one -----------------------------------------------------------------------------------------------


def two_rows(ledger: sa.Engine) -> str:
    receive(ledger, film(1, **ANNA))
    receive(ledger, film(2, **OTO))
    return row_key("1.2.3", 2)


def test_an_image_that_is_being_scored_when_its_row_joins_is_the_joined_study_s(ledger: sa.Engine):
    second = two_rows(ledger)
    score_next(ledger, 0.1)
    claim = score.claim_instance(ledger, "w", LEASE)
    assert claim is not None
    joining.join(ledger, second, "anna", POLICY, NOW)
    assert score.finish_scored(ledger, claim, score_of(0.9), POLICY, NOW)
    found = row(ledger, "1.2.3")
    assert (found.ai_state, found.risk) == ("SCORED", pytest.approx(study_risk([0.1, 0.9])))
    assert kinds(ledger).count("scored") == 2


@pytest.mark.parametrize("first", ["OPEN", "READ", "CLAIMED"])
@pytest.mark.parametrize("second", ["OPEN", "READ", "CLAIMED"])
def test_what_nobody_has_read_is_on_the_list_after_joining(ledger: sa.Engine, first: str, second: str):
    other = two_rows(ledger)
    for key, state in (("1.2.3", first), (other, second)):
        if state == "READ":
            reading.read(ledger, key, "ben", NOW)
        elif state == "CLAIMED":
            reading.claim(ledger, key, "ben", LEASE, NOW)
    joining.join(ledger, other, "anna", POLICY, NOW)
    expected = "READ" if (first, second) == ("READ", "READ") else "CLAIMED" if first == "CLAIMED" else "OPEN"
    assert row(ledger, "1.2.3").reading_state == expected


def test_a_pin_stays_with_the_study(ledger: sa.Engine):
    second = two_rows(ledger)
    reading.pin(ledger, second, "anna", POLICY, NOW)
    joining.join(ledger, second, "anna", POLICY, NOW)
    assert (row(ledger, "1.2.3").stat, row(ledger, "1.2.3").pinned_by) == (True, "anna")
    reading.pin(ledger, "1.2.3", "anna", POLICY, NOW, remove=True)
    assert not row(ledger, "1.2.3").stat


def test_what_comes_for_a_row_that_joined_comes_for_the_first(ledger: sa.Engine):
    joining.join(ledger, two_rows(ledger), "anna", POLICY, NOW)
    receive(ledger, film(3, **OTO))
    assert (listed(ledger), row(ledger, "1.2.3").instances, row(ledger, "1.2.3").identity) == (["1.2.3"], 3, "")
    receive(ledger, film(4, patient_id="C-3"))
    assert len(listed(ledger)) == 2


def test_an_image_of_the_row_that_joined_was_not_seen_by_who_had_the_first_open(ledger: sa.Engine):
    joining.join(ledger, two_rows(ledger), "anna", POLICY, NOW)
    with pytest.raises(NotAllowed, match="1 image came"):
        reading.read(ledger, "1.2.3", "ben", NOW, seen=1)
    reading.read(ledger, "1.2.3", "ben", NOW, seen=2)


def test_results_of_either_row_that_were_not_sent_are_not_sent(ledger: sa.Engine):
    second = two_rows(ledger)
    score_next(ledger, 0.2)
    score_next(ledger, 0.8)
    publish(ledger, "2.25.1")
    claim = deliver.claim_study(ledger, "publisher", LEASE, NOW)
    assert claim is not None
    joining.join(ledger, second, "anna", POLICY, NOW)
    assert not deliver.finish_published(ledger, claim, result_of("2.25.2"), ("pacs",), NOW)
    assert set(deliveries_of(ledger).values()) == {"RETRACTED"}
    publish(ledger, "2.25.3")
    assert deliveries_of(ledger)["2.25.3"] == "PENDING"


def test_a_row_joins_once(ledger: sa.Engine):
    second = two_rows(ledger)
    joining.join(ledger, second, "anna", POLICY, NOW)
    with pytest.raises(NotFound):
        joining.join(ledger, second, "anna", POLICY, NOW)


def test_what_is_still_doubted_of_either_row_stays_to_be_confirmed(ledger: sa.Engine):
    second = two_rows(ledger)
    receive(ledger, film(3, patient_id="C-3"))
    joining.join(ledger, second, "anna", POLICY, NOW)
    assert "C-3" in row(ledger, "1.2.3").identity
    assert "B-2" not in row(ledger, "1.2.3").identity


# --- what a reader has seen ----------------------------------------------------------------------------------------------


def test_an_image_whose_header_cannot_be_read_was_not_seen_by_who_had_the_study_open(ledger: sa.Engine):
    receive(ledger, film(1, **ANNA))
    receive(ledger, film(2, **ANNA), unreadable="the header breaks off")
    with pytest.raises(NotAllowed, match="1 image came"):
        reading.read(ledger, "1.2.3", "ben", NOW, seen=1)


def test_an_image_that_was_received_earlier_and_entered_later_was_not_seen(ledger: sa.Engine):
    receive(ledger, film(1, **ANNA))
    receive(ledger, film(2, **ANNA, at=NOW - timedelta(minutes=3)))
    report = {"sop_class_uid": "1.2.840.10008.5.1.4.1.1.88.67", "has_pixels": False, "modality": "SR"}
    receive(ledger, film(3, **ANNA, **report))
    with pytest.raises(NotAllowed, match="1 image came"):
        reading.read(ledger, "1.2.3", "ben", NOW, seen=1)
    reading.read(ledger, "1.2.3", "ben", NOW, seen=2)
