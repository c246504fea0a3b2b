"""When a study has been quiet for long enough for its result to be built."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Quiet:
    """When a study is ready to publish: the time without a new instance, and the ceiling of that wait."""

    quiet: timedelta
    ceiling: timedelta
