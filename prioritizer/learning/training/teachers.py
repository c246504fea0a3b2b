"""Earlier runs as teachers: of a text-mined label, which is often wrong, a share gives way to the mean probability that they give.

The teachers see each film as it is, the pupil a changed one (Xie et al., Self-training with Noisy Student, CVPR 2020). Labels that
people gave stay as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prioritizer.inference.bundle import sha256_of
from prioritizer.learning.cohorts.decoded_images import load_pictures
from prioritizer.learning.cohorts.labelled_image import TEXT_MINED, LabelledImage
from prioritizer.learning.evaluation.subjects import open_subject
from prioritizer.learning.training.run_folder import BEST, Journal
from prioritizer.statistics.logistic import sigmoid

BATCH = 32


def facts(runs: Sequence[Path]) -> list[dict[str, Any]]:
    """What a run says of its teachers. Raises ConfigError where a folder holds no finished run."""
    for run in runs:
        Journal(run).load(name=BEST)
    return [{"run": run.resolve().name, "sha256": sha256_of(run / BEST)} for run in runs]


def targets(runs: Sequence[Path], images: Sequence[LabelledImage], share: float) -> NDArray[np.float32]:
    """What is asked of each image: float32 (N,), 0..1. With several teachers, `share` of it is the mean of their probabilities."""
    asked = np.array([image.label for image in images], dtype=np.float32)
    mined = np.array([index for index, image in enumerate(images) if image.label_source == TEXT_MINED], dtype=np.int64)
    probabilities = np.zeros(len(mined))
    for run in runs:
        subject = open_subject(run)
        for start in range(0, len(mined), BATCH):
            pictures, _ = load_pictures([images[i] for i in mined[start : start + BATCH].tolist()], subject.spec)
            probabilities[start : start + BATCH] += sigmoid(subject.score(pictures).logits) / len(runs)
    asked[mined] = (1 - share) * asked[mined] + share * probabilities.astype(np.float32)
    return asked
