"""Exceptions and warnings as type and place: their texts may quote the data set that they stumbled over.

Nothing but the standard library's smallest parts is loaded: the listener uses this too.
"""

from __future__ import annotations

import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, TextIO

MAX_FRAMES: Final = 12
MAX_CAUSES: Final = 4


def trace_of(error: BaseException | None) -> str:
    """Types and places of an exception and of what caused it, the innermost frame first: `ValueError at module:line < module:line`."""
    said = [f"{type(one).__qualname__} at {' < '.join(_frames(one)) or 'no frame'}" for one in _causes(error)]
    return ", from ".join(said) or "no exception"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    for _ in range(MAX_CAUSES):
        if error is None:
            return
        yield error
        error = error.__cause__ or error.__context__


def _frames(error: BaseException) -> list[str]:
    found, trace = [], error.__traceback__
    while trace is not None:
        found.append(place(trace.tb_frame.f_code.co_filename, trace.tb_lineno))
        trace = trace.tb_next
    return found[::-1][:MAX_FRAMES]


def place(filename: str, line: int) -> str:
    """`package/module:line` of a source file."""
    return f"{'/'.join(Path(filename).with_suffix('').parts[-2:])}:{line}"


def guard_standard_error(say: Callable[[str], None]) -> None:
    """Exceptions that nobody caught, and warnings, are told to `say` as type and place; Python would print their texts."""

    def uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        say(f"an exception ended the process: {trace_of(error)}")

    def uncaught_in_thread(args: threading.ExceptHookArgs) -> None:
        say(f"an exception ended the thread {args.thread.name if args.thread else '?'}: {trace_of(args.exc_value)}")

    def unraisable(args: sys.UnraisableHookArgs) -> None:
        say(f"an exception could not be raised: {trace_of(args.exc_value)}")

    def warned(
        message: Warning | str, category: type[Warning], filename: str, lineno: int, file: TextIO | None = None, line: str | None = None
    ) -> None:
        say(f"{category.__name__} at {place(filename, lineno)}")

    sys.excepthook, threading.excepthook, sys.unraisablehook, warnings.showwarning = uncaught, uncaught_in_thread, unraisable, warned
