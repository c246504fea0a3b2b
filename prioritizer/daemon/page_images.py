"""Pictures for the pages: films out of the spool by way of the sandbox, heat maps out of the ledger."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from prioritizer.daemon.rendering import SandboxedRenderer
from prioritizer.dicom.spool.spool import Spool
from prioritizer.errors import NotFound, Unprocessable
from prioritizer.imaging.display import Shown
from prioritizer.imaging.heatmap import heat_layer
from prioritizer.inference.sandbox import ChildDied

LAYER_SIDE = 448
"""Pixels of a heat map's layer: it has 7 x 7 cells, the browser enlarges the rest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PageImages:
    """What the pages show of pixels."""

    spool: Spool
    renderer: SandboxedRenderer
    scale: float
    """Contribution to the logit that is drawn strongest."""
    padded: bool

    def film(self, sop_instance_uid: str) -> Shown:
        """A film with all its tones. Raises NotFound where the pixels are gone, Unprocessable where they cannot be shown."""
        path = self._path(sop_instance_uid)
        try:
            return self.renderer.film(path)
        except ChildDied as error:
            raise Unprocessable("pixels", "the image could not be read within the limits of the site") from error

    def display(self, sop_instance_uid: str) -> bytes:
        """The same in the header's window, 8 bits."""
        path = self._path(sop_instance_uid)
        try:
            return self.renderer.display(path)
        except ChildDied as error:
            raise Unprocessable("pixels", "the image could not be read within the limits of the site") from error

    def heat(self, saliency: bytes, rows: int, columns: int) -> bytes:
        """A stored heat map as a layer for a film of these sides, PNG with opacity."""
        cells = np.frombuffer(saliency, dtype="<f4")
        side = int(len(cells) ** 0.5)
        shape = (max(round(LAYER_SIDE * rows / max(rows, columns)), 1), max(round(LAYER_SIDE * columns / max(rows, columns)), 1))
        layer = heat_layer(cells.reshape(side, side), self.scale, shape, padded=self.padded)
        data = BytesIO()
        Image.fromarray(layer).save(data, "PNG")
        return data.getvalue()

    def _path(self, sop_instance_uid: str) -> Path:
        path = self.spool.find(sop_instance_uid)
        if path is None:
            raise NotFound("the pixels of this image have left prioritizer; open it in the viewer")
        return path
