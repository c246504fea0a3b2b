"""What of a log record may be written down.

The text of a foreign exception or library may quote the data set it stumbled over. So of an exception the log says its type and where
it was raised, and of a library that is not named here only that it spoke, and where.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from types import TracebackType
from typing import Final

from prioritizer.errors import PrioritizerError
from prioritizer.redaction.exceptions import place, trace_of

SPEAK_FREELY: Final = ("prioritizer", "uvicorn", "apscheduler", "alembic")
"""Loggers whose sentences hold no value of a data set. Of every other the log says level, name and place."""

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
