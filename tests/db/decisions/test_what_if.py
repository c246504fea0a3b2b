"""What a calibration would do to the list is shown before it is done, by the very rules that do it, and nothing is written."""

from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa

from prioritizer.access import Role
from prioritizer.config.policy import SitePolicy
from prioritizer.db.decisions import activation, calibrations, settings_overrides
from prioritizer.db.decisions.settings_overrides import Proposal
from prioritizer.db.decisions.what_if import places_by
from prioritizer.db.schema.tables import events
from prioritizer.db.worklist import reading, rows
from prioritizer.ranking import moves
from prioritizer.ranking.deadlines import Stage
from tests.support.calibrations import OWN, SITE, UNFIT, activate, candidate, score, shifted
from tests.support.ledgers import NOW, film, listed, policy_with, receive
from tests.support.page_client import LATER, at


def arrived(ledger: sa.Engine, *logits: float, policy: SitePolicy = SITE, every: float = 10) -> None:
    """Studies so many minutes apart, each with the logit of its film."""
    for number, logit in enumerate(logits, start=1):
        uid = f"1.2.{number}"
        receive(ledger, film(1, uid, NOW - timedelta(minutes=every * (len(logits) - number))), policy=policy)
        assert score(ledger, logit, policy)


def told(ledger: sa.Engine, name: str = "b", policy: SitePolicy = SITE) -> tuple[list[str], tuple[int, int]]:
    """The order that is foreseen of the open studies, and how many are raised before and after."""
    found = places_by(ledger, policy, calibrations.find(ledger, name).calibration)
    held = (found.suspended_before, found.suspended_after)
    order = listed(ledger)
    for shift in moves.shifts(found.standings, found.before, found.after, suspended=held, then=found.then):
        order[shift.after - 1] = shift.study_uid
    return order, found.raised


def written(ledger: sa.Engine) -> int:
    with ledger.connect() as tx:
        return tx.scalar(sa.select(sa.func.count()).select_from(events)) or 0


def raised_now(ledger: sa.Engine) -> int:
    return sum(row.band == "HIGH" for row in rows.rows(ledger))


# --- what is foreseen is what happens ------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", [2.0, -2.0, 0.0])
def test_what_is_foreseen_is_what_activating_does(ledger: sa.Engine, by: float):
    arrived(ledger, -3, -1, 1, -0.5, -4, 3, -1.5)
    reading.pin(ledger, "1.2.5", "ito", SITE, NOW)
    receive(ledger, film(1, "1.2.9"), policy=SITE)
    before, now = raised_now(ledger), written(ledger)
    order, raised = told(ledger, candidate(ledger, by=by))
    assert written(ledger) == now + 1, "the candidate is written down, what is foreseen is not"
    assert raised[0] == before
    activate(ledger, "b")
    assert (order, raised[1]) == (listed(ledger), raised_now(ledger))


def test_of_a_study_of_several_films_the_deciding_one_is_judged_again(ledger: sa.Engine):
    receive(ledger, film(1), film(2), film(1, "1.2.1", NOW - timedelta(minutes=1)), policy=SITE)
    for logit in (-4.0, -3.0, -1.0):
        score(ledger, logit)
    order, raised = told(ledger, candidate(ledger))
    activate(ledger, "b")
    assert (order, raised) == (listed(ledger), (0, 1))


def test_raising_too_much_is_foreseen_too(ledger: sa.Engine):
    careful = policy_with(SITE, max_high_share=0.5, last_n=4)
    arrived(ledger, -1, -1, -1, -1, policy=careful)
    found = places_by(ledger, careful, shifted("b", 2.0))
    assert (found.suspended_before, found.suspended_after, found.raised) == (False, True, (0, 4))
    candidate(ledger)
    activate(ledger, "b", policy=careful)
    assert {row.place_reason.split(":")[0] for row in rows.rows(ledger)} == {"raising is suspended"}


def test_what_another_bundle_scored_is_foreseen_to_wait(ledger: sa.Engine):
    arrived(ledger, 3.0)
    other = policy_with(SITE, bundle_digest="e" * 64)
    found = places_by(ledger, other, shifted("b", 2.0))
    assert found.then is not None
    assert ([one.ai_state for one in found.then], found.raised[1]) == (["WAITING"], 0)


def test_the_ruling_in_force_is_part_of_what_is_foreseen(ledger: sa.Engine):
    arrived(ledger, -1, -3)
    row = settings_overrides.propose(ledger, SITE, Proposal(wanted={"high_minutes": "119"}, reason="a trial", effect={}), "anna", NOW, 0)
    settings_overrides.activate(ledger, SITE, row.id, activation.Decision(who="berta"), NOW, 0)
    order, _ = told(ledger, candidate(ledger))
    activate(ledger, "b")
    assert order == listed(ledger)


# --- the page of one ------------------------------------------------------------------------------------------------------


def room(ledger: sa.Engine, name: str, role: Role, stage: Stage = Stage.ACTIVE):
    return at(ledger, name, role, stage, policy=lambda: policy_with(SITE, stage=stage))


def test_the_page_of_a_candidate_shows_who_would_move(ledger: sa.Engine):
    arrived(ledger, -3, -1)
    candidate(ledger)
    with room(ledger, "anna", Role.PHYSICIST) as anna:
        page = anna.get("/calibrations/b").text
        assert "Of 2 open studies 0 are raised now and <b>1 would be</b>" in page
        assert "<b>2</b> would change places" in page
        (row,) = [row for row in page.split("<tr>") if 'href="/study/1.2.2"' in row]
        assert 'Place now">2<' in row
        assert 'Place then">1<' in row
        anna.post("/calibrations/b/activate", data={"shown": 0})
        assert "would be" not in anna.get("/calibrations/b").text, "of what is in force nothing is foreseen"


def test_of_many_that_move_the_furthest_are_told(ledger: sa.Engine):
    arrived(ledger, *([-3] * 24), -1, every=1)
    candidate(ledger, by=0.0, t_high=0.2)
    with room(ledger, "anna", Role.PHYSICIST) as anna:
        page = anna.get("/calibrations/b").text
    assert page.count('data-label="Place then"') == 20
    assert "The 20 of 25 that move furthest" in page


def test_of_a_rejected_one_or_one_of_another_bundle_nothing_is_foreseen(ledger: sa.Engine):
    arrived(ledger, -3, -1)
    candidate(ledger, "other", bundle="e" * 64)
    candidate(ledger, "never", verdict=UNFIT)
    calibrations.reject(ledger, "never", "berta", "", NOW)
    with room(ledger, "anna", Role.PHYSICIST) as anna:
        for name in ("other", "never"):
            assert "would be" not in anna.get(f"/calibrations/{name}").text


@pytest.mark.parametrize(("role", "stage", "sees"), [
    (Role.READER, Stage.ACTIVE, True), (Role.READER, Stage.SHADOW, False), (Role.PHYSICIST, Stage.SHADOW, True),
])  # fmt: skip
def test_in_stage_shadow_only_who_measures_sees_what_would_be_raised(ledger: sa.Engine, role: Role, stage: Stage, sees: bool):
    policy = policy_with(SITE, stage=stage)
    arrived(ledger, -3, -1, policy=policy)
    candidate(ledger)
    with room(ledger, "x", role, stage) as somebody:
        page = somebody.get("/calibrations/b").text
    assert ("<b>1 would be</b>" in page) is sees
    if sees and stage is Stage.SHADOW:
        assert "no study would move, whatever is raised" in page


# --- going back ------------------------------------------------------------------------------------------------------------


def test_going_back_names_what_it_goes_back_to_and_shows_it_before_it_is_done(ledger: sa.Engine):
    arrived(ledger, -3, -1)
    activate(ledger, candidate(ledger, "b"))
    activate(ledger, candidate(ledger, "c", by=0.0))
    assert raised_now(ledger) == 0
    with room(ledger, "anna", Role.PHYSICIST) as anna:
        page = anna.get("/calibrations").text
        assert "Go back to b ..." in page
        assert "Go back to the bundle&#39;s own, own ..." in page
        assert 'action="/calibrations/rollback"' not in page, "it is never done without having been shown"
        before = written(ledger)
        shown = anna.post("/calibrations/rollback/preview").text
        assert (written(ledger), raised_now(ledger)) == (before, 0)
        assert "Going back to b" in shown
        assert "<b>1 would be</b>" in shown
        assert "Go back to b: every unread study is placed again" in shown
        assert 'name="shown" value="2"' in shown
        own = anna.post("/calibrations/rollback/preview", data={"own": "yes"}).text
        assert 'name="own" value="yes"' in own
        assert anna.post("/calibrations/rollback", data={"shown": 1}).status_code == 409, "somebody else was quicker"
        assert anna.post("/calibrations/rollback", data={"shown": 2}).status_code == 200
    assert raised_now(ledger) == 1


def test_where_there_is_nothing_to_go_back_to_it_is_said(ledger: sa.Engine):
    with room(ledger, "anna", Role.PHYSICIST) as anna:
        assert "Going back" not in anna.get("/calibrations").text
        answer = anna.post("/calibrations/rollback/preview")
        assert answer.status_code == 409
        assert "there is nothing to go back to" in answer.text


def test_going_back_to_a_calibration_that_was_changed_is_refused_before_it_is_shown(ledger: sa.Engine):
    activate(ledger, candidate(ledger, "b"))
    activate(ledger, candidate(ledger, "c", by=0.0))
    with ledger.begin() as tx:
        tx.exec_driver_sql("UPDATE calibrations SET sha256 = 'x' WHERE id = 'b'")
    with room(ledger, "anna", Role.PHYSICIST) as anna:
        answer = anna.post("/calibrations/rollback/preview")
        assert answer.status_code == 409
        assert "not what was stored" in answer.text
        assert anna.post("/calibrations/rollback/preview", data={"own": "yes"}).status_code == 200


def test_only_who_may_calibrate_is_shown_the_way_back(ledger: sa.Engine):
    activate(ledger, candidate(ledger, "b"))
    with room(ledger, "ito", Role.READER) as ito:
        assert "Going back" not in ito.get("/calibrations").text
        assert ito.post("/calibrations/rollback/preview").status_code == 403


def test_the_way_back_is_that_of_the_step_itself(ledger: sa.Engine):
    activate(ledger, candidate(ledger, "b"))
    activate(ledger, candidate(ledger, "c", by=1.0))
    row = activation.goes_back_to(ledger, SITE)
    assert row is not None
    assert activation.roll_back(ledger, "berta", SITE, LATER).calibration == row.id == "b"
    assert activation.goes_back_to(ledger, SITE) is None, "before b the bundle's own applied"
    assert activation.roll_back(ledger, "berta", SITE, LATER).calibration == OWN.id
