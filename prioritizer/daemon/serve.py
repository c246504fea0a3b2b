"""`prioritizer serve`: the listener first, then everything else. Nothing heavy is imported before the listener runs."""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path

from prioritizer.config import last_good
from prioritizer.config.settings import Settings
from prioritizer.daemon.listener_process import ListenerProcess, listener_settings
from prioritizer.daemon.log_format import set_up_logging
from prioritizer.dicom.spool.lock import hold_spool
from prioritizer.dicom.standard.contexts import SYNTAX_BY_UID
from prioritizer.errors import ConfigError

log = logging.getLogger(__name__)


def serve(settings: Settings, config_file: Path | None, fault: ConfigError | None = None) -> None:
    """Run the daemon in the foreground until it is told to stop. `fault`: of the configuration that these settings stand in for."""
    set_up_logging(settings)
    if fault is not None:
        log.error("the configuration has faults; running on the last good one with AI off:\n%s", fault, extra={"event": "recovery"})
    with hold_spool(settings.spool_folder):
        listener = ListenerProcess(listener_settings(settings, tuple(SYNTAX_BY_UID)))
        listener.start()
        try:
            from prioritizer.daemon.daemon import Daemon

            Daemon(settings, config_file, fault=fault, listener=listener).run()
        finally:
            listener.stop()
    _leave()


def serve_in_recovery(fault: ConfigError, config_file: Path | None) -> None:
    """Run on the last good configuration with AI off. Raises `fault` when there is none."""
    serve(last_good.last_good(config_file, fault), config_file, fault)


def _leave() -> None:
    """End the process now that it is drained, whatever threads a library left behind."""
    if any(not thread.daemon for thread in threading.enumerate() if thread is not threading.main_thread()):
        # An association with a PACS that does not answer lives in threads that Python would wait for.
        logging.shutdown()
        os._exit(0)
