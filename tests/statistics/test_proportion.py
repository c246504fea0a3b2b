"""Intervals of shares: exact, and by patient where one patient gave several cases."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta

from prioritizer.calibration.local_fit import Sample
from prioritizer.calibration.maps import Calibration
from prioritizer.calibration.operating_point import Share, Wish, operating_point
from prioritizer.statistics.at_threshold import counts
from prioritizer.statistics.intervals import Cases
from prioritizer.statistics.measures import figures
from prioritizer.statistics.proportion import clusters_of, effective_number, proportion_interval

OWN = Calibration(id="own", method="t", slope=1.0, intercept=0.0, t_high=0.5, t_low=0.1, n=500, events=100)
SHARES = st.integers(1, 4000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@given(SHARES)
def test_an_interval_is_that_of_clopper_and_pearson(share: tuple[int, int]) -> None:
    k, n = share
    low = 0.0 if k == 0 else beta.ppf(0.025, k, n - k + 1)
    high = 1.0 if k == n else beta.ppf(0.975, k + 1, n - k)
    assert proportion_interval(k, n) == pytest.approx((low, high), abs=1e-9)


def test_nothing_of_nothing_may_be_any_share() -> None:
    assert proportion_interval(0, 0) == (0.0, 1.0)


def test_one_case_a_patient_is_the_plain_interval() -> None:
    hits = np.array([True, False, True, True])
    assert proportion_interval(3, 4, clusters=clusters_of(hits, ["a", "b", "c", "d"])) == proportion_interval(3, 4)


def test_the_same_case_again_adds_nothing() -> None:
    once = np.array([True, False, True, True, False])
    thrice = clusters_of(np.repeat(once, 3), [patient for patient in "abcde" for _ in range(3)])
    assert effective_number(thrice) == pytest.approx(5)
    assert proportion_interval(9, 15, clusters=thrice) == pytest.approx(proportion_interval(3, 5))


def test_where_no_case_is_missed_the_patients_count() -> None:
    assert Share(hits=60, of=60, clusters=((6, 6),) * 10).low == pytest.approx(proportion_interval(10, 10)[0])


CLUSTERS = st.lists(st.integers(1, 9).flatmap(lambda of: st.tuples(st.integers(0, of), st.just(of))), min_size=1, max_size=40)


@given(CLUSTERS)
def test_cases_are_worth_no_more_than_their_number_and_no_less_than_one_patient(clusters: list[tuple[int, int]]) -> None:
    k, n = (sum(column) for column in zip(*clusters, strict=True))
    assert 1 - 1e-9 <= effective_number(clusters) <= n + 1e-9
    low, high = proportion_interval(k, n, clusters=clusters)
    plain = proportion_interval(k, n)
    assert -1e-9 <= low <= plain[0] + 1e-9 <= k / n + 2e-9
    assert k / n - 1e-9 <= plain[1] <= high + 1e-9 <= 1 + 2e-9


def cohort(rng: np.random.Generator, patients: int, images: int, correlation: float = 0.8) -> Sample:
    """Patients with several images, half of them with pneumonia; the log odds of one patient's images are correlated within a class."""
    labels = np.repeat(np.arange(patients) < patients // 2, images).astype(float)
    middle = rng.normal(np.where(np.arange(patients) < patients // 2, 1.2, -1.2), np.sqrt(correlation) * 1.5)
    logits = np.repeat(middle, images) + rng.normal(0, np.sqrt(1 - correlation) * 1.5, patients * images)
    return Sample(logits=logits, labels=labels, patients=[str(i) for i in np.repeat(np.arange(patients), images)])


@pytest.mark.parametrize("images", [3])
def test_the_interval_at_the_proposed_threshold_covers_the_truth(images: int) -> None:
    rng = np.random.default_rng(7)
    many = cohort(rng, 100_000, 1)
    positive = np.sort(many.logits[many.labels == 1])
    covered = 0
    for _ in range(250):
        point = operating_point(cohort(rng, 120, images), OWN, OWN, Wish(sensitivity=0.9), None, seed=1)
        truth = 1 - np.searchsorted(positive, OWN.logit_at(point.t_high)) / len(positive)
        covered += point.sensitivity.low <= truth <= point.sensitivity.high
    assert covered >= 0.91 * 250, f"{images} images a patient: 95 % promised"


@pytest.mark.parametrize("images", [1, 3, 6])
def test_the_interval_at_a_fixed_threshold_covers_the_truth(images: int) -> None:
    rng = np.random.default_rng(8)
    truth = 0.788145  # of the normal distribution with mean 1.2 and standard deviation 1.5, the share above 0
    covered = 0
    for _ in range(250):
        one = cohort(rng, 120, images)
        found = counts(one.labels, OWN.probabilities(one.logits), 0.5, one.patients).sensitivity
        covered += found.low <= truth <= found.high
    assert covered >= 0.91 * 250


def test_repeated_images_of_a_few_patients_carry_no_claim() -> None:
    labels = np.repeat([1.0, 0.0], 90)
    found = counts(labels, np.where(labels == 1, 0.9, 0.1), 0.5, [str(i) for i in np.repeat(np.arange(18), 10)])
    assert (found.sensitivity.of, found.sensitivity.patients) == (90, 9)
    assert found.sentence == "No claim: the rarer class has 9 patients, 50 are needed to say what a threshold does."
    assert str(found.sensitivity).endswith("90 of 90 of 9 patients")


def test_a_report_claims_no_certainty_because_it_saw_no_miss() -> None:
    labels = np.repeat([1.0, 0.0], 30)
    found = figures(
        Cases(probabilities=np.where(labels == 1, 0.9, 0.1), labels=labels, patients=[str(i // 2) for i in range(60)]), 0.5, draws=20
    )
    for name in ("sensitivity", "specificity", "ppv", "npv"):
        assert (found[name].value, found[name].high) == (1.0, 1.0)
        assert found[name].low == pytest.approx(0.025 ** (1 / 15)), "15 patients of each kind"
