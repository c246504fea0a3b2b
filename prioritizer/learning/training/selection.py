"""How a network does on the `select` split, seen so that a shortcut does not look like skill."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from prioritizer.learning.cohorts.labelled_image import LabelledImage
from prioritizer.learning.description import shortcuts
from prioritizer.learning.evaluation.lungs import share_inside
from prioritizer.learning.evaluation.pointing import lungs_of, mask_of, peak_lies_in
from prioritizer.learning.training import augment, network
from prioritizer.learning.training.recipes import Recipe
from prioritizer.statistics.measures import roc_auc

Float64 = NDArray[np.float64]


def normalised(pictures: Tensor, recipe: Recipe) -> Tensor:
    """Pictures (N, 1, S, S) to network input (N, 3, S, S), the arithmetic of `pixels.normalised`."""
    picture = recipe.picture
    return ((pictures - picture.mean) / picture.std).expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def predict(model: nn.Module, pictures: Tensor, recipe: Recipe, device: torch.device, *, reduced: bool = False, batch: int = 64) -> Float64:
    """Logits float64 (N,) of pictures (N, 1, S, S) in evaluation mode; float32 arithmetic, or bfloat16 where `reduced`."""
    model.eval()
    parts = []
    for start in range(0, len(pictures), batch):
        images = normalised(pictures[start : start + batch], recipe).to(device)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=reduced):
            parts.append(network.logit_of(model(images)).double().cpu().numpy())
    return np.concatenate(parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectionSplit:
    """The split that selection sees, with what the file statistics alone say of each label."""

    pictures: Tensor
    labels: Float64
    propensity: Float64
    elsewhere: Tensor | None = None
    """The same lungs, each in the surround of a film of the other class; only where selection asks for them."""
    images: tuple[LabelledImage, ...] = ()
    """The images behind the pictures, for their sites, masks and boxes; only where selection asks where a network looks."""

    def loss_and_auc(self, model: nn.Module, recipe: Recipe, device: torch.device) -> tuple[float, float, Float64]:
        """Log loss, ROC-AUC and the logits they come from."""
        logits = predict(model, self.pictures, recipe, device, reduced=True)
        return float(np.mean(np.logaddexp(0, logits) - self.labels * logits)), roc_auc(self.labels, logits), logits

    def unlinked(self, model: nn.Module, recipe: Recipe, device: torch.device, logits: Float64) -> float:
        """Mean of the ROC-AUC matched by file statistics and the ROC-AUC on each disturbed copy.

        A network that reads how the files were made falls on both: matching takes away what the files say of the label, and the
        disturbances change sharpness, compression, noise and tone of every picture without touching the finding. One that reads
        what stands around the lungs falls where that is of a film of the other class.
        """
        matched = shortcuts.matched_auc(self.labels, logits, self.propensity)
        copies = [*augment.disturbed(self.pictures).values(), *([] if self.elsewhere is None else [self.elsewhere])]
        changed = [roc_auc(self.labels, predict(model, pictures, recipe, device, reduced=True)) for pictures in copies]
        return float(np.mean([matched, *changed]))

    @torch.no_grad()
    def looking(self, model: nn.Module, recipe: Recipe, device: torch.device, logits: Float64, batch: int = 64) -> float:
        """Mean of the ROC-AUC of each site, and of where the maps of films with pneumonia lie: in masks, and at their peak in boxes."""
        sites = np.array([image.site for image in self.images])
        areas = [roc_auc(self.labels[sites == site], logits[sites == site]) for site in np.unique(sites)]
        chosen = [place for place, image in enumerate(self.images) if image.label and (image.mask is not None or image.boxes)]
        mapped, lungs, peaks = network.Mapped(model).eval(), list[float](), list[float]()
        for start in range(0, len(chosen), batch):
            places = chosen[start : start + batch]
            _, contributions = mapped(normalised(self.pictures[places], recipe).to(device))
            for place, saliency in zip(places, contributions.float().cpu().numpy(), strict=True):
                image = self.images[place]
                if image.mask is not None:
                    lungs.append(share_inside(saliency, lungs_of(image.mask)))
                if image.boxes:
                    peaks.append(float(peak_lies_in(saliency, mask_of(image.boxes))))
        known = [[value for value in found if np.isfinite(value)] for found in (areas, lungs, peaks)]
        return float(np.mean([np.mean(found) for found in known if found]))
