"""The section of a recalibration's report on last week's studies, out of a real ledger."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import sqlalchemy as sa

from prioritizer.calibration import verdict
from prioritizer.config.settings import Settings
from prioritizer.inference.bundle import open_bundle
from prioritizer.recalibration.effect import who_moves
from prioritizer.recalibration.outcome import RecalibrationOutcome, RecalibrationRequest
from tests.support.ledgers import NOW, film, receive, score_next

BUNDLE = replace(open_bundle(None), digest="d" * 64)


def outcome(t_high: float | None) -> RecalibrationOutcome:
    candidate = None if t_high is None else replace(BUNDLE.calibration, id="candidate", t_high=t_high)
    return RecalibrationOutcome(
        request=RecalibrationRequest(cohort=None),
        bundle=BUNDLE,
        in_force=replace(BUNDLE.calibration, t_high=0.999),
        before=replace(BUNDLE.calibration, t_high=0.999),
        ages=None,
        made_at=NOW + timedelta(hours=1),
        advice=verdict.without_labels(),
        candidate=candidate,
        entered=candidate,
    )


def test_it_names_the_studies_that_would_stand_elsewhere(ledger: sa.Engine) -> None:
    for number in range(3):
        receive(ledger, film(1, f"1.2.{number + 1}", NOW + timedelta(minutes=number)))
        score_next(ledger, 0.5)
    # The logit of these films is 0; a threshold below its probability raises them all, and nobody overtakes anybody.
    (section,) = who_moves(outcome(1e-6), ledger, Settings())
    assert section.text[0].startswith("0 of the 3 studies")
    assert section.tables == ()


def test_an_empty_week_says_so_and_no_candidate_moves_nobody(ledger: sa.Engine) -> None:
    (section,) = who_moves(outcome(0.5), ledger, Settings())
    assert "No study that this bundle scored" in section.text[0]
    assert who_moves(outcome(None), ledger, Settings()) == ()
