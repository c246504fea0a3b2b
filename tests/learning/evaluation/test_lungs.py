"""Lung fields of phantoms are found where they were drawn; what cannot be lungs is a template and says so."""

from __future__ import annotations

import numpy as np
import pytest

from prioritizer.imaging import phantoms
from prioritizer.learning.evaluation.lungs import lung_fields, share_inside, template


def film(seed: int, *, opacity: bool = False, side: int = 224) -> np.ndarray:
    return phantoms.picture(side, opacity=opacity, seed=seed).astype(np.float32) / np.float32(255)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("opacity", [False, True])
def test_the_lungs_of_a_phantom_are_two_dark_fields_beside_the_middle(seed: int, opacity: bool):
    found = lung_fields(film(seed, opacity=opacity))
    assert found.plausible
    assert 0.15 < found.area < 0.45
    left, right = found.mask[:, :108].sum(), found.mask[:, 116:].sum()
    assert 0.5 < left / right < 2
    assert not found.mask[:10].any()
    overlap = (found.mask & template(224)).sum() / (found.mask | template(224)).sum()
    assert overlap > 0.5


@pytest.mark.parametrize("seed", range(3))
def test_a_tone_curve_does_not_move_the_lungs(seed: int):
    plain, toned = lung_fields(film(seed)).mask, lung_fields(film(seed) ** 1.4).mask
    assert (plain & toned).sum() / (plain | toned).sum() > 0.85


@pytest.mark.parametrize("picture", [np.zeros((64, 64)), np.ones((64, 64)), np.random.default_rng(0).random((64, 64)), np.eye(96)])
def test_what_is_no_chest_gets_the_template_and_says_so(picture: np.ndarray):
    found = lung_fields(picture.astype(np.float32))
    assert not found.plausible
    assert found.mask.shape == picture.shape
    assert 0.2 < found.area < 0.45


def test_the_share_inside_counts_what_raised_the_logit_only():
    mask = np.zeros((70, 70), dtype=bool)
    mask[:, :35] = True
    saliency = np.zeros((7, 7), dtype=np.float32)
    saliency[2, 1], saliency[2, 5], saliency[4, 1] = 3.0, 1.0, -9.0
    assert share_inside(saliency, mask) == pytest.approx(0.75)
    saliency[:] = 0
    saliency[0, 3] = 2.0
    assert share_inside(saliency, mask) == pytest.approx(0.5)
    assert np.isnan(share_inside(-saliency, mask))
