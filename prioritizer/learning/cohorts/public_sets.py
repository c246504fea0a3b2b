"""The public adult sets as their users have them, recognised by the columns of their label file.

Positive is what each set itself calls pneumonia; what counts as negative is the caller's `LabelPolicy`. Laterals are left out with a
fault. The official splits of the sets are not used: images are split again, by patient.

- RSNA Pneumonia Detection Challenge, stage 2 (Shih et al., Radiol AI 2019): Target 1 is a lung opacity that 3 radiologists found
  suspicious for pneumonia; `no-finding` is the class "Normal".
- NIH ChestX-ray14 (Wang et al., CVPR 2017): labels mined from report texts.
- CheXpert (Irvin et al., AAAI 2019) and MIMIC-CXR-JPG (Johnson et al., 2019): mined, with 1, 0, -1 uncertain, blank not mentioned.
- VinDr-CXR (Nguyen et al., Sci Data 2022): 3 radiologists each in train, a consensus of 5 in test. VinDr-PCXR: children, alike.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from prioritizer.errors import ConfigError
from prioritizer.learning.cohorts.labelled_image import TEXT_MINED, LabelledImage, LabelPolicy
from prioritizer.learning.cohorts.labels import (
    Gathering,
    LabelRow,
    LabelTable,
    by_name,
    completed,
    header_of,
    radiographs_below,
    read_table,
    sex_of,
    years_of,
)

Reader = Callable[[Gathering, list[LabelTable], LabelPolicy], str]

PATTERNS = (
    "stage_2_train_labels.csv",
    "Data_Entry_2017*.csv",
    "mimic-cxr-2.*-chexpert.csv*",
    "mimic-cxr-2.*-negbio.csv*",
    "image_labels_*.csv",
    "annotations/image_labels_*.csv",
    "train.csv",
    "valid.csv",
)
RSNA_MAPPING = "pneumonia-challenge-dataset-mappings_2018.json"
FOUND = {"1": 1.0, "1.0": 1.0, "0": 0.0, "0.0": 0.0, "-1": -1.0, "-1.0": -1.0}
"""Cells of a finding; a blank is not mentioned."""


def label_files(root: Path) -> list[Path]:
    """The label files of the first public set that is there; of MIMIC-CXR's two labellers CheXpert's before NegBio's."""
    for pattern in PATTERNS[:5]:
        if found := sorted(root.glob(pattern)):
            return found if pattern == "image_labels_*.csv" else found[-1:]
    return [path for pattern in PATTERNS[5:] for path in sorted(root.glob(pattern))]


def reader_of(table: LabelTable) -> Reader | None:
    """The reader that knows these columns."""
    header = set(table.header)
    known: tuple[tuple[set[str], Reader], ...] = (
        ({"patientid", "target"}, read_rsna),
        ({"image index", "finding labels"}, read_nih),
        ({"path", "frontal/lateral", "pneumonia"}, read_chexpert),
        ({"subject_id", "study_id", "pneumonia"}, read_mimic),
        ({"image_id", "no finding", "pneumonia"}, read_vindr),
    )
    return next((reader for columns, reader in known if columns <= header), None)


def read_rsna(gathered: Gathering, tables: list[LabelTable], policy: LabelPolicy) -> str:
    """RSNA stage 2: several rows (boxes) a film, DICOM named after it; age, sex and view from the header."""
    table = tables[0]
    files = {path.stem: path for path in radiographs_below(gathered.root)}
    classes = _rsna_classes(table, policy)
    people = _rsna_people(gathered, table)
    targets: dict[str, set[str]] = {}
    for row in table.rows:
        targets.setdefault(row.get("patientid"), set()).add(row.get("target"))
    for name, found in targets.items():
        if len(found) > 1 or not found <= {"0", "1"}:
            gathered.seen.update({files[name]} if name in files else ())
            gathered.fault(name, "label", f"its rows say Target {', '.join(sorted(found)) or 'nothing'}; left out")
            continue
        label = policy.label(float(found == {"1"}), no_finding=classes.get(name) == "Normal")
        _take_dicom(gathered, files, name, label, LabelledImage(path=Path(), label=0, patient=people.get(name, name), site="RSNA"))
    _without_row(gathered, files.values(), table)
    return f"RSNA Pneumonia Detection Challenge, stage 2: positive Target 1; {policy.sentence}"


def _rsna_classes(table: LabelTable, policy: LabelPolicy) -> dict[str, str]:
    """The three-way class of each film, needed only where negatives must be free of any finding."""
    path = table.path.parent / "stage_2_detailed_class_info.csv"
    if path.is_file():
        return {row.get("patientid"): row.get("class") for row in read_table(path).rows}
    if policy.negatives == "no-finding":
        raise ConfigError((f"{path} is not there; negatives = no-finding needs it, since it alone says which films are Normal",))
    return {}


def _rsna_people(gathered: Gathering, table: LabelTable) -> dict[str, str]:
    """The NIH patient of each film; without the organisers' mapping each film must pass for a patient."""
    path = table.path.parent / RSNA_MAPPING
    if path.is_file():
        entries = json.loads(path.read_text(encoding="utf-8"))
        return {str(entry["subset_img_id"]): f"NIH-{str(entry['img_id']).partition('_')[0]}" for entry in entries}
    said = f"patientId names a film, not a person: films of one person may fall in two splits. Put {RSNA_MAPPING} beside it to mend this"
    gathered.fault(table.path, "patients-unknown", said)
    return {}


def read_nih(gathered: Gathering, tables: list[LabelTable], policy: LabelPolicy) -> str:
    """NIH ChestX-ray14: one row a film, findings joined by |, ages 58 or 058Y."""
    table = tables[0]
    paths = radiographs_below(gathered.root)
    files = by_name(paths)
    for row in table.rows:
        name, findings = row.get("image index"), row.get("finding labels").split("|")
        pneumonia, healthy = "Pneumonia" in findings, findings == ["No Finding"]
        label = policy.label(float(pneumonia), no_finding=healthy)
        image = LabelledImage(
            path=files.get(name, Path(name)),
            label=0,
            patient=row.get("patient id") or name.partition("_")[0],
            age_years=_age(gathered, name, row.get("patient age")),
            sex=sex_of(row.get("patient gender")),
            view=row.get("view position").upper(),
            site="NIH",
            label_source=TEXT_MINED,
        )
        if not findings[0]:
            _leave_out(gathered, image, name, "label", "Finding Labels is empty; left out")
        else:
            _take_row(gathered, image, label, present=name in files)
    _without_row(gathered, paths, table)
    return f"NIH ChestX-ray14: positive Pneumonia among the Finding Labels; {policy.sentence}"


def read_chexpert(gathered: Gathering, tables: list[LabelTable], policy: LabelPolicy) -> str:
    """CheXpert: one row a film, its path under a folder name that people change; ages in years, 90 is 90 or older."""
    paths = radiographs_below(gathered.root)
    files = {_chexpert_key(path.as_posix()): path for path in paths}
    for table in tables:
        for row in table.rows:
            key = _chexpert_key(row.get("path"))
            match = re.search(r"(patient\w+)/(study\w+)", key)
            image = LabelledImage(
                path=files.get(key, Path(row.get("path"))),
                label=0,
                patient=match.group(1) if match else key,
                study_uid=match.group(0) if match else "",
                age_years=_age(gathered, row.get("path"), row.get("age")),
                sex=sex_of(row.get("sex").replace("Unknown", "")),
                view=row.get("ap/pa").upper() if row.get("frontal/lateral") != "Lateral" else "LATERAL",
                site="CheXpert",
                label_source="radiologists" if table.path.name == "valid.csv" else TEXT_MINED,
            )
            _take_finding(gathered, row, image, policy, present=key in files)
    _without_row(gathered, (path for path in paths if "/patient" in path.as_posix()), tables[0])
    return f"CheXpert ({', '.join(table.path.name for table in tables)}): positive Pneumonia 1; {policy.sentence}"


def _chexpert_key(path: str) -> str:
    """`train/patient00001/study1/view1_frontal.jpg` of any path that ends so."""
    return "/".join(path.split("/")[-4:])


def read_mimic(gathered: Gathering, tables: list[LabelTable], policy: LabelPolicy) -> str:
    """MIMIC-CXR-JPG: labels are of studies, the metadata file names their films and views; ages are not published."""
    table = tables[0]
    metadata = next(iter(sorted(table.path.parent.glob("mimic-cxr-2.*-metadata.csv*"))), None)
    if metadata is None:
        raise ConfigError((f"{table.path.parent}: no mimic-cxr-2.0.0-metadata.csv.gz; it names the films of a study and their view",))
    labels = {row.get("study_id"): row for row in table.rows}
    paths = radiographs_below(gathered.root)
    files = {path.stem: path for path in paths}
    for film in read_table(metadata).rows:
        name, study, subject = film.get("dicom_id"), film.get("study_id"), film.get("subject_id")
        image = LabelledImage(
            path=files.get(name, Path(f"files/p{subject[:2]}/p{subject}/s{study}/{name}.jpg")),
            label=0,
            patient=subject,
            study_uid=study,
            view=film.get("viewposition").upper(),
            site="MIMIC",
            label_source=TEXT_MINED,
        )
        if study not in labels:
            _leave_out(gathered, image, str(image.path), "no-row", f"{table.path.name} has no row of study {study}; left out")
        elif not image.view:
            _leave_out(gathered, image, str(image.path), "view", "ViewPosition is empty, so it may be a lateral; left out")
        else:
            _take_finding(gathered, labels[study], image, policy, present=name in files)
    _without_row(gathered, paths, table)
    return f"MIMIC-CXR-JPG ({table.path.name}): positive Pneumonia 1; {policy.sentence}"


def read_vindr(gathered: Gathering, tables: list[LabelTable], policy: LabelPolicy) -> str:
    """VinDr-CXR and VinDr-PCXR: one row a radiologist, the majority decides; the sets name no patients, so each film is one.

    Any column with pneumonia in its name is positive: the children's set also tells broncho-pneumonia apart.
    """
    columns = [name for name in tables[0].header if "pneumonia" in name]
    paths = radiographs_below(gathered.root)
    files = {path.stem: path for path in paths}
    for table in tables:
        readings: dict[str, list[LabelRow]] = {}
        for row in table.rows:
            readings.setdefault(row.get("image_id"), []).append(row)
        for name, rows in readings.items():
            pneumonia, healthy = _majority(rows, columns), _majority(rows, ["no finding"])
            label = policy.label(None if pneumonia is None else float(pneumonia), no_finding=bool(healthy))
            source = f"majority of {len(rows)} radiologists" if "rad_id" in table.header else "consensus"
            if pneumonia is None:
                gathered.seen.update({files[name]} if name in files else ())
                gathered.fault(name, "label", f"{table.path.name}: its radiologists are evenly divided or say neither 0 nor 1; left out")
                continue
            image = LabelledImage(path=Path(), label=0, patient=name, site="VinDr", label_source=source)
            _take_dicom(gathered, files, name, label, image)
    _without_row(gathered, paths, tables[0])
    return f"VinDr-CXR ({', '.join(table.path.name for table in tables)}): positive {' or '.join(columns)} by majority; {policy.sentence}"


def _majority(rows: list[LabelRow], columns: list[str]) -> bool | None:
    """Whether more than half of the radiologists say 1 in any column; None when they are evenly divided or a cell is unreadable."""
    said = [[FOUND.get(row.get(column)) for column in columns] for row in rows]
    if any(cell not in (0.0, 1.0) for cells in said for cell in cells):
        return None
    found = sum(1.0 in cells for cells in said)
    return None if 2 * found == len(said) else 2 * found > len(said)


def _take_dicom(gathered: Gathering, files: dict[str, Path], name: str, label: int | None, image: LabelledImage) -> None:
    """A film named after its id, with age, sex, view and scanner from its header."""
    path = files.get(name)
    if path is None or label is None:
        _take_row(gathered, replace(image, path=path or Path(name)), label, present=path is not None)
        return
    if path.suffix.lower() in (".png", ".jpg", ".jpeg"):
        _take_row(gathered, replace(image, path=path), label, present=True)
        return
    header = header_of(path, gathered)
    if header is not None:
        if header.age_years is None:
            gathered.fault(path, "age", "its header states no age between 0 and 120 years; used without age")
        _take_row(gathered, completed(replace(image, path=path), header), label, present=True)


def _take_finding(gathered: Gathering, row: LabelRow, image: LabelledImage, policy: LabelPolicy, *, present: bool) -> None:
    """A film whose row holds 1, 0, -1 or nothing for Pneumonia and No Finding."""
    cell = row.get("pneumonia")
    pneumonia = FOUND.get(cell)
    if cell and pneumonia is None:
        _leave_out(gathered, image, str(image.path), "label", f"Pneumonia {cell!r} is none of 1, 0, -1 and blank; left out")
    elif pneumonia == -1 and policy.uncertain == "ignore":
        _leave_out(gathered, image, str(image.path), "uncertain", "Pneumonia is uncertain (-1); left out")
    else:
        label = policy.label(pneumonia, no_finding=FOUND.get(row.get("no finding")) == 1)
        _take_row(gathered, image, label, present=present)


def _take_row(gathered: Gathering, image: LabelledImage, label: int | None, *, present: bool) -> None:
    if not present:
        gathered.fault(str(image.path), "no-file", "named by a row, not there; left out")
    elif label is None:
        _leave_out(
            gathered, image, image.path, "other-finding", "neither pneumonia nor free of findings; left out (negatives = no-finding)"
        )
    else:
        gathered.take(replace(image, label=label))


def _leave_out(gathered: Gathering, image: LabelledImage, name: str | Path, what: str, said: str) -> None:
    """A fault for a film that a row names: it is no file without a row."""
    gathered.seen.add(image.path)
    gathered.fault(name, what, said)


def _age(gathered: Gathering, name: str, text: str) -> float | None:
    """An age; where the cell holds something else, a fault and none."""
    age = years_of(text, zero_is_unknown=True) if text else None
    if text and age is None:
        gathered.fault(name, "age", f"age {text!r} is not between 1 and 120 years; used without age")
    return age


def _without_row(gathered: Gathering, paths: Iterable[Path], table: LabelTable) -> None:
    for path in paths:
        if path not in gathered.seen:
            gathered.fault(path, "no-row", f"no row of {table.path.name} names it; left out")
