"""The next study goes to one reader, and what was passed by is told."""

from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa

from prioritizer.db.list_order.order import Order, Wanted
from prioritizer.db.schema import connect
from prioritizer.db.schema.tables import events
from prioritizer.db.worklist import reading, rows, study
from prioritizer.errors import NotAllowed
from tests.support.ledgers import LEASE, NOW, RUN_OUT, film, kinds, listed, receive, scored, together

READERS = 6


def arrivals(ledger: sa.Engine, count: int) -> list[str]:
    """Studies 1.2.1 to 1.2.count, a minute apart; their UIDs in order."""
    uids = [f"1.2.{number}" for number in range(1, count + 1)]
    for number, uid in enumerate(uids):
        receive(ledger, film(1, uid, NOW + timedelta(minutes=number)))
    return uids


def details(ledger: sa.Engine, kind: str) -> list[dict[str, object]]:
    with connect.reading(ledger) as tx:
        return list(tx.scalars(sa.select(events.c.detail).where(events.c.kind == kind).order_by(events.c.id)))


def test_the_next_study_is_the_first_that_nobody_has(ledger: sa.Engine):
    uids = arrivals(ledger, 4)
    taken = [reading.claim_next(ledger, f"dr-{n}", LEASE, NOW) for n in range(5)]
    assert taken == [*uids, None]
    assert listed(ledger) == uids, "a claimed study stays where it stands"


def test_stat_goes_first_and_the_order_of_arrival_can_be_asked_for(ledger: sa.Engine):
    scored(ledger, "1.2.1", 0.1, NOW)
    scored(ledger, "1.2.2", 0.9, NOW + timedelta(minutes=5))
    receive(ledger, film(1, "1.2.3", NOW + timedelta(minutes=9), priority="STAT"))
    assert reading.claim_next(ledger, "dr-a", LEASE, NOW) == "1.2.3"
    assert reading.claim_next(ledger, "dr-b", LEASE, NOW, Wanted(order=Order.ARRIVAL)) == "1.2.1"
    assert reading.claim_next(ledger, "dr-c", LEASE, NOW) == "1.2.2"


def test_many_who_ask_at_once_get_different_studies(ledger: sa.Engine):
    uids = arrivals(ledger, READERS - 2)
    taken = together(*(lambda n=n: reading.claim_next(ledger, f"dr-{n}", LEASE, NOW) for n in range(READERS)))
    assert sorted(str(uid) for uid in taken if uid is not None) == sorted(uids)
    assert taken.count(None) == 2


def test_a_study_whose_claim_ran_out_is_free(ledger: sa.Engine):
    arrivals(ledger, 1)
    reading.claim(ledger, "1.2.1", "dr-a", RUN_OUT, NOW)
    assert reading.claim_next(ledger, "dr-b", LEASE, NOW) == "1.2.1"


def test_a_skip_is_written_down_with_the_band(ledger: sa.Engine):
    uids = arrivals(ledger, 3)
    assert reading.claim_next(ledger, "dr-a", LEASE, NOW + timedelta(minutes=10), passing=uids[:2]) == uids[2]
    assert kinds(ledger, uids[0])[-1] == kinds(ledger, uids[1])[-1] == "skipped"
    assert details(ledger, "skipped") == [{"band": "NEUTRAL"}] * 2
    assert listed(ledger) == uids


def test_skipping_the_last_free_study_frees_it_and_is_written_down(ledger: sa.Engine):
    (uid,) = arrivals(ledger, 1)
    assert reading.claim_next(ledger, "dr-a", LEASE, NOW) == uid
    assert reading.claim_next(ledger, "dr-a", LEASE, NOW, passing=[uid]) is None
    assert kinds(ledger, uid)[-2:] == ["skipped", "released"]
    assert reading.claim_next(ledger, "dr-b", LEASE, NOW) == uid


def test_an_old_page_skips_no_study_that_was_read(ledger: sa.Engine):
    uids = arrivals(ledger, 2)
    reading.read(ledger, uids[0], "dr-b", NOW)
    reading.claim_next(ledger, "dr-a", LEASE, NOW, passing=[uids[0]])
    assert "skipped" not in kinds(ledger, uids[0])


def test_readers_who_skip_each_others_studies_never_wait_in_a_ring(ledger: sa.Engine):
    uids = arrivals(ledger, 2)

    def skip(reader: str, uid: str) -> None:
        for _ in range(15):
            reading.claim_next(ledger, reader, LEASE, NOW, passing=[uid])

    together(*(lambda n=n: skip(f"dr-{n}", uids[n % 2]) for n in range(4)))
    assert listed(ledger) == uids


def test_a_study_that_was_read_by_a_slip_is_opened_again_in_its_old_place(ledger: sa.Engine):
    uids = arrivals(ledger, 3)
    reading.claim(ledger, uids[0], "dr-a", LEASE, NOW)
    reading.read(ledger, uids[0], "dr-a", NOW)
    reading.reopen(ledger, uids[0], "dr-a", NOW)
    assert listed(ledger) == uids
    row = rows.study(ledger, uids[0])
    assert (row.reading_state, row.reader, row.read_at) == ("OPEN", None, None)
    assert study.why(ledger, uids[0])[-1].said == "opened again, read before by dr-a"
    with pytest.raises(NotAllowed, match="on the list"):
        reading.reopen(ledger, uids[0], "dr-a", NOW)


def test_a_reading_began_when_its_own_reader_began(ledger: sa.Engine):
    (uid,) = arrivals(ledger, 1)
    reading.claim(ledger, uid, "dr-b", timedelta(minutes=1), NOW - timedelta(minutes=90))
    reading.read(ledger, uid, "dr-a", NOW)
    assert rows.study(ledger, uid).reader_since == NOW


def test_claiming_out_of_order_tells_how_many_were_passed_by(ledger: sa.Engine):
    scored(ledger, "1.2.1", 0.9, NOW)
    uids = ["1.2.1", *(f"1.2.{n}" for n in (2, 3, 4))]
    for number, uid in enumerate(uids[1:], start=1):
        receive(ledger, film(1, uid, NOW + timedelta(minutes=number)))
    reading.claim(ledger, "1.2.2", "dr-b", LEASE, NOW + timedelta(minutes=10))
    reading.claim(ledger, "1.2.4", "dr-a", LEASE, NOW + timedelta(minutes=10))
    assert details(ledger, "claimed") == [{"passed": {"HIGH": 1}}, {"passed": {"HIGH": 1, "NEUTRAL": 1}}]
    assert "2 that stand before it passed by" in study.why(ledger, "1.2.4")[-1].said
    reading.claim(ledger, "1.2.1", "dr-c", LEASE, NOW + timedelta(minutes=10))
    assert study.why(ledger, "1.2.1")[-1].said == "claimed"
