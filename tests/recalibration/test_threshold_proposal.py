"""A threshold is a candidate with a report of its effect; it takes effect as every calibration does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from prioritizer.calibration.maps import AgeGroup
from prioritizer.calibration.threshold import ThresholdWish
from prioritizer.config.policy import policy_of
from prioritizer.config.sections import Site, Store
from prioritizer.config.settings import Settings
from prioritizer.db.decisions import activation, calibrations
from prioritizer.db.decisions.activation import Decision
from prioritizer.db.decisions.calibrations import CalibrationRow
from prioritizer.db.processing import score
from prioritizer.db.worklist import rows
from prioritizer.errors import NotAllowed
from prioritizer.inference.bundle import open_bundle
from prioritizer.ranking.deadlines import Stage
from prioritizer.recalibration import threshold_proposal
from prioritizer.study import Logit
from tests.support.ledgers import LEASE, NOW, film, receive, score_of

BUNDLE = open_bundle(None)
OWN = BUNDLE.calibration


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr(threshold_proposal, "REPLICATIONS", 2)
    return Settings(site=Site(stage=Stage.ACTIVE), store=Store(data=tmp_path))


def ask(ledger: sa.Engine, settings: Settings, expected: int | None = None, **wish: Any) -> CalibrationRow:
    wish = ThresholdWish(ages=AgeGroup.CHILDREN, **wish)
    return threshold_proposal.propose(ledger, settings, wish, "anna", NOW, expected=expected)


def scored_at(ledger: sa.Engine, settings: Settings, *logits: float) -> None:
    policy = policy_of(settings, BUNDLE)
    for number, logit in enumerate(logits):
        receive(ledger, film(1, f"1.2.{number}"), policy=policy)
        claim = score.claim_instance(ledger, "scorer", LEASE)
        assert claim is not None
        made = score_of(None, logit=Logit(logit), bundle_digest=BUNDLE.digest)
        assert score.finish_scored(ledger, claim, made, policy, NOW)


def test_it_is_the_map_in_force_with_another_threshold_and_a_report_and_changes_nothing(ledger: sa.Engine, settings: Settings) -> None:
    row = ask(ledger, settings, probability=0.3)
    found = row.calibration
    assert (found.t_high, found.slope, found.intercept, found.knots) == (0.3, OWN.slope, OWN.intercept, OWN.knots)
    assert (row.state, row.verdict, row.made_by) == ("CANDIDATE", "activate with care", "anna")
    page = Path(row.report).read_text()
    assert "Simulated effect" in page
    assert "Who would have moved last week" in page
    assert calibrations.applying(ledger, policy_of(settings, BUNDLE)).calibration == OWN


def test_activated_it_raises_from_there(ledger: sa.Engine, settings: Settings) -> None:
    scored_at(ledger, settings, OWN.logit_at(OWN.t_high) - 1.0)
    policy = policy_of(settings, BUNDLE)
    assert rows.study(ledger, "1.2.0").band == "NEUTRAL"
    row = ask(ledger, settings, probability=OWN.t_high / 4)
    activation.activate(ledger, row.id, Decision(who="berta"), policy, NOW)
    assert rows.study(ledger, "1.2.0").band == "HIGH"
    activation.roll_back(ledger, "berta", policy, NOW)
    assert rows.study(ledger, "1.2.0").band == "NEUTRAL"


def test_by_sensitivity_it_says_on_which_films(ledger: sa.Engine, settings: Settings) -> None:
    row = ask(ledger, settings, sensitivity=0.99)
    assert row.calibration.t_high < OWN.t_high
    assert "on the bundle's own report films, not on yours" in row.verdict_said


def test_by_flags_a_day_it_counts_on_this_sites_studies(ledger: sa.Engine, settings: Settings) -> None:
    with pytest.raises(NotAllowed, match="30 are needed"):
        ask(ledger, settings, flags_per_day=4)
    scored_at(ledger, settings, *(number / 10 for number in range(40)))
    row = ask(ledger, settings, flags_per_day=4)
    assert row.calibration.t_high == pytest.approx(OWN.probability(3.6))
    assert "own arrivals" not in row.verdict_said


def test_what_is_in_force_already_is_no_candidate(ledger: sa.Engine, settings: Settings) -> None:
    with pytest.raises(NotAllowed, match="already"):
        ask(ledger, settings, probability=OWN.t_high)


def test_over_another_activation_than_was_shown_it_is_not_entered(ledger: sa.Engine, settings: Settings) -> None:
    first = ask(ledger, settings, probability=0.3, expected=0)
    activation.activate(ledger, first.id, Decision(who="berta"), policy_of(settings, BUNDLE), NOW)
    with pytest.raises(NotAllowed, match="put in force by berta"):
        ask(ledger, settings, probability=0.4, expected=0)
    second = ask(ledger, settings, probability=0.4, expected=1)
    assert second.calibration.t_high == 0.4
    assert f"The map of {first.id}" in second.verdict_said
