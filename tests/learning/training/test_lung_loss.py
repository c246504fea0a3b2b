"""The second loss of a training: masks go where the lungs go, and what lies outside them is what is paid for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError

from prioritizer.errors import ConfigError
from prioritizer.learning.cohorts import dataset
from prioritizer.learning.cohorts.labelled_image import LabelledImage
from prioritizer.learning.cohorts.lung_masks import with_masks
from prioritizer.learning.evaluation.pointing import mask_of, peak_lies_in
from prioritizer.learning.training import network, train
from prioritizer.learning.training.augment import augmented, augmented_with_masks
from prioritizer.learning.training.loop import TrainingRun
from prioritizer.learning.training.lung_loss import outside_lungs, read_masks, some_without_lungs
from prioritizer.learning.training.recipes import Augment, Phase, Picture, Recipe
from prioritizer.learning.training.run_folder import Journal
from prioritizer.learning.training.selection import SelectionSplit, normalised
from tests.support.phantom_training import TINY, phantom_cohort, weights_of

MOVES = Augment(rotation=20.0, shift=0.1, scale=0.2, aspect=0.2, flip=0.5, brightness=0.0, contrast=0.0)


def blocks(count: int, size: int) -> torch.Tensor:
    """Pictures with one bright block each, each at another place."""
    pictures = torch.zeros(count, 1, size, size)
    for index in range(count):
        top = 10 + 5 * index
        pictures[index, 0, top : top + 20, top : top + 14] = 1
    return pictures


def test_masks_go_where_the_lungs_go():
    pictures = blocks(6, 96)
    moved, masks = augmented_with_masks(pictures, pictures.clone(), MOVES, torch.Generator().manual_seed(3))
    assert masks is not None
    assert torch.allclose(moved, masks)
    assert not torch.allclose(moved, pictures)


def test_masks_follow_lungs_that_are_set_into_another_surround_and_take_nothing_of_it():
    pictures = blocks(6, 96)
    boxes = torch.tensor([[0.1, 0.1, 0.9, 0.9]] * 6)
    _, masks = augmented_with_masks(pictures, pictures.clone(), Augment(surround=1.0), torch.Generator().manual_seed(3), boxes=boxes)
    assert masks is not None
    assert masks.sum() <= pictures.sum() * 1.05
    assert masks.sum() > pictures.sum() * 0.5


def test_the_changes_of_pictures_do_not_hang_on_masks():
    pictures = torch.rand(4, 1, 64, 64, generator=torch.Generator().manual_seed(1))
    how = Augment(rotation=5.0, shift=0.05, blur=0.5, jpeg=0.5, noise=0.05, gamma=0.3, erase=2, surround=0.5, mix_spectra=0.5)
    boxes = torch.tensor([[0.2, 0.2, 0.8, 0.8]] * 4)
    alone = augmented(pictures, how, torch.Generator().manual_seed(7), 48, boxes)
    beside, masks = augmented_with_masks(pictures, torch.ones_like(pictures), how, torch.Generator().manual_seed(7), 48, boxes)
    assert torch.equal(alone, beside)
    assert masks is not None
    assert masks.shape == beside.shape


def test_the_loss_is_the_share_of_what_raises_outside_the_lungs():
    masks = torch.zeros(4, 1, 28, 28)
    masks[:, :, :, :14] = 1
    contributions = torch.zeros(4, 2, 2)
    contributions[0, 0, 0] = 3.0  # inside
    contributions[1, 0, 1] = 3.0  # outside
    contributions[2] = torch.tensor([[1.0, 1.0], [-9.0, -9.0]])  # half of what raises; what lowers does not count
    counted = torch.tensor([True, True, True, False])
    assert outside_lungs(contributions, masks, counted).item() == pytest.approx((0 + 1 + 0.5) / 3)
    assert outside_lungs(contributions, masks, torch.zeros(4, dtype=torch.bool)).item() == 0
    contributions[3] = 7.0
    assert outside_lungs(contributions, masks, counted).item() == pytest.approx(0.5), "films that are not counted weigh nothing"


def test_the_loss_moves_contributions_into_the_lungs():
    masks = torch.zeros(1, 1, 28, 28)
    masks[:, :, :, :14] = 1
    contributions = torch.ones(1, 2, 2, requires_grad=True)
    outside_lungs(contributions, masks, torch.tensor([True])).backward()
    assert contributions.grad is not None
    assert (contributions.grad[0, :, 0] < 0).all()
    assert (contributions.grad[0, :, 1] > 0).all()


def test_the_mapped_network_answers_as_the_network_and_its_map_adds_up_to_the_logit():
    torch.manual_seed(2)
    for architecture in ("resnet10t", "tf_efficientnet_lite0"):
        model = network.build(architecture).eval()
        images = torch.rand(2, 3, 96, 96)
        with torch.no_grad():
            answer, contributions = network.Mapped(model)(images)
            assert torch.allclose(answer, model(images), atol=1e-5)
            assert torch.allclose(contributions.sum(dim=(1, 2)) + network.direction(model)[1], answer[:, 0], atol=1e-4)


def film(folder: Path, name: str) -> LabelledImage:
    return LabelledImage(path=folder / f"{name}.jpeg", label=1, patient=name)


def test_masks_are_read_by_name_and_a_film_may_have_none(tmp_path: Path):
    drawn = np.zeros((224, 224), dtype=np.uint8)
    drawn[:112], drawn[112:140] = 255, 127
    Image.fromarray(drawn).save(tmp_path / "one.png")
    masks, known = read_masks(with_masks([film(tmp_path, "one"), film(tmp_path, "two")], tmp_path), 56)
    assert known.tolist() == [True, False]
    assert (masks[0, 0, :35] == 255).all(), "what may be lung counts as lung"
    assert (masks[0, 0, 35:] == 0).all()
    assert not masks[1].any()
    with pytest.raises(ConfigError, match=r"a mask is a PNG named as its image, such as other\.png"):
        with_masks([film(tmp_path, "other")], tmp_path)
    broken = replace(film(tmp_path, "broken"), mask=tmp_path / "broken.png")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(ConfigError, match="is no readable lung mask"):
        read_masks([broken], 56)


def with_lungs(weight: float) -> Recipe:
    return Recipe(
        architecture=TINY.architecture,
        batch_size=8,
        picture=TINY.picture,
        lung_loss=weight,
        phases=(Phase(epochs=1, learning_rate=1e-2, schedule="constant"),),
    )


def test_a_run_with_masks_learns_from_them_and_says_of_how_many_films(tmp_path: Path):
    folder = phantom_cohort(tmp_path / "cohort", patients=12)
    masks = tmp_path / "masks"
    masks.mkdir()
    positives = [image for image in dataset.read_folder(folder) if image.label == 1]
    for image in positives:
        Image.fromarray(np.full((64, 64), 255, dtype=np.uint8)).save(masks / f"{image.path.stem}.png")
    told: list[str] = []
    train.train(folder, tmp_path / "one", with_lungs(1.0), masks=masks, smoke=True, say=told.append)
    assert any(said.startswith("lung masks: of ") for said in told)
    assert Journal(tmp_path / "one").recipe().lung_loss == 1.0
    for image in positives:
        Image.fromarray(np.zeros((64, 64), dtype=np.uint8)).save(masks / f"{image.path.stem}.png")
    train.train(folder, tmp_path / "other", with_lungs(1.0), masks=masks, smoke=True, say=lambda said: None)
    one, other = weights_of(tmp_path / "one"), weights_of(tmp_path / "other")
    assert not all(torch.equal(one[name], other[name]) for name in one), "other masks, other weights"


def test_masks_and_a_lung_loss_come_together(tmp_path: Path):
    folder = phantom_cohort(tmp_path / "cohort", patients=12)
    for weight, masks in ((1.0, None), (0.0, tmp_path)):
        with pytest.raises(ConfigError, match="needs --masks"):
            train.train(folder, tmp_path / f"run-{weight}", with_lungs(weight), masks=masks, smoke=True, say=lambda said: None)
    with pytest.raises(ValidationError, match="squashed to a square"):
        Recipe(lung_loss=1.0, picture=Picture(resize="pad"))


def test_only_films_with_a_mask_are_painted_over_and_only_their_lungs():
    pictures = torch.rand(64, 1, 32, 32, generator=torch.Generator().manual_seed(5))
    masks = torch.zeros_like(pictures)
    masks[:, :, 8:24, 8:24] = 1
    masked = torch.arange(64) % 2 == 0
    painted, chosen = some_without_lungs(pictures, masks, masked, 0.5, torch.Generator().manual_seed(5))
    assert not chosen[~masked].any()
    assert 4 < chosen.sum() < 28
    assert torch.equal(painted[~chosen], pictures[~chosen])
    assert torch.equal(painted[chosen][:, :, :8], pictures[chosen][:, :, :8])
    inside = painted[chosen][:, 0, 8:24, 8:24].flatten(1)
    assert torch.equal(inside.amin(dim=1), inside.amax(dim=1)), "one grey"
    every, _ = some_without_lungs(pictures, masks, masked, 1.0, torch.Generator().manual_seed(5))
    assert (every[masked] != pictures[masked]).any(dim=(1, 2, 3)).all()


@pytest.mark.parametrize("outputs", [1, 2])
def test_a_film_that_is_painted_over_should_stay_undecided(outputs: int):
    run = TrainingRun.__new__(TrainingRun)
    run.recipe = painting(outputs)
    answers = torch.tensor([[-3.0], [0.0], [3.0]]) if outputs == 1 else torch.tensor([[3.0, 0.0], [0.0, 0.0], [0.0, 3.0]])
    losses = [float(run.loss(answer[None], torch.tensor([0.5]), None)) for answer in answers]
    assert losses[1] < losses[0] == pytest.approx(losses[2])
    certain = [float(run.loss(answer[None], torch.tensor([1.0]), None)) for answer in answers]
    assert certain == sorted(certain, reverse=True)


def painting(outputs: int) -> Recipe:
    return with_lungs(1.0).model_copy(update={"outputs": outputs, "painted_over": 0.5})


def test_a_run_with_films_painted_over_is_another_run(tmp_path: Path):
    folder, masks = phantom_cohort(tmp_path / "cohort", patients=12), tmp_path / "masks"
    masks.mkdir()
    for image in dataset.read_folder(folder):
        Image.fromarray(np.full((64, 64), 255, dtype=np.uint8)).save(masks / f"{image.path.stem}.png")
    found = {}
    for share in (0.0, 1.0):
        recipe = with_lungs(1.0).model_copy(update={"painted_over": share})
        train.train(folder, tmp_path / str(share), recipe, masks=masks, smoke=True, say=lambda said: None)
        found[share] = weights_of(tmp_path / str(share))
    assert not all(torch.equal(found[0.0][name], found[1.0][name]) for name in found[0.0])


def test_an_epoch_can_be_chosen_by_where_the_maps_lie():
    labels = np.array([1.0, 0.0, 1.0, 0.0])
    images = [LabelledImage(path=Path(f"{n}.png"), label=int(label), patient=str(n), site="ab"[n // 2]) for n, label in enumerate(labels)]
    boxed = (replace(images[0], boxes=((0.0, 0.0, 0.5, 1.0),)), images[1], replace(images[2], boxes=((0.5, 0.0, 1.0, 1.0),)), images[3])
    recipe = with_lungs(0.0).model_copy(update={"select": "looking"})
    torch.manual_seed(0)
    model = network.build(recipe.architecture, 1, recipe.picture.size)
    side = recipe.picture.size
    watched = SelectionSplit(pictures=torch.rand(4, 1, side, side), labels=labels, propensity=np.full(4, 0.5), images=boxed)
    logits = np.array([1.0, 0.0, 0.0, 1.0])  # right at site a, wrong at site b
    found = watched.looking(model, recipe, torch.device("cpu"), logits)
    with torch.no_grad():
        _, maps = network.Mapped(model).eval()(normalised(watched.pictures[[0, 2]], recipe))
    peaks = [peak_lies_in(saliency, mask_of(one.boxes or ())) for saliency, one in zip(maps.numpy(), (boxed[0], boxed[2]), strict=True)]
    assert found == pytest.approx(np.mean([0.5, np.mean(peaks)]))


def test_a_run_keeps_the_epoch_that_looks_best_and_says_so(tmp_path: Path):
    films = phantom_cohort(tmp_path / "films", patients=12)
    masks = tmp_path / "masks"
    masks.mkdir()
    for path in (films / "PNEUMONIA").iterdir():
        Image.fromarray(np.full((64, 64), 255, dtype=np.uint8)).save(masks / f"{path.stem}.png")
    recipe = with_lungs(0.5).model_copy(update={"select": "looking", "phases": (Phase(epochs=3, learning_rate=1e-2, schedule="constant"),)})
    train.train(films, tmp_path / "run", recipe, masks=masks, say=lambda said: None)
    epochs = Journal(tmp_path / "run").epochs()
    figures = [one.select_looking for one in epochs]
    assert all(figure is not None and 0 <= figure <= 1 for figure in figures)
    kept = Journal(tmp_path / "run").load(name="best.pt")["epoch"]
    assert figures[kept - 1] == max(figure for figure in figures if figure is not None)
    assert (tmp_path / "run" / "curves.svg").is_file()
