"""`prioritizer compare`: networks on the same films, each against the first, with paired intervals and DeLong's test."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from prioritizer.errors import ConfigError
from prioritizer.learning.bundling.export import TARGET_SENSITIVITY
from prioritizer.learning.evaluation.calibrated import Fitted, Progress, films_to_fit, fitted
from prioritizer.learning.evaluation.cost import Cost, cost_of
from prioritizer.learning.evaluation.evaluate import possible
from prioritizer.learning.evaluation.inference_pass import InferencePass, look
from prioritizer.learning.evaluation.robustness import MAX_COUNT, Robustness, robustness
from prioritizer.learning.evaluation.subjects import Float64, Scores, Subject, open_subject
from prioritizer.learning.evaluation.trials import EvaluationRequest, EvaluationSet, parted_by_age, trials_of
from prioritizer.statistics.paired import Pairing, Rated, paired

Say = Callable[[str], None]
Tick = Callable[[int, int, str], None]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Bout:
    """All networks on one trial: only films that every one of them could read."""

    trial: EvaluationSet
    looked: tuple[InferencePass, ...]
    rated: tuple[Rated, ...]
    pairing: Pairing
    robust: tuple[Robustness, ...]
    left_out: int
    """Films that at least one network could not read."""

    @property
    def labels(self) -> Float64:
        """Shape (N,), 0 or 1."""
        return self.looked[0].labels


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Comparison:
    """Everything the report tells; `networks` in the order asked for, the first is what the others are compared with."""

    networks: tuple[Fitted, ...]
    names: tuple[str, ...]
    bouts: tuple[Bout, ...]
    costs: tuple[Cost, ...]
    """Empty where they were not measured."""
    made_at: datetime
    seed: int


def compare(
    folders: Sequence[Path],
    asked: EvaluationRequest,
    *,
    target: float = TARGET_SENSITIVITY,
    with_cost: bool = True,
    seed: int = 0,
    say: Say = lambda said: None,
    tick: Tick = lambda done, of, said: None,
) -> Comparison:
    """Judge several runs and bundles on the same films. Raises ConfigError, NotFound, ModelError."""
    possible(target, None)
    if len(folders) < 2:
        raise ConfigError(("compare takes two runs or bundles, or more",))
    subjects = [open_subject(folder) for folder in folders]
    trials, splits = trials_of(asked, [subject.folder for subject in subjects if subject.kind == "run"])
    for trial in trials:
        say(f"{trial.name}: {len(trial.images)} films; {trial.form}")
    costs = tuple(cost_of(folder) for folder in folders) if with_cost else ()
    films = sum(len(trial.images) + min(len(trial.images), MAX_COUNT) for trial in trials) * len(subjects)
    progress = Progress(tick, films + sum(films_to_fit(subject, splits.get(subject.folder)) for subject in subjects))
    networks = tuple(fitted(subject, splits.get(subject.folder), trials[0].root, target, progress) for subject in subjects)
    return Comparison(
        networks=networks,
        names=names_of(subjects),
        bouts=tuple(_bout(networks, trial, progress, seed) for trial in parted_by_age(trials, [one.calibration for one in networks], say)),
        costs=costs,
        made_at=datetime.now(UTC),
        seed=seed,
    )


def names_of(subjects: Sequence[Subject]) -> tuple[str, ...]:
    """A name for each: its own, with its place where two share one."""
    counted = Counter(subject.name for subject in subjects)
    return tuple(
        subject.name if counted[subject.name] == 1 else f"{subject.name} ({place})" for place, subject in enumerate(subjects, start=1)
    )


def _bout(networks: Sequence[Fitted], trial: EvaluationSet, progress: Progress, seed: int) -> Bout:
    seen = [look(one.subject, trial.images, trial.root, progress.named(f"{one.subject.name} on {trial.name}")) for one in networks]
    common = set.intersection(*({image.path for image in looked.images} for looked in seen))
    looked = tuple(_only(one, common) for one in seen)
    if len(np.unique(looked[0].labels)) < 2:
        raise ConfigError((f"{trial.name}: the films that all networks can read are of one class",))
    rated = tuple(
        Rated(probabilities=its_map.probabilities(its.logits), logits=its.logits, threshold=its_map.t_high)
        for its_map, its in zip((one.calibration_for(trial) for one in networks), looked, strict=True)
    )
    robust = tuple(
        robustness(one.subject, its, trial.root, progress.named(f"disturbing for {one.subject.name}"), seed)
        for one, its in zip(networks, looked, strict=True)
    )
    pairing = paired(rated, looked[0].labels, looked[0].patients, seed)
    left_out = len(trial.images) - len(common)
    return Bout(trial=trial, looked=looked, rated=rated, pairing=pairing, robust=robust, left_out=left_out)


def _only(looked: InferencePass, kept: set[Path]) -> InferencePass:
    """What was said of these films alone."""
    if len(kept) == len(looked.images):
        return looked
    index = np.array([place for place, image in enumerate(looked.images) if image.path in kept], dtype=np.int64)
    scores = looked.scores
    return replace(
        looked,
        images=tuple(looked.images[place] for place in index),
        scores=Scores(
            logits=scores.logits[index],
            saliency=None if scores.saliency is None else scores.saliency[index],
            distance=None if scores.distance is None else scores.distance[index],
        ),
        inside=looked.inside[index],
        lung_area=looked.lung_area[index],
        plausible=looked.plausible[index],
    )
