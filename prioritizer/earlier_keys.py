"""Keys of JSON documents by the names that they had before 0.2: they stand beside the new ones until 0.3, in the API and with `--json`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

EARLIER = {"scored_again": "scored_anew", "published_again": "published_anew"}
"""The key of now, and what it was called."""


def with_earlier_keys(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document, with each renamed key under its earlier name too."""
    return {**document, **{EARLIER[key]: value for key, value in document.items() if key in EARLIER}}
