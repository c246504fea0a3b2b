"""Two hospitals of phantoms, and runs trained on both and on one of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from prioritizer.learning.cohorts.read import Cohort


@pytest.fixture(scope="module")
def hospitals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sources file of two sites: one whose films learn and judge, one with mined films that learn and read films that judge."""
    from tests.support.hospitals import two_hospitals

    return two_hospitals(tmp_path_factory.mktemp("hospitals"))


@pytest.fixture(scope="module")
def cohort(hospitals: Path) -> Cohort:
    """What the sources file names, read."""
    from prioritizer.learning.cohorts.read import read_cohort

    return read_cohort(hospitals)


@pytest.fixture(scope="module")
def run(hospitals: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that learns from both."""
    from prioritizer.learning.training import train
    from tests.support.hospitals import QUICK

    target = tmp_path_factory.mktemp("runs") / "two"
    train.train(hospitals, target, QUICK, say=lambda said: None)
    return target


@pytest.fixture(scope="module")
def run_without_west(hospitals: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that learns from the eastern one alone."""
    from prioritizer.learning.training import train
    from tests.support.hospitals import QUICK

    target = tmp_path_factory.mktemp("runs") / "east-only"
    train.train(hospitals, target, QUICK, without=["west"], say=lambda said: None)
    return target
