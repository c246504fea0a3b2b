"""An earlier run as a teacher: of a text-mined label, which is often wrong, a share gives way to the probability that the run gives.

The teacher sees each film as it is, the pupil a changed one (Xie et al., Self-training with Noisy Student, CVPR 2020). Labels that
people gave stay as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prioritizer.calibration import sigmoid
from prioritizer.inference.bundle import sha256_of
from prioritizer.learning.journal import BEST, Journal
from prioritizer.learning.labelled import TEXT_MINED, LabelledImage
from prioritizer.learning.pictures import load_pictures
from prioritizer.learning.subjects import open_subject

BATCH = 32


def facts(run: Path | None) -> dict[str, Any] | None:
    """What a run says of its teacher; None without one. Raises ConfigError where the folder holds no finished run."""
    if run is None:
        return None
    Journal(run).load(name=BEST)
    return {"run": run.resolve().name, "sha256": sha256_of(run / BEST)}


def targets(run: Path, images: Sequence[LabelledImage], share: float) -> NDArray[np.float32]:
    """What is asked of each image: float32 (N,), 0..1."""
    asked = np.array([image.label for image in images], dtype=np.float32)
    mined = np.array([index for index, image in enumerate(images) if image.label_source == TEXT_MINED], dtype=np.int64)
    subject = open_subject(run)
    for start in range(0, len(mined), BATCH):
        at = mined[start : start + BATCH]
        pictures, _ = load_pictures([images[i] for i in at.tolist()], subject.spec)
        asked[at] = (1 - share) * asked[at] + share * sigmoid(subject.score(pictures).logits).astype(np.float32)
    return asked
