"""Another threshold on the same map: what was asked is what comes of it, or it is said why not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prioritizer.calibration.maps import Calibration
from prioritizer.calibration.operating_point import Trade
from prioritizer.calibration.threshold import SeenHere, ThresholdWish, threshold_of, with_threshold
from prioritizer.errors import NotAllowed

MAP = Calibration(id="own", method="temperature", slope=0.8, intercept=-0.3, t_high=0.5, t_low=0.1)
TRADE = Trade(logit=np.array([-2.0, 0.0, 2.0]), sensitivity=np.array([1.0, 0.9, 0.5]), specificity=np.array([0.2, 0.7, 0.95]))
NOBODY = SeenHere(logits=np.zeros(0), days=28)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({}, "one of three"),
        ({"probability": 0.5, "sensitivity": 0.9}, "one of three"),
        ({"probability": 0.0}, "between 0 and 1"),
        ({"probability": 1.0}, "between 0 and 1"),
        ({"probability": float("nan")}, "finite"),
        ({"sensitivity": 95.0}, "between 0 and 1"),
        ({"flags_per_day": 0.0}, "more than 0"),
        ({"flags_per_day": float("inf")}, "finite"),
    ],
)
def test_what_cannot_be_asked_is_said(asked: dict[str, Any], said: str) -> None:
    with pytest.raises(NotAllowed, match=said):
        ThresholdWish(**asked)


def test_a_sensitivity_is_the_highest_threshold_of_the_card_that_reaches_it() -> None:
    for sensitivity, logit in ((0.5, 2.0), (0.8, 0.0), (0.9, 0.0), (0.95, -2.0)):
        found, said = threshold_of(ThresholdWish(sensitivity=sensitivity), MAP, TRADE, NOBODY)
        assert found == MAP.probability(logit)
        assert "not on yours" in said


def test_without_a_card_that_says_so_no_sensitivity_is_promised() -> None:
    with pytest.raises(NotAllowed, match="card does not say"):
        threshold_of(ThresholdWish(sensitivity=0.9), MAP, None, NOBODY)
    low = Trade(logit=np.array([0.0]), sensitivity=np.array([0.5]), specificity=np.array([0.5]))
    with pytest.raises(NotAllowed, match="no threshold"):
        threshold_of(ThresholdWish(sensitivity=0.9), MAP, low, NOBODY)


@settings(deadline=None)
@given(
    st.lists(st.floats(-6, 6), min_size=30, max_size=120),
    st.floats(1, 28),
    st.floats(0.01, 1.0),
)
def test_flags_a_day_are_never_more_than_were_asked(logits: list[float], days: float, share: float) -> None:
    flags = share * len(logits) / days
    found, _ = threshold_of(ThresholdWish(flags_per_day=flags), MAP, TRADE, SeenHere(logits=np.array(logits), days=days))
    raised = sum(logit >= MAP.logit_at(found) + 1e-9 for logit in logits)
    assert raised / days <= flags + 1e-6


def test_flags_a_day_need_studies_to_be_counted_on_and_not_more_than_there_are() -> None:
    with pytest.raises(NotAllowed, match="0 studies were scored here"):
        threshold_of(ThresholdWish(flags_per_day=3), MAP, TRADE, NOBODY)
    with pytest.raises(NotAllowed, match=r"more than the 10\.0 studies"):
        threshold_of(ThresholdWish(flags_per_day=11), MAP, TRADE, SeenHere(logits=np.zeros(40), days=4))


def test_the_map_stays_and_the_low_threshold_never_stands_above_the_high_one() -> None:
    found = with_threshold(MAP, 0.05)
    assert (found.t_high, found.t_low, found.slope, found.intercept) == (0.05, 0.05, MAP.slope, MAP.intercept)
    with pytest.raises(NotAllowed, match="already"):
        with_threshold(MAP, 0.5)
