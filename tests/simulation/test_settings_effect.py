"""What a settings override would do is simulated before it is saved, by the rules that run, on the site's own arrivals where there are enough."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from prioritizer.config.policy import policy_of
from prioritizer.config.sections import Model, Ranking, Site
from prioritizer.config.settings import Settings
from prioritizer.db.decisions import settings_overrides
from prioritizer.db.decisions.activation import Decision
from prioritizer.db.decisions.settings_overrides import Proposal
from prioritizer.errors import SettingsOverrideUnfit
from prioritizer.ranking.deadlines import Stage
from prioritizer.simulation import settings_effect
from tests.support.ledgers import NOW, film, receive, scored

SETTINGS = Settings(site=Site(stage=Stage.ACTIVE))


def effect(ledger: sa.Engine, settings: Settings = SETTINGS, **changes: Any) -> dict[str, Any]:
    return settings_effect.effect_of(settings, ledger, changes, NOW)


def orders(told: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {one["order"]: one for one in told["orders"]}


@pytest.fixture(autouse=True)
def two_replications(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings_effect, "REPLICATIONS", 2)


def test_a_stage_that_is_not_active_is_order_of_arrival(ledger: sa.Engine) -> None:
    told = effect(ledger, stage="shadow")
    found = orders(told)
    for name in ("flagged", "others", "longest"):
        assert found["proposed"][name] == found["order of arrival"][name]
    assert found["in force now"]["flagged"] < found["order of arrival"]["flagged"]
    assert told["said"] == ["proposed: the list stays in order of arrival (stage shadow)."]


def test_a_shorter_deadline_of_raised_studies_shortens_their_wait_and_lengthens_that_of_others(ledger: sa.Engine) -> None:
    slow = Settings(site=Site(stage=Stage.ACTIVE), ranking=Ranking(high_minutes=119))
    found = orders(effect(ledger, slow, high_minutes=5))
    assert found["proposed"]["flagged"] < found["in force now"]["flagged"]
    assert found["proposed"]["others"] > found["in force now"]["others"]


def test_the_window_of_demoted_studies_is_simulated_too(ledger: sa.Engine) -> None:
    demoting = Settings(site=Site(stage=Stage.ACTIVE), ranking=Ranking(demote_low=True, low_minutes=120))
    found = orders(effect(ledger, demoting, low_minutes=600))
    assert found["proposed"]["later_at_most"] > found["in force now"]["later_at_most"]


def test_the_effect_stands_beside_the_ruling_in_force_and_not_beside_the_configuration(ledger: sa.Engine) -> None:
    policy = policy_of(SETTINGS, None)
    made = settings_overrides.propose(ledger, policy, Proposal(wanted={"stage": "pilot"}, reason="x", effect={}), "anna", NOW)
    settings_overrides.activate(ledger, policy, made.id, Decision(who="anna"), NOW)
    found = orders(effect(ledger, high_minutes=10))
    assert found["in force now"]["rules"].startswith("stage pilot")
    assert found["proposed"]["rules"].startswith("stage active, deadline of a raised study 10 min")


def test_the_sites_own_arrivals_are_taken_where_there_are_enough(ledger: sa.Engine) -> None:
    assert effect(ledger, high_minutes=10)["own_arrivals"] is False
    receive(ledger, *(film(1, f"1.2.{number}", NOW - timedelta(minutes=7 * number)) for number in range(40)))
    told = effect(ledger, high_minutes=10)
    assert told["own_arrivals"] is True
    assert "40 arrivals of the ledger" in dict(told["assumed"])["arrivals"]


def test_the_open_studies_that_would_stand_elsewhere_are_named_with_both_places(ledger: sa.Engine) -> None:
    scored(ledger, "1.2.1", 0.1, NOW - timedelta(minutes=40))
    scored(ledger, "1.2.2", 0.99, NOW)
    told = effect(ledger, stage="shadow")
    assert (told["open"], told["moved"]) == (2, 2)
    assert sorted((one["study_uid"], one["from"], one["to"]) for one in told["moves"]) == [("1.2.1", 2, 1), ("1.2.2", 1, 2)]
    assert effect(ledger, high_minutes=20)["moved"] == 0


def test_what_cannot_be_simulated_is_said_and_the_moves_are_told_all_the_same(ledger: sa.Engine, tmp_path: Any) -> None:
    receive(ledger, film())
    told = effect(ledger, Settings(model=Model(bundle=tmp_path)), high_minutes=10)
    assert "cannot be simulated" in told["fault"]
    assert told["open"] == 1


def test_the_effect_is_json_without_a_number_that_is_none(ledger: sa.Engine) -> None:
    receive(ledger, *(film(1, f"1.2.{number}", NOW - timedelta(minutes=number), priority="STAT") for number in range(40)))
    json.dumps(effect(ledger, high_minutes=10), allow_nan=False)


def test_what_the_configuration_would_refuse_is_not_simulated(ledger: sa.Engine) -> None:
    with pytest.raises(SettingsOverrideUnfit):
        effect(ledger, high_minutes=500)


def test_what_is_saved_is_what_was_shown_until_the_rules_change(ledger: sa.Engine) -> None:
    policy = policy_of(SETTINGS, None)
    found = settings_effect.Remembered(ledger, lambda: SETTINGS, lambda: NOW)
    first = found({"high_minutes": 10})
    assert found({"high_minutes": "10"}, again=False) is first
    assert found({"high_minutes": 10}) is not first
    made = settings_overrides.propose(ledger, policy, Proposal(wanted={"stage": "pilot"}, reason="x", effect={}), "anna", NOW)
    settings_overrides.activate(ledger, policy, made.id, Decision(who="anna"), NOW)
    assert orders(found({"high_minutes": 10}, again=False))["in force now"]["rules"].startswith("stage pilot")
