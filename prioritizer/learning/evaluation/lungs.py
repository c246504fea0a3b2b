"""Where the lungs are, roughly: a classical segmentation for one question only, how much of a heat map falls on lung.

Air is dark, so the lung fields are the two large dark areas beside the middle, below the shoulders, inside the body. The limits are
those of that sentence. A lung white with pneumonia or effusion is not dark: its hull is drawn round what is left of it, and where too
little is left for two plausible lungs a template takes the place, with `plausible` False. The heart's shadow and the lung behind it
and below the domes of the diaphragm are cut or kept as the hull falls. It is no measurement of anatomy and never leaves a report.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage
from scipy.spatial import ConvexHull

from prioritizer.imaging.preprocessing import equalised

Float32 = NDArray[np.float32]
Mask = NDArray[np.bool_]
SIDE = 128
"""The search runs on pictures of this side: a lung is some fifty pixels high there, a rib two."""
SMOOTH, SURROUND = 2.0, 26.0
"""Standard deviations in pixels of SIDE: what ribs and vessels are smoothed away with, and what a lung is dark against."""
AIR = 0.13
"""Grey of the black around a body; lungs are seldom as black."""
CENTRES = ((0.30, 0.47), (0.70, 0.47))
RADII = (0.165, 0.31)
"""The template: an ellipse for each lung, centre and radii as shares of the picture (x, y), the middle of what films show."""
REACH = 1.4
"""A lung is looked for within the template's ellipses enlarged by this, the midline between them left out."""
LUNG_AREA = (0.045, 0.24)
"""Share of the picture that one lung may take."""
MIN_SYMMETRY = 0.4
"""Area of the smaller lung over that of the larger, and overlap of their rows."""
MIN_SOLID = 0.62
"""A dark area that fills less of its hull runs into the air beside the body."""
SPREAD_X = (0.22, 0.62)
"""Distance of the two centres as a share of the width."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Lungs:
    """The lung fields of one picture. `plausible` False: none were found that could be two lungs, the template stands in."""

    mask: Mask
    """Shape of the picture."""
    plausible: bool

    @property
    def area(self) -> float:
        """Share of the picture."""
        return float(self.mask.mean())


def lung_fields(picture: Float32) -> Lungs:
    """The lung fields of a frontal film float32 (S, S), 0..1, bright is dense."""
    small = np.asarray(Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.BOX))
    toned = equalised(small.clip(0, 1))
    smooth = ndimage.gaussian_filter(toned, SMOOTH, mode="nearest")
    dark = (smooth < np.minimum(ndimage.gaussian_filter(toned, SURROUND, mode="nearest"), 0.62)) & ~_outside(small)
    found = [_lung(dark, side) for side in (0, 1)]
    mask, plausible = template(SIDE), False
    if found[0] is not None and found[1] is not None and _could_be_lungs(found[0], found[1]):
        mask, plausible = found[0] | found[1], True
    grown = Image.fromarray(mask.astype(np.uint8) * 255).resize(picture.shape[::-1], Image.Resampling.BILINEAR)
    return Lungs(mask=np.asarray(grown) > 127, plausible=plausible)


def _outside(small: Float32) -> Mask:
    """The air around the body: black, and joined to the edge of the picture."""
    labelled, count = ndimage.label(ndimage.gaussian_filter(small, 1.0, mode="nearest") < AIR)
    edge = np.concatenate([labelled[0], labelled[-1], labelled[:, 0], labelled[:, -1]])
    touching = np.isin(labelled, np.setdiff1d(np.unique(edge), [0])) if count else np.zeros_like(labelled, dtype=np.bool_)
    return np.asarray(ndimage.binary_dilation(touching, iterations=2))


def template(side: int, reach: float = 1.0) -> Mask:
    """The two ellipses where lungs usually are, enlarged by `reach`: bool (side, side)."""
    return _ellipse(side, 0, reach) | _ellipse(side, 1, reach)


def share_inside(saliency: Float32, mask: Mask) -> float:
    """Share of the positive contributions of a map (h, w) that fall on the mask; NaN where nothing contributes.

    A cell counts by the part of it that the mask covers: the map says no more than which cell it was.
    """
    raised = np.maximum(saliency.astype(np.float64), 0)
    total = float(raised.sum())
    return float((raised * _cover(mask, saliency.shape)).sum() / total) if total > 0 else float("nan")


def _cover(mask: Mask, cells: tuple[int, ...]) -> NDArray[np.float64]:
    """The part of each cell of a grid that the mask covers."""
    small = Image.fromarray(mask.astype(np.float32)).resize((cells[1], cells[0]), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float64)


def _ellipse(side: int, which: int, reach: float) -> Mask:
    at = (np.arange(side) + 0.5) / side
    x, y = np.meshgrid(at, at)
    (cx, cy), (rx, ry) = CENTRES[which], RADII
    inside: Mask = ((x - cx) / (rx * reach)) ** 2 + ((y - cy) / (ry * reach)) ** 2 <= 1
    return inside


def _lung(dark: Mask, which: int) -> Mask | None:
    """The hull of the largest dark area on one side; None where there is none, or where it reaches round a corner as no lung does."""
    at = (np.arange(SIDE) + 0.5) / SIDE
    half = (at < 0.485) if which == 0 else (at > 0.515)
    here = ndimage.binary_opening(dark & _ellipse(SIDE, which, REACH) & half[None, :], iterations=2)
    labelled, count = ndimage.label(here)
    if not count:
        return None
    core = _ellipse(SIDE, which, 0.9)
    sizes = ndimage.sum_labels(core, labelled, np.arange(1, count + 1))
    area = labelled == int(np.argmax(sizes)) + 1
    hull = _hull(area)
    return hull if area.sum() > 20 and area.sum() / hull.sum() >= MIN_SOLID else None


def _hull(area: Mask) -> Mask:
    """The convex hull of the pixels."""
    points = np.argwhere(area)[:, ::-1]
    if len(np.unique(points[:, 0])) < 3 or len(np.unique(points[:, 1])) < 3:
        return area
    corners = points[ConvexHull(points).vertices]
    canvas = Image.new("1", (SIDE, SIDE))
    ImageDraw.Draw(canvas).polygon([(float(x), float(y)) for x, y in corners], fill=1, outline=1)
    return np.asarray(canvas, dtype=np.bool_)


def _could_be_lungs(left: Mask, right: Mask) -> bool:
    """Area, balance, overlap in height and distance are those of two lungs."""
    areas = left.mean(), right.mean()
    rows = left.any(axis=1), right.any(axis=1)
    overlap = (rows[0] & rows[1]).sum() / max((rows[0] | rows[1]).sum(), 1)
    apart = (np.argwhere(right)[:, 1].mean() - np.argwhere(left)[:, 1].mean()) / SIDE
    return bool(
        LUNG_AREA[0] <= min(areas)
        and max(areas) <= LUNG_AREA[1]
        and min(areas) / max(areas) >= MIN_SYMMETRY
        and overlap >= MIN_SYMMETRY
        and SPREAD_X[0] <= apart <= SPREAD_X[1]
    )
