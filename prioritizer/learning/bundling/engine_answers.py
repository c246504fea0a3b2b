"""Every image scored by the engine that will serve, and the figures of that."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from prioritizer.calibration.maps import Calibration
from prioritizer.inference.engine import Engine
from prioritizer.learning.bundling import graph
from prioritizer.learning.bundling.image_kind_fit import RadiographSet
from prioritizer.learning.cohorts.decoded_images import read_picture
from prioritizer.learning.cohorts.read import LabelledImage
from prioritizer.learning.evaluation.lungs import share_inside
from prioritizer.learning.evaluation.pointing import lungs_of, mask_of, peak_lies_in
from prioritizer.learning.training import network
from prioritizer.learning.training.recipes import Recipe
from prioritizer.learning.training.run_folder import BEST, Journal
from prioritizer.scope import image_kind
from prioritizer.statistics.intervals import Cases, Figure
from prioritizer.statistics.measures import figures, mean_figure

MIN_COUNT = 10
"""Films of each class without which the card says nothing of an age group."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EngineAnswers:
    """What the engine says of a set of images, in their order."""

    images: tuple[LabelledImage, ...]
    logits: NDArray[np.float64]
    saliency: NDArray[np.float32]
    embeddings: NDArray[np.float32]
    pictures: NDArray[np.float32]
    """At the side at which kinds of image are told, shape (N, 112, 112), 0..1."""

    @property
    def films(self) -> RadiographSet:
        """What a kind of image is learned from."""
        return RadiographSet(pictures=self.pictures, sites=tuple(image.site for image in self.images))

    @property
    def by_group(self) -> dict[str, NDArray[np.float32]]:
        """Embeddings (N, D) of the images of each site with, and of those without, the finding."""
        groups = np.array([group_of(image) for image in self.images])
        return {group: self.embeddings[groups == group] for group in sorted(set(groups.tolist()))}

    @property
    def labels(self) -> NDArray[np.float64]:
        """Labels (N,), 0 or 1."""
        return np.array([image.label for image in self.images], dtype=np.float64)

    def only(self, index: Sequence[int]) -> EngineAnswers:
        """What it says of these alone."""
        at = np.array(index, dtype=np.int64)
        return EngineAnswers(
            images=tuple(self.images[place] for place in index),
            logits=self.logits[at],
            saliency=self.saliency[at],
            embeddings=self.embeddings[at],
            pictures=self.pictures[at],
        )

    def figures(self, fitted: Calibration) -> dict[str, Figure]:
        """All figures under a calibration and threshold fitted elsewhere."""
        patients = [image.patient for image in self.images]
        return figures(Cases(probabilities=fitted.probabilities(self.logits), labels=self.labels, patients=patients), fitted.t_high)

    def counts(self) -> dict[str, int]:
        """Films, those with pneumonia, and patients."""
        return {
            "films": len(self.images),
            "pneumonia": int(self.labels.sum()),
            "patients": len({image.patient for image in self.images}),
        }

    def looks(self) -> dict[str, Figure]:
        """Where it looks, on films with pneumonia that have boxes or a lung mask; empty where none has."""
        places: dict[str, list[tuple[str, float]]] = {"peak_in_boxes": [], "share_in_boxes": [], "share_in_lungs": []}
        for image, saliency in zip(self.images, self.saliency, strict=True):
            if not image.label:
                continue
            if image.boxes:
                boxes = mask_of(image.boxes)
                places["peak_in_boxes"].append((image.patient, float(peak_lies_in(saliency, boxes))))
                places["share_in_boxes"].append((image.patient, share_inside(saliency, boxes)))
            if image.mask is not None:
                places["share_in_lungs"].append((image.patient, share_inside(saliency, lungs_of(image.mask))))
        known = {name: [(patient, value) for patient, value in found if np.isfinite(value)] for name, found in places.items()}
        return {
            name: mean_figure(np.array([value for _, value in found]), [patient for patient, _ in found])
            for name, found in known.items()
            if len(found) >= MIN_COUNT
        }


def load_run(folder: Path) -> tuple[Recipe, torch.nn.Module, dict[str, Any]]:
    """Recipe, the network that the recipe's rule kept, with rounded weights, and the facts of a run."""
    journal = Journal(folder)
    recipe, state = journal.recipe(), journal.load(name=BEST)
    model = network.build(recipe.architecture, recipe.outputs, recipe.picture.size, stride=recipe.stride)
    model.load_state_dict(state["kept"])
    model.eval()
    graph.rounded(model)
    return recipe, model, journal.facts() | {"epoch_kept": state["epoch"], "epochs_done": len(journal.epochs())}


def answers(engine: Engine, images: Sequence[LabelledImage], tick: Callable[[], None] = lambda: None) -> EngineAnswers:
    """Every image read and scored as in service. Raises Unprocessable at a file that cannot be read."""
    spec = engine.bundle.preprocessing
    found, seen = [], []
    for image in images:
        picture = read_picture(image, spec)
        found.append(engine.score(picture))
        seen.append(image_kind.small(picture))
        tick()
    return EngineAnswers(
        images=tuple(images),
        logits=np.concatenate([outputs.logit for outputs in found]).astype(np.float64),
        saliency=np.concatenate([outputs.saliency for outputs in found]),
        embeddings=np.concatenate([outputs.embedding for outputs in found]),
        pictures=np.stack(seen),
    )


def group_of(image: LabelledImage) -> str:
    """The group of the guard's population that an image belongs to."""
    return f"{image.site}, {'with' if image.label else 'without'} the finding"
