"""One training from its first step to its last; stopping it at any step and going on gives the same weights."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import torch
from timm.utils.model_ema import ModelEmaV3
from torch import Tensor, nn
from torch.nn import functional

from prioritizer.learning.training import augment, imagenet, network
from prioritizer.learning.training.lung_loss import outside_lungs, some_without_lungs
from prioritizer.learning.training.processes import ProcessRank
from prioritizer.learning.training.recipes import Phase, Recipe, continuing
from prioritizer.learning.training.run_folder import BEST, LAST, Epoch, Journal
from prioritizer.learning.training.selection import normalised
from prioritizer.learning.training.stopping import asked_to_stop
from prioritizer.learning.training.training_images import SMOKE_STEPS, Material, Say, Tick, step_seed

UNLINKED_FROM = 0.5
"""Share of the epochs after which the costly unlinked figure is taken, and an epoch may be kept for it."""
PLATEAU_EPOCHS = 2
UNDECIDED = 0.5
"""What is asked of a film on which nothing is to be seen."""
STANDING = ("epoch", "step", "updates", "total", "seen", "best", "best_epoch", "has_initial")
"""Where a run stands, as it is written into a checkpoint."""
ORDER = 0xFFFF
"""Stands for the order of an epoch where a step's seed has the rank of its process."""


class TrainingRun:
    """One training: network, optimiser and its rate, moving average, and where it stands. All of it is in the checkpoint."""

    def __init__(
        self,
        recipe: Recipe,
        journal: Journal,
        place: ProcessRank,
        *,
        initial: Path | None,
        smoke: bool,
        say: Say,
        tick: Tick,
        goes_on: bool = False,
    ) -> None:
        """`initial`: a file of weights that goes before the recipe's. `goes_on`: the checkpoint's follow, so none are looked for."""
        self.recipe, self.journal, self.place, self.smoke, self.tick = recipe, journal, place, smoke, tick
        self.say: Say = say if place.writes else lambda said: None
        torch.manual_seed(recipe.seed)
        self.model = network.build(recipe.architecture, recipe.outputs, recipe.picture.size, recipe.drop_rate, recipe.stride)
        self.has_initial = initial is not None or recipe.initial == "imagenet"
        if recipe.initial == "imagenet" and initial is None and not goes_on:
            found = imagenet.load(self.model, recipe.architecture)
            self.say(f"initial weights: {found.package} {found.version} ({found.licence}), SHA-256 {found.sha256[:16]}...")
        elif initial is not None:
            kept = network.load_weights(self.model, initial)
            self.say(f"initial weights from {initial.name}" + (f"; random: {', '.join(kept[:4])}" if kept else ""))
        self.model.to(place.device).to(memory_format=torch.channels_last)
        self.average = ModelEmaV3(self.model, decay=recipe.average, use_warmup=True) if recipe.average else None
        self.epoch, self.step, self.updates, self.total, self.seen = 0, 0, 0, 0.0, 0.0
        self.best, self.best_epoch = -math.inf, 0
        self.phase_index = -1
        self.began, self.done_here = time.monotonic(), 0

    @property
    def kept(self) -> nn.Module:
        """The network whose figures count: the moving average where there is one."""
        return self.model if self.average is None else self.average.module

    # --- phases ---------------------------------------------------------------------------------------------------

    def phase_at(self, epoch: int) -> tuple[int, Phase]:
        """Index and phase of an epoch counted from 0."""
        for index, phase in enumerate(self.recipe.phases):
            if epoch < phase.epochs:
                return index, phase
            epoch -= phase.epochs
        raise IndexError(epoch)

    def enter(self, index: int, steps: int) -> None:
        """Optimiser and rate of a phase. A phase whose schedule is `continue` goes on with those of the phase before."""
        self.phase_index = index
        phase = self.recipe.phases[index]
        if phase.schedule == "continue":
            return
        part = phase.trainable
        if part != "all" and not self.has_initial:
            self.say(f"phase {index + 1}: a body of random weights is not frozen; everything learns")
            part = "all"
        network.set_trainable(self.model, part)
        learning = [p for p in self.model.parameters() if p.requires_grad]
        self.optimiser = torch.optim.AdamW(learning, lr=phase.learning_rate, weight_decay=self.recipe.weight_decay)
        self.trained = self.place.wrapped(network.Mapped(self.model) if self.recipe.lung_loss else self.model)
        self.schedule: Any = None
        if phase.schedule == "one-cycle":
            spanned = phase.epochs + sum(later.epochs for later in continuing(self.recipe.phases[index + 1 :]))
            self.schedule = torch.optim.lr_scheduler.OneCycleLR(self.optimiser, phase.learning_rate, total_steps=spanned * steps)
        elif phase.schedule == "plateau":
            self.schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(self.optimiser, mode="max", patience=PLATEAU_EPOCHS)

    # --- checkpoints ----------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Everything that the next step depends on."""
        return {
            "model": self.model.state_dict(),
            "average": None if self.average is None else self.average.module.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "schedule": None if self.schedule is None else self.schedule.state_dict(),
            "phase": self.phase_index,
            "at": {
                name: getattr(self, name) for name in ("epoch", "step", "updates", "total", "seen", "best", "best_epoch", "has_initial")
            },
        }

    def save(self, name: str = LAST) -> None:
        """Write a checkpoint; only the first process does."""
        if self.place.writes:
            self.journal.save(self.state(), name)

    def resume(self, steps: int) -> None:
        """Go on where the checkpoint stands."""
        state = self.journal.load(self.place.device)
        for name, value in state["at"].items():
            setattr(self, name, value)
        index = state["phase"]
        while self.recipe.phases[index].schedule == "continue":
            index -= 1
        self.enter(index, steps)
        self.phase_index = state["phase"]
        self.model.load_state_dict(state["model"])
        if self.average is not None:
            self.average.module.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        if self.schedule is not None:
            self.schedule.load_state_dict(state["schedule"])

    # --- learning -------------------------------------------------------------------------------------------------

    def order(self, material: Material, epoch: int) -> Tensor:
        """Which pictures an epoch sees, in order."""
        rng = torch.Generator().manual_seed(step_seed(self.recipe.seed, epoch, 0, ORDER))
        count = len(material.labels)
        if material.chances is None:
            return torch.randperm(count, generator=rng)
        return torch.multinomial(material.chances, count, replacement=True, generator=rng)

    def loss(self, answer: Tensor, truth: Tensor, pos_weight: Tensor | None) -> Tensor:
        """Cross-entropy of a batch in float32: of a sigmoid, or of a softmax over two."""
        smooth = self.recipe.label_smoothing
        if self.recipe.outputs == 1:
            target = truth * (1 - 2 * smooth) + smooth
            return functional.binary_cross_entropy_with_logits(answer[:, 0].float(), target, pos_weight=pos_weight)
        weight = None if pos_weight is None else torch.stack([torch.ones_like(pos_weight), pos_weight])
        if self.recipe.painted_over or self.recipe.teacher:
            return functional.cross_entropy(
                answer.float(), torch.stack([1 - truth, truth], dim=1), weight=weight, label_smoothing=2 * smooth
            )
        return functional.cross_entropy(answer.float(), truth.long(), weight=weight, label_smoothing=2 * smooth)

    def one_step(self, material: Material, chosen: Tensor, size: int, pos_weight: Tensor | None) -> None:
        """One batch: change, forward, backward, update."""
        seed = step_seed(self.recipe.seed, self.epoch, self.step, self.place.rank)
        torch.manual_seed(seed)
        mine = self.place.part(chosen)
        boxes = None if material.boxes is None else material.boxes[mine]
        masks = None if material.masks is None else material.masks[mine].float() / 255
        rng = torch.Generator().manual_seed(seed)
        pictures, masks = augment.augmented_with_masks(material.pictures[mine], masks, self.recipe.augment, rng, size, boxes)
        truth, masked = material.asked[mine].to(self.place.device), None if material.masked is None else material.masked[mine]
        positive = material.labels[mine] == 1
        if self.recipe.painted_over and masks is not None and masked is not None:
            pictures, painted = some_without_lungs(pictures, masks, masked, self.recipe.painted_over, rng)
            truth = torch.where(painted.to(self.place.device), UNDECIDED, truth)
            positive &= ~painted
        with torch.autocast(self.place.device.type, dtype=torch.bfloat16):
            given = self.trained(normalised(pictures, self.recipe).to(self.place.device))
        answer, contributions = given if self.recipe.lung_loss else (given, None)
        loss = self.loss(answer, truth, pos_weight)
        if contributions is not None and masks is not None and masked is not None:
            counted = (masked & positive).to(self.place.device)
            loss = loss + self.recipe.lung_loss * outside_lungs(contributions, masks.to(self.place.device), counted)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if self.recipe.clip:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip)
        self.optimiser.step()
        if isinstance(self.schedule, torch.optim.lr_scheduler.OneCycleLR):
            self.schedule.step()
        self.step, self.updates = self.step + 1, self.updates + 1
        if self.average is not None:
            self.average.update(self.model, step=self.updates)
        self.total += loss.item() * len(mine)
        self.seen += len(mine)

    def one_epoch(self, material: Material, steps: int) -> None:
        """The steps of an epoch that are still to be done; a Ctrl-C is answered by a checkpoint after the step that runs."""
        index, phase = self.phase_at(self.epoch)
        if index != self.phase_index:
            self.enter(index, steps)
        self.trained.train()
        network.quiet_frozen_norms(self.model)
        order = self.order(material, self.epoch)
        share = float((material.labels == 0).sum() / (material.labels == 1).sum())
        pos_weight = torch.tensor(share, device=self.place.device) if self.recipe.pos_weight else None
        with asked_to_stop() as is_asked:
            while self.step < steps:
                chosen = order[self.step * self.recipe.batch_size : (self.step + 1) * self.recipe.batch_size]
                self.one_step(material, chosen, phase.size or self.recipe.picture.size, pos_weight)
                self.done_here += 1
                self.tick(self.step, steps, self.so_far(steps))
                if is_asked():
                    self.save()
                    self.say(f"stopped in epoch {self.epoch + 1} at step {self.step} of {steps}; --resume goes on from there")
                    raise KeyboardInterrupt

    def so_far(self, steps: int) -> str:
        """Epoch, loss and the time that all epochs to come will take at the pace of this process."""
        epochs = len(self.recipe.phases) if self.smoke else self.recipe.epochs
        left = (epochs - self.epoch) * steps - self.step
        minutes = (time.monotonic() - self.began) / self.done_here * left / 60
        return f"epoch {self.epoch + 1}/{epochs} loss {self.total / self.seen:.3f}, {minutes:.0f} min left in all"

    def train(self, material: Material) -> None:
        """All epochs that are still to be done, a checkpoint and a line of figures after each."""
        steps = self.steps(material)
        epochs = len(self.recipe.phases) if self.smoke else self.recipe.epochs
        self.began = time.monotonic()
        while self.epoch < epochs and not self.is_patience_over():
            started = time.monotonic()
            self.one_epoch(material, steps)
            noted = self.look(material, time.monotonic() - started)
            self.epoch, self.step, self.total, self.seen = self.epoch + 1, 0, 0.0, 0.0
            self.keep_if_better(noted)
            if isinstance(self.schedule, torch.optim.lr_scheduler.ReduceLROnPlateau):
                self.schedule.step(noted.select_auc)
            self.save()
            if self.place.writes:
                self.journal.note(noted)
        if self.place.writes:
            self.journal.finish(self.best_epoch)
        self.say(f"kept: epoch {self.best_epoch}" + (f" (selection figure {self.best:.4f})" if self.recipe.select != "last" else ""))

    def steps(self, material: Material) -> int:
        """Steps an epoch."""
        return SMOKE_STEPS if self.smoke else math.ceil(len(material.labels) / self.recipe.batch_size)

    def look(self, material: Material, seconds: float) -> Epoch:
        """Figures of the `select` split after the steps of an epoch."""
        loss, auc, logits = material.watched.loss_and_auc(self.kept, self.recipe, self.place.device)
        late = self.epoch + 1 > UNLINKED_FROM * self.recipe.epochs
        unlinked = None
        if self.recipe.select == "unlinked" and late:
            unlinked = material.watched.unlinked(self.kept, self.recipe, self.place.device, logits)
        looking = None
        if self.recipe.select == "looking":
            looking = material.watched.looking(self.kept, self.recipe, self.place.device, logits)
        found = Epoch(
            epoch=self.epoch + 1,
            phase=self.phase_index + 1,
            learning_rate=float(self.optimiser.param_groups[0]["lr"]),
            train_loss=self.total / max(self.seen, 1),
            select_loss=loss,
            select_auc=self.place.same(auc),
            select_unlinked=None if unlinked is None else self.place.same(unlinked),
            select_looking=None if looking is None else self.place.same(looking),
            seconds=seconds,
        )
        told = "".join(f", {name} {figure:.4f}" for name, figure in (("unlinked", unlinked), ("looking", looking)) if figure is not None)
        self.say(f"epoch {found.epoch}: train loss {found.train_loss:.4f}, select loss {loss:.4f}, select ROC-AUC {auc:.4f}{told}")
        return found

    def keep_if_better(self, noted: Epoch) -> None:
        """`best.pt` is the epoch that the recipe's rule keeps."""
        figure = {
            "last": float(noted.epoch),
            "roc-auc": noted.select_auc,
            "unlinked": noted.select_unlinked,
            "looking": noted.select_looking,
        }[self.recipe.select]
        if figure is not None and figure > self.best:
            self.best, self.best_epoch = figure, noted.epoch
            if self.place.writes:
                self.journal.save({"kept": self.kept.state_dict(), "epoch": noted.epoch}, BEST)

    def is_patience_over(self) -> bool:
        """True when the recipe stops early and nothing has been better for long enough."""
        over = bool(self.recipe.patience) and self.best_epoch > 0 and self.epoch - self.best_epoch >= self.recipe.patience
        if over:
            self.say(f"stopped early: no better epoch since {self.best_epoch}")
        return over
