"""What of an exception, a warning or a library's message may be written down: types and places, never texts.

The text of a foreign exception, warning or library may quote the data set it stumbled over. So of an exception the log says its type
and where it was raised, of a warning its category and place, and of a library that is not named here only that it spoke, and where.
"""

from __future__ import annotations

import logging
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, TextIO

from prioritizer.errors import PrioritizerError

SPEAK_FREELY: Final = ("prioritizer", "uvicorn", "apscheduler", "alembic")
"""Loggers whose sentences hold no value of a data set. Of every other the log says level, name and place."""
MAX_FRAMES: Final = 12
MAX_CAUSES: Final = 4
_UNFORESEEN: Final = "prioritizer.unforeseen"

Raised = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


class Discreet(logging.Formatter):
    """Lines for people; exceptions as type and place, foreign libraries as a name."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, whatever a foreign library wrote into its record left out."""
        return super().format(discreet(record))

    def formatException(self, ei: Raised) -> str:  # noqa: N802 - the name that logging calls
        """Types and places of the exception and its causes; never their texts."""
        return trace_of(ei[1])


def discreet(record: logging.LogRecord) -> logging.LogRecord:
    """The record without what may quote a data set: texts of exceptions, also as arguments, and messages of foreign libraries."""
    plain = logging.makeLogRecord(record.__dict__)
    plain.exc_text = plain.stack_info = None
    if record.name.split(".")[0] not in SPEAK_FREELY:
        plain.msg, plain.args = f"a message of this library was left out ({place(record.pathname, record.lineno)})", None
    elif isinstance(record.args, Mapping):
        plain.args = {key: _shown(given) for key, given in record.args.items()}
    elif isinstance(record.args, tuple):
        plain.args = tuple(_shown(given) for given in record.args)
    if isinstance(record.msg, BaseException):
        plain.msg = _shown(record.msg)
    return plain


def _shown(given: object) -> object:
    """Our own errors hold sentences of ours; of a foreign exception its type and place are shown."""
    return trace_of(given) if isinstance(given, BaseException) and not isinstance(given, PrioritizerError) else given


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


def guard_standard_error() -> None:
    """Exceptions that nobody caught and warnings leave the process as type and place; they would print their texts."""
    log = logging.getLogger(_UNFORESEEN)

    def uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        log.critical("an exception ended the process", exc_info=(kind, error, trace), extra={"event": "uncaught"})

    def uncaught_in_thread(args: threading.ExceptHookArgs) -> None:
        name = args.thread.name if args.thread else "?"
        trace = trace_of(args.exc_value)
        log.critical("an exception ended the thread %s: %s", name, trace, extra={"event": "uncaught"})

    def unraisable(args: sys.UnraisableHookArgs) -> None:
        log.error("an exception could not be raised: %s", trace_of(args.exc_value), extra={"event": "uncaught"})

    def warned(
        message: Warning | str, category: type[Warning], filename: str, lineno: int, file: TextIO | None = None, line: str | None = None
    ) -> None:
        log.warning("%s at %s", category.__name__, place(filename, lineno), extra={"event": "warning"})

    sys.excepthook, threading.excepthook, sys.unraisablehook, warnings.showwarning = uncaught, uncaught_in_thread, unraisable, warned
