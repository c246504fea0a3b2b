"""Probability and saliency of one image on the CPU: the serving engine against torch eager with pytorch-grad-cam, same weights."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from safetensors.torch import load_file

from prioritizer.imaging import preprocessing
from prioritizer.inference.bundle import Bundle, open_bundle
from prioritizer.inference.engine import Engine
from prioritizer.learning.training import network

if TYPE_CHECKING:
    from torch import nn

REQUIRED_RATIO = 10
ROUNDS = 15
PAUSE_S = 0.3
"""Between two measurements: each library's idle threads spin for a while and would take the other's cores."""


def torch_network(bundle: Bundle) -> nn.Module:
    """The bundle's weights in torch, float32."""
    model = network.build(bundle.card["architecture"]["timm"], stride=bundle.card["architecture"].get("stride", network.COARSE))
    state = load_file(bundle.folder / "weights.safetensors")
    model.load_state_dict({name: value.float() if value.is_floating_point() else value for name, value in state.items()})
    return model.eval()


def run() -> list[dict[str, Any]]:
    """Rows for docs/benchmarks.md."""
    bundle = open_bundle(None)
    engine = Engine(bundle)
    model = torch_network(bundle)
    picture = bundle.golden().pictures[0].astype(np.float32) / np.float32(255)
    images = torch.from_numpy(preprocessing.normalised(picture[None], bundle.preprocessing))
    targets = [ClassifierOutputTarget(0)]

    def peer() -> None:
        with torch.no_grad():
            torch.sigmoid(model(images))
        with GradCAM(model=model, target_layers=[model.features]) as cam:
            cam(input_tensor=images, targets=targets)

    mine, theirs = [], []
    for turn in range(ROUNDS + 2):
        for work, kept in ((lambda: engine.score(picture), mine), (peer, theirs)):
            time.sleep(PAUSE_S)
            begin = time.perf_counter()
            work()
            if turn >= 2:
                kept.append((time.perf_counter() - begin) * 1000)
    ratio = statistics.median(theirs) / statistics.median(mine)
    return [
        {
            "what": "probability and saliency of one image, float32",
            "required": f">= {REQUIRED_RATIO} x torch eager + pytorch-grad-cam",
            "ratio": ratio,
            "median": f"{statistics.median(mine):.1f} ms against {statistics.median(theirs):.1f} ms",
            "spread": f"{min(mine):.1f}-{max(mine):.1f} ms against {min(theirs):.1f}-{max(theirs):.1f} ms",
            "met": ratio >= REQUIRED_RATIO,
        }
    ]
