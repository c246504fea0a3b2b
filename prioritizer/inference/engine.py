"""Arrays to logit, saliency and embedding, on OpenVINO. Importing this module imports no torch."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from prioritizer.errors import ModelError
from prioritizer.imaging import preprocessing
from prioritizer.inference.bundle import Bundle
from prioritizer.scope.out_of_distribution import NOT_ASKED, Figures

# Nothing leaves the site: reading a model, OpenVINO reports to its maker by HTTPS, unless this module cannot be imported.
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
import openvino  # noqa: E402

Float32 = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outputs:
    """What the network says of N images."""

    logit: Float32
    """Shape (N,)."""
    saliency: Float32
    """Shape (N, 7, 7): each cell's contribution to the logit; the sum plus the bias is the logit."""
    embedding: Float32
    """Shape (N, D)."""
    figures: Figures = NOT_ASKED
    """What the bundle's guard says of the one picture that was scored."""


class Engine:
    """A compiled bundle. `name`, `precision` and the bundle's digest are part of every score."""

    def __init__(self, bundle: Bundle, *, precision: str = "f32", threads: int = 0) -> None:
        self.bundle = bundle
        self.precision = precision
        self.name = f"openvino-{openvino.__version__.split('-')[0]}"
        self._guard = bundle.guard()
        core = openvino.Core()
        try:
            # Read from memory: a graph with external data or a foreign operator does not load.
            model = core.read_model(model=bundle.model_file.read_bytes(), weights=b"")
            # One image at a time: a fixed shape is a quarter faster than a free one, and batches gain nothing on a CPU.
            side = bundle.preprocessing.size
            model.reshape({0: [1, 3, side, side]})
            config = {
                "PERFORMANCE_HINT": "LATENCY",
                "INFERENCE_PRECISION_HINT": precision,
                "NUM_STREAMS": "1",
                **({"INFERENCE_NUM_THREADS": threads} if threads else {}),
            }
            self._request = core.compile_model(model, "CPU", config).create_infer_request()
        except RuntimeError as error:
            raise ModelError(f"{bundle.model_file} cannot be compiled", "Copy the bundle again, or report it with `check`") from error

    def infer(self, images: Float32) -> Outputs:
        """Outputs for model input float32 (N, 3, S, S); the guard, which looks at pictures, is not asked."""
        answers = [self._infer_one(images[i : i + 1]) for i in range(len(images))]
        logit, saliency, embedding = (np.concatenate(parts) for parts in zip(*answers, strict=True))
        return Outputs(logit=logit, saliency=saliency, embedding=embedding)

    def _infer_one(self, image: Float32) -> tuple[Float32, ...]:
        answer = self._request.infer({0: image})
        return tuple(np.array(answer[name], dtype=np.float32) for name in ("logit", "saliency", "embedding"))

    def score(self, picture: Float32) -> Outputs:
        """Outputs for one picture float32 (S, S), 0..1, with the guard's figures; all 0 where the bundle has no guard."""
        outputs = self.infer(preprocessing.normalised(picture[None], self.bundle.preprocessing))
        figures = Figures() if self._guard is None else self._guard.figures(outputs.embedding[0], picture)
        return replace(outputs, figures=figures)
