"""The files of a cohort: label tables as people save them, radiographs below a folder, what a DICOM header adds to a row."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from prioritizer.dicom.read.ages import age_in_years
from prioritizer.dicom.read.attributes import instance_of_file
from prioritizer.errors import ConfigError, Unprocessable
from prioritizer.learning.cohorts.labelled_image import Fault, LabelledImage
from prioritizer.scope.stated_view import LATERAL_CODES, LATERAL_VIEWS
from prioritizer.study import Instance

PICTURE_SUFFIXES = (".jpeg", ".jpg", ".png")
DICOM_SUFFIXES = (".dcm", ".dicom", ".dic", ".ima")
WORKBOOKS = (".xlsx", ".xls", ".ods", ".numbers")
NOT_DICOM = (".csv", ".gz", ".json", ".txt", ".md", ".html", ".toml", ".zip", ".pdf", ".xlsx", ".tsv")
LATERAL = LATERAL_VIEWS | {"L"}
OLDEST = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelRow:
    """One line of a label table: its line number and its cells by column name in small letters."""

    line: int
    cells: dict[str, str]

    def get(self, *names: str) -> str:
        """The first cell that is there and not empty, without surrounding blanks."""
        return next((cell for name in names if (cell := self.cells.get(name, "").strip())), "")


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelTable:
    """A label table: comma, semicolon or tab, with or without byte order mark, plain or gzip."""

    path: Path
    header: tuple[str, ...]
    """Column names in small letters, as they stand."""
    rows: tuple[LabelRow, ...]
    warning: str = ""
    """What is doubtful of its text."""


@dataclass(slots=True)
class Gathering:
    """Images and faults while a cohort is read; a file is taken once, and never with two labels."""

    root: Path
    images: dict[Path, LabelledImage] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    contradicted: set[Path] = field(default_factory=set)
    seen: set[Path] = field(default_factory=set)
    """Files that a row named, used or not: they are no files without a row."""

    def fault(self, file: str | Path, what: str, said: str) -> None:
        """Keep a fault; a path is told relative to the cohort."""
        self.faults.append(Fault(file=named(file, self.root) if isinstance(file, Path) else file, what=what, said=said))

    def take(self, image: LabelledImage) -> None:
        """Keep an image unless it is a lateral, already there, or there with the other label: then neither counts."""
        self.seen.add(image.path)
        before = self.images.get(image.path)
        if image.view in LATERAL:
            self.fault(image.path, "lateral", f"view {image.view} is not frontal; left out")
        elif image.path in self.contradicted or (before is not None and before.label != image.label):
            self.images.pop(image.path, None)
            self.contradicted.add(image.path)
            self.fault(image.path, "contradiction", "rows give it both labels; left out until one of them is removed")
        elif before is not None:
            self.fault(image.path, "row-twice", "named by two rows with the same label; used once")
        else:
            self.images[image.path] = image


def named(path: Path, root: Path) -> str:
    """The path relative to `root` where it lies below."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


def read_table(path: Path) -> LabelTable:
    """The table in `path` (.csv or .csv.gz). Raises ConfigError where it is no table."""
    if path.suffix.lower() in WORKBOOKS:
        raise ConfigError((f"{path}: is a workbook of a spreadsheet program; save the sheet with the labels as CSV in UTF-8",))
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        text, warning = _decoded(raw)
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise ConfigError((f"{path}: cannot be read as a table ({type(error).__name__}); save it as CSV in UTF-8",)) from error
    first = text.partition("\n")[0]
    delimiter = max(",;\t", key=first.count)
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    header = tuple(name.strip().lower() for name in next(lines, []))
    if not any(header):
        raise ConfigError((f"{path}: is empty; its first line names the columns",))
    rows = [
        LabelRow(line=lines.line_num, cells=dict(zip(header, cells, strict=False)))
        for cells in lines
        if any(cell.strip() for cell in cells)
    ]
    return LabelTable(path=path, header=header, rows=tuple(rows), warning=warning)


def _decoded(raw: bytes) -> tuple[str, str]:
    """The text of a table, and what is doubtful of it. Raises UnicodeDecodeError for what is no text."""
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return raw.decode("utf-16"), ""
    try:
        return raw.decode("utf-8-sig"), ""
    except UnicodeDecodeError:
        if b"\0" in raw:
            raise
        return raw.decode("latin-1"), "is not in UTF-8: read as Latin-1; letters beyond ASCII in file names and ids may be wrong"


def is_picture(path: Path) -> bool:
    """JPEG or PNG by its name."""
    return path.suffix.lower() in PICTURE_SUFFIXES


def is_dicom(path: Path) -> bool:
    """DICOM by its name, or by the mark at byte 128: archives name files by UID, without suffix."""
    suffix = path.suffix.lower()
    if suffix in DICOM_SUFFIXES:
        return True
    if suffix in NOT_DICOM or suffix in PICTURE_SUFFIXES:
        return False
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def files_below(root: Path) -> Iterator[Path]:
    """Every file below `root` in name order; what operating systems hide there is passed over."""
    for folder, folders, names in os.walk(root, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__MACOSX")))
        yield from (Path(folder) / name for name in sorted(names) if not name.startswith("."))


def radiographs_below(root: Path) -> tuple[Path, ...]:
    """Every JPEG, PNG and DICOM file below `root` in name order."""
    return tuple(path for path in files_below(root) if is_picture(path) or is_dicom(path))


def header_of(path: Path, gathered: Gathering) -> Instance | None:
    """What the header of a DICOM file says; None, with a fault, where it cannot be read."""
    try:
        return instance_of_file(path)
    except (Unprocessable, OSError) as error:
        gathered.seen.add(path)
        gathered.fault(path, "unreadable", f"{error}; left out")
        return None


def completed(image: LabelledImage, header: Instance) -> LabelledImage:
    """The image with age, sex, view, scanner and study from its header where the table is silent."""
    return replace(
        image,
        study_uid=image.study_uid or header.study_uid,
        age_years=header.age_years if image.age_years is None else image.age_years,
        sex=image.sex or sex_of(header.patient_sex),
        view=image.view or header.view_position.upper() or ("LATERAL" if LATERAL_CODES & set(header.view_codes) else ""),
        scanner=image.scanner or header.manufacturer,
        patient=image.patient or header.patient_id,
    )


def sex_of(text: str) -> str:
    """`M`, `F`, `O`, or empty where it is not stated."""
    first = text.strip()[:1].upper()
    return first if first in ("M", "F", "O") else ""


def years_of(text: str, *, zero_is_unknown: bool = False) -> float | None:
    """An age as people write it: `4`, `4.5`, `058Y`, `007M`; None where it is none, or not between 0 and 120 years."""
    years = age_in_years(text.strip(), "", "")
    if years is None:
        try:
            years = float(text.replace(",", "."))
        except ValueError:
            return None
    return years if 0 <= years <= OLDEST and not (zero_is_unknown and years == 0) else None


def by_name(paths: Iterable[Path]) -> dict[str, Path]:
    """Paths by their file name; of equal names the first."""
    found: dict[str, Path] = {}
    for path in paths:
        found.setdefault(path.name, path)
    return found
