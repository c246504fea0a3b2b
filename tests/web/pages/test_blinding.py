"""What a reader may learn before they spoke: nothing of AI on a page without it, nothing of what another found. And steps that must not slip."""

from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient

from prioritizer.access import May, Role
from prioritizer.config.policy import QuietTime
from prioritizer.config.sections import Reading
from prioritizer.config.settings import Settings
from prioritizer.daemon import dashboard_period
from prioritizer.db.accounts import sessions as accounts_sessions
from prioritizer.db.activity import monitoring
from prioritizer.db.list_order.order import Order, Wanted
from prioritizer.db.processing import receive as processing_receive
from prioritizer.db.worklist import deadlines, feedback, reading
from prioritizer.errors import CalibrationChanged, NotAllowed
from prioritizer.ranking.deadlines import Stage
from prioritizer.states import DeliveryState
from prioritizer.study import ReaderFinding
from prioritizer.web.app import page_app
from prioritizer.web.http import context as desks
from tests.support.ledgers import LEASE, NOW, POLICY, deliver, deliveries_of, film, kinds, policy_with, publish, receive, score_next, scored
from tests.support.page_client import LATER, at, backend_of

BLIND = "?order=arrival&blind=1"


def raised(ledger: sa.Engine, uid: str = "1.2.1") -> str:
    scored(ledger, uid, 0.9, NOW)
    deadlines.mark_overdue(ledger, LATER)
    return uid


def test_a_list_without_ai_tells_no_deadline_mark_or_history_of_a_raised_study(ledger: sa.Engine):
    uid = raised(ledger)
    with at(ledger, "ito") as ito:
        marked = ito.get("/?order=arrival").text
        assert "OVERDUE" in marked
        assert "raised: due" in marked
        for path in (f"/{BLIND}", f"/study/{uid}?list={BLIND.replace('&', '%26')}", f"/study/{uid}/why?list={BLIND.replace('&', '%26')}"):
            text = ito.get(path).text.split("</nav>")[-1]
            assert "OVERDUE" not in text.replace("!! OVERDUE", "OVERDUE"), path
            assert "raised: due" not in text, path
            assert "RAISED" not in text, path
            assert "placed" not in text.lower().replace("placed earlier", "").replace("placed by order", ""), path
        assert "due in 1 h" in ito.get(f"/{BLIND}").text
        told = ito.get(f"/api/worklist{BLIND}").json()["studies"][0]
        assert (told["raised"], told["overdue_at"], told["place_reason"]) == (False, None, "marks are not shown here")
        assert told["due_at"].startswith((NOW + timedelta(minutes=120)).isoformat()[:16])


def test_the_news_of_a_list_without_ai_say_nothing_of_moves(ledger: sa.Engine):
    receive(ledger, film(1, "1.2.9", NOW))
    with at(ledger, "ito") as ito:
        mark = ito.get("/api/worklist").json()["mark"]
        raised(ledger)
        ranked = ito.get("/api/changes", params={"since": mark}).json()
        assert "placed" in " ".join(one["said"] for one in ranked["told"]) or ranked["new"] == 1
        blind = ito.get("/api/changes", params={"since": mark, "list": BLIND}).json()
        assert (blind["new"], blind["moved_up"], blind["scored"]) == (1, 0, 0)
        assert all("raised" not in one["said"] and "overdue" not in one["said"] for one in blind["told"])
        assert "raised" not in ito.get("/changes", params={"since": mark, "list": BLIND}).text


def test_in_stage_shadow_nothing_tells_what_ai_would_raise(ledger: sa.Engine):
    shadow = policy_with(POLICY, stage=Stage.SHADOW)
    receive(ledger, film(1, "1.2.1", NOW), policy=shadow)
    score_next(ledger, 0.9, shadow)
    assert "placed" not in kinds(ledger, "1.2.1"), "a band that moves nothing is no event"
    with at(ledger, "ito", stage=Stage.SHADOW) as ito:
        assert ito.get("/?raised=1").status_code == 409
        assert ito.get("/api/worklist?raised=1").status_code == 409
        assert ito.get("/board").status_code == 403
        assert ito.get("/api/board/latest").status_code == 403
        assert "raised" not in ito.get("/api/studies/1.2.1").json()["study"]["place_reason"]
        assert ito.post("/study/1.2.1/reveal").status_code == 409
    with at(ledger, "anna", Role.PHYSICIST, stage=Stage.SHADOW) as anna:
        assert anna.get("/board").status_code == 200


def test_another_readers_finding_is_told_after_ones_own(ledger: sa.Engine):
    uid = raised(ledger)
    feedback.say(ledger, uid, "berg", ReaderFinding.PRESENT, LATER, ranked=True, note="left base")
    reading.read(ledger, uid, "berg", LATER)
    with at(ledger, "ito") as ito:
        for text in (ito.get(f"/study/{uid}").text, ito.get(f"/study/{uid}/why").text):
            assert "finding present" not in text
            assert "left base" not in text
            assert "said what they found" in text
        whole = ito.get(f"/api/studies/{uid}").json()
        assert whole["words"] == []
        assert "finding present" not in str(whole["events"])
        ito.post(f"/study/{uid}/say", data={"finding": "absent"})
        assert "finding present" in ito.get(f"/study/{uid}").text
        assert len(ito.get(f"/api/studies/{uid}").json()["words"]) == 2


def test_who_judges_readings_hears_of_them_when_the_study_is_read(ledger: sa.Engine):
    uid = raised(ledger)
    feedback.say(ledger, uid, "berg", ReaderFinding.PRESENT, LATER, ranked=True)
    with at(ledger, "anna", Role.PHYSICIST) as anna:
        for path in (f"/study/{uid}", f"/study/{uid}/why", f"/api/studies/{uid}"):
            assert "finding present" not in anna.get(path).text, "she may read it herself"
        assert anna.get(f"/api/studies/{uid}").json()["words"] == []
        secret, _ = accounts_sessions.make_token(ledger, "anna", "figures", [May.SEE, May.CALIBRATE], "tests", LATER, timedelta(days=1))
        whole = anna.get(f"/api/studies/{uid}", headers={"Authorization": f"Bearer {secret}"}).json()
        assert [one["reader"] for one in whole["words"]] == ["berg"], "a program that may read nothing"
        reading.read(ledger, uid, "berg", LATER)
        assert "finding present" in anna.get(f"/study/{uid}").text
        receive(ledger, film(2, uid, LATER))
        assert "finding present" not in anna.get(f"/study/{uid}").text, "open again"
        anna.post(f"/study/{uid}/say", data={"finding": "absent"})
        assert "finding present" in anna.get(f"/study/{uid}").text


def test_more_images_of_a_study_are_told_once_after_a_pause_and_not_as_new(ledger: sa.Engine):
    patient = policy_with(POLICY, quiet=QuietTime(quiet=timedelta(seconds=60), ceiling=timedelta(minutes=10)))

    def more(number: int, uid: str, seconds: float) -> None:
        one = film(number, uid, NOW + timedelta(seconds=seconds))
        assert processing_receive.receive(ledger, [processing_receive.Arrival(instance=one)], patient, one.received_at) == 1

    more(1, "1.2.1", 0)
    with at(ledger, "ito") as ito:

        def told(query: str = "") -> dict[str, int]:
            news = ito.get("/api/changes", params={"since": mark, "list": query}).json()
            return {name: news[name] for name in ("new", "grown")}

        mark = ito.get("/api/worklist").json()["mark"]
        more(2, "1.2.1", 60)
        assert told() == {"new": 0, "grown": 0}, "it was still arriving"
        more(3, "1.2.1", 121)
        more(4, "1.2.1", 130)
        assert told() == told(BLIND) == {"new": 0, "grown": 1}
        pill = ito.get("/changes", params={"since": mark}).text
        assert "1 with more images" in pill
        assert "more images arrived later" in pill
        assert kinds(ledger, "1.2.1").count("more-images") == 1
        more(1, "1.2.2", 140)
        more(2, "1.2.2", 300)
        assert told() == {"new": 1, "grown": 1}, "a new study counts once"
        assert told("?q=nobody") == {"new": 0, "grown": 0}
        reading.read(ledger, "1.2.1", "berg", LATER)
        more(5, "1.2.1", 3000)
        assert kinds(ledger, "1.2.1").count("more-images") == 1, "a study that was read is open again"
        assert kinds(ledger, "1.2.1")[-1] == "late-instance"


def test_what_a_program_does_is_written_down_with_its_token(ledger: sa.Engine):
    raised(ledger, "1.2.1")
    with at(ledger, "ito") as ito, at(ledger, "root", Role.ADMIN) as root:
        secret, token = accounts_sessions.make_token(ledger, "ito", "robot", [May.SEE, May.READ], "tests", LATER, timedelta(days=1))
        bearer, through = {"Authorization": f"Bearer {secret}"}, f"ito (token {token.id})"
        mark = ito.get("/api/worklist").json()["mark"]
        for step in ("claim", "pin", "reveal"):
            assert ito.post(f"/api/studies/1.2.1/{step}", headers=bearer).status_code == 200
        assert ito.post("/api/studies/1.2.1/feedback", json={"finding": "present"}, headers=bearer).status_code == 201
        assert ito.post("/study/1.2.1/unpin").status_code == 200
        whole = ito.get("/api/studies/1.2.1").json()
        done = {one["kind"]: one["who"] for one in whole["events"]}
        assert {done[kind] for kind in ("claimed", "pinned", "revealed", "feedback")} == {through}
        assert done["unpinned"] == "ito", "nothing of one request is left for the next"
        assert done["placed"] == "prioritizer"
        assert {one["actor"] for one in whole["events"] if one["kind"] in ("claimed", "feedback")} == {"ito"}
        assert through in ito.get("/study/1.2.1/why").text
        assert ito.get("/api/changes", params={"since": mark}).json()["taken"] == 0, "one's own steps are no news"
        listed = root.get("/audit?actor=ito").text
        assert listed.count(through) == 4, "claimed, pinned, revealed, feedback"
        for kind in ("claimed", "revealed"):
            assert root.get(f"/audit?actor=ito&kind={kind}").text.count(through) == 1, kind
        assert through not in root.get("/audit?actor=it").text


def test_what_a_program_saw_its_owner_has_not_seen(ledger: sa.Engine):
    uid = raised(ledger)
    with at(ledger, "ito") as ito:
        secret, _ = accounts_sessions.make_token(ledger, "ito", "robot", [May.SEE, May.READ], "tests", LATER, timedelta(days=1))
        bearer = {"Authorization": f"Bearer {secret}"}
        assert ito.post(f"/api/studies/{uid}/reveal", headers=bearer).json()["ai"]["probability"] == pytest.approx(0.9)
        assert ito.get(f"/api/studies/{uid}").json()["ai"]["probability"] is None
        ito.post(f"/study/{uid}/say", data={"finding": "absent"})
        assert [word.seen for word in feedback.said_of(ledger, uid)] == [False]
        ito.post(f"/api/studies/{uid}/feedback", json={"finding": "present"}, headers=bearer)
        assert [word.seen for word in feedback.said_of(ledger, uid)] == [False, True]


@pytest.mark.parametrize("reveal", ["on-demand", "with-study"])
def test_nothing_was_shown_before_there_was_a_score(ledger: sa.Engine, reveal: str):
    receive(ledger, film(1, "1.2.1", NOW))
    with at(ledger, "ito", reading=Reading(reveal=reveal)) as ito:
        assert ito.get("/study/1.2.1").status_code == 200
        assert ito.post("/study/1.2.1/reveal").status_code == 409
    assert feedback.seen_at(ledger, "1.2.1", ("ito",)) is None


def test_a_word_said_before_the_score_is_judged_by_the_score_that_came(ledger: sa.Engine):
    receive(ledger, film(1, "1.2.1", NOW))
    feedback.say(ledger, "1.2.1", "ito", ReaderFinding.PRESENT, NOW, ranked=True)
    scored(ledger, "1.2.1", 0.9, NOW)
    assert feedback.confirmed_of_raised(ledger, NOW - timedelta(days=1)) == (1, 1)
    assert [one.raised for one in monitoring.seen(ledger, NOW - timedelta(days=1), LATER)] == [True]


def test_an_image_that_came_while_the_study_was_open_is_not_read_with_it(ledger: sa.Engine):
    receive(ledger, film(1, "1.2.1", NOW))
    with at(ledger, "ito") as ito:
        assert 'name="seen" value="1"' in ito.get("/study/1.2.1").text
        receive(ledger, film(2, "1.2.1", NOW))
        refused = ito.post("/study/1.2.1/read", data={"seen": "1", "to": "next"})
        assert refused.status_code == 409
        assert "1 image came while the study was open" in refused.text
        assert ito.post("/study/1.2.1/read", data={"seen": "2"}).status_code == 200
    assert kinds(ledger, "1.2.1")[-1] == "read"


def test_a_skipped_study_is_free_again_and_many_are_refused(ledger: sa.Engine):
    for number in (1, 2):
        receive(ledger, film(1, f"1.2.{number}", NOW + timedelta(minutes=number)))
    assert reading.claim_next(ledger, "ito", LEASE, LATER) == "1.2.1"
    assert reading.claim_next(ledger, "ito", LEASE, LATER, passing=["1.2.1"]) == "1.2.2"
    assert kinds(ledger, "1.2.1")[-2:] == ["skipped", "released"]
    with pytest.raises(NotAllowed, match="at most"):
        reading.claim_next(ledger, "ito", LEASE, LATER, passing=["1"] * 51)


def test_the_next_study_of_a_sorted_list_is_the_one_due_first(ledger: sa.Engine):
    receive(ledger, film(1, "1.2.1", NOW, patient_name="Z"))
    receive(ledger, film(1, "1.2.2", NOW + timedelta(minutes=1), patient_name="A"))
    assert reading.claim_next(ledger, "ito", LEASE, NOW, Wanted(order=Order.PATIENT)) == "1.2.1"
    assert reading.claim_next(ledger, "ito", LEASE, NOW, Wanted(order=Order.PATIENT, backwards=True, reader="ito")) == "1.2.2"


def test_an_open_page_keeps_nobody_signed_in(ledger: sa.Engine):
    receive(ledger, film(1, "1.2.1", NOW))
    with at(ledger, "ito") as ito:
        mark = ito.get("/api/worklist").json()["mark"]
        sessions = sa.text("SELECT seen_at FROM sessions")
        with ledger.connect() as tx:
            before = tx.scalar(sessions)
        late = page_app(backend_of(ledger, now=lambda: LATER + timedelta(minutes=20)))
        other = TestClient(late, base_url="http://127.0.0.1", cookies=dict(ito.cookies))
        assert other.get("/changes", params={"since": mark}).status_code == 200
        with ledger.connect() as tx:
            assert tx.scalar(sessions) == before
        assert other.get("/").status_code == 200
        with ledger.connect() as tx:
            assert tx.scalar(sessions) != before


def test_a_stranger_elsewhere_locks_nobody_out():
    from prioritizer.web.http.auth import SignInLimits

    limits = SignInLimits()
    for number in range(300):
        limits.begin("ito", f"10.0.{number // 30}.{number}")
    limits.begin("ito", "192.0.2.1")


def test_tried_files_never_hold_the_threads_of_the_list(ledger: sa.Engine):
    with at(ledger, "ito", trial=lambda: lambda data, ignore_scope: None) as ito:
        context = ito.app.state.context
        held = [context.tried_at_once.acquire(blocking=False) for _ in range(desks.MAX_TRIED)]
        assert all(held)
        refused = ito.post("/api/try", files={"file": ("a.png", b"x")})
        assert refused.status_code == 503
        assert "several files are being tried" in refused.json()["detail"]


def test_what_is_stored_and_cannot_be_trusted_is_a_conflict_and_a_fault_is_told_with_every_header(ledger: sa.Engine):
    def changed() -> None:
        raise CalibrationChanged("calibration x is not what was stored")

    def broken() -> None:
        raise KeyError("patient name")

    for fault, status in ((changed, 409), (broken, 500)):
        with at(ledger, f"ito{status}", dashboard=lambda period, fault=fault: fault()) as ito:
            for path in ("/board", "/api/board/latest"):
                answer = ito.get(path)
                assert answer.status_code == status
                assert answer.headers["content-security-policy"].startswith("default-src 'none'")
                assert answer.headers["cache-control"] == "no-store"
                assert "patient name" not in answer.text


def test_the_board_counts_what_was_left_standing_by_band_and_names_nobody(ledger: sa.Engine):
    raised(ledger)
    for number in (2, 3, 4):
        receive(ledger, film(1, f"1.2.{number}", NOW + timedelta(minutes=number)))
    assert reading.claim_next(ledger, "ito", LEASE, NOW) == "1.2.1"
    assert reading.claim_next(ledger, "ito", LEASE, NOW, passing=["1.2.1"]) == "1.2.2"
    reading.claim(ledger, "1.2.4", "ito", LEASE, NOW)
    found = dashboard_period.board_of(ledger, Settings(), "", dashboard_period.period_of("latest", Settings(), LATER), LATER)["passed"]
    assert found == {"claims": 3, "skipped": {"raised": 1, "others": 0}, "passed_by": {"raised": 1, "others": 1}}
    with at(
        ledger, "anna", Role.PHYSICIST, dashboard=lambda name: dashboard_period.dashboard_of(ledger, Settings(), "", name, LATER)
    ) as anna:
        text = anna.get("/board").text
        assert "3 claims" in text
        assert "ito" not in text


def test_refused_results_are_given_up_with_a_reason_or_all_sent_again(ledger: sa.Engine):
    for number in (1, 2):
        scored(ledger, f"1.2.{number}", 0.9, NOW + timedelta(minutes=number))
        publish(ledger, f"2.25.{number}")
        deliver(ledger, DeliveryState.REJECTED)
    with at(ledger, "chief", Role.ADMIN) as chief:
        assert chief.post("/system/give-up", data={"study": "1.2.1", "reason": " "}).status_code == 409
        assert chief.post("/system/give-up", data={"study": "1.2.1", "reason": "PACS is replaced"}).status_code == 200
        assert deliveries_of(ledger, "1.2.1") == {"2.25.1": "RETRACTED"}
        assert "given up by chief: PACS is replaced" in chief.get("/study/1.2.1").text
        assert chief.post("/system/give-up", data={"study": "1.2.1", "reason": "again"}).status_code == 409
        assert chief.post("/system/give-up", data={"study": "9.9", "reason": "none"}).status_code == 404
        chief.post("/system/again/send-all")
        assert deliveries_of(ledger, "1.2.2") == {"2.25.2": "PENDING"}
    with at(ledger, "ito") as ito:
        assert ito.post("/system/give-up", data={"study": "1.2.2", "reason": "x"}).status_code == 403


def test_what_happens_to_an_open_study_is_told_to_its_reader(ledger: sa.Engine):
    receive(ledger, film(1, "1.2.1", NOW))
    with at(ledger, "ito") as ito:
        reading.claim(ledger, "1.2.1", "ito", timedelta(hours=2), NOW)
        now = "/study/1.2.1/now?images=1&mine=1"
        assert ito.get(now).text.strip() == ""
        receive(ledger, film(2, "1.2.1", NOW))
        assert "1 more image came" in ito.get(now).text
        reading.claim(ledger, "1.2.1", "berg", timedelta(hours=2), NOW, take_over=True)
        assert "berg has taken it over" in ito.get(now).text
        reading.read(ledger, "1.2.1", "berg", NOW)
        assert "berg has read it" in ito.get(now).text
        assert "no longer yours" not in ito.get("/study/1.2.1/now?images=2").text
