"""A clock that was ahead hides no study and holds nobody up once it is set back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from prioritizer import chores as timed
from prioritizer.chores import Chores
from prioritizer.config import Settings
from prioritizer.db import clock_steps, reading, scoring, worklist
from prioritizer.dicom.spool import Spool
from tests.edges.ledgers import LEASE, NOW, POLICY, film, kinds, ledger_fixture, listed, receive  # noqa: F401
from tests.edges.spooled import Well

HOUR = timedelta(hours=1)


def test_what_arrived_while_the_clock_was_ahead_stands_before_what_comes_after(ledger: sa.Engine):
    receive(ledger, film(1, "1.ahead", NOW + 2 * HOUR))
    receive(ledger, film(1, "1.year", NOW + 365 * 24 * HOUR))
    for number in range(5):
        at = NOW + timedelta(minutes=4 * number)
        receive(ledger, film(1, f"2.{number}", at), now=at)
    assert listed(ledger)[:2] == ["1.ahead", "1.year"]
    reading.mark_overdue(ledger, NOW + 3 * HOUR)
    assert all(row.overdue_at for row in worklist.rows(ledger) if row.study_uid.startswith("1."))
    assert clock_steps.last_step(ledger, NOW + timedelta(minutes=5)).startswith("2 studies had arrived up to")


def test_an_arrival_is_never_later_than_the_moment_it_is_entered(ledger: sa.Engine):
    receive(ledger, film(1, at=NOW + HOUR), now=NOW)
    assert worklist.rows(ledger)[0].first_received_at == NOW.replace(microsecond=NOW.microsecond)


def test_a_wait_that_a_clock_ahead_wrote_holds_nobody_up(ledger: sa.Engine):
    receive(ledger, film(1))
    claim = scoring.claim_instance(ledger, "w", LEASE)
    assert claim is not None
    scoring.put_back(ledger, claim, timedelta(seconds=1), datetime.now(UTC) + 2 * HOUR)
    assert scoring.claim_instance(ledger, "w", LEASE) is not None


def test_a_reader_s_claim_keeps_its_length(ledger: sa.Engine):
    receive(ledger, film(1))
    reading.claim(ledger, "1.2.3", "anna", timedelta(minutes=30), NOW + 5 * HOUR)
    clock_steps.hold_to_present(ledger, NOW)
    row = worklist.study(ledger, "1.2.3")
    assert (row.reader_since, row.reader_until) == (NOW, NOW + timedelta(minutes=30))


@pytest.mark.parametrize("seconds", [-3600, 3600])
def test_a_step_of_the_machine_s_clock_is_an_event(ledger: sa.Engine, tmp_path, monkeypatch: pytest.MonkeyPatch, seconds: int):
    moments = [NOW, NOW + timedelta(seconds=5), NOW + timedelta(seconds=10 + seconds)]
    monotonic = iter([0.0, 5.0, 10.0])
    monkeypatch.setattr(timed, "utc_now", lambda: moments[0])
    monkeypatch.setattr(timed.time, "monotonic", lambda: next(monotonic))
    chores = Chores(ledger, Spool(tmp_path / "spool"), Settings, Well(), lambda: POLICY)
    for moment in moments[1:]:
        monkeypatch.setattr(timed, "utc_now", lambda moment=moment: moment)
        chores.look_at_the_clock()
    assert clock_steps.last_step(ledger, moments[2]) == f"the clock was set {'forward' if seconds > 0 else 'back'} by 3600 s"


def test_a_clock_that_only_drifts_is_no_event(ledger: sa.Engine, tmp_path):
    chores = Chores(ledger, Spool(tmp_path / "spool"), Settings, Well(), lambda: POLICY)
    chores.look_at_the_clock()
    assert clock_steps.last_step(ledger, datetime.now(UTC)) == ""
    assert kinds
