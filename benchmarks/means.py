"""Whether the mean of a film and its mirror image, or of two networks, separates better than one look of one network.

    python -m benchmarks.means BUNDLE [BUNDLE] --data DIR --splits SPLITS [--on NAME=DIR]

`--splits` is the `splits.json` of the run behind the first bundle. To be decided on `select`; the rest is shown beside it.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.results import named
from prioritizer.inference.bundle import open_bundle
from prioritizer.inference.engine import Engine
from prioritizer.learning.cohorts.decoded_images import read_picture
from prioritizer.learning.cohorts.read import LabelledImage, read_cohort
from prioritizer.learning.cohorts.splits import read_splits
from prioritizer.statistics.delong import area


def logits(folder: Path, images: Sequence[LabelledImage]) -> NDArray[np.float64]:
    """Shape (2, N): of each film as it is, and of its mirror image."""
    bundle = open_bundle(folder)
    engine = Engine(bundle)
    found = np.empty((2, len(images)))
    for place, image in enumerate(images):
        picture = read_picture(image, bundle.preprocessing)
        found[0, place] = engine.score(picture).logit[0]
        found[1, place] = engine.score(np.ascontiguousarray(picture[:, ::-1])).logit[0]
    return found


def main() -> int:
    """Score, average, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", nargs="+", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--splits", type=Path, required=True)
    parser.add_argument("--on", action="append", default=[], type=named, metavar="NAME=DIR")
    asked = parser.parse_args()
    cohort = read_cohort(asked.data)
    splits = read_splits(asked.splits, cohort.images, cohort.root)
    cohorts = {name: splits[name] for name in ("select", "val_report")} | {name: read_cohort(folder).images for name, folder in asked.on}
    for name, images in cohorts.items():
        labels = np.array([float(image.label) for image in images])
        each = np.stack([logits(folder, images) for folder in asked.bundles])
        print(f"{name}, {len(images)} films")
        for told, found in [*((str(folder), each[place]) for place, folder in enumerate(asked.bundles)), ("their mean", each.mean(0))]:
            alone, both = area(labels, found[0]).value, area(labels, found.mean(0)).value
            print(f"  {told}: ROC-AUC {alone:.4f}, mean with the mirror image {both:.4f}", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
