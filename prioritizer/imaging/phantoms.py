"""Drawn chest films: nobody's body, for demonstrations, golden inputs and tests.

A crude attenuation model: each structure adds thickness of water-like tissue along the beam, the film is white where much was
absorbed. Same size, seed and opacity draw the same film.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Float64 = NDArray[np.float64]
Radii = tuple[float | Float64, float]

OPACITY = 1.0
"""Extra attenuation of the drawn patches, in the units of `_attenuation`: clearly visible."""


def picture(size: int, *, opacity: bool = False, seed: int = 0) -> NDArray[np.uint8]:
    """A frontal chest film, square, black to white as people see it: uint8 (size, size)."""
    return np.rint(_film(size, size, seed, opacity=opacity) * 255.0).astype(np.uint8)


def stored_pixels(
    rows: int, columns: int, *, bits: int = 12, opacity: bool = False, seed: int = 0, plain: bool = False
) -> NDArray[np.uint16]:
    """The same kind of film as MONOCHROME2 stored values of `bits` bits: uint16 (rows, columns).

    `plain`: large and blurred, without ribs and vessels and with a small heart.
    """
    stored: NDArray[np.uint16] = np.rint(_film(rows, columns, seed, opacity=opacity, plain=plain) * (2**bits - 1)).astype(np.uint16)
    return stored


DRAWN_SIDE = 448
"""The anatomy is drawn at most this large and enlarged: it holds no finer detail, and a full film would take seconds."""


PLAIN_SIDE = 56
"""A plain film is drawn this small, and blurred by being enlarged."""


def _film(rows: int, columns: int, seed: int, *, opacity: bool, plain: bool = False) -> Float64:
    """0 (black, air) .. 1 (white, dense), with the grain of a full-size detector."""
    rng, noise = np.random.default_rng([20261122, seed]), np.random.default_rng([20261122, seed, 1])
    side = PLAIN_SIDE if plain else DRAWN_SIDE
    drawn = _anatomy(min(rows, side), min(columns, side), rng, opacity=opacity, plain=plain).astype(np.float32)
    film = np.asarray(Image.fromarray(drawn).resize((columns, rows), Image.Resampling.BICUBIC), dtype=np.float64)
    film = film + noise.normal(0.0, 0.008, film.shape)
    return np.clip(film, 0.0, 1.0)


def _anatomy(rows: int, columns: int, rng: np.random.Generator, *, opacity: bool, plain: bool = False) -> Float64:
    """The film without noise."""
    x, y = np.meshgrid(np.linspace(-1, 1, columns), np.linspace(-1, 1, rows))
    # No two children stand alike: a little shift, scale and tilt.
    tilt, scale = rng.uniform(-0.04, 0.04), rng.uniform(0.94, 1.05) * (1.14 if plain else 1.0)
    x, y = (x + tilt * y + rng.uniform(-0.03, 0.03)) / scale, (y + rng.uniform(-0.03, 0.03)) / scale
    dense = _plain_attenuation(x, y) if plain else _attenuation(x, y, rng)
    if opacity:
        dense = dense + OPACITY * _consolidation(x, y, rng)
    film: Float64 = 0.02 + 0.96 * (1.0 - np.exp(-(2.0 if plain else 1.55) * dense))
    return film


def _soft(distance: Float64, width: float) -> Float64:
    """A blurred edge: 1 inside (distance below 0) to 0 outside, over about `width`."""
    return 1.0 / (1.0 + np.exp(np.clip(distance / width * 4.0, -60, 60)))


def _ellipse(x: Float64, y: Float64, centre: tuple[float, float], radii: Radii, power: float = 2.0) -> Float64:
    """Below 0 inside a super-ellipse, above 0 outside."""
    shape = np.abs((x - centre[0]) / radii[0]) ** power + np.abs((y - centre[1]) / radii[1]) ** power
    result: Float64 = shape ** (1.0 / power) - 1.0
    return result


def _attenuation(x: Float64, y: Float64, rng: np.random.Generator) -> Float64:
    """Absorption of the whole chest, about 0 (air) to 2 (mediastinum over spine)."""
    trunk = _soft(_ellipse(x, y, (0.0, 0.45), (0.86, 1.35), 3.2), 0.05)
    neck = _soft(_ellipse(x, y, (0.0, -1.05), (0.24, 0.5), 2.5), 0.07)
    arms = sum(_soft(_ellipse(x, y, (side * 1.06, 0.35), (0.16, 1.1), 2.5), 0.25) for side in (-1, 1))
    body = np.maximum(trunk, neck) * 0.95 + 0.55 * arms * (1 - trunk)
    dense = body * (1 + 0.08 * y) - 0.62 * _lungs(x, y)
    dense = dense + 0.13 * _ribs(x, y) * trunk + 0.14 * _clavicles(x, y)
    dense = dense + 0.5 * _heart(x, y) + 0.38 * _mediastinum(x, y) + 0.16 * _spine(x, y)
    vessels = _vessels(x, y, rng) * _lungs(x, y)
    return np.maximum(dense + 0.12 * vessels - 0.35 * _trachea(x, y) - 0.4 * _stomach_bubble(x, y), 0.0)


def _plain_attenuation(x: Float64, y: Float64) -> Float64:
    """The same with nothing in the lungs, hardly a heart and a dense spine."""
    trunk = _soft(_ellipse(x, y, (0.0, 0.45), (0.86, 1.35), 3.2), 0.05)
    neck = _soft(_ellipse(x, y, (0.0, -1.05), (0.24, 0.5), 2.5), 0.07)
    arms = sum(_soft(_ellipse(x, y, (side * 1.06, 0.35), (0.16, 1.1), 2.5), 0.25) for side in (-1, 1))
    body = np.maximum(trunk, neck) * 0.95 + 0.55 * arms * (1 - trunk)
    dense = body * (1 + 0.08 * y) - 0.72 * _lungs(x, y) + 0.28 * _clavicles(x, y)
    dense = dense + 0.1 * _heart(x, y) + 0.42 * _mediastinum(x, y) + 0.5 * _spine(x, y)
    return np.maximum(dense - 0.35 * _trachea(x, y) - 0.4 * _stomach_bubble(x, y), 0.0)


def _lungs(x: Float64, y: Float64) -> Float64:
    """Both lungs, apex to the domes of the diaphragm; the right dome (on the left of the film) stands higher."""
    total = np.zeros_like(x)
    for side, dome in ((-1, 0.55), (1, 0.61)):
        field = _soft(_ellipse(x, y, (side * 0.42, 0.0), (0.335 + 0.05 * np.clip(y, -0.6, 0.6), 0.78), 2.6), 0.06)
        above = _soft(y - (dome - 0.16 * (1 - ((x - side * 0.38) / 0.42) ** 2)), 0.03)
        total = np.maximum(total, field * above)
    return total


def _ribs(x: Float64, y: Float64) -> Float64:
    """Nine pairs of posterior ribs, sloping down and out, and fainter anterior ends sloping down and in."""
    total = np.zeros_like(x)
    out = np.abs(x)
    cage = _soft(_ellipse(x, y, (0.0, 0.05), (0.8, 0.95), 2.8), 0.04)
    for rib in range(9):
        level = -0.72 + 0.165 * rib
        posterior = level - 0.13 * np.sin(np.clip(out / 0.75, 0, 1) * 2.4) + 0.22 * out**2
        total = total + np.exp(-(((y - posterior) / 0.026) ** 2)) * _soft(0.1 - out, 0.04)
        anterior = level + 0.42 - 0.36 * out
        total = total + 0.45 * np.exp(-(((y - anterior) / 0.03) ** 2)) * _soft(0.34 - out, 0.05)
    edge = np.exp(-((_ellipse(x, y, (0.0, 0.05), (0.79, 0.95), 2.8) / 0.03) ** 2))
    result: Float64 = np.clip(total, 0, 1.4) * cage + 0.5 * edge
    return result


def _clavicles(x: Float64, y: Float64) -> Float64:
    out = np.abs(x)
    line = -0.60 - 0.10 * out - 0.10 * np.sin(np.clip((out - 0.1) / 0.6, 0, 1) * np.pi * 1.6) * 0.5
    result: Float64 = np.exp(-(((y - line) / 0.035) ** 2)) * _soft(0.08 - out, 0.03) * _soft(out - 0.78, 0.06)
    return result


def _heart(x: Float64, y: Float64) -> Float64:
    left = _soft(_ellipse(x * 0.92 + y * 0.38, y * 0.92 - x * 0.38, (0.30, 0.19), (0.27, 0.34), 2.2), 0.2)
    right = _soft(_ellipse(x, y, (-0.07, 0.24), (0.13, 0.27), 2.2), 0.3)
    return np.maximum(left, right)


def _mediastinum(x: Float64, y: Float64) -> Float64:
    knob = _soft(_ellipse(x, y, (0.11, -0.3), (0.09, 0.11)), 0.4)
    return np.maximum(_soft(np.abs(x) - (0.125 + 0.05 * np.clip(y + 0.3, -0.2, 1)), 0.04), knob)


def _spine(x: Float64, y: Float64) -> Float64:
    column = _soft(np.abs(x) - 0.075, 0.02)
    result: Float64 = column * (0.75 + 0.25 * np.cos(y * 2 * np.pi / 0.14))
    return result


def _trachea(x: Float64, y: Float64) -> Float64:
    result: Float64 = _soft(np.abs(x + 0.005) - 0.042, 0.02) * _soft(y + 0.28, 0.04)
    return result


def _stomach_bubble(x: Float64, y: Float64) -> Float64:
    return _soft(_ellipse(x, y, (0.42, 0.72), (0.13, 0.06)), 0.9)


def _vessels(x: Float64, y: Float64, rng: np.random.Generator) -> Float64:
    """Branches that leave each hilum and thin out."""
    total = np.zeros_like(x)
    for side in (-1, 1):
        hilum_x, hilum_y = side * 0.17, -0.06
        reach = np.hypot(x - hilum_x, y - hilum_y)
        angle = np.arctan2(y - hilum_y, side * (x - hilum_x))
        for direction in np.linspace(-1.3, 1.35, 11) + rng.normal(0, 0.07, 11):
            bend = angle - direction - 0.18 * np.sin(reach * 6 + direction * 5)
            width = 0.02 * np.clip(1.0 - reach, 0.2, 1.0)
            ahead = np.cos(np.clip(bend, -np.pi / 2, np.pi / 2))
            total = total + ahead * np.exp(-((bend * reach / width) ** 2)) * np.exp(-reach * 2.6) * np.clip(reach / 0.1, 0, 1)
        total = total + 1.2 * np.exp(-((reach / 0.1) ** 2))
    return total


def _consolidation(x: Float64, y: Float64, rng: np.random.Generator) -> Float64:
    """Many small, soft-edged patches in both lungs: bronchopneumonia as a draughtsman sees it."""
    total = np.zeros_like(x)
    for side in (-1, 1):
        for _ in range(60):
            spot_x, spot_y = side * (0.40 + rng.normal(0, 0.10)), 0.15 + rng.normal(0, 0.30)
            radius = rng.uniform(0.015, 0.045)
            total = total + rng.uniform(0.4, 0.9) * np.exp(-(((x - spot_x) ** 2 + (y - spot_y) ** 2) / radius**2))
    result: Float64 = np.clip(total, 0, 1.6) * _lungs(x, y)
    return result
