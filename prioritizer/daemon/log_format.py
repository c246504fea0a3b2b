"""Log lines on standard error: sentences for people or JSON for machines. They hold UIDs, never patient data (redaction/log_records.py)."""

from __future__ import annotations

import json
import logging
import sys
from typing import Final

from prioritizer.clock import utc_now
from prioritizer.config.settings import Settings
from prioritizer.redaction.exceptions import guard_standard_error
from prioritizer.redaction.log_records import Discreet, discreet

CHATTY: Final = ("apscheduler", "uvicorn.access")
QUIETER: Final = ("alembic",)
"""What they say at every look is no event."""
SILENT: Final = ("pydicom", "pynetdicom")
"""What they have to say reaches us as exceptions and statuses."""


class JsonLines(Discreet):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Level, logger, sentence, event and UIDs."""
        record = discreet(record)
        line = {"at": utc_now().isoformat(), "level": record.levelname.lower(), "from": record.name, "said": record.getMessage()}
        line |= {key: getattr(record, key) for key in ("event", "study", "instance") if hasattr(record, key)}
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line)


def set_up_logging(settings: Settings) -> None:
    """Log to standard error, as the site asked."""
    handler = logging.StreamHandler(sys.stderr)
    text = Discreet("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    handler.setFormatter(JsonLines() if settings.log.format == "json" else text)
    logging.basicConfig(level=settings.log.level.upper(), handlers=[handler], force=True)
    # What logging itself stumbles over would be printed with the record's arguments.
    logging.raiseExceptions = False
    for chatty in CHATTY:
        logging.getLogger(chatty).setLevel(logging.ERROR)
    for quieter in QUIETER:
        logging.getLogger(quieter).setLevel(logging.WARNING)
    for silent in SILENT:
        logging.getLogger(silent).setLevel(logging.CRITICAL + 1)
    log = logging.getLogger(__name__)
    guard_standard_error(lambda said: log.error("%s", said, extra={"event": "uncaught"}))
