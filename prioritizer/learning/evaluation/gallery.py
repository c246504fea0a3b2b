"""Hits and misses as small pictures with their heat maps on the fixed scale. They are radiographs: they stand on the local page only."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
from PIL import Image

from prioritizer.calibration.maps import Calibration
from prioritizer.errors import Unprocessable
from prioritizer.imaging.heatmap import heat_map
from prioritizer.learning.cohorts.decoded_images import read_picture
from prioritizer.learning.evaluation.calibrated import Fitted
from prioritizer.learning.evaluation.inference_pass import InferencePass
from prioritizer.reports.page import Section, Thumbnail

WORST = 10
"""Misses and false alarms that are shown, the worst first."""
HITS = 5
SIDE = 176
"""Pixels of a picture on the page."""


def sections(ready: Fitted, looked: InferencePass, calibration: Calibration, title: str = "") -> tuple[Section, ...]:
    """The worst misses, the worst false alarms, and some hits of each kind."""
    p, labels = calibration.probabilities(looked.logits), looked.labels
    raised, positive = p >= calibration.t_high, labels == 1
    rising = np.argsort(p, kind="stable")
    kinds = (
        ("Missed: pneumonia, not raised, the lowest first", rising, positive & ~raised, WORST),
        ("False alarms: no pneumonia, raised, the highest first", rising[::-1], ~positive & raised, WORST),
        ("Hits: pneumonia, raised, the highest first", rising[::-1], positive & raised, HITS),
        ("Passed: no pneumonia, not raised, the lowest first", rising, ~positive & ~raised, HITS),
    )
    found = []
    for said, order, these, most in kinds:
        index = [int(i) for i in order if these[i]][:most]
        if index:
            text = (f"{len(index)} of {int(these.sum())}. {_legend(ready)}",)
            shown = tuple(thumbnail(ready, looked, i, f"p {p[i]:.3f}, {looked.images[i].path.name}") for i in index)
            heading = f"{title}{said[:1].lower()}{said[1:]}" if title else said
            found.append(Section(title=heading, answers="R15", text=text, thumbnails=shown, thumbnails_hold_images=True))
    return tuple(found)


def _legend(ready: Fitted) -> str:
    if not ready.scale:
        return "This network gives no exact map."
    return (
        f"Amber is what raised the logit, strongest from {ready.scale:.2g} a cell; it shows what moved the network, not where disease is."
    )


def thumbnail(ready: Fitted, looked: InferencePass, index: int, caption: str) -> Thumbnail:
    """One film as people see it, with its map."""
    spec = replace(ready.subject.spec, tone="as-is")
    maps = looked.scores.saliency
    try:
        film = np.rint(read_picture(looked.images[index], spec) * 255).clip(0, 255).astype(np.uint8)
    except Unprocessable:  # it could be read a minute ago; a cohort on a network drive may be gone now
        film = np.zeros((SIDE, SIDE), dtype=np.uint8)
    small = np.asarray(Image.fromarray(film).resize((SIDE, SIDE), Image.Resampling.BOX))
    return Thumbnail(caption=caption, png=_png(heat_map(small, None if maps is None else maps[index], ready.scale)))


def _png(picture: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()
