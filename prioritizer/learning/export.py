"""From a run folder to a bundle: weights rounded, ONNX verified against torch, calibrated on `calib`, reported on `val_report`."""

from __future__ import annotations

import csv
import json
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import tomlkit
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import save_file

from prioritizer import phantoms
from prioritizer.calibration import Calibration, fit_temperature, sigmoid, threshold_at_sensitivity
from prioritizer.errors import ConfigError, ModelError
from prioritizer.inference.bundle import CARD, open_bundle, sha256_of
from prioritizer.inference.engine import Engine
from prioritizer.learning import data, network
from prioritizer.learning.card import write_card_page
from prioritizer.learning.recipes import Recipe
from prioritizer.learning.train import normalised, predict
from prioritizer.measures import Cases, Figure, figures

TARGET_SENSITIVITY = 0.95
"""Sensitivity on the calib split at which `t_high` is set, stated before any figure is looked at."""
LARGE = 4096
"""Tensors with more elements than this are kept in half precision."""
OPSET = 18
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """What a person must say of a bundle; nothing here can be measured."""

    name: str
    title: str
    intended_use: str
    data_source: str
    data_licence: str
    min_age_years: float
    max_age_years: float
    training_ages: str
    limits: tuple[str, ...]


def read_statement(path: Path) -> Statement:
    """The statement in a TOML file."""
    values = tomlkit.parse(path.read_text(encoding="utf-8")).unwrap()
    try:
        return Statement(**{**values, "limits": tuple(values["limits"])})
    except (KeyError, TypeError) as error:
        raise ConfigError((f"{path}: {error}",)) from error


def rounded(model: torch.nn.Module) -> None:
    """Round every large weight to half precision in place, so that all figures are those of the shipped weights."""
    with torch.no_grad():
        for tensor in model.state_dict().values():
            if tensor.numel() > LARGE and tensor.dtype == torch.float32:
                tensor.copy_(tensor.half().float())


def export_graph(model: torch.nn.Module, recipe: Recipe, target: Path) -> None:
    """`model.onnx`: one graph with logit, saliency and embedding; large weights stored in half precision and cast back."""
    example = torch.zeros(2, 3, recipe.size, recipe.size)
    with warnings.catch_warnings():
        # The tracing exporter is announced as the old one; it is the one that writes this graph operator by operator, without
        # folding batch norm, and what it writes is proved against torch on the golden inputs.
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            network.Explained(model).eval(),
            (example,),
            str(target),
            input_names=["images"],
            output_names=["logit", "saliency", "embedding"],
            dynamic_axes={name: {0: "n"} for name in ("images", "logit", "saliency", "embedding")},
            opset_version=OPSET,
            # Not fused: batch norm folded into a rounded convolution would be rounded a second time.
            training=torch.onnx.TrainingMode.PRESERVE,
            do_constant_folding=False,
            dynamo=False,
        )
    graph = onnx.load(str(target))
    _halve_large_weights(graph)
    onnx.checker.check_model(graph)
    if any(node.domain not in ("", "ai.onnx") for node in graph.graph.node):
        raise ModelError("the exported graph uses a custom operator", "Use an architecture of standard operators")
    onnx.save(graph, str(target))


def _halve_large_weights(graph: onnx.ModelProto) -> None:
    casts = []
    for tensor in graph.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or int(np.prod(tensor.dims)) <= LARGE:
            continue
        name, values = tensor.name, numpy_helper.to_array(tensor).astype(np.float16)
        tensor.CopyFrom(numpy_helper.from_array(values, f"{name}.half"))
        casts.append(helper.make_node("Cast", [f"{name}.half"], [name], to=TensorProto.FLOAT))
    for cast in reversed(casts):
        graph.graph.node.insert(0, cast)


def golden_pictures(size: int) -> NDArray[np.uint8]:
    """Inputs that are no patient's: phantoms with and without opacity, black, white, and noise; uint8 (N, size, size)."""
    rng = np.random.default_rng(20261122)
    drawn = [phantoms.picture(size, opacity=opacity, seed=seed) for seed, opacity in enumerate((False, True, False, True))]
    flat = [np.full((size, size), value, dtype=np.uint8) for value in (0, 255)]
    return np.stack([*drawn, *flat, rng.integers(0, 256, (size, size), dtype=np.uint8)])


@torch.no_grad()
def golden_outputs(model: torch.nn.Module, pictures: NDArray[np.uint8], recipe: Recipe) -> dict[str, NDArray[np.float32]]:
    """What torch float32 answers to the golden inputs."""
    images = torch.from_numpy(pictures.astype(np.float32) / np.float32(255))[:, None]
    outputs = network.Explained(model).eval()(normalised(images, recipe))
    return {name: value.numpy() for name, value in zip(("logit", "saliency", "embedding"), outputs, strict=True)}


@torch.no_grad()
def saliency_scale(model: torch.nn.Module, pictures: NDArray[np.float32], recipe: Recipe) -> float:
    """The contribution of one cell that is drawn at full strength: 95th percentile over images of their strongest cell."""
    explained = network.Explained(model).eval()
    strongest = [
        explained(normalised(torch.from_numpy(pictures[i : i + 32])[:, None], recipe))[1].amax(dim=(1, 2)).numpy()
        for i in range(0, len(pictures), 32)
    ]
    return float(np.percentile(np.concatenate(strongest), 95))


def load_run(folder: Path) -> tuple[Recipe, torch.nn.Module, dict[str, Any]]:
    """Recipe, trained network with rounded weights, and the facts of a run."""
    facts = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    recipe = Recipe(**facts["recipe"])
    model = network.build(recipe.architecture)
    state = torch.load(folder / "last.pt", map_location="cpu", weights_only=True)
    model.load_state_dict(state["model"])
    model.eval()
    rounded(model)
    return recipe, model, facts | {"epochs_done": state["done"]}


def split_images(run: Path, root: Path, split: str) -> tuple[data.LabelledImage, ...]:
    """The images of a split as the run wrote it down."""
    rows = json.loads((run / "splits.json").read_text(encoding="utf-8"))[split]
    return tuple(data.LabelledImage(path=root / name, label=label, patient=patient) for name, label, patient in rows)


def external_images(folder: Path) -> tuple[data.LabelledImage, ...]:
    """A cohort with `labels.csv` (file, label, patient_id): for evaluation only."""
    with (folder / "labels.csv").open(newline="", encoding="utf-8") as file:
        return tuple(
            data.LabelledImage(path=folder / row["file"], label=int(row["label"]), patient=row["patient_id"])
            for row in csv.DictReader(file)
        )


def measure(model: torch.nn.Module, images: tuple[data.LabelledImage, ...], recipe: Recipe, fitted: Calibration) -> dict[str, Figure]:
    """All figures of `images` under a calibration and threshold fitted elsewhere."""
    pictures, labels = data.load_pictures(images, recipe.preprocessing)
    logits = predict(model, pictures, recipe, torch.device("cpu"))
    probabilities = sigmoid(fitted.slope * logits + fitted.intercept)
    cases = Cases(probabilities=probabilities, labels=labels.astype(np.float64), patients=[i.patient for i in images])
    return figures(cases, fitted.t_high)


def calibrate(logits: NDArray[np.float64], labels: NDArray[np.float64], name: str) -> Calibration:
    """Temperature scaling with thresholds from the same split: never from the data reported on."""
    slope = fit_temperature(logits, labels)
    probabilities = sigmoid(slope * logits)
    return Calibration(
        id=f"{name}-temperature",
        method="temperature",
        slope=slope,
        intercept=0.0,
        t_high=threshold_at_sensitivity(probabilities, labels, TARGET_SENSITIVITY),
        t_low=threshold_at_sensitivity(probabilities, labels, 0.99),
        fitted_on="calib split of the training data",
        n=len(labels),
        events=int(labels.sum()),
    )


def export(
    run: Path,
    root: Path,
    target: Path,
    statement: Statement,
    external: Mapping[str, Path],
    say: Say = print,
) -> None:
    """Write the bundle of a finished run into `target` and prove it with the serving engine."""
    recipe, model, facts = load_run(run)
    target.mkdir(parents=True, exist_ok=True)
    calib_images = split_images(run, root, "calib")
    pictures, labels = data.load_pictures(calib_images, recipe.preprocessing)
    say(f"calibrating on {len(labels)} images")
    fitted = calibrate(predict(model, pictures, recipe, torch.device("cpu")), labels.astype(np.float64), statement.name)
    scale = saliency_scale(model, pictures, recipe)
    (target / "calibration.json").write_text(json.dumps(asdict(fitted), indent=1) + "\n", encoding="utf-8")
    export_graph(model, recipe, target / "model.onnx")
    _save_weights(model, target / "weights.safetensors")
    golden = golden_pictures(recipe.size)
    outputs: dict[str, Any] = dict(golden_outputs(model, golden, recipe))
    np.savez_compressed(target / "golden.npz", pictures=golden, **outputs)
    say("measuring val_report and the external sets")
    measured = {"val_report": measure(model, split_images(run, root, "val_report"), recipe, fitted)}
    measured |= {name: measure(model, external_images(folder), recipe, fitted) for name, folder in external.items()}
    card = _card(statement, recipe, facts, measured, scale, network.linear_head(model).bias[0].item(), target)
    (target / CARD).write_text(tomlkit.dumps(card), encoding="utf-8")
    write_card_page(card, asdict(fitted), target / "CARD.md")
    worst = Engine(open_bundle(target)).prove()
    say(f"{target}: the serving engine differs from torch by {worst:.1e} in probability on the golden inputs")


def _save_weights(model: torch.nn.Module, target: Path) -> None:
    state = {name: (tensor.half() if tensor.numel() > LARGE else tensor).contiguous().cpu() for name, tensor in model.state_dict().items()}
    save_file(state, str(target))


def _card(
    statement: Statement,
    recipe: Recipe,
    facts: dict[str, Any],
    measured: Mapping[str, dict[str, Figure]],
    scale: float,
    bias: float,
    target: Path,
) -> dict[str, Any]:
    spec = recipe.preprocessing
    return {
        "name": statement.name,
        "title": statement.title,
        "created": datetime.now(UTC).date().isoformat(),
        "intended_use": statement.intended_use,
        "limits": list(statement.limits),
        "architecture": {"timm": recipe.architecture, "outputs": 1, "weights": "from scratch", "stored": "half precision"},
        "preprocessing": {"id": spec.id, "size": spec.size, "resize": spec.resize, "mean": list(spec.mean), "std": list(spec.std)},
        "scope": {
            "modalities": ["CR", "DX"],
            "body_part": "CHEST",
            "views": ["AP", "PA"],
            "species": "human",
            "min_age_years": statement.min_age_years,
            "max_age_years": statement.max_age_years,
            "training_ages": statement.training_ages,
        },
        "saliency": {"scale": scale, "bias": bias},
        "data": {
            "source": statement.data_source,
            "licence": statement.data_licence,
            "sha256": facts["data_sha256"],
            "images": facts["images"],
            "patients": facts["patients"],
            "pneumonia": facts["pneumonia"],
        },
        "training": {
            **{key: facts[key] for key in ("prioritizer", "torch", "timm", "epochs_done")},
            "recipe": facts["recipe"],
        },
        "metrics": {
            split: {name: [round(f.value, 4), round(f.low, 4), round(f.high, 4)] for name, f in found.items()}
            for split, found in measured.items()
        },
        "files": {name: sha256_of(target / name) for name in ("model.onnx", "weights.safetensors", "calibration.json", "golden.npz")},
    }
