"""How a stored raster lies before the reader: the shape of its pixels, which way is up, and what a display shutter hides.

Sources: PS3.3 C.7.6.1.1.1 (Patient Orientation), C.7.6.3.1.7 (Pixel Aspect Ratio), 10.7.1.3 (Pixel Spacing), C.7.6.11 (Display Shutter).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from prioritizer.imaging.grey_scale import Mask

Scalar = TypeVar("Scalar", bound=np.generic)
_ROWS_AT_ONCE = 256
COARSE = 256
"""Pixels of the longer side of the raster on which it is looked at what a shutter shows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shutter:
    """A display shutter in stored rows and columns, counted from 1. Of several shapes only what all of them show is seen."""

    rectangle: tuple[float, float, float, float] | None = None
    """Left and right column, upper and lower row; the edges themselves are seen."""
    circle: tuple[float, float, float] | None = None
    """Row and column of the centre; radius in pixels along the row direction."""
    polygon: tuple[tuple[float, float], ...] = ()
    """Row and column of each vertex."""
    level: float = 0.0
    """Grey shown outside, 0 (black) .. 1 (white): (0018,1622) Shutter Presentation Value. The network sees black."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """From stored raster to upright radiograph in its true shape: transposed first, then flipped."""

    aspect: float = 1.0
    """Height of a stored pixel over its width."""
    transposed: bool = False
    flipped_across: bool = False
    """Left for right."""
    flipped_down: bool = False
    """Upside down."""
    shutter: Shutter | None = None


AS_STORED = Geometry()


def turn_of(along_row: str, along_column: str) -> Geometry | None:
    """The turn that makes rows run to the patient's left and columns to the feet; None where the two directions name no frontal image.

    The arguments are the values of (0020,0020) Patient Orientation; of AL, LF and the like the first letter is the main direction.
    """
    row, column = along_row[:1].upper(), along_column[:1].upper()
    transposed = row in ("H", "F") and row != ""
    if transposed:
        row, column = column, row
    if row not in ("L", "R") or column not in ("H", "F"):
        return None
    return Geometry(transposed=transposed, flipped_across=row == "R", flipped_down=column == "H")


def true_shape(rows: int, columns: int, geometry: Geometry) -> tuple[float, float]:
    """Height and width of the upright radiograph in pixels, the finer of the two directions kept."""
    height, width = rows * max(geometry.aspect, 1.0), columns / min(geometry.aspect, 1.0)
    return (width, height) if geometry.transposed else (height, width)


def as_stored(height: int, width: int, geometry: Geometry) -> tuple[int, int]:
    """The sides of an upright picture before it was turned."""
    return (width, height) if geometry.transposed else (height, width)


def upright(picture: NDArray[Scalar], geometry: Geometry) -> NDArray[Scalar]:
    """A picture of the stored raster, turned as the reader sees it."""
    turned = picture.T if geometry.transposed else picture
    if geometry.flipped_across:
        turned = turned[:, ::-1]
    if geometry.flipped_down:
        turned = turned[::-1]
    return np.ascontiguousarray(turned)


def outside_of(rows: int, columns: int, geometry: Geometry) -> Mask | None:
    """True where the shutter hides a stored pixel, shape (rows, columns); None without a shutter."""
    shutter = geometry.shutter
    if shutter is None:
        return None
    hidden = _outside_polygon(rows, columns, shutter.polygon) if shutter.polygon else np.zeros((rows, columns), dtype=np.bool_)
    column = np.arange(1, columns + 1)[None, :]
    for top in range(0, rows, _ROWS_AT_ONCE):
        row = np.arange(top + 1, min(top + _ROWS_AT_ONCE, rows) + 1)[:, None]
        band = hidden[top : top + _ROWS_AT_ONCE]
        if shutter.rectangle is not None:
            left, right, upper, lower = shutter.rectangle
            band |= (column < left) | (column > right) | (row < upper) | (row > lower)
        if shutter.circle is not None:
            middle_row, middle_column, radius = shutter.circle
            band |= ((row - middle_row) * geometry.aspect) ** 2 + (column - middle_column) ** 2 > radius**2
    return hidden


def seen_share(rows: int, columns: int, geometry: Geometry) -> float:
    """About what share of the image its shutter shows, 0..1, looked at on a coarse raster."""
    if geometry.shutter is None:
        return 1.0
    scale = max(rows, columns, COARSE) / COARSE
    small = replace(geometry, shutter=_scaled(geometry.shutter, 1 / scale))
    outside = outside_of(max(round(rows / scale), 1), max(round(columns / scale), 1), small)
    return 1.0 if outside is None else 1.0 - float(np.mean(outside))


def _scaled(shutter: Shutter, factor: float) -> Shutter:
    """The same shutter on a raster that is smaller by the factor."""

    def place(value: float) -> float:
        return (value - 0.5) * factor + 0.5

    rectangle, circle = shutter.rectangle, shutter.circle
    return replace(
        shutter,
        rectangle=None if rectangle is None else (place(rectangle[0]), place(rectangle[1]), place(rectangle[2]), place(rectangle[3])),
        circle=None if circle is None else (place(circle[0]), place(circle[1]), circle[2] * factor),
        polygon=tuple((place(row), place(column)) for row, column in shutter.polygon),
    )


def _outside_polygon(rows: int, columns: int, vertices: tuple[tuple[float, float], ...]) -> Mask:
    canvas = Image.new("L", (columns, rows), 1)
    ImageDraw.Draw(canvas).polygon([(column - 1, row - 1) for row, column in vertices], fill=0, outline=0)
    return np.array(canvas, dtype=np.bool_)
