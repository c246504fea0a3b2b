"""The moment, and who may be asked for it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """The moment, aware, UTC."""
    return datetime.now(UTC)
