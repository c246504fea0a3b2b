"""Who serves a ledger, by the database's clock, and the policy that is kept in it."""

from __future__ import annotations

import json

import pytest
import sqlalchemy as sa

from prioritizer.db.activity import daemons
from prioritizer.db.in_force import site_policy
from prioritizer.db.schema import connect
from prioritizer.db.worklist import reading
from tests.support.ledgers import NOW, POLICY, scored


def test_a_second_daemon_sees_the_first(ledger: sa.Engine):
    assert daemons.beat(ledger, "one", "d", "/spool/1") is None
    other = daemons.beat(ledger, "two", "d", "/spool/2")
    assert other is not None
    assert (other.worker, other.silent) == ("one", False)


@pytest.mark.parametrize("seconds", [-61, 7200])
def test_one_that_was_heard_long_ago_or_by_a_clock_that_was_ahead_serves_no_more(ledger: sa.Engine, seconds: int):
    daemons.beat(ledger, "one", "d", "/spool/1")
    with ledger.begin() as tx:
        tx.execute(sa.text("UPDATE daemons SET seen_at = seen_at + :by"), {"by": seconds * 1_000_000})
    assert daemons.beat(ledger, "two", "d", "/spool/2") is None


@pytest.mark.parametrize(
    "change",
    [
        lambda document: document | {"a_field_of_a_later_version": 3},
        lambda document: {},
        lambda document: document | {"stage": "unheard-of"},
        lambda document: [1, 2],
    ],
)
def test_a_policy_that_another_version_kept_stops_no_step(ledger: sa.Engine, change):
    scored(ledger)
    reading.read(ledger, "1.2.3", "anna", NOW)
    with ledger.begin() as tx:
        document = json.loads(tx.execute(sa.text("SELECT document FROM ranking_policy")).scalar_one())
        tx.execute(sa.text("UPDATE ranking_policy SET document = :text"), {"text": json.dumps(change(document))})
    reading.reopen(ledger, "1.2.3", "anna", NOW)
    with connect.writing(ledger) as tx:
        site_policy.remember(tx, POLICY)
        assert site_policy.remembered(tx) == POLICY
