"""Train one network from a recipe. A run is a folder: recipe, split, checkpoints, a line of figures an epoch."""

from __future__ import annotations

import json
import math
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional

from prioritizer import __version__
from prioritizer.errors import ConfigError
from prioritizer.learning import data, network
from prioritizer.learning.recipes import Recipe
from prioritizer.measures import roc_auc

Say = Callable[[str], None]
Tick = Callable[[int, int, str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """Figures of one pass over the training split. The calib split is watched, never selected on."""

    epoch: int
    train_loss: float
    calib_loss: float
    calib_auc: float
    seconds: float


def augmented(pictures: Tensor, recipe: Recipe, rng: torch.Generator) -> Tensor:
    """Pictures (N, 1, S, S), 0..1, each turned, shifted, scaled, brightened and stretched at random; black outside."""
    n = len(pictures)

    def uniform(limit: float) -> Tensor:
        return (torch.rand(n, generator=rng) * 2 - 1) * limit

    angle = uniform(math.radians(recipe.rotation))
    scale = 1 + uniform(recipe.scale)
    theta = torch.stack(
        [
            torch.stack([scale * angle.cos(), -scale * angle.sin(), uniform(2 * recipe.shift)], dim=1),
            torch.stack([scale * angle.sin(), scale * angle.cos(), uniform(2 * recipe.shift)], dim=1),
        ],
        dim=1,
    )
    grid = functional.affine_grid(theta, list(pictures.shape), align_corners=False)
    moved = functional.grid_sample(pictures, grid, align_corners=False)
    contrast = (1 + uniform(recipe.contrast)).view(n, 1, 1, 1)
    brightness = uniform(recipe.brightness).view(n, 1, 1, 1)
    return ((moved - 0.5) * contrast + 0.5 + brightness).clamp(0, 1)


def normalised(pictures: Tensor, recipe: Recipe) -> Tensor:
    """Pictures (N, 1, S, S) to network input (N, 3, S, S), the arithmetic of `pixels.normalised`."""
    return ((pictures - recipe.mean) / recipe.std).expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def predict(model: nn.Module, pictures: np.ndarray, recipe: Recipe, device: torch.device, batch: int = 64) -> np.ndarray:
    """Logits float64 (N,) in evaluation mode, float32 arithmetic."""
    model.eval()
    parts = []
    for start in range(0, len(pictures), batch):
        images = normalised(torch.from_numpy(pictures[start : start + batch])[:, None], recipe).to(device)
        parts.append(model(images).squeeze(1).double().cpu().numpy())
    return np.concatenate(parts)


class Run:
    """One training: model, optimiser, schedule and random state, all of it in the checkpoint."""

    def __init__(self, recipe: Recipe, folder: Path, root: Path, device: torch.device, say: Say, tick: Tick) -> None:
        self.recipe, self.folder, self.root, self.device, self.say, self.tick = recipe, folder, root, device, say, tick
        torch.manual_seed(recipe.seed)
        self.rng = torch.Generator().manual_seed(recipe.seed)
        images = data.read_folder(root)
        self.splits = data.split_by_patient(images, recipe.seed)
        self.model = network.build(recipe.architecture).to(device).to(memory_format=torch.channels_last)
        self.optimiser = torch.optim.AdamW(self.model.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
        self.steps = math.ceil(len(self.splits["train"]) / recipe.batch_size)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimiser, max_lr=recipe.learning_rate, total_steps=self.steps * recipe.epochs
        )
        self.done = 0

    def describe(self) -> None:
        """What is needed to repeat the run, written before the first step."""
        data.write_splits(self.splits, self.root, self.folder / "splits.json")
        facts = {
            "recipe": asdict(self.recipe),
            "prioritizer": __version__,
            "torch": torch.__version__,
            "timm": timm.__version__,
            "python": platform.python_version(),
            "machine": platform.processor() or platform.machine(),
            "device": str(self.device),
            "data_sha256": data.fingerprint([image for images in self.splits.values() for image in images]),
            "images": {name: len(images) for name, images in self.splits.items()},
            "patients": {name: len({image.patient for image in images}) for name, images in self.splits.items()},
            "pneumonia": {name: sum(image.label for image in images) for name, images in self.splits.items()},
        }
        (self.folder / "run.json").write_text(json.dumps(facts, indent=1), encoding="utf-8")

    def save(self) -> None:
        """`last.pt`, replaced in one step so that an interruption leaves the previous one."""
        state = {
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "schedule": self.schedule.state_dict(),
            "rng": self.rng.get_state(),
            "torch_rng": torch.get_rng_state(),
            "done": self.done,
        }
        partial = self.folder / "last.pt.partial"
        torch.save(state, partial)
        partial.replace(self.folder / "last.pt")

    def resume(self) -> None:
        """Continue after the last finished epoch, to the numbers an uninterrupted run would give."""
        state = torch.load(self.folder / "last.pt", map_location=self.device, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.schedule.load_state_dict(state["schedule"])
        self.rng.set_state(state["rng"].cpu())
        torch.set_rng_state(state["torch_rng"].cpu())
        self.done = state["done"]

    def one_epoch(self, pictures: np.ndarray, labels: np.ndarray, pos_weight: Tensor) -> float:
        """One pass over the training split in random order; the mean loss."""
        self.model.train()
        order = torch.randperm(len(pictures), generator=self.rng).numpy()
        total = 0.0
        for step in range(self.steps):
            chosen = order[step * self.recipe.batch_size : (step + 1) * self.recipe.batch_size]
            batch = augmented(torch.from_numpy(pictures[chosen])[:, None], self.recipe, self.rng)
            truth = torch.from_numpy(labels[chosen]).to(self.device)
            with torch.autocast(self.device.type, dtype=torch.bfloat16):
                logits = self.model(normalised(batch, self.recipe).to(self.device)).squeeze(1)
            loss = functional.binary_cross_entropy_with_logits(logits.float(), truth, pos_weight=pos_weight)
            self.optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimiser.step()
            self.schedule.step()
            total += loss.item() * len(chosen)
            self.tick(step + 1, self.steps, f"epoch {self.done + 1}/{self.recipe.epochs} loss {loss.item():.3f}")
        return total / len(pictures)

    def train(self) -> None:
        """All remaining epochs, a checkpoint and a line in `log.jsonl` after each."""
        spec = self.recipe.preprocessing
        pictures, labels = data.load_pictures(self.splits["train"], spec)
        calib, calib_labels = data.load_pictures(self.splits["calib"], spec)
        pos_weight = torch.tensor((labels == 0).sum() / (labels == 1).sum(), device=self.device)
        while self.done < self.recipe.epochs:
            started = time.monotonic()
            train_loss = self.one_epoch(pictures, labels, pos_weight)
            logits = predict(self.model, calib, self.recipe, self.device)
            calib_loss = float(np.mean(np.logaddexp(0, logits) - calib_labels * logits))
            self.done += 1
            figures = Epoch(
                epoch=self.done,
                train_loss=train_loss,
                calib_loss=calib_loss,
                calib_auc=roc_auc(calib_labels.astype(np.float64), logits),
                seconds=time.monotonic() - started,
            )
            with (self.folder / "log.jsonl").open("a", encoding="utf-8") as log:
                log.write(json.dumps(asdict(figures)) + "\n")
            self.save()
            self.say(f"epoch {self.done}: train loss {train_loss:.4f}, calib loss {calib_loss:.4f}, calib ROC-AUC {figures.calib_auc:.4f}")


def train(
    root: Path,
    folder: Path,
    recipe: Recipe,
    *,
    resume: bool = False,
    say: Say = print,
    tick: Tick = lambda done, of, text: None,
) -> None:
    """Train `recipe` on `root` (NORMAL/, PNEUMONIA/) into the run folder `folder`."""
    if (folder / "run.json").exists() and not resume:
        raise ConfigError((f"{folder} already holds a run; choose another folder or continue it with --resume",))
    folder.mkdir(parents=True, exist_ok=True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    run = Run(recipe, folder, root, device, say, tick)
    if resume:
        run.resume()
    else:
        run.describe()
    run.train()
