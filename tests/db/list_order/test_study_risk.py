"""The risk of a study in the ledger: what placing makes of several images, what the board is told, and what a forecast says."""

from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa

from prioritizer.access import Role
from prioritizer.config.sections import Monitoring
from prioritizer.config.settings import Settings
from prioritizer.db.activity import arrivals, monitoring
from prioritizer.db.schema.tables import events, studies
from prioritizer.db.worklist import feedback
from prioritizer.monitoring.agreement import asked_for
from prioritizer.ranking.deadlines import Band
from prioritizer.ranking.study_risk import MADE_BY, study_risk
from prioritizer.study import ReaderFinding
from tests.support.ledgers import NOW, film, receive, score_next, scored
from tests.support.page_client import at

DAY = timedelta(days=1)


def row_of(ledger: sa.Engine, study: str = "1.2.3") -> sa.Row[tuple[object, ...]]:
    with ledger.connect() as tx:
        return tx.execute(sa.select(studies).where(studies.c.study_uid == study)).one()


def score_images(ledger: sa.Engine, *probabilities: float) -> None:
    receive(ledger, *(film(number, "1.2.3", NOW + timedelta(seconds=number)) for number in range(1, len(probabilities) + 1)))
    for probability in probabilities:
        score_next(ledger, probability)


def test_one_image_has_its_own_probability_for_a_risk(ledger: sa.Engine):
    score_images(ledger, 0.55)
    assert (row_of(ledger).risk, row_of(ledger).band) == (0.55, Band.HIGH)


def test_the_highest_of_two_images_is_worth_less_and_the_event_names_the_rule(ledger: sa.Engine):
    score_images(ledger, 0.55, 0.05)
    row = row_of(ledger)
    assert row.risk == study_risk([0.55, 0.05])
    assert row.band == Band.NEUTRAL, "0.55 would be raised alone, from 0.5 on"
    assert str(row.deciding_instance).endswith("1")
    with ledger.connect() as tx:
        details = tx.scalars(sa.select(events.c.detail).where(events.c.kind == "placed")).all()
    assert details
    assert {detail["risk_by"] for detail in details} == {MADE_BY}


def test_an_image_that_agrees_lowers_nothing(ledger: sa.Engine):
    score_images(ledger, 0.55, 0.55)
    assert (row_of(ledger).risk, row_of(ledger).band) == (pytest.approx(0.55), Band.HIGH)


def test_the_board_is_told_the_highest_probability_and_how_many_images_it_is_of(ledger: sa.Engine):
    score_images(ledger, 0.3, 0.8, 0.1)
    scored(ledger, "1.2.9", 0.6)
    found = {study.images: study for study in monitoring.seen(ledger, NOW - DAY, NOW + DAY)}
    assert {images: study.risk for images, study in found.items()} == {3: 0.8, 1: 0.6}


def test_the_board_tells_patients_apart_and_says_nothing_of_them(ledger: sa.Engine):
    for number, patient in enumerate(("P1", "P1", "P2", "")):
        scored(ledger, f"1.2.{number}", 0.6, patient_id=patient)
    found = [study.patient for study in monitoring.seen(ledger, NOW - DAY, NOW + DAY)]
    assert sorted(found) == ["", "patient 0", "patient 0", "patient 1"]


def test_a_forecast_has_the_logits_of_every_scored_image(ledger: sa.Engine):
    score_images(ledger, 0.3, 0.8)
    receive(ledger, film(1, "1.2.9"))
    found = {one.study_uid: len(one.logits) for one in arrivals.since(ledger, NOW - DAY, "d" * 64)}
    assert found == {"1.2.3": 2, "1.2.9": 0}


def test_a_finding_is_asked_for_on_drawn_studies_whatever_ai_makes_of_them(ledger: sa.Engine):
    for number in range(8):
        scored(ledger, f"1.2.3{number}", 0.9 if number % 2 else 0.1)
    settings = Settings(monitoring=Monitoring(ask_share=0.5))
    drawn = {f"1.2.3{number}": asked_for(f"1.2.3{number}", 0.5) for number in range(8)}
    assert len(set(drawn.values())) == 2
    with at(ledger, "ito", Role.READER, settings=lambda: settings) as ito:
        shown = {uid: "A finding is asked for on this study" in ito.get(f"/study/{uid}").text for uid in drawn}
        assert shown == drawn
    one = next(uid for uid, asked in drawn.items() if asked)
    feedback.say(ledger, one, "ito", ReaderFinding.ABSENT, NOW, ranked=False)
    studies_seen = monitoring.seen(ledger, NOW - DAY, NOW + DAY, 0.5)
    assert {study.asked for study in studies_seen} == {True, False}
    assert sum(study.asked and study.word() is not None for study in studies_seen) == 1
