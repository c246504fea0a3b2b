"""`python -m benchmarks.never_seen RUN --data SOURCES`: a run that was trained without a site, recalibrated on halves of that site's films.

Twenty halves by patient: the map is fitted on one, judged on the other. Told are the calibration error beside that of probabilities that
are right, how often the intervals of intercept and slope hold 0 and 1, sensitivity at the target of 0.95 and specificity, and the same
without recalibration.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tomlkit
from numpy.typing import NDArray

from prioritizer.calibration.local_fit import Sample, recalibrate
from prioritizer.calibration.maps import Calibration, as_document
from prioritizer.calibration.operating_point import Wish, operating_point
from prioritizer.inference.bundle import CARD, Bundle, open_bundle, sha256_of
from prioritizer.inference.engine import Engine
from prioritizer.learning.bundling import graph
from prioritizer.learning.bundling.engine_answers import answers, load_run
from prioritizer.learning.bundling.export import draft_bundle
from prioritizer.learning.bundling.first_calibration import first_maps
from prioritizer.learning.cohorts.labelled_image import LabelledImage
from prioritizer.learning.cohorts.read import read_cohort
from prioritizer.learning.cohorts.splits import LEFT_OUT, read_splits
from prioritizer.learning.evaluation.never_seen import halves
from prioritizer.statistics.calibration_error import expected_calibration_error
from prioritizer.statistics.intervals import Cases
from prioritizer.statistics.measures import figures, roc_auc

HALVES, TARGET = 20, 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """One half recalibrates, the other judges; each figure after and before."""

    ece: tuple[float, float]
    chance: float
    """Calibration error of probabilities that are right, with as many films."""
    intercept: bool
    slope: bool
    """The interval holds what is right."""
    sensitivity: tuple[float, float]
    specificity: tuple[float, float]


def tried(images: Sequence[LabelledImage], logits: NDArray[np.float64], before: Calibration, seed: int) -> Tried:
    """One pair of halves."""
    labels = np.array([image.label for image in images], dtype=np.float64)
    patients = [image.patient for image in images]
    one = halves(patients, seed)
    fitting, judging = (
        Sample(logits=logits[at], labels=labels[at], patients=[patients[i] for i in np.flatnonzero(at)]) for at in (one, ~one)
    )
    fit = recalibrate(fitting, before, seed=seed)
    point = operating_point(fitting, before, fit.after, Wish(sensitivity=TARGET), None, seed)
    after = replace(fit.after, t_high=point.t_high)
    p, rng = after.probabilities(judging.logits), np.random.default_rng(seed)
    chance = [expected_calibration_error(p, (rng.random(len(p)) < p).astype(float), equal_mass=True) for _ in range(200)]
    now, then = (
        figures(
            Cases(probabilities=its.probabilities(judging.logits), labels=judging.labels, patients=judging.patients), its.t_high, seed, 300
        )
        for its in (after, before)
    )
    intercept, slope = now["calibration_in_the_large"], now["calibration_slope"]
    return Tried(
        ece=(now["ece_equal_mass"].value, then["ece_equal_mass"].value),
        chance=float(np.mean(chance)),
        intercept=intercept.low <= 0 <= intercept.high,
        slope=slope.low <= 1 <= slope.high,
        sensitivity=(now["sensitivity"].value, then["sensitivity"].value),
        specificity=(now["specificity"].value, then["specificity"].value),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Means and counts over all pairs of halves."""

    films: int
    roc_auc: float
    """On all films: no monotone map changes it much."""
    recalibrated: dict[str, float]
    as_it_was: dict[str, float]
    """Mean `ece`, `sensitivity` and `specificity`."""
    ece_above_chance: float
    intercepts: int
    slopes: int
    """Pairs whose interval holds what is right."""

    def lines(self) -> list[str]:
        """For people."""
        return [
            f"{self.films} films, ROC-AUC {self.roc_auc:.3f}",
            *(f"{name}: {value:.3f} recalibrated, {self.as_it_was[name]:.3f} as it was" for name, value in self.recalibrated.items()),
            f"ece above chance: {self.ece_above_chance:.3f} (at most 0.02 is wanted)",
            f"intervals that hold what is right: intercept {self.intercepts}, slope {self.slopes} of {HALVES} (17 are wanted)",
        ]


def summary(images: Sequence[LabelledImage], logits: NDArray[np.float64], before: Calibration) -> Summary:
    """All pairs of halves of a site's images, with the logits (N,) of a network that never saw the site and the map of the other sites."""
    found = [tried(images, logits, before, seed) for seed in range(HALVES)]
    names = ("ece", "sensitivity", "specificity")
    after, unchanged = ({name: float(np.mean([getattr(one, name)[which] for one in found])) for name in names} for which in (0, 1))
    return Summary(
        films=len(images),
        roc_auc=roc_auc(np.array([float(image.label) for image in images]), logits),
        recalibrated=after,
        as_it_was=unchanged,
        ece_above_chance=float(np.mean([one.ece[0] - one.chance for one in found])),
        intercepts=sum(one.intercept for one in found),
        slopes=sum(one.slope for one in found),
    )


def logits_of(engine: Engine, images: Sequence[LabelledImage]) -> NDArray[np.float64]:
    """What the network says of each image: float64 (N,)."""
    return answers(engine, images).logits


def keep(run: Path, folder: Path, calibration: Calibration, films: int) -> Bundle:
    """The network of a run as a bundle that can be tried and not be served with: no guard, and a card that says so."""
    recipe, model, facts = load_run(run)
    folder.mkdir(parents=True, exist_ok=True)
    graph.export_graph(model, recipe, folder / "model.onnx")
    (folder / "calibration.json").write_text(json.dumps(as_document(calibration), indent=1) + "\n", encoding="utf-8")
    golden = graph.golden_pictures(recipe.picture.size)
    outputs: dict[str, Any] = dict(graph.golden_outputs(model, golden, recipe))
    np.savez_compressed(folder / "golden.npz", pictures=golden, **outputs)
    spec = recipe.preprocessing
    card = {
        "name": f"trained-without-{'-'.join(facts['without'])}",
        "title": "For tests of recalibration alone: it has no guard and was judged by nobody",
        "preprocessing": {key: getattr(spec, key) for key in ("id", "size", "resize", "tone")}
        | {"mean": list(spec.mean), "std": list(spec.std)},
        "scope": {"modalities": ["CR", "DX"], "views": ["AP", "PA"], "species": "human", "min_age_years": 0, "max_age_years": 120},
        "saliency": {"scale": 1.0, "bias": draft_bundle(folder, recipe, model).bias},
        "data": {key: facts[key] for key in ("data_sha256", "images", "pneumonia", "sources", "without")},
        "training": {key: facts[key] for key in ("prioritizer", "torch", "timm", "initial_weights", "epochs_done", "recipe")},
        "judged_on": {"films": films},
        "files": {name: sha256_of(folder / name) for name in ("model.onnx", "calibration.json", "golden.npz")},
    }
    (folder / CARD).write_text(tomlkit.dumps(card), encoding="utf-8")
    return open_bundle(folder)


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--keep", type=Path, help="write the network with its map here, in half precision")
    given = parser.parse_args()
    cohort = read_cohort(given.data)
    splits = read_splits(given.run / "splits.json", cohort.images, cohort.root)
    calib, images = splits["calib"], splits[LEFT_OUT]
    with tempfile.TemporaryDirectory() as folder:
        recipe, model, _ = load_run(given.run)
        graph.export_graph(model, recipe, Path(folder) / "model.onnx")
        engine = Engine(draft_bundle(Path(folder), recipe, model))
        found, logits = logits_of(engine, calib), logits_of(engine, images)
    before = first_maps("run", calib, found, target=TARGET, fitted_on="the other sites").calibration
    print("\n".join(summary(images, logits, before).lines()))
    if given.keep is not None:
        print(f"written: {keep(given.run, given.keep, before, len(images)).folder}")


if __name__ == "__main__":
    main()
