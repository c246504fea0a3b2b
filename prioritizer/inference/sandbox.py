"""Work in supervised child processes with a time and a memory limit: a child that dies costs its task, nothing else."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
from collections.abc import Callable
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any, ParamSpec, TypeVar

from pebble import ProcessExpired, ProcessPool

from prioritizer.errors import PrioritizerError

P = ParamSpec("P")
R = TypeVar("R")


class ChildDied(PrioritizerError):
    """The child process ended, or was killed at its limit, while it did the task."""

    code = "PRI-3002"

    def __init__(self, how: str) -> None:
        super().__init__(how)
        self.how = how

    def __str__(self) -> str:
        return self.how


class Sandbox:
    """A few child processes, started ahead, restarted when they die and recycled after `recycle_after` tasks."""

    def __init__(
        self,
        workers: int,
        *,
        memory_bytes: int | None = None,
        recycle_after: int = 0,
        prepare: Callable[..., None] | None = None,
        arguments: tuple[Any, ...] = (),
    ) -> None:
        # One picture is one thread's work: BLAS threads of several children fight for the same cores (275 ms instead of 12).
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        self._pool = ProcessPool(
            max_workers=workers,
            max_tasks=recycle_after,
            initializer=_enter_child,
            initargs=(memory_bytes, prepare, arguments),
            context=multiprocessing.get_context("spawn"),
        )

    def run(self, work: Callable[P, R], timeout_s: float, *args: P.args, **kwargs: P.kwargs) -> R:
        """The result of `work`, done in a child. Raises ChildDied, or what the work itself raised."""
        future = self._pool.schedule(work, args=args, kwargs=kwargs, timeout=timeout_s)
        try:
            result: R = future.result()
        except FutureTimeout as error:
            raise ChildDied(f"took longer than {timeout_s:g} s and was stopped") from error
        except ProcessExpired as error:
            raise ChildDied(f"the process that read it died (exit code {error.exitcode})") from error
        except MemoryError as error:
            raise ChildDied("needed more memory than a sandboxed process may take") from error
        return result

    def close(self) -> None:
        """Stop at once; tasks under way are killed."""
        self._pool.stop()  # type: ignore[no-untyped-call]
        self._pool.join(timeout=5)


def _enter_child(memory_bytes: int | None, prepare: Callable[..., None] | None, arguments: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's: it drains, then stops us
    if memory_bytes is not None:
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
        # Native codecs write to standard error as they please; what matters comes back as an exception.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if prepare is not None:
        prepare(*arguments)
