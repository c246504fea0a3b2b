"""From a run folder to a bundle: graph, guard, calibration and figures, all made with the engine that will serve it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import tomlkit
import torch

from prioritizer.calibration import local_fit
from prioritizer.calibration.maps import AgeGroup, Calibration, as_document
from prioritizer.calibration.operating_point import Trade, trade
from prioritizer.inference import bundle_selftest, guard_file
from prioritizer.inference.bundle import CARD, GUARD, Bundle, open_bundle
from prioritizer.inference.engine import Engine
from prioritizer.learning.bundling import card, graph, image_kind_fit
from prioritizer.learning.bundling.card_statement import Statement
from prioritizer.learning.bundling.engine_answers import MIN_COUNT, EngineAnswers, answers, load_run
from prioritizer.learning.bundling.first_calibration import first_maps
from prioritizer.learning.cohorts.read import LabelledImage, read_cohort
from prioritizer.learning.cohorts.splits import LEFT_OUT, Splits, read_splits
from prioritizer.learning.training import network
from prioritizer.learning.training.recipes import Recipe
from prioritizer.scope import image_kind, out_of_distribution
from prioritizer.scope.out_of_distribution import Guards
from prioritizer.scope.verdict import Scope
from prioritizer.statistics.intervals import Figure

TARGET_SENSITIVITY = 0.95
"""Sensitivity on the calib split at which `t_high` is set, stated before any figure is looked at."""
LIMIT_SPLITS = ("calib", "select")
"""Where the guard's limits are set: no weight was fitted on these."""
Say = Callable[[str], None]
Tick = Callable[[int, int, str], None]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Part:
    """Films that the card tells of by themselves: those of one site and age group, with the map that they are judged by."""

    name: str
    answers: EngineAnswers
    calibration: Calibration
    group: str
    """The age group, where its map is not for everybody."""


def parts_of(name: str, answered: EngineAnswers, fitted: Calibration) -> list[Part]:
    """The films of a set by site, and by age group where the calibration has a map for each; never all sites in one figure.

    A part with too few films of a class is left out; where that leaves nothing, the set is one part.
    """
    sites = [image.site for image in answered.images]
    groups = [str(fitted.group_of(image.age_years)) if fitted.groups else "" for image in answered.images]
    found = []
    for site, group in sorted(set(zip(sites, groups, strict=True))):
        part = answered.only([place for place, cell in enumerate(zip(sites, groups, strict=True)) if cell == (site, group)])
        if min((part.labels == label).sum() for label in (0, 1)) >= MIN_COUNT:
            its = fitted.of_group(AgeGroup(group)) if group else fitted
            words = [name, *([site] if len(set(sites)) > 1 else []), *([group] if group else [])]
            found.append(Part(name="_".join(words), answers=part, calibration=its, group=group))
    if found or fitted.groups:
        return found
    return [Part(name=name, answers=answered, calibration=fitted, group="")]


def trades_of(parts: Sequence[Part]) -> dict[str, Trade]:
    """What every threshold would give on the films of the report, by age group; each group's first set of them."""
    found: dict[str, Trade] = {}
    for part in parts:
        if part.name.startswith("val_report") and part.group not in found:
            found[part.group] = trade(part.answers.logits, part.answers.labels)
    return found


def joined(*parts: EngineAnswers) -> EngineAnswers:
    """All images of several sets."""
    arrays = {name: np.concatenate([getattr(part, name) for part in parts]) for name in ("logits", "saliency", "embeddings", "pictures")}
    return EngineAnswers(images=tuple(image for part in parts for image in part.images), **arrays)


def fit_guard(training: EngineAnswers, held_out: EngineAnswers, seed: int, tick: Tick = lambda done, of, text: None) -> Guards:
    """Both guards of training images, with limits from images of other patients. A site without such images shares the others' limit."""
    kind = image_kind_fit.fit(training.films, held_out.films, seed, lambda done, of: tick(done, of, "teaching the guard"))
    return Guards(image_kind=kind, population=out_of_distribution.fit_population(training.by_group, held_out.by_group))


def _as_kept(path: Path) -> Guards:
    """The guards as a bundle will read them: some of their arrays are rounded when they are written."""
    found = guard_file.read(path)
    assert isinstance(found, Guards)
    return found


def _guarded(guards: Guards, parts: Sequence[Part]) -> dict[str, dict[str, float]]:
    """What is beyond the limits of each part, and of its images with and without the finding."""
    found = {}
    for part in parts:
        found[part.name] = _shares(guards, part.answers)
        for label, word in ((1, "with"), (0, "without")):
            found[f"{part.name}_{word}"] = _shares(guards, part.answers.only(np.flatnonzero(part.answers.labels == label).tolist()))
    return found


def _shares(guards: Guards, answered: EngineAnswers) -> dict[str, float]:
    """Of a set, the share refused as another kind of image, and the share beyond the training population."""
    kinds = guards.image_kind.distance(np.stack([image_kind.features(picture) for picture in answered.pictures]))
    others = guards.population.distance(answered.embeddings)
    return {"image_kind": round(float((kinds > 1).mean()), 4), "out_of_distribution": round(float((others > 1).mean()), 4)}


def draft_bundle(folder: Path, recipe: Recipe, model: torch.nn.Module) -> Bundle:
    """The bundle as far as it is known when only its graph is written: enough for the engine."""
    nothing = Calibration(id="none", method="none", slope=1.0, intercept=0.0, t_high=1.0, t_low=0.0)
    return Bundle(
        folder=folder,
        name="draft",
        title="draft",
        digest="",
        preprocessing=recipe.preprocessing,
        scope=Scope(),
        calibration=nothing,
        saliency_scale=1.0,
        bias=float(network.direction(model)[1].item()),
        card={},
    )


def export(
    run: Path,
    root: Path,
    target: Path,
    statement: Statement,
    external: Mapping[str, Path],
    *,
    labels: Path | None = None,
    also: Mapping[str, tuple[Mapping[str, Figure], Mapping[str, Any]]] = MappingProxyType({}),
    say: Say = print,
    tick: Tick = lambda done, of, text: None,
) -> None:
    """Write the bundle of a finished run into `target` and prove it with the serving engine.

    `also`: further columns of the card with the counts of their films, such as those of a run without one of the sites.
    """
    recipe, model, facts = load_run(run)
    cohort = read_cohort(root, labels)
    splits = read_splits(run / "splits.json", cohort.images, cohort.root)
    sets = {name: images for name, images in splits.items() if images}
    sets |= {name: read_cohort(folder).for_judging().images for name, folder in external.items()}
    target.mkdir(parents=True, exist_ok=True)
    (target / GUARD).unlink(missing_ok=True)
    graph.export_graph(model, recipe, target / "model.onnx")
    draft = draft_bundle(target, recipe, model)
    found = _answers_of_sets(Engine(draft), sets, tick)
    calib = found["calib"]
    first = first_maps(statement.name, calib.images, calib.logits, target=TARGET_SENSITIVITY, fitted_on="calib split of the training data")
    fitted = statement.meant(first.calibration)
    say(f"calibration: {first.how} ({local_fit.RULE})")
    guard = fit_guard(found["train"], joined(*(found[name] for name in LIMIT_SPLITS if name in found)), recipe.seed, tick)
    guard_file.write(guard, target / GUARD)
    guard = _as_kept(target / GUARD)
    _write_rest(target, model, recipe, fitted)
    reported = {name: found[name] for name in ("val_report", *_both_classes(splits, LEFT_OUT), *external)}
    parts = [part for name, answered in reported.items() for part in parts_of(name, answered, fitted)]
    content = card.card(
        statement,
        recipe,
        facts,
        metrics={part.name: part.answers.figures(part.calibration) | part.answers.looks() for part in parts}
        | {name: dict(found) for name, (found, _) in also.items()},
        metrics_of={part.name: part.answers.counts() | statement.seen_by(part.name) for part in parts}
        | {name: dict(counts) for name, (_, counts) in also.items()},
        guarded=_guarded(guard, parts),
        first=first,
        trades=trades_of(parts),
        scale=float(np.percentile(found["calib"].saliency.max(axis=(1, 2)), 95)),
        bias=draft.bias,
        guard=guard,
        target=target,
    )
    (target / CARD).write_text(tomlkit.dumps(content), encoding="utf-8")
    card.write_card_page(content, as_document(fitted), target / "CARD.md")
    worst = bundle_selftest.prove(Engine(open_bundle(target)))
    say(f"{target}: the serving engine differs from torch by {worst:.1e} in probability on the golden inputs")


def _both_classes(splits: Splits, name: str) -> tuple[str, ...]:
    """The name of a split that is there with both classes: figures need both."""
    return (name,) if len({image.label for image in splits.get(name, ())}) > 1 else ()


def _answers_of_sets(engine: Engine, sets: Mapping[str, Sequence[LabelledImage]], tick: Tick) -> dict[str, EngineAnswers]:
    total, done = sum(len(images) for images in sets.values()), 0
    found = {}
    for name, images in sets.items():

        def one_more(name: str = name) -> None:
            nonlocal done
            done += 1
            tick(done, total, f"scoring {name}")

        found[name] = answers(engine, images, one_more)
    return found


def _write_rest(target: Path, model: torch.nn.Module, recipe: Recipe, fitted: Calibration) -> None:
    """Calibration, weights and golden inputs."""
    (target / "calibration.json").write_text(json.dumps(as_document(fitted), indent=1) + "\n", encoding="utf-8")
    graph.save_weights(model, target / "weights.safetensors")
    golden = graph.golden_pictures(recipe.picture.size)
    outputs: dict[str, Any] = dict(graph.golden_outputs(model, golden, recipe))
    np.savez_compressed(target / "golden.npz", pictures=golden, **outputs)
