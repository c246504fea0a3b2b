"""A clock that was ahead hides no study and holds nobody up once it is set back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from prioritizer.config.sections import Site
from prioritizer.config.settings import Settings
from prioritizer.daemon import scheduled_jobs as timed
from prioritizer.daemon.scheduled_jobs import ScheduledJobs
from prioritizer.db.processing import deliver, score
from prioritizer.db.schema import clock_steps
from prioritizer.db.schema.tables import studies
from prioritizer.db.worklist import deadlines, reading, rows
from prioritizer.dicom.spool.spool import Spool
from prioritizer.ranking.deadlines import Stage
from tests.support.ledgers import AT_ONCE, LEASE, NOW, POLICY, film, kinds, listed, receive, score_next
from tests.support.phantom_spool import Well

HOUR = timedelta(hours=1)


def test_what_arrived_while_the_clock_was_ahead_stands_before_what_comes_after(ledger: sa.Engine):
    receive(ledger, film(1, "1.ahead", NOW + 2 * HOUR))
    receive(ledger, film(1, "1.year", NOW + 365 * 24 * HOUR))
    for number in range(5):
        at = NOW + timedelta(minutes=4 * number)
        receive(ledger, film(1, f"2.{number}", at), now=at)
    assert listed(ledger)[:2] == ["1.ahead", "1.year"]
    deadlines.mark_overdue(ledger, NOW + 3 * HOUR)
    assert all(row.overdue_at for row in rows.rows(ledger) if row.study_uid.startswith("1."))
    assert clock_steps.last_step(ledger, NOW + timedelta(minutes=5)).startswith("2 studies had arrived up to")


def test_an_arrival_is_never_later_than_the_moment_it_is_entered(ledger: sa.Engine):
    receive(ledger, film(1, at=NOW + HOUR), now=NOW)
    assert rows.rows(ledger)[0].first_received_at == NOW.replace(microsecond=NOW.microsecond)


def test_a_wait_that_a_clock_ahead_wrote_holds_nobody_up(ledger: sa.Engine):
    receive(ledger, film(1))
    claim = score.claim_instance(ledger, "w", LEASE)
    assert claim is not None
    score.put_back(ledger, claim, timedelta(seconds=1), datetime.now(UTC) + 2 * HOUR)
    assert score.claim_instance(ledger, "w", LEASE) is not None


def test_a_reader_s_claim_keeps_its_length(ledger: sa.Engine):
    receive(ledger, film(1))
    reading.claim(ledger, "1.2.3", "anna", timedelta(minutes=30), NOW + 5 * HOUR)
    clock_steps.hold_to_present(ledger, NOW)
    row = rows.study(ledger, "1.2.3")
    assert (row.reader_since, row.reader_until) == (NOW, NOW + timedelta(minutes=30))


@pytest.mark.parametrize("seconds", [-3600, 3600])
def test_a_step_of_the_machine_s_clock_is_an_event(ledger: sa.Engine, tmp_path, monkeypatch: pytest.MonkeyPatch, seconds: int):
    moments = [NOW, NOW + timedelta(seconds=5), NOW + timedelta(seconds=10 + seconds)]
    monotonic = iter([0.0, 5.0, 10.0])
    monkeypatch.setattr(timed, "utc_now", lambda: moments[0])
    monkeypatch.setattr(timed.time, "monotonic", lambda: next(monotonic))
    chores = ScheduledJobs(ledger, Spool(tmp_path / "spool"), Settings, Well(), lambda: POLICY)
    for moment in moments[1:]:
        monkeypatch.setattr(timed, "utc_now", lambda moment=moment: moment)
        chores.look_at_the_clock()
    assert clock_steps.last_step(ledger, moments[2]) == f"the clock was set {'forward' if seconds > 0 else 'back'} by 3600 s"


def test_a_clock_that_only_drifts_is_no_event(ledger: sa.Engine, tmp_path):
    chores = ScheduledJobs(ledger, Spool(tmp_path / "spool"), Settings, Well(), lambda: POLICY)
    chores.look_at_the_clock()
    assert clock_steps.last_step(ledger, datetime.now(UTC)) == ""
    assert kinds


def a_day(ledger: sa.Engine) -> None:
    """Studies of the last minutes, the third with a second image."""
    for number in range(3):
        at = NOW - timedelta(minutes=30 - 5 * number)
        receive(ledger, film(1, f"1.{number}", at), now=at)
    receive(ledger, film(2, "1.2", NOW - timedelta(minutes=2)))


def stands(ledger: sa.Engine) -> list[tuple[object, ...]]:
    with ledger.connect() as tx:
        columns = "study_uid, first_received_at, last_received_at, due_at, expired_at"
        return [tuple(row) for row in tx.execute(sa.text(f"SELECT {columns} FROM studies ORDER BY study_uid"))]


@pytest.mark.parametrize("back", [26 * 365 * 24 * HOUR, 2 * HOUR])
def test_a_clock_that_was_behind_for_a_moment_changes_nothing_once_it_is_right_again(ledger: sa.Engine, back: timedelta):
    a_day(ledger)
    before = stands(ledger)
    wrong = NOW - back
    clock_steps.hold_to_present(ledger, wrong)
    receive(ledger, film(1, "2.behind", wrong), now=wrong)
    assert stands(ledger) != before
    clock_steps.gone_forward(ledger, back, NOW)
    assert deadlines.expire(ledger, NOW - 72 * HOUR, NOW) == 0
    assert [row for row in stands(ledger) if row[0] != "2.behind"] == before
    assert "2.behind" in listed(ledger), "dated long ago by the clock, and not old"
    assert kinds(ledger, "1.0")[-1] == "placed"


def test_a_reader_s_claim_outlives_a_clock_that_was_behind_for_a_moment(ledger: sa.Engine):
    a_day(ledger)
    reading.claim(ledger, "1.0", "anna", timedelta(minutes=30), NOW)
    clock_steps.hold_to_present(ledger, NOW - 9 * HOUR)
    clock_steps.gone_forward(ledger, 9 * HOUR, NOW)
    assert deadlines.end_expired_claims(ledger, NOW) == 0
    row = rows.study(ledger, "1.0")
    assert (row.reader_since, row.reader_until) == (NOW, NOW + timedelta(minutes=30))


def test_what_a_clock_ahead_dated_is_not_put_back_there_by_a_small_step(ledger: sa.Engine):
    receive(ledger, film(1, "1.ahead", NOW + 2 * HOUR), now=NOW + 2 * HOUR)
    clock_steps.hold_to_present(ledger, NOW)
    before = stands(ledger)
    clock_steps.gone_forward(ledger, timedelta(seconds=30), NOW + 3 * HOUR)
    assert stands(ledger) == before


def test_nothing_expires_by_a_clock_that_was_not_yet_looked_at(ledger: sa.Engine, tmp_path, monkeypatch: pytest.MonkeyPatch):
    a_day(ledger)
    moments, monotonic = [NOW, NOW + 100 * 24 * HOUR], iter([0.0, 15.0, 20.0])
    monkeypatch.setattr(timed, "utc_now", lambda: moments[0])
    monkeypatch.setattr(timed.time, "monotonic", lambda: next(monotonic))
    chores = ScheduledJobs(ledger, Spool(tmp_path / "spool"), Settings, Well(), lambda: POLICY)
    monkeypatch.setattr(timed, "utc_now", lambda: moments[1])
    chores.deadlines()
    assert len(listed(ledger)) == 3


def test_the_time_of_a_result_is_that_of_the_receipt(ledger: sa.Engine):
    receive(ledger, film(1, at=NOW - HOUR))
    score_next(ledger, 0.9)
    clock_steps.hold_to_present(ledger, NOW - 9 * HOUR)
    claim = deliver.claim_study(ledger, "p", LEASE, NOW)
    assert claim is not None
    assert claim.source_received_at == NOW - HOUR


def test_a_clock_that_goes_forward_in_two_steps_puts_back_what_one_backward_step_moved(ledger: sa.Engine):
    a_day(ledger)
    before = stands(ledger)
    clock_steps.record_step(ledger, -2 * HOUR, NOW - 2 * HOUR)
    clock_steps.hold_to_present(ledger, NOW - 2 * HOUR)
    for left in (1, 0):
        now = NOW - left * HOUR
        clock_steps.gone_forward(ledger, HOUR, now)
    assert stands(ledger) == before


def test_what_came_and_was_read_while_the_clock_was_behind_is_dated_as_it_was(ledger: sa.Engine):
    a_day(ledger)
    wrong = NOW - 20 * 24 * HOUR
    clock_steps.record_step(ledger, wrong - NOW, wrong)
    clock_steps.hold_to_present(ledger, wrong)
    receive(ledger, film(1, "2.behind", wrong + timedelta(minutes=1)), now=wrong + timedelta(minutes=1))
    reading.read(ledger, "1.0", "anna", wrong + timedelta(minutes=2))
    clock_steps.gone_forward(ledger, NOW - wrong, NOW + timedelta(minutes=3))
    assert rows.study(ledger, "1.0").read_at == NOW + timedelta(minutes=2)
    assert rows.study(ledger, "2.behind").first_received_at == NOW + timedelta(minutes=1)


def test_a_ledger_of_an_earlier_version_is_put_back_too(ledger: sa.Engine):
    a_day(ledger)
    before = stands(ledger)
    with ledger.begin() as tx:
        tx.execute(sa.text("UPDATE instances SET entry = 0"))
    clock_steps.hold_to_present(ledger, NOW - 2 * HOUR)
    clock_steps.gone_forward(ledger, 2 * HOUR, NOW)
    assert stands(ledger) == before


def test_a_result_that_a_clock_ahead_put_off_is_built_when_the_clock_is_right(ledger: sa.Engine):
    receive(ledger, film(1))
    score_next(ledger, 0.9, now=NOW + 365 * 24 * HOUR)
    assert deliver.claim_study(ledger, "p", LEASE, NOW) is None
    assert clock_steps.hold_results_to_present(ledger, AT_ONCE, NOW) == 1
    assert deliver.claim_study(ledger, "p", LEASE, NOW) is not None


def test_after_a_restart_nothing_expires_that_only_the_clock_made_old(ledger: sa.Engine):
    a_day(ledger)
    clock_steps.hold_to_present(ledger, NOW - 9000 * 24 * HOUR)
    assert clock_steps.keep_on_the_list(ledger, NOW) == 3
    assert deadlines.expire(ledger, NOW - 72 * HOUR, NOW) == 0


def test_nothing_is_deleted_for_a_day_after_the_clock_was_set(ledger: sa.Engine, tmp_path, monkeypatch: pytest.MonkeyPatch):
    a_day(ledger)
    reading.read(ledger, "1.0", "anna", NOW)
    with ledger.begin() as tx:
        tx.execute(sa.text("UPDATE instances SET state = 'INELIGIBLE'"))
    moments, monotonic = [NOW, NOW + 365 * 24 * HOUR], iter([0.0, 15.0, 20.0])
    monkeypatch.setattr(timed, "utc_now", lambda: moments[0])
    monkeypatch.setattr(timed.time, "monotonic", lambda: next(monotonic))
    chores = ScheduledJobs(ledger, Spool(tmp_path / "spool"), Settings, Well(), lambda: POLICY)
    monkeypatch.setattr(timed, "utc_now", lambda: moments[1])
    chores.retention()
    with ledger.connect() as tx:
        assert tx.execute(sa.text("SELECT COUNT(*) FROM instances WHERE pixels_deleted_at IS NOT NULL")).scalar() == 0


def test_what_lies_a_moment_ahead_is_no_step_of_the_clock(ledger: sa.Engine):
    a_day(ledger)
    before = stands(ledger)
    clock_steps.hold_to_present(ledger, NOW - timedelta(minutes=2, seconds=5))
    assert stands(ledger) == before
    assert clock_steps.last_step(ledger, NOW) == ""


def test_a_step_forward_that_undoes_none_moves_no_arrival(ledger: sa.Engine):
    clock_steps.record_step(ledger, -5 * HOUR, NOW - HOUR)
    a_day(ledger)
    before = stands(ledger)
    clock_steps.gone_forward(ledger, 2 * HOUR, NOW + 2 * HOUR)
    assert stands(ledger) == before


def test_a_step_forward_that_could_not_be_written_down_is_done_once(ledger: sa.Engine, monkeypatch: pytest.MonkeyPatch):
    a_day(ledger)
    reading.claim(ledger, "1.0", "anna", timedelta(minutes=30), NOW)

    def fails(*_: object) -> None:
        raise RuntimeError("the disk is full")

    monkeypatch.setattr(clock_steps, "_record_step", fails)
    with pytest.raises(RuntimeError):
        clock_steps.gone_forward(ledger, HOUR, NOW + HOUR)
    monkeypatch.undo()
    clock_steps.gone_forward(ledger, HOUR, NOW + HOUR)
    assert rows.study(ledger, "1.0").reader_since == NOW + HOUR
    assert clock_steps.last_step(ledger, NOW + HOUR) == "the clock was set forward by 3600 s"


def test_a_step_that_a_clock_ahead_dated_stands_for_no_longer_than_any_other(ledger: sa.Engine):
    year = 365 * 24 * HOUR
    clock_steps.gone_forward(ledger, year, NOW + year)
    clock_steps.record_step(ledger, -year, NOW)
    assert clock_steps.last_step(ledger, NOW) == f"the clock was set back by {year.total_seconds():.0f} s"
    for later in (2 * HOUR, year - HOUR, year, year + HOUR / 2):
        assert clock_steps.last_step(ledger, NOW + later) == ""
        assert clock_steps.forward_of_late(ledger, NOW + later) == timedelta(0)


def test_what_a_later_step_back_undid_is_not_forward_and_what_it_did_not_still_is(ledger: sa.Engine):
    decades = 50 * 365 * 24 * HOUR
    clock_steps.gone_forward(ledger, decades, NOW)
    clock_steps.gone_forward(ledger, HOUR, NOW + HOUR)
    clock_steps.record_step(ledger, -HOUR, NOW + HOUR / 60)
    assert clock_steps.forward_of_late(ledger, NOW + HOUR / 30) == decades
    clock_steps.record_step(ledger, -2 * HOUR, NOW - HOUR)
    clock_steps.gone_forward(ledger, 2 * HOUR, NOW + 2 * HOUR)
    assert clock_steps.forward_of_late(ledger, NOW + 3 * HOUR) == decades
    assert clock_steps.forward_of_late(ledger, NOW + 30 * HOUR) == timedelta(0)


def test_more_forward_than_there_is_time_is_all_the_time_since_1970(ledger: sa.Engine):
    for _ in range(100):
        clock_steps.record_step(ledger, 50 * 365 * 24 * HOUR, NOW)
    assert clock_steps.forward_of_late(ledger, NOW) == NOW - datetime(1970, 1, 1, tzinfo=UTC)


def gone(ledger: sa.Engine) -> int:
    with ledger.connect() as tx:
        return int(tx.scalar(sa.text("SELECT COUNT(*) FROM instances WHERE pixels_deleted_at IS NOT NULL")) or 0)


def retained(ledger: sa.Engine, folder: Path, site: Settings | None = None) -> int:
    """How many files are gone after retention has looked, now."""
    with ledger.begin() as tx:
        tx.execute(sa.text("UPDATE instances SET state = 'INELIGIBLE'"))
    ScheduledJobs(ledger, Spool(folder / "spool"), lambda: site or Settings(), Well(), lambda: POLICY).retention()
    return gone(ledger)


@pytest.mark.parametrize("pause", [timedelta(seconds=25), 10 * HOUR])
def test_a_machine_that_stands_still_every_night_goes_on_deleting(ledger: sa.Engine, tmp_path: Path, pause: timedelta):
    a_day(ledger)
    reading.read(ledger, "1.0", "anna", datetime.now(UTC) - 14 * 24 * HOUR - pause / 2)
    reading.read(ledger, "1.1", "anna", NOW - 100 * 24 * HOUR)
    for nights in range(3):
        clock_steps.gone_forward(ledger, pause, NOW - nights * 24 * HOUR - 20 * HOUR)
    assert retained(ledger, tmp_path) == 1, "the other is old by the pause alone"


@pytest.mark.parametrize("behind", [40 * 365 * 24 * HOUR, 48 * HOUR])
def test_what_was_read_by_a_clock_that_nobody_saw_go_back_is_kept_as_long_as_the_site_said(
    ledger: sa.Engine, tmp_path: Path, behind: timedelta
):
    """The machine starts with a clock that stood still, and the time service answers hours later."""
    right = NOW - 25 * HOUR
    for hours in (30, 20):
        at = right - hours * HOUR
        receive(ledger, film(1, f"1.{hours}", at), now=at)
    reading.read(ledger, "1.30", "anna", right - 5 * HOUR)
    wrong = right - behind
    reading.read(ledger, "1.20", "anna", wrong)
    receive(ledger, film(1, "2.behind", wrong + HOUR), now=wrong + HOUR)
    clock_steps.gone_forward(ledger, behind, right + 2 * HOUR)
    assert rows.study(ledger, "1.20").read_at == right
    assert rows.study(ledger, "1.30").read_at == right - 5 * HOUR, "by the clock that was right"
    assert rows.study(ledger, "2.behind").first_received_at == right + HOUR
    assert retained(ledger, tmp_path) == 0


def test_what_came_to_a_new_ledger_before_the_time_service_answered_is_dated_then(ledger: sa.Engine, tmp_path: Path):
    wrong, behind = datetime(1970, 1, 1, 0, 5, tzinfo=UTC), NOW - datetime(1970, 1, 1, 0, 5, tzinfo=UTC)
    receive(ledger, film(1, at=wrong), now=wrong)
    reading.read(ledger, "1.2.3", "anna", wrong + timedelta(minutes=1))
    clock_steps.gone_forward(ledger, behind - 25 * HOUR, NOW - 25 * HOUR + timedelta(minutes=2))
    assert rows.study(ledger, "1.2.3").read_at == NOW - 25 * HOUR + timedelta(minutes=1)
    assert retained(ledger, tmp_path) == 0


def test_an_expired_study_that_a_clock_behind_brought_forward_has_its_own_arrival_again(ledger: sa.Engine, tmp_path: Path):
    receive(ledger, film(1, at=NOW - 80 * HOUR), now=NOW - 80 * HOUR)
    deadlines.expire(ledger, NOW - 74 * HOUR, NOW - 26 * HOUR)
    before = stands(ledger)
    clock_steps.hold_to_present(ledger, NOW - 9000 * 24 * HOUR)
    clock_steps.gone_forward(ledger, 9000 * 24 * HOUR - 25 * HOUR, NOW - 25 * HOUR)
    assert stands(ledger) == before
    assert retained(ledger, tmp_path, Settings(site=Site(stage=Stage.SHADOW))) == 0


def test_a_step_forward_of_a_clock_that_was_right_moves_nothing(ledger: sa.Engine):
    a_day(ledger)
    reading.read(ledger, "1.0", "anna", NOW)
    before = stands(ledger)
    clock_steps.gone_forward(ledger, 365 * 24 * HOUR, NOW + 365 * 24 * HOUR)
    assert (stands(ledger), rows.study(ledger, "1.0").read_at) == (before, NOW)


def test_a_pause_as_long_as_the_clock_had_once_been_ahead_moves_no_arrival(ledger: sa.Engine):
    nine = NOW - 5 * HOUR
    clock_steps.record_step(ledger, -HOUR, nine)
    for number in range(3):
        at = nine + (number + 0.5) * HOUR
        receive(ledger, film(1, f"1.{number}", at), now=at)
    before = stands(ledger)
    clock_steps.gone_forward(ledger, HOUR, nine + 4 * HOUR)
    assert stands(ledger) == before


def test_a_step_back_that_was_seen_and_set_right_days_later_was_one(ledger: sa.Engine, tmp_path: Path):
    """Somebody set the wrong year: what came and was read meanwhile is dated by the time that is right."""
    back, day = timedelta(days=400), timedelta(days=1)
    began = NOW - timedelta(hours=25) - 2 * day
    receive(ledger, film(1, "1.before", began), now=began)
    clock_steps.hold_to_present(ledger, began - back + timedelta(seconds=5))
    clock_steps.record_step(ledger, -back, began - back + timedelta(seconds=5))
    for study in ("1.read", "1.open"):
        receive(ledger, film(1, study, began - back + day), now=began - back + day)
    reading.read(ledger, "1.read", "anna", began - back + day)
    clock_steps.gone_forward(ledger, back, began + 2 * day)
    with ledger.connect() as tx:
        first = tx.scalar(sa.select(studies.c.first_received_at).where(studies.c.study_uid == "1.open"))
    assert first == began + day
    assert retained(ledger, tmp_path) == 0
