"""Probability and saliency of one image on the CPU: the serving engine against torch eager with pytorch-grad-cam.

Of the same network with the same weights, and of DenseNet-121, which earlier bundles had (its time does not depend on its weights). Then
the two networks beside each other as OpenVINO serves them, on one thread.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import openvino
import torch
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from safetensors.torch import load_file

from prioritizer.imaging import preprocessing
from prioritizer.inference.bundle import Bundle, open_bundle
from prioritizer.inference.engine import Engine
from prioritizer.learning.bundling import graph
from prioritizer.learning.training import network
from prioritizer.learning.training.recipes import Phase, Picture, Recipe

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn

REQUIRED_RATIO = 10
REQUIRED_OF_NETWORKS = 3
"""The network that ships costs the processor at most a third of DenseNet-121."""
EARLIER = "densenet121"
ROUNDS = 15
PAUSE_S = 0.3
"""Between two measurements: each library's idle threads spin for a while and would take the other's cores."""


def torch_network(bundle: Bundle) -> nn.Module:
    """The bundle's weights in torch, float32."""
    model = network.build(bundle.card["architecture"]["timm"], stride=bundle.card["architecture"].get("stride", network.COARSE))
    state = load_file(bundle.folder / "weights.safetensors")
    model.load_state_dict({name: value.float() if value.is_floating_point() else value for name, value in state.items()})
    return model.eval()


def last_features(model: nn.Module) -> nn.Module:
    """The layer whose maps are pooled: where Grad-CAM looks."""
    return model.features if hasattr(model, "features") else model.bn2


def peer_of(model: nn.Module, images: torch.Tensor) -> Callable[[], None]:
    """Probability by torch eager, then the map by pytorch-grad-cam."""

    def work() -> None:
        with torch.no_grad():
            torch.sigmoid(model(images))
        with GradCAM(model=model, target_layers=[last_features(model)]) as cam:
            cam(input_tensor=images, targets=[ClassifierOutputTarget(0)])

    return work


def served_earlier(bundle: Bundle) -> Callable[[NDArray[np.float32]], object]:
    """DenseNet-121 with closed-form maps as OpenVINO would serve it: float32, one image, one thread; random weights."""
    size = bundle.preprocessing.size
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "model.onnx"
        recipe = Recipe(architecture=EARLIER, picture=Picture(size=size), phases=(Phase(epochs=1, learning_rate=1e-3),))
        graph.export_graph(network.build(EARLIER, size=size).eval(), recipe, target)
        model = openvino.Core().read_model(model=target.read_bytes(), weights=b"")
    model.reshape({0: [1, 3, size, size]})
    config = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32", "NUM_STREAMS": "1", "INFERENCE_NUM_THREADS": 1}
    request = openvino.Core().compile_model(model, "CPU", config).create_infer_request()
    return lambda images: request.infer({0: images})


def alternating(*works: Callable[[], object]) -> list[list[float]]:
    """Milliseconds of every round of each, in turn."""
    taken: list[list[float]] = [[] for _ in works]
    for turn in range(ROUNDS + 2):
        for work, kept in zip(works, taken, strict=True):
            time.sleep(PAUSE_S)
            begin = time.perf_counter()
            work()
            if turn >= 2:
                kept.append((time.perf_counter() - begin) * 1000)
    return taken


def row(what: str, required: str, least: float, mine: list[float], theirs: list[float]) -> dict[str, Any]:
    """A line of docs/benchmarks.md: how often ours fits into theirs."""
    ratio = statistics.median(theirs) / statistics.median(mine)
    return {
        "what": what,
        "required": required,
        "ratio": ratio,
        "median": f"{statistics.median(mine):.1f} ms against {statistics.median(theirs):.1f} ms",
        "spread": f"{min(mine):.1f}-{max(mine):.1f} ms against {min(theirs):.1f}-{max(theirs):.1f} ms",
        "met": ratio >= least,
    }


def run() -> list[dict[str, Any]]:
    """Rows for docs/benchmarks.md."""
    bundle = open_bundle(None)
    engine, alone = Engine(bundle), Engine(bundle, threads=1)
    picture = bundle.golden().pictures[0].astype(np.float32) / np.float32(255)
    images = preprocessing.normalised(picture[None], bundle.preprocessing)
    same, earlier = (peer_of(model, torch.from_numpy(images)) for model in (torch_network(bundle), network.build(EARLIER).eval()))
    served = served_earlier(bundle)
    mine, of_same, of_earlier = alternating(lambda: engine.score(picture), same, earlier)
    ours, theirs = alternating(lambda: alone.infer(images), lambda: served(images))
    required = f">= {REQUIRED_RATIO} x torch eager + pytorch-grad-cam"
    name = bundle.card["architecture"]["timm"]
    return [
        row("probability and saliency of one image, float32", f"{required}, the same network", REQUIRED_RATIO, mine, of_same),
        row("the same against the earlier network", f"{required} of {EARLIER}", REQUIRED_RATIO, mine, of_earlier),
        row(
            f"{name} on one thread",
            f">= {REQUIRED_OF_NETWORKS} x {EARLIER} on one thread, both by OpenVINO",
            REQUIRED_OF_NETWORKS,
            ours,
            theirs,
        ),
    ]
