"""The words of the mark on a result picture."""

from __future__ import annotations

import pytest

from prioritizer.daemon.publish import mark_words
from prioritizer.ranking.deadlines import Band, Stage


@pytest.mark.parametrize("stage", [Stage.PILOT, Stage.ACTIVE])
@pytest.mark.parametrize("band", [Band.NEUTRAL, Band.LOW])
def test_what_is_not_raised_carries_no_mark(band: Band, stage: Stage) -> None:
    assert mark_words(band, stage) == "none - order of arrival"


def test_in_pilot_nothing_claims_to_be_placed_earlier() -> None:
    assert "placed earlier" in mark_words(Band.HIGH, Stage.ACTIVE)
    assert "placed earlier" not in mark_words(Band.HIGH, Stage.PILOT)
