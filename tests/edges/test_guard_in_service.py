"""What the guard says of a picture decides what becomes of its study: by the rule, the stage and the calibration in force."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from prioritizer.db import activating, calibrations
from prioritizer.db.activating import Decision
from prioritizer.db.calibrations import Verdict
from prioritizer.likeness import Figures
from prioritizer.ranking import Stage
from prioritizer.stations import ScoreStation
from tests.edges.ledgers import AT_ONCE, NOW, ledger_fixture  # noqa: F401
from tests.edges.spooled import Box, phantom
from tests.edges.test_deaths import outputs, station

STRANGER = Figures(image_kind=0.3, out_of_distribution=1.5)


@pytest.fixture
def box(ledger: sa.Engine, tmp_path: Path) -> Box:
    box = Box(ledger, tmp_path)
    box.stored(phantom(1))
    box.receive()
    return box


def scoring(box: Box, figures: Figures, stage: Stage) -> ScoreStation:
    work = station(box, lambda path: np.zeros((224, 224), np.float32), lambda picture: replace(outputs(picture), figures=figures))
    work.policy = replace(work.policy, stage=stage)
    return work


def scored(box: Box, figures: Figures, stage: Stage) -> Any:
    assert scoring(box, figures, stage).step()
    return box.row(str(phantom(1).StudyInstanceUID))


@pytest.mark.parametrize("stage", Stage)
def test_what_is_no_chest_radiograph_is_never_scored(box: Box, stage: Stage):
    row = scored(box, Figures(image_kind=1.5), stage)
    assert row.ai_state == "NOT_SCORED"
    assert "not a frontal chest radiograph" in row.ai_reason


@pytest.mark.parametrize(("stage", "state"), [(Stage.SHADOW, "SCORED"), (Stage.PILOT, "NOT_SCORED"), (Stage.ACTIVE, "NOT_SCORED")])
def test_another_population_is_scored_where_nothing_is_marked_or_moved(box: Box, stage: Stage, state: str):
    row = scored(box, STRANGER, stage)
    assert row.ai_state == state
    assert ("another population or device" in row.ai_reason) is (state == "NOT_SCORED")


def test_another_population_is_scored_once_the_site_is_calibrated(box: Box):
    work = scoring(box, STRANGER, Stage.ACTIVE)
    own = work.bundle.calibration
    fit = Verdict(word="fit to activate", said="It separates well.", report="report.html")
    calibrations.add(box.ledger, work.bundle.digest, replace(own, id="local"), fit, "anna", NOW)
    activating.activate(box.ledger, "local", Decision(who="berta"), work.policy, AT_ONCE, NOW)
    assert work.step()
    assert box.row(str(phantom(1).StudyInstanceUID)).ai_state == "SCORED"
