"""Random changes of training pictures that leave the finding and destroy how the file was made.

In this training set lack of sharpness, few white pixels, brightness of the centre and the bytes of the file each separate the
classes alone. A network takes the easiest way, so these ways are closed: geometry, tone, sharpness, compression, noise, borders
and markers change at random, and textures are mixed across the classes.
"""

from __future__ import annotations

import io
import math

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from prioritizer.learning.training.recipes import Augment
from prioritizer.learning.training.surround_swap import drawn, exchanged, lung_boxes, masks_exchanged

BLUR = (0.4, 1.8)
"""Standard deviation of the blur in pixels of a picture of side 224."""
JPEG_QUALITY = (15, 90)


def augmented(pictures: Tensor, how: Augment, rng: torch.Generator, size: int | None = None, boxes: Tensor | None = None) -> Tensor:
    """Pictures float32 (N, 1, S, S), 0..1, each changed at random, at `size` (default S): float32 (N, 1, size, size), 0..1.

    `boxes` (N, 4) are those of `surrounds.lung_boxes`; they are looked for where a change needs them and they are not given.
    """
    return augmented_with_masks(pictures, None, how, rng, size, boxes)[0]


def augmented_with_masks(
    pictures: Tensor, masks: Tensor | None, how: Augment, rng: torch.Generator, size: int | None = None, boxes: Tensor | None = None
) -> tuple[Tensor, Tensor | None]:
    """The same, and masks float32 (N, 1, S, S), 0..1, that go wherever the lungs of the pictures go."""
    if how.surround:
        boxes = lung_boxes(pictures) if boxes is None else boxes
        swap = drawn(len(pictures), how.surround, rng)
        pictures = exchanged(pictures, boxes, *swap)
        masks = None if masks is None else masks_exchanged(masks, boxes, *swap)
    if how.mix_spectra and _chance(how.mix_spectra, rng):
        pictures = with_mixed_spectra(pictures, rng)
    theta = movement(len(pictures), how, rng)
    masks = None if masks is None else warped(resized(masks, size or masks.shape[-1]), theta)
    return _toned(warped(resized(pictures, size or pictures.shape[-1]), theta), how, rng), masks


def _toned(changed: Tensor, how: Augment, rng: torch.Generator) -> Tensor:
    """Sharpness, compression, noise, tone and markers changed at random."""
    if how.blur:
        changed = some_blurred(changed, how.blur, rng)
    if how.jpeg:
        changed = some_compressed(changed, how.jpeg, rng)
    n = len(changed)
    if how.noise:
        strength = torch.rand(n, 1, 1, 1, generator=rng) ** 2 * how.noise
        changed = changed + torch.randn(changed.shape, generator=rng) * strength
    if how.gamma:
        changed = changed.clamp(0, 1) ** torch.exp(_either_way(n, how.gamma, rng)).view(n, 1, 1, 1)
    for _ in range(how.erase):
        changed = some_erased(changed, 0.5, rng)
    contrast = (1 + _either_way(n, how.contrast, rng)).view(n, 1, 1, 1)
    brightness = _either_way(n, how.brightness, rng).view(n, 1, 1, 1)
    return ((changed - 0.5) * contrast + 0.5 + brightness).clamp(0, 1)


def resized(pictures: Tensor, size: int) -> Tensor:
    """Pictures at `size`, antialiased; the same object where nothing changes."""
    if pictures.shape[-1] == size:
        return pictures
    smaller: Tensor = functional.interpolate(pictures, size=(size, size), mode="bilinear", antialias=True)
    return smaller


def with_mixed_spectra(pictures: Tensor, rng: torch.Generator) -> Tensor:
    """Each picture with a random part of its Fourier amplitude from another of the batch and its own phase (Xu et al. 2021)."""
    spectrum = torch.fft.rfft2(pictures)
    amplitude = spectrum.abs()
    part = torch.rand(len(pictures), 1, 1, 1, generator=rng)
    others = amplitude[torch.randperm(len(pictures), generator=rng)]
    mixed = torch.polar(part * amplitude + (1 - part) * others, spectrum.angle())
    back: Tensor = torch.fft.irfft2(mixed, s=pictures.shape[-2:])
    return back.clamp(0, 1)


def moved(pictures: Tensor, how: Augment, rng: torch.Generator) -> Tensor:
    """Each picture turned, shifted, scaled, stretched and mirrored at random; black outside."""
    return warped(pictures, movement(len(pictures), how, rng))


def movement(n: int, how: Augment, rng: torch.Generator) -> Tensor:
    """A random turn, shift, scale, stretch and mirroring of each of `n` pictures, as `affine_grid` takes it: (N, 2, 3)."""
    angle = _either_way(n, math.radians(how.rotation), rng)
    scale = 1 + _either_way(n, how.scale, rng)
    stretch = torch.exp(_either_way(n, how.aspect, rng))
    mirror = torch.where(torch.rand(n, generator=rng) < how.flip, -1.0, 1.0)
    cos, sin = scale * angle.cos(), scale * angle.sin()
    shift = [_either_way(n, 2 * how.shift, rng) for _ in range(2)]
    return torch.stack(
        [torch.stack([mirror * cos * stretch, -sin, shift[0]], dim=1), torch.stack([mirror * sin, cos / stretch, shift[1]], dim=1)], dim=1
    )


def warped(pictures: Tensor, theta: Tensor) -> Tensor:
    """Pictures (N, 1, S, S) moved by `theta` (N, 2, 3); black outside."""
    grid = functional.affine_grid(theta, list(pictures.shape), align_corners=False)
    sampled: Tensor = functional.grid_sample(pictures, grid, align_corners=False)
    return sampled


def blurred(pictures: Tensor, sigma: float) -> Tensor:
    """Gaussian blur with a standard deviation of `sigma` pixels; the edge is continued."""
    reach = max(math.ceil(3 * sigma), 1)
    offsets = torch.arange(-reach, reach + 1, dtype=torch.float32)
    kernel = torch.exp(-(offsets**2) / (2 * sigma**2))
    kernel = kernel / kernel.sum()
    across = functional.conv2d(functional.pad(pictures, (reach, reach, 0, 0), mode="replicate"), kernel.view(1, 1, 1, -1))
    return functional.conv2d(functional.pad(across, (0, 0, reach, reach), mode="replicate"), kernel.view(1, 1, -1, 1))


def some_blurred(pictures: Tensor, share: float, rng: torch.Generator) -> Tensor:
    """About `share` of the pictures blurred, in four groups of one strength each."""
    result = pictures.clone()
    group = torch.randint(0, 4, (len(pictures),), generator=rng)
    chosen = torch.rand(len(pictures), generator=rng) < share
    for index, draw in enumerate(torch.rand(4, generator=rng).tolist()):
        inside = chosen & (group == index)
        if inside.any():
            sigma = (BLUR[0] + draw * (BLUR[1] - BLUR[0])) * pictures.shape[-1] / 224
            result[inside] = blurred(pictures[inside], sigma)
    return result


def some_compressed(pictures: Tensor, share: float, rng: torch.Generator) -> Tensor:
    """About `share` of the pictures through a JPEG of random quality."""
    result = pictures.clone()
    for index in torch.nonzero(torch.rand(len(pictures), generator=rng) < share).flatten().tolist():
        quality = int(torch.randint(*JPEG_QUALITY, (1,), generator=rng))
        result[index, 0] = torch.from_numpy(compressed(pictures[index, 0].numpy(), quality))
    return result


def compressed(picture: np.ndarray, quality: int) -> np.ndarray:
    """One picture float32 (S, S), 0..1, after a JPEG round trip."""
    buffer = io.BytesIO()
    Image.fromarray(np.rint(picture.clip(0, 1) * 255).astype(np.uint8)).save(buffer, format="JPEG", quality=quality)
    with Image.open(buffer) as opened:
        return np.asarray(opened, dtype=np.float32) / np.float32(255)


def some_erased(pictures: Tensor, share: float, rng: torch.Generator) -> Tensor:
    """About `share` of the pictures with one rectangle of one grey, at a corner in six of ten."""
    result, side = pictures.clone(), pictures.shape[-1]
    for index in torch.nonzero(torch.rand(len(pictures), generator=rng) < share).flatten().tolist():
        height, width = torch.randint(side // 12, side // 4, (2,), generator=rng).tolist()
        top, left = (int(torch.randint(0, side - length, (1,), generator=rng)) for length in (height, width))
        if _chance(0.6, rng):
            top = 0 if top < side / 2 else side - height
            left = 0 if left < side / 2 else side - width
        result[index, :, top : top + height, left : left + width] = float(torch.rand((), generator=rng))
    return result


def disturbed(pictures: Tensor) -> dict[str, Tensor]:
    """Fixed disturbances by name, for selection and reports: a network that reads sharpness or tone falls on them."""
    noise = torch.randn(pictures.shape, generator=torch.Generator().manual_seed(1))
    return {
        "blurred": blurred(pictures, 1.5 * pictures.shape[-1] / 224),
        "re-compressed": torch.stack([torch.from_numpy(compressed(p[0].numpy(), 25))[None] for p in pictures]),
        "noisy": (pictures + 0.05 * noise).clamp(0, 1),
        "darkened": pictures**1.6,
    }


def _either_way(n: int, limit: float, rng: torch.Generator) -> Tensor:
    return (torch.rand(n, generator=rng) * 2 - 1) * limit


def _chance(chance: float, rng: torch.Generator) -> bool:
    return bool(torch.rand((), generator=rng) < chance)
