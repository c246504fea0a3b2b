"""`prioritizer data describe`: everything a person should know of a cohort before a network sees it, as plain facts."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from prioritizer.learning.cohorts import duplicates
from prioritizer.learning.cohorts.duplicates import Pair
from prioritizer.learning.cohorts.labelled_image import Cohort, Fault, LabelledImage
from prioritizer.learning.cohorts.labels import named
from prioritizer.learning.cohorts.splits import Splits
from prioritizer.learning.description import file_facts, shortcuts
from prioritizer.learning.description.file_facts import FileFacts
from prioritizer.learning.description.metadata_control import Controls, controls, sentence
from prioritizer.learning.description.shortcuts import Statistics

CLASS_NAMES = ("no pneumonia", "pneumonia")
KNOWABLE = ("age_years", "sex", "view", "scanner", "site", "study_uid", "subtype")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Description:
    """A cohort with what its files say."""

    cohort: Cohort
    facts: tuple[FileFacts, ...]
    """Of every readable file, in the order of the cohort."""
    faults: tuple[Fault, ...]
    """Of the reading of labels and of the reading of files."""
    pairs: tuple[Pair, ...]
    statistics: Statistics
    controls: Controls | None
    splits: Splits | None

    @property
    def images(self) -> tuple[LabelledImage, ...]:
        """The images that could be read."""
        return tuple(fact.image for fact in self.facts)

    @property
    def split_of(self) -> dict[Any, str]:
        """The split of each file; empty without splits."""
        return {image.path: name for name, images in (self.splits or {}).items() for image in images}

    @property
    def across(self) -> tuple[Pair, ...]:
        """Films that stand in two splits."""
        where = self.split_of
        return tuple(pair for pair in self.pairs if len({where[path] for path in pair.paths if path in where}) > 1)

    @property
    def shared_patients(self) -> tuple[str, ...]:
        """Patients with films in two splits."""
        found: dict[str, set[str]] = {}
        for name, images in (self.splits or {}).items():
            for image in images:
                found.setdefault(image.patient, set()).add(name)
        return tuple(sorted(patient for patient, names in found.items() if len(names) > 1))


def describe(
    cohort: Cohort, splits: Splits | None = None, *, seed: int = 0, tick: Callable[[str, int, int], None] = lambda said, done, of: None
) -> Description:
    """Read every file once and work everything out. `tick` hears what is being done, how much is done, of how much."""
    count, done = len(cohort.images), 0

    def read() -> None:
        nonlocal done
        done += 1
        tick("reading files", done, count)

    facts, faults = file_facts.read_facts(cohort.images, cohort.root, read)
    images = [fact.image for fact in facts]
    tick("looking for duplicates", 0, 1)
    thumbnails = np.array([fact.thumbnail for fact in facts], dtype=np.float32).reshape(-1, 32, 32)
    found = duplicates.pairs(images, [fact.sha256 for fact in facts], thumbnails)
    statistics = shortcuts.statistics_of(facts)
    steps = iter(range(1, 7))
    control = controls(statistics, images, seed, lambda: tick("asking what the files alone say", next(steps), 6)) if facts else None
    return Description(
        cohort=cohort, facts=facts, faults=(*cohort.faults, *faults), pairs=found, statistics=statistics, controls=control, splits=splits
    )


def class_counts(images: Sequence[LabelledImage]) -> dict[str, dict[str, int]]:
    """Images, patients and subtypes of each class."""
    counts = {}
    for label, name in enumerate(CLASS_NAMES):
        of_class = [image for image in images if image.label == label]
        subtypes = Counter(image.subtype for image in of_class if image.subtype)
        counts[name] = {"images": len(of_class), "patients": len({image.patient for image in of_class}), **subtypes}
    return counts


def patients_in_both(images: Sequence[LabelledImage]) -> tuple[str, ...]:
    """Patients with films of both classes."""
    positive, negative = ({image.patient for image in images if image.label == label} for label in (1, 0))
    return tuple(sorted(positive & negative))


def known_counts(images: Sequence[LabelledImage]) -> dict[str, int]:
    """How many images have each thing that may be known of them."""
    return {name: sum(getattr(image, name) not in ("", None) for image in images) for name in KNOWABLE}


def split_counts(splits: Mapping[str, Sequence[LabelledImage]]) -> dict[str, dict[str, int]]:
    """Images, positives and patients of each split."""
    return {
        name: {
            "images": len(images),
            "pneumonia": sum(image.label for image in images),
            "patients": len({image.patient for image in images}),
        }
        for name, images in splits.items()
    }


def class_medians(found: Description) -> dict[str, dict[str, tuple[float, float, float]]]:
    """5th, 50th and 95th percentile of every number in each class; NaN where no file has it."""
    labels = np.array([image.label for image in found.images])
    medians: dict[str, dict[str, tuple[float, float, float]]] = {}
    for name, values in zip(found.statistics.names, found.statistics.values.T, strict=True):
        medians[name] = {}
        for label, said in enumerate(CLASS_NAMES):
            known = values[(labels == label) & np.isfinite(values)]
            low, middle, high = np.percentile(known, [5, 50, 95]) if len(known) else (np.nan,) * 3
            medians[name][said] = (float(low), float(middle), float(high))
    return medians


def pair_row(pair: Pair, found: Description) -> dict[str, Any]:
    """One duplicate for people and for JSON."""
    root, where = found.cohort.root, found.split_of
    return {
        "one": named(pair.one.path, root),
        "other": named(pair.other.path, root),
        "exact": pair.exact,
        "correlation": round(pair.correlation, 4),
        "labels": [pair.one.label, pair.other.label],
        "same_patient": pair.one.patient == pair.other.patient,
        "splits": [where[path] for path in pair.paths if path in where],
    }


def facts_of(found: Description) -> dict[str, Any]:
    """Every figure of the report by name, for JSON: what could not be computed is null."""
    return {
        "root": str(found.cohort.root),
        "form": found.cohort.form,
        "sources": [asdict(source) for source in found.cohort.sources],
        "images": len(found.images),
        "patients": len({image.patient for image in found.images}),
        "classes": class_counts(found.images),
        "patients_in_both_classes": len(patients_in_both(found.images)),
        "fault_counts": dict(Counter(fault.what for fault in found.faults).most_common()),
        "faults": [asdict(fault) for fault in found.faults],
        "known": known_counts(found.images),
        "splits": split_counts(found.splits) if found.splits else None,
        "patients_in_two_splits": list(found.shared_patients),
        "duplicates": [pair_row(pair, found) for pair in found.pairs],
        "encodings": dict(Counter(fact.encoding for fact in found.facts).most_common()),
        "sizes": {f"{w} x {h}": n for (w, h), n in Counter((fact.width, fact.height) for fact in found.facts).most_common()},
        "percentiles_5_50_95": _without_nan(class_medians(found)),
        "controls": _without_nan(asdict(found.controls)) if found.controls else None,
        "shortcuts": sentence(found.controls),
    }


def _without_nan(value: Any) -> Any:
    """The same with None for NaN, which JSON does not know."""
    if isinstance(value, dict):
        return {key: _without_nan(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(inner) for inner in value]
    return None if isinstance(value, float) and math.isnan(value) else value
