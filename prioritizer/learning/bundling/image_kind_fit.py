"""Teaching what a frontal chest radiograph is: real ones, changed as devices and positioning change them, against what is none.

What is none is made here, of the radiographs and of shapes (outlier exposure, Hendrycks et al. 2019): no file of another body part or
device teaches anything, so that such files can judge.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits
from torch import nn
from torch.nn import functional

from prioritizer.learning.bundling.other_kinds import OTHER_KINDS, Float32, Float64, Rng, changed, tidy
from prioritizer.scope import image_kind
from prioritizer.scope.image_kind import Classifiers, ImageKind, Usual

Tick = Callable[[int, int], None]

MAX_FILMS = 6000
"""Radiographs that teach, drawn alike often of every site: more cost minutes and change nothing."""
CHANGED = 4
"""Changed copies of each."""
OTHERS = 7
"""Pictures of other kinds made of each."""
MEMBERS, HIDDEN = 3, (64, 32)
EPOCHS, BATCH, RATE, DECAY, DROPOUT = 30, 256, 3e-3, 1e-2, 0.2
DIRECTIONS = 96
FALSE_ALARMS = 0.01
"""Share of held-out radiographs, half of them changed, that the classifiers are set to refuse."""
LOOSELY = 1.1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RadiographSet:
    """Radiographs in scope: pictures float32 (N, 112, 112), 0..1, each with its site."""

    pictures: Float32
    sites: tuple[str, ...]


def fit(training: RadiographSet, held_out: RadiographSet, seed: int, tick: Tick = lambda done, of: None) -> ImageKind:
    """The answer taught by radiographs of `training`, with limits from `held_out`, of other patients. The same seed gives the same."""
    # Pictures this small are one thread's work: several wait for each other longer than they calculate.
    with threadpool_limits(limits=1):
        return _fit(training, held_out, seed, tick)


def _fit(training: RadiographSet, held_out: RadiographSet, seed: int, tick: Tick) -> ImageKind:
    rng = np.random.default_rng(seed)
    films = training.pictures[drawn_of_sites(training.sites, MAX_FILMS, rng)]
    right, wrong = [], []
    for done, film in enumerate(films):
        right += [image_kind.features(film), *(image_kind.features(changed(film, rng)) for _ in range(CHANGED))]
        for kind in rng.choice(len(OTHER_KINDS), OTHERS, replace=False):
            shown = changed(film, rng) if rng.random() < 0.6 else film
            wrong.append(image_kind.features(tidy(list(OTHER_KINDS.values())[kind](shown, rng))))
        tick(done + 1, len(films))
    held = [image_kind.features(one) for film in held_out.pictures for one in (film, changed(film, rng))]
    taught = np.stack(right)
    classifiers = _classifiers(taught, np.stack(wrong), seed)
    return image_kind.with_limits(classifiers, usual_of(taught), np.stack(held), false_alarms=FALSE_ALARMS, loosely=LOOSELY)


def drawn_of_sites(sites: Sequence[str], most: int, rng: Rng) -> NDArray[np.int64]:
    """Indices of at most `most` films, as many of every site as there are or as its share allows."""
    names = sorted(set(sites))
    of_site = [np.flatnonzero(np.array(sites) == name) for name in names]
    return np.sort(np.concatenate([rng.permutation(found)[: max(most // len(names), 1)] for found in of_site]))


def usual_of(taught: Float64) -> Usual:
    """Whitened leading directions of features (N, F)."""
    centre, spread = taught.mean(axis=0), taught.std(axis=0) + 0.02
    _, singular, rows = np.linalg.svd((taught - centre) / spread, full_matrices=False)
    count = min(DIRECTIONS, max(len(taught) // 4, 1), len(singular))
    scale = np.maximum(singular[:count] / math.sqrt(len(taught)), 1e-6)
    return Usual(centre=centre.astype(np.float32), directions=(rows[:count] / scale[:, None] / spread).astype(np.float32))


def _classifiers(right: Float64, wrong: Float64, seed: int) -> Classifiers:
    """MEMBERS networks from different first weights, right and wrong pictures of equal weight together."""
    found = np.concatenate([right, wrong])
    centre, spread = found.mean(axis=0), found.std(axis=0) + 1e-3
    inputs = torch.from_numpy(((found - centre) / spread).astype(np.float32))
    targets = torch.cat([torch.ones(len(right)), torch.zeros(len(wrong))])
    weights = torch.cat([torch.full((len(part),), len(found) / 2 / len(part)) for part in (right, wrong)])
    members = [_member(inputs, targets, weights, torch.Generator().manual_seed(seed + number)) for number in range(MEMBERS)]

    def stacked(index: int, name: str) -> Float32:
        values = [getattr(member[index], name).detach().numpy() for member in members]
        return np.stack([value.T if name == "weight" else value for value in values]).astype(np.float32)

    return Classifiers(
        centre=centre.astype(np.float32), spread=spread.astype(np.float32),
        first=stacked(0, "weight"), first_bias=stacked(0, "bias"), second=stacked(2, "weight"), second_bias=stacked(2, "bias"),
        last=stacked(4, "weight")[:, :, 0], last_bias=stacked(4, "bias")[:, 0],
    )  # fmt: skip


def _member(inputs: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor, rng: torch.Generator) -> nn.Sequential:
    """One network, taught by AdamW on one cycle; its dropout is drawn here, so that no other source of chance is touched."""
    sizes = (inputs.shape[1], *HIDDEN, 1)
    layers = [nn.Linear(before, after) for before, after in itertools.pairwise(sizes)]
    with torch.no_grad():
        for layer in layers:
            reach = 1 / math.sqrt(layer.in_features)
            for tensor in (layer.weight, layer.bias):
                tensor.copy_((torch.rand(tensor.shape, generator=rng) * 2 - 1) * reach)
    network = nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])
    batch = min(BATCH, len(inputs))
    steps = EPOCHS * (len(inputs) // batch)
    optimiser = torch.optim.AdamW(network.parameters(), RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps)
    with torch.enable_grad():
        for _ in range(EPOCHS):
            order = torch.randperm(len(inputs), generator=rng)
            for first in range(0, len(inputs) // batch * batch, batch):
                rows = order[first : first + batch]
                hidden = network[1](network[0](inputs[rows]))
                kept = (torch.rand(hidden.shape, generator=rng) >= DROPOUT).float() / (1 - DROPOUT)
                logits = network[4](network[3](network[2](hidden * kept)))[:, 0]
                losses = functional.binary_cross_entropy_with_logits(logits, targets[rows], reduction="none")
                optimiser.zero_grad()
                (losses * weights[rows]).mean().backward()  # type: ignore[no-untyped-call]
                optimiser.step()
                schedule.step()
    return network
