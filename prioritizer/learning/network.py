"""The network as trained and as exported: features -> global average pool -> one linear layer -> logit.

For such a network Grad-CAM has a closed form (Selvaraju et al. 2017; Zhou et al. 2016): the gradient of the logit with respect to
feature map k is w_k / (H*W) at every cell, so the map is sum_k w_k * A_k / (H*W). Before its ReLU its sum plus the bias is the logit.
"""

from __future__ import annotations

import timm
import torch
from torch import Tensor, nn


def build(architecture: str) -> nn.Module:
    """A timm network with one output and random weights; nothing is fetched."""
    return timm.create_model(architecture, pretrained=False, num_classes=1)


def linear_head(network: nn.Module) -> nn.Linear:
    """The one linear layer at the end of a timm network. Raises TypeError for an architecture that has none."""
    head = network.get_classifier()  # type: ignore[operator]
    if not isinstance(head, nn.Linear):
        raise TypeError("the network does not end in one linear layer")
    return head


def forward_features(network: nn.Module, images: Tensor) -> Tensor:
    """The last feature maps (N, K, h, w) of a timm network."""
    return network.forward_features(images)  # type: ignore[operator, no-any-return]


class Explained(nn.Module):
    """The exported graph: (N, 3, S, S) -> logit (N,), saliency (N, h, w) summing with the bias to the logit, embedding (N, D)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.head = linear_head(network)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logit, saliency and embedding of normalised images."""
        features: Tensor = forward_features(self.network, images)
        cells = features.shape[-2] * features.shape[-1]
        saliency = torch.einsum("nkhw,k->nhw", features, self.head.weight[0]) / cells
        embedding = features.mean(dim=(-2, -1))
        logit = embedding @ self.head.weight[0] + self.head.bias[0]
        return logit, saliency, embedding
