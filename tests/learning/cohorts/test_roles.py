"""Which sources learn and which judge, and that no patient and no image does both."""

from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from prioritizer.errors import ConfigError
from prioritizer.learning.cohorts.labelled_image import TEXT_MINED, LabelledImage
from prioritizer.learning.cohorts.read import Cohort, read_cohort
from prioritizer.learning.cohorts.splits import LEFT_OUT, split_by_role, without_sites
from prioritizer.learning.training import train
from tests.support.hospitals import image

SHARES = train.SHARES


def places(splits: dict[str, tuple[LabelledImage, ...]]) -> dict[Path, str]:
    assert sum(map(len, splits.values())) == len({i.path for found in splits.values() for i in found}), "nobody stands in two splits"
    return {i.path: name for name, found in splits.items() for i in found}


def test_roles_have_their_shares():
    images = [image(n, n % 2, role="both") for n in range(200)]
    images += [image(n, n % 2, role="judge") for n in range(200, 300)]
    images += [image(n, n % 2, role="train") for n in range(300, 340)]
    splits, left_out = split_by_role(images, 1, SHARES)
    assert not left_out
    counts = {name: Counter(i.role for i in found) for name, found in splits.items()}
    assert counts == {
        "train": {"both": 144, "train": 40},
        "select": {"both": 16, "judge": 10},
        "calib": {"both": 20, "judge": 40},
        "val_report": {"both": 20, "judge": 50},
    }
    assert all(abs(sum(i.label for i in found) - len(found) / 2) <= 1 for found in splits.values())
    assert split_by_role(images, 1, SHARES) == (splits, left_out)
    assert split_by_role(images, 2, SHARES) != (splits, left_out)


def test_without_roles_the_split_is_what_it_was():
    from prioritizer.learning.cohorts.splits import split_by_patient

    images = [image(n, int(n < 60), patient=f"p{n // 2}") for n in range(200)]
    assert split_by_role(images, 5, SHARES)[0] == split_by_patient(images, 5, SHARES["both"])


def test_a_block_stays_on_one_side():
    images = [image(n, n % 2, block=f"b{n // 10}") for n in range(400)]
    where = places(split_by_role(images, 3, SHARES)[0])
    assert all(len({where[i.path] for i in images[start : start + 10]}) == 1 for start in range(0, 400, 10))
    assert len(set(where.values())) == 4


def test_what_judges_is_kept_and_its_twin_that_trains_is_left_out():
    judged = [image(n, n % 2, role="judge") for n in range(40)]
    split_both = [image(n, n % 2, role="both") for n in range(40, 80)]
    only_train = [image(n, n % 2, role="train", patient=f"p{n // 2}t") for n in range(80, 160)]
    pairs = [(judged[k].path, only_train[k].path) for k in range(10)]
    pairs += [(split_both[k].path, only_train[40 + k].path) for k in range(40)]
    pairs += [(judged[20].path, split_both[0].path)]
    splits, left_out = split_by_role([*judged, *split_both, *only_train], 3, SHARES, pairs)
    where = places(splits)
    assert all(i.path in where and where[i.path] != "train" for i in judged)
    assert all(i.path in where for i in split_both)
    assert where[split_both[0].path] == where[judged[20].path]
    for judge, twin in pairs[:-1]:
        assert (twin in where) == (where[judge] == "train"), "a twin trains with its like or is left out"
    assert {i.path for i in left_out} == {i.path for i in only_train} - where.keys()
    gone = {i.patient for i in left_out}
    assert all(i.path not in where for i in only_train if i.patient in gone), "all films of its patient go with it"


def test_two_who_judge_are_joined_through_one_that_trains():
    judged = [image(n, 0, role="judge") for n in range(30)]
    between = [image(100 + n, 0, role="train") for n in range(15)]
    pairs = [(judged[2 * n].path, between[n].path) for n in range(15)] + [(between[n].path, judged[2 * n + 1].path) for n in range(15)]
    where = places(split_by_role([*judged, *between], 3, SHARES, pairs)[0])
    assert all(where[judged[2 * n].path] == where[judged[2 * n + 1].path] for n in range(15))
    assert not {i.path for i in between} & where.keys()


def test_a_site_that_is_left_out_changes_no_other_split_and_takes_its_twins_along():
    images = [image(n, n % 2, site="a") for n in range(100)] + [image(n, n % 2, site="b") for n in range(100, 160)]
    images += [image(n, n % 2, site="b", role="train") for n in range(160, 180)]
    images += [image(n, n % 2, site="b", label_source=TEXT_MINED) for n in range(180, 190)]
    splits, _ = split_by_role(images, 3, SHARES)
    groups = {i.patient: i.patient for i in images} | {"p5": "p120", "p7": "p165"}
    kept, twins = without_sites(splits, ["b"], groups)
    before, after = places(splits), places(kept)
    assert [i.patient for i in twins] == ["p5"]
    assert {i.patient for i in kept[LEFT_OUT]} == {f"p{n}" for n in range(100, 160)}
    assert all(after[i.path] == before[i.path] for i in images[:100] if i.patient != "p5")
    assert LEFT_OUT not in without_sites(splits, ["c"], groups)[0]


def test_the_split_hangs_on_the_file_and_not_on_the_recipe(cohort: Cohort):
    one, other = (train.split(cohort, seed, lambda said: None) for seed in (1, 2))
    assert one == other
    assert not {i.role for i in one["train"]} & {"judge"}
    assert not {i.role for name in ("select", "calib", "val_report") for i in one[name]} & {"train"}
    changed = train.split(replace(cohort, split_seed=8), 1, lambda said: None)
    assert changed != one
    assert train.split(replace(cohort, split_seed=None), 7, lambda said: None) == one


def test_a_copy_of_a_judged_film_is_taken_out_of_what_trains_and_said(hospitals: Path, tmp_path: Path):
    shutil.copytree(hospitals.parent.parent, tmp_path / "again")
    data = tmp_path / "again" / "data"
    shutil.copy(data / "read" / "NORMAL" / "IM-0003-0001.png", data / "mined" / "NORMAL" / "IM-0003-0001.png")
    told: list[str] = []
    splits = train.split(read_cohort(tmp_path / "again" / "config" / "two.toml"), 1, told.append)
    where = places(splits)
    assert data / "mined" / "NORMAL" / "IM-0003-0001.png" not in where
    assert where[data / "read" / "NORMAL" / "IM-0003-0001.png"] != "train"
    assert "left out of train: 1 images of sources that only train; an image that judges is of the same patient or film" in told


def test_a_run_that_nothing_judges_is_refused(hospitals: Path):
    with pytest.raises(ConfigError, match=r"the split select, calib, val_report would hold one class only.*role both or judge"):
        train.split(replace(read_cohort(hospitals), images=tuple(i for i in read_cohort(hospitals).images if i.role == "train")), 1, print)
