"""What the list shows: the right studies, in the right order, page by page, with their history."""

from __future__ import annotations

import base64
import random
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prioritizer.db.activity import queues
from prioritizer.db.list_order import order as order_order
from prioritizer.db.list_order.cursor import PageCursor, place_of
from prioritizer.db.list_order.order import WORKING, Order, View, Wanted
from prioritizer.db.processing import score
from prioritizer.db.schema import connect
from prioritizer.db.schema.tables import studies
from prioritizer.db.worklist import counts as worklist_counts
from prioritizer.db.worklist import reading, study
from prioritizer.db.worklist import rows as worklist_rows
from prioritizer.db.worklist.rows import WorklistRow
from prioritizer.errors import NotAllowed, NotFound
from prioritizer.ranking.deadlines import Standing, place, sort_key
from prioritizer.states import InstanceState
from prioritizer.study import AIState
from tests.support.ledgers import LEASE, NOW, POLICY, deliver, film, kinds, listed, publish, receive, score_of, scored, site_policy


def fill(ledger: sa.Engine, count: int, seed: int = 1) -> list[dict[str, object]]:
    """Many studies at random places, arrival times and deadlines often equal."""
    rng = random.Random(seed)
    rows: list[dict[str, object]] = [
        {
            "study_uid": f"1.2.{number}", "first_received_at": NOW - timedelta(minutes=rng.randrange(200)), "last_received_at": NOW,
            "due_at": NOW + timedelta(minutes=rng.randrange(100)), "stat": rng.random() < 0.1, "instances": 1,
            "reading_state": rng.choice(["OPEN", "OPEN", "CLAIMED", "READ"]), "listed": rng.random() < 0.95,
            "expired_at": NOW if rng.random() < 0.1 else None, "calling_ae": rng.choice(["DX1", "DX2", "CR1"]),
            "patient_name": rng.choice(["", "TAN^W", "Åberg^E", "tan^w", "OKAFOR^A"]), "study_description": rng.choice(["", "Chest", "CHEST PA"]),
            "ai_state": rng.choice(list(AIState)), "band": rng.choice(["HIGH", "NEUTRAL"]),
        }
        for number in range(count)
    ]  # fmt: skip
    for row in rows:
        taken = row["reading_state"] != "OPEN"
        row["reader"] = rng.choice(["ito", "berg"]) if taken else None
        row["read_at"] = NOW - timedelta(minutes=rng.randrange(50)) if row["reading_state"] == "READ" else None
        row["reader_until"] = NOW + timedelta(minutes=rng.choice([-5, 30])) if row["reading_state"] == "CLAIMED" else None
    rng.shuffle(rows)
    with connect.writing(ledger) as tx:
        tx.execute(studies.insert(), rows)
    return rows


def by_pages(ledger: sa.Engine, wanted: Wanted, size: int) -> list[WorklistRow]:
    found: list[WorklistRow] = []
    while page := worklist_rows.rows(ledger, wanted, now=NOW, limit=size, after=place_of(wanted, found[-1]) if found else None):
        found += page
    return found


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("order", Order)
def test_pages_together_are_the_whole_list(ledger: sa.Engine, order: Order, backwards: bool):
    fill(ledger, 1000)
    for view in View:
        wanted = Wanted(order=order, view=view, backwards=backwards)
        whole = worklist_rows.rows(ledger, wanted, now=NOW, limit=5000)
        assert len(whole) > 20
        assert by_pages(ledger, wanted, 37) == whole


@pytest.mark.parametrize("order", Order)
def test_a_study_that_moves_between_two_pages_neither_hides_nor_repeats_others(ledger: sa.Engine, order: Order):
    fill(ledger, 300)
    wanted = Wanted(order=order)
    whole = worklist_rows.rows(ledger, wanted, now=NOW, limit=1000)
    page = worklist_rows.rows(ledger, wanted, now=NOW, limit=50)
    ended = PageCursor.parse(place_of(wanted, page[-1]).text(), order)
    for values in (
        {"stat": True, "due_at": NOW - timedelta(days=9), "first_received_at": NOW - timedelta(days=9)},
        {"stat": False, "due_at": NOW + timedelta(days=9), "first_received_at": NOW + timedelta(days=9)},
        {"calling_ae": "ZZZ", "ai_state": "WAITING", "reader": "zoe", "reader_until": NOW + timedelta(days=1)},
        {"reading_state": "READ", "reader": "zoe", "read_at": NOW},
    ):
        with connect.writing(ledger) as tx:
            tx.execute(studies.update().where(studies.c.study_uid == page[-1].study_uid).values(**values))
        moved = page[-1].study_uid
        rest = [row.study_uid for row in worklist_rows.rows(ledger, wanted, now=NOW, limit=1000, after=ended)]
        assert [uid for uid in rest if uid != moved] == [row.study_uid for row in whole[50:]], values


def test_a_place_tells_nothing_of_the_patient_and_bad_ones_are_refused(ledger: sa.Engine):
    receive(ledger, film(1, "1.2.3", patient_name="Secret^Name", study_description="Hidden"))
    (row,) = worklist_rows.rows(ledger, now=NOW)
    for order in Order:
        place = place_of(Wanted(order=order), row)
        said = base64.urlsafe_b64decode(place.text() + "==").decode()
        assert "Secret" not in said
        assert "Hidden" not in said
        assert PageCursor.parse(place.text(), order) == place
    good = place_of(Wanted(), row).text()
    halves = base64.urlsafe_b64encode(b'["deadline",false,1,1,"\\ud800"]').decode()
    huge = base64.urlsafe_b64encode(b'["deadline",false,1e400,99999999999999999999999,"1"]').decode()
    for text in ("", "x", "none", "%00", good[:-3], "W10", "bnVsbA", halves, huge, base64.urlsafe_b64encode(b"[" * 9000).decode()):
        with pytest.raises(NotAllowed):
            PageCursor.parse(text, Order.DEADLINE)
    with pytest.raises(NotAllowed):
        PageCursor.parse(good, Order.PATIENT)


def test_a_column_the_other_way_round_is_the_list_reversed(ledger: sa.Engine):
    fill(ledger, 300)
    for order in Order:
        there, back = (worklist_rows.rows(ledger, Wanted(order=order, backwards=way), limit=1000) for way in (False, True))
        assert back == (there if order in WORKING else there[::-1])


FILTERS = [
    ({"sender": "DX2"}, lambda row: row.calling_ae == "DX2"),
    ({"ai": AIState.FAILED}, lambda row: row.ai_state == "FAILED"),
    ({"raised": True}, lambda row: row.band == "HIGH"),
    ({"reader": "ito"}, lambda row: row.reader == "ito" and row.reader_until is not None and row.reader_until > NOW),
    ({"hours": 1.5}, lambda row: row.first_received_at >= NOW - timedelta(hours=1.5)),
    ({"sender": "DX1", "raised": True}, lambda row: row.calling_ae == "DX1" and row.band == "HIGH"),
]


@pytest.mark.parametrize(("asked", "fits"), FILTERS)
def test_a_filter_keeps_exactly_what_fits_in_the_same_order(
    ledger: sa.Engine, asked: dict[str, object], fits: Callable[[WorklistRow], bool]
):
    fill(ledger, 400)
    whole = worklist_rows.rows(ledger, now=NOW, limit=1000)
    kept = worklist_rows.rows(ledger, Wanted(**asked), now=NOW, limit=1000)
    assert kept == [row for row in whole if fits(row)]
    assert 0 < len(kept) < len(whole)


def test_a_study_is_found_by_the_beginning_of_any_of_its_words(ledger: sa.Engine):
    anna, okafor = "1.2.840.77.1", "1.2.840.78.1"
    receive(ledger, film(1, anna, patient_name="Müller-Lüdenscheidt^Anna Maria", patient_id="MRN 0012", accession_number="88-123/A"))
    receive(ledger, film(1, okafor, patient_name="OKAFOR^A=ok", patient_id="9912", accession_number="77"))
    for text in ("mull", "LÜDEN", "anna mar", "mrn", "0012", "88-123/A", "123/a", " müller\t0012 ", "1.2.840.77"):
        assert listed(ledger, text=text) == [anna], text
    assert listed(ledger, text="okaf") == [okafor]
    assert listed(ledger, text="anna okafor") == []
    assert listed(ledger, text="an") == [], "a short word is looked for as a whole"
    assert listed(ledger, text="ok a") == [okafor]
    for text in ("'; DROP TABLE studies; --", "\x00abc", "a%c_d", "%%%", "___", "\x00"):
        assert listed(ledger, text=text) == [], "nobody is shown as found by what was not looked for"
    assert listed(ledger, text=" ") == [anna, okafor]


def test_a_word_that_begins_too_much_is_not_looked_for_and_that_is_known(ledger: sa.Engine, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(order_order, "MAX_FOUND", 3)
    for number in range(5):
        receive(ledger, film(1, f"1.2.{number}", patient_name=f"Muster^Anna{number}", patient_id=f"P{number}00"))
    assert worklist_rows.too_common(ledger, "must") == ("must",)
    assert worklist_rows.too_common(ledger, "must anna3") == ("must",)
    assert worklist_rows.too_common(ledger, "anna3 1") == ()
    assert listed(ledger, text="must", common=("must",)) == []
    assert listed(ledger, text="must anna3", common=("must",)) == ["1.2.3"]


def test_the_views_share_no_study_and_lose_none(ledger: sa.Engine):
    rows = fill(ledger, 300)
    shown = [uid for view in View for uid in listed(ledger, view=view, limit=1000)]
    assert sorted(shown) == sorted(str(row["study_uid"]) for row in rows if row["listed"])


@pytest.mark.parametrize("order", WORKING)
def test_the_database_sorts_as_the_ranking_says(ledger: sa.Engine, order: Order):
    fill(ledger, 300)

    def key(row: WorklistRow) -> tuple[bool, datetime, datetime, str]:
        standing = Standing(study_uid=row.study_uid, first_received_at=row.first_received_at, stat=row.stat)
        return sort_key(standing, row.due_at if order is Order.DEADLINE else row.first_received_at)

    found = worklist_rows.rows(ledger, Wanted(order=order), limit=1000)
    assert found == sorted(found, key=key)


def test_moments_come_back_as_they_went_in(ledger: sa.Engine):
    at = NOW.replace(microsecond=123457)
    receive(ledger, film(at=at))
    assert worklist_rows.study(ledger, "1.2.3").first_received_at == at


ARRIVALS = st.lists(st.tuples(st.integers(0, 300), st.none() | st.floats(0, 1), st.booleans()), min_size=1, max_size=8)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ARRIVALS, st.booleans())
def test_the_list_is_the_ranking_of_what_arrived(ledger: sa.Engine, arrivals: list[tuple[int, float | None, bool]], demote: bool):
    policy = site_policy(t_high=0.5, t_low=0.2, demote_low=demote, last_n=50)
    with connect.writing(ledger) as tx:
        for table in ("scores", "events", "instances", "terms", "studies"):
            tx.exec_driver_sql(f"DELETE FROM {table}")
    expected = []
    for number, (minute, risk, stat) in enumerate(arrivals):
        uid, at = f"1.2.{number}", NOW + timedelta(minutes=minute)
        receive(ledger, film(1, uid, at, priority="STAT" if stat else ""), policy=policy, now=NOW + timedelta(minutes=301))
        claim = score.claim_instance(ledger, "w", LEASE)
        assert claim is not None
        if risk is None:
            score.finish_unscored(ledger, claim, InstanceState.FAILED, "x", "x", policy, NOW)
        else:
            score.finish_scored(ledger, claim, score_of(risk), policy, NOW)
        state = AIState.FAILED if risk is None else AIState.SCORED
        standing = Standing(study_uid=uid, first_received_at=at, stat=stat, ai_state=state, risk=risk)
        expected.append((sort_key(standing, place(standing, policy.ranking).due_at), uid))
    assert listed(ledger) == [uid for _, uid in sorted(expected)]


# --- STAT and pins -------------------------------------------------------------------------------------------------------


def test_a_stat_order_stands_first_although_it_came_last(ledger: sa.Engine):
    scored(ledger, "1.2.1", 0.9, NOW)
    receive(ledger, film(1, "1.2.2", NOW + timedelta(minutes=1), priority="STAT"))
    assert listed(ledger) == ["1.2.2", "1.2.1"]


def test_a_pinned_study_stands_with_the_stat_ones_in_order_of_arrival(ledger: sa.Engine):
    for number, priority in ((1, ""), (2, "STAT"), (3, ""), (4, "HIGH")):
        receive(ledger, film(1, f"1.2.{number}", NOW + timedelta(minutes=number), priority=priority))
    reading.pin(ledger, "1.2.3", "Dr. A", POLICY, NOW)
    assert listed(ledger) == ["1.2.2", "1.2.3", "1.2.4", "1.2.1"]


def test_the_first_in_first_out_view_keeps_stat_first(ledger: sa.Engine):
    scored(ledger, "1.2.1", 0.1, NOW)
    scored(ledger, "1.2.2", 0.9, NOW + timedelta(minutes=1))
    receive(ledger, film(1, "1.2.3", NOW + timedelta(minutes=2), priority="STAT"))
    assert listed(ledger, order=Order.ARRIVAL) == ["1.2.3", "1.2.1", "1.2.2"]
    assert listed(ledger) == ["1.2.3", "1.2.2", "1.2.1"]


# --- words and figures -------------------------------------------------------------------------------------------------------


def test_why_tells_the_story_of_a_study(ledger: sa.Engine):
    scored(ledger, "1.2.1", 0.1, NOW - timedelta(minutes=10))
    scored(ledger, "1.2.3", 0.9)
    assert kinds(ledger) == ["arrived", "scored", "placed"]
    assert study.why(ledger, "1.2.3")[-1].said == "raised: due 30 min after arrival; stands before 1 that arrived earlier"


def test_a_stat_study_says_before_how_many_it_stands(ledger: sa.Engine):
    receive(ledger, film(1, "1.2.1", NOW - timedelta(days=1)), film(1, "1.2.2", NOW - timedelta(minutes=1)), film())
    reading.pin(ledger, "1.2.3", "Dr. A", POLICY, NOW)
    assert study.why(ledger, "1.2.3")[-1].said == "STAT: first, in order of arrival; stands before 2 that arrived earlier"


@pytest.mark.parametrize("ask", [worklist_rows.study, study.why])
def test_an_unknown_study_is_not_found(ledger: sa.Engine, ask):
    with pytest.raises(NotFound, match=r"no study 9\.9"):
        ask(ledger, "9.9")


def test_an_instance_is_shown_with_its_newest_score(ledger: sa.Engine):
    scored(ledger)
    receive(ledger, film(2, at=NOW + timedelta(seconds=1)))
    first, second = study.study_instances(ledger, "1.2.3")
    assert (first.state, first.probability, first.calibration_id) == ("SCORED", 0.2, "c1")
    assert (second.state, second.probability) == ("RECEIVED", None)


def test_counts_are_those_of_the_open_list(ledger: sa.Engine):
    scored(ledger, "1.2.1", 0.9)
    scored(ledger, "1.2.2", 0.9, NOW - timedelta(hours=9))
    receive(ledger, film(1, "1.2.4"), unreadable="no header")
    receive(ledger, film(1, "1.2.5", NOW + timedelta(minutes=1)))
    publish(ledger)
    reading.claim(ledger, "1.2.1", "ito", LEASE, NOW)
    counts = worklist_counts.counts(ledger, NOW)
    assert (counts.open, counts.overdue, counts.raised, counts.waiting, counts.failed) == (4, 1, 2, 1, 1)
    assert (counts.recent, counts.claims, counts.last_sender) == (3, {"ito": 1}, "DX1")
    later = worklist_counts.counts(ledger, NOW + timedelta(minutes=40))
    assert (later.overdue, later.overdue_by_arrival) == (2, 1), "a raised study is due earlier than its arrival tells"
    assert (counts.unsent, counts.rejected, counts.expired) == (1, 0, 0)
    assert (counts.oldest, counts.last_arrival) == (NOW - timedelta(hours=9), NOW + timedelta(minutes=1))


def test_an_empty_ledger_counts_nothing(ledger: sa.Engine):
    counts = worklist_counts.counts(ledger)
    assert (counts.open, counts.overdue, counts.oldest, counts.last_arrival) == (0, 0, None, None)


def test_the_bytes_of_a_result_are_kept(ledger: sa.Engine):
    scored(ledger)
    publish(ledger, "2.25.7")
    deliver(ledger)
    assert worklist_rows.result_bytes(ledger, "2.25.7") == b"2.25.7"
    with pytest.raises(NotFound):
        worklist_rows.result_bytes(ledger, "2.25.8")


def test_failed_instances_are_listed_with_their_reason(ledger: sa.Engine):
    receive(ledger, film(), unreadable="the header cannot be read")
    (failed,) = queues.failed_instances(ledger, 9).rows
    assert (failed.sop_instance_uid, failed.reason, failed.reason_text) == ("1.2.3.1", "header", "the header cannot be read")


def test_the_read_studies_are_shown_by_their_index(ledger: sa.Engine):
    if ledger.dialect.name != "sqlite":
        pytest.skip("the plan of SQLite is looked at")
    newest = Wanted(view=View.READ, order=Order.READ, backwards=True)
    query = sa.select(*worklist_rows.COLUMNS).where(*order_order.chosen(newest, NOW)).order_by(*order_order.order_keys(newest)).limit(101)
    said = str(query.compile(ledger, compile_kwargs={"literal_binds": True}))
    with connect.reading(ledger) as tx:
        plan = [row[3] for row in tx.exec_driver_sql(f"EXPLAIN QUERY PLAN {said}")]
    assert plan == ["SCAN studies USING INDEX ix_studies_read"]
