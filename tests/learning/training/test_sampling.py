"""What is drawn in an epoch: every class of every site equally often."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from prioritizer.errors import ConfigError
from prioritizer.learning.cohorts.labelled_image import LabelledImage
from prioritizer.learning.training import sampling
from prioritizer.learning.training.loop import TrainingRun
from prioritizer.learning.training.processes import take_place
from prioritizer.learning.training.recipes import Recipe
from prioritizer.learning.training.run_folder import Journal
from prioritizer.learning.training.selection import SelectionSplit
from prioritizer.learning.training.training_images import Material
from prioritizer.statistics.delong import area
from tests.support.hospitals import QUICK, image


def unequal() -> tuple[np.ndarray, list[str]]:
    """Labels and sites of three sites, each with another share of pneumonia."""
    cells = {("a", 0): 300, ("a", 1): 900, ("b", 0): 400, ("b", 1): 10, ("c", 0): 60, ("c", 1): 50}
    labels = np.array([label for (_, label), count in cells.items() for _ in range(count)], dtype=np.float32)
    return labels, [site for (site, _), count in cells.items() for _ in range(count)]


def at_sites(labels: np.ndarray, sites: list[str], kinds: list[str] | None = None) -> list[LabelledImage]:
    """One image for each label and site, of the kind given."""
    kinds = kinds or [""] * len(sites)
    return [
        image(number, int(label), site=site, subtype=kind)
        for number, (label, site, kind) in enumerate(zip(labels, sites, kinds, strict=True))
    ]


def test_the_chances_of_every_kind_of_a_class_of_a_site_are_equal():
    labels, sites = unequal()
    kinds = ["rare" if number % 5 == 0 and site != "c" else "common" for number, site in enumerate(sites)]
    images = at_sites(labels, sites, kinds)
    chances = sampling.chances(labels, np.full(len(labels), 0.5), Recipe(sampler="kinds"), images)
    assert chances is not None
    assert float(chances.sum()) == pytest.approx(1)
    for site, of_class in (("a", 2), ("b", 2), ("c", 1)):
        for label in (0, 1):
            for kind in ("rare", "common")[-of_class:]:
                cell = (np.array(sites) == site) & (labels == label) & (np.array(kinds) == kind)
                assert float(chances[torch.from_numpy(cell)].sum()) == pytest.approx(1 / 6 / of_class)
    with pytest.raises(ConfigError, match="site a are of one class only"):
        sampling.chances(labels[:300], np.full(300, 0.5), Recipe(sampler="kinds"), images[:300])


def test_the_chances_of_every_class_of_every_site_are_equal():
    labels, sites = unequal()
    chances = sampling.chances(labels, np.full(len(labels), 0.5), Recipe(sampler="sites"), at_sites(labels, sites))
    assert chances is not None
    assert float(chances.sum()) == pytest.approx(1)
    for site in "abc":
        for label in (0, 1):
            of_cell = chances[torch.from_numpy((np.array(sites) == site) & (labels == label))]
            assert float(of_cell.sum()) == pytest.approx(1 / 6)
            assert of_cell.unique().numel() == 1
    with pytest.raises(ConfigError, match="site a are of one class only"):
        sampling.chances(labels[:300], np.full(300, 0.5), Recipe(sampler="sites"), at_sites(labels, sites)[:300])


def test_in_what_is_drawn_the_site_says_nothing_of_the_label(tmp_path: Path):
    labels, sites = unequal()
    recipe = QUICK.model_copy(update={"seed": 3})
    run = TrainingRun(recipe, Journal(tmp_path), take_place(), initial=None, smoke=False, say=lambda said: None, tick=lambda a, b, c: None)
    empty = SelectionSplit(pictures=torch.zeros(0), labels=np.zeros(0), propensity=np.zeros(0), elsewhere=None)
    chances = sampling.chances(labels, np.full(len(labels), 0.5), recipe, at_sites(labels, sites))
    material = Material(pictures=torch.zeros(0), labels=torch.from_numpy(labels), boxes=None, chances=chances, watched=empty)
    drawn = torch.cat([run.order(material, epoch) for epoch in range(12)]).numpy()
    named, seen = np.array(sites)[drawn], labels[drawn]
    shares = Counter(zip(named.tolist(), seen.tolist(), strict=True))
    error = 4 * np.sqrt(1 / 6 * 5 / 6 / len(drawn))
    assert all(abs(count / len(drawn) - 1 / 6) < error for count in shares.values())
    assert len(shares) == 6
    rates = {site: float(seen[named == site].mean()) for site in "abc"}  # the best that a site can say of the label
    alone = area(seen, np.array([rates[site] for site in named]), list(map(str, range(len(drawn)))))
    assert alone.value == pytest.approx(0.5, abs=4 * np.sqrt(1 / 6 / len(drawn)) * 2)
    before = {site: float(labels[np.array(sites) == site].mean()) for site in "abc"}
    assert area(labels, np.array([before[site] for site in sites]), list(map(str, range(len(sites))))).value > 0.75
