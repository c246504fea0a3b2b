"""Positive labels that are false: what is stated of them is taken off the map, and where they are text-mined the difference is computed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from prioritizer.calibration import verdict
from prioritizer.calibration.cohort_lint import CohortImage
from prioritizer.calibration.local_fit import INTERCEPT, PLATT, SHRUNK, TEMPERATURE, Sample, fitted_to, recalibrate
from prioritizer.calibration.maps import Calibration
from prioritizer.calibration.operating_point import Wish
from prioritizer.clock import utc_now
from prioritizer.errors import ConfigError
from prioritizer.inference.bundle import open_bundle
from prioritizer.recalibration import recalibrate as recalibration_recalibrate
from prioritizer.recalibration import report
from prioritizer.recalibration.cohort import Gathered
from prioritizer.recalibration.outcome import RecalibrationOutcome, RecalibrationRequest
from prioritizer.statistics.logistic import sigmoid

BEFORE = Calibration(id="before", method="platt", slope=1.0, intercept=0.0, t_high=0.5, t_low=0.1)
SHARE = 0.15


def noisy(n: int, seed: int, share: float = SHARE) -> tuple[Sample, np.ndarray]:
    """Cases whose log odds are logit - 1, with so many of the positive labels false; and the truth."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, n)
    truth = rng.random(n) < sigmoid(logits - 1)
    flips = share * truth.sum() / (1 - share) / (~truth).sum()
    labels = (truth | (rng.random(n) < flips)).astype(float)
    return Sample(logits=logits, labels=labels, patients=[str(i) for i in range(n)]), truth.astype(float)


@pytest.mark.parametrize("method", [INTERCEPT, SHRUNK, PLATT])
def test_what_is_stated_of_false_labels_is_taken_off_the_map(method: str) -> None:
    sample, truth = noisy(20_000, 1)
    believed = fitted_to(method, BEFORE, sample)
    corrected = fitted_to(method, BEFORE, replace(sample, false_positives=SHARE))
    x = np.array([-2.0, 0.0, 2.0])
    wrong, right = (np.abs(one.probabilities(x) - sigmoid(x - 1)).max() for one in (believed, corrected))
    assert right < 0.02 < wrong
    assert corrected.probabilities(sample.logits).mean() == pytest.approx(truth.mean(), abs=0.01)


def test_a_temperature_takes_it_off_too() -> None:
    rng = np.random.default_rng(2)
    logits = rng.normal(0, 2, 20_000)
    truth = rng.random(len(logits)) < sigmoid(0.5 * logits)
    flips = SHARE * truth.sum() / (1 - SHARE) / (~truth).sum()
    labels = (truth | (rng.random(len(logits)) < flips)).astype(float)
    sample = Sample(logits=logits, labels=labels, patients=[str(i) for i in range(len(logits))], false_positives=SHARE)
    assert fitted_to(TEMPERATURE, BEFORE, sample).slope == pytest.approx(0.5, abs=0.03)
    assert fitted_to(TEMPERATURE, BEFORE, replace(sample, false_positives=0.0)).slope < 0.45


def test_without_false_labels_nothing_changes() -> None:
    sample, _ = noisy(300, 3)
    assert fitted_to(PLATT, BEFORE, sample) == fitted_to(PLATT, BEFORE, replace(sample, false_positives=0.0))
    odds = np.array([-1.0, 3.0])
    assert sample.as_labelled(odds) is odds
    assert sample.mislabelled == 0


def test_a_label_is_as_probable_as_the_finding_and_the_false_ones_together() -> None:
    sample, truth = noisy(50_000, 4)
    stated = replace(sample, false_positives=SHARE)
    assert stated.prevalence == pytest.approx(truth.mean(), abs=0.01)
    assert sigmoid(stated.as_labelled(sample.logits - 1)).mean() == pytest.approx(sample.labels.mean(), abs=0.01)


def test_of_300_cases_the_mean_probability_is_the_share_with_the_finding() -> None:
    gaps = []
    for seed in range(20):
        sample, truth = noisy(300, seed + 10)
        after = recalibrate(replace(sample, false_positives=SHARE), BEFORE, seed=seed).after
        gaps.append(float(after.probabilities(sample.logits).mean() - truth.mean()))
    assert abs(np.mean(gaps)) < 0.015


def test_an_enriched_cohort_is_moved_back_by_the_share_with_the_finding_not_by_that_of_labels() -> None:
    sample, truth = noisy(20_000, 5)
    stated = replace(sample, false_positives=SHARE)
    after = recalibrate(stated, BEFORE, prevalence=0.1).after
    odds = float(np.log(truth.mean() / (1 - truth.mean())))
    assert after.log_odds(np.array([0.0]))[0] == pytest.approx(-1 + np.log(0.1 / 0.9) - odds, abs=0.1)


# --- as a person meets it ----------------------------------------------------------------------------------------------


def outcome(source: str, **asked: object) -> RecalibrationOutcome:
    sample, _ = noisy(300, 6)
    images = [
        CohortImage(file=f"{i}.dcm", label=int(label), patient=str(i), logit=float(logit), label_source=source)
        for i, (logit, label) in enumerate(zip(sample.logits, sample.labels, strict=True))
    ]
    gathered = Gathered(images=tuple(images), findings=(), form="made", labelled=True)
    request = RecalibrationRequest(cohort=Path("local"), by="anna", **asked)
    return recalibration_recalibrate._by_age(request, open_bundle(None), BEFORE, gathered, utc_now())


def test_text_mined_labels_are_never_fit_and_the_difference_that_they_may_make_is_computed(tmp_path: Path) -> None:
    read, mined = outcome("radiologists"), outcome("text-mined")
    assert (read.advice.word, read.noisy) == (verdict.CARE, "")
    assert read.advice.said.startswith("Specificity"), read.advice.said
    assert mined.advice.word == verdict.CARE
    assert "labels are text-mined" in mined.advice.said.lower()
    assert "--label-noise 0.15" in mined.advice.said
    stated = outcome("text-mined", label_noise=0.15)
    assert stated.noisy == ""
    assert stated.fit is not None
    mean = float(stated.fit.after.probabilities(stated.sample.logits).mean())
    assert f"the mean probability would be {mean:.3f}" in mined.noisy
    assert mined.noisy in report.write(mined, tmp_path / "mined.html").read_text()
    page = report.write(stated, tmp_path / "stated.html").read_text()
    assert "15.0%, as stated" in page
    assert stated.figures_after is not None
    assert stated.figures_after["ece_equal_mass"].value < 0.1, "judged as the labels are, false ones included"


def test_a_share_that_is_none_is_refused_and_so_is_one_without_labels() -> None:
    with pytest.raises(ConfigError, match=r"for example 0\.15"):
        recalibration_recalibrate._possible(RecalibrationRequest(cohort=Path("x"), label_noise=1.5))
    with pytest.raises(ConfigError, match="it needs --cohort"):
        recalibration_recalibrate._possible(RecalibrationRequest(cohort=None, prevalence=0.1, label_noise=0.15))


def test_one_rule_judges_a_recalibration_and_a_network() -> None:
    found = outcome("radiologists")
    assert found.advice.rule == verdict.rule_of()
    few = outcome("radiologists", wish=Wish(sensitivity=0.5))
    assert few.advice.word == verdict.CARE, "the site chose a low sensitivity: it is told, and not advised against"
    assert few.advice.said.startswith("Sensitivity 0.5")
    ignored = outcome("radiologists", ignore_scope=True)
    assert ignored.advice.word == verdict.CARE
    assert "the model's scope was ignored" in ignored.advice.said
