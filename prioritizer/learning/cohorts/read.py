"""Labelled cohorts in the forms in which people have them; nothing is dropped without a fault that says why."""

from __future__ import annotations

import os.path
from pathlib import Path

from prioritizer.errors import ConfigError, NotFound
from prioritizer.learning.cohorts import public_sets, site_forms, sources
from prioritizer.learning.cohorts.labelled_image import Cohort, Fault, LabelledImage, LabelPolicy
from prioritizer.learning.cohorts.labels import WORKBOOKS, Gathering, read_table

__all__ = ["Cohort", "Fault", "LabelPolicy", "LabelledImage", "read_cohort"]

FORMS_SAID = (
    "a cohort is a folder with NORMAL/ and PNEUMONIA/, a folder with labels.csv (file or study_uid, label), or one of the public sets "
    "with its own label file: RSNA stage 2, NIH ChestX-ray14, CheXpert, MIMIC-CXR-JPG, VinDr-CXR; several of them are a sources file "
    "(.toml); docs/learning.md shows each"
)
SHOWN_FAULTS = 10


def read_cohort(root: Path, labels: Path | None = None, *, policy: LabelPolicy | None = None) -> Cohort:
    """The cohort below `root`, its labels in `labels` or wherever its form keeps them; of a sources file (.toml), that of all its sources.

    Raises ConfigError where no form is recognised or no image can be used.
    """
    if root.suffix.lower() == ".toml" and root.is_file():
        if labels is not None:
            raise ConfigError((f"{root}: is a sources file; a label file stands in it, as labels of its source",))
        return sources.read_sources(root, policy or LabelPolicy(), _read_folder)
    return _read_folder(root, labels, policy or LabelPolicy())


def _read_folder(root: Path, labels: Path | None, policy: LabelPolicy) -> Cohort:
    if not root.is_dir():
        raise NotFound(f"{root}: no such folder")
    if labels is not None and not labels.is_file():
        raise NotFound(f"{labels}: no such label file")
    root = Path(os.path.normpath(root))
    gathered = Gathering(root=root)
    form = _read(gathered, labels, policy)
    if not gathered.images:
        first = tuple(f"{fault.file}: {fault.said}" for fault in gathered.faults[:SHOWN_FAULTS])
        raise ConfigError((f"{root}: no image can be used ({form})", *first))
    return Cohort(root=root, images=tuple(gathered.images.values()), faults=tuple(gathered.faults), form=form)


def _read(gathered: Gathering, labels: Path | None, policy: LabelPolicy) -> str:
    """Fill `gathered` from whatever form is there, a table before folders; the form in words."""
    root = gathered.root
    own_only = "words, leave_out and boxes are of a label table with the columns file and label (labels.csv)"
    own = [labels] if labels else [path for path in sorted(root.iterdir()) if path.name.lower() == "labels.csv"]
    if not own and site_forms.has_class_folders(root):
        if policy.for_own_table:
            raise ConfigError((f"{root}: {own_only}, not of folders NORMAL/ and PNEUMONIA/",))
        return site_forms.read_folders(gathered)
    tables = [read_table(path) for path in own or public_sets.label_files(root)]
    for table in tables:
        reader = public_sets.reader_of(table)
        if reader is not None:
            if policy.for_own_table:
                raise ConfigError((f"{table.path}: {own_only}, not of a public set",))
            return reader(gathered, [other for other in tables if public_sets.reader_of(other) is reader], policy)
    if tables:
        return site_forms.read_labels(gathered, tables[0], policy)
    books = [path.name for path in sorted(root.iterdir()) if path.suffix.lower() in WORKBOOKS]
    remedy = f"{books[0]} is a workbook of a spreadsheet program: save the sheet with the labels as labels.csv in UTF-8; " if books else ""
    raise ConfigError((f"{root}: no labels found; {remedy}{FORMS_SAID}",))
