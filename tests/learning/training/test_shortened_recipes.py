"""The recipes that docs/results.md is made with are the shipped ones, only smaller."""

from __future__ import annotations

from typing import Literal

import pytest

from benchmarks.results import ARCHITECTURES, INITIAL, RECIPES, shortened
from prioritizer.learning.training.recipes import Recipe, find_recipe


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("initial", INITIAL)
@pytest.mark.parametrize("epochs", [3, 6, 24])
def test_a_shortened_recipe_keeps_everything_but_size_and_length(
    name: str, architecture: str, initial: Literal["imagenet", "random"], epochs: int
):
    whole, short = find_recipe(name), shortened(name, architecture, initial, 96, epochs)
    assert short.initial == initial
    assert short.epochs == max(epochs, len(whole.phases))
    assert short.picture.size == 96
    assert all(phase.size <= 96 for phase in short.phases)
    assert (short.augment, short.sampler, short.select) == (whole.augment, whole.sampler, whole.select)
    assert [phase.trainable for phase in short.phases] == [phase.trainable for phase in whole.phases]
    assert Recipe(**short.model_dump()) == short
