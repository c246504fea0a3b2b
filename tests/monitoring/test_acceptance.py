"""Leaving shadow: what a site measured, held against a rule that was fixed before."""

from __future__ import annotations

from typing import Any

import pytest

from prioritizer.calibration.operating_point import Share
from prioritizer.monitoring.acceptance import acceptance, stands_against


def told(hits: int, of: int) -> dict[str, Any]:
    share = Share(hits=hits, of=of)
    return {"hits": hits, "of": of, "value": share.value if of else None, "low": share.low, "high": share.high}


def board(**other: dict[str, Any]) -> dict[str, Any]:
    """A month in which all is well: 40 of 150 studies with pneumonia."""
    words = {"sensitivity": told(37, 40), "specificity": told(100, 110), "ppv": told(37, 47)} | other
    return {"from": "2026-11-01T00:00:00+00:00", "words": {"blinded": words}, "not_scored": other.get("not_scored", told(10, 160))}


def test_a_site_where_all_was_measured_and_is_well_may_leave():
    found = acceptance(board(), local_calibration=True)
    assert found["faults"] == []
    assert found["said"][0] == "150 studies with a finding said before AI's result was shown, 40 with pneumonia, from 2026-11-01 on"
    assert "sensitivity 0.93 (95 % 0.80 to 0.98, n = 40)" in found["said"][1]


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"specificity": told(50, 55)}, "95 of 100 studies have a finding"),
        ({"sensitivity": told(19, 19)}, "19 of 20 studies with pneumonia"),
        ({"sensitivity": told(20, 40)}, "sensitivity is below 0.80"),
        ({"specificity": told(30, 110)}, "specificity is below 0.50"),
        ({"not_scored": told(120, 160)}, "most studies are not scored"),
    ],
)
def test_each_thing_that_speaks_against_it_is_said(other: dict[str, Any], said: str):
    (fault,) = acceptance(board(**other), local_calibration=True)["faults"]
    assert fault.startswith(said)


def test_a_wide_interval_is_no_figure_below_its_floor():
    found = acceptance(board(sensitivity=told(28, 40)), local_calibration=True)
    assert found["faults"] == [], "0.70 with an interval up to 0.83 may be 0.80"


def test_without_a_local_calibration_or_any_word_it_says_not_yet():
    assert "another hospital" in acceptance(board(), local_calibration=False)["faults"][0]
    nothing = acceptance(
        board(**{name: told(0, 0) for name in ("sensitivity", "specificity", "ppv", "not_scored")}), local_calibration=True
    )
    assert len(nothing["faults"]) == 2
    assert "sensitivity not known" in nothing["said"][1]


def test_a_ruling_without_a_report_has_nothing_that_speaks_for_it():
    assert stands_against({}) == ["no acceptance report was made when it was proposed"]
    assert stands_against({"acceptance": {"said": [], "faults": []}}) == []
