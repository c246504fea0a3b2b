"""The self-test of a bundle on this machine: its golden inputs must give its golden outputs before anything is scored with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from prioritizer.errors import ModelError
from prioritizer.inference.bundle import TOLERANCE

if TYPE_CHECKING:  # the engine takes its time to import
    from prioritizer.inference.engine import Engine, Float32, Outputs


def prove(engine: Engine) -> float:
    """The largest difference in probability on the golden inputs. Raises ModelError when it is over the tolerance."""
    golden = engine.bundle.golden()
    worst = 0.0
    for picture, logit, saliency in zip(golden.pictures, golden.logit, golden.saliency, strict=True):
        outputs = engine.score(picture.astype(np.float32) / np.float32(255))
        for _, calibration in engine.bundle.calibration.maps():
            worst = max(worst, abs(calibration.probability(float(outputs.logit[0])) - calibration.probability(float(logit))))
        _prove_saliency(engine, outputs, saliency)
    if not worst <= TOLERANCE[engine.precision]:
        raise ModelError(
            f"self-test failed: probability differs by {worst:.2g} from the bundle's golden outputs ({engine.precision})",
            'Set model.precision to "f32"; if it fails there too, this processor or OpenVINO build cannot be trusted',
        )
    return worst


def _prove_saliency(engine: Engine, outputs: Outputs, expected: Float32) -> None:
    """The map is the golden one and sums with the bias to the logit, within the precision."""
    limit = {"f32": 1e-3, "bf16": 0.25}[engine.precision]
    gap = abs(float(outputs.saliency.sum()) + engine.bundle.bias - float(outputs.logit[0]))
    if not (gap <= limit and float(np.abs(outputs.saliency[0] - expected).max()) <= limit):
        raise ModelError("self-test failed: the saliency is not that of the bundle's golden outputs", "Copy the bundle again")
