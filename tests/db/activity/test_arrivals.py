"""Arrivals of the past for a simulation, out of the ledger."""

from __future__ import annotations

from datetime import timedelta

import sqlalchemy as sa

from prioritizer.db.activity import arrivals
from tests.support.ledgers import NOW, film, receive, score_next, scored

DIGEST = "d" * 64


def test_the_ledger_gives_arrivals_in_order_with_stat_and_the_logit_of_the_asked_bundle(ledger: sa.Engine) -> None:
    scored(ledger, "1.2.3", 0.9)
    receive(ledger, film(1, "1.2.4", NOW - timedelta(minutes=3), priority="STAT"))
    found = arrivals.since(ledger, NOW - timedelta(days=1), DIGEST)
    assert [(row.at, row.stat, row.logits) for row in found] == [(NOW - timedelta(minutes=3), True, ()), (NOW, False, (0.0,))]
    assert [row.study_uid for row in found] == ["1.2.4", "1.2.3"]
    assert [row.logits for row in arrivals.since(ledger, NOW - timedelta(days=1), "e" * 64)] == [(), ()]


def test_what_arrived_before_the_asked_moment_is_left_out(ledger: sa.Engine) -> None:
    receive(ledger, film(1, "1.2.3", NOW - timedelta(days=2)), film(1, "1.2.4", NOW))
    assert [row.at for row in arrivals.since(ledger, NOW - timedelta(days=1), DIGEST)] == [NOW]


def test_a_study_of_several_images_arrives_once_with_its_deciding_image(ledger: sa.Engine) -> None:
    receive(ledger, film(1), film(2))
    score_next(ledger, 0.2)
    score_next(ledger, 0.7)
    assert len(arrivals.since(ledger, NOW - timedelta(days=1), DIGEST)) == 1
