"""What scoring a file outside the worklist reports."""

from __future__ import annotations

from dataclasses import dataclass

from prioritizer.imaging.display import Shown


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """What raising from a threshold on gives: the threshold as a probability, shares of 1."""

    threshold: float
    sensitivity: float
    specificity: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """What AI makes of a file that is no study. Without a probability, `reason` says why."""

    film: Shown
    display: bytes
    """The film in its window, 8 bits, PNG."""
    t_high: float
    """The probability from which studies are raised now."""
    points: tuple[Point, ...]
    """What other thresholds give, on the films the bundle was reported on."""
    reason: str = ""
    warnings: tuple[str, ...] = ()
    probability: float | None = None
    finding: str = ""
    """What the probability is of."""
    saliency: bytes = b""
    """float32 little-endian, square."""
    calibration: str = ""
    bundle: str = ""
