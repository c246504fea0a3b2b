"""A network looks at a cohort: logits, maps, distances, and how much of each map falls on the lungs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from prioritizer.calibration.maps import Calibration
from prioritizer.errors import ConfigError
from prioritizer.learning.cohorts.decoded_images import load_readable
from prioritizer.learning.cohorts.labelled_image import Fault, LabelledImage
from prioritizer.learning.evaluation.lungs import lung_fields, share_inside
from prioritizer.learning.evaluation.pointing import lungs_of, mask_of, peak_lies_in
from prioritizer.learning.evaluation.subjects import Float32, Float64, Scores, Subject
from prioritizer.statistics.intervals import Cases

BATCH = 16
NONE = float("nan")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class InferencePass:
    """What a network says of the readable images of a cohort, all in one order, N of them."""

    images: tuple[LabelledImage, ...]
    scores: Scores
    inside: Float64
    """Share of each map's positive contributions that fall on the lungs; NaN without a map."""
    lung_area: Float64
    """Share of each picture that is lung."""
    plausible: NDArray[np.bool_]
    """Lungs are known by a mask, or were found; elsewhere a template stood in."""
    boxed: Float64
    """Share of each map's positive contributions that falls in radiologists' boxes; NaN without a map or boxes."""
    peaks: Float64
    """1 where a map's highest point lies in a box, 0 where it does not; NaN without a map or boxes."""
    box_area: Float64
    """Share of each picture that is boxed; NaN without boxes."""
    faults: tuple[Fault, ...]

    @property
    def masked(self) -> NDArray[np.bool_]:
        """Which images have a lung mask, so that nothing has to be looked for."""
        return np.array([image.mask is not None for image in self.images])

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
) -> InferencePass:
    """Read and score every image; one that cannot be read becomes a fault. Raises ConfigError where none can, or a class is missing."""
    parts: list[Scores] = []
    kept: list[LabelledImage] = []
    faults: list[Fault] = []
    where: list[tuple[float, ...]] = []
    for start in range(0, len(images), BATCH):
        pictures, readable, unread = load_readable(images[start : start + BATCH], subject.spec, root, tick)
        faults += unread
        if not readable:
            continue
        scores = subject.score(pictures)
        kept += readable
        parts.append(scores)
        where += [
            (*_on_lungs(image, picture, scores, index, lungs=lungs), *_in_boxes(image, scores, index))
            for index, (image, picture) in enumerate(zip(_drawn_as(subject, readable), pictures, strict=True))
        ]
    if len({image.label for image in kept}) < 2:
        raise ConfigError((f"{root}: films with and without pneumonia are needed, {len(kept)} readable ones of one class were found",))
    inside, area, plausible, boxed, peaks, box_area = (np.array(column, dtype=np.float64) for column in zip(*where, strict=True))
    return InferencePass(
        images=tuple(kept),
        scores=_joined(parts),
        inside=inside,
        lung_area=area,
        plausible=plausible.astype(bool),
        boxed=boxed,
        peaks=peaks,
        box_area=box_area,
        faults=tuple(faults),
    )


def _drawn_as(subject: Subject, images: Sequence[LabelledImage]) -> Sequence[LabelledImage]:
    """The images, without masks and boxes where the network is fed pictures of another shape than these were made for."""
    if subject.spec.resize == "squash":
        return images
    return [replace(image, mask=None, boxes=None) for image in images]


def _on_lungs(image: LabelledImage, picture: Float32, scores: Scores, index: int, *, lungs: bool) -> tuple[float, float, bool]:
    """Share of the map on the lungs, their share of the picture, and whether they are known or were found."""
    if not lungs:
        return NONE, NONE, False
    if image.mask is not None:
        mask, area, plausible = (known := lungs_of(image.mask)), float(known.mean()), True
    else:
        found = lung_fields(picture)
        mask, area, plausible = found.mask, found.area, found.plausible
    share = NONE if scores.saliency is None else share_inside(scores.saliency[index], mask)
    return share, area, plausible


def _in_boxes(image: LabelledImage, scores: Scores, index: int) -> tuple[float, float, float]:
    """Share of the map in the boxes, whether its highest point lies in one, and the boxes' share of the picture."""
    if not image.boxes:
        return NONE, NONE, NONE
    mask = mask_of(image.boxes)
    if scores.saliency is None:
        return NONE, NONE, float(mask.mean())
    saliency = scores.saliency[index]
    return share_inside(saliency, mask), float(peak_lies_in(saliency, mask)), float(mask.mean())


def _joined(parts: Sequence[Scores]) -> Scores:
    maps = [part.saliency for part in parts if part.saliency is not None]
    distances = [part.distance for part in parts if part.distance is not None]
    return Scores(
        logits=np.concatenate([part.logits for part in parts]),
        saliency=np.concatenate(maps) if maps else None,
        distance=np.concatenate(distances) if distances else None,
    )
