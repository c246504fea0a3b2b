"""The two guards of a bundle: another kind of image than a frontal chest radiograph (`image_kind`), another population (`Population`).

Tags cannot say everything: a hand sent as CHEST, an inverted film, an adult among children, another device. `Population` tells the
second by the network's own features at several depths: Mahalanobis distance from the nearest group of training images (a class of a
site), inside the directions in which images of one group differ from each other (Lee et al. 2018), and what is left outside them (Wang
et al. 2022).

`Likeness` is the guard of bundles made before there were two: one distance, which stands for both questions and cannot tell them apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from prioritizer.scope import image_kind, layout_features
from prioritizer.scope.image_kind import ImageKind
from prioritizer.scope.layout_features import Layout

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

WEIGHTS = (1.0, 2.0)
"""Of the distance outside and of that of the layout, where they are joined."""
FALSE_ALARMS = 0.02
"""Share of held-out images of each site that lie beyond its limit of `Population`."""
LOCAL_SHARE = 0.02
"""Share of a local cohort that lies beyond its own limit."""
MIN_HELD_OUT = 20
"""Held-out images from which a group has a limit of its own."""
MIN_LOCAL = 50
"""Images below which a local limit would hang on one of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What the guards say of one picture: distances in units of their limits. Above 1 is beyond; infinite without a number."""

    image_kind: float = 0.0
    out_of_distribution: float = 0.0
    one_measure: bool = False
    """The two are one distance: the guard of an older bundle cannot tell another kind of image from another population."""

    @property
    def distance(self) -> float | None:
        """How far the picture lies from the training data, in units of the bundle's limit; None where the guard has no such measure."""
        return None if self.one_measure else self.out_of_distribution


NOT_ASKED = Figures(image_kind=np.inf, out_of_distribution=np.inf)
"""Where no guard was asked, nothing passes for what it should be."""


class Guard(Protocol):
    """Whatever a bundle's guard is."""

    def figures(self, embedding: Float32, picture: Float32) -> Figures:
        """The figures of one picture float32 (S, S), 0..1, with its embedding float32 (D,)."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Guards:
    """The two guards."""

    image_kind: ImageKind
    population: Population

    def figures(self, embedding: Float32, picture: Float32) -> Figures:
        """The figures of one picture float32 (S, S), 0..1, with its embedding float32 (D,)."""
        kind = float(self.image_kind.distance(image_kind.features(picture)[None])[0])
        return Figures(image_kind=kind, out_of_distribution=float(self.population.distance(embedding[None])[0]))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Population:
    """Embeddings of length D of the training images of G groups, a site and class each, with K directions common to all groups.

    A group for each class: images with a finding differ more among themselves, and one limit for both would call the surest ones strange.
    """

    groups: tuple[str, ...]
    centres: Float32
    """Mean of each group, shape (G, D)."""
    spread: Float32
    """Standard deviation of each feature inside the groups, shape (D,); never 0."""
    directions: Float32
    """Orthonormal rows, shape (K, D), of the features standardised inside their group."""
    variances: Float32
    """Variance along each direction, shape (K,)."""
    rest: float
    """Mean variance outside the directions, of one of D - K."""
    limits: Float32
    """Distance of each group beyond which lie `false_alarms` of its held-out images, shape (G,)."""
    false_alarms: float

    def distance(self, embeddings: Float32) -> Float64:
        """Over its limit, the distance of embeddings (N, D) from the nearest group: float64 (N,); infinite without a number."""
        nearest = (self.distances(embeddings) / self.limits).min(axis=1)
        return np.where(np.isfinite(nearest), nearest, np.inf)

    def distances(self, embeddings: Float32) -> Float64:
        """Distance of embeddings (N, D) from each group: float64 (N, G), about 1 for a training image.

        Root of the mean of two squares: the mean square inside the directions and that outside, each in units of its variance.
        """
        found = np.empty((len(embeddings), len(self.centres)))
        for group, centre in enumerate(self.centres):
            standard = (np.asarray(embeddings, dtype=np.float64) - centre) / self.spread
            along = standard @ self.directions.T.astype(np.float64)
            rest = np.maximum((standard**2).sum(axis=1) - (along**2).sum(axis=1), 0.0) / max(standard.shape[1] - along.shape[1], 1)
            found[:, group] = np.sqrt(((along**2 / self.variances).mean(axis=1) + rest / self.rest) / 2)
        return found


def fit_population(
    training: Mapping[str, Float32], held_out: Mapping[str, Float32], *, directions: int = 64, false_alarms: float = FALSE_ALARMS
) -> Population:
    """The population of training embeddings (N, D) by group, each group's limit from embeddings of other patients of it.

    A group with fewer than MIN_HELD_OUT such images (a site that only trains has none) shares the limit of all that have enough.
    Variances are shrunk a tenth towards their mean, so that a direction in which few images differ does not decide alone.
    """
    groups = tuple(sorted(training))
    count = min(directions, sum(len(found) for found in training.values()) - len(groups), next(iter(training.values())).shape[1] - 1)
    taught, held = (sum(len(found) for found in of_groups.values()) for of_groups in (training, held_out))
    if count < 1 or held < 2:
        raise ValueError(f"{taught} training and {held} held-out pictures are too few for a guard")
    centres = np.stack([training[group].astype(np.float64).mean(axis=0) for group in groups])
    inside = np.concatenate([training[group] - centre for group, centre in zip(groups, centres, strict=True)])
    spread = inside.std(axis=0)
    spread = np.maximum(spread, max(float(spread.max()), 1e-12) * 1e-3)
    standard = inside / spread
    _, singular, rows = np.linalg.svd(standard, full_matrices=False)
    variances = singular[:count] ** 2 / len(standard)
    outside = (float((standard**2).sum(axis=1).mean()) - float(variances.sum())) / (standard.shape[1] - count)
    bare = Population(
        groups=groups,
        centres=centres.astype(np.float32),
        spread=spread.astype(np.float32),
        directions=rows[:count].astype(np.float32),
        variances=(0.9 * variances + 0.1 * variances.mean()).astype(np.float32),
        rest=max(outside, 1e-6),
        limits=np.ones(len(groups), dtype=np.float32),
        false_alarms=false_alarms,
    )
    distances = {
        group: bare.distances(held_out[group])[:, index]
        for index, group in enumerate(groups)
        if len(held_out.get(group, ())) >= MIN_HELD_OUT
    }
    every = np.concatenate([*distances.values()] or [bare.distances(found).min(axis=1) for found in held_out.values()])
    limits = [max(float(np.quantile(distances.get(group, every), 1 - false_alarms)), 1e-9) for group in groups]
    return replace(bare, limits=np.array(limits, dtype=np.float32))


def local_limit(distances: Float64, share: float = LOCAL_SHARE) -> float | None:
    """The limit of the out-of-distribution distance for a site, in units of the bundle's: at most `share` of its cohort lies beyond.

    Never below the bundle's own limit (1): what is like the training data is not made strange by a uniform cohort. None where fewer
    than MIN_LOCAL finite distances (N,) are given.
    """
    known = np.asarray(distances, dtype=np.float64)
    known = known[np.isfinite(known)]
    if len(known) < MIN_LOCAL:
        return None
    return max(float(np.quantile(known, 1 - share, method="higher")), 1.0)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Likeness:
    """The guard of an older bundle, for embeddings of length D, with K directions, and for the layout of pictures: one distance."""

    centre: Float32
    """Shape (D,)."""
    spread: Float32
    """Standard deviation of each feature over the training images, shape (D,); never 0."""
    directions: Float32
    """Orthonormal rows, shape (K, D), of the standardised features."""
    variances: Float32
    """Variance along each direction, shape (K,)."""
    layout: Layout
    usual: tuple[tuple[float, float], tuple[float, float]]
    """Mean and standard deviation, on images in scope, of the distance outside and of that of the layout."""
    limits: tuple[float, float]
    """Of the distance inside and of the two others joined."""
    false_alarms: float
    """Share of in-scope images that it was set to refuse."""

    def figures(self, embedding: Float32, picture: Float32) -> Figures:
        """The one distance of a picture float32 (S, S), 0..1, with its embedding float32 (D,), for both questions."""
        found = float(self.distance(embedding[None], layout_features.features(picture)[None])[0])
        return Figures(image_kind=found, out_of_distribution=found, one_measure=True)

    def distance(self, embeddings: Float32, layouts: Float64) -> Float64:
        """Distance over the limit of embeddings (N, D) and layout features (N, 98): float64 (N,). Above 1: unlike the training data.

        A picture whose embedding holds a value that is no number is infinitely far.
        """
        parts = np.stack(self.parts(embeddings, layouts)) / np.array(self.limits)[:, None]
        distance: Float64 = parts.max(axis=0)
        return np.where(np.isfinite(distance), distance, np.inf)

    def parts(self, embeddings: Float32, layouts: Float64) -> tuple[Float64, Float64]:
        """The distance inside the directions, and that outside joined with that of the layout in standard deviations: float64 (N,)."""
        inside, outside = self.depths(embeddings)
        standard = [(d - mean) / spread for d, (mean, spread) in zip((outside, self.layout.distance(layouts)), self.usual, strict=True)]
        return inside, np.average(standard, axis=0, weights=WEIGHTS)

    def depths(self, embeddings: Float32) -> tuple[Float64, Float64]:
        """Root mean square Mahalanobis distance inside the directions, and of the rest outside them: two of float64 (N,)."""
        standard = (np.asarray(embeddings, dtype=np.float64) - self.centre) / self.spread
        along = standard @ self.directions.T.astype(np.float64)
        rest = np.maximum((standard**2).sum(axis=1) - (along**2).sum(axis=1), 0.0)
        inside = np.sqrt((along**2 / self.variances).mean(axis=1))
        outside = np.sqrt(rest / max(standard.shape[1] - len(self.directions), 1))
        return inside, outside
