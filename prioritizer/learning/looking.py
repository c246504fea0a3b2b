"""A network looks at a cohort: logits, maps, distances, and how much of each map falls on the lungs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from prioritizer.calibration import Calibration
from prioritizer.errors import ConfigError
from prioritizer.learning.labelled import Fault, LabelledImage
from prioritizer.learning.lungs import lung_fields, share_inside
from prioritizer.learning.pictures import load_readable
from prioritizer.learning.subjects import Float32, Float64, Scores, Subject
from prioritizer.measures import Cases

BATCH = 16


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Looked:
    """What a network says of the readable images of a cohort, all in one order, N of them."""

    images: tuple[LabelledImage, ...]
    scores: Scores
    inside: Float64
    """Share of each map's positive contributions that fall on the lungs; NaN without a map."""
    lung_area: Float64
    """Share of each picture that is lung."""
    plausible: NDArray[np.bool_]
    """Lungs were found; elsewhere a template stood in."""
    faults: tuple[Fault, ...]

    @property
    def logits(self) -> Float64:
        """Shape (N,)."""
        return self.scores.logits

    @property
    def labels(self) -> Float64:
        """Shape (N,), 0 or 1."""
        return np.array([image.label for image in self.images], dtype=np.float64)

    @property
    def patients(self) -> list[str]:
        """The patient of each image."""
        return [image.patient for image in self.images]

    def cases(self, calibration: Calibration) -> Cases:
        """Calibrated probabilities with labels and patients."""
        return Cases(probabilities=calibration.probabilities(self.logits), labels=self.labels, patients=self.patients)


def look(
    subject: Subject, images: Sequence[LabelledImage], root: Path, tick: Callable[[], None] = lambda: None, *, lungs: bool = True
) -> Looked:
    """Read and score every image; one that cannot be read becomes a fault. Raises ConfigError where none can, or a class is missing."""
    parts: list[Scores] = []
    kept: list[LabelledImage] = []
    faults: list[Fault] = []
    where: list[tuple[float, float, bool]] = []
    for start in range(0, len(images), BATCH):
        pictures, readable, unread = load_readable(images[start : start + BATCH], subject.spec, root, tick)
        faults += unread
        if not readable:
            continue
        scores = subject.score(pictures)
        kept += readable
        parts.append(scores)
        where += [_where(picture, scores, index, lungs=lungs) for index, picture in enumerate(pictures)]
    if len({image.label for image in kept}) < 2:
        raise ConfigError((f"{root}: films with and without pneumonia are needed, {len(kept)} readable ones of one class were found",))
    inside, area, plausible = (np.array(column) for column in zip(*where, strict=True))
    return Looked(
        images=tuple(kept), scores=_joined(parts), inside=inside, lung_area=area, plausible=plausible.astype(bool), faults=tuple(faults)
    )


def _where(picture: Float32, scores: Scores, index: int, *, lungs: bool) -> tuple[float, float, bool]:
    if not lungs:
        return float("nan"), float("nan"), False
    found = lung_fields(picture)
    share = float("nan") if scores.saliency is None else share_inside(scores.saliency[index], found.mask)
    return share, found.area, found.plausible


def _joined(parts: Sequence[Scores]) -> Scores:
    maps = [part.saliency for part in parts if part.saliency is not None]
    distances = [part.distance for part in parts if part.distance is not None]
    return Scores(
        logits=np.concatenate([part.logits for part in parts]),
        saliency=np.concatenate(maps) if maps else None,
        distance=np.concatenate(distances) if distances else None,
    )
