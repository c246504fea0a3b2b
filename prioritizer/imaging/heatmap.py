"""The picture people get back: radiograph, what moved the model, and a strip of words beside the anatomy, never on it.

One hue (amber) on grey reads the same to every kind of colour vision and cannot be taken for a traffic light. Colour is drawn on
the bundle's fixed scale, so that a film without evidence looks like one; only what raised the logit is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Rgb = NDArray[np.uint8]
Float32 = NDArray[np.float32]

AMBER = (255, 176, 0)
"""Of the colour-blind-safe palette of IBM's design library."""
STRONGEST = 0.62
"""Opacity where the contribution reaches the scale: ribs and vessels stay visible below."""
SMALLEST_SIDE = 720
"""Narrower films are drawn larger, so that the words keep their size and fit."""
NOT_FOR_DIAGNOSIS = "AI triage - not for diagnosis"
CAVEAT = "Colour shows what moved the model, not where disease is."
LEGEND = "contribution to the logit"

_STRIP = (18, 20, 24)
_TEXT, _FAINT = (236, 238, 241), (168, 173, 181)


def overlay_picture(
    picture: NDArray[np.uint8], saliency: Float32 | None, scale: float, lines: Sequence[str], *, padded: bool = False
) -> Rgb:
    """The radiograph with its heat map and a strip of `lines` below: uint8, shape (rows + strip, columns, 3).

    `picture` is uint8 (rows, columns); `saliency` float32 (h, w) in logit units, None for a picture without heat map; `scale` the
    contribution drawn strongest; `padded` says that the map covers the square the picture was padded to, not squashed into.
    The first of `lines` is drawn large.
    """
    film = _at_least(picture, SMALLEST_SIDE)
    coloured = heat_map(film, saliency, scale, padded=padded)
    return np.vstack([coloured, _strip(film.shape[1], lines, scale if saliency is not None else None)])


def heat_map(film: NDArray[np.uint8], saliency: Float32 | None, scale: float, *, padded: bool = False) -> Rgb:
    """The film (rows, columns) with its heat map and nothing else, at its own size: uint8 (rows, columns, 3). See `overlay_picture`."""
    return _tinted(film, None if saliency is None else _strength(saliency, scale, film.shape, padded=padded))


def heat_layer(saliency: Float32, scale: float, shape: tuple[int, int], *, padded: bool = False) -> NDArray[np.uint8]:
    """The heat map alone, to be laid over a film of `shape` (rows, columns): amber, its opacity the strength; uint8 (rows, columns, 4)."""
    layer = np.empty((*shape, 4), dtype=np.uint8)
    layer[:, :, :3] = AMBER
    layer[:, :, 3] = np.rint(_strength(saliency, scale, shape, padded=padded) * 255.0).astype(np.uint8)
    return layer


def _at_least(picture: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """The picture enlarged, aspect kept, until its width is at least `side`."""
    rows, columns = picture.shape
    if columns >= side:
        return picture
    size = (side, max(round(rows * side / columns), 1))
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC))


def _strength(saliency: Float32, scale: float, shape: tuple[int, ...], *, padded: bool) -> Float32:
    """Positive contributions as a share of the scale, smoothly enlarged to the film: float32 (rows, columns), 0..1."""
    rows, columns = shape[:2]
    height, width = (max(rows, columns),) * 2 if padded else (rows, columns)
    shares = np.nan_to_num(np.asarray(saliency, dtype=np.float32) / np.float32(max(scale, 1e-6)), nan=0.0, posinf=1.0, neginf=0.0)
    enlarged = np.asarray(Image.fromarray(shares).resize((width, height), Image.Resampling.BICUBIC))
    top, left = (height - rows) // 2, (width - columns) // 2
    return enlarged[top : top + rows, left : left + columns].clip(0.0, 1.0)


def _tinted(film: NDArray[np.uint8], strength: Float32 | None) -> Rgb:
    """Grey blended towards amber; the amber keeps part of the film's own light, so that structure shows through."""
    grey = np.repeat(film[:, :, None], 3, axis=2)
    if strength is None:
        return grey
    light = 0.45 + 0.55 * film[:, :, None].astype(np.float32) / 255.0
    alpha = np.float32(STRONGEST) * strength[:, :, None]
    blended = grey * (1.0 - alpha) + np.asarray(AMBER, dtype=np.float32) * light * alpha
    tinted: Rgb = np.rint(blended).clip(0, 255).astype(np.uint8)
    return tinted


def _strip(width: int, lines: Sequence[str], scale: float | None) -> Rgb:
    """The dark strip below the film: words on the left, the scale bar on the right."""
    margin, large, small = round(width / 48), round(width / 34), round(width / 52)
    bar_width = round(width * 0.25) if scale is not None else 0
    room = width - 2 * margin - (bar_width + 2 * margin if bar_width else 0)
    rows = _wrapped(lines, room, large, small)
    height = max(sum(round(size * 1.45) for _, size in rows), 5 * small if bar_width else 0) + 2 * margin
    strip = Image.new("RGB", (width, height), _STRIP)
    draw = ImageDraw.Draw(strip)
    y = float(margin)
    for i, (text, size) in enumerate(rows):
        draw.text((margin, y), text, font=ImageFont.load_default(size), fill=_TEXT if size == large or i == 1 else _FAINT)
        y += round(size * 1.45)
    if scale is not None:
        strip.paste(_scale_bar(bar_width, small, scale), (width - margin - bar_width, margin))
    return np.asarray(strip)


def _wrapped(lines: Sequence[str], room: int, large: int, small: int) -> list[tuple[str, int]]:
    """The lines with their size in pixels, broken at spaces (or anywhere, for a long identifier) to fit `room`."""
    rows: list[tuple[str, int]] = []
    for number, line in enumerate(lines):
        size = large if number == 0 else small
        font = ImageFont.load_default(size)
        rest = "".join(character if " " <= character <= "~" else "?" for character in line)
        while rest:
            fits = next(n for n in range(len(rest), 0, -1) if n == 1 or font.getlength(rest[:n]) <= room)
            space = rest.rfind(" ", 1, fits)
            cut = fits if fits == len(rest) or space < 1 else space
            rows.append((rest[:cut], size))
            rest = rest[cut:].lstrip()
    return rows


def _scale_bar(width: int, size: int, scale: float) -> Image.Image:
    """The colours as they look on mid-grey, from no contribution to the scale, with its legend."""
    font = ImageFont.load_default(size)
    ramp = np.linspace(0.0, 1.0, width, dtype=np.float32)[None, :].repeat(round(size * 0.9), axis=0)
    bar = Image.fromarray(_tinted(np.full(ramp.shape, 128, dtype=np.uint8), ramp))
    panel = Image.new("RGB", (width, 5 * size), _STRIP)
    draw = ImageDraw.Draw(panel)
    draw.text((0, 0), LEGEND, font=font, fill=_FAINT)
    panel.paste(bar, (0, round(size * 1.6)))
    below = round(size * 1.9) + bar.height
    most = f"+{scale:.2g} or more"
    draw.text((0, below), "0", font=font, fill=_FAINT)
    draw.text((width - font.getlength(most), below), most, font=font, fill=_FAINT)
    return panel
