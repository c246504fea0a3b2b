"""Does the network read the lungs or the file? Its ROC area beside that of a model without pictures, and on changed pictures.

Four disturbances change sharpness, compression, noise and tone: a network that reads how files were made falls on them. Two cover
part of the picture with its mean grey: without the border nothing should be lost, without the lungs nearly all should. And one sets
the lungs into the surround of a film of the other class: a network that reads the lungs loses little, one that reads what stands
around them is wrong on every film.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from prioritizer.learning.cohorts.decoded_images import load_readable
from prioritizer.learning.cohorts.labelled_image import LabelledImage
from prioritizer.learning.description import shortcuts
from prioritizer.learning.description.metadata_control import MIN_COUNT
from prioritizer.learning.evaluation.inference_pass import BATCH, InferencePass
from prioritizer.learning.evaluation.lungs import lung_fields
from prioritizer.learning.evaluation.pointing import lungs_of
from prioritizer.learning.evaluation.subjects import Float32, Float64, Subject
from prioritizer.learning.training.augment import disturbed
from prioritizer.learning.training.surround_swap import in_surrounds, lung_boxes, of_the_other_class
from prioritizer.statistics import delong
from prioritizer.statistics.intervals import Figure

MAX_COUNT = 200
"""Films on which the copies are scored: six more runs of the network each, and 200 carry an area to within 0.03."""
BORDER = 0.08
"""Share of the side that is covered at each edge: where markers, collimation and letters stand."""
NO_BORDER, NO_LUNGS, UNCHANGED = "without the border", "without the lungs", "unchanged"
ELSEWHERE = "in the surround of the other class"


@dataclass(frozen=True, slots=True, kw_only=True)
class Robustness:
    """The controls of R14."""

    metadata: Figure | None
    """ROC area of a model on file statistics alone; None where there are too few films."""
    matched: float
    """The network's, in a population whose classes have like file statistics."""
    copies: dict[str, Figure]
    """ROC area by name of the change, `unchanged` among them, on the same `n` films."""
    n: int
    refused: float | None
    """Share of all films that the guard refuses."""

    @property
    def judged(self) -> dict[str, float]:
        """What the verdict looks at: shortcuts taken away, the finding left in."""
        apart = (NO_LUNGS, UNCHANGED, NO_BORDER, ELSEWHERE)
        found = {f"on copies {name}": figure.value for name, figure in self.copies.items() if name not in apart}
        if NO_BORDER in self.copies:
            found[NO_BORDER] = self.copies[NO_BORDER].value
        return {"matched by file statistics": self.matched, **found} if self.metadata is not None else found


def robustness(subject: Subject, looked: InferencePass, root: Path, tick: Callable[[], None] = lambda: None, seed: int = 0) -> Robustness:
    """All controls of a network on a cohort."""
    labels, patients = looked.labels, looked.patients
    metadata, matched = None, float("nan")
    if min(labels.sum(), (1 - labels).sum()) >= MIN_COUNT:
        statistics = shortcuts.file_statistics(looked.images)
        chance = shortcuts.propensity(statistics.values, labels, patients, seed)
        metadata = shortcuts.auc_figure(labels, chance, patients, seed)
        matched = shortcuts.matched_auc(labels, looked.logits, chance)
    index = chosen(labels, seed)
    distance = looked.scores.distance
    return Robustness(
        metadata=metadata,
        matched=matched,
        copies=_copies(subject, looked, index, root, tick),
        n=len(index),
        refused=None if distance is None else float((distance > 1).mean()),
    )


def chosen(labels: Float64, seed: int) -> list[int]:
    """Up to MAX_COUNT films, both classes in their shares, drawn by the seed."""
    if len(labels) <= MAX_COUNT:
        return list(range(len(labels)))
    rng = np.random.default_rng(seed)
    parts = [rng.permutation(np.flatnonzero(labels == label)) for label in (0, 1)]
    kept = [part[: max(round(MAX_COUNT * len(part) / len(labels)), 2)] for part in parts]
    return sorted(int(index) for index in np.concatenate(kept))


def _copies(subject: Subject, looked: InferencePass, index: Sequence[int], root: Path, tick: Callable[[], None]) -> dict[str, Figure]:
    logits: dict[str, list[Float64]] = {UNCHANGED: [looked.logits[list(index)]]}
    labels, patients = looked.labels[list(index)], [looked.patients[i] for i in index]
    others = of_the_other_class(labels)
    for start in range(0, len(index), BATCH):
        images = [looked.images[i] for i in index[start : start + BATCH]]
        pictures, _, _ = load_readable(images, subject.spec, root)
        around, _, _ = load_readable([looked.images[index[i]] for i in others[start : start + BATCH]], subject.spec, root)
        copies = {name: np.asarray(copy[:, 0].numpy()) for name, copy in disturbed(torch.from_numpy(pictures)[:, None]).items()}
        copies |= {
            NO_BORDER: _without_border(pictures),
            NO_LUNGS: _without_lungs(pictures, images),
            ELSEWHERE: _elsewhere(pictures, around),
        }
        for name, changed in copies.items():
            logits.setdefault(name, []).append(subject.score(changed).logits)
        for _ in images:
            tick()
    return {name: delong.area(labels, np.concatenate(parts), patients) for name, parts in logits.items()}


def _without_border(pictures: Float32) -> Float32:
    """Copies whose edges are their mean grey."""
    edge = round(BORDER * pictures.shape[-1])
    changed = np.broadcast_to(pictures.mean(axis=(1, 2), keepdims=True), pictures.shape).copy()
    changed[:, edge:-edge, edge:-edge] = pictures[:, edge:-edge, edge:-edge]
    return changed


def _elsewhere(pictures: Float32, around: Float32) -> Float32:
    """The lungs of each picture in the surround of another."""
    one, other = (torch.from_numpy(found)[:, None] for found in (pictures, around))
    return np.asarray(in_surrounds(one, lung_boxes(one), other, lung_boxes(other))[:, 0].numpy())


def _without_lungs(pictures: Float32, images: Sequence[LabelledImage]) -> Float32:
    """Copies whose lungs by their masks, elsewhere the lung fields that are found or the template in their place, are their mean grey."""
    changed = pictures.copy()
    for picture, image in zip(changed, images, strict=True):
        mask = lung_fields(picture).mask if image.mask is None else lungs_of(image.mask, picture.shape[-1])
        picture[mask] = picture.mean()
    return changed
