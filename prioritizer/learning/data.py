"""Labelled radiographs for training: read through the serving pixel path, split by patient."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from prioritizer import pixels
from prioritizer.errors import ConfigError

SPLITS = ("train", "calib", "val_report")
SHARES = (0.8, 0.1, 0.1)
KERMANY = re.compile(r"^(person\d+)_(?:bacteria|virus)_\d+|^((?:NORMAL2-)?IM-\d+)")
IMAGE_SUFFIXES = (".jpeg", ".jpg", ".png")


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledImage:
    """One radiograph with its label (1 = pneumonia) and the patient it belongs to."""

    path: Path
    label: int
    patient: str


def patient_of(name: str) -> str:
    """The patient that a file of the Guangzhou set belongs to; any other file name is a patient of its own."""
    match = KERMANY.match(name)
    return next((group for group in match.groups() if group), name) if match else Path(name).stem


def read_folder(root: Path) -> tuple[LabelledImage, ...]:
    """Every image of `root/NORMAL` (label 0) and `root/PNEUMONIA` (label 1), in name order."""
    missing = [name for name in ("NORMAL", "PNEUMONIA") if not (root / name).is_dir()]
    if missing:
        raise ConfigError((f"{root}: no folder {' and no folder '.join(missing)}; a training folder holds NORMAL/ and PNEUMONIA/",))
    found = [
        LabelledImage(path=path, label=label, patient=patient_of(path.name))
        for label, name in enumerate(("NORMAL", "PNEUMONIA"))
        for path in sorted((root / name).iterdir())
        if path.suffix.lower() in IMAGE_SUFFIXES
    ]
    if len({image.label for image in found}) < 2:
        raise ConfigError((f"{root}: NORMAL/ and PNEUMONIA/ must both hold images ({', '.join(IMAGE_SUFFIXES)})",))
    return tuple(found)


def split_by_patient(images: Sequence[LabelledImage], seed: int) -> dict[str, tuple[LabelledImage, ...]]:
    """Images in `train`, `calib` and `val_report`: no patient in two of them, classes in like shares, fixed by `seed`."""
    rng = np.random.default_rng(seed)
    placed: dict[str, str] = {}
    for label in (1, 0):
        patients = sorted({image.patient for image in images if image.label == label and image.patient not in placed})
        rng.shuffle(patients)
        first, second = (round(len(patients) * share) for share in np.cumsum(SHARES)[:2])
        for index, patient in enumerate(patients):
            placed[patient] = SPLITS[0] if index < first else SPLITS[1] if index < second else SPLITS[2]
    return {split: tuple(image for image in images if placed[image.patient] == split) for split in SPLITS}


def write_splits(splits: dict[str, tuple[LabelledImage, ...]], root: Path, target: Path) -> None:
    """The split as JSON: split -> [file, label, patient], file names relative to `root`."""
    rows = {name: [[str(i.path.relative_to(root)), i.label, i.patient] for i in images] for name, images in splits.items()}
    target.write_text(json.dumps(rows, indent=0), encoding="utf-8")


def fingerprint(images: Iterable[LabelledImage]) -> str:
    """SHA-256 over every file's name, label and bytes, so that a run says which data it saw."""
    digest = hashlib.sha256()
    for image in images:
        digest.update(f"{image.path.name}\0{image.label}\0".encode())
        digest.update(hashlib.sha256(image.path.read_bytes()).digest())
    return digest.hexdigest()


def read_picture(path: Path, spec: pixels.Preprocessing) -> NDArray[np.float32]:
    """One image file as the network sees it before normalising: float32, shape (size, size), 0..1."""
    with Image.open(path) as opened:
        grey = np.asarray(opened.convert("L"))
    return pixels.square_picture(grey, pixels.GreyScale(bits_allocated=8, bits_stored=8, signed=False), spec)


def load_pictures(
    images: Sequence[LabelledImage], spec: pixels.Preprocessing, tick: Callable[[], None] = lambda: None
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Pictures float32 (N, size, size), 0..1, and labels float32 (N,)."""
    pictures = np.empty((len(images), spec.size, spec.size), dtype=np.float32)
    for index, image in enumerate(images):
        pictures[index] = read_picture(image.path, spec)
        tick()
    return pictures, np.asarray([image.label for image in images], dtype=np.float32)
