"""Masks and boxes beside the maps, what the films without pneumonia have instead, and sites judged apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from prioritizer.errors import ConfigError
from prioritizer.learning.cohorts.read import read_cohort
from prioritizer.learning.evaluation.evaluate import evaluate
from prioritizer.learning.evaluation.report import facts_of, report_of
from prioritizer.learning.evaluation.trials import EvaluationRequest
from prioritizer.learning.training import network
from prioritizer.learning.training.train import train
from tests.support.cohort_files import table
from tests.support.hospitals import QUICK, source, sources_file
from tests.support.phantom_training import phantom_cohort


def boxed(root: Path, patients: int = 60) -> Path:
    """Films that radiologists read: opacity with boxes, other disease, healthy; of adults and children."""
    phantom_cohort(root, patients, first_seed=40_000)
    rows = ["file,label,patient_id,age,view,boxes_1000"]
    for name in ("NORMAL", "PNEUMONIA"):
        for number, path in enumerate(sorted((root / name).iterdir())):
            word = "opacity" if name == "PNEUMONIA" else ("normal", "other")[number % 2]
            boxes = "0 0 500 1000; 100 100 10 10" if word == "opacity" else ""
            rows.append(f"{name}/{path.name},{word},p{path.stem},{(40, 40, 8)[number % 3]},{('PA', 'AP')[number // 2 % 2]},{boxes}")
    table(root / "labels.csv", *rows)
    return root


@pytest.fixture(scope="module")
def two_sites(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A sources file of two sites, and a run on it."""
    root = tmp_path_factory.mktemp("looking")
    east = phantom_cohort(root / "east", patients=40)
    (root / "lungs").mkdir()
    for path in sorted((east / "PNEUMONIA").iterdir()):
        mask = np.zeros((64, 64), np.uint8)
        mask[:, 32:] = 255
        Image.fromarray(mask).save(root / "lungs" / path.name)
    boxed(root / "read")
    data = sources_file(
        root / "two.toml",
        source("east", "east", "east", masks="lungs"),
        source("read", "west", "read", words={"opacity": 1, "other": 0}, boxes={"column": "Boxes_1000", "side": 1000}),
    )
    train(data, root / "run", QUICK, say=lambda said: None)
    return data, root / "run"


def test_boxes_are_read_as_shares_and_what_is_none_is_said(tmp_path: Path) -> None:
    root = boxed(tmp_path / "read", patients=6)
    text = (root / "labels.csv").read_text().replace("0 0 500 1000; 100 100 10 10", "a b c d", 1)
    (root / "labels.csv").write_text(text)
    tables = source("read", "west", "read", words={"opacity": 1, "other": 0}, boxes={"column": "boxes_1000", "side": 1000})
    cohort = read_cohort(sources_file(tmp_path / "one.toml", tables))
    boxes = [image.boxes for image in cohort.images if image.label]
    assert boxes.count(None) == 1
    assert ((0.0, 0.0, 0.5, 1.0), (0.1, 0.1, 0.11, 0.11)) in boxes
    assert {image.boxes for image in cohort.images if not image.label} == {()}
    assert cohort.fault_counts == {"box": 1}


def test_an_unknown_column_of_boxes_is_said(tmp_path: Path) -> None:
    boxed(tmp_path / "read", patients=4)
    tables = source("read", "west", "read", words={"opacity": 1, "other": 0}, boxes={"column": "rois", "side": 1000})
    with pytest.raises(ConfigError, match="no column rois"):
        read_cohort(sources_file(tmp_path / "one.toml", tables))


def test_sites_are_judged_apart_with_masks_boxes_and_kinds(two_sites: tuple[Path, Path]) -> None:
    data, run = two_sites
    found = evaluate(run, EvaluationRequest(data=data, split="train", seen_allowed=True), with_cost=False)
    by_name = {one.trial.name.rpartition(", ")[2]: one for one in found.judgements}
    assert set(by_name) == {"east", "west"}
    east, west = by_name["east"], by_name["west"]
    assert {image.site for image in east.looked.images} == {"east"}
    assert east.looked.masked.sum() == sum(image.label for image in east.looked.images)
    assert np.allclose(east.looked.lung_area[east.looked.masked], 0.5)
    assert not np.isfinite(east.looked.boxed).any()
    assert east.against == {}
    positive = west.cases.labels == 1
    assert west.looked.scores.saliency is not None
    raised = positive & (west.looked.scores.saliency > 0).any(axis=(1, 2))  # of a film that nothing raises no share can be told
    assert raised.any()
    assert (np.isfinite(west.looked.boxed) == raised).all()
    assert np.allclose(west.looked.box_area[positive], 0.5)
    assert {"normal", "other"} <= set(west.against)
    facts = facts_of(found)["cohorts"]
    told = next(value for name, value in facts.items() if name.endswith("west"))
    assert told["saliency"]["boxes"]["n"] == raised.sum()
    assert 0 <= told["saliency"]["boxes"]["peak_inside"] <= 1
    assert told["against"]["other"][0] == pytest.approx(west.against["other"].value, abs=1e-6)
    titles = {section.title for section in report_of(found).sections}
    assert any("gainst what" in title for title in titles)


@pytest.mark.parametrize("stride", [16, 32])
def test_a_finer_map_sums_to_the_same_logit(stride: int) -> None:
    import torch

    torch.manual_seed(0)
    model = network.build("tf_efficientnet_lite0", size=224, stride=stride).eval()
    images = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        logit, saliency, _ = network.Explained(model).eval()(images)
        bias = network.direction(model)[1]
    assert saliency.shape == (2, 224 // stride, 224 // stride)
    assert torch.allclose(saliency.sum(dim=(1, 2)) + bias, logit, atol=1e-4)


def test_a_stride_that_an_architecture_does_not_have_is_said() -> None:
    with pytest.raises(ConfigError, match="stride = 16"):
        network.build("vit_tiny_patch16_224", stride=16)
