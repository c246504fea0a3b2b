"""What is evaluated: a run with its best checkpoint under torch, or a bundle under the engine that serves it. Both answer alike."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from prioritizer.calibration.maps import Calibration
from prioritizer.errors import ConfigError, NotFound
from prioritizer.imaging.preprocessing import Preprocessing
from prioritizer.inference import bundle_selftest
from prioritizer.inference.bundle import CARD, open_bundle
from prioritizer.inference.engine import Engine
from prioritizer.learning.bundling.engine_answers import load_run
from prioritizer.learning.training import network
from prioritizer.learning.training.recipes import Recipe
from prioritizer.learning.training.run_folder import RUN, Epoch, Journal
from prioritizer.learning.training.selection import normalised

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
"""Tensors of a network that are no parameters."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scores:
    """What a network says of N pictures."""

    logits: Float64
    """Shape (N,)."""
    saliency: Float32 | None
    """Shape (N, h, w); None where the logit has no exact map of contributions."""
    distance: Float64 | None
    """Shape (N,), above 1 is refused by the guard as another kind of image; None without one."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Subject:
    """A network that can be asked, with what is known of it."""

    name: str
    kind: str
    """`run` or `bundle`."""
    folder: Path
    spec: Preprocessing
    score: Callable[[Float32], Scores]
    """Scores of pictures float32 (N, S, S), 0..1."""
    parameters: int
    calibration: Calibration | None
    """A bundle's own; a run has none before it is fitted."""
    saliency_scale: float | None
    """The bundle's; a run's is taken from its calib split."""
    told: Mapping[str, str] = field(default_factory=dict)
    """What the page says of it, by name."""
    epochs: tuple[Epoch, ...] = ()
    scope: str = ""
    intended_use: str = ""


def open_subject(folder: Path, *, threads: int = 0) -> Subject:
    """The bundle or run in a folder. Raises NotFound or ConfigError where it is neither."""
    if not folder.is_dir():
        raise NotFound(f"{folder}: no such folder")
    if (folder / CARD).is_file():
        return _bundle(folder, threads)
    if (folder / RUN).is_file():
        return _run(folder)
    raise ConfigError((f"{folder} is neither a bundle ({CARD}) nor a run ({RUN}); give a folder that `export` or `train` wrote",))


def _bundle(folder: Path, threads: int) -> Subject:
    bundle = open_bundle(folder)
    engine = Engine(bundle, threads=threads)
    bundle_selftest.prove(engine)
    guarded = bundle.guard() is not None

    def score(pictures: Float32) -> Scores:
        found = [engine.score(picture) for picture in pictures]
        return Scores(
            logits=np.concatenate([one.logit for one in found]).astype(np.float64),
            saliency=np.concatenate([one.saliency for one in found]),
            distance=np.array([one.figures.image_kind for one in found]) if guarded else None,
        )

    scope = bundle.scope
    return Subject(
        name=bundle.name,
        kind="bundle",
        folder=folder,
        spec=bundle.preprocessing,
        score=score,
        parameters=stored_parameters(folder / "weights.safetensors"),
        calibration=bundle.calibration,
        saliency_scale=bundle.saliency_scale,
        told={
            "Bundle": f"{bundle.name}, {bundle.digest}",
            "Architecture": str(bundle.card.get("architecture", {}).get("timm", "not stated")),
            "Engine": f"{engine.name}, {engine.precision}, the one that serves",
            "Data it was trained on": str(bundle.card.get("data", {}).get("source", "not stated")),
        },
        scope=f"{'/'.join(scope.modalities)}, {'/'.join(scope.views)}, {scope.min_age_years:g} to {scope.max_age_years:g} years",
        intended_use=str(bundle.card.get("intended_use", "")),
    )


def _run(folder: Path) -> Subject:
    recipe, model, facts = load_run(folder)
    return Subject(
        name=folder.name,
        kind="run",
        folder=folder,
        spec=recipe.preprocessing,
        score=_asked(model, recipe),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        calibration=None,
        saliency_scale=None,
        told={
            "Run": f"{folder.name}, epoch {facts['epoch_kept']} of {facts['epochs_done']} (kept by {recipe.select})",
            "Architecture": recipe.architecture,
            "Engine": f"torch {torch.__version__} on the processor, weights rounded as in a bundle",
            "Data it was trained on": f"fingerprint {facts['data_sha256']}",
        },
        epochs=tuple(Journal(folder).epochs()),
        intended_use="Not stated: a run is no bundle and scores no study. `prioritizer export` makes one of it.",
    )


def _asked(model: torch.nn.Module, recipe: Recipe) -> Callable[[Float32], Scores]:
    explained = network.Explained(model).eval() if network.has_closed_form(model, recipe.picture.size) else None

    @torch.no_grad()
    def score(pictures: Float32) -> Scores:
        images = normalised(torch.from_numpy(pictures)[:, None], recipe)
        if explained is None:
            return Scores(logits=network.logit_of(model(images)).double().numpy(), saliency=None, distance=None)
        logit, saliency, _ = explained(images)
        return Scores(logits=logit.double().numpy(), saliency=saliency.numpy(), distance=None)

    return score


def stored_parameters(path: Path) -> int:
    """Parameters in a safetensors file, read off its header; the running statistics of batch norms are none."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    return sum(prod(told["shape"]) for name, told in header.items() if name != "__metadata__" and not name.endswith(STATISTICS))
