"""What the files alone say of the label, and figures from which that is taken away.

A network learns whatever separates the classes. Where files of one class were made otherwise than those of the other (size,
compression, sharpness, burnt-in white) a high AUC may be read off that, and it will not carry to another hospital (Zech et al.,
PLoS Med 2018). The control here is a small model that sees no picture, only numbers about each file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from prioritizer.learning.cohorts.labelled_image import LabelledImage
from prioritizer.learning.description.file_facts import FILE_NAMES, INTENSITY_NAMES, FileFacts, read_facts
from prioritizer.statistics.intervals import Figure

Float64 = NDArray[np.float64]
FOLDS = 5
RESAMPLES = 500
CLIP = 0.05
"""Propensities are clipped to CLIP..1 - CLIP, so that no image weighs more than 20 times another."""
ENOUGH_FOR_TREES = 500
"""Images from which gradient boosting is used; below, a logistic regression."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Statistics:
    """Numbers about files: float64, shape (N, F), NaN where a file has none; `names` (F,)."""

    values: Float64
    names: tuple[str, ...]

    def only(self, names: Sequence[str]) -> Statistics:
        """The columns named."""
        return Statistics(values=self.values[:, [self.names.index(name) for name in names]], names=tuple(names))


def statistics_of(facts: Sequence[FileFacts]) -> Statistics:
    """File facts and intensity statistics of files that were read."""
    values = np.array([(*fact.file_numbers, *fact.intensities) for fact in facts], dtype=np.float64)
    return Statistics(values=values.reshape(len(facts), -1), names=(*FILE_NAMES, *INTENSITY_NAMES))


def file_statistics(images: Sequence[LabelledImage], tick: Callable[[], None] = lambda: None) -> Statistics:
    """File facts and intensity statistics of `images`, in their order; a row of NaN for an unreadable file."""
    facts, _ = read_facts(images, Path(), tick)
    found = statistics_of(facts)
    row_of = {fact.image.path: index for index, fact in enumerate(facts)}
    values = np.full((len(images), len(found.names)), np.nan)
    for index, image in enumerate(images):
        if image.path in row_of:
            values[index] = found.values[row_of[image.path]]
    return Statistics(values=values, names=found.names)


def propensity(features: Float64, labels: ArrayLike, groups: Sequence[str], seed: int, *, trees: bool | None = None) -> Float64:
    """Out-of-fold P(label = 1 | file statistics), shape (N,): no image is judged by a model that saw its patient.

    Five folds by `groups` (patients) with like classes. Gradient boosting from 500 images on, below a logistic regression; `trees`
    forces one. With fewer than two patients a class the share of positives stands for all.
    """
    from sklearn.model_selection import StratifiedGroupKFold
    from threadpoolctl import threadpool_limits

    truth = np.asarray(labels, dtype=np.int64)
    names = np.asarray(groups)
    fewest = min(len(np.unique(names[truth == label])) for label in (0, 1))
    if fewest < 2:
        return np.full(len(truth), float(truth.mean()))
    use_trees = len(truth) >= ENOUGH_FOR_TREES if trees is None else trees
    folds = StratifiedGroupKFold(min(FOLDS, fewest), shuffle=True, random_state=seed)
    found = np.empty(len(truth))
    for learn, judge in folds.split(features, truth, names):
        telling = [column for column in range(features.shape[1]) if len(np.unique(_known(features[learn, column]))) > 1]
        if not telling or len(np.unique(truth[learn])) < 2:
            found[judge] = truth[learn].mean()
            continue
        # Beside a training, threads that wait for each other take ten times as long as one.
        with threadpool_limits(1):
            model = _classifier(seed, trees=use_trees).fit(features[np.ix_(learn, telling)], truth[learn])
            found[judge] = model.predict_proba(features[np.ix_(judge, telling)])[:, 1]
    return found


def _known(values: Float64) -> Float64:
    return values[np.isfinite(values)]


def _classifier(seed: int, *, trees: bool) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if trees:
        return HistGradientBoostingClassifier(max_iter=150, learning_rate=0.08, max_leaf_nodes=15, random_state=seed)
    return make_pipeline(SimpleImputer(strategy="median"), StandardScaler(), LogisticRegression(C=0.3, max_iter=2000))


def weighted_auc(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Area under the ROC curve with a weight for each image, ties counted half; NaN when a class has no weight."""
    _, blocks = np.unique(np.asarray(scores, dtype=np.float64), return_inverse=True)
    truth = np.asarray(labels, dtype=np.float64)
    return _auc_of_blocks(blocks, truth, np.ones(len(truth)) if weights is None else np.asarray(weights, dtype=np.float64))


def _auc_of_blocks(blocks: NDArray[np.int64], truth: Float64, weights: Float64) -> float:
    positive = np.bincount(blocks, weights * truth)
    negative = np.bincount(blocks, weights * (1 - truth))
    pairs = positive.sum() * negative.sum()
    return float((positive * (np.cumsum(negative) - negative / 2)).sum() / pairs) if pairs > 0 else float("nan")


def matched_weights(labels: ArrayLike, chance: ArrayLike) -> Float64:
    """Inverse-propensity weights: 1 / p of a positive, 1 / (1 - p) of a negative, p clipped to 0.05..0.95."""
    clipped = np.clip(np.asarray(chance, dtype=np.float64), CLIP, 1 - CLIP)
    return np.where(np.asarray(labels) == 1, 1 / clipped, 1 / (1 - clipped))


def matched_auc(labels: ArrayLike, scores: ArrayLike, propensity: ArrayLike) -> float:
    """ROC-AUC in a population whose two classes have like file statistics.

    Each image weighs the inverse of the chance of its own label given its file (Rosenbaum and Rubin 1983; clipped at 0.05): a
    positive whose file looks like those of negatives counts most. A score that only reads the file falls towards 0.5.
    """
    return weighted_auc(labels, scores, matched_weights(labels, propensity))


def auc_figure(labels: ArrayLike, scores: ArrayLike, groups: Sequence[str], seed: int = 0, weights: ArrayLike | None = None) -> Figure:
    """ROC-AUC with its bootstrap 95 % interval over RESAMPLES draws of whole patients."""
    rng = np.random.default_rng(seed)
    _, patients = np.unique(np.asarray(groups), return_inverse=True)
    _, blocks = np.unique(np.asarray(scores, dtype=np.float64), return_inverse=True)
    truth = np.asarray(labels, dtype=np.float64)
    base = np.ones(len(truth)) if weights is None else np.asarray(weights, dtype=np.float64)
    count = int(patients.max()) + 1
    drawn = [_auc_of_blocks(blocks, truth, base * rng.multinomial(count, np.full(count, 1 / count))[patients]) for _ in range(RESAMPLES)]
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    return Figure(value=_auc_of_blocks(blocks, truth, base), low=float(low), high=float(high))
