"""Hospitals of phantoms, and the sources file that names them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from prioritizer.learning.cohorts.labelled_image import TEXT_MINED, LabelledImage
from prioritizer.learning.training.recipes import Phase, Recipe
from tests.support.cohort_files import table
from tests.support.phantom_training import TINY, phantom_cohort

QUICK = Recipe(
    architecture=TINY.architecture,
    batch_size=8,
    sampler="sites",
    picture=TINY.picture,
    phases=(Phase(epochs=1, learning_rate=1e-3, schedule="constant"),),
)


def source(name: str, site: str, data: str, **more: object) -> str:
    """One [[source]] of a file; values are written as JSON, which TOML reads alike for these."""
    values = {"name": name, "site": site, "data": data, "attribution": f"CC BY 4.0, cite {name}."} | more
    return "[[source]]\n" + "".join(f"{key} = {_toml(value)}\n" for key, value in values.items() if value is not None)


def _toml(value: object) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(inner)}" for key, inner in value.items()) + " }"
    if isinstance(value, list):
        return "[ " + ", ".join(map(_toml, value)) + " ]"
    return json.dumps(value)


def sources_file(path: Path, *tables: str, head: str = "split_seed = 7\n") -> Path:
    path.write_text(head + "\n".join(tables), encoding="utf-8")
    return path


def mined(root: Path, patients: int = 10, first_seed: int = 70_000) -> Path:
    """Films with words that a program took from reports, and what a radiologist says of some."""
    phantom_cohort(root, patients, first_seed=first_seed)
    rows = ["file,label,patient_id,read_as"]
    for label, name in enumerate(("NORMAL", "PNEUMONIA")):
        for number, path in enumerate(sorted((root / name).iterdir())):
            rows.append(f"{name}/{path.name},{('other', 'opacity')[label]},m{path.stem},{'Normal' if number == 0 else ''}")
    table(root / "labels.csv", *rows)
    return root


def two_hospitals(root: Path) -> Path:
    """A sources file of two sites: one whose films learn and judge, one with mined films that learn and read films that judge."""
    east = phantom_cohort(root / "data" / "east", patients=24)
    mined(root / "data" / "mined")
    phantom_cohort(root / "data" / "read", patients=20, first_seed=30_000)
    (root / "data" / "lungs").mkdir()
    for path in sorted((east / "PNEUMONIA").iterdir()):
        Image.fromarray(np.full((64, 64), 255, dtype=np.uint8)).save(root / "data" / "lungs" / path.name)
    (root / "config").mkdir()
    mined_source = source(
        "mined",
        "west",
        "../data/mined",
        role="train",
        label_source=TEXT_MINED,
        words={"opacity": 1, "other": 0},
        leave_out=[{"read_as": "Normal", "label": "opacity"}],
    )
    return sources_file(
        root / "config" / "two.toml",
        source("east", "east", "../data/east", masks="../data/lungs"),
        mined_source,
        source("read", "west", "../data/read", role="judge", label_source="radiologists"),
    )


def image(number: int, label: int = 0, **more: object) -> LabelledImage:
    return LabelledImage(**{"path": Path(f"d/{number}.png"), "label": label, "patient": f"p{number}", **more})  # type: ignore[arg-type]
