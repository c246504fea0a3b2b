"""The mixture that says which layouts are usual, fitted on training pictures."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture

from prioritizer.layout import Layout, mirrored

DIRECTIONS, PARTS, STARTS = 48, 8, 3
LEAST_A_PART = 4
"""Pictures for each direction that a part of the mixture needs, or its covariance is noise."""
FLOOR = 0.1
"""Added to the variances of the whitened features: no part of the mixture shrinks onto a few pictures."""


def fit(features: NDArray[np.float64], seed: int) -> Layout:
    """The mixture of layout features (N, 98), mirrored ones added: nothing on a film tells which side is which. Fewer carry fewer parts."""
    features = np.concatenate([features, mirrored(features)])
    centre, spread = features.mean(axis=0), np.maximum(features.std(axis=0), 1e-6)
    count = min(DIRECTIONS, max(len(features) // (2 * LEAST_A_PART), 1), features.shape[1])
    whitening = PCA(count, whiten=True, random_state=seed).fit((features - centre) / spread)
    variances = np.maximum(whitening.explained_variance_, 1e-9)
    directions = whitening.components_ / np.sqrt(variances)[:, None] / spread
    parts = min(PARTS, max(len(features) // (LEAST_A_PART * count), 1))
    along = (features - centre) @ directions.T
    # Where a mixture starts decides where it ends; several starts stand side by side.
    found = [GaussianMixture(parts, reg_covar=FLOOR, random_state=seed + k, max_iter=300).fit(along) for k in range(STARTS)]
    return Layout(
        centre=centre.astype(np.float32),
        directions=directions.astype(np.float32),
        weights=(np.concatenate([one.weights_ for one in found]) / STARTS).astype(np.float32),
        means=np.concatenate([one.means_ for one in found]).astype(np.float32),
        roots=np.concatenate([one.precisions_cholesky_ for one in found]).astype(np.float32),
    )
