"""What a page is told of what happened since it was drawn: all that concerns it, nothing that it may not tell."""

from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa

from prioritizer.db.list_order.order import View, Wanted
from prioritizer.db.schema.events import Kind
from prioritizer.db.worklist import changes, deadlines, reading
from prioritizer.db.worklist.changes import Asker, Changes
from prioritizer.study import AIState
from tests.support.ledgers import LEASE, NOW, POLICY, film, listed, receive, score_next, scored

SOON = NOW + timedelta(minutes=1)
MINE = Wanted(reader="ito")


def since(
    ledger: sa.Engine, mark: changes.Mark, wanted: Wanted, shown: str = "", reader: str = "ito", quiet: tuple[Kind, ...] = ()
) -> Changes:
    return changes.since(ledger, mark, wanted, Asker(reader=reader, shown=[uid for uid in [shown] if uid], quiet=quiet), SOON)


@pytest.mark.parametrize("how", ["taken over", "released", "ran out"])
def test_who_loses_a_study_is_told_on_the_list_of_their_own_claims(ledger: sa.Engine, how: str):
    receive(ledger, film(1, "1.2.1"))
    reading.claim(ledger, "1.2.1", "ito", timedelta(seconds=30), NOW)
    mark = changes.mark_now(ledger, NOW)
    match how:
        case "taken over":
            reading.claim(ledger, "1.2.1", "berg", LEASE, NOW, take_over=True)
        case "released":
            reading.release(ledger, "1.2.1", "chief", NOW, force=True)
        case _:
            deadlines.end_expired_claims(ledger, SOON)
    found = since(ledger, mark, MINE, shown="1.2.1")
    assert found.taken + found.freed == 1
    (told,) = found.told
    said = {
        "taken over": "berg took it over from ito",
        "released": "chief released the claim of ito",
        "ran out": "the claim of ito ran out",
    }
    assert told.said == said[how]
    assert not since(ledger, mark, MINE, shown="1.2.9").any, "nobody else's page is lit by it"


def test_a_filtered_list_is_not_lit_by_readings_of_studies_that_never_stood_on_it(ledger: sa.Engine):
    receive(ledger, film(1, "1.2.1", calling_ae="DX1"), film(1, "1.2.2", calling_ae="DX2", patient_name="Fremd^Paul"))
    mark = changes.mark_now(ledger, NOW)
    reading.read(ledger, "1.2.2", "berg", NOW)
    for wanted in (
        Wanted(sender="DX1"),
        Wanted(text="muster"),
        Wanted(hours=0.0001),
        MINE,
        Wanted(ai=AIState.FAILED),
        Wanted(view=View.EXPIRED),
    ):
        assert not since(ledger, mark, wanted).any, wanted
    assert since(ledger, mark, Wanted()).read == since(ledger, mark, Wanted(sender="DX2")).read == 1
    assert since(ledger, mark, Wanted(view=View.READ)).read == 1


def test_a_study_that_leaves_the_list_it_is_shown_on_is_told(ledger: sa.Engine):
    receive(ledger, film(1, "1.2.1"))
    waiting = Wanted(ai=AIState.WAITING)
    mark = changes.mark_now(ledger, NOW)
    score_next(ledger, 0.2)
    assert not since(ledger, mark, waiting).any
    assert since(ledger, mark, waiting, shown="1.2.1").scored == 1


def test_a_study_that_is_open_too_long_is_told_and_one_that_is_sent_to_again_comes_back(ledger: sa.Engine):
    receive(ledger, film(1, "1.2.1", NOW - timedelta(days=9)))
    mark = changes.mark_now(ledger, NOW)
    deadlines.expire(ledger, NOW - timedelta(days=7), NOW)
    assert since(ledger, mark, Wanted()).expired == 1
    assert listed(ledger) == []
    mark = changes.mark_now(ledger, NOW)
    receive(ledger, film(2, "1.2.1", NOW, priority="STAT"))
    assert listed(ledger) == ["1.2.1"], "a new image brings it back"
    found = since(ledger, mark, Wanted())
    assert (found.new, found.stat, found.urgent) == (1, 1, True)
    assert reading.claim_next(ledger, "ito", LEASE, NOW) == "1.2.1"


def test_a_pinned_study_is_on_the_list_however_old_it_is(ledger: sa.Engine):
    receive(ledger, film(1, "1.2.1", NOW - timedelta(days=9)))
    deadlines.expire(ledger, NOW - timedelta(days=7), NOW)
    reading.pin(ledger, "1.2.1", "berg", POLICY, NOW)
    assert listed(ledger) == ["1.2.1"]


def test_a_page_without_marks_is_told_of_all_that_is_no_opinion_of_ai(ledger: sa.Engine):
    """What may not be told is left out before studies are counted: a study that was raised and then claimed is claimed."""
    scored(ledger, "1.2.1", 0.2)
    mark = changes.mark_now(ledger, NOW)
    receive(ledger, film(2, "1.2.1", NOW + timedelta(seconds=1)))
    score_next(ledger, 0.9)
    reading.claim(ledger, "1.2.1", "berg", LEASE, NOW)
    quiet = (Kind.PLACED, Kind.SCORED, Kind.OVERDUE)
    assert since(ledger, mark, Wanted()).moved_up == 1
    found = since(ledger, mark, Wanted(), quiet=quiet)
    assert (found.moved_up, found.scored) == (0, 0)
    assert found.grown + found.taken == 1
    mark = changes.mark_now(ledger, NOW)
    reading.pin(ledger, "1.2.1", "berg", POLICY, NOW)
    assert since(ledger, mark, Wanted(), quiet=quiet).urgent, "a person's pin is no opinion of AI"


def test_a_study_that_is_opened_again_is_new_to_the_list(ledger: sa.Engine):
    receive(ledger, film(1, "1.2.1"))
    reading.read(ledger, "1.2.1", "berg", NOW)
    mark = changes.mark_now(ledger, NOW)
    reading.reopen(ledger, "1.2.1", "berg", NOW)
    assert listed(ledger) == ["1.2.1"]
    assert since(ledger, mark, Wanted()).new == 1
