"""What a threshold anywhere would give, as the card of a bundle keeps it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prioritizer.calibration.operating_point import Trade, trade

CASES = st.lists(st.tuples(st.floats(-8, 8), st.integers(0, 1)), min_size=4, max_size=60).filter(lambda c: len({y for _, y in c}) == 2)


@given(CASES)
def test_at_its_points_it_counts_what_lies_above(cases: list[tuple[float, int]]) -> None:
    logits, labels = (np.array(column, dtype=float) for column in zip(*cases, strict=True))
    found = trade(logits, labels)
    for at, sensitivity, specificity in zip(found.logit, found.sensitivity, found.specificity, strict=True):
        assert sensitivity == pytest.approx((logits[labels == 1] >= at).mean())
        assert specificity == pytest.approx((logits[labels == 0] < at).mean())


@given(CASES, st.floats(-20, 20))
def test_anywhere_it_lies_between_raising_all_and_raising_few(cases: list[tuple[float, int]], at: float) -> None:
    logits, labels = (np.array(column, dtype=float) for column in zip(*cases, strict=True))
    found = trade(logits, labels)
    sensitivity, specificity = found.at(at)
    assert found.sensitivity.min() <= sensitivity <= 1
    assert 0 <= specificity <= found.specificity.max()


def test_between_two_points_it_is_a_straight_line() -> None:
    found = Trade(logit=np.array([0.0, 2.0]), sensitivity=np.array([1.0, 0.5]), specificity=np.array([0.0, 0.8]))
    assert found.at(1.0) == (0.75, 0.4)
