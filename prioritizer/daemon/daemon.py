"""The daemon: build the parts, prove them ready, run them, drain them.

Order of a start: listener, engine proved, workers, page, READY. The listener is first up and last down, whatever the ledger says:
the ledger is brought to this version and taken over as soon as it answers. A bundle or engine that cannot be trusted does not stop the
daemon: the list is then STAT and order of arrival, and says so.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
from datetime import datetime
from pathlib import Path
from types import FrameType

import sdnotify
import sqlalchemy as sa
from apscheduler.schedulers.background import BackgroundScheduler

from prioritizer.clock import utc_now
from prioritizer.config import last_good
from prioritizer.config.policy import SitePolicy, policy_of
from prioritizer.config.read import read_settings
from prioritizer.config.settings import Settings
from prioritizer.daemon import readiness
from prioritizer.daemon.alarms import Parts
from prioritizer.daemon.ledger_takeover import LedgerTakeover, report_override
from prioritizer.daemon.listener_process import ListenerProcess, listener_settings, peer_rules
from prioritizer.daemon.owed_work import Owed
from prioritizer.daemon.page_backend import PageBackend, invite_the_first
from prioritizer.daemon.reload import taken_up
from prioritizer.daemon.scheduled_jobs import ScheduledJobs
from prioritizer.daemon.settings_in_force import SettingsInForce
from prioritizer.daemon.startup_checks import working_syntaxes
from prioritizer.daemon.worker import WorkerThread
from prioritizer.daemon.workers import Workers
from prioritizer.db.processing import daemon_start
from prioritizer.db.schema import connect
from prioritizer.dicom.read import sandboxed
from prioritizer.dicom.spool.spool import Spool
from prioritizer.dicom.standard.contexts import SYNTAX_BY_UID
from prioritizer.errors import ConfigError, ModelError
from prioritizer.inference.bundle import Bundle, open_bundle
from prioritizer.inference.sandbox import Sandbox
from prioritizer.inference.worker import EngineProcess
from prioritizer.web.app import page_app
from prioritizer.web.server import WebServer

log = logging.getLogger(__name__)
RECYCLE_DECODERS_AFTER = 500
"""Images one sandboxed process reads before it is replaced: native codecs leak."""


class Daemon:
    """Every running part. `settings` is the configuration, replaced as a whole when it is reloaded."""

    def __init__(
        self, settings: Settings, config_file: Path | None, *, fault: ConfigError | None = None, listener: ListenerProcess | None = None
    ) -> None:
        """`fault`: of the configuration that these settings stand in for. `listener`: one that runs already."""
        self.settings, self.config_file, self.fault = settings, config_file, fault
        self.name = f"{socket.gethostname()}:{os.getpid()}"
        self.engine: sa.Engine = connect.open_ledger(settings.database_url)
        self.in_force = SettingsInForce(self.engine, lambda: self.settings)
        self.spool = Spool(settings.spool_folder)
        self.sandbox: Sandbox
        self.listener = listener or ListenerProcess(listener_settings(settings, tuple(SYNTAX_BY_UID)))
        self.bundle: Bundle | None = None
        self.scorer: EngineProcess | None = None
        self.ai_off = "starting"
        self.ai_off_since: datetime = utc_now()
        # Plain values, written by signal handlers: a handler that sets an Event which the same thread waits for may wait for its lock.
        self.stopping = False
        self._reload_wanted = False
        self._owed = Owed()
        self._paying = WorkerThread("owed", self._owed.step, idle_s=2.0, on_model_error=self.turn_ai_off)
        self.ledger = LedgerTakeover(self, self._owed)
        self.workers = Workers(self, self.ledger, self._paying)
        self.ledger.on_taken = self.workers.wake
        self.notifier = sdnotify.SystemdNotifier()

    def run(self) -> None:
        """Run until SIGTERM or SIGINT."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._on_signal)
        self.listener.on_arrival = self.workers.arrived
        self.listener.start()
        self.ledger.start()
        model = self.settings.model
        memory = model.decode_memory_mib << 20
        self.sandbox = Sandbox(model.decode_workers, memory_bytes=memory, recycle_after=RECYCLE_DECODERS_AFTER, prepare=sandboxed.warm_up)
        # The engine compiles while images may arrive already: they wait in the spool.
        proving = threading.Thread(target=self._start_model, name="proving")
        proving.start()
        if (working := working_syntaxes(self.sandbox)) is not None:
            self.listener.restart(listener_settings(self.settings, working))
        proving.join()
        self.ledger.await_database()
        self._start_workers()
        self._start_page()
        self._start_jobs()
        self._await_listener()
        self._announce_ready()
        while not self.stopping:
            time.sleep(0.5)
            if self._reload_wanted:
                self._reload_wanted = False
                self.reload()
        self.drain()

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            self._reload_wanted = True
        else:
            self.stopping = True

    def _start_model(self) -> None:
        model = self.settings.model
        if self.fault is not None:
            self.turn_ai_off(ModelError(f"the configuration has faults: {self.fault}", "Mend the file and restart"))
            return
        try:
            self.bundle = open_bundle(model.bundle)
            self.scorer = EngineProcess(self.bundle.folder, precision=model.precision, threads=model.threads)
            self.ai_off = ""
            log.info("bundle %s %s proved on %s", self.bundle.name, self.bundle.digest[:12], self.scorer.name, extra={"event": "ai-on"})
        except ModelError as error:
            self.turn_ai_off(error)

    def _start_workers(self) -> None:
        self.workers.build()
        self.ledger.owe()
        self.workers.start()
        self.ledger.await_taken()

    def _start_page(self) -> None:
        web = self.settings.web
        backend = PageBackend(self, self.listener, self.workers)
        self.web = WebServer(page_app(backend), web.host, web.port, web.tls_certificate, web.tls_key)
        self.web.start()
        invite_the_first(self, lambda: self.web.port)

    def _start_jobs(self) -> None:
        self.jobs = ScheduledJobs(
            self.engine, self.spool, lambda: self.settings, self, self.policy, self._parts, lambda: not self.ledger.fault
        )
        self.scheduler = BackgroundScheduler(timezone="UTC")
        for job, seconds in [*self.jobs.jobs(self.ledger.heartbeat), (self.listener.look, 5)]:
            self.scheduler.add_job(job, "interval", seconds=seconds, max_instances=1, coalesce=True, next_run_time=utc_now())
        self.scheduler.start()

    def _await_listener(self) -> None:
        while not self.listener.listening.wait(0.1):
            if self.listener.fault:
                self.drain()
                raise ConfigError((f"listener: {self.listener.fault}",))
            if self.stopping:
                return

    def _announce_ready(self) -> None:
        if self.fault is None:
            last_good.remember(self.settings)
        state = f"AI is off: {self.ai_off}" if self.ai_off else f"scoring with {self.bundle.name if self.bundle else '?'}"
        self.notifier.notify(f"READY=1\nSTATUS=port {self.listener.port}, {state}")
        dicom = f"DICOM {self.settings.listener.ae_title} port {self.listener.port}"
        page = f"page http://{self.settings.web.host}:{self.web.port}/"
        log.info("ready: %s, %s, stage %s, %s", dicom, page, self.in_force().site.stage, state, extra={"event": "ready"})

    def policy(self) -> SitePolicy:
        """The site's ranking rules now; without AI nothing is moved up."""
        return policy_of(self.settings, None if self.ai_off else self.bundle)

    def turn_ai_off(self, error: ModelError) -> None:
        """No more scores: the list is STAT and order of arrival, and every page says why."""
        if not self.ai_off or self.ai_off == "starting":
            self.ai_off_since = utc_now()
        self.ai_off = str(error)
        log.error("AI is off: %s", error, extra={"event": "ai-off"})
        self._apply("AI is off")

    def _apply(self, why: str, actor: str = "prioritizer") -> None:
        """Everything that runs goes by the settings, and by what AI is allowed, of now; what cannot be done at once is owed.

        The one way at start, reload and "AI off": it never fails.
        """
        self.workers.apply(self.settings, self.policy())
        self.listener.tell_peers(peer_rules(self.settings))
        self._owed.owe("placing every study by the settings of now", lambda: self._rerank(why, actor))
        self._paying.wake()

    def _rerank(self, why: str, actor: str) -> None:
        """Every unread study by what holds now; the taking over of the ledger does the same."""
        if self.ledger.fault:
            return
        moved = daemon_start.rerank_open(self.engine, self.policy(), why, utc_now(), actor=actor)
        report_override(self)
        log.info("%s: %s studies moved", why, moved, extra={"event": "reranked"})

    def _parts(self) -> Parts:
        """What the running parts report of themselves, for the alarms."""
        failing = {one.name: one.failures for one in self.workers.threads if one.failures}
        return Parts(failing=failing, restarts=self.listener.restarts, owed=self._owed.names)

    def ready(self) -> list[str]:
        """What stands in the way of full service; empty when nothing does."""
        faults = list(readiness.of_listener(self.listener))
        if self.ai_off:
            faults.append(f"AI is off: {self.ai_off}")
        if self.ledger.fault:
            faults.append(self.ledger.fault)
        elif not connect.answers(self.engine):
            faults.append("the database does not answer: intake goes on, the list catches up")
        faults += self.workers.hanging()
        if hasattr(self, "jobs"):
            faults += readiness.of_jobs(self.jobs)
        return faults + list(readiness.of_spool(self.spool, self.settings))

    def pat_watchdog(self) -> None:
        """Tell systemd that the listener is heard and that every worker ends its turns; one that hangs is ended with the daemon."""
        if self.listener.alive and self.workers.are_alive():
            self.notifier.notify("WATCHDOG=1")

    def reload(self) -> None:
        """Take up what of the changed configuration can be taken up; a faulty one leaves the old one running."""
        self.notifier.notify("RELOADING=1")
        try:
            new = read_settings(self.config_file)
        except ConfigError as error:
            log.error("the configuration was not reloaded, the old one runs on:\n%s", error, extra={"event": "reload-failed"})
            self.notifier.notify("READY=1\nSTATUS=configuration not reloaded: it has faults")
            return
        self.settings, later = taken_up(self.settings, new)
        self._apply("the configuration was reloaded", actor="configuration")
        wants = f"; needs a restart: {', '.join(later)}" if later else ""
        log.info("configuration reloaded%s", wants, extra={"event": "reloaded"})
        self.notifier.notify(f"READY=1\nSTATUS=configuration reloaded{wants}")

    def drain(self) -> None:
        """Stop the workers after the step under way, then the rest, the listener last; seconds, not minutes."""
        self.notifier.notify("STOPPING=1")
        log.info("draining", extra={"event": "draining"})
        self.workers.stop()
        if hasattr(self, "scheduler"):
            self.scheduler.shutdown(wait=False)
        if hasattr(self, "web"):
            self.web.stop()
        if self.scorer is not None:
            self.scorer.close()
        self.sandbox.close()
        self.listener.stop()
        self.ledger.leave()
        self.engine.dispose()
        log.info("stopped", extra={"event": "stopped"})
