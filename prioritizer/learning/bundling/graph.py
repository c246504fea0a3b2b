"""The exported graph: weights rounded to half precision, written operator by operator, and proved against torch."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import save_file

from prioritizer.errors import ConfigError, ModelError
from prioritizer.imaging import phantoms
from prioritizer.learning.training import network
from prioritizer.learning.training.recipes import Recipe
from prioritizer.learning.training.selection import normalised

LARGE = 4096
"""Tensors with more elements than this are kept in half precision."""
OPSET = 18
OUTPUTS = ("logit", "saliency", "embedding")


def rounded(model: torch.nn.Module) -> None:
    """Round every large weight to half precision in place, so that all figures are those of the shipped weights."""
    with torch.no_grad():
        for tensor in model.state_dict().values():
            if tensor.numel() > LARGE and tensor.dtype == torch.float32:
                tensor.copy_(tensor.half().float())


def save_weights(model: torch.nn.Module, target: Path) -> None:
    """`weights.safetensors`, for further training; large weights in half precision."""
    state = {name: (tensor.half() if tensor.numel() > LARGE else tensor).contiguous().cpu() for name, tensor in model.state_dict().items()}
    save_file(state, str(target))
    # safetensors leaves it to its owner alone; the daemon runs as another user.
    target.chmod(0o644)


def export_graph(model: torch.nn.Module, recipe: Recipe, target: Path) -> None:
    """`model.onnx`: one graph with logit, saliency and embedding. Raises ConfigError where the saliency has no closed form."""
    size = recipe.picture.size
    if not network.has_closed_form(model, size):
        said = f"{recipe.architecture} does not end in mean pooling and one linear layer, so its logit has no exact map of contributions"
        raise ConfigError((f"{said}; a bundle needs one (choose another architecture; a ViT is built with mean pooling by `train`)",))
    with warnings.catch_warnings():
        # The tracing exporter is announced as the old one; it is the one that writes this graph operator by operator, without
        # folding batch norm, and what it writes is proved against torch on the golden inputs.
        warnings.simplefilter("ignore", DeprecationWarning)
        # The shape of the tokens' grid becomes a constant, as it should: the bundle has one size.
        warnings.filterwarnings("ignore", "Converting a tensor to a Python", Warning)
        torch.onnx.export(
            network.Explained(model).eval(),
            (torch.zeros(2, 3, size, size),),
            str(target),
            input_names=["images"],
            output_names=list(OUTPUTS),
            dynamic_axes={name: {0: "n"} for name in ("images", *OUTPUTS)},
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
    answers = network.Explained(model).eval()(normalised(images, recipe))
    return {name: value.numpy() for name, value in zip(OUTPUTS, answers, strict=True)}
