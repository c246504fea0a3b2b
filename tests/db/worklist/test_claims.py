"""Claims, readings and pins: who has a study, who is told, when a claim or a study runs out."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
import sqlalchemy as sa

from prioritizer.db.list_order.order import View
from prioritizer.db.processing import daemon_start as processing_start
from prioritizer.db.worklist import counts, deadlines, reading, rows
from prioritizer.errors import NotAllowed, NotFound
from prioritizer.ranking.deadlines import Stage
from tests.support.ledger_states import LATER
from tests.support.ledgers import (
    LEASE,
    NOW,
    POLICY,
    film,
    kinds,
    listed,
    receive,
    site_policy,
)


def test_the_loser_of_a_claim_is_told_who_won(ledger: sa.Engine):
    receive(ledger, film())
    reading.claim(ledger, "1.2.3", "Dr. A", LEASE, NOW)
    with pytest.raises(NotAllowed, match=r"Dr\. A has had this study"):
        reading.claim(ledger, "1.2.3", "Dr. B", LEASE, NOW)


def test_a_claim_can_be_taken_over_and_that_is_told(ledger: sa.Engine):
    receive(ledger, film())
    reading.claim(ledger, "1.2.3", "Dr. A", LEASE, NOW)
    reading.claim(ledger, "1.2.3", "Dr. B", LEASE, NOW, take_over=True)
    assert rows.study(ledger, "1.2.3").reader == "Dr. B"
    assert kinds(ledger) == ["arrived", "claimed", "taken-over"]
    with pytest.raises(NotAllowed, match=r"Dr\. B has this study"):
        reading.read(ledger, "1.2.3", "Dr. A", NOW)


def test_claiming_ones_own_again_renews_it_silently(ledger: sa.Engine):
    receive(ledger, film())
    reading.claim(ledger, "1.2.3", "Dr. A", LEASE, NOW)
    reading.claim(ledger, "1.2.3", "Dr. A", LEASE, NOW + timedelta(minutes=2))
    row = rows.study(ledger, "1.2.3")
    assert (row.reader_since, row.reader_until) == (NOW, NOW + timedelta(minutes=2) + LEASE)
    assert kinds(ledger) == ["arrived", "claimed"]


def test_a_claim_that_ran_out_is_free_for_another(ledger: sa.Engine):
    receive(ledger, film())
    reading.claim(ledger, "1.2.3", "Dr. A", LEASE, NOW)
    reading.claim(ledger, "1.2.3", "Dr. B", LEASE, LATER)
    assert rows.study(ledger, "1.2.3").reader == "Dr. B"


def test_a_claim_that_ran_out_is_ended_and_told(ledger: sa.Engine):
    receive(ledger, film())
    reading.claim(ledger, "1.2.3", "Dr. A", LEASE, NOW)
    assert deadlines.end_expired_claims(ledger, NOW) == 0
    assert deadlines.end_expired_claims(ledger, NOW + LEASE) == 1
    assert (rows.study(ledger, "1.2.3").reading_state, kinds(ledger)[-1]) == ("OPEN", "lease-ended")


def test_only_its_reader_releases_a_study(ledger: sa.Engine):
    receive(ledger, film())
    reading.claim(ledger, "1.2.3", "Dr. A", LEASE, NOW)
    with pytest.raises(NotAllowed, match=r"Dr\. A has this study"):
        reading.release(ledger, "1.2.3", "Dr. B", NOW)
    reading.release(ledger, "1.2.3", "Dr. B", NOW, force=True)
    assert rows.study(ledger, "1.2.3").reading_state == "OPEN"


def test_a_read_study_leaves_the_list_and_stays_in_its_view(ledger: sa.Engine):
    receive(ledger, film())
    reading.read(ledger, "1.2.3", "Dr. A", NOW)
    assert (listed(ledger), listed(ledger, view=View.READ)) == ([], ["1.2.3"])
    with pytest.raises(NotAllowed, match=r"read before, by Dr\. A"):
        reading.read(ledger, "1.2.3", "Dr. B", NOW)


def test_a_pin_is_taken_back(ledger: sa.Engine):
    receive(ledger, film())
    reading.pin(ledger, "1.2.3", "Dr. A", POLICY, NOW)
    reading.pin(ledger, "1.2.3", "Dr. A", POLICY, NOW, remove=True)
    row = rows.study(ledger, "1.2.3")
    assert (row.stat, row.pinned_by, row.due_at) == (False, None, NOW + POLICY.ranking.neutral)
    assert kinds(ledger) == ["arrived", "pinned", "placed", "unpinned", "placed"]


def test_taking_a_pin_back_leaves_the_orders_own_stat(ledger: sa.Engine):
    receive(ledger, film(priority="STAT"))
    reading.pin(ledger, "1.2.3", "Dr. A", POLICY, NOW)
    reading.pin(ledger, "1.2.3", "Dr. A", POLICY, NOW, remove=True)
    assert rows.study(ledger, "1.2.3").stat
    with pytest.raises(NotAllowed, match="its order is STAT"):
        reading.pin(ledger, "1.2.3", "Dr. A", POLICY, NOW, remove=True)


@pytest.mark.parametrize(
    "verb",
    [
        lambda db: reading.claim(db, "9.9", "Dr. A", LEASE, NOW),
        lambda db: reading.release(db, "9.9", "Dr. A", NOW),
        lambda db: reading.read(db, "9.9", "Dr. A", NOW),
        lambda db: reading.pin(db, "9.9", "Dr. A", POLICY, NOW),
    ],
)
def test_an_unknown_study_is_not_found(ledger: sa.Engine, verb: Callable[[sa.Engine], None]):
    with pytest.raises(NotFound):
        verb(ledger)


def test_a_study_past_its_deadline_is_overdue_once(ledger: sa.Engine):
    receive(ledger, film())
    due = NOW + POLICY.ranking.neutral
    assert deadlines.mark_overdue(ledger, due) == 0
    assert deadlines.mark_overdue(ledger, due + timedelta(seconds=1)) == 1
    assert deadlines.mark_overdue(ledger, due + timedelta(seconds=2)) == 0
    assert kinds(ledger) == ["arrived", "overdue"]


def test_an_overdue_study_stays_overdue_when_only_the_words_change(ledger: sa.Engine):
    receive(ledger, film())
    deadlines.mark_overdue(ledger, LATER + POLICY.ranking.neutral)
    processing_start.rerank_open(ledger, site_policy(stage=Stage.PILOT), "stage", LATER)
    assert rows.study(ledger, "1.2.3").overdue_at is not None


@pytest.mark.parametrize("state", ["stat", "read"])
def test_stat_and_read_studies_are_never_overdue(ledger: sa.Engine, state: str):
    receive(ledger, film(priority="STAT" if state == "stat" else ""))
    if state == "read":
        reading.read(ledger, "1.2.3", "Dr. A", NOW)
    assert deadlines.mark_overdue(ledger, NOW + timedelta(days=9)) == 0


def test_a_study_open_for_too_long_moves_to_its_own_view(ledger: sa.Engine):
    receive(ledger, film())
    assert deadlines.expire(ledger, NOW, NOW) == 0
    assert deadlines.expire(ledger, LATER, LATER) == 1
    assert deadlines.expire(ledger, LATER, LATER) == 0
    assert (listed(ledger), listed(ledger, view=View.EXPIRED)) == ([], ["1.2.3"])
    assert counts.counts(ledger).expired == 1
