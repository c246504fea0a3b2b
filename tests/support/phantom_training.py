"""A cohort of phantoms and a recipe so small that a whole training takes seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from prioritizer.imaging import phantoms
from prioritizer.learning.training.recipes import Augment, Phase, Picture, Recipe

EVERY_CHANGE = Augment(
    rotation=10, shift=0.05, scale=0.1, aspect=0.1, flip=0.5, brightness=0.1, contrast=0.2, gamma=0.3,
    blur=0.5, jpeg=0.5, noise=0.05, erase=2, mix_spectra=0.5, surround=0.5,
)  # fmt: skip
TINY = Recipe(
    architecture="test_resnet.r160_in1k",
    outputs=2,
    batch_size=8,
    drop_rate=0.1,
    label_smoothing=0.02,
    sampler="unlinked",
    clip=5.0,
    average=0.9,
    select="unlinked",
    picture=Picture(size=64, tone="equalised"),
    augment=EVERY_CHANGE,
    phases=(
        Phase(epochs=1, learning_rate=1e-3, size=48),
        Phase(epochs=2, learning_rate=1e-3, schedule="continue"),
        Phase(epochs=1, learning_rate=1e-4, schedule="plateau"),
    ),
)


def with_own_build(picture: np.ndarray, seed: int) -> np.ndarray:
    """The phantom with coarse shadows of its own: bare phantoms resemble each other like copies of one film."""
    coarse = Image.fromarray(np.random.default_rng(seed).integers(0, 256, (5, 5), dtype=np.uint8))
    shadows = np.asarray(coarse.resize(picture.shape[::-1], Image.Resampling.BICUBIC), dtype=np.float64)
    return np.clip(0.6 * picture + 0.4 * shadows, 0, 255).astype(np.uint8)


def phantom_cohort(root: Path, patients: int = 40, side: int = 64, first_seed: int = 1000) -> Path:
    """NORMAL/ and PNEUMONIA/ with one or two phantoms of each patient, named like the Guangzhou files."""
    for label, name in enumerate(("NORMAL", "PNEUMONIA")):
        (root / name).mkdir(parents=True)
        for patient in range(patients):
            for shot in range(1 + patient % 2):
                stem = f"person{patient}_bacteria_{shot}" if label else f"IM-{patient:04d}-{shot:04d}"
                picture = phantoms.picture(side, opacity=bool(label), seed=first_seed * (1 + label) + 10 * patient + shot)
                Image.fromarray(with_own_build(picture, first_seed + 100 * patient + shot + 50 * label)).save(root / name / f"{stem}.png")
    return root


def weights_of(folder: Path, name: str = "last.pt") -> dict[str, torch.Tensor]:
    state = torch.load(folder / name, weights_only=True)
    return state["average"] or state["model"] if name == "last.pt" else state["kept"]
