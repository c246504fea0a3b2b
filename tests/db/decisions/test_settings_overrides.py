"""A settings override lies above the configuration in one commit, for every process that places, and never where the configuration refuses it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from prioritizer.config.policy import SitePolicy
from prioritizer.config.sections import Monitoring, Ranking, Site
from prioritizer.config.settings import Settings
from prioritizer.daemon import settings_in_force as settings_ruled
from prioritizer.db.audit import audit_log
from prioritizer.db.audit.audit_log import AuditFilter
from prioritizer.db.decisions import settings_overrides
from prioritizer.db.decisions.activation import Decision
from prioritizer.db.decisions.settings_overrides import Done, Proposal
from prioritizer.db.in_force.settings import OverriddenPolicy, SettingsOverrideRow, holding
from prioritizer.db.processing import daemon_start, deliver, score
from prioritizer.db.worklist import reading, rows
from prioritizer.errors import NotAllowed, NotFound, SettingsOverrideUnfit, Transient
from prioritizer.ranking.deadlines import Stage
from tests.support.ledgers import (
    LEASE,
    NOW,
    POLICY,
    deliveries_of,
    film,
    kinds,
    opened_again,
    policy_with,
    publish,
    receive,
    result_of,
    score_next,
    score_of,
    scored,
    together,
)

LATER = NOW + timedelta(minutes=1)
MINUTE = timedelta(minutes=1)


def propose(ledger: sa.Engine, who: str = "anna", policy: SitePolicy = POLICY, **wanted: Any) -> int:
    """A candidate; without values one that shortens the deadline of raised studies."""
    asked = Proposal(wanted=wanted or {"high_minutes": 15}, reason="a trial", effect={"said": "simulated"})
    return settings_overrides.propose(ledger, policy, asked, who, NOW).id


def activate(
    ledger: sa.Engine, number: int, who: str = "berta", policy: SitePolicy = POLICY, shown: int | None = None, **more: bool
) -> Done:
    decision = Decision(who=who, against_advice="a test", **more)
    return settings_overrides.activate(ledger, policy, number, decision, LATER, shown)


def ruled(ledger: sa.Engine, policy: SitePolicy = POLICY, **wanted: Any) -> int:
    """A settings override in force."""
    number = propose(ledger, policy=policy, **wanted)
    activate(ledger, number, policy=policy)
    return number


def now(ledger: sa.Engine, policy: SitePolicy = POLICY) -> OverriddenPolicy:
    return holding(ledger, policy)


def due(ledger: sa.Engine, uid: str = "1.2.3") -> timedelta:
    """From arrival to deadline."""
    row = rows.study(ledger, uid)
    return row.due_at - row.first_received_at


def refused(work: Callable[[], object]) -> str:
    """Why it was not allowed; empty where it was done."""
    try:
        work()
    except NotAllowed as error:
        return str(error)
    return ""


# --- what takes effect ---------------------------------------------------------------------------------------------


def test_without_a_ruling_the_configuration_alone_holds(ledger: sa.Engine) -> None:
    found = now(ledger)
    assert (found.policy, found.change, found.active, found.fault) == (POLICY, 0, None, "")


def test_a_candidate_changes_nothing(ledger: sa.Engine) -> None:
    scored(ledger, probability=0.9)
    propose(ledger)
    assert (now(ledger).policy, due(ledger)) == (POLICY, 30 * MINUTE)


def test_activating_places_every_unread_study_again_in_one_commit(ledger: sa.Engine) -> None:
    scored(ledger, "1.2.3", 0.9)
    scored(ledger, "1.2.4", 0.2)
    done = activate(ledger, propose(ledger, high_minutes=15))
    assert (done.before, done.moved, done.change) == (None, 1, 1)
    assert (due(ledger, "1.2.3"), due(ledger, "1.2.4")) == (15 * MINUTE, 120 * MINUTE)


def test_what_arrives_and_is_scored_later_is_placed_by_the_ruling_whatever_the_process_was_configured_with(ledger: sa.Engine) -> None:
    ruled(ledger, neutral_minutes=90, high_minutes=20)
    other = opened_again(ledger)
    scored(other, "1.2.3", 0.9)
    receive(other, film(1, "1.2.4"))
    assert (due(ledger, "1.2.3"), due(ledger, "1.2.4")) == (20 * MINUTE, 90 * MINUTE)
    other.dispose()


@pytest.mark.parametrize("stage", [Stage.SHADOW, Stage.PILOT])
def test_a_ruled_stage_puts_the_list_into_order_of_arrival(ledger: sa.Engine, stage: Stage) -> None:
    scored(ledger, probability=0.9)
    ruled(ledger, stage=stage)
    assert due(ledger) == 120 * MINUTE
    assert f"stage {stage}" in rows.study(ledger, "1.2.3").place_reason
    daemon_start.rerank_open(ledger, POLICY, "a restart", LATER)
    assert due(ledger) == 120 * MINUTE


def test_the_ruled_share_suspends_raising_and_its_alarm_sees_it(ledger: sa.Engine) -> None:
    policy = policy_with(POLICY, last_n=5)
    for number in range(5):
        scored(ledger, f"1.2.{number}", 0.9 if number < 2 else 0.2)
    assert not rows.raising_is_suspended(ledger, policy)
    ruled(ledger, policy, max_high_share=0.2)
    assert rows.raising_is_suspended(ledger, policy)
    assert due(ledger, "1.2.0") == 120 * MINUTE


def test_studies_that_were_read_stay_where_they_were(ledger: sa.Engine) -> None:
    scored(ledger, probability=0.9)
    reading.read(ledger, "1.2.3", "dr-a", NOW)
    assert activate(ledger, propose(ledger)).moved == 0


def test_a_ruling_holds_only_what_it_changes_and_the_rest_follows_the_configuration(ledger: sa.Engine) -> None:
    number = propose(ledger, high_minutes="15", neutral_minutes=120, stage="active")
    assert settings_overrides.find(ledger, number).changes == {"high_minutes": 15}
    activate(ledger, number)
    assert now(ledger, policy_with(POLICY, neutral=200 * MINUTE, low=300 * MINUTE)).policy.ranking.neutral == 200 * MINUTE


def test_settings_and_policy_agree_on_what_is_in_force(ledger: sa.Engine) -> None:
    settings = Settings(site=Site(stage=Stage.ACTIVE))
    ruled(ledger, stage="pilot", high_minutes=10)
    found = settings_ruled.in_force_for(ledger, settings)
    assert (found.site.stage, found.ranking.high_minutes, found.ranking.neutral_minutes) == (Stage.PILOT, 10, 120)
    assert now(ledger).policy.ranking.stage is Stage.PILOT


# --- what a settings override may not be --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({"high_minutes": 120}, "must be below neutral_minutes"),
        ({"neutral_minutes": 30}, "must be below neutral_minutes"),
        ({"low_minutes": 100}, "must not be below neutral_minutes"),
        ({"max_high_share": 1.5}, "max_high_share"),
        ({"high_minutes": -1}, "high_minutes"),
        ({"high_minutes": float("nan")}, "high_minutes"),
        ({"low_minutes": float("inf")}, "low_minutes"),
        ({"low_minutes": 1e300}, "low_minutes"),
        ({"high_minutes": "soon"}, "high_minutes"),
        ({"stage": "clinical"}, "stage"),
        ({"demote_low": True}, "nothing else"),
    ],
)
def test_what_the_configuration_would_refuse_cannot_be_proposed(ledger: sa.Engine, wanted: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsOverrideUnfit, match=said):
        propose(ledger, **wanted)
    assert settings_overrides.listed(ledger) == []


def test_what_changes_nothing_and_what_has_no_reason_is_refused(ledger: sa.Engine) -> None:
    assert "nothing differs" in refused(lambda: propose(ledger, high_minutes=30))
    ruled(ledger, high_minutes=15)
    assert "in force already" in refused(lambda: propose(ledger, high_minutes=15))
    for reason in ("", "  \n", "x" * 501):
        proposal = Proposal(wanted={"high_minutes": 12}, reason=reason, effect={})
        assert "needs a reason" in refused(lambda said=proposal: settings_overrides.propose(ledger, POLICY, said, "anna", NOW))


def test_a_candidate_is_judged_again_when_it_is_activated(ledger: sa.Engine) -> None:
    number = propose(ledger, high_minutes=60)
    with pytest.raises(SettingsOverrideUnfit, match=f"settings override {number} cannot be put in force: .*below neutral_minutes"):
        activate(ledger, number, policy=policy_with(POLICY, neutral=45 * MINUTE))
    assert settings_overrides.find(ledger, number).state == "CANDIDATE"


def test_a_configuration_that_makes_the_ruling_unsafe_sets_it_aside_in_every_transaction(ledger: sa.Engine) -> None:
    ruled(ledger, high_minutes=60)
    tighter = policy_with(POLICY, neutral=45 * MINUTE, high=20 * MINUTE)
    daemon_start.rerank_open(ledger, tighter, "reloaded", LATER)
    scored(ledger, "1.2.3", 0.9)
    found = now(ledger, tighter)
    assert (found.policy, found.changes) == (tighter, {})
    assert "set aside" in found.fault
    daemon_start.rerank_open(ledger, tighter, "again", LATER)
    assert due(ledger) == 20 * MINUTE
    assert now(ledger).fault == ""


def change_document(ledger: sa.Engine) -> None:
    with ledger.begin() as connection:
        connection.exec_driver_sql("UPDATE rulings SET document = replace(document, '15', '25')")


def test_a_ruling_that_is_not_what_was_stored_is_set_aside_with_an_alarm_that_names_who_mends_it(ledger: sa.Engine) -> None:
    ruled(ledger, high_minutes=15)
    change_document(ledger)
    found = now(ledger)
    assert found.policy == POLICY
    assert "digest differs" in found.fault
    alarm = settings_ruled.alarm_of(found, Settings(monitoring=Monitoring(owner="the physicist")))
    assert alarm is not None
    assert "the physicist, and berta" in alarm.said
    assert "overrides end" in alarm.mend
    assert settings_ruled.alarm_of(replace(found, fault=""), Settings()) is None


def test_a_ruling_that_was_set_aside_may_be_ended_or_replaced(ledger: sa.Engine) -> None:
    first = ruled(ledger, high_minutes=15)
    change_document(ledger)
    assert activate(ledger, propose(ledger, high_minutes=10)).before == first
    assert "settings override 1 cannot be put in force" in refused(lambda: settings_overrides.back(ledger, POLICY, "berta", LATER))
    assert settings_overrides.end(ledger, POLICY, "berta", LATER).after is None


def test_settings_fall_back_to_the_configuration_where_the_ruling_is_set_aside(ledger: sa.Engine) -> None:
    ruled(ledger, high_minutes=60)
    settings = Settings(site=Site(stage=Stage.ACTIVE), ranking=Ranking(neutral_minutes=45))
    assert settings_ruled.in_force_for(ledger, settings) == settings


# --- going back ----------------------------------------------------------------------------------------------------


def test_going_back_walks_one_ruling_at_a_time_to_the_configuration(ledger: sa.Engine) -> None:
    scored(ledger, probability=0.9)
    first, second = ruled(ledger, high_minutes=15), ruled(ledger, high_minutes=10)
    assert due(ledger) == 10 * MINUTE
    assert settings_overrides.back(ledger, POLICY, "carla", LATER).after == first
    assert (due(ledger), settings_overrides.find(ledger, second).state, settings_overrides.find(ledger, second).ended_by) == (
        15 * MINUTE,
        "ENDED",
        "carla",
    )
    assert settings_overrides.back(ledger, POLICY, "carla", LATER).after is None
    assert due(ledger) == 30 * MINUTE
    assert "nothing to go back from" in refused(lambda: settings_overrides.back(ledger, POLICY, "carla", LATER))


def test_ending_goes_straight_to_the_configuration(ledger: sa.Engine) -> None:
    scored(ledger, probability=0.9)
    ruled(ledger, high_minutes=15)
    second = ruled(ledger, high_minutes=10)
    done = settings_overrides.end(ledger, POLICY, "carla", LATER)
    assert (done.before, done.after, done.moved, due(ledger)) == (second, None, 1, 30 * MINUTE)
    assert "nothing to go back from" in refused(lambda: settings_overrides.end(ledger, POLICY, "carla", LATER))


def test_what_was_ended_is_proposed_again_and_not_activated_again(ledger: sa.Engine) -> None:
    number = ruled(ledger)
    settings_overrides.end(ledger, POLICY, "carla", LATER)
    assert "carla ended it. Propose it again" in refused(lambda: activate(ledger, number))


# --- who may, and what is kept -------------------------------------------------------------------------------------


def test_where_the_site_asks_for_a_second_person_nobody_activates_without_one(ledger: sa.Engine) -> None:
    number = propose(ledger)
    assert "anyone but anna" in refused(lambda: activate(ledger, number, second_person=True))
    assert "another person" in refused(lambda: settings_overrides.approve(ledger, POLICY, number, "Anna", LATER))
    settings_overrides.approve(ledger, POLICY, number, "carla", LATER)
    assert "carla approved settings override" in refused(lambda: settings_overrides.approve(ledger, POLICY, number, "dora", LATER))
    assert activate(ledger, number, second_person=True).after == number


def test_a_rejected_candidate_stays_rejected_and_everybody_is_told_by_whom(ledger: sa.Engine) -> None:
    number = propose(ledger)
    settings_overrides.reject(ledger, POLICY, number, "berta", "too short", LATER)
    for step in (
        lambda: activate(ledger, number),
        lambda: settings_overrides.approve(ledger, POLICY, number, "carla", LATER),
        lambda: settings_overrides.reject(ledger, POLICY, number, "carla", "", LATER),
    ):
        assert "berta rejected it" in refused(step)


def test_who_was_shown_other_rules_is_refused_and_told_what_holds_now(ledger: sa.Engine) -> None:
    one, other = propose(ledger, high_minutes=15), propose(ledger, high_minutes=10)
    activate(ledger, one, shown=0)
    said = f"settings override {one}, put in force by berta"
    for step in (
        lambda: activate(ledger, other, who="carla", shown=0),
        lambda: settings_overrides.approve(ledger, POLICY, other, "carla", LATER, 0),
        lambda: settings_overrides.reject(ledger, POLICY, other, "carla", "", LATER, 0),
        lambda: settings_overrides.end(ledger, POLICY, "carla", LATER, 0),
        lambda: settings_overrides.back(ledger, POLICY, "carla", LATER, 0),
        lambda: settings_overrides.propose(ledger, POLICY, Proposal(wanted={"high_minutes": 5}, reason="x", effect={}), "carla", LATER, 0),
    ):
        assert said in refused(step)
    settings_overrides.end(ledger, POLICY, "dora", LATER, 1)
    assert "since dora ended settings override" in refused(lambda: activate(ledger, other, shown=1))
    assert activate(ledger, other, shown=2).change == 3


def test_a_form_that_was_shown_before_there_and_back_again_is_refused(ledger: sa.Engine) -> None:
    first = ruled(ledger, high_minutes=15)
    shown = now(ledger).change
    ruled(ledger, high_minutes=10)
    assert settings_overrides.back(ledger, POLICY, "berta", LATER).after == first
    assert "something else" in refused(lambda: settings_overrides.end(ledger, POLICY, "carla", LATER, shown))


def test_of_two_who_decide_at_once_the_second_is_refused_with_who_did_it(ledger: sa.Engine) -> None:
    for _ in range(5):
        number = propose(ledger, high_minutes=15)
        shown = now(ledger).change
        steps = {
            "berta": lambda n=number, s=shown: activate(ledger, n, "berta", shown=s),
            "carla": lambda n=number, s=shown: activate(ledger, n, "carla", shown=s),
            "dora": lambda n=number, s=shown: settings_overrides.reject(ledger, POLICY, n, "dora", "", LATER, s),
        }
        said = together(*(lambda step=step: refused(step) for step in steps.values()))
        won = [name for name, why in zip(steps, said, strict=True) if not why]
        assert len(won) == 1
        assert all(won[0] in str(why) for why in said if why), said
        if won != ["dora"]:
            settings_overrides.end(ledger, POLICY, "anna", LATER)


def test_two_candidates_activated_at_once_leave_one_in_force(ledger: sa.Engine) -> None:
    scored(ledger, probability=0.9)
    one, other = propose(ledger, high_minutes=15), propose(ledger, high_minutes=10)
    shown = now(ledger).change
    said = together(*(lambda n=n: refused(lambda: activate(ledger, n, shown=shown)) for n in (one, other)))
    assert sorted(bool(why) for why in said) == [False, True]
    found = now(ledger)
    assert found.active is not None
    assert due(ledger) == (15 if found.active.id == one else 10) * MINUTE
    assert found.change == 1


def test_the_database_holds_at_most_one_active_ruling_and_no_other_state(ledger: sa.Engine) -> None:
    ruled(ledger)
    propose(ledger, high_minutes=10)
    for state in ("ACTIVE", "MAYBE"):
        with pytest.raises(sa.exc.IntegrityError), ledger.begin() as connection:
            connection.execute(sa.text(f"UPDATE rulings SET state = '{state}' WHERE id = 2"))


def test_every_step_is_in_the_audit_log_with_who_and_what(ledger: sa.Engine) -> None:
    first = propose(ledger, high_minutes=15)
    settings_overrides.approve(ledger, POLICY, first, "carla", LATER)
    activate(ledger, first)
    second = propose(ledger, high_minutes=10)
    activate(ledger, second)
    settings_overrides.back(ledger, POLICY, "dora", LATER)
    settings_overrides.end(ledger, POLICY, "dora", LATER)
    settings_overrides.reject(ledger, POLICY, propose(ledger, stage="pilot"), "emil", "not now", LATER)
    in_turn = sorted(audit_log.entries(ledger, AuditFilter(), 50), key=lambda one: one.id)
    found = [(one.kind, one.actor, one.said) for one in in_turn if one.kind.startswith("ruling")]
    assert [(kind, actor) for kind, actor, _ in found] == [
        ("ruling-proposed", "anna"), ("ruling-approved", "carla"), ("ruling-activated", "berta"), ("ruling-proposed", "anna"),
        ("ruling-activated", "berta"), ("ruling-activated", "dora"), ("ruling-ended", "dora"), ("ruling-proposed", "anna"),
        ("ruling-rejected", "emil"),
    ]  # fmt: skip
    assert "deadline of a raised study 15 min; a trial" in found[0][2]
    assert "went back to settings override 1 from settings override 2" in found[5][2]
    assert "the configuration alone holds" in found[6][2]
    assert found[8][2].endswith("rejected: not now")


@pytest.mark.parametrize("number", [0, -1, 7, 2**31 - 1, 2**31, 2**63, 10**400])
def test_a_number_that_is_no_rulings_is_not_found_however_large(ledger: sa.Engine, number: int) -> None:
    with pytest.raises(NotFound):
        settings_overrides.find(ledger, number)
    with pytest.raises(NotFound):
        activate(ledger, number)


def test_what_was_simulated_is_kept_as_it_was(ledger: sa.Engine) -> None:
    row: SettingsOverrideRow = settings_overrides.find(ledger, propose(ledger))
    assert (row.effect, row.reason, row.proposed_by, row.fault) == ({"said": "simulated"}, "a trial", "anna", "")


# --- beside the line -----------------------------------------------------------------------------------------------


def test_scores_that_commit_beside_rulings_all_end_placed_by_the_last(ledger: sa.Engine) -> None:
    uids = [f"1.2.{number}" for number in range(16)]
    receive(ledger, *(film(1, uid) for uid in uids))
    numbers = [propose(ledger, high_minutes=minutes) for minutes in (25, 20, 15, 10)]
    faults: list[BaseException] = []

    def scores() -> None:
        other = opened_again(ledger)
        try:
            for _ in uids[::2]:
                claim = score.claim_instance(other, "scorer", LEASE)
                assert claim is not None
                assert score.finish_scored(other, claim, score_of(0.9), policy_with(POLICY, max_high_share=1.0), NOW)
        except BaseException as error:
            faults.append(error)
        other.dispose()

    stations = [threading.Thread(target=scores) for _ in range(2)]
    for station in stations:
        station.start()
    for number in numbers:
        activate(ledger, number, policy=policy_with(POLICY, max_high_share=1.0))
    for station in stations:
        station.join()
    assert faults == []
    assert {due(ledger, uid) for uid in uids} == {10 * MINUTE}


def test_in_a_ruled_shadow_what_was_built_before_is_not_kept_and_what_waits_is_not_sent(ledger: sa.Engine) -> None:
    scored(ledger, "1.2.3", 0.9)
    publish(ledger)
    scored(ledger, "1.2.4", 0.9)
    claim = deliver.claim_study(ledger, "publisher", LEASE, NOW)
    assert claim is not None
    done = activate(ledger, propose(ledger, stage="shadow"))
    assert done.retracted == 1
    assert deliver.finish_published(ledger, claim, result_of("2.25.9"), ["pacs"], NOW, policy=POLICY)
    assert (deliveries_of(ledger, "1.2.3"), deliveries_of(ledger, "1.2.4")) == ({"2.25.1": "RETRACTED"}, {})
    assert deliver.claim_delivery(ledger, "pacs", "sender", LEASE) is None
    assert "retracted" in kinds(ledger)
    settings_overrides.end(ledger, POLICY, "berta", LATER)
    assert deliver.claim_study(ledger, "publisher", LEASE, LATER) is None
    receive(ledger, film(2, "1.2.3"))
    score_next(ledger, 0.2)
    publish(ledger)
    assert deliveries_of(ledger, "1.2.3") == {"2.25.1": "PENDING"}


def test_pages_read_the_ruling_once_a_second_and_at_once_when_it_was_made_there(ledger: sa.Engine) -> None:
    settings, clock = Settings(site=Site(stage=Stage.ACTIVE)), [0.0]
    found = settings_ruled.SettingsInForce(ledger, lambda: settings, lambda: clock[0])
    assert found() is settings
    ruled(ledger, stage="shadow")
    assert found().site.stage is Stage.ACTIVE
    clock[0] = 1.1
    assert found().site.stage is Stage.SHADOW
    assert found() is found()
    settings_overrides.end(ledger, POLICY, "berta", LATER)
    found.forget()
    assert found() is settings


def test_with_the_ledger_down_pages_go_on_with_what_was_read_last(ledger: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    settings, clock = Settings(site=Site(stage=Stage.ACTIVE)), [0.0]
    found = settings_ruled.SettingsInForce(ledger, lambda: settings, lambda: clock[0])
    ruled(ledger, stage="shadow")
    assert found().site.stage is Stage.SHADOW

    def down(engine: sa.Engine, settings: Settings) -> OverriddenPolicy:
        raise Transient("the database cannot be used now")

    monkeypatch.setattr(settings_ruled, "holding_for", down)
    clock[0] = 5.0
    assert found().site.stage is Stage.SHADOW


def test_nobody_leaves_shadow_against_the_sites_own_figures_without_saying_why(ledger: sa.Engine):
    shadow = policy_with(POLICY, stage=Stage.SHADOW)

    def candidate(effect: dict[str, Any], **wanted: Any) -> int:
        return settings_overrides.propose(ledger, shadow, Proposal(wanted=wanted, reason="a trial", effect=effect), "anna", NOW).id

    def decide(number: int, why: str = "") -> Done:
        return settings_overrides.activate(ledger, shadow, number, Decision(who="berta", against_advice=why), LATER)

    bad = {"acceptance": {"said": [], "faults": ["3 of 100 studies"]}}
    with pytest.raises(NotAllowed, match="not yet: 3 of 100 studies"):
        decide(candidate(bad, stage="pilot"))
    with pytest.raises(NotAllowed, match="no acceptance report"):
        decide(candidate({}, stage="active"))
    decide(candidate({}, high_minutes=10))  # readers see nothing of AI all the same
    decide(candidate({"acceptance": {"said": [], "faults": []}}, stage="pilot"))
    decide(candidate({}, stage="active"))  # from pilot on, readers have seen it
    settings_overrides.end(ledger, shadow, "berta", LATER)
    decide(candidate(bad, stage="pilot"), "a drill")
    (event,) = [one for one in audit_log.entries(ledger, AuditFilter(kind="ruling-activated"), 9) if "drill" in one.said]
    assert "against its acceptance report: a drill" in event.said
