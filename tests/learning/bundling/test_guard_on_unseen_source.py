"""What the guard refuses of a hospital that taught it nothing: its radiographs pass, the same shown wrongly and what is no chest do not.

Fewer radiographs teach here than in an export, so that a test can do it; `python -m benchmarks.guard --left-out-only` takes them all.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from prioritizer.errors import PrioritizerError
from prioritizer.inference.bundle import open_bundle
from prioritizer.learning.bundling import image_kind_fit, other_kinds
from prioritizer.learning.bundling.image_kind_fit import RadiographSet
from prioritizer.learning.cohorts.decoded_images import read_picture
from prioritizer.learning.cohorts.labelled_image import LabelledImage
from prioritizer.scope import image_kind
from prioritizer.scope.image_kind import ImageKind
from tests.support.cohort_files import shared

TAUGHT, HELD_OUT, JUDGED = 1500, 500, 200
SOURCES = {"guangzhou": ("kermany/NORMAL", "kermany/PNEUMONIA"), "nih": ("rsna-normal", "nih-adult-more", "rsna-mixed")}
SCOUT = "nonchest_ct_chest_jpegll.dcm"
Picture = NDArray[np.float32]


SPEC = open_bundle(None).preprocessing


def small(path: Path) -> Picture:
    """The file as the network would see it, at the side at which kinds are told."""
    return image_kind.small(read_picture(LabelledImage(path=path, label=0, patient="one"), SPEC))


def films(folders: tuple[str, ...], seed: int) -> list[Picture]:
    """As many radiographs of each folder."""
    rng = np.random.default_rng(seed)
    found: list[Picture] = []
    for folder in folders:
        files = sorted([*shared(folder).rglob("*.jpeg"), *shared(folder).rglob("*.jpg")])
        found += [small(files[index]) for index in rng.permutation(len(files))[: (TAUGHT + HELD_OUT) // len(folders)]]
    return [found[index] for index in rng.permutation(len(found))]


@pytest.fixture(scope="module")
def of_source() -> dict[str, list[Picture]]:
    return {name: films(folders, 1) for name, folders in SOURCES.items()}


@pytest.fixture(scope="module", params=sorted(SOURCES))
def left_out(request: pytest.FixtureRequest, of_source: dict[str, list[Picture]]) -> tuple[ImageKind, list[Picture]]:
    """The kind of image as the other source teaches it, and radiographs of the source that is left out."""
    (other,) = of_source.keys() - {request.param}
    taught, held_out = (
        RadiographSet(pictures=np.stack(part), sites=(other,) * len(part))
        for part in (of_source[other][:TAUGHT], of_source[other][TAUGHT:])
    )
    return image_kind_fit.fit(taught, held_out, seed=1), of_source[request.param][:JUDGED]


def refused(kind: ImageKind, pictures: list[Picture]) -> float:
    """Share of them."""
    return float((kind.distance(np.stack([image_kind.features(picture) for picture in pictures])) > 1).mean())


def slice_of_a_body(rng: np.random.Generator) -> Picture:
    """A section as CT draws it: an oval body in black air, two lungs, a spine; drawn otherwise than in `image_kinds`."""
    y, x = np.mgrid[-1 : 1 : image_kind.SIDE * 1j, -1 : 1 : image_kind.SIDE * 1j]
    wide, high = rng.uniform(0.75, 0.95), rng.uniform(0.5, 0.7)
    shown = np.where((x / wide) ** 2 + (y / high) ** 2 < 1, 0.55, 0.0)
    for side in (-1, 1):
        shown[((x - side * wide * 0.45) / (wide * 0.3)) ** 2 + (y / (high * 0.65)) ** 2 < 1] = 0.08
    shown[(x / 0.1) ** 2 + ((y - high * 0.55) / 0.12) ** 2 < 1] = 1.0
    return other_kinds.tidy(shown + rng.normal(size=shown.shape) * 0.02)


def made(pictures: list[Picture]) -> list[Picture]:
    """Radiographs shown wrongly, noise, and sections."""
    rng = np.random.default_rng(3)
    side = image_kind.SIDE
    found = []
    for picture in pictures[:143]:
        top, left = rng.integers(0, side // 2, 2)
        quarter = picture[top : top + side // 2, left : left + side // 2].repeat(2, axis=0).repeat(2, axis=1)
        found += [np.rot90(picture), np.rot90(picture, 3), picture[::-1], 1 - picture, quarter]
        found += [rng.random((side, side), dtype=np.float32), slice_of_a_body(rng)]
    return [other_kinds.tidy(picture) for picture in found]


def test_radiographs_of_a_hospital_that_taught_nothing_pass(left_out: tuple[ImageKind, list[Picture]]) -> None:
    kind, pictures = left_out
    assert len(pictures) == JUDGED
    assert refused(kind, pictures) <= 0.05


def test_what_is_shown_wrongly_or_is_no_chest_is_refused(left_out: tuple[ImageKind, list[Picture]]) -> None:
    kind, pictures = left_out
    others = made(pictures)
    assert len(others) == 1001
    assert refused(kind, others) >= 0.98


def test_files_of_other_body_parts_are_refused(left_out: tuple[ImageKind, list[Picture]]) -> None:
    kind, _ = left_out
    found = {}
    for path in sorted((shared("dicom") / "everyday").glob("nonchest*.dcm")):
        with contextlib.suppress(PrioritizerError):
            found[path.name] = small(path)
    assert len(found) >= 10
    passing = {name for name, picture in found.items() if refused(kind, [picture]) == 0}
    assert passing <= {SCOUT}, "the scout of CT looks like a radiograph, and its SOP class refuses it"


def test_a_phantom_that_is_no_drawing_of_a_chest_is_refused(left_out: tuple[ImageKind, list[Picture]]) -> None:
    kind, _ = left_out
    y, x = np.mgrid[-1 : 1 : image_kind.SIDE * 1j, -1 : 1 : image_kind.SIDE * 1j]
    steps = np.repeat(np.linspace(0, 1, 8), image_kind.SIDE // 8)[None].repeat(image_kind.SIDE, axis=0)
    grid = ((np.sin(x * 40) > 0) ^ (np.sin(y * 40) > 0)).astype(np.float32)
    disc = (x**2 + y**2 < 0.5).astype(np.float32)
    assert refused(kind, [other_kinds.tidy(shown) for shown in (steps, grid, disc)]) == 1
