"""A bundle's own calibration, candidates beside it, and how they are scored with and activated."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import sqlalchemy as sa

from prioritizer.calibration.maps import Calibration
from prioritizer.config.policy import SitePolicy
from prioritizer.db.decisions import activation, calibrations
from prioritizer.db.decisions.activation import Activated, Decision
from prioritizer.db.decisions.calibrations import CandidateVerdict
from prioritizer.db.processing import score as processing_score
from prioritizer.study import Logit
from tests.support.ledgers import (
    LEASE,
    NOW,
    score_of,
    site_policy,
)

BUNDLE = "d" * 64
OWN = Calibration(id="own", method="temperature", slope=1.0, intercept=0.0, t_high=0.5, t_low=0.1, n=500, events=100)
SITE = site_policy(t_high=OWN.t_high, t_low=OWN.t_low, bundle_digest=BUNDLE, own=OWN, max_high_share=1.0)
FIT = CandidateVerdict(word="fit to activate", said="It separates well.", report="report.html")
UNFIT = CandidateVerdict(word="do not activate", said="It does not separate.", report="report.html")
LATER = NOW + timedelta(minutes=1)


def shifted(name: str, by: float, **values: float) -> Calibration:
    return replace(OWN.moved(1.0, by, "intercept"), id=name, **values)


def candidate(
    ledger: sa.Engine, name: str = "b", by: float = 2.0, verdict: CandidateVerdict = FIT, bundle: str = BUNDLE, **values: float
) -> str:
    calibrations.add(ledger, bundle, shifted(name, by, **values), verdict, "anna", NOW)
    return name


def activate(ledger: sa.Engine, name: str, who: str = "berta", policy: SitePolicy = SITE, **decision: object) -> Activated:
    return activation.activate(ledger, name, Decision(who=who, **decision), policy, LATER)


def score(ledger: sa.Engine, logit: float, policy: SitePolicy = SITE) -> bool:
    """Score the next instance as the worker does: the ledger makes the probability."""
    claim = processing_score.claim_instance(ledger, "scorer", LEASE)
    assert claim is not None
    made = score_of(None, logit=Logit(logit), bundle_digest=BUNDLE)
    return processing_score.finish_scored(ledger, claim, made, policy, NOW)
