"""Where pixels become pictures: the sandboxed children, within the site's time limit."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from prioritizer.dicom.read import sandboxed
from prioritizer.dicom.read.sandboxed import ModelInput
from prioritizer.dicom.result.secondary_capture import CaptureFacts, CaptureObject
from prioritizer.imaging.display import Shown
from prioritizer.imaging.preprocessing import Preprocessing
from prioritizer.inference.sandbox import Sandbox


class SandboxedRenderer:
    """Pixels in the sandboxed children, within the site's time limit."""

    def __init__(self, sandbox: Sandbox, timeout_s: float, spec: Preprocessing) -> None:
        self._sandbox, self._timeout_s, self._spec = sandbox, timeout_s, spec

    def model_input(self, path: Path) -> sandboxed.ModelInput:
        """The picture the network sees, with the warnings about how it was drawn."""
        return self._sandbox.run(sandboxed.model_input, self._timeout_s, path, self._spec)

    def capture(self, path: Path, saliency: NDArray[np.float32] | None, facts: CaptureFacts) -> CaptureObject:
        """The result object."""
        return self._sandbox.run(sandboxed.capture, self._timeout_s * 2, path, saliency, facts)

    def film(self, path: Path) -> Shown:
        """The radiograph for the study page, all its tones."""
        return self._sandbox.run(sandboxed.film_png, self._timeout_s, path)

    def display(self, path: Path) -> bytes:
        """The same in the header's window, as PNG."""
        return self._sandbox.run(sandboxed.display_png, self._timeout_s, path)


class Renderer(Protocol):
    """Where pixels become pictures: the sandbox in service, in-process in tests."""

    def model_input(self, path: Path) -> ModelInput:
        """The picture the network sees, float32 (S, S), 0..1, with the warnings about how it was drawn."""

    def capture(self, path: Path, saliency: NDArray[np.float32] | None, facts: CaptureFacts) -> CaptureObject:
        """The result object of a scored instance."""
