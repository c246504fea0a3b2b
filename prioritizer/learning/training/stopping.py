"""Ctrl-C while a network learns: the step that runs is ended first, since a checkpoint holds whole steps only."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def asked_to_stop() -> Iterator[Callable[[], bool]]:
    """While open, Ctrl-C is remembered: the function says whether it came. A second one stops at once, without a checkpoint.

    Batch norms change their running statistics in the forward pass already: what is saved between that and the step goes on otherwise.
    """
    asked = threading.Event()

    def remember(number: int, frame: FrameType | None) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    if threading.current_thread() is not threading.main_thread():  # only there may signals be handled
        yield asked.is_set
        return
    before = signal.signal(signal.SIGINT, remember)
    try:
        yield asked.is_set
    finally:
        signal.signal(signal.SIGINT, before)
