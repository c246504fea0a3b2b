"""A hospital that the network never saw: recalibrated on half of its radiographs, judged on the other half, twenty times.

`tests/data/trained-without-nih` is the network of a run that was trained without NIH and RSNA (`train --without nih`; written by
`python -m benchmarks.never_seen --keep`). The radiographs are those of `rsna-mixed`, with radiologists' labels.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.never_seen import HALVES, Summary, logits_of, summary
from prioritizer.inference import bundle_selftest
from prioritizer.inference.bundle import Bundle, open_bundle
from prioritizer.inference.engine import Engine
from prioritizer.learning.cohorts.read import read_cohort
from tests.support.cohort_files import shared

KEPT = Path(__file__).parents[1] / "data" / "trained-without-nih"
SOURCES = """[[source]]
name = "rsna-mixed"
site = "nih"
data = "{data}"
role = "judge"
label_source = "radiologists"
words = {{ opacity = 1, other = 0 }}
boxes = {{ column = "boxes_1024", side = 1024 }}
attribution = "RSNA Pneumonia Detection Challenge 2018: RSNA; Shih et al., Radiology: AI 2019;1:e180041; Wang et al., CVPR 2017."
"""


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return open_bundle(KEPT)


@pytest.fixture(scope="module")
def judged(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Summary:
    sources = tmp_path_factory.mktemp("never-seen") / "sources.toml"
    sources.write_text(SOURCES.format(data=shared("rsna-mixed")))
    engine = Engine(bundle)
    bundle_selftest.prove(engine)
    images = read_cohort(sources).images
    return summary(images, logits_of(engine, images), bundle.calibration)


def test_the_network_never_saw_the_site(bundle: Bundle, judged: Summary) -> None:
    data = bundle.card["data"]
    assert data["without"] == ["nih"]
    assert set(data["images"]) == {"train", "select", "calib", "val_report", "left_out"}
    assert judged.films == data["images"]["left_out"] == bundle.card["judged_on"]["films"] == 367


def test_probabilities_are_as_right_as_so_many_films_can_make_them(judged: Summary) -> None:
    assert judged.ece_above_chance <= 0.02
    assert judged.recalibrated["ece"] < judged.as_it_was["ece"] / 2


def test_intercept_and_slope_are_what_they_should_be(judged: Summary) -> None:
    assert judged.slopes >= 0.85 * HALVES
    assert judged.intercepts >= 0.85 * HALVES


def test_sensitivity_is_that_of_the_target(judged: Summary) -> None:
    assert judged.recalibrated["sensitivity"] >= 0.95 - 0.02
    assert 0 < judged.recalibrated["specificity"] < 1
