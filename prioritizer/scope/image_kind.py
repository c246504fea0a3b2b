"""Is this a frontal chest radiograph, upright, whole and with black air? Told from the picture alone, without the bundle's network.

What is looked at: the equalised picture in 16 x 16 greys and where its edges run (`layout_features`). Small classifiers were taught chest
radiographs against the same ones turned, inverted, cropped, shuffled, and against drawings (`image_kind_fit`); the mean of their
logits is one distance. How far a picture lies from every chest radiograph, as Mahalanobis distance, is the other: it stands for kinds
that no classifier was shown. The larger of the two counts, each over a limit set on radiographs of other patients.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prioritizer.imaging.preprocessing import equalised, resampling_weights
from prioritizer.scope import layout_features

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

SIDE = 112
"""Every picture is brought to this side first: bundles of other sizes see the same."""
GREYS = 16
FEATURES = GREYS * GREYS + 2 * layout_features.CELLS * layout_features.CELLS


def small(picture: Float32) -> Float32:
    """A picture float32 (S, S), 0..1, at the side at which kinds are told: float32 (112, 112)."""
    down, across = (resampling_weights(side, SIDE) for side in picture.shape)
    at_side: Float32 = np.asarray(down @ picture @ across.T, dtype=np.float32)
    return at_side


def features(picture: Float32) -> Float64:
    """Greys and edges of a picture float32 (S, S), 0..1: float64 (354,)."""
    toned = equalised(small(picture))
    weights = resampling_weights(SIDE, GREYS)
    return np.concatenate([(weights @ toned @ weights.T).astype(np.float64).ravel(), layout_features.features(toned)])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Classifiers:
    """M networks of three layers over F standardised features, whose mean logit is that of a chest radiograph."""

    centre: Float32
    """Shape (F,)."""
    spread: Float32
    """Shape (F,); never 0."""
    first: Float32
    """Shape (M, F, H)."""
    first_bias: Float32
    """Shape (M, H)."""
    second: Float32
    """Shape (M, H, G)."""
    second_bias: Float32
    """Shape (M, G)."""
    last: Float32
    """Shape (M, G)."""
    last_bias: Float32
    """Shape (M,)."""

    def logits(self, found: Float64) -> Float64:
        """Mean logit of features (N, F): float64 (N,)."""
        standard = (found - self.centre) / self.spread
        parts = zip(self.first, self.first_bias, self.second, self.second_bias, self.last, self.last_bias, strict=True)
        answers = [
            np.maximum(np.maximum(standard @ first + first_bias, 0) @ second + second_bias, 0) @ last + last_bias
            for first, first_bias, second, second_bias, last, last_bias in parts
        ]
        return np.asarray(np.mean(answers, axis=0), dtype=np.float64)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Usual:
    """The directions in which chest radiographs differ, and how much."""

    centre: Float32
    """Shape (F,)."""
    directions: Float32
    """Whitening rows, shape (K, F): the standard deviations taken off."""

    def distance(self, found: Float64) -> Float64:
        """Root mean square Mahalanobis distance of features (N, F): float64 (N,)."""
        along = (found - self.centre) @ self.directions.T.astype(np.float64)
        distance: Float64 = np.sqrt((along**2).mean(axis=1))
        return distance


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ImageKind:
    """A fitted answer to whether a picture is a frontal chest radiograph."""

    classifiers: Classifiers
    usual: Usual
    middle: float
    """Logit of the middle radiograph in scope."""
    limit: float
    """Logit below which a picture is refused; below `middle`."""
    furthest: float
    """Distance from the usual beyond which a picture is refused."""

    def distance(self, found: Float64) -> Float64:
        """Over the limit, of features (N, F): float64 (N,). Above 1: no frontal chest radiograph; infinite without a number."""
        known = np.asarray(np.isfinite(found).all(axis=1))
        sound = np.where(known[:, None], found, 0.0)
        told = np.maximum((self.middle - self.classifiers.logits(sound)) / (self.middle - self.limit), 0.0)
        return np.where(known, np.maximum(told, self.usual.distance(sound) / self.furthest), np.inf)


def with_limits(classifiers: Classifiers, usual: Usual, held_out: Float64, *, false_alarms: float, loosely: float) -> ImageKind:
    """The answer with its limits from features (N, F) of radiographs in scope that taught nothing.

    The classifiers refuse `false_alarms` of them. The distance from the usual refuses none of them, and allows `loosely` times more: it
    is for what is far from everything, and another hospital must not be.
    """
    if len(held_out) < 2:
        raise ValueError(f"{len(held_out)} held-out pictures are too few for a limit")
    logits = classifiers.logits(held_out)
    middle = float(np.median(logits))
    limit = min(float(np.quantile(logits, false_alarms)), middle - 1e-3)
    furthest = max(float(usual.distance(held_out).max()) * loosely, 1e-9)
    return ImageKind(classifiers=classifiers, usual=usual, middle=middle, limit=limit, furthest=furthest)
