"""A sources file: several cohorts of one or more hospitals as one, each with its role, its site and what is owed to it.

Two things are refused, since a network that learned from them would be judged kindly: labels mined from reports in a source that
judges, and a site whose training images are of one class, because the site alone would then predict the label.
"""

from __future__ import annotations

import os.path
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Self

import numpy as np
from pydantic import Field, field_validator, model_validator

from prioritizer.errors import ConfigError, NotFound
from prioritizer.learning.cohorts.labelled_image import TEXT_MINED, Cohort, Fault, LabelledImage, LabelPolicy, Role, SourceFacts
from prioritizer.learning.cohorts.lung_masks import with_masks
from prioritizer.learning.cohorts.site_forms import LABEL_WORDS
from prioritizer.learning.training.recipes import RecipeTable, read_file

Reader = Callable[[Path, Path | None, LabelPolicy], Cohort]
"""Reads one folder with its labels."""
NEVER_JUDGES = f'{TEXT_MINED} labels may train, never judge: set role = "train"'
LAST_NUMBER = re.compile(r"^(.*?)(\d+)\D*$")


class Boxes(RecipeTable):
    """Where radiologists' boxes stand in the label table."""

    column: str = Field(min_length=1)
    """`x y width height` in pixels, several apart by `;`; empty where nothing was boxed."""
    side: float = Field(gt=0)
    """Side in pixels of the square that the boxes were drawn on."""


class Source(RecipeTable):
    """One cohort of the file."""

    name: str = Field(min_length=1)
    """Unique in the file."""
    site: str = Field(min_length=1)
    """The hospital. Sources of one site share patients by their id; equal ids at two sites are two patients."""
    data: str = Field(min_length=1)
    """Folder with a cohort in any form, relative to the file."""
    labels: str = ""
    """Label file, where it is not found by itself."""
    masks: str = ""
    """Folder of lung masks, PNG files named as the images."""
    block: int = Field(default=0, ge=0)
    """Patients stay on one side of a split where their ids differ only in their last number and these lie in the same so many; 0:
    every patient by itself."""
    role: Role = "both"
    """`train`: its images learn and never judge. `judge`: they choose, calibrate and report, and never learn. `both`: split by patient."""
    label_source: str = ""
    """Where the labels come from, instead of what the form says."""
    words: dict[str, Literal[0, 1]] = Field(default_factory=dict)
    """Further words of the label column, with 1 (pneumonia) or 0."""
    age_years: float | None = Field(default=None, ge=0, le=130)
    """Age of those patients of whom nothing states one, for example the middle of the ages that the set is described with."""
    leave_out: tuple[dict[str, str], ...] = ()
    """Rows of the label table that hold all these values, by column."""
    boxes: Boxes | None = None
    """What radiologists boxed: it judges where the network looks, and never trains."""
    most: int = Field(default=0, ge=0)
    """At most so many images, drawn by the split seed; 0: all."""
    attribution: str = Field(min_length=1)
    """Licence and whom to cite, in a sentence: it stands in run and card."""

    @field_validator("label_source")
    @classmethod
    def _one_spelling(cls, given: str) -> str:
        return TEXT_MINED if re.sub(r"[\s_-]+", "-", given.strip().lower()) == TEXT_MINED else given.strip()

    @field_validator("words")
    @classmethod
    def _small_letters(cls, given: dict[str, Literal[0, 1]]) -> dict[str, Literal[0, 1]]:
        words = {word.strip().lower(): label for word, label in given.items()}
        for word, label in words.items():
            if LABEL_WORDS.get(word, label) != label:
                raise ValueError(f"{word!r} already means {LABEL_WORDS[word]}")
        return words

    @field_validator("leave_out")
    @classmethod
    def _columns_in_small_letters(cls, given: tuple[dict[str, str], ...]) -> tuple[dict[str, str], ...]:
        if not all(given):
            raise ValueError("an empty rule would leave out every row")
        return tuple({column.strip().lower(): value for column, value in rule.items()} for rule in given)

    @model_validator(mode="after")
    def _mined_labels_never_judge(self) -> Self:
        if self.label_source == TEXT_MINED and self.role != "train":
            raise ValueError(NEVER_JUDGES)
        return self


class Sources(RecipeTable):
    """The whole file."""

    split_seed: int = Field(default=20261122, ge=0)
    """Which patients judge hangs on the data alone, so that runs of any recipe can be compared."""
    source: tuple[Source, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        twice = [name for name, count in Counter(source.name for source in self.source).items() if count > 1]
        if twice:
            raise ValueError(f"two sources are named {', '.join(twice)}")
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class _Read:
    """What was found of one source."""

    source: Source
    root: Path
    form: str
    images: tuple[LabelledImage, ...]
    faults: tuple[Fault, ...]

    @property
    def facts(self) -> SourceFacts:
        """What run and card say of it."""
        return SourceFacts(
            name=self.source.name,
            site=self.source.site,
            role=self.source.role,
            label_source="; ".join(sorted({image.label_source for image in self.images})),
            attribution=self.source.attribution,
            images=len(self.images),
            pneumonia=sum(image.label for image in self.images),
        )


def read_sources(path: Path, policy: LabelPolicy, read: Reader) -> Cohort:
    """The cohort of all sources of the file. Raises ConfigError with the faults of every source."""
    asked = read_file(path, Sources)
    found, faults = [], []
    for source in asked.source:
        try:
            found.append(_read_source(path, source, asked.split_seed, policy, read))
        except ConfigError as error:
            faults += [f"{path}: source {source.name}: {fault}" for fault in error.faults]
        except NotFound as error:
            faults.append(f"{path}: source {source.name}: {error}")
    images = tuple(image for one in found for image in one.images)
    if not faults:
        faults = [f"{path}: {fault}" for fault in (*_named_twice(found), *one_class_sites(i for i in images if i.role != "judge"))]
    if faults:
        raise ConfigError(tuple(faults))
    forms = "; ".join(f"{one.source.name} ({one.source.site}, {one.source.role}): {one.form}" for one in found)
    return Cohort(
        root=Path(os.path.commonpath([one.root for one in found])),
        images=images,
        faults=tuple(fault for one in found for fault in one.faults),
        form=f"{path.name}, {len(found)} sources of {len({one.source.site for one in found})} sites: {forms}",
        sources=tuple(one.facts for one in found),
        split_seed=asked.split_seed,
        name=path.stem,
    )


def one_class_sites(images: Iterable[LabelledImage]) -> list[str]:
    """A sentence for each site whose images are of one class."""
    labels: dict[str, set[int]] = {}
    for image in images:
        labels.setdefault(image.site, set()).add(image.label)
    return [
        f"site {site or '(not named)'}: all images that train are {'with' if 1 in found else 'without'} pneumonia, so the site would "
        "predict the label; give it the other class too, or leave it out"
        for site, found in labels.items()
        if len(found) < 2
    ]


def _read_source(path: Path, source: Source, seed: int, policy: LabelPolicy, read: Reader) -> _Read:
    beside = Path(os.path.normpath(Path.cwd() / path)).parent
    boxes = None if source.boxes is None else (source.boxes.column.strip().lower(), source.boxes.side)
    policy = replace(policy, words=source.words, leave_out=source.leave_out, boxes=boxes)
    cohort = read(beside / source.data, beside / source.labels if source.labels else None, policy)
    images = tuple(_of_source(image, source) for image in cohort.images)
    mined = any(image.label_source == TEXT_MINED for image in cohort.images)
    if mined and source.label_source not in ("", TEXT_MINED):
        raise ConfigError((f"label_source is {source.label_source!r}, but its labels say that they are {TEXT_MINED}",))
    if mined and source.role != "train":
        raise ConfigError((NEVER_JUDGES,))
    if source.masks:
        folder = Path(os.path.normpath(beside / source.masks))
        if not folder.is_dir():
            raise NotFound(f"{folder}: no such folder of masks")
        images = with_masks(images, folder)
    images, not_drawn = _drawn(images, source, seed)
    faults = [replace(fault, file=f"{source.name}: {fault.file}") for fault in cohort.faults]
    faults += [
        Fault(file=f"{source.name}: {image.path.name}", what="not-drawn", said=f"more than most = {source.most}; left out by chance")
        for image in not_drawn
    ]
    return _Read(source=source, root=cohort.root, form=cohort.form, images=images, faults=tuple(faults))


def _of_source(image: LabelledImage, source: Source) -> LabelledImage:
    return replace(
        image,
        site=source.site,
        patient=f"{source.site}:{image.patient}",
        role=source.role,
        age_years=source.age_years if image.age_years is None else image.age_years,
        label_source=source.label_source or image.label_source,
        block=_block(image.patient, source),
    )


def _block(patient: str, source: Source) -> str:
    """The block of a patient; empty where there are none or its id has no number. Ids that begin otherwise are numbered by themselves."""
    found = LAST_NUMBER.match(patient) if source.block else None
    return f"{source.site}:{found.group(1)}{int(found.group(2)) // source.block}" if found else ""


def _drawn(images: tuple[LabelledImage, ...], source: Source, seed: int) -> tuple[tuple[LabelledImage, ...], tuple[LabelledImage, ...]]:
    """At most `most` images, and the others; which ones hangs on the seed and the name of the source alone."""
    if not source.most or len(images) <= source.most:
        return images, ()
    rng = np.random.default_rng([seed, zlib.crc32(source.name.encode())])
    kept = set(rng.permutation(len(images))[: source.most].tolist())
    return (
        tuple(image for index, image in enumerate(images) if index in kept),
        tuple(image for index, image in enumerate(images) if index not in kept),
    )


def _named_twice(found: Iterable[_Read]) -> list[str]:
    """A sentence for each pair of sources that hold the same file."""
    holder: dict[Path, str] = {}
    faults: dict[tuple[str, str], str] = {}
    for one in found:
        for image in one.images:
            first = holder.setdefault(image.path, one.source.name)
            if first != one.source.name:
                faults.setdefault((first, one.source.name), f"{image.path} stands in source {first} and in source {one.source.name}")
    return list(faults.values())
