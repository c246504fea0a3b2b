"""What is asked of a recalibration, and what comes of it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from prioritizer.calibration.local_fit import Fit, Sample
from prioritizer.calibration.maps import AgeGroup, Calibration
from prioritizer.calibration.operating_point import OperatingPoint, Wish
from prioritizer.calibration.verdict import AUC_FLOOR, Fitness
from prioritizer.inference.bundle import Bundle
from prioritizer.recalibration.assessment import Assessment
from prioritizer.recalibration.cohort import Gathered
from prioritizer.statistics.intervals import Figure

CROSS_FITTED = ("sensitivity", "specificity", "share_raised")
"""Figures at a threshold: of a proposed one they are taken cross-fitted, never from the cases that set it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecalibrationRequest:
    """What a person asked for."""

    cohort: Path | None
    labels: Path | None = None
    unlabelled: bool = False
    """The labels of the cohort, if any, are not looked at: a shift to `prevalence` only."""
    prevalence: float | None = None
    """Share of pneumonia among the site's studies."""
    label_noise: float = 0.0
    """Share of the positive labels that are false."""
    wish: Wish = field(default_factory=Wish)
    ages: AgeGroup | None = None
    """Whose map is fitted, where the calibration in force has one for each age group; None: every one that the cohort carries."""
    ignore_scope: bool = False
    auc_floor: float = AUC_FLOOR
    by: str = ""
    report: Path | None = None
    cache: Path | None = None
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RecalibrationOutcome:
    """What came of it for one age group, or for everybody; `candidate` is None where the cohort could not carry one."""

    request: RecalibrationRequest
    bundle: Bundle
    in_force: Calibration
    """The whole calibration that applies, with the maps of all age groups."""
    before: Calibration
    """The map of it that the fit starts from."""
    ages: AgeGroup | None
    """Whose map it is; None: everybody's."""
    made_at: datetime
    advice: Fitness
    gathered: Gathered | None = None
    candidate: Calibration | None = None
    """The map in its place."""
    entered: Calibration | None = None
    """The whole candidate: what applies, with the maps that were fitted in the place of theirs."""
    noisy: str = ""
    """What false positives among text-mined labels would change, in words."""
    also: tuple[RecalibrationOutcome, ...] = ()
    """What came of it for the other age group, where the cohort carries both."""
    refused: str = ""
    fit: Fit | None = None
    point: OperatingPoint | None = None
    auc: Figure | None = None
    assessment: Assessment | None = None
    """What the candidate is worth on the cohort; None where nothing was fitted to labels."""
    figures_before: dict[str, Figure] | None = None
    figures_after: dict[str, Figure] | None = None

    @property
    def sample(self) -> Sample:
        """The cases that are analysed, with what is stated of their labels."""
        assert self.gathered is not None
        return replace(self.gathered.sample, false_positives=self.request.label_noise)
