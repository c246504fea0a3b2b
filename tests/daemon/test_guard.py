"""What the guard says of a picture decides what becomes of its study: by the rule, the stage and the calibration in force."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from prioritizer.daemon.score import ScoreWorker
from prioritizer.db.decisions import activation, calibrations
from prioritizer.db.decisions.activation import Decision
from prioritizer.db.decisions.calibrations import CandidateVerdict
from prioritizer.db.processing import out_of_distribution as processing_out_of_distribution
from prioritizer.db.worklist import study as worklist_study
from prioritizer.ranking.deadlines import Stage
from prioritizer.scope.out_of_distribution import Figures
from tests.support.ledgers import NOW, policy_with
from tests.support.phantom_spool import Box, phantom
from tests.support.score_worker import outputs, station

STRANGER = Figures(image_kind=0.3, out_of_distribution=1.5)


@pytest.fixture
def box(ledger: sa.Engine, tmp_path: Path) -> Box:
    box = Box(ledger, tmp_path)
    box.stored(phantom(1))
    box.receive()
    return box


def scoring(box: Box, figures: Figures, stage: Stage) -> ScoreWorker:
    work = station(box, lambda path: np.zeros((224, 224), np.float32), lambda picture: replace(outputs(picture), figures=figures))
    work.policy = policy_with(work.policy, stage=stage)
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


def activate_local(box: Box, work: ScoreWorker) -> None:
    fit = CandidateVerdict(word="fit to activate", said="It separates well.", report="report.html")
    calibrations.add(box.ledger, work.bundle.digest, replace(work.bundle.calibration, id="local"), fit, "anna", NOW)
    activation.activate(box.ledger, "local", Decision(who="berta"), work.policy, NOW)


def test_another_population_is_scored_once_the_site_is_calibrated(box: Box):
    work = scoring(box, STRANGER, Stage.ACTIVE)
    activate_local(box, work)
    assert work.step()
    assert box.row(str(phantom(1).StudyInstanceUID)).ai_state == "SCORED"


def test_what_was_left_out_is_scored_by_the_station_once_the_site_is_calibrated_and_left_out_again_without(box: Box):
    study, work = str(phantom(1).StudyInstanceUID), scoring(box, STRANGER, Stage.ACTIVE)
    assert work.step()
    activate_local(box, work)
    assert processing_out_of_distribution.judge_again(box.ledger, work.policy, NOW)
    assert work.step()
    assert box.row(study).ai_state == "SCORED"
    activation.roll_back(box.ledger, "berta", work.policy, NOW)
    assert box.row(study).ai_state == "NOT_SCORED"
    assert not processing_out_of_distribution.judge_again(box.ledger, work.policy, NOW)


@pytest.mark.parametrize("stage", [Stage.SHADOW, Stage.ACTIVE])
def test_the_distance_is_kept_whether_the_image_was_scored_or_left_out(box: Box, stage: Stage):
    work = scoring(box, STRANGER, stage)
    assert work.step()
    (image,) = worklist_study.study_instances(box.ledger, str(phantom(1).StudyInstanceUID))
    assert (image.out_of_distribution, image.measured_by) == (1.5, work.bundle.digest)


def test_a_guard_with_one_measure_tells_no_distance(box: Box):
    work = scoring(box, Figures(image_kind=0.5, out_of_distribution=0.5, one_measure=True), Stage.ACTIVE)
    assert work.step()
    (image,) = worklist_study.study_instances(box.ledger, str(phantom(1).StudyInstanceUID))
    assert (image.state, image.out_of_distribution, image.measured_by) == ("SCORED", None, "")
