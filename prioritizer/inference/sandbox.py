"""Work in supervised child processes with a time and a memory limit: a child that dies costs its task, nothing else.

Each child has a pipe of its own. A pool whose children share one queue stands still for ever when the child that holds the
queue's lock is killed while it waits, and the kernel does just that to the largest idle process when memory runs out.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import queue
import resource
import signal
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, Final, ParamSpec, TypeVar

from prioritizer.errors import PrioritizerError, Transient

P = ParamSpec("P")
R = TypeVar("R")
START_TIMEOUT_S: Final = 120.0
"""Seconds a child may take to start and prepare: compiling the network on a busy machine."""
_SPAWN: Final = multiprocessing.get_context("spawn")


class ChildDied(PrioritizerError):
    """The child process ended, or was killed at its limit, while it did the task."""

    code = "PRI-3002"

    def __init__(self, how: str) -> None:
        super().__init__(how)
        self.how = how

    def __str__(self) -> str:
        return self.how


class _Child:
    """One process and our end of its pipe; used by one thread at a time."""

    def __init__(self, arguments: tuple[Any, ...]) -> None:
        self._pipe, theirs = _SPAWN.Pipe()
        self._process = _SPAWN.Process(target=_live, args=(theirs, *arguments), daemon=True)
        try:
            self._process.start()
        except OSError:
            self._pipe.close()
            raise
        finally:
            theirs.close()
        self.prepared = False
        self.tasks = 0

    @property
    def alive(self) -> bool:
        return self._process.is_alive()

    def prepare(self) -> None:
        """Wait until it has prepared itself; ChildDied when it never does."""
        if not self.prepared:
            self._answer(START_TIMEOUT_S)
            self.prepared = True

    def do(self, task: tuple[Any, ...], timeout_s: float) -> Any:
        """What the task returned, as (came well, value); ChildDied when the child did not live to say, or had no memory left.

        A child that once had too little memory is ended: what it keeps would cost the next images theirs.
        """
        self.tasks += 1
        try:
            self._pipe.send(task)
        except OSError as error:
            raise self._died() from error
        well, value = self._answer(timeout_s)
        if not well and isinstance(value, MemoryError):
            self.kill()
            raise ChildDied("needed more memory than a sandboxed process may take") from value
        return well, value

    def _answer(self, timeout_s: float) -> Any:
        try:
            if self._pipe.poll(timeout_s):
                return self._pipe.recv()
        except (OSError, EOFError) as error:
            raise self._died() from error
        self.kill()
        raise ChildDied(f"took longer than {timeout_s:g} s and was stopped")

    def _died(self) -> ChildDied:
        self._process.join(timeout=5)
        return ChildDied(f"the process that read it died (exit code {self._process.exitcode})")

    def kill(self) -> None:
        """End it at once, whatever it does."""
        self._process.kill()
        self._process.join(timeout=5)

    def close(self) -> None:
        """End it and free what it held here."""
        self.kill()
        self._pipe.close()
        with contextlib.suppress(ValueError):  # a process in an uninterruptible wait is left to the kernel
            self._process.close()


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
        self._birth = (memory_bytes, prepare, arguments)
        self._recycle_after = recycle_after
        self._closing = threading.Event()
        self._all: set[_Child] = set()
        self._free: queue.SimpleQueue[_Child | None] = queue.SimpleQueue()
        """Children that wait for a task; None stands for one that could not be started and is by the next task."""
        self._lock = threading.Lock()
        for _ in range(workers):
            self._free.put(self._renewed(None))

    def run(self, work: Callable[P, R], timeout_s: float, *args: P.args, **kwargs: P.kwargs) -> R:
        """The result of `work`, done in a child.

        Raises ChildDied, what the work itself raised, or Transient after `close` and where the machine starts no process now.
        """
        kept = self._taken()
        try:
            child = kept
            if child is None or not child.alive:  # it died while it had nothing to do: that costs nobody a task
                kept = child = self._replaced(child)
            child.prepare()
            well, value = child.do((work, args, kwargs), timeout_s)
        except ChildDied as error:
            if self._closing.is_set():
                raise Transient("prioritizer is stopping") from error
            raise
        finally:
            if kept is not None and (not kept.alive or (self._recycle_after and kept.tasks >= self._recycle_after)):
                kept = self._renewed(kept)
            self._free.put(kept)
        if well:
            result: R = value
            return result
        raise value

    def _taken(self) -> _Child | None:
        while not self._closing.is_set():
            with contextlib.suppress(queue.Empty):
                return self._free.get(timeout=0.5)
        raise Transient("prioritizer is stopping")

    def _renewed(self, child: _Child | None) -> _Child | None:
        """A new child in the place of this one; this one where the machine starts no process now: the next task tries again."""
        try:
            return self._replaced(child)
        except Transient:
            return child

    def _replaced(self, child: _Child | None) -> _Child:
        """A new child in the place of this one; after `close` the dead one stays. Raises Transient where none can be started now."""
        with self._lock:
            if self._closing.is_set():
                if child is None:
                    raise Transient("prioritizer is stopping")
                return child
            try:
                fresh = _Child(self._birth)
            except OSError as error:
                raise Transient(f"no process can be started now ({error.strerror or type(error).__name__})") from error
            self._all.add(fresh)
            if child is not None:
                self._all.remove(child)
        if child is not None:
            child.close()
        return fresh

    def close(self) -> None:
        """Stop at once; tasks under way are killed."""
        with self._lock:
            self._closing.set()
        for child in self._all:
            child.kill()
        deadline = time.monotonic() + 5
        closed = 0
        while closed < len(self._all) and time.monotonic() < deadline:  # each comes back from the thread that used it
            with contextlib.suppress(queue.Empty):
                free = self._free.get(timeout=0.2)
                if free is not None:
                    free.close()
                    closed += 1


def _live(pipe: Connection, memory_bytes: int | None, prepare: Callable[..., None] | None, arguments: tuple[Any, ...]) -> None:
    """The child's life: prepare, then one task after the other until the parent is gone."""
    _enter_child(memory_bytes, prepare, arguments)
    with contextlib.suppress(EOFError, BrokenPipeError):
        pipe.send(None)
        while True:
            work, args, kwargs = pipe.recv()
            try:
                answer = True, work(*args, **kwargs)
            except Exception as error:  # noqa: BLE001 - whatever the work raised is its answer
                answer = False, error.with_traceback(None)
            try:
                pipe.send(answer)
            except (TypeError, ValueError, AttributeError) as error:
                pipe.send((False, RuntimeError(f"the answer cannot be sent: {type(error).__name__}")))


def _enter_child(memory_bytes: int | None, prepare: Callable[..., None] | None, arguments: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's: it drains, then stops us
    if memory_bytes is not None:
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
        # Native codecs write to standard error as they please; what matters comes back as an exception.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if prepare is not None:
        prepare(*arguments)
