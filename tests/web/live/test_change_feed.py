"""Who hears of news and when, what stands above the list, and that a page is of one moment."""

from __future__ import annotations

import asyncio
import atexit
import logging
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from prioritizer.access import May, Role
from prioritizer.config.policy import SitePolicy
from prioritizer.db.accounts import people, sessions
from prioritizer.db.list_order.order import WORKLIST
from prioritizer.db.schema import connect
from prioritizer.db.schema.events import Kind, record
from prioritizer.db.worklist import changes, counts, deadlines, reading, rows
from prioritizer.db.worklist.changes import Asker, Mark
from prioritizer.web.app import page_app
from prioritizer.web.live import change_feed as pulses
from prioritizer.web.live.change_feed import MAX_OF_ONE, TOLD_AT_ONCE, ChangeFeed, Ear
from prioritizer.web.live.counts import CachedCounts
from prioritizer.web.server import WebServer
from tests.support.ledgers import LEASE, NOW, POLICY, film, receive, scored
from tests.support.page_client import backend_of

LATER = NOW + timedelta(hours=3)


LOOP = asyncio.new_event_loop()
atexit.register(LOOP.close)


class Heard:
    """Open pages, and which of them were woken, without a network."""

    def __init__(self, pulse: ChangeFeed, count: int, who: str = "") -> None:
        self.loop = LOOP

        async def join() -> list[Ear | None]:
            return [pulse.join(who or f"reader {number}") for number in range(count)]

        self.ears = self.loop.run_until_complete(join())

    def woken(self) -> list[int]:
        """Since asked last."""
        self.loop.run_until_complete(asyncio.sleep(0))
        found = [number for number, ear in enumerate(self.ears) if ear is not None and ear.event.is_set()]
        for ear in self.ears:
            if ear is not None:
                ear.event.clear()
        return found


def test_ordinary_news_go_round_and_reach_everybody_once(ledger: sa.Engine):
    pulse = ChangeFeed(ledger, lambda: NOW)
    pulse.look()
    heard = Heard(pulse, 2 * TOLD_AT_ONCE + 2)
    pulse.look()
    assert heard.woken() == []
    receive(ledger, film(1, "1.2.1"))
    told = []
    for _ in range(3):
        pulse.look()
        told.append(heard.woken())
    assert [len(one) for one in told] == [TOLD_AT_ONCE, TOLD_AT_ONCE, 2]
    assert sorted(number for one in told for number in one) == list(range(len(heard.ears)))
    pulse.look()
    assert heard.woken() == []


@pytest.mark.parametrize("what", ["stat", "pinned", "overdue", "stat by a later image"])
def test_urgent_news_reach_everybody_at_once(ledger: sa.Engine, what: str):
    receive(ledger, film(1, "1.2.1"))
    pulse = ChangeFeed(ledger, lambda: NOW)
    pulse.look()
    heard = Heard(pulse, 3 * TOLD_AT_ONCE)
    match what:
        case "stat":
            receive(ledger, film(1, "1.2.2", priority="STAT"))
        case "pinned":
            reading.pin(ledger, "1.2.1", "berg", POLICY, NOW)
        case "overdue":
            assert deadlines.mark_overdue(ledger, LATER) == 1
        case _:
            receive(ledger, film(2, "1.2.1", priority="STAT"))
    pulse.look()
    assert len(heard.woken()) == 3 * TOLD_AT_ONCE


def test_a_fault_ends_no_looking_and_nobody_is_told_that_all_is_well(ledger: sa.Engine, monkeypatch: pytest.MonkeyPatch, caplog):
    pulse = ChangeFeed(ledger, lambda: NOW)
    pulse.look()
    assert pulse.sees

    def broken(*args: object) -> None:
        raise KeyError("a fault of ours")

    with monkeypatch.context() as patched, caplog.at_level(logging.ERROR):
        patched.setattr(changes, "anything", broken)
        pulse.look()
        patched.setattr(pulses.time, "monotonic", lambda: time.perf_counter() + 10**9)
        assert not pulse.sees
    assert "the look for news failed" in caplog.text
    heard = Heard(pulse, 1)
    receive(ledger, film(1, "1.2.1"))
    pulse.look()
    assert heard.woken() == [0]


def test_no_more_than_so_many_pages_listen(ledger: sa.Engine, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pulses, "MAX_STREAMS", 2)
    pulse = ChangeFeed(ledger, lambda: NOW)
    heard = Heard(pulse, 3)
    assert heard.ears[2] is None
    pulse.leave(heard.ears[0])  # type: ignore[arg-type]
    assert Heard(pulse, 1).ears[0] is not None


def test_of_too_many_pages_of_one_person_the_oldest_is_closed_and_nobody_elses(ledger: sa.Engine):
    pulse = ChangeFeed(ledger, lambda: NOW)
    before = Heard(pulse, 1, "ito")
    other = Heard(pulse, 3, "berg")
    own = Heard(pulse, MAX_OF_ONE - 1, "ito")
    pulse.look()
    receive(ledger, film(1, "1.2.1", priority="STAT"))
    pulse.look()
    assert [len(one.woken()) for one in (before, other, own)] == [1, 3, MAX_OF_ONE - 1]
    newest = Heard(pulse, 1, "ito")
    assert before.woken() == [0], "it is woken to be told that it ends"
    assert [ear.closed for one in (before, other, own, newest) for ear in one.ears if ear] == [True] + [False] * (MAX_OF_ONE + 3)
    receive(ledger, film(1, "1.2.2", priority="STAT"))
    pulse.look()
    assert [len(one.woken()) for one in (before, other, own, newest)] == [0, 3, MAX_OF_ONE - 1, 1]
    pulse.leave(before.ears[0])  # type: ignore[arg-type]


def test_a_page_that_made_room_for_another_is_told_to_ask_by_itself_and_not_to_come_back_at_once(ledger: sa.Engine, monkeypatch):
    monkeypatch.setattr(pulses, "MAX_OF_ONE", 1)
    people.add(ledger, "ito", Role.READER, "tests", NOW)
    secret, _ = sessions.make_token(ledger, "ito", "tests", [May.SEE], "tests", NOW, timedelta(days=1))
    server = WebServer(page_app(backend_of(ledger, now=lambda: NOW)), "127.0.0.1", 0)
    server.start()
    asked = {"method": "GET", "url": f"http://127.0.0.1:{server.port}/live", "headers": {"Authorization": f"Bearer {secret}"}}
    try:
        with httpx.stream(**asked, timeout=60) as first:
            lines = first.iter_lines()
            assert next(lines) == "retry: 3000"
            with httpx.stream(**asked, timeout=60) as second:
                assert next(second.iter_lines()) == "retry: 3000"
                rest = [line for line in lines if line]
        assert rest[-3:] == ["retry: 60000", "event: full", "data: too many pages listen; this one asks by itself"]
    finally:
        server.stop()


def test_streams_end_before_the_server(ledger: sa.Engine):
    people.add(ledger, "ito", Role.READER, "tests", NOW)
    secret, _ = sessions.make_token(ledger, "ito", "tests", [May.SEE], "tests", NOW, timedelta(days=1))
    server = WebServer(page_app(backend_of(ledger, now=lambda: NOW)), "127.0.0.1", 0)
    server.start()
    lines: list[str] = []
    begun = threading.Event()

    def listen() -> None:
        with httpx.stream("GET", f"http://127.0.0.1:{server.port}/live", headers={"Authorization": f"Bearer {secret}"}, timeout=60) as told:
            for line in told.iter_lines():
                lines.append(line)
                begun.set()
        lines.append("ended")

    thread = threading.Thread(target=listen)
    thread.start()
    assert begun.wait(30)
    server.stop()
    thread.join(30)
    assert lines[-1] == "ended", "the server ended the stream itself, it was not cut off"


# --- what stands above the list ---------------------------------------------------------------------------------------


def tallies_of(ledger: sa.Engine, clock: Callable[[], object]) -> CachedCounts:
    return CachedCounts(ledger, clock, SitePolicy, lambda: timedelta(hours=2))  # type: ignore[arg-type]


def test_figures_are_taken_again_by_who_watches_and_after_a_step(ledger: sa.Engine):
    moment = [NOW]
    tallies = tallies_of(ledger, lambda: moment[0])
    tallies.renew(changed=True)
    assert tallies.now().counts.open == 0
    receive(ledger, film(1, "1.2.1"))
    assert tallies.now().counts.open == 0, "nobody has looked since"
    tallies.renew(changed=True)
    assert tallies.now().counts.open == 1
    receive(ledger, film(1, "1.2.2"))
    tallies.forget()
    assert tallies.now().counts.open == 2
    receive(ledger, film(1, "1.2.3"))
    for _ in range(11):
        moment[0] += timedelta(seconds=1)
        tallies.renew(changed=False)
    assert tallies.now().counts.open == 3, "renewed although nobody saw a change"


def test_without_anybody_who_watches_figures_are_a_second_old_at_most(ledger: sa.Engine):
    moment = [NOW]
    tallies = tallies_of(ledger, lambda: moment[0])
    tallies.renew(changed=False)
    assert tallies.now().counts.open == 0
    receive(ledger, film(1, "1.2.1"))
    moment[0] += timedelta(seconds=5)
    assert tallies.now().counts.open == 1


def test_figures_counted_while_somebody_did_something_are_not_kept(ledger: sa.Engine, monkeypatch: pytest.MonkeyPatch):
    tallies = tallies_of(ledger, lambda: NOW)
    counted = counts.counts

    def meanwhile(*args: Any) -> counts.WorklistCounts:
        found = counted(*args)
        receive(ledger, film(1, "1.2.1"))
        tallies.forget()
        return found

    with monkeypatch.context() as patched:
        patched.setattr(counts, "counts", meanwhile)
        tallies.now()
    assert tallies.now().counts.open == 1


# --- one moment -------------------------------------------------------------------------------------------------------


def test_a_page_is_of_one_moment_and_what_comes_after_is_told(ledger: sa.Engine):
    receive(ledger, film(1, "1.2.1"))
    with connect.one_look(ledger):
        mark = changes.mark_now(ledger, NOW)
        thread = threading.Thread(target=lambda: receive(ledger, film(1, "1.2.2")))
        thread.start()
        thread.join(30)
        assert [row.study_uid for row in rows.rows(ledger, now=NOW)] == ["1.2.1"]
        with pytest.raises(RuntimeError, match="does not write"):
            reading.claim(ledger, "1.2.1", "ito", LEASE, NOW)
    assert changes.since(ledger, mark, WORKLIST, Asker(reader="ito"), NOW).new == 1
    assert len(rows.rows(ledger, now=NOW)) == 2


def test_ones_own_pin_is_no_news_and_anothers_is(ledger: sa.Engine):
    receive(ledger, film(1, "1.2.1"))
    mark = changes.mark_now(ledger, NOW)
    reading.pin(ledger, "1.2.1", "ito", POLICY, NOW)
    assert not changes.since(ledger, mark, WORKLIST, Asker(reader="ito"), NOW).any
    assert changes.since(ledger, mark, WORKLIST, Asker(reader="berg"), NOW).stat == 1


def test_an_urgent_event_is_told_however_much_came_after_it(ledger: sa.Engine):
    for uid in ("1.2.1", "1.2.2"):
        receive(ledger, film(1, uid))
    mark = changes.mark_now(ledger, NOW)
    reading.pin(ledger, "1.2.1", "berg", POLICY, NOW)
    deadlines.mark_overdue(ledger, LATER)
    with connect.writing(ledger) as tx:
        for _ in range(changes.MAX_LOOKED_AT + 10):
            record(tx, Kind.CLAIMED, "claimed", LATER, study="1.2.2", actor="berg")
    found = changes.since(ledger, mark, WORKLIST, Asker(reader="ito"), LATER)
    assert found.more
    assert (found.stat, found.overdue) == (1, 1)


def test_what_changed_since_long_ago_reads_the_newest_events_alone(ledger: sa.Engine, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(changes, "MAX_LOOKED_AT", 1)  # so that what is urgent is asked for on its own
    receive(ledger, *(film(1, f"1.2.{number}") for number in range(5)))
    if ledger.dialect.name != "sqlite":
        pytest.skip("the planner of the other database is judged by the benchmark")
    asked: list[str] = []
    sa.event.listen(ledger, "before_cursor_execute", lambda c, cursor, statement, parameters, *_: asked.append((statement, parameters)))
    changes.since(ledger, Mark(1), WORKLIST, Asker(reader="ito"), NOW)
    plans = []
    with ledger.connect() as tx:
        for statement, parameters in [one for one in asked if "events.detail" in one[0]]:
            plans += [row[-1] for row in tx.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)]
    assert plans
    assert not [plan for plan in plans if plan.startswith("SCAN ")]
    assert any("USING INDEX ix_events_study_uid" in plan for plan in plans), plans
    assert any("INTEGER PRIMARY KEY (rowid>?)" in plan for plan in plans), plans
    assert "USE TEMP B-TREE FOR ORDER BY" not in plans[0]


def test_a_raised_study_is_moved_up_and_no_other_is(ledger: sa.Engine):
    mark = changes.mark_now(ledger, NOW)
    scored(ledger, "1.2.1", 0.9)
    scored(ledger, "1.2.2", 0.2)
    found = changes.since(ledger, mark, WORKLIST, Asker(reader="ito"), NOW)
    assert (found.new, found.moved_up) == (2, 0)
    mark = changes.mark_now(ledger, NOW)
    reading.pin(ledger, "1.2.2", "berg", POLICY, NOW)
    reading.pin(ledger, "1.2.2", "berg", POLICY, NOW, remove=True)
    assert changes.since(ledger, mark, WORKLIST, Asker(reader="ito"), NOW).any
