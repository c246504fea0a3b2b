"""An image as a page shows it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A film for a page: a PNG whose red and green are the high and low byte of every tone, and the header's window in shares of 65535."""

    png: bytes
    rows: int
    columns: int
    low: float
    high: float
