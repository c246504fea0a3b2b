"""pydicom reads without talking: its warnings and log lines quote the offending value, and that may be a patient's."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from pydicom import config

logging.getLogger("pydicom").setLevel(logging.CRITICAL)

IGNORE_INVALID: Final = config.IGNORE


@contextmanager
def quietly() -> Iterator[None]:
    """Let pydicom take values as they are, neither checked nor quoted; faults still raise."""
    with warnings.catch_warnings(), config.disable_value_validation():
        warnings.simplefilter("ignore")
        yield
