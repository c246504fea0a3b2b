"""Headers of two real archives as Instances; the files lie outside the repository."""

from __future__ import annotations

import ast
import csv
import gzip
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

import pytest

from prioritizer.dicom.read.ages import age_in_years
from prioritizer.study import Instance

NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
CR = "1.2.840.10008.5.1.4.1.1.1"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"


def shared_data(*parts: str) -> Path:
    """A path in the shared data, or the test is skipped."""
    root = Path(os.environ.get("PRIORITIZER_SHARED_DATA") or Path(__file__).resolve().parents[3] / "shared" / "data")
    path = root.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"{'/'.join(parts)} of the shared data is not here")
    return path


def instance(**values: object) -> Instance:
    """A chest film of a three-year-old; `values` say what is different."""
    usual: dict[str, object] = {
        "sop_instance_uid": "1.2.3.4", "sop_class_uid": CR, "study_uid": "1.2.3", "series_uid": "1.2.3.1",
        "transfer_syntax_uid": "1.2.840.10008.1.2.1", "calling_ae": "DX1", "called_ae": "PRIORITIZER", "address": "127.0.0.1",
        "received_at": NOON, "sha256": "0" * 64, "size": 1000, "age_years": 3.0, "modality": "CR", "body_part": "CHEST",
        "view_position": "AP", "image_type": ("ORIGINAL", "PRIMARY"), "photometric": "MONOCHROME2",
    }  # fmt: skip
    return Instance(**(usual | values))


def _rows(name: str) -> Iterator[dict[str, str]]:
    with gzip.open(shared_data("headers", name), "rt", encoding="utf-8", errors="replace", newline="") as file:
        yield from csv.DictReader(file)


def _values(text: str) -> tuple[str, ...]:
    """The values of a cell such as "['L', 'F']"."""
    return tuple(ast.literal_eval(text)) if text.startswith("[") else (text,) if text else ()


def _view_codes(text: str) -> tuple[str, ...]:
    return tuple(code for code in ("R-10206", "R-10214", "R-10236", "R-10232") if code in text)


@lru_cache
def indiana() -> list[tuple[Instance, str]]:
    """The 7,469 instances of the Indiana archive, each with its View Position as written."""
    return [
        (
            instance(
                sop_class_uid=row["SOP Class UID"],
                modality=row["Modality"],
                body_part=row["Body Part Examined"],
                view_position=row["View Position"],
                view_codes=_view_codes(row["View Code Sequence"]),
                patient_orientation=_values(row["Patient Orientation"]),
                image_type=_values(row["Image Type"]),
                priority=row["Requested Procedure Priority"] or row["Study Priority ID"],
                age_years=age_in_years("", row["Patient's Birth Date"], row["Study Date"]),
            ),
            row["View Position"],
        )
        for row in _rows("nlmcxr_dicom_metadata.csv.gz")
    ]


@lru_cache
def rsna() -> list[tuple[Instance, str]]:
    """The 26,684 instances of the RSNA challenge, each with its age as written."""
    return [
        (
            instance(
                sop_class_uid=SECONDARY_CAPTURE,
                modality=row["Modality"],
                body_part=row["BodyPartExamined"],
                view_position=row["ViewPosition"],
                image_type=(),
                age_years=age_in_years(row["PatientAge"], "", ""),
            ),
            row["PatientAge"],
        )
        for row in _rows("kaggle_stage_2_train_images_dicom_headers.csv.gz")
    ]
