"""The network as trained and as exported: features -> pooling -> one linear layer -> logit.

For a network that ends in global average pooling and one linear layer Grad-CAM has a closed form (Selvaraju et al. 2017; Zhou et
al. 2016): the gradient of the logit with respect to feature map k is w_k / (H*W) at every cell, so the map is
sum_k w_k * A_k / (H*W). Before its ReLU its sum plus the bias is the logit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import timm
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from prioritizer.errors import ConfigError

Trainable = Literal["all", "last-block", "head"]
COARSE = 32
"""Stride of the last feature maps of a network as it is published."""
CELLS = 14
"""Cells a side, at most, of the saliency that a bundle gives."""


def build(architecture: str, outputs: int = 1, size: int = 224, drop_rate: float = 0.0, stride: int = 32) -> nn.Module:
    """A timm network with random weights for pictures of `size`; nothing is fetched. Raises ConfigError for an unknown name.

    `stride`: pixels of the picture from one cell of the last feature maps to the next; 16 where the architecture can be built so.
    """
    if not timm.is_model(architecture):
        near = ", ".join(timm.list_models(f"{architecture[:6]}*")[:6])
        raise ConfigError((f"architecture {architecture!r} is unknown to timm {timm.__version__}" + (f"; near: {near}" if near else ""),))
    given: dict[str, Any] = {"pretrained": False, "num_classes": outputs, "drop_rate": drop_rate}
    if architecture.startswith("vit_"):
        # The mean of the normalised tokens into the head, with no layer between, so that the saliency has a closed form here too.
        given |= {"img_size": size, "class_token": False, "global_pool": "avg", "fc_norm": False}
    if stride != COARSE:
        given["output_stride"] = stride
    try:
        return timm.create_model(architecture, **given)
    except (TypeError, NotImplementedError, AssertionError) as error:  # each what timm raises of an architecture without such a stride
        if stride == COARSE:
            raise
        raise ConfigError((f"stride = {stride}: {architecture} cannot be built so; leave it at {COARSE}",)) from error


def load_weights(network: nn.Module, path: Path) -> list[str]:
    """Initial weights from a local safetensors file; returns what kept its random weights (the head of another task, say)."""
    if not path.is_file():
        raise ConfigError((f"{path}: no such file; --weights takes a local .safetensors file",))
    given: Mapping[str, Tensor] = load_file(str(path))
    own = network.state_dict()
    fitting = {name: value.float() for name, value in given.items() if name in own and own[name].shape == value.shape}
    if not fitting:
        raise ConfigError((f"{path}: holds no weight of this architecture ({len(given)} tensors, none fits)",))
    network.load_state_dict(fitting, strict=False)
    return sorted(set(own) - set(fitting))


def set_trainable(network: nn.Module, part: Trainable) -> None:
    """Freeze everything but `part`. `last-block`: the last third of the parameters, counted from the head."""
    parameters = list(network.parameters())
    if part == "head":
        kept = {id(p) for p in linear_head(network).parameters()}
    elif part == "last-block":
        whole = sum(p.numel() for p in parameters)
        kept, counted = set(), 0
        for p in reversed(parameters):
            if counted > whole / 3:
                break
            kept.add(id(p))
            counted += p.numel()
    else:
        kept = {id(p) for p in parameters}
    for p in parameters:
        p.requires_grad_(id(p) in kept)


def quiet_frozen_norms(network: nn.Module) -> None:
    """Batch norms whose parameters are frozen keep their statistics too: call after `train()`."""
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and not any(p.requires_grad for p in module.parameters()):
            module.eval()


def logit_of(answer: Tensor) -> Tensor:
    """The logit (N,) of a network's answer (N, 1) or (N, 2): the log-odds of a softmax over two is their difference."""
    return answer[:, 0] if answer.shape[1] == 1 else answer[:, 1] - answer[:, 0]


def linear_head(network: nn.Module) -> nn.Linear:
    """The one linear layer at the end of a timm network. Raises TypeError for an architecture that has none."""
    head = network.get_classifier()  # type: ignore[operator]
    if not isinstance(head, nn.Linear):
        raise TypeError("the network does not end in one linear layer")
    return head


def direction(network: nn.Module) -> tuple[Tensor, Tensor]:
    """Weights (K,) and bias () of the logit over the pooled features, for one output or two."""
    head = linear_head(network)
    if head.out_features == 1:
        return head.weight[0], head.bias[0]
    return head.weight[1] - head.weight[0], head.bias[1] - head.bias[0]


def feature_maps(network: nn.Module, images: Tensor) -> Tensor:
    """The last feature maps (N, K, h, w) of a timm network; the tokens of a transformer are laid back into their grid."""
    return _as_maps(network, network.forward_features(images))  # type: ignore[operator]


def _as_maps(network: nn.Module, features: Tensor) -> Tensor:
    if features.dim() == 4:
        return features
    tokens = features[:, getattr(network, "num_prefix_tokens", 0) :]
    side = round(tokens.shape[1] ** 0.5)
    return tokens.transpose(1, 2).reshape(len(tokens), tokens.shape[2], side, side)


def depths(network: nn.Module) -> list[str]:
    """Names of up to three modules on the way, whose mean activations say how a picture looks rather than what is on it."""
    named = [info["module"] for info in getattr(network, "feature_info", [])][1:-1]
    step = max(len(named) // 3, 1)
    return named[step - 1 :: step][:3]


class Mapped(nn.Module):
    """The network in training, with its map: (N, 3, S, S) -> answer (N, 1 or 2), contributions (N, h, w) to the logit.

    The answer is the network's own, with the dropout of its head; the contributions are those of its features before that.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Answer and contributions of normalised images."""
        features: Tensor = self.network.forward_features(images)  # type: ignore[operator]
        answer: Tensor = self.network.forward_head(features)  # type: ignore[operator]
        weights, _ = direction(self.network)
        maps = _as_maps(self.network, features)
        return answer, _on_cells(torch.einsum("nkhw,k->nhw", maps, weights.to(maps.dtype)) / (maps.shape[-2] * maps.shape[-1]))


class Explained(nn.Module):
    """The exported graph: (N, 3, S, S) -> logit (N,), saliency (N, h, w) summing with the bias to the logit, embedding (N, D).

    The embedding is the pooled last features, from which the logit comes, followed by the mean activations of `depths`.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.seen: dict[str, Tensor] = {}
        for name in depths(network):
            network.get_submodule(name).register_forward_hook(self._keep(name))

    def _keep(self, name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        def hook(module: nn.Module, given: Any, answer: Tensor) -> None:
            self.seen[name] = answer

        return hook

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logit, saliency and embedding of normalised images."""
        features = feature_maps(self.network, images)
        weights, bias = direction(self.network)
        contributions = torch.einsum("nkhw,k->nhw", features, weights) / (features.shape[-2] * features.shape[-1])
        pooled = features.mean(dim=(-2, -1))
        on_the_way = [_mean_activation(self.seen[name]) for name in depths(self.network)]
        return pooled @ weights + bias, _on_cells(contributions), torch.cat([pooled, *on_the_way], dim=1)


def _mean_activation(answer: Tensor) -> Tensor:
    """Mean over the picture (N, K), of maps (N, K, h, w) or tokens (N, T, K)."""
    return answer.mean(dim=(-2, -1)) if answer.dim() == 4 else answer.mean(dim=1)


def _on_cells(contributions: Tensor) -> Tensor:
    """Contributions (N, h, w) added up to at most CELLS x CELLS cells, so that their sum stays what it is."""
    factor = contributions.shape[-1] // CELLS
    if factor < 2 or contributions.shape[-1] % CELLS:
        return contributions
    return functional.avg_pool2d(contributions[:, None], factor)[:, 0] * factor**2


def has_closed_form(network: nn.Module, size: int) -> bool:
    """True where the saliency comes out of the forward pass: mean-pooled features into one linear layer."""
    was_training = network.training
    network.eval()
    example = torch.linspace(-2, 2, 3 * size * size).view(1, 3, size, size)
    with torch.no_grad():
        try:
            same = torch.allclose(Explained(network)(example)[0], logit_of(network(example)), atol=1e-4)
        except (RuntimeError, TypeError, IndexError, AttributeError):
            same = False
    network.train(was_training)
    return bool(same)
