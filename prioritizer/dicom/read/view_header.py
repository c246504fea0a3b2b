"""What a header says about the shape of pixels, which way is up and what a display shutter hides.

Sources: PS3.3 10.7.1.3 (Pixel Spacing), C.7.6.1.1.1 (Patient Orientation), C.7.6.3.1.7 (Pixel Aspect Ratio), C.7.6.11 (Display Shutter).
"""

from __future__ import annotations

from dataclasses import replace

from prioritizer.dicom.read.codecs import ImageShape
from prioritizer.dicom.read.elements import Elements, numbers, strings, tag_of, tags_of, words_of
from prioritizer.dicom.read.look_up_tables import Warn
from prioritizer.imaging.geometry import AS_STORED, Geometry, Shutter, seen_share, turn_of

_SPACINGS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing", "PixelAspectRatio")
VIEW_TAGS = tags_of(
    *_SPACINGS, "PatientOrientation", "ShutterShape", "ShutterLeftVerticalEdge", "ShutterRightVerticalEdge",
    "ShutterUpperHorizontalEdge", "ShutterLowerHorizontalEdge", "CenterOfCircularShutter", "RadiusOfCircularShutter",
    "VerticesOfThePolygonalShutter", "ShutterPresentationValue",
)  # fmt: skip
WIDEST_ASPECT = 8.0
"""A pixel longer than this is a slip of the pen."""
SQUARE = 0.01
"""Relative difference of the sides below which a pixel counts as square."""
MAX_VERTICES = 1024
MIN_SEEN = 0.01
"""Share of the image below which a shutter cannot be meant."""


def geometry_of(elements: Elements, shape: ImageShape, warn: Warn) -> Geometry:
    """Turn, shape of pixels and shutter; what means nothing is passed over with a warning."""
    geometry = replace(_turn(elements, warn), aspect=_aspect(elements, warn))
    shutter = _shutter(elements, warn)
    if shutter is None:
        return geometry
    shut = replace(geometry, shutter=shutter)
    if seen_share(shape.rows, shape.columns, shut) < MIN_SEEN:
        warn("a Display Shutter that hides the whole image was passed over")
        return geometry
    return shut


def _turn(elements: Elements, warn: Warn) -> Geometry:
    directions = strings(elements, "PatientOrientation")
    if len(directions) != 2 or not all(directions):
        return AS_STORED
    turn = turn_of(*directions)
    if turn is not None and turn != AS_STORED:
        warn("turned upright, as Patient Orientation says")
    return turn or AS_STORED


def _aspect(elements: Elements, warn: Warn) -> float:
    """Height of a pixel over its width: by the first spacing that is stated, or by the ratio."""
    found = []
    for keyword in _SPACINGS:
        sides = numbers(elements, keyword)
        if not sides:
            continue
        height, width = (sides + sides)[:2]
        if height == width == 0:
            continue  # what devices write that know no spacing
        if height is None or width is None or height <= 0 or width <= 0 or not 1 / WIDEST_ASPECT <= height / width <= WIDEST_ASPECT:
            warn("a pixel spacing or aspect ratio means nothing and was passed over")
            continue
        found.append(height / width)
    if not found:
        return 1.0
    if abs(found[-1] / found[0] - 1) > SQUARE:
        warn("pixel spacing and aspect ratio disagree: drawn by the spacing")
    return found[0] if abs(found[0] - 1) > SQUARE else 1.0


def _shutter(elements: Elements, warn: Warn) -> Shutter | None:
    shapes = [shape.upper() for shape in strings(elements, "ShutterShape") if shape]
    shutter = Shutter(level=_level(elements))
    for shape in shapes:
        read = _SHAPES.get(shape)
        part = None if read is None else read(elements, shutter)
        if part is None:
            warn("a Display Shutter that means nothing was passed over")
        shutter = part or shutter
    return shutter if shutter != Shutter(level=shutter.level) else None


def _level(elements: Elements) -> float:
    value = words_of(elements.get(tag_of("ShutterPresentationValue")))
    return float(value[0]) / 65535 if len(value) else 0.0


def _all(values: list[float | None], length: int) -> list[float] | None:
    """The values where there are as many as wanted and all are numbers."""
    known = [value for value in values if value is not None]
    return known if len(known) == len(values) == length else None


def _rectangle(elements: Elements, shutter: Shutter) -> Shutter | None:
    keywords = ("ShutterLeftVerticalEdge", "ShutterRightVerticalEdge", "ShutterUpperHorizontalEdge", "ShutterLowerHorizontalEdge")
    edges = _all([next(iter(numbers(elements, keyword)), None) for keyword in keywords], 4)
    if edges is None or edges[0] > edges[1] or edges[2] > edges[3]:
        return None
    return replace(shutter, rectangle=(edges[0], edges[1], edges[2], edges[3]))


def _circle(elements: Elements, shutter: Shutter) -> Shutter | None:
    centre = _all(numbers(elements, "CenterOfCircularShutter"), 2)
    radius = _all(numbers(elements, "RadiusOfCircularShutter")[:1], 1)
    if centre is None or radius is None or radius[0] <= 0:
        return None
    return replace(shutter, circle=(centre[0], centre[1], radius[0]))


def _polygon(elements: Elements, shutter: Shutter) -> Shutter | None:
    values = numbers(elements, "VerticesOfThePolygonalShutter")
    known = _all(values, len(values))
    if known is None or len(known) % 2 or not 6 <= len(known) <= 2 * MAX_VERTICES or max(map(abs, known)) > 1e6:
        return None
    return replace(shutter, polygon=tuple(zip(known[::2], known[1::2], strict=True)))


_SHAPES = {"RECTANGULAR": _rectangle, "CIRCULAR": _circle, "POLYGONAL": _polygon}
"""(0018,1600) Shutter Shape to what reads it."""
