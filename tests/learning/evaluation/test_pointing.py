"""Maps beside boxes and masks, against shapes made by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from prioritizer.errors import ConfigError
from prioritizer.learning.evaluation.lungs import share_inside
from prioritizer.learning.evaluation.pointing import SIDE, lungs_of, mask_of, peak_lies_in


def test_boxes_cover_what_they_say() -> None:
    mask = mask_of([(0.0, 0.0, 0.5, 0.25), (0.25, 0.0, 0.5, 0.5)])
    assert mask.shape == (SIDE, SIDE)
    assert mask.mean() == pytest.approx(0.5 * 0.25 + 0.25 * 0.25)
    assert mask[0, 0]
    assert not mask[-1, -1]
    assert not mask_of([]).any()


@pytest.mark.parametrize("cells", [7, 14])
def test_the_peak_of_a_map_lies_where_its_highest_cell_is(cells: int) -> None:
    saliency = np.full((cells, cells), -1.0, np.float32)
    saliency[cells - 2, 1] = 2.0
    inside = mask_of([(1 / cells, 1 - 2 / cells, 2 / cells, 1 - 1 / cells)])
    assert peak_lies_in(saliency, inside)
    assert not peak_lies_in(saliency, ~inside)
    assert not peak_lies_in(saliency.T.copy(), inside)


def test_a_cell_counts_by_the_part_that_is_covered() -> None:
    saliency = np.zeros((7, 7), np.float32)
    saliency[0, 0], saliency[6, 6], saliency[3, 3] = 3.0, 1.0, -5.0
    half_a_cell = mask_of([(0.0, 0.0, 1 / 14, 1 / 7)])
    assert share_inside(saliency, half_a_cell) == pytest.approx(3 * 0.5 / 4, abs=0.01)


def test_what_may_be_either_counts_as_lung(tmp_path: Path) -> None:
    drawn = np.zeros((100, 50), np.uint8)
    drawn[:50], drawn[50:75] = 255, 127
    Image.fromarray(drawn).save(tmp_path / "a.png")
    mask = lungs_of(tmp_path / "a.png")
    assert mask.shape == (SIDE, SIDE)
    assert mask.mean() == pytest.approx(0.75, abs=0.01)
    assert lungs_of(tmp_path / "a.png", 32).mean() == pytest.approx(0.75, abs=0.04)


def test_a_mask_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "b.png").write_bytes(b"no picture")
    with pytest.raises(ConfigError, match=r"b\.png: is no readable lung mask"):
        lungs_of(tmp_path / "b.png")
