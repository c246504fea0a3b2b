"""What pages ask of the daemon: images, tried files, the bundle's card, and the decisions that need more than the ledger."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from prioritizer.access import Role
from prioritizer.calibration.threshold import ThresholdWish
from prioritizer.clock import utc_now
from prioritizer.config.policy import SitePolicy
from prioritizer.config.settings import Settings
from prioritizer.daemon import dashboard_period, identity_confirmation
from prioritizer.daemon.listener_process import ListenerProcess
from prioritizer.daemon.metrics import LedgerCollector, exposition
from prioritizer.daemon.page_images import PageImages
from prioritizer.daemon.running import Running
from prioritizer.daemon.workers import Workers
from prioritizer.db.accounts import people
from prioritizer.db.decisions import calibrations
from prioritizer.db.in_force import local_calibration
from prioritizer.dicom import conformance
from prioritizer.errors import Transient
from prioritizer.file_scoring.upload import AT_ONCE, FileTrial, trial_room
from prioritizer.inference import bundle_card
from prioritizer.ranking.deadlines import Stage
from prioritizer.recalibration import threshold_proposal
from prioritizer.selfcheck import doctor
from prioritizer.selfcheck.check import Proof
from prioritizer.simulation import settings_effect
from prioritizer.web.http.backend import SpoolState, WorkerState

log = logging.getLogger(__name__)


class PageBackend:
    """The daemon as pages and API see it; `web.http.backend.Backend` says what they ask."""

    def __init__(self, daemon: Running, listener: ListenerProcess, workers: Workers) -> None:
        self._daemon, self._workers = daemon, workers
        self.engine = daemon.engine
        self.operation = OperationNow(daemon, listener, workers)
        self.decisions = DecisionsHere(daemon)
        self._trial_room = trial_room(daemon.settings)
        self._trial_turn = threading.Semaphore(AT_ONCE)

    def settings(self) -> Settings:
        """What is in force: the configuration with the active settings override over it."""
        return self._daemon.in_force()

    def configured(self) -> Settings:
        """The configuration alone."""
        return self._daemon.settings

    def policy(self) -> SitePolicy:
        """The site's policy now."""
        return self._daemon.policy()

    def now(self) -> datetime:
        """This moment, UTC."""
        return utc_now()

    def images(self) -> PageImages | None:
        """Where a page's radiographs and heat maps come from; None without a bundle."""
        bundle = self._daemon.bundle
        if bundle is None:
            return None
        renderer = self._workers.renderer(bundle)
        return PageImages(
            spool=self._daemon.spool, renderer=renderer, scale=bundle.saliency_scale, padded=bundle.preprocessing.resize == "pad"
        )

    def trial(self) -> FileTrial | None:
        """Where files are tried; None while AI is off."""
        daemon = self._daemon
        if daemon.ai_off or daemon.bundle is None or daemon.scorer is None:
            return None
        bundle = daemon.bundle
        return FileTrial(
            bundle=bundle,
            network=daemon.scorer,
            sandbox=daemon.sandbox,
            settings=lambda: daemon.settings,
            calibration=lambda: calibrations.applying(daemon.engine, daemon.policy()).calibration or bundle.calibration,
            local=lambda: local_calibration.local(daemon.engine, daemon.policy()),
            folder=self._trial_room,
            turn=self._trial_turn,
        )


class OperationNow:
    """How the daemon is, for its pages and its metrics."""

    def __init__(self, daemon: Running, listener: ListenerProcess, workers: Workers) -> None:
        self._daemon, self._listener, self._workers = daemon, listener, workers
        self._collector = LedgerCollector(daemon.engine, lambda: listener.counters, lambda: not daemon.ai_off, self._shows_ai, self.spool)

    def ai_off(self) -> tuple[str, datetime]:
        """Why AI is off, empty while it is on, and since when."""
        return self._daemon.ai_off, self._daemon.ai_off_since

    def listening(self) -> bool:
        """The listener answers."""
        return self._listener.alive

    def faults(self) -> list[str]:
        """What stands in the way of full service."""
        return self._daemon.ready()

    def workers(self) -> list[WorkerState]:
        """Every worker thread."""
        return [WorkerState(name=one.name, last_turn=one.last_turn, failures=one.failures) for one in self._workers.threads]

    def spool(self) -> SpoolState:
        """The spool's disk and inbox now."""
        spool = self._daemon.spool
        waiting = spool.waiting()
        return SpoolState(
            free_bytes=spool.free_bytes(),
            free_share=spool.free_fraction(),
            inbox=len(waiting),
            oldest=datetime.fromtimestamp(waiting[0][0] / 1e9, UTC) if waiting else None,
        )

    def card(self) -> dict[str, Any]:
        """What the bundle states of itself, and which calibration applies; empty without one."""
        daemon = self._daemon
        if daemon.bundle is None:
            return {}
        applies = calibrations.applying(daemon.engine, daemon.policy()).calibration
        return {**bundle_card.described(daemon.bundle), "calibration": applies.id if applies else ""}

    def metrics(self) -> bytes:
        """Prometheus text."""
        return exposition(self._collector)

    def dashboard(self, period: str) -> tuple[datetime, dict[str, Any]]:
        """The dashboard of a period, and when it was computed."""
        daemon = self._daemon
        return dashboard_period.dashboard_of(daemon.engine, daemon.settings, daemon.policy().bundle_digest, period, utc_now())

    def conformance(self) -> str:
        """The DICOM conformance statement, Markdown."""
        return conformance.statement()

    def examine(self, name: str, send: bool) -> list[Proof]:
        """Walk the way to a destination, or with any other name to our own listener; `send` stores a phantom there."""
        settings = self._daemon.settings
        found = next((one for one in settings.destinations if one.name == name), None)
        ours = settings.listener.ae_title
        return list(doctor.walk(doctor.destination_chain(found, ours, send=send) if found else doctor.listener_chain(settings, send=send)))

    def _shows_ai(self) -> bool:
        return self._daemon.in_force().site.stage is not Stage.SHADOW


class DecisionsHere:
    """What a person decides on a page that takes more than the ledger."""

    def __init__(self, daemon: Running) -> None:
        self._daemon = daemon
        self.simulate = settings_effect.Remembered(daemon.engine, lambda: daemon.settings, utc_now)
        self._threshold_turn = threading.Lock()

    def settings_changed(self) -> None:
        """A settings override was decided on this page: the settings are read again."""
        self._daemon.in_force.forget()

    def propose_threshold(self, wish: ThresholdWish, by: str, activation: int) -> str:
        """A candidate with another threshold; one is made at a time, for each is simulated."""
        daemon = self._daemon
        with self._threshold_turn:
            return threshold_proposal.propose(daemon.engine, daemon.settings, wish, by, utc_now(), expected=activation).id

    def settle_identity(self, study_uid: str, take: bool, who: str, shown: str) -> str:
        """A person's decision on whose study it is."""
        daemon = self._daemon
        policy = daemon.policy()
        return identity_confirmation.settle(daemon.engine, daemon.spool, study_uid, take=take, who=who, policy=policy, shown=shown)


def invite_the_first(daemon: Running, port: Callable[[], int]) -> None:
    """While there is no administrator, every start prints a new one-time link for the first administrator; the earlier one ends."""
    web = daemon.settings.web
    if web.auth != "local":
        return
    try:
        if people.has_administrator(daemon.engine):
            return
        secret = people.invite(daemon.engine, "", Role.ADMIN, "prioritizer", utc_now())
    except Transient:
        return
    scheme = "https" if web.tls_certificate else "http"
    link = f"{scheme}://{web.host}:{port()}/welcome/{secret}"
    log.warning("no administrator can sign in yet: open %s within 24 hours, it works once", link, extra={"event": "first-link"})
