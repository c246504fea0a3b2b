"""A model bundle on disk: card, digests, calibration and golden inputs, verified before anything is scored with it."""

from __future__ import annotations

import hashlib
import json
import tomllib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prioritizer.calibration.maps import Calibration, from_document
from prioritizer.errors import ModelError
from prioritizer.imaging.preprocessing import Preprocessing
from prioritizer.inference import guard_file
from prioritizer.scope.out_of_distribution import Guards, Likeness
from prioritizer.scope.verdict import Scope

CARD = "card.toml"
GUARD = "guard.npz"
DEFAULT_BUNDLE = "cxr-pneumonia-efficientnet-lite0"
TOLERANCE = {"f32": 1e-4, "bf16": 5e-3}
"""Largest allowed difference in probability on the golden inputs, by precision (DESIGN invariant 4)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Golden:
    """Inputs that are no patient's, and what the exported network answers to them in torch float32."""

    pictures: NDArray[np.uint8]
    """Shape (N, size, size); divided by 255 these are pictures 0..1."""
    logit: NDArray[np.float32]
    saliency: NDArray[np.float32]
    embedding: NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A verified bundle. `digest` is the SHA-256 of the card, which holds the digest of every other file."""

    folder: Path
    name: str
    title: str
    digest: str
    preprocessing: Preprocessing
    scope: Scope
    calibration: Calibration
    saliency_scale: float
    """Contribution to the logit, of one cell, that is drawn at full strength."""
    bias: float
    card: dict[str, Any]

    @property
    def model_file(self) -> Path:
        """The ONNX graph."""
        return self.folder / "model.onnx"

    def guard(self) -> Guards | Likeness | None:
        """The guard against pictures of another kind or population; None for a bundle that has none."""
        path = self.folder / GUARD
        return guard_file.read(path) if path.is_file() else None

    def golden(self) -> Golden:
        """The golden inputs and outputs."""
        with np.load(self.folder / "golden.npz", allow_pickle=False) as arrays:
            return Golden(**{name: arrays[name] for name in ("pictures", "logit", "saliency", "embedding")})


def default_folder() -> Path:
    """The bundle that ships with prioritizer: inside an installed package, or the checkout's `models/`."""
    packed = Path(str(resources.files("prioritizer"))) / "_data" / "models" / DEFAULT_BUNDLE
    return packed if packed.is_dir() else Path(__file__).resolve().parents[2] / "models" / DEFAULT_BUNDLE


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def open_bundle(folder: Path | None) -> Bundle:
    """The bundle in `folder` (default: the shipped one), every file's digest checked. Raises ModelError."""
    folder = folder or default_folder()
    card_file = folder / CARD
    if not card_file.is_file():
        raise ModelError(f"{folder} holds no {CARD}", "Set model.bundle to a bundle folder, or leave it out for the shipped one")
    content = card_file.read_bytes()
    try:
        card = tomllib.loads(content.decode("utf-8"))
        _verify_files(folder, card["files"])
        return Bundle(
            folder=folder,
            name=card["name"],
            title=card["title"],
            digest=hashlib.sha256(content).hexdigest(),
            preprocessing=preprocessing_of(card["preprocessing"]),
            scope=scope_of(card["scope"]),
            calibration=read_calibration(folder / "calibration.json"),
            saliency_scale=float(card["saliency"]["scale"]),
            bias=float(card["saliency"]["bias"]),
            card=card,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{card_file} is not a complete card ({error!r})", "Export the bundle again") from error


def _verify_files(folder: Path, digests: dict[str, str]) -> None:
    for name, digest in digests.items():
        path = folder / name
        if Path(name).name != name or not path.is_file():
            raise ModelError(f"{folder} lacks {name}", "Copy the bundle again")
        if sha256_of(path) != digest:
            raise ModelError(f"{path} is not the file that the card names (digest differs)", "Copy the bundle again")


def preprocessing_of(table: dict[str, Any]) -> Preprocessing:
    """The card's [preprocessing]."""
    mean, std = (tuple(float(x) for x in table[key]) for key in ("mean", "std"))
    tone = table.get("tone", "as-is")
    if table["resize"] not in ("squash", "pad") or tone not in ("as-is", "equalised") or len(mean) != 3 or len(std) != 3:
        raise ValueError("preprocessing")
    return Preprocessing(
        id=table["id"],
        size=int(table["size"]),
        resize=table["resize"],
        mean=(mean[0], mean[1], mean[2]),
        std=(std[0], std[1], std[2]),
        tone=tone,
    )


def scope_of(table: dict[str, Any]) -> Scope:
    """The card's [scope]."""
    return Scope(
        modalities=tuple(table["modalities"]),
        min_age_years=float(table["min_age_years"]),
        max_age_years=float(table["max_age_years"]),
        views=tuple(table["views"]),
        species=table["species"],
    )


def read_calibration(path: Path) -> Calibration:
    """A calibration file."""
    return from_document(json.loads(path.read_text(encoding="utf-8")))
