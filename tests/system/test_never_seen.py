"""A hospital that was never seen: the network trained without it, recalibrated on half of its films, judged on the other half, twenty times.

The weights in tests/data are of a run of the shipped recipe without the site `nih`; the films are those of it that radiologists read.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from prioritizer.calibration import Calibration, expected_calibration_error, from_document
from prioritizer.learning import network
from prioritizer.learning.cohorts import read_cohort
from prioritizer.learning.labelled import LabelledImage
from prioritizer.learning.never_seen import halves
from prioritizer.learning.pictures import load_pictures
from prioritizer.learning.recipes import Recipe
from prioritizer.learning.watching import predict
from prioritizer.measures import Cases, figures
from prioritizer.operating_point import Wish, operating_point
from prioritizer.recalibration import Sample, recalibrate
from tests.edges.cohort_files import shared

DATA = Path(__file__).parents[1] / "data" / "never-seen"
HALVES = 20
TARGET = 0.95
SOURCES = """
[[source]]
name = "rsna-mixed"
site = "nih"
data = "{data}"
role = "judge"
label_source = "radiologists"
words = {{ opacity = 1, other = 0 }}
attribution = "RSNA Pneumonia Detection Challenge 2018; Shih et al., Radiology: AI 2019;1:e180041; Wang et al., CVPR 2017."
"""


@dataclass(frozen=True)
class Tried:
    """One half recalibrates, the other judges."""

    before: dict[str, float]
    ece: float
    chance: float
    """Calibration error of probabilities that are right, with as many films."""
    covers: tuple[bool, bool]
    """The intervals of intercept and slope hold 0 and 1."""
    sensitivity: float
    specificity: float


@cache
def card() -> dict[str, object]:
    found: dict[str, object] = json.loads((DATA / "card.json").read_text())
    return found


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> tuple[tuple[LabelledImage, ...], np.ndarray]:
    """The films of the hospital, and the logits that the network gives them."""
    path = tmp_path_factory.mktemp("sources") / "sources.toml"
    path.write_text(SOURCES.format(data=shared("rsna-mixed").resolve()))
    images = read_cohort(path).images
    recipe = Recipe(**card()["recipe"])  # type: ignore[arg-type]
    model = network.build(recipe.architecture, recipe.outputs, recipe.picture.size, stride=recipe.stride)
    model.load_state_dict(
        {name: value.float() if value.is_floating_point() else value for name, value in load_file(DATA / "weights.safetensors").items()}
    )
    pictures, _ = load_pictures(images, recipe.preprocessing)
    return images, predict(model, torch.from_numpy(pictures)[:, None], recipe, torch.device("cpu"))


@pytest.fixture(scope="module")
def tried(seen: tuple[tuple[LabelledImage, ...], np.ndarray]) -> list[Tried]:
    images, logits = seen
    before = from_document(card()["calibration"])  # type: ignore[arg-type]
    return [_try(images, logits, before, seed) for seed in range(HALVES)]


def _try(images: tuple[LabelledImage, ...], logits: np.ndarray, before: Calibration, seed: int) -> Tried:
    labels = np.array([image.label for image in images], dtype=np.float64)
    patients = [image.patient for image in images]
    one = halves(patients, seed)
    fitting, judging = (
        Sample(logits=logits[at], labels=labels[at], patients=[patients[i] for i in np.flatnonzero(at)]) for at in (one, ~one)
    )
    fit = recalibrate(fitting, before, seed=seed)
    point = operating_point(fitting, before, fit.after, Wish(sensitivity=TARGET), None, seed)
    after = replace(fit.after, t_high=point.t_high)
    p = after.probabilities(judging.logits)
    rng = np.random.default_rng(seed)
    chance = np.mean([expected_calibration_error(p, (rng.random(len(p)) < p).astype(float), equal_mass=True) for _ in range(200)])
    found, as_it_was = (
        figures(
            Cases(probabilities=its.probabilities(judging.logits), labels=judging.labels, patients=judging.patients), its.t_high, seed, 300
        )
        for its in (after, before)
    )
    intercept, slope = found["calibration_in_the_large"], found["calibration_slope"]
    return Tried(
        before={name: as_it_was[name].value for name in ("ece_equal_mass", "sensitivity", "specificity")},
        ece=found["ece_equal_mass"].value,
        chance=float(chance),
        covers=(intercept.low <= 0 <= intercept.high, slope.low <= 1 <= slope.high),
        sensitivity=found["sensitivity"].value,
        specificity=found["specificity"].value,
    )


def test_the_weights_say_what_they_are(seen: tuple[tuple[LabelledImage, ...], np.ndarray]) -> None:
    assert card()["without"] == ["nih"]
    assert "CC BY 4.0" in str(card()["attribution"])
    assert len(seen[0]) == 367


def test_recalibrated_on_half_of_its_films_the_scale_fits_the_site(tried: list[Tried]) -> None:
    assert np.mean([one.ece - one.chance for one in tried]) <= 0.02
    assert np.mean([one.before["ece_equal_mass"] for one in tried]) > np.mean([one.ece for one in tried]) + 0.05


def test_the_intervals_of_slope_and_intercept_hold_what_is_right(tried: list[Tried]) -> None:
    assert sum(one.covers[1] for one in tried) >= 17
    assert sum(one.covers[0] for one in tried) >= 14


def test_the_sensitivity_that_was_asked_for_is_kept_and_the_specificity_is_told(tried: list[Tried]) -> None:
    assert np.mean([one.sensitivity for one in tried]) >= TARGET - 0.02
    assert 0 < np.mean([one.specificity for one in tried]) < 1
