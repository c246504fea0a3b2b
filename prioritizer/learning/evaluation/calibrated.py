"""A network ready to be judged: its calibration and threshold, which never come from the films that are reported on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from prioritizer.calibration.maps import Calibration
from prioritizer.learning.bundling.first_calibration import first_maps
from prioritizer.learning.cohorts.splits import Splits
from prioritizer.learning.evaluation.inference_pass import look
from prioritizer.learning.evaluation.subjects import Subject
from prioritizer.learning.evaluation.trials import EvaluationSet


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fitted:
    """A network with its map, its threshold t_high, and the scale its heat maps are drawn on."""

    subject: Subject
    calibration: Calibration
    scale: float
    """Contribution of one cell to the logit that is drawn strongest; 0 where the network gives no map."""
    how: str
    """Where map and threshold come from, in a sentence."""

    def calibration_for(self, trial: EvaluationSet) -> Calibration:
        """The map for the films of a trial."""
        return self.calibration if trial.ages is None else self.calibration.of_group(trial.ages)


class Progress:
    """Counts films over several steps for one bar."""

    def __init__(self, tick: Callable[[int, int, str], None], total: int) -> None:
        self._tick, self._total, self._done = tick, total, 0

    def named(self, said: str) -> Callable[[], None]:
        """A function that moves the bar by one and says this."""

        def one_more() -> None:
            self._done += 1
            self._tick(self._done, max(self._total, self._done), said)

        return one_more


def films_to_fit(subject: Subject, splits: Splits | None) -> int:
    """Films that `fitted` will read."""
    return len(splits["calib"]) if subject.calibration is None and splits else 0


def fitted(subject: Subject, splits: Splits | None, root: Path, target: float, progress: Progress) -> Fitted:
    """A bundle as it is; a run with the map that `export` would give it, and the threshold of the target sensitivity, both from `calib`."""
    if subject.calibration is not None:
        own = subject.calibration
        how = f"the bundle's own calibration {own.id} and its t_high, fitted on {own.fitted_on or 'data not stated'}"
        return Fitted(subject=subject, calibration=own, scale=subject.saliency_scale or 0.0, how=how)
    assert splits is not None
    said = progress.named(f"fitting {subject.name}")
    calib = look(subject, splits["calib"], root, said, lungs=False)
    first = first_maps(subject.name, calib.images, calib.logits, target=target, fitted_on="calib split of the run")
    maps = calib.scores.saliency
    scale = 0.0 if maps is None else float(np.percentile(maps.max(axis=(1, 2)), 95))
    how = (
        f"{first.how} fitted on the split calib ({len(calib.images)} films), chosen there in cross-validation by patient; threshold "
        f"t_high at a sensitivity of {target:g} on calib"
    )
    return Fitted(subject=subject, calibration=first.calibration, scale=scale, how=how)
