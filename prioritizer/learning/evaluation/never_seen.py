"""What a hospital that was never seen may expect: a run that was trained without a site, judged on that site, as it is and recalibrated."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from prioritizer.calibration import local_fit
from prioritizer.calibration.local_fit import Sample
from prioritizer.calibration.operating_point import Wish, operating_point
from prioritizer.errors import CohortUnfit, ConfigError
from prioritizer.inference.engine import Engine
from prioritizer.learning.bundling import graph
from prioritizer.learning.bundling.engine_answers import EngineAnswers, answers, load_run
from prioritizer.learning.bundling.export import TARGET_SENSITIVITY, draft_bundle
from prioritizer.learning.bundling.first_calibration import first_maps
from prioritizer.learning.cohorts.read import read_cohort
from prioritizer.learning.cohorts.splits import LEFT_OUT, read_splits
from prioritizer.statistics.intervals import Figure


@dataclass(frozen=True, slots=True, kw_only=True)
class SetFigures:
    """Figures on one set of films, and how many there are."""

    figures: Mapping[str, Figure]
    counts: Mapping[str, Any]


def measured(run: Path, root: Path, labels: Path | None = None, tick: Callable[[], None] = lambda: None) -> dict[str, SetFigures]:
    """Two columns of a card: the site's films by the map that the other sites gave, and one half of them by a map of the other half.

    Halves are drawn by patient with seed 0. Raises ConfigError for a run that was trained with every site. Where a half carries no
    fit, there is no second column.
    """
    recipe, model, facts = load_run(run)
    sites = facts.get("without") or []
    if not sites:
        raise ConfigError(
            (f"{run} was trained with every site: `prioritizer train RUN --data sources.toml --without SITE` leaves one out",)
        )
    cohort = read_cohort(root, labels)
    splits = read_splits(run / "splits.json", cohort.images, cohort.root)
    with tempfile.TemporaryDirectory() as folder:
        graph.export_graph(model, recipe, Path(folder) / "model.onnx")
        engine = Engine(draft_bundle(Path(folder), recipe, model))
        calib, seen = (answers(engine, splits[name], tick) for name in ("calib", LEFT_OUT))
    name = f"never_seen_{'_'.join(sites)}"
    first = first_maps(name, calib.images, calib.logits, target=TARGET_SENSITIVITY, fitted_on="the other sites").calibration
    maps = {first.for_age(image.age_years) for image in seen.images}
    counts = {"trained_without": list(sites)}
    found = {}
    if len(maps) == 1:  # otherwise no one threshold is that of all films
        found[name] = SetFigures(figures=seen.figures(maps.pop()), counts=seen.counts() | counts)
    one = halves([image.patient for image in seen.images], seed=0)
    own, other = (seen.only(np.flatnonzero(chosen).tolist()) for chosen in (one, ~one))
    try:
        fit = local_fit.recalibrate(_sample(own), first)
    except CohortUnfit:
        return found
    point = operating_point(_sample(own), first, fit.after, Wish(sensitivity=TARGET_SENSITIVITY), None)
    after = replace(fit.after, t_high=point.t_high)
    return found | {f"{name}_recalibrated": SetFigures(figures=other.figures(after), counts=other.counts() | counts)}


def halves(patients: list[str], seed: int) -> np.ndarray:
    """Which images are of the first half of the patients: bool (N,)."""
    names = np.unique(np.asarray(patients, dtype=np.str_))
    first = set(np.random.default_rng(seed).permutation(names)[: len(names) // 2].tolist())
    return np.array([patient in first for patient in patients])


def _sample(seen: EngineAnswers) -> Sample:
    return Sample(logits=seen.logits, labels=seen.labels, patients=[image.patient for image in seen.images])
