"""Who would move under another calibration."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from prioritizer.calibration.maps import Calibration
from prioritizer.ranking.deadlines import Band, RankingPolicy, Stage
from prioritizer.ranking.moves import Listed, moves

START = datetime(2026, 3, 2, 8, tzinfo=UTC)
BEFORE = Calibration(id="before", method="none", slope=1.0, intercept=0.0, t_high=0.5, t_low=0.0)


def arrived(*logits: float, every: int = 10) -> list[Listed]:
    return [Listed(study_uid=f"1.2.{n}", at=START + timedelta(minutes=every * n), logits=(logit,)) for n, logit in enumerate(logits)]


def test_a_study_that_is_newly_raised_overtakes_those_within_the_bound():
    after = replace(BEFORE, id="after", t_high=0.2)
    found = moves(arrived(-3, -3, -3, -1, -3), BEFORE, after, RankingPolicy())
    raised = found[0]
    assert (raised.study_uid, raised.overtakes, raised.bands) == ("1.2.3", 3, (Band.NEUTRAL, Band.HIGH))
    assert [move.overtakes for move in found[1:]] == [-1, -1, -1]


def test_a_study_that_is_no_longer_raised_falls_back():
    after = replace(BEFORE, id="after", t_high=0.9)
    assert moves(arrived(-3, 1.0), BEFORE, after, RankingPolicy())[0].overtakes != 0
    assert {move.study_uid: move.overtakes for move in moves(arrived(-3, 1.0), BEFORE, after, RankingPolicy())} == {"1.2.0": 1, "1.2.1": -1}


def test_what_the_calibration_does_is_told_in_shadow_too():
    after = replace(BEFORE, id="after", t_high=0.2)
    assert moves(arrived(-3, -1), BEFORE, after, RankingPolicy(stage=Stage.SHADOW))


@given(st.lists(st.floats(-6, 6), max_size=30), st.floats(0.05, 0.95))
def test_places_are_only_exchanged_and_the_same_threshold_moves_nobody(logits: list[float], t_high: float):
    after = replace(BEFORE, id="after", t_high=t_high)
    assert sum(move.overtakes for move in moves(arrived(*logits), BEFORE, after, RankingPolicy())) == 0
    assert moves(arrived(*logits), after, after, RankingPolicy()) == []
