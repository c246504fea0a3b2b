"""When a result that a destination did not take is sent again."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Final

FIRST_DELAY_SECONDS: Final = 5.0
MAX_DELAY_SECONDS: Final = 15 * 60.0
REFUSAL_MINUTES: Final = (1, 5, 30, 120, 360, 480, 480)
"""Waits between the tries of a result that the destination refuses: more than a day in all, in which a person there may set it right."""


def next_attempt_delay(attempts: int, rng: random.Random) -> float:
    """Seconds to wait after `attempts` failures: doubling from 5 s to 15 min, each drawn from the upper half of its step.

    The jitter keeps the results of an outage from returning to the PACS all in the same second.
    """
    longest = min(FIRST_DELAY_SECONDS * 2.0 ** min(max(attempts - 1, 0), 16), MAX_DELAY_SECONDS)
    return max(rng.uniform(longest / 2, longest), FIRST_DELAY_SECONDS)


def next_try_after_refusal(refusals: int, rng: random.Random) -> timedelta | None:
    """How long to wait after the `refusals`-th refusal in a row; None after the last: then a person must look."""
    if refusals > len(REFUSAL_MINUTES):
        return None
    return timedelta(minutes=REFUSAL_MINUTES[refusals - 1] * rng.uniform(1.0, 1.2))
