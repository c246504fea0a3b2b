"""What a hospital that was never seen may expect: a run that was trained without a site, judged on that site, as it is and recalibrated."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from prioritizer import recalibration
from prioritizer.errors import ConfigError
from prioritizer.inference.engine import Engine
from prioritizer.learning import graph
from prioritizer.learning.cohorts import read_cohort
from prioritizer.learning.export import TARGET_SENSITIVITY, Answers, answers, draft_bundle, load_run
from prioritizer.learning.first_maps import first_maps
from prioritizer.learning.splits import LEFT_OUT, read_splits
from prioritizer.measures import Cases, Figure, figures
from prioritizer.operating_point import Wish, operating_point
from prioritizer.recalibration import Sample


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Figures on one set of films, and how many there are."""

    figures: Mapping[str, Figure]
    counts: Mapping[str, Any]


def measured(run: Path, root: Path, labels: Path | None = None, tick: Callable[[], None] = lambda: None) -> dict[str, Measured]:
    """Two columns of a card: the site's films by the map that the other sites gave, and one half of them by a map of the other half.

    Halves are drawn by patient with seed 0. Raises ConfigError for a run that was trained without no site, or of which the site's films
    are too few or of one class.
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
    # The maps of the other sites know ages; the site's own half makes one map for all.
    p = np.array([first.for_age(one.age_years).probability(logit) for one, logit in zip(seen.images, seen.logits, strict=True)])
    at = {first.for_age(one.age_years).t_high for one in seen.images}
    patients = [image.patient for image in seen.images]
    one = halves(patients, seed=0)
    fit = recalibration.recalibrate(_sample(seen, one), first)
    point = operating_point(_sample(seen, one), first, fit.after, Wish(sensitivity=TARGET_SENSITIVITY), None)
    other = _sample(seen, ~one)
    after = Cases(probabilities=fit.after.probabilities(other.logits), labels=other.labels, patients=other.patients)
    counts = {**seen.counts(), "trained_without": list(sites)}
    found = {}
    if len(at) == 1:
        found[name] = Measured(figures=figures(Cases(probabilities=p, labels=seen.labels, patients=patients), at.pop()), counts=counts)
    half = {"films": int((~one).sum()), "pneumonia": int(other.labels.sum()), "patients": len(set(other.patients))}
    found[f"{name}_recalibrated"] = Measured(figures=figures(after, point.t_high), counts=half | {"trained_without": list(sites)})
    return found


def halves(patients: list[str], seed: int) -> np.ndarray:
    """Which images are of the first half of the patients: bool (N,)."""
    names = np.unique(np.asarray(patients, dtype=np.str_))
    first = set(np.random.default_rng(seed).permutation(names)[: len(names) // 2].tolist())
    return np.array([patient in first for patient in patients])


def _sample(seen: Answers, chosen: np.ndarray) -> Sample:
    at = np.flatnonzero(chosen)
    return Sample(logits=seen.logits[at], labels=seen.labels[at], patients=[seen.images[i].patient for i in at.tolist()])
