"""A site's own cohort: folders NORMAL/ and PNEUMONIA/, or a table labels.csv."""

from __future__ import annotations

import os.path
import re
from dataclasses import replace
from pathlib import Path

from prioritizer.errors import ConfigError
from prioritizer.learning.cohorts.labelled_image import Box, LabelledImage, LabelPolicy
from prioritizer.learning.cohorts.labels import (
    Gathering,
    LabelRow,
    LabelTable,
    completed,
    files_below,
    header_of,
    is_dicom,
    is_picture,
    radiographs_below,
    sex_of,
    years_of,
)
from prioritizer.study import Instance

CLASSES = ("NORMAL", "PNEUMONIA")
PUBLIC_SPLITS = ("train", "val", "test")
GUANGZHOU = re.compile(r"^(person\d+)_(bacteria|virus)_\d+|^((?:NORMAL2-)?IM-\d+)")
SUBTYPES = {"bacteria": "bacterial", "virus": "viral"}
LABEL_WORDS = {"0": 0, "0.0": 0, "normal": 0, "negative": 0, "no": 0, "1": 1, "1.0": 1, "pneumonia": 1, "positive": 1, "yes": 1}
COLUMNS = frozenset({"file", "study_uid", "label", "patient_id", "age", "sex", "view", "scanner", "site", "label_source"})


def patient_of(name: str) -> str:
    """The patient that a file of the Guangzhou set belongs to; any other file name is a patient of its own."""
    match = GUANGZHOU.match(name)
    return (match.group(1) or match.group(3)) if match else Path(name).stem


def subtype_of(name: str) -> str:
    """`bacterial` or `viral` where a file name of the Guangzhou set says so."""
    match = GUANGZHOU.match(name)
    return SUBTYPES.get(match.group(2) or "", "") if match else ""


def class_folders(root: Path) -> list[Path]:
    """The folders that hold NORMAL/ and PNEUMONIA/: `root`, or its train/, val/ and test/ as the public download has them."""
    parents = [root, *(root / name for name in PUBLIC_SPLITS)]
    return [parent for parent in parents if any((parent / name).is_dir() for name in CLASSES)]


def has_class_folders(root: Path) -> bool:
    """True where images are labelled by the folder they lie in."""
    return bool(class_folders(root))


def read_folders(gathered: Gathering) -> str:
    """Every image below NORMAL/ (0) and PNEUMONIA/ (1), in name order; other files there are faults."""
    parents = class_folders(gathered.root)
    missing = [str(parent / name) for parent in parents for name in CLASSES if not (parent / name).is_dir()]
    if missing:
        raise ConfigError(tuple(f"no folder {path}; both NORMAL/ and PNEUMONIA/ are needed" for path in missing))
    for parent in parents:
        for label, name in enumerate(CLASSES):
            for path in files_below(parent / name):
                _take_by_folder(gathered, path, label)
    if parents == [gathered.root]:
        return "folders NORMAL/ and PNEUMONIA/"
    return "folders NORMAL/ and PNEUMONIA/ inside train/, val/, test/ (that split is not used: images are split again, by patient)"


def _take_by_folder(gathered: Gathering, path: Path, label: int) -> None:
    image = LabelledImage(path=path, label=label, patient="", subtype=subtype_of(path.name), label_source="folder")
    _take(gathered, image)


def _take(gathered: Gathering, image: LabelledImage) -> None:
    """Keep an image, completed by its header where it is DICOM; what is neither picture nor DICOM is a fault."""
    path = image.path
    if is_dicom(path):
        header = header_of(path, gathered)
        if header is None:
            return
        image = completed(image, header)
    elif not is_picture(path):
        gathered.seen.add(path)
        gathered.fault(path, "not-an-image", "is no JPEG, PNG or DICOM file; left out")
        return
    gathered.take(_with_patient(image))


def _with_patient(image: LabelledImage) -> LabelledImage:
    return image if image.patient else replace(image, patient=patient_of(image.path.name))


def read_labels(gathered: Gathering, table: LabelTable, policy: LabelPolicy) -> str:
    """Every row of a site's own table, and every radiograph below the folder that no row names."""
    faults = []
    if "label" not in table.header:
        faults.append(f"{table.path}: no column label (0 or 1, NORMAL or PNEUMONIA); its columns are {', '.join(table.header)}")
    if not {"file", "study_uid"} & set(table.header):
        faults.append(f"{table.path}: neither a column file nor a column study_uid; one of them says which image a row labels")
    named = {name for rule in policy.leave_out for name in rule} | ({policy.boxes[0]} if policy.boxes else set())
    if unknown := sorted(named - set(table.header)):
        faults.append(
            f"{table.path}: no column {', '.join(unknown)}, which the sources file names; its columns are {', '.join(table.header)}"
        )
    if faults:
        raise ConfigError(tuple(faults))
    if table.warning:
        gathered.fault(table.path, "encoding", table.warning)
    everything = radiographs_below(gathered.root)
    studies = _studies(gathered, everything, table)
    for row in table.rows:
        _take_row(gathered, table, row, studies, policy)
    for path in everything:
        if path not in gathered.seen:
            gathered.fault(path, "no-row", f"no row of {table.path.name} names it; left out")
    unused = [name for name in table.header if name and name not in COLUMNS]
    return table.path.name + (f" (columns not used: {', '.join(unused)})" if unused else "")


def _studies(gathered: Gathering, everything: tuple[Path, ...], table: LabelTable) -> dict[str, list[tuple[Path, Instance]]]:
    """DICOM files by the study they belong to, read only where some row names a study instead of a file."""
    if not any(row.get("study_uid") and not row.get("file") for row in table.rows):
        return {}
    found: dict[str, list[tuple[Path, Instance]]] = {}
    for path in everything:
        if is_dicom(path) and (header := header_of(path, gathered)) is not None:
            found.setdefault(header.study_uid, []).append((path, header))
    return found


def _take_row(
    gathered: Gathering, table: LabelTable, row: LabelRow, studies: dict[str, list[tuple[Path, Instance]]], policy: LabelPolicy
) -> None:
    """The image or images of one row, or the fault that stands in the way."""
    place = f"{table.path.name} line {row.line}"
    file, study = row.get("file"), row.get("study_uid")
    path = _named_file(gathered.root, file) if file else None
    if path is not None:
        gathered.seen.add(path)
    word = row.get("label").lower()
    label = LABEL_WORDS.get(word, policy.words.get(word))
    rule = next((rule for rule in policy.leave_out if all(row.get(name) == value for name, value in rule.items())), None)
    if label is None or rule is not None:
        gathered.seen.update(path for path, _ in studies.get(study, []))
        if rule is not None:
            said = " and ".join(f"{name} is {value!r}" for name, value in rule.items())
            gathered.fault(place, "excluded", f"{said}; left out by the sources file")
            return
        known = ", ".join(["0", "1", "NORMAL", "PNEUMONIA", *policy.words])
        gathered.fault(place, "label", f"label {row.get('label')!r} is none of {known}; left out")
    elif path is not None:
        _take_file(gathered, row, place, path, label, policy)
    elif study in studies:
        for found, header in studies[study]:
            gathered.take(_with_patient(completed(_image(gathered, row, place, found, label, policy), header)))
    elif study:
        gathered.fault(place, "no-file", f"no DICOM file of study {study} lies below {gathered.root}; left out")
    else:
        gathered.fault(place, "no-file", "the row names neither file nor study_uid; left out")


def _named_file(root: Path, file: str) -> Path:
    """Where a row's file lies; a path as Windows writes it is understood where no file has that very name."""
    path = Path(os.path.normpath(root / file))
    return path if "\\" not in file or path.exists() else Path(os.path.normpath(root / file.replace("\\", "/")))


def _take_file(gathered: Gathering, row: LabelRow, place: str, path: Path, label: int, policy: LabelPolicy) -> None:
    if not path.is_relative_to(os.path.normpath(gathered.root)):
        gathered.fault(place, "outside", f"{row.get('file')} lies outside the folder; move it below, or name the folder above")
    elif not path.is_file():
        gathered.fault(place, "no-file", f"{row.get('file')} is not there; left out")
    else:
        _take(gathered, _image(gathered, row, place, path, label, policy))


def _image(gathered: Gathering, row: LabelRow, place: str, path: Path, label: int, policy: LabelPolicy) -> LabelledImage:
    """The image as the row describes it; an age that is none is a fault, the image is kept without."""
    age = years_of(row.get("age")) if row.get("age") else None
    if row.get("age") and age is None:
        gathered.fault(place, "age", f"age {row.get('age')!r} is not between 0 and 120 years (58, 058Y, 007M); used without age")
    return LabelledImage(
        path=path,
        label=label,
        patient=row.get("patient_id"),
        study_uid=row.get("study_uid"),
        age_years=age,
        sex=sex_of(row.get("sex")),
        view=row.get("view").upper(),
        scanner=row.get("scanner"),
        site=row.get("site"),
        subtype=subtype_of(path.name) or ("" if row.get("label").lower() in LABEL_WORDS else row.get("label").lower()),
        label_source=row.get("label_source") or "labels.csv",
        boxes=_boxes(gathered, row, place, policy),
    )


def _boxes(gathered: Gathering, row: LabelRow, place: str, policy: LabelPolicy) -> tuple[Box, ...] | None:
    """What was boxed on an image; boxes that cannot be read are a fault, the image is kept without."""
    if policy.boxes is None:
        return None
    (column, side), found = policy.boxes, list[Box]()
    for text in filter(None, (part.strip() for part in row.get(column).split(";"))):
        try:
            x, y, width, height = (float(number) / side for number in text.split())
        except ValueError:
            width = height = 0.0
        if width <= 0 or height <= 0:
            gathered.fault(place, "box", f"{column} {text!r} is not `x y width height`; used without boxes")
            return None
        found.append((x, y, x + width, y + height))
    return tuple(found)
