"""A Storage SCP that results are sent to."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """A Storage SCP that results are sent to."""

    name: str
    ae_title: str
    host: str
    port: int
    calling_ae: str = "PRIORITIZER"
