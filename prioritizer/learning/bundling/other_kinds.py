"""Pictures that are no frontal chest radiograph, made of radiographs and drawn: what the guard learns to refuse."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from prioritizer.learning.training.augment import blurred
from prioritizer.scope.image_kind import SIDE

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Rng = np.random.Generator


# --- the same radiograph from another device, room or patient ------------------------------------------------------


def changed(film: Float32, rng: Rng) -> Float32:
    """A radiograph (112, 112) as another device and positioning might show it; still one."""
    shown = np.asarray(_moved(_shaded(film, rng), rng).clip(0, 1) ** math.exp(rng.uniform(-0.5, 0.5)), dtype=np.float32)
    draw = rng.random()
    if draw < 0.4:
        shown = _blurred(shown, rng.uniform(0.3, 1.2))
    elif draw < 0.6:
        shown = shown + rng.uniform(0.3, 1.5) * (shown - _blurred(shown, rng.uniform(2, 12)))
    shown = (shown + rng.normal(size=shown.shape) * rng.random() ** 2 * 0.06).clip(0, 1).astype(np.float32)
    return tidy(_framed(_covered(shown, rng), rng))


def _shaded(film: Float32, rng: Rng) -> Float32:
    """Half of them with soft shadows: an effusion, a white lung, the heel effect."""
    if rng.random() < 0.5:
        return film
    return tidy(film + rng.uniform(0, 0.22) * _enlarged(rng.normal(size=(2, 2) if rng.random() < 0.4 else (4, 4))))


def _moved(film: Float32, rng: Rng) -> Float32:
    """Turned by up to 12 degrees, shifted, scaled, mirrored; a quarter collimated in an even surround, a quarter with more in view."""
    mirror, angle, draw = -1 if rng.random() < 0.5 else 1, rng.uniform(-12, 12), rng.random()
    if draw < 0.25:
        across, down = rng.uniform(1, 1.9, 2)
        surround = float(rng.choice([0.0, 0.0, 0.0, 1.0, rng.random()]))
        room = rng.uniform(-0.9, 0.9, 2) * (across - 1, down - 1)
        return warped(film - surround, angle, (mirror * across, down), room) + surround
    if draw < 0.5:
        across, down = 1 + rng.random(2) * 0.55
        shift = rng.uniform(-0.15, 0.15), (down - 1) * rng.uniform(-0.3, 1) + rng.uniform(-0.05, 0.05)
        return warped(film, angle, (mirror * across, down), shift, "border")
    size, stretch = math.exp(rng.uniform(-0.22, 0.22)), math.exp(rng.uniform(-0.18, 0.18))
    beyond = "zeros" if rng.random() < 0.5 else "border"
    return warped(film, angle, (mirror * size * stretch, size / stretch), rng.uniform(-0.14, 0.14, 2), beyond)


def _covered(film: Float32, rng: Rng) -> Float32:
    """Up to three rectangles over it: markers, leads, devices."""
    shown = film.copy()
    for _ in range(rng.integers(0, 4)):
        height, width = rng.integers(4, 26, 2)
        top, left = rng.integers(0, SIDE - height), rng.integers(0, SIDE - width)
        part = shown[top : top + height, left : left + width]
        part[:] = part * 0.3 + 0.7 * rng.random() if rng.random() < 0.5 else rng.random()
    return shown


def _framed(film: Float32, rng: Rng) -> Float32:
    """A third with an even border at some sides."""
    if rng.random() > 0.35:
        return film
    shown, grey = film.copy(), float(rng.choice([0.0, 0.0, 1.0, rng.random()]))
    for side in (shown, shown[::-1], shown.T, shown.T[::-1]):
        if rng.random() < 0.5:
            side[: rng.integers(1, 13)] = grey
    return shown


# --- what is no frontal chest radiograph ---------------------------------------------------------------------------


def _far_off(film: Float32, rng: Rng) -> Float32:
    beyond = str(rng.choice(["zeros", "border", "reflection"]))
    return warped(film, 0, (rng.uniform(2.3, 3.5),) * 2, rng.uniform(-0.5, 0.5, 2), beyond)


def _half_out(film: Float32, rng: Rng) -> Float32:
    away, along = _either_way(rng, 0.7, 1.2), rng.uniform(-0.3, 0.3)
    return warped(film, 0, (1, 1), (away, along) if rng.random() < 0.5 else (along, away), _any_border(rng))


def _squeezed(film: Float32, rng: Rng) -> Float32:
    by = rng.uniform(2.3, 3.5)
    return warped(film, 0, (by, 1) if rng.random() < 0.5 else (1, by), (0, 0), _any_border(rng))


def _shuffled(film: Float32, rng: Rng) -> Float32:
    """Its tiles in another order, three quarters of them elsewhere."""
    count = int(rng.choice([2, 4]))
    wide, places = SIDE // count, np.arange(count * count)
    order = rng.permutation(count * count)
    while (order != places).sum() < 0.75 * len(places):
        order = rng.permutation(count * count)
    tiles = film.reshape(count, wide, count, wide).swapaxes(1, 2).reshape(-1, wide, wide)[order]
    return tiles.reshape(count, count, wide, wide).swapaxes(1, 2).reshape(SIDE, SIDE)


def _shapes(film: Float32, rng: Rng) -> Float32:
    """Cylinders, plates and rods on an even ground, as limbs, implants and test objects are."""
    y, x = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
    drawn = np.full((SIDE, SIDE), rng.random() * 0.3)
    for _ in range(rng.integers(1, 9)):
        angle = rng.uniform(0, math.pi)
        dx, dy = x - rng.uniform(-0.7, 0.7), y - rng.uniform(-0.7, 0.7)
        along, aside = math.cos(angle) * dx + math.sin(angle) * dy, math.cos(angle) * dy - math.sin(angle) * dx
        long, wide = rng.uniform(0.05, 0.9, 2)
        reach = (
            (along / long) ** 2 + (aside / wide) ** 2,
            np.maximum(np.abs(along / long), np.abs(aside / wide)) ** 4,
            (aside / (0.3 * wide)) ** 2 + np.maximum(np.abs(along) - long * 1.5, 0) ** 2 * 9,
        )[rng.integers(3)]
        if rng.random() < 0.5:
            drawn = drawn + rng.uniform(-0.6, 0.8) * np.sqrt(np.clip(1 - reach, 0, 1))
        else:
            drawn = np.where(reach < 1, rng.random(), drawn)
    drawn = drawn + rng.normal(size=drawn.shape) * rng.random() ** 3 * 0.2
    scaled: Float32 = ((drawn - drawn.min()) / max(float(np.ptp(drawn)), 1e-9)).astype(np.float32)
    return scaled


def _slice(film: Float32, rng: Rng) -> Float32:
    """A section through a body: an oval with a rim, with lungs, spine and heart, or with a skull and what is in it."""
    y, x = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
    size = rng.uniform(0.6, 1.05)
    x, y = (x - rng.uniform(-0.15, 0.15)) / size, (y - rng.uniform(-0.15, 0.15)) / (size * rng.uniform(0.65, 1.25))

    def oval(across: float, down: float, wide: float, high: float) -> NDArray[np.bool_]:
        inside: NDArray[np.bool_] = ((x - across) / wide) ** 2 + ((y - down) / high) ** 2 < 1
        return inside

    is_head = rng.random() < 0.35
    drawn = np.where(oval(0, 0, 0.95, 0.9), 0.9 if is_head else rng.uniform(0.35, 0.6), rng.choice([0.0, 0.0, 0.3]))
    drawn[oval(0, 0, 0.84, 0.78)] = rng.uniform(0.35, 0.65)
    if is_head:
        for _ in range(rng.integers(2, 10)):
            drawn[oval(*rng.uniform(-0.5, 0.5, 2), *rng.uniform(0.05, 0.4, 2))] = rng.random()
    else:
        for side in (-1, 1):
            wide, high = rng.uniform(0.25, 0.38), rng.uniform(0.35, 0.65)
            drawn[oval(side * rng.uniform(0.36, 0.46), rng.uniform(-0.1, 0.1), wide, high)] = rng.uniform(0, 0.2)
        drawn[oval(rng.uniform(-0.1, 0.2), -0.1, rng.uniform(0.15, 0.3), rng.uniform(0.15, 0.35))] = rng.uniform(0.5, 0.8)
        drawn[oval(0, 0.5, 0.13, 0.15)] = rng.uniform(0.8, 1)
    return (drawn + rng.normal(size=drawn.shape) * rng.random() * 0.08).astype(np.float32)


OTHER_KINDS: dict[str, Callable[[Float32, Rng], NDArray[np.floating]]] = {
    "turned by a quarter": lambda film, rng: np.rot90(film, 1),
    "turned by three quarters": lambda film, rng: np.rot90(film, 3),
    "upside down": lambda film, rng: film[::-1],
    "inverted": lambda film, rng: 1 - film,
    "tilted": lambda film, rng: warped(film, _either_way(rng, 35, 145), (1, 1), (0, 0), _any_border(rng)),
    "its middle": lambda film, rng: warped(film, 0, (0.5, 0.5), (0, 0)),
    "a part": lambda film, rng: warped(film, 0, (rng.uniform(0.25, 0.5),) * 2, rng.uniform(-0.5, 0.5, 2)),
    "far off": _far_off,
    "half out": _half_out,
    "squeezed": _squeezed,
    "shuffled": _shuffled,
    "noise": lambda film, rng: rng.random(film.shape),
    "clouds": lambda film, rng: _enlarged(rng.random((count := int(rng.integers(2, 40)), count))),
    "shapes": _shapes,
    "slice": _slice,
}


# --- drawing --------------------------------------------------------------------------------------------------------


def tidy(picture: NDArray[np.floating]) -> Float32:
    """The picture as float32, 0..1, of its own memory."""
    return np.ascontiguousarray(np.clip(picture, 0, 1), dtype=np.float32)


def warped(film: Float32, degrees: float, scale: Sequence[float], shift: Sequence[float] | Float64, beyond: str = "zeros") -> Float32:
    """The film turned; `scale` above 1 shows more than it holds, `shift` is in half sides; `beyond` it as torch pads."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    theta = torch.tensor([[[cos * scale[0], -sin * scale[0], shift[0]], [sin * scale[1], cos * scale[1], shift[1]]]], dtype=torch.float32)
    grid = functional.affine_grid(theta, [1, 1, SIDE, SIDE], align_corners=False)
    given = torch.from_numpy(np.array(film, dtype=np.float32, order="C"))[None, None]
    found: Float32 = functional.grid_sample(given, grid, align_corners=False, padding_mode=beyond)[0, 0].numpy()
    return found


def _blurred(film: NDArray[np.floating], sigma: float) -> Float32:
    found: Float32 = blurred(torch.from_numpy(np.ascontiguousarray(film, dtype=np.float32))[None, None], sigma)[0, 0].numpy()
    return found


def _enlarged(coarse: NDArray[np.floating]) -> Float32:
    given = torch.from_numpy(coarse.astype(np.float32))[None, None]
    found: Float32 = functional.interpolate(given, size=(SIDE, SIDE), mode="bicubic", align_corners=False)[0, 0].numpy()
    return found


def _either_way(rng: Rng, low: float, high: float) -> float:
    return float(rng.uniform(low, high)) * (1 if rng.random() < 0.5 else -1)


def _any_border(rng: Rng) -> str:
    return "zeros" if rng.random() < 0.5 else "border"
