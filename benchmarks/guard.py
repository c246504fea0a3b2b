"""What the bundle's guard refuses, in scope and out of it: docs/guard.md.

    python -m benchmarks.guard --run RUN --data DIR [--on NAME=DIR] [--dicom DIR]

`--run` is the run the bundle was made of: its `val_report` films are in scope and had no part in the guard. `--dicom` is a folder of
DICOM files with an `index.csv` (columns file and what).
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from prioritizer import phantoms
from prioritizer.errors import PrioritizerError
from prioritizer.inference.bundle import open_bundle
from prioritizer.inference.engine import Engine
from prioritizer.learning.cohorts import read_cohort
from prioritizer.learning.pictures import read_picture
from prioritizer.learning.splits import read_splits
from prioritizer.operating_point import Share
from prioritizer.pixels import equalised

TARGET = Path(__file__).resolve().parents[1] / "docs" / "guard.md"
Picture = NDArray[np.float32]
MOST = 150
"""Films on which changed copies are tried."""


def _grey(picture: Picture) -> Image.Image:
    return Image.fromarray(np.rint(picture * 255).clip(0, 255).astype(np.uint8))


def _back(image: Image.Image) -> Picture:
    return equalised(np.asarray(image, dtype=np.float32) / 255)


def _jpeg(picture: Picture) -> Picture:
    file = BytesIO()
    _grey(picture).save(file, "JPEG", quality=50)
    return _back(Image.open(file))


def _resampled(picture: Picture) -> Picture:
    sides = picture.shape[1], picture.shape[0]
    return _back(_grey(picture).resize((1000, 1000), Image.Resampling.BICUBIC).resize(sides, Image.Resampling.BILINEAR))


SAME: dict[str, Callable[[Picture], Picture]] = {
    "JPEG at quality 50": _jpeg,
    "enlarged to 1000 pixels and back": _resampled,
    "a little blurred (0.7 pixels)": lambda p: _back(_grey(p).filter(ImageFilter.GaussianBlur(0.7))),
    "tone curve of exponent 0.7": lambda p: equalised(p ** np.float32(0.7)),
    "tone curve of exponent 1.4": lambda p: equalised(p ** np.float32(1.4)),
    "mirrored left to right": lambda p: np.ascontiguousarray(p[:, ::-1]),
}
"""Still the same film: these should pass."""
OTHER: dict[str, Callable[[Picture], Picture]] = {
    "inverted": lambda p: equalised(1 - p),
    "turned by a quarter": lambda p: np.ascontiguousarray(np.rot90(p)),
    "upside down": lambda p: np.ascontiguousarray(p[::-1]),
    "the middle quarter alone": lambda p: _back(_grey(p[56:168, 56:168]).resize((224, 224), Image.Resampling.BILINEAR)),
}
"""No chest film as it was trained on."""


def made(size: int) -> Iterator[tuple[str, list[Picture]]]:
    """Pictures that show nobody."""
    rng = np.random.default_rng(0)
    yield "noise", [rng.random((size, size), dtype=np.float32) for _ in range(50)]
    yield "soft noise", [_back(_grey(rng.random((size, size), dtype=np.float32)).filter(ImageFilter.GaussianBlur(8))) for _ in range(50)]
    yield "one grey", [np.full((size, size), grey, dtype=np.float32) for grey in np.linspace(0, 1, 11)]
    yield "the demo's phantoms", [equalised(phantoms.picture(size, seed=seed).astype(np.float32) / 255) for seed in range(50)]


def rate(engine: Engine, pictures: Sequence[Picture]) -> Share:
    """Of these, refused. The interval is exact (Clopper and Pearson)."""
    return Share(hits=sum(float(engine.score(one).distance[0]) > 1 for one in pictures), of=len(pictures))


def _row(name: str, wanted: str, share: Share) -> str:
    return f"| {name} | {wanted} | {share.hits} of {share.of} | {share.value:.1%} ({share.low:.1%} to {share.high:.1%}) |"


def dicom_rows(engine: Engine, folder: Path) -> Iterator[str]:
    """Each file by itself, whatever its header says."""
    with (folder / "index.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            try:
                distance = float(engine.score(read_picture(folder / row["file"], engine.bundle.preprocessing)).distance[0])
            except PrioritizerError as error:
                yield f"| {row['file']} | not read: {error} |"
                continue
            word = "refused" if distance > 1 else "**passes**"
            yield f"| {row['file']} | {word}, {min(distance, 1e4):.1f} times the limit |"


def main() -> int:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=None, help="default: the shipped one")
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--on", action="append", default=[], metavar="NAME=DIR")
    parser.add_argument("--dicom", type=Path)
    asked = parser.parse_args()
    bundle = open_bundle(asked.bundle)
    engine, spec = Engine(bundle), bundle.preprocessing
    splits = read_splits(asked.run / "splits.json", read_cohort(asked.data).images, asked.data)
    films = [read_picture(image, spec) for image in splits["val_report"]]
    few = films[:: max(len(films) // MOST, 1)]
    rows = [_row("val_report, as they are", "passes", rate(engine, films))]
    rows += [_row(f"val_report, {name}", "passes", rate(engine, [change(one) for one in few])) for name, change in SAME.items()]
    rows += [_row(f"val_report, {name}", "refused", rate(engine, [change(one) for one in few])) for name, change in OTHER.items()]
    for name, _, folder in (pair.partition("=") for pair in asked.on):
        images = read_cohort(Path(folder)).images
        rows.append(_row(name, "refused", rate(engine, [read_picture(image, spec) for image in images])))
    rows += [_row(name, "refused", rate(engine, pictures)) for name, pictures in made(spec.size)]
    text = [
        "# What the guard refuses",
        "",
        f"Written by `python -m benchmarks.guard` on {datetime.now(UTC):%Y-%m-%d} for bundle {bundle.name} ({bundle.digest[:12]}), "
        "whatever the headers say: in service the header rules come first. Share refused as unlike the "
        "training data, with its exact 95 % interval.",
        "",
        "| pictures | should be | refused | share |",
        "|---|---|---|---|",
        *rows,
    ]
    if asked.dicom:
        text += ["", "## DICOM files, one by one", "", "| file | what the guard says |", "|---|---|", *dicom_rows(engine, asked.dicom)]
    TARGET.write_text("\n".join(text) + "\n", encoding="utf-8")
    print("\n".join(text))
    print(f"written: {TARGET}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
