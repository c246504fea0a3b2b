"""The figures of an evaluation: curves, counts at a threshold, pairs of networks, and the rule of the verdict."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score, precision_score, roc_curve

from prioritizer.calibration import verdict
from prioritizer.calibration.operating_point import Share
from prioritizer.calibration.verdict import CARE, FIT, NOT, Evidence
from prioritizer.statistics import curves
from prioritizer.statistics.at_threshold import ThresholdCounts, counts, predictive_values
from prioritizer.statistics.intervals import Cases, Figure, interval
from prioritizer.statistics.measures import NAMES, brier_parts, figures, values
from prioritizer.statistics.paired import Rated, most_disputed, paired


def cases(n: int = 400, seed: int = 0) -> Cases:
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, n)
    p = 1 / (1 + np.exp(-logits))
    return Cases(probabilities=p, labels=(rng.random(n) < p).astype(float), patients=[f"p{i // 2}" for i in range(n)])


def test_one_call_gives_every_figure_with_its_interval():
    found = figures(cases(120), 0.5, draws=50)
    assert list(found) == list(NAMES)
    assert all(figure.low <= figure.value <= figure.high for figure in found.values())


def test_the_figures_at_a_threshold_are_sklearns():
    some = cases()
    found, flagged = values(some, 0.6), some.probabilities >= 0.6
    assert found["ppv"] == pytest.approx(precision_score(some.labels, flagged))
    assert found["npv"] == pytest.approx(precision_score(some.labels == 0, ~flagged))
    assert found["f1"] == pytest.approx(f1_score(some.labels, flagged))
    assert found["accuracy"] == pytest.approx(accuracy_score(some.labels, flagged))
    assert found["false_discovery"] == pytest.approx(1 - found["ppv"])
    assert found["false_omission"] == pytest.approx(1 - found["npv"])


def test_a_shifted_map_has_its_shift_as_calibration_in_the_large():
    some = cases(4000)
    logits = np.log(some.probabilities / (1 - some.probabilities))
    shifted = replace(some, probabilities=1 / (1 + np.exp(-(logits - 1.0))))
    assert values(shifted, 0.5)["calibration_in_the_large"] == pytest.approx(1.0, abs=0.15)
    assert values(shifted, 0.5)["calibration_slope"] == pytest.approx(1.0, abs=0.1)


def test_the_parts_of_the_brier_score_add_up_when_probabilities_are_few():
    p = np.repeat([0.1, 0.3, 0.5, 0.7, 0.9], 24)
    labels = np.tile([1.0, 0, 0, 1, 0, 0, 0, 1, 1, 0], 12)
    reliability, resolution, uncertainty = brier_parts(p, labels)
    assert uncertainty == pytest.approx(labels.mean() * (1 - labels.mean()))
    assert float(np.mean((p - labels) ** 2)) == pytest.approx(reliability - resolution + uncertainty)


def test_a_figure_that_cannot_be_computed_is_a_dash():
    assert str(interval(float("nan"), np.full(10, np.nan))) == "-"


def test_the_roc_curve_is_sklearns():
    some = cases()
    alarms, caught, _ = roc_curve(some.labels, some.probabilities, drop_intermediate=False)
    band = curves.roc(some)
    assert band.y == pytest.approx(np.interp(band.x, alarms, caught))
    assert (band.low <= band.y + 0.02).all()
    assert (band.y <= band.high + 0.02).all()


def test_net_benefit_is_the_formula_counted_by_hand():
    labels, p = np.array([1.0, 1, 0, 0, 0]), np.array([0.9, 0.4, 0.6, 0.3, 0.1])
    found = curves.net_benefit(labels, p, np.array([0.05, 0.5]))
    assert found == pytest.approx([2 / 5 - 3 / 5 * 0.05 / 0.95, 1 / 5 - 1 / 5 * 1.0])


def test_a_network_without_skill_is_useful_at_no_threshold():
    rng = np.random.default_rng(0)
    blind = Cases(probabilities=rng.random(300), labels=(rng.random(300) < 0.3).astype(float), patients=[str(i) for i in range(300)])
    assert curves.decision(blind).useful is None
    low, high = curves.decision(cases(600)).useful or (1, 0)
    assert low < 0.4 < high


def test_counts_and_exact_intervals_at_a_threshold():
    found = counts(np.array([1.0, 1, 1, 0, 0]), np.array([0.9, 0.5, 0.2, 0.5, 0.1]), 0.5)
    assert (found.caught, found.missed, found.alarms, found.passed) == (2, 1, 1, 1)
    assert (found.sensitivity.low, found.sensitivity.high) == pytest.approx((0.0943, 0.9916), abs=1e-4)


def test_too_few_cases_carry_no_sentence():
    assert "No claim" in ThresholdCounts(threshold=0.5, caught=9, missed=1, alarms=3, passed=60).sentence


def test_the_sentence_says_what_a_radiologist_would_ask():
    said = ThresholdCounts(threshold=0.5, caught=90, missed=10, alarms=30, passed=270).sentence
    assert "Of 100 films raised, 75 show pneumonia and 25 do not; of 100 not raised, 4 show it. 90 of 100 with pneumonia" in said


def test_a_rarer_disease_makes_a_mark_mean_less():
    ppv, npv = predictive_values(np.array([0.9]), np.array([0.9]), 0.1)
    assert (float(ppv[0]), float(npv[0])) == pytest.approx((0.5, 0.81 / 0.82))


def test_paired_differences_are_narrower_than_the_figures_themselves():
    some = cases(300)
    logits = np.log(some.probabilities / (1 - some.probabilities))
    worse = logits + np.random.default_rng(1).normal(0, 0.5, 300)
    rated = [Rated(probabilities=1 / (1 + np.exp(-x)), logits=x, threshold=0.5) for x in (logits, worse)]
    found = paired(rated, some.labels, some.patients, draws=200)
    gap, own = found.differences[0]["roc_auc"], found.figures[0]["roc_auc"]
    assert gap.low <= gap.value <= gap.high
    assert gap.value == pytest.approx(found.figures[1]["roc_auc"].value - own.value)
    assert gap.high - gap.low < 0.6 * (own.high - own.low)
    assert found.delong[0].figure.value == pytest.approx(gap.value)


def test_the_same_network_twice_has_no_difference():
    some = cases(80)
    rated = Rated(probabilities=some.probabilities, logits=some.probabilities, threshold=0.5)
    found = paired([rated, rated], some.labels, some.patients, draws=20)
    assert all((figure.value, figure.low, figure.high) == (0, 0, 0) for figure in found.differences[0].values())


def test_the_most_disputed_case_is_the_one_furthest_apart():
    one, other = np.array([0.1, 0.5, 0.9]), np.array([0.2, 0.5, 0.1])
    rated = [Rated(probabilities=p, logits=p, threshold=0.5) for p in (one, other)]
    assert most_disputed(rated, 2) == [2, 0]


GOOD = Evidence(
    cohort="ours",
    events=300,
    non_events=300,
    auc=Figure(value=0.93, low=0.91, high=0.95),
    figures={
        "calibration_slope": Figure(value=1.0, low=0.9, high=1.1),
        "ece_equal_mass": Figure(value=0.03, low=0.02, high=0.05),
    },
    sensitivity=Share(hits=280, of=300),
    specificity=Share(hits=240, of=300),
    own_source=False,
    seen=False,
    controls={"matched by file statistics": 0.88},
    refused=0.01,
)


def test_a_network_that_passes_every_floor_is_fit():
    assert verdict.judge([GOOD]).word == FIT


@pytest.mark.parametrize(
    ("change", "word", "said"),
    [
        ({"events": 19}, NOT, "too few to judge"),
        ({"events": 49}, CARE, "too few to claim a sensitivity"),
        ({"patients": (300, 12)}, NOT, "12 without"),
        ({"seen": True}, NOT, "flatter"),
        ({"auc": Figure(value=0.6, low=0.5, high=0.7)}, NOT, "lies below 0.75"),
        ({"auc": Figure(value=0.78, low=0.7, high=0.85)}, CARE, "reaches below"),
        ({"sensitivity": Share(hits=100, of=300)}, NOT, "sensitivity"),
        ({"sensitivity": Share(hits=100, of=300), "threshold_chosen": True}, CARE, "sensitivity"),
        ({"specificity": Share(hits=90, of=300)}, CARE, "specificity 0.300"),
        ({"scope_ignored": True}, CARE, "scope was ignored"),
        ({"own_source": True}, CARE, "nothing of another hospital"),
        ({"controls": {"on copies blurred": 0.6}}, CARE, "on copies blurred"),
        ({"refused": 0.5}, CARE, "refused by the guard"),
        ({"figures": {**GOOD.figures, "ece_equal_mass": Figure(value=0.2, low=0.1, high=0.3)}}, CARE, "calibration error"),
    ],
)
def test_what_falls_below_a_floor_is_named(change: dict[str, object], word: str, said: str):
    found = verdict.judge([replace(GOOD, **change)])
    assert found.word == word
    assert said in found.said


def test_the_worst_cohort_counts_and_another_hospital_lifts_the_bar_of_the_own_split():
    own = replace(GOOD, cohort="own split", own_source=True)
    assert verdict.judge([own, GOOD]).word == FIT
    bad = replace(GOOD, cohort="adults", auc=Figure(value=0.5, low=0.4, high=0.6))
    found = verdict.judge([own, GOOD, bad])
    assert found.word == NOT
    assert found.said.startswith("adults:")
