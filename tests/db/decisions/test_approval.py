"""Who agreed to a calibration is who agreed: nobody takes the place of the first."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from functools import partial

import pytest
import sqlalchemy as sa

from prioritizer.calibration.maps import Calibration
from prioritizer.db.decisions import activation, calibrations
from prioritizer.db.decisions.activation import Decision
from prioritizer.db.decisions.calibrations import CandidateVerdict
from prioritizer.errors import NotAllowed
from tests.support.ledgers import NOW, site_policy, together

OWN = Calibration(id="own", method="temperature", slope=1.0, intercept=0.0, t_high=0.5, t_low=0.1, n=500, events=100)
LATER = NOW + timedelta(minutes=1)


def candidate(ledger: sa.Engine) -> str:
    made = replace(OWN, id="b", intercept=2.0)
    return calibrations.add(
        ledger, "d" * 64, made, CandidateVerdict(word="fit to activate", said="It separates well.", report="report.html"), "anna", NOW
    ).id


def test_a_third_person_does_not_take_the_place_of_who_approved(ledger: sa.Engine) -> None:
    name = candidate(ledger)
    calibrations.approve(ledger, name, "berta", NOW)
    with pytest.raises(NotAllowed, match="berta approved calibration b already"):
        calibrations.approve(ledger, name, "carla", NOW)
    assert calibrations.find(ledger, name).approved_by == "berta"


def test_of_two_who_approve_at_once_one_does(ledger: sa.Engine) -> None:
    name = candidate(ledger)

    def approve(who: str) -> str:
        try:
            calibrations.approve(ledger, name, who, NOW)
        except NotAllowed:
            return ""
        return who

    approved = together(*(partial(approve, who) for who in ("berta", "carla")))
    assert sorted(map(bool, approved)) == [False, True]
    assert calibrations.find(ledger, name).approved_by in approved


def test_an_approval_is_good_for_one_activation(ledger: sa.Engine) -> None:
    name = candidate(ledger)
    calibrations.approve(ledger, name, "berta", NOW)
    assert calibrations.find(ledger, name).agreed_by == "berta"
    site = site_policy(t_high=OWN.t_high, t_low=OWN.t_low, bundle_digest="d" * 64, own=OWN)
    activation.activate(ledger, name, Decision(who="anna", second_person=True), site, LATER)
    assert calibrations.find(ledger, name).agreed_by == ""
    with pytest.raises(NotAllowed, match="is ACTIVE"):
        calibrations.approve(ledger, name, "carla", LATER)
    activation.roll_back(ledger, "anna", site, LATER)
    calibrations.approve(ledger, name, "carla", LATER + timedelta(minutes=1))
    found = calibrations.find(ledger, name)
    assert (found.state, found.agreed_by, found.approved_by) == ("RETIRED", "carla", "carla")
