"""Log lines on standard error: sentences for people or JSON for machines. They hold UIDs, never patient data."""

from __future__ import annotations

import json
import logging
import sys

from prioritizer.clock import utc_now
from prioritizer.config import Settings


class JsonLines(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Level, logger, sentence, event and UIDs."""
        line = {"at": utc_now().isoformat(), "level": record.levelname.lower(), "from": record.name, "said": record.getMessage()}
        line |= {key: getattr(record, key) for key in ("event", "study", "instance") if hasattr(record, key)}
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line)


def set_up_logging(settings: Settings) -> None:
    """Log to standard error, as the site asked."""
    handler = logging.StreamHandler(sys.stderr)
    text = logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    handler.setFormatter(JsonLines() if settings.log.format == "json" else text)
    logging.basicConfig(level=settings.log.level.upper(), handlers=[handler], force=True)
    for chatty in ("apscheduler", "pynetdicom", "uvicorn.access", "pydicom"):
        logging.getLogger(chatty).setLevel(logging.ERROR)
