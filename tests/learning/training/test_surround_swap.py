"""The lungs of one film in the surround of another: what is inside the box is the one's, what is outside the other's."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from prioritizer.imaging import phantoms
from prioritizer.learning.training.surround_swap import (
    in_surrounds,
    lung_boxes,
    of_the_other_class,
    some_in_surrounds,
    with_surrounds_of_the_other_class,
)

BOXES = torch.tensor([[0.25, 0.25, 0.75, 0.75], [0.125, 0.25, 0.625, 0.875]])


def films(*seeds: int, side: int = 128) -> torch.Tensor:
    drawn = [phantoms.picture(side, opacity=bool(seed % 2), seed=seed).astype(np.float32) / np.float32(255) for seed in seeds]
    return torch.from_numpy(np.stack(drawn))[:, None]


def test_a_film_in_its_own_surround_is_unchanged():
    pictures = films(1, 2)
    boxes = lung_boxes(pictures)
    assert torch.allclose(in_surrounds(pictures, boxes, pictures, boxes), pictures, atol=1e-5)


def test_inside_is_the_one_and_outside_the_other():
    black, white = torch.zeros(1, 1, 64, 64), torch.ones(1, 1, 64, 64)
    found = in_surrounds(white, BOXES[:1], black, BOXES[1:])[0, 0]
    assert found[20:52, 12:36].min() == 1
    assert found[:16].max() == found[56:].max() == found[:, :8].max() == found[:, 40:].max() == 0
    assert set(found[34].diff().sign().unique().tolist()) <= {-1, 0, 1}


def test_the_box_is_warped_onto_the_place_it_takes():
    ramp = torch.linspace(0, 1, 256).expand(1, 1, 256, 256).contiguous()
    found = in_surrounds(ramp, BOXES[:1], torch.zeros_like(ramp), BOXES[1:])[0, 0, 128]
    inside = found[48:144]
    at = (torch.arange(48, 144) + 0.5) / 256
    assert torch.allclose(inside, at - 0.125 + 0.25, atol=0.01)


@pytest.mark.parametrize("seed", range(3))
def test_the_box_holds_the_lungs_of_a_phantom(seed: int):
    left, top, right, bottom = lung_boxes(films(seed))[0].tolist()
    assert 0 <= left < 0.3 < 0.7 < right <= 1
    assert 0 <= top < 0.35 < 0.65 < bottom <= 1


def test_a_film_without_lungs_gets_the_box_of_the_template():
    boxes = lung_boxes(torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(1)))
    assert torch.allclose(boxes[0], boxes[1])
    assert (boxes[:, 2:] - boxes[:, :2] > 0.5).all()


def test_a_mark_outside_the_lungs_says_the_opposite_afterwards():
    labels = np.array([0, 1, 0, 1, 1], dtype=np.float64)
    pictures = films(*range(5))
    pictures[:, :, :8, :8] = torch.from_numpy(labels).float().view(-1, 1, 1, 1)
    changed = with_surrounds_of_the_other_class(pictures, labels)
    assert changed[:, 0, 4, 4].tolist() == (1 - labels).tolist()
    middle = (pictures - changed)[:, :, 48:80, 48:80].abs().mean()
    assert middle < 0.1, "the lungs stay"


def test_the_other_class_is_drawn_the_same_way_twice():
    labels = np.array([0, 1, 1, 0, 1, 0, 0], dtype=np.float64)
    others = of_the_other_class(labels)
    assert (labels[others] == 1 - labels).all()
    assert (others == of_the_other_class(labels)).all()


@pytest.mark.parametrize(("share", "kept"), [(0.0, 32), (1.0, 2)])
def test_about_the_asked_share_is_changed(share: float, kept: int):
    pictures = torch.rand(32, 1, 16, 16, generator=torch.Generator().manual_seed(5))
    boxes = BOXES[:1].expand(32, 4)
    changed = some_in_surrounds(pictures, boxes, share, torch.Generator().manual_seed(6))
    assert int((changed == pictures).flatten(1).all(dim=1).sum()) <= kept
    assert share or torch.equal(changed, pictures)
