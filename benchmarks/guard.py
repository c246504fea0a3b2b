"""What the bundle's guard refuses and holds back, in scope and out of it: docs/guard.md.

    python -m benchmarks.guard --run RUN --data SOURCES.toml [--most N] [--on NAME=DIR] [--dicom DIR]
    python -m benchmarks.guard --left-out-only --data SOURCES.toml [--most N] [--dicom DIR]

It needs the extra `train`, the bundle, and the data that the bundle was made of. `--run` is the run it was made of: its `val_report`
films are in scope and had no part in the guard. `--on` names a folder of films that took no part at all. `--dicom` is a folder of DICOM
files, told one by one. Where the data are of several sites, both parts are fitted again without each of them and measured on it: the
kind of image from the pictures alone, the population from embeddings of the bundle's network. That network was trained on the site that
is left out, so its embeddings know it: the second figure is a lower bound of what a network that never saw the site would hold back.

Time goes into teaching the kind of image, once for each site left out, in proportion to the films that teach. `--most` bounds the films
of each site, drawn by chance from a fixed seed. Without `--run`, 800 films of two sites (`--most 400`) took 50 seconds of processor time;
the default should take about 4 minutes of it, and the films of the report and the DICOM files some more.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from prioritizer.calibration.operating_point import Share
from prioritizer.errors import PrioritizerError
from prioritizer.imaging import phantoms
from prioritizer.imaging.preprocessing import Preprocessing, equalised
from prioritizer.inference.bundle import open_bundle
from prioritizer.inference.engine import Engine
from prioritizer.learning.bundling import image_kind_fit, other_kinds
from prioritizer.learning.bundling.engine_answers import group_of
from prioritizer.learning.bundling.image_kind_fit import RadiographSet
from prioritizer.learning.cohorts.decoded_images import read_picture
from prioritizer.learning.cohorts.read import Cohort, LabelledImage, read_cohort
from prioritizer.learning.cohorts.splits import read_splits, split_by_patient
from prioritizer.scope import image_kind
from prioritizer.scope.image_kind import ImageKind
from prioritizer.scope.out_of_distribution import Figures, Guards, Likeness, fit_population

TARGET = Path(__file__).resolve().parents[1] / "docs" / "guard.md"
Picture = NDArray[np.float32]
MAX_COUNT = 150
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


def figures_of(engine: Engine, pictures: Sequence[Picture]) -> list[Figures]:
    """What the bundle's guard says of each."""
    return [engine.score(one).figures for one in pictures]


def _row(name: str, wanted: str, found: Sequence[Figures]) -> str:
    parts = ("image_kind", "out_of_distribution")
    cells = [_cell(Share(hits=sum(getattr(one, part) > 1 for one in found), of=len(found))) for part in parts]
    return f"| {name} | {wanted} | {' | '.join(cells)} |"


def _cell(share: Share) -> str:
    return f"{share.hits} of {share.of}, {share.value:.1%} ({share.low:.1%} to {share.high:.1%})"


def dicom_rows(engine: Engine, folder: Path) -> Iterator[str]:
    """Each file by itself, whatever its header says."""
    for name in _files_of(folder):
        try:
            found = engine.score(read_picture(folder / name, engine.bundle.preprocessing)).figures
        except PrioritizerError as error:
            yield f"| {name} | not read: {' '.join(str(error).split()).replace('|', '/')} | |"
            continue
        word = "refused" if found.image_kind > 1 else "**passes**"
        yield f"| {name} | {word}, {min(found.image_kind, 1e4):.1f} | {min(found.out_of_distribution, 1e4):.1f} |"


def _files_of(folder: Path) -> list[str]:
    """The files that an `index.csv` names, or all DICOM files."""
    if (folder / "index.csv").is_file():
        with (folder / "index.csv").open(encoding="utf-8", newline="") as file:
            return [row["file"] for row in csv.DictReader(file)]
    return sorted(path.name for path in folder.glob("*.dcm"))


# --- a source left out ----------------------------------------------------------------------------------------------


def sampled(cohort: Cohort, most: int | None) -> list[LabelledImage]:
    """At most `most` films of every site, drawn by chance, always the same; all without a number."""
    if most is None:
        return list(cohort.images)
    chosen = image_kind_fit.drawn_of_sites([image.site for image in cohort.images], most * _sites(cohort), np.random.default_rng(SEED))
    return [cohort.images[index] for index in chosen]


def _sites(cohort: Cohort) -> int:
    return len({image.site for image in cohort.images})


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """One film as the two parts of the guard see it."""

    small: Picture
    embedding: NDArray[np.float32]


def shown(images: Sequence[LabelledImage], engine: Engine) -> dict[Path, Shown]:
    """Every film read once, and seen once by the network."""
    found = {}
    for image in images:
        picture = read_picture(image, engine.bundle.preprocessing)
        found[image.path] = Shown(small=image_kind.small(picture), embedding=engine.score(picture).embedding[0])
    return found


def without_each(images: Sequence[LabelledImage], engine: Engine, dicom: Sequence[Path]) -> Iterator[str]:
    """Rows: both parts fitted without the films of one site, on the films of that site; and the kind of image of the same shown wrongly.

    A quarter of the patients of the other sites sets the limits.
    """
    seen, spec = shown(images, engine), engine.bundle.preprocessing
    small = {path: one.small for path, one in seen.items()}
    for site in sorted({image.site for image in images}):
        out = [image for image in images if image.site == site]
        parts = split_by_patient([image for image in images if image.site != site], SEED, {"train": 0.75, "calib": 0.25})
        if not parts["train"]:
            continue
        kind = image_kind_fit.fit(*(_films(images, small) for images in (parts["train"], parts["calib"])), SEED)
        population = fit_population(*(_by_group(images, seen) for images in (parts["train"], parts["calib"])))
        groups = {
            "all": out,
            "under 18 years": [image for image in out if image.age_years is not None and image.age_years < 18],
            "adults": [image for image in out if image.age_years is not None and image.age_years >= 18],
            "AP": [image for image in out if image.view == "AP"],
            "PA": [image for image in out if image.view == "PA"],
            "with the finding": [image for image in out if image.label],
            "without the finding": [image for image in out if not image.label],
        }
        sources = sorted({image.label_source for image in out})
        if len(sources) > 1:
            groups |= {f"labels {source or 'not stated'}": [image for image in out if image.label_source == source] for source in sources}
        for name, its in groups.items():
            if its:
                far = population.distance(np.stack([seen[image.path].embedding for image in its])) > 1
                held = f" {_cell(Share(hits=int(far.sum()), of=len(far)))} |"
                yield _kind_row(f"{site}, {name}", "passes", kind, [small[image.path] for image in its]) + held
        for name, pictures in made_of([small[image.path] for image in out]):
            yield _kind_row(f"{site}, {name}", "refused", kind, pictures) + " |"
        for folder in dicom:
            yield from _dicom_row(f"{folder.name}, without {site}", kind, folder, spec)


def made_of(films: Sequence[Picture]) -> Iterator[tuple[str, list[Picture]]]:
    """Films float32 (112, 112) shown wrongly, and pictures that take nothing of them: 143 of each of seven kinds, 1,001 in all."""
    rng = np.random.default_rng(SEED)
    for name in MADE_OF_FILMS:
        drawn = rng.choice(len(films), min(MADE_EACH, len(films)), replace=False)
        yield name, [other_kinds.tidy(other_kinds.OTHER_KINDS[name](films[index], rng)) for index in drawn]


def _by_group(images: Sequence[LabelledImage], seen: Mapping[Path, Shown]) -> dict[str, NDArray[np.float32]]:
    groups = sorted({group_of(image) for image in images})
    return {group: np.stack([seen[image.path].embedding for image in images if group_of(image) == group]) for group in groups}


SEED = 20261122
MADE_OF_FILMS = ("turned by a quarter", "turned by three quarters", "upside down", "inverted", "its middle", "noise", "slice")
MADE_EACH = 143


def _films(images: Sequence[LabelledImage], small: Mapping[Path, Picture]) -> RadiographSet:
    return RadiographSet(pictures=np.stack([small[image.path] for image in images]), sites=tuple(image.site for image in images))


def _kind_row(name: str, wanted: str, kind: ImageKind, pictures: Sequence[Picture]) -> str:
    beyond = kind.distance(np.stack([image_kind.features(picture) for picture in pictures])) > 1
    return f"| {name} | {wanted} | {_cell(Share(hits=int(beyond.sum()), of=len(beyond)))} |"


def _dicom_row(name: str, kind: ImageKind, folder: Path, spec: Preprocessing) -> Iterator[str]:
    """The files of a folder that are no chest radiograph by their name, and those that are; which of them are judged wrongly."""
    found: dict[str, dict[str, Picture]] = {"passes": {}, "refused": {}}
    for path in sorted(folder.glob("*.dcm")):
        with contextlib.suppress(PrioritizerError):
            wanted = "refused" if path.name.startswith(NO_CHEST) or "relabelled_MONOCHROME1" in path.name else "passes"
            found[wanted][path.name] = image_kind.small(read_picture(path, spec))
    for wanted, pictures in found.items():
        if pictures:
            beyond = kind.distance(np.stack([image_kind.features(picture) for picture in pictures.values()])) > 1
            wrong = [file for file, far in zip(pictures, beyond, strict=True) if far != (wanted == "refused")]
            listed = f" Wrongly: {', '.join(wrong)}" if wrong else ""
            yield f"| {name} | {wanted} | {_cell(Share(hits=int(beyond.sum()), of=len(beyond)))}{listed} | |"


NO_CHEST = ("nonchest", "weird", "fuzz")
"""How the files of the shared material begin that are no chest radiograph, or none that can be made out."""


def main() -> int:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=None, help="default: the shipped one")
    parser.add_argument("--run", type=Path, help="the run the bundle was made of")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--on", action="append", default=[], metavar="NAME=DIR")
    parser.add_argument("--dicom", type=Path, action="append", default=[])
    parser.add_argument("--most", type=int, help="films of each site for the tables without it; default: all")
    parser.add_argument("--left-out-only", action="store_true", help="print the tables with one source left out")
    asked = parser.parse_args()
    bundle = open_bundle(asked.bundle)
    cohort = read_cohort(asked.data)
    engine = Engine(bundle)
    left_out = _left_out_tables(sampled(cohort, asked.most), engine, asked.dicom)
    if asked.left_out_only:
        print("\n".join(left_out))
        return 0
    if asked.run is None:
        parser.error("--run is needed to tell which films were in the guard")
    text = [*_of_bundle(engine, cohort, asked), *left_out]
    TARGET.write_text("\n".join(text) + "\n", encoding="utf-8")
    print("\n".join(text))
    print(f"written: {TARGET}", file=sys.stderr)
    return 0


def _left_out_tables(images: Sequence[LabelledImage], engine: Engine, dicom: Sequence[Path]) -> list[str]:
    """Empty for a cohort of one site."""
    if len({image.site for image in images}) < 2:
        return []
    return [
        "",
        "## Fitted without one source and measured on it",
        "",
        f"{len(images)} films. The network's embeddings know every source: another hospital's films lie further off than shown here.",
        "",
        "| pictures | should be | refused as no frontal chest radiograph | beyond the population |",
        "|---|---|---|---|",
        *without_each(images, engine, dicom),
    ]


KNOWN_LIMITS = (
    "",
    "## Known limits",
    "",
    "- **A CT localiser (scout) of the chest passes.** It is a frontal projection of a chest. Its SOP class refuses it before any guard is "
    "asked; sent under the SOP class of a radiograph it would be scored. In the shared material that is `nonchest_ct_chest_jpegll.dcm`.",
    "- **Drawn phantoms pass**: they are drawings of a frontal chest radiograph.",
    "- There were no lateral views to judge by: the header rules stand before this one.",
)


def _of_bundle(engine: Engine, cohort: Cohort, asked: argparse.Namespace) -> list[str]:
    bundle, spec = engine.bundle, engine.bundle.preprocessing
    splits = read_splits(asked.run / "splits.json", cohort.images, cohort.root)
    report = splits["val_report"]
    films = [read_picture(image, spec) for image in report]
    few = films[:: max(len(films) // MAX_COUNT, 1)]
    as_they_are = figures_of(engine, films)
    rows = [_row("val_report, as they are", "passes", as_they_are)]
    for site in sorted({image.site for image in report}):
        its = [found for image, found in zip(report, as_they_are, strict=True) if image.site == site]
        rows.append(_row(f"val_report, {site or 'one site'}", "passes", its))
    for group in sorted({group_of(image) for image in report}):
        its = [found for image, found in zip(report, as_they_are, strict=True) if group_of(image) == group]
        rows.append(_row(f"val_report, {group}", "passes", its))
    rows += [_row(f"val_report, {name}", "passes", figures_of(engine, [change(one) for one in few])) for name, change in SAME.items()]
    rows += [_row(f"val_report, {name}", "refused", figures_of(engine, [change(one) for one in few])) for name, change in OTHER.items()]
    for name, _, folder in (pair.partition("=") for pair in asked.on):
        found = [read_picture(image, spec) for image in read_cohort(Path(folder)).images]
        rows.append(_row(name, "passes; may be beyond", figures_of(engine, found)))
    rows += [_row(name, "refused", figures_of(engine, pictures)) for name, pictures in made(spec.size)]
    drawn = [equalised(phantoms.picture(spec.size, seed=seed).astype(np.float32) / 255) for seed in range(50)]
    rows.append(_row("the demo's phantoms", "passes", figures_of(engine, drawn)))
    guard = bundle.guard()
    if isinstance(guard, Guards):
        small = [image_kind.small(film) for film in films]
        rows += [_kind_row(f"{name}, of val_report", "refused", guard.image_kind, its) + " |" for name, its in made_of(small)]
    one = isinstance(guard, Likeness)
    text = [
        "# What the guard refuses",
        "",
        f"Written by `python -m benchmarks.guard` on {datetime.now(UTC):%Y-%m-%d} for bundle {bundle.name} ({bundle.digest[:12]}), "
        "whatever the headers say: in service the header rules come first. Shares with their exact 95 % interval.",
        *(["", "This bundle has one measure, which stands for both questions (decision 23)."] if one else []),
        "",
        "| pictures | should be | refused: no frontal chest radiograph | beyond the training population |",
        "|---|---|---|---|",
        *rows,
        *KNOWN_LIMITS,
    ]
    for folder in asked.dicom:
        head = "| file | kind of image, times the limit | population, times the limit |"
        text += ["", f"## DICOM files of {folder.name}, one by one", "", head, "|---|---|---|", *dicom_rows(engine, folder)]
    return text


if __name__ == "__main__":
    raise SystemExit(main())
