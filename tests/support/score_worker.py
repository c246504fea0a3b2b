"""A score worker whose pixels are read and whose network is run by functions of the test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from prioritizer.config.policy import policy_of
from prioritizer.config.settings import Settings
from prioritizer.daemon.score import ScoreWorker
from prioritizer.dicom.read.sandboxed import ModelInput
from prioritizer.inference.bundle import open_bundle
from prioritizer.inference.engine import Outputs
from prioritizer.scope.out_of_distribution import Figures
from tests.support.phantom_spool import Box


def outputs(picture: Any) -> Outputs:
    zero = np.zeros((1, 7, 7), np.float32)
    return Outputs(logit=np.zeros(1, np.float32), saliency=zero, embedding=np.zeros((1, 4), np.float32), figures=Figures())


def station(box: Box, read: Callable[[Path], Any], score: Callable[[Any], Outputs] = outputs, **more: Any) -> ScoreWorker:
    settings, bundle = Settings(), open_bundle(None)
    return ScoreWorker(
        engine=box.ledger,
        spool=box.spool,
        bundle=bundle,
        renderer=SimpleNamespace(model_input=lambda path: ModelInput(picture=read(path))),
        scorer=SimpleNamespace(name="x", precision="f32", score=score),
        settings=settings,
        policy=policy_of(settings, bundle),
        worker="w",
        **more,
    )
