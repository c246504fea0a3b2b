"""`prioritizer evaluate`: one network on the films of its split and on other cohorts, with everything its report tells."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from prioritizer.calibration import verdict
from prioritizer.calibration.maps import ADULT_FROM_YEARS, Calibration
from prioritizer.calibration.verdict import Evidence, Fitness
from prioritizer.errors import ConfigError
from prioritizer.learning.bundling.export import TARGET_SENSITIVITY
from prioritizer.learning.cohorts.labelled_image import TEXT_MINED
from prioritizer.learning.description.metadata_control import MIN_COUNT
from prioritizer.learning.evaluation.calibrated import Fitted, Progress, films_to_fit, fitted
from prioritizer.learning.evaluation.cost import Cost, cost_of
from prioritizer.learning.evaluation.inference_pass import InferencePass, look
from prioritizer.learning.evaluation.robustness import MAX_COUNT, Robustness, robustness
from prioritizer.learning.evaluation.subjects import Float64, open_subject
from prioritizer.learning.evaluation.trials import EvaluationRequest, EvaluationSet, parted_by_age, trials_of
from prioritizer.statistics import at_threshold, curves, delong
from prioritizer.statistics.at_threshold import ThresholdCounts
from prioritizer.statistics.curves import DecisionCurve
from prioritizer.statistics.intervals import Cases, Figure, resamples
from prioritizer.statistics.measures import drawn_values, figures_of, share_figures, values
from prioritizer.statistics.subgroups import Subgroup, subgroups

Say = Callable[[str], None]
Tick = Callable[[int, int, str], None]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Judgement:
    """One network on one trial."""

    trial: EvaluationSet
    calibration: Calibration
    """The map for these films: the network's, or that for their age group."""
    looked: InferencePass
    cases: Cases
    figures: dict[str, Figure]
    """By the keys of `measures.NAMES`, intervals by patient."""
    drawn: dict[str, Float64]
    """What the intervals were taken from."""
    auc: Figure
    """ROC area of the logits with its interval after DeLong, by patient."""
    at: ThresholdCounts
    """At t_high."""
    groups: tuple[Subgroup, ...]
    decision: DecisionCurve
    against: dict[str, Figure]
    """ROC area of the films with pneumonia against one kind of the others, by the word of their label; of adults also by view."""
    robustness: Robustness

    @property
    def evidence(self) -> Evidence:
        """What the verdict looks at."""
        events = int(self.cases.labels.sum())
        return Evidence(
            cohort=self.trial.name,
            events=events,
            non_events=len(self.cases.labels) - events,
            patients=(self.at.sensitivity.patients, self.at.specificity.patients),
            auc=self.auc,
            figures=self.figures,
            sensitivity=self.at.sensitivity,
            specificity=self.at.specificity,
            own_source=self.trial.own_source,
            seen=bool(self.trial.seen),
            mined=any(image.label_source == TEXT_MINED for image in self.looked.images),
            controls=self.robustness.judged,
            refused=self.robustness.refused,
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Evaluation:
    """Everything the report tells."""

    fitted: Fitted
    judgements: tuple[Judgement, ...]
    fitness: Fitness
    cost: Cost | None
    prevalence: float | None
    """Share of pneumonia where the network is to serve; None where it was not stated."""
    made_at: datetime
    seed: int


def evaluate(
    folder: Path,
    asked: EvaluationRequest,
    *,
    target: float = TARGET_SENSITIVITY,
    prevalence: float | None = None,
    with_cost: bool = True,
    seed: int = 0,
    say: Say = lambda said: None,
    tick: Tick = lambda done, of, said: None,
) -> Evaluation:
    """Judge a run or bundle. Raises ConfigError, NotFound, ModelError."""
    possible(target, prevalence)
    subject = open_subject(folder)
    trials, splits = trials_of(asked, [folder] if subject.kind == "run" else [])
    for trial in trials:
        say(f"{trial.name}: {len(trial.images)} films; {trial.form}")
    cost = cost_of(folder) if with_cost else None
    films = sum(len(trial.images) + min(len(trial.images), MAX_COUNT) for trial in trials)
    progress = Progress(tick, films + films_to_fit(subject, splits.get(folder)))
    ready = fitted(subject, splits.get(folder), trials[0].root, target, progress)
    trials = parted_by_age(trials, [ready.calibration], say)
    judgements = tuple(judged(ready, trial, progress, seed) for trial in trials)
    return Evaluation(
        fitted=ready,
        judgements=judgements,
        fitness=verdict.judge([judgement.evidence for judgement in judgements]),
        cost=cost,
        prevalence=prevalence,
        made_at=datetime.now(UTC),
        seed=seed,
    )


def possible(target: float, prevalence: float | None) -> None:
    """Raises ConfigError for shares that are none."""
    faults = []
    if not 0 < target <= 1:
        faults.append("--target-sensitivity is a share, for example 0.95")
    if prevalence is not None and not 0 < prevalence < 1:
        faults.append("--prevalence is a share between 0 and 1, for example 0.08")
    if faults:
        raise ConfigError(tuple(faults))


def judged(ready: Fitted, trial: EvaluationSet, progress: Progress, seed: int) -> Judgement:
    """One network on one trial, from films to figures."""
    looked = look(ready.subject, trial.images, trial.root, progress.named(f"scoring {trial.name}"))
    calibration = ready.calibration_for(trial)
    cases, threshold = looked.cases(calibration), calibration.t_high
    drawn = drawn_values(cases, threshold, resamples(cases, seed))
    return Judgement(
        trial=trial,
        calibration=calibration,
        looked=looked,
        cases=cases,
        figures=figures_of(values(cases, threshold), drawn) | share_figures(cases, threshold),
        drawn=drawn,
        auc=delong.area(cases.labels, looked.logits, cases.patients),
        at=at_threshold.counts(cases.labels, cases.probabilities, threshold, cases.patients),
        groups=subgroups(looked.images, cases, looked.logits, threshold, seed),
        decision=curves.decision(cases, seed),
        against=_against(looked),
        robustness=robustness(ready.subject, looked, trial.root, progress.named(f"disturbing {trial.name}"), seed),
    )


def _against(looked: InferencePass) -> dict[str, Figure]:
    """Films without pneumonia are healthy or have another disease, and these are harder to tell apart; empty where only one kind is known.

    Of adults by view too: portable films are of sicker people, so that the mix of views alone tells the classes apart.
    """
    labels = looked.labels
    kinds = np.array([image.subtype or "normal" for image in looked.images])
    adult = np.array([image.age_years is not None and image.age_years >= ADULT_FROM_YEARS for image in looked.images])
    child = np.array([image.age_years is not None and image.age_years < ADULT_FROM_YEARS for image in looked.images])
    view = np.array([image.view for image in looked.images])
    strata = {"": np.full(len(labels), fill_value=True), ", adults PA": adult & (view == "PA"), ", adults AP": adult & (view == "AP")}
    strata[", children"] = child
    names = sorted(set(kinds[labels == 0]))
    found = {}
    for name in names if len(names) > 1 else ():
        for stratum, inside in strata.items():
            chosen = inside & ((labels == 1) | (kinds == name))
            if min((labels[chosen] == 0).sum(), (labels[chosen] == 1).sum()) >= MIN_COUNT:
                patients = [looked.patients[i] for i in np.flatnonzero(chosen)]
                found[f"{name}{stratum}"] = delong.area(labels[chosen], looked.logits[chosen], patients)
    return found
