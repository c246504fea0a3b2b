"""No person and no film on both sides of a split, whatever the cohort looks like."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prioritizer.errors import ConfigError
from prioritizer.learning.cohorts.labelled_image import LabelledImage
from prioritizer.learning.cohorts.splits import SHARES, read_splits, split_by_patient, write_splits


def cohort(patients: list[tuple[int, int]]) -> list[LabelledImage]:
    return [LabelledImage(path=Path(f"d/{n}.png"), label=label, patient=f"p{patient}") for n, (patient, label) in enumerate(patients)]


COHORTS = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 1)), min_size=1, max_size=80).map(cohort)


@given(images=COHORTS, seed=st.integers(0, 99), twins=st.lists(st.tuples(st.integers(0, 79), st.integers(0, 79)), max_size=10))
def test_patients_and_joined_films_stand_in_one_split(images: list[LabelledImage], seed: int, twins: list[tuple[int, int]]) -> None:
    joined = [(images[i % len(images)].path, images[j % len(images)].path) for i, j in twins]
    splits = split_by_patient(images, seed, joined=joined)
    place = {image.path: name for name, found in splits.items() for image in found}
    assert sorted(place) == sorted(image.path for image in images)
    assert all(place[one] == place[other] for one, other in joined)
    patients = [{image.patient for image in found} for found in splits.values()]
    assert sum(map(len, patients)) == len(set().union(*patients))


@given(images=COHORTS, seed=st.integers(0, 99))
def test_the_seed_alone_decides(images: list[LabelledImage], seed: int) -> None:
    assert split_by_patient(images, seed) == split_by_patient(images, seed)


def test_classes_are_shared_out_alike() -> None:
    images = cohort([(n, int(n < 40)) for n in range(200)])
    splits = split_by_patient(images, 3)
    assert {name: (len(found), sum(i.label for i in found)) for name, found in splits.items()} == {
        "train": (160, 32),
        "calib": (20, 4),
        "val_report": (20, 4),
    }
    assert tuple(splits) == tuple(SHARES)


def test_other_shares_may_be_asked_for() -> None:
    splits = split_by_patient(cohort([(n, n % 2) for n in range(100)]), 1, {"train": 0.7, "select": 0.1, "calib": 0.1, "val_report": 0.1})
    assert [len(found) for found in splits.values()] == [70, 10, 10, 10]


def test_a_split_is_written_and_read_back_with_all_that_is_known(tmp_path: Path) -> None:
    images = [
        LabelledImage(path=tmp_path / "sub" / f"{n}.png", label=n % 2, patient=f"p{n}", age_years=float(n), view="PA") for n in range(10)
    ]
    splits = split_by_patient(images, 1)
    write_splits(splits, tmp_path, tmp_path / "splits.json")
    assert read_splits(tmp_path / "splits.json", images, tmp_path) == splits


def test_a_split_that_does_not_fit_the_cohort_names_every_row(tmp_path: Path) -> None:
    images = [LabelledImage(path=tmp_path / "a.png", label=1, patient="p")]
    (tmp_path / "splits.json").write_text('{"train": [["a.png", 0, "p"], ["gone.png", 1, "q"]]}')
    with pytest.raises(ConfigError) as caught:
        read_splits(tmp_path / "splits.json", images, tmp_path)
    assert len(caught.value.faults) == 2
    (tmp_path / "splits.json").write_text("[1]")
    with pytest.raises(ConfigError, match=r"no splits\.json"):
        read_splits(tmp_path / "splits.json", images, tmp_path)
