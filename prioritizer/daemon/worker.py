"""The thread of a worker: each step claims one piece of work, does it, commits it, and says whether there may be more.

A `step` holds no state between calls: kill the process between any two lines and the ledger's leases and the spool's inbox bring
the work back.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from prioritizer.clock import utc_now
from prioritizer.errors import ModelError, PrioritizerError, Transient

log = logging.getLogger(__name__)


class WorkerThread(threading.Thread):
    """Runs `step` until told to stop: again at once while there is work, else when woken or after `idle_s`.

    `last_turn` is when a turn ended, whether or not it found something to do: a step that hangs ends no turn.
    """

    def __init__(self, name: str, step: Callable[[], bool], *, idle_s: float, on_model_error: Callable[[ModelError], None]) -> None:
        super().__init__(name=name, daemon=True)
        self._step, self._idle_s, self._on_model_error = step, idle_s, on_model_error
        self._wake, self._stopping = threading.Event(), threading.Event()
        self.last_turn = utc_now()
        self._turned = time.monotonic()
        self.failures = 0

    @property
    def still_s(self) -> float:
        """Seconds since a turn ended, by a clock that nobody sets."""
        return time.monotonic() - self._turned

    def wake(self) -> None:
        """There may be work now."""
        self._wake.set()

    def stop(self) -> None:
        """End after the step under way."""
        self._stopping.set()
        self._wake.set()

    def run(self) -> None:
        """The worker loop: one of the three places that catch everything."""
        while not self._stopping.is_set():
            self._wake.clear()
            more = self._turn()
            self.last_turn, self._turned = utc_now(), time.monotonic()
            if not more:
                self._wake.wait(self._idle_s if not self.failures else min(30.0, 0.5 * 2**self.failures))

    def _turn(self) -> bool:
        try:
            more = self._step()
            self.failures = 0
            return more
        except Transient as error:
            log.warning("%s: %s; trying again", self.name, error, extra={"event": "worker-waits"})
        except ModelError as error:
            log.error("%s: %s", self.name, error, extra={"event": "model-error"})
            self._on_model_error(error)
        except PrioritizerError as error:
            log.error("%s: %s", self.name, error, extra={"event": "worker-error"})
        except Exception:
            log.exception("%s: a fault of prioritizer itself; the work stays queued", self.name, extra={"event": "worker-fault"})
        self.failures = min(self.failures + 1, 6)
        return False
