"""Nothing acknowledged is lost between two calls, and a database that does not answer is transient."""

from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa

from prioritizer.db.processing import deliver as processing_deliver
from prioritizer.db.processing import score as processing_score
from prioritizer.db.schema import connect
from prioritizer.db.schema.events import Kind, record
from prioritizer.db.worklist import rows
from prioritizer.errors import ConfigError, Transient
from prioritizer.states import DeliveryState
from tests.support.ledgers import (
    LEASE,
    NOW,
    POLICY,
    RUN_OUT,
    deliveries_of,
    film,
    kinds,
    opened_again,
    receive,
    result_of,
    score_of,
)


class Line:
    """One study's way through the ledger, a call at a time; a worker that dies leaves its lease to run out."""

    STEPS = ("receive", "claim instance", "score", "claim study", "publish", "claim delivery", "deliver")

    def __init__(self, ledger: sa.Engine, worker: str, lease: timedelta) -> None:
        self.ledger, self.worker, self.lease = ledger, worker, lease
        self.calls = (
            self.receive, self.claim_instance, self.score, self.claim_study, self.publish, self.claim_delivery, self.deliver,
        )  # fmt: skip
        self.instance = self.study = self.delivery = None

    def walk(self, steps: int) -> None:
        for call in self.calls[:steps]:
            call()

    def receive(self) -> None:
        receive(self.ledger, film())

    def claim_instance(self) -> None:
        self.instance = processing_score.claim_instance(self.ledger, self.worker, self.lease)

    def score(self) -> None:
        if self.instance is not None:
            assert processing_score.finish_scored(self.ledger, self.instance, score_of(0.9), POLICY, NOW)

    def claim_study(self) -> None:
        self.study = processing_deliver.claim_study(self.ledger, self.worker, self.lease, NOW)

    def publish(self) -> None:
        if self.study is not None:
            assert processing_deliver.finish_published(self.ledger, self.study, result_of("2.25.1"), ["pacs"], NOW)

    def claim_delivery(self) -> None:
        self.delivery = processing_deliver.claim_delivery(self.ledger, "pacs", self.worker, self.lease)

    def deliver(self) -> None:
        if self.delivery is not None:
            assert processing_deliver.finish_delivery(self.ledger, self.delivery, DeliveryState.SENT, "", NOW)


@pytest.mark.parametrize("steps", range(len(Line.STEPS) + 1), ids=["start", *Line.STEPS])
def test_a_crash_after_any_call_loses_nothing_and_doubles_nothing(ledger: sa.Engine, steps: int):
    Line(ledger, "dies", RUN_OUT).walk(steps)
    again = opened_again(ledger)
    Line(again, "next", LEASE).walk(len(Line.STEPS))
    row = rows.study(again, "1.2.3")
    assert (row.instances, row.risk, row.band) == (1, 0.9, "HIGH")
    assert deliveries_of(again) == {"2.25.1": "SENT"}
    assert [kind for kind in kinds(again) if kind != "placed"] == ["arrived", "scored", "published", "sent"]
    again.dispose()


def test_a_transaction_that_breaks_off_leaves_nothing(ledger: sa.Engine):
    receive(ledger, film())

    def dies() -> None:
        with connect.writing(ledger) as tx:
            record(tx, Kind.READ, "read", NOW, study="1.2.3")
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError):
        dies()
    assert kinds(ledger) == ["arrived"]


@pytest.mark.parametrize("url", ["postgresql://nobody@127.0.0.1:1/none", "sqlite:////proc/nowhere/ledger.sqlite3"])
def test_a_database_that_does_not_answer_is_transient(url: str):
    try:
        engine = connect.open_ledger(url)
    except OSError:
        return  # SQLite's folder cannot be made: told at start, before anything is acknowledged
    with pytest.raises(Transient):
        receive(engine, film())


def test_an_unknown_database_is_a_fault_of_the_configuration():
    with pytest.raises(ConfigError, match="mysql is not supported"):
        connect.open_ledger("mysql://h/d")


def test_sqlite_commits_are_durable(ledger: sa.Engine):
    if ledger.dialect.name != "sqlite":
        pytest.skip("Postgres commits are durable by its own default")
    with connect.reading(ledger) as tx:
        pragmas = {name: tx.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("journal_mode", "synchronous", "foreign_keys")}
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}
