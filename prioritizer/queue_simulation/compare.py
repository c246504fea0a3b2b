"""Ways of ordering the list compared on the same studies: turn-around by class, what a way buys, what it costs, and how sure we are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from prioritizer.queue_simulation.scenario import Flags, Float64, Scenario, Studies, draw, with_prevalence, with_specificity
from prioritizer.queue_simulation.simulate import MINUTE, NEVER, SimulatedRun, in_order_of_arrival, overtaken_by, simulate, strictly_by_ai
from prioritizer.ranking.deadlines import RankingPolicy, Stage
from prioritizer.statistics.intervals import Figure

FLAGGED, MISSED = "pneumonia, flagged", "pneumonia, not flagged"
FALSE, QUIET = "no pneumonia, flagged", "no pneumonia, not flagged"
STAT, UNSCORED, SICK, ALL = "STAT", "not scored", "all with pneumonia", "all"
CLASSES = (FLAGGED, MISSED, FALSE, QUIET, STAT, UNSCORED, SICK, ALL)
"""The first six part the studies; STAT comes before the rest, then what was not scored. A flag is the model's, raised or suspended."""
FIFO, STRICT = "order of arrival", "strictly by AI"
STUDENT = (float("nan"), 12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)
"""Two-sided 95 % quantiles of Student's t for 0 to 10 degrees of freedom."""
GRID = np.linspace(0, 1, 201)
"""Quantiles at which a distribution of turn-around is kept for drawing."""
Change = Callable[[Studies, np.random.Generator], Studies]


def as_drawn(studies: Studies, rng: np.random.Generator) -> Studies:
    """No change."""
    return studies


def variants_of(t_high: float) -> tuple[tuple[str, Change], ...]:
    """How sure the result is of what it was told: prevalence half and half again, specificity 20 points lower."""
    return (
        ("prevalence -50 %", lambda studies, rng: with_prevalence(studies, 0.5, rng)),
        ("prevalence +50 %", lambda studies, rng: with_prevalence(studies, 1.5, rng)),
        ("specificity -20 points", lambda studies, rng: with_specificity(studies, 0.2, t_high, rng)),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A named way of ordering the list."""

    name: str
    policy: RankingPolicy

    @property
    def bound(self) -> float:
        """Minutes after a study within which a later arrival may be taken before it; infinite where nothing bounds it."""
        if self.policy.stage is not Stage.ACTIVE:
            return 0.0
        furthest = self.policy.low if self.policy.demote_low else self.policy.neutral
        return float("inf") if self.policy.neutral >= NEVER else (furthest - self.policy.high) / MINUTE


def settings_of(policy: RankingPolicy, others: Sequence[Setting]) -> tuple[Setting, ...]:
    """Order of arrival, strictly by AI, and the given ones, in this order."""
    return (
        Setting(name=FIFO, policy=in_order_of_arrival(policy)),
        Setting(name=STRICT, policy=strictly_by_ai(policy)),
        *others,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassFigures:
    """Turn-around of one class in minutes, arrival to the end of reading: replications averaged, with 95 % intervals over them."""

    n: int
    """Studies, over all replications."""
    mean: Figure
    median: Figure
    p95: Figure
    longest: Figure
    """The longest of a replication, averaged."""
    longest_of_all: float
    overdue: int
    """Read after the deadline in force, over all replications; a STAT study is never OVERDUE, and strictly by AI none is."""
    spread: Float64
    """Quantiles at GRID, over all replications."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """One setting against order of arrival."""

    setting: Setting
    classes: dict[str, ClassFigures]
    raised: Figure
    """Share of studies that stood before their place by arrival when they were taken, by their risk."""
    suspended: Figure
    """Share of flagged studies that were not raised because `max_high_share` suspended raising."""
    gain: Figure
    """Minutes by which a flagged study with pneumonia is read earlier than in order of arrival, on average."""
    price: Figure
    """Minutes by which a study with pneumonia that is not flagged is read later than in order of arrival, on average."""
    furthest_back: float
    """The most minutes by which any study that is neither flagged nor STAT was read later than in order of arrival."""
    overtaken: float
    """The most minutes after a study at which another arrived that was taken before it, both not STAT."""

    def longest(self, name: str) -> float:
        """The longest turn-around of a class over all replications, in minutes."""
        return self.classes[name].longest_of_all


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trial:
    """One replication under one setting."""

    turnaround: dict[str, Float64]
    overdue: dict[str, int]
    raised: float
    suspended: float
    gain: float
    price: float
    furthest_back: float
    overtaken: float


def compare(
    scenario: Scenario,
    settings: Sequence[Setting],
    *,
    replications: int,
    seed: int,
    change: Change = as_drawn,
    tick: Callable[[int], None] = lambda done: None,
) -> tuple[Effect, ...]:
    """The effect of each setting on the same drawn studies; the first setting is the one the others are held against."""
    trials: list[list[_Trial]] = [[] for _ in settings]
    for number in range(replications):
        studies = change(draw(scenario, np.random.default_rng([seed, number])), np.random.default_rng([seed, number, 1]))
        first = simulate(studies, scenario.readers, settings[0].policy)
        for index, setting in enumerate(settings):
            run = simulate(studies, scenario.readers, setting.policy) if index else first
            trials[index].append(_trial(studies, setting, run, first))
        tick(number + 1)
    return tuple(_effect(setting, found) for setting, found in zip(settings, trials, strict=True))


def classes_of(studies: Studies, t_high: float) -> dict[str, Flags]:
    """Which studies belong to each class, bool (N,) each."""
    flagged, sick, stat = studies.risk >= t_high, studies.positive, studies.stat  # NaN >= t_high is False
    scored = ~np.isnan(studies.risk) & ~stat
    masks = (
        sick & flagged & scored,
        sick & ~flagged & scored,
        ~sick & flagged & scored,
        ~sick & ~flagged & scored,
        stat,
        np.isnan(studies.risk) & ~stat,
        sick,
        np.ones(len(studies), dtype=np.bool_),
    )
    return dict(zip(CLASSES, masks, strict=True))


def _trial(studies: Studies, setting: Setting, run: SimulatedRun, first: SimulatedRun) -> _Trial:
    masks = classes_of(studies, setting.policy.t_high)
    turnaround = run.finished - studies.arrived
    # Strictly by AI nobody has a deadline to pass.
    late = ~studies.stat & (run.finished > run.due) & ~np.isinf(setting.bound)
    later = run.begun - first.begun
    not_flagged = masks[MISSED] | masks[QUIET] | masks[UNSCORED]
    return _Trial(
        turnaround={name: turnaround[mask] for name, mask in masks.items()},
        overdue={name: int(late[mask].sum()) for name, mask in masks.items()},
        raised=float(run.raised.mean()),
        suspended=_mean(run.suspended[masks[FLAGGED] | masks[FALSE]].astype(np.float64)),
        gain=_mean(-later[masks[FLAGGED]]),
        price=_mean(later[masks[MISSED]]),
        furthest_back=float(later[not_flagged].max(initial=0.0)),
        overtaken=float(overtaken_by(studies, run).max(initial=0.0)),
    )


def _effect(setting: Setting, trials: Sequence[_Trial]) -> Effect:
    return Effect(
        setting=setting,
        classes={name: _class_figures([t.turnaround[name] for t in trials], sum(t.overdue[name] for t in trials)) for name in CLASSES},
        raised=over_replications([t.raised for t in trials]),
        suspended=over_replications([t.suspended for t in trials]),
        gain=over_replications([t.gain for t in trials]),
        price=over_replications([t.price for t in trials]),
        furthest_back=max(t.furthest_back for t in trials),
        overtaken=max(t.overtaken for t in trials),
    )


def _class_figures(samples: Sequence[Float64], overdue: int) -> ClassFigures:
    every = np.concatenate(samples)
    held = [sample for sample in samples if len(sample)]
    return ClassFigures(
        n=len(every),
        mean=over_replications([float(sample.mean()) for sample in held]),
        median=over_replications([float(np.median(sample)) for sample in held]),
        p95=over_replications([float(np.quantile(sample, 0.95)) for sample in held]),
        longest=over_replications([float(sample.max()) for sample in held]),
        longest_of_all=float(every.max()) if len(every) else float("nan"),
        overdue=overdue,
        spread=np.quantile(every, GRID) if len(every) else np.full(len(GRID), np.nan),
    )


def over_replications(values: Sequence[float]) -> Figure:
    """The mean of independent replications with its 95 % interval by Student's t; the interval is NaN for one replication."""
    found = np.array([value for value in values if not np.isnan(value)])
    if not len(found):
        return Figure(value=float("nan"), low=float("nan"), high=float("nan"))
    mean, freedom = float(found.mean()), len(found) - 1
    if not freedom:
        return Figure(value=mean, low=float("nan"), high=float("nan"))
    student = STUDENT[freedom] if freedom < len(STUDENT) else 1.96 + 2.5 / freedom
    half = student * float(found.std(ddof=1)) / float(np.sqrt(len(found)))
    return Figure(value=mean, low=mean - half, high=mean + half)


def _mean(values: Float64) -> float:
    return float(values.mean()) if len(values) else float("nan")
