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
from prioritizer.config.policy import quiet_of
from prioritizer.daemon import dashboard_period, identity_confirmation
from prioritizer.daemon.listener_process import ListenerProcess
from prioritizer.daemon.metrics import LedgerCollector, exposition
from prioritizer.daemon.page_images import Lightbox
from prioritizer.daemon.running import Running
from prioritizer.daemon.workers import Workers
from prioritizer.db.accounts import people
from prioritizer.db.decisions import calibrations
from prioritizer.db.in_force import local_calibration
from prioritizer.dicom import conformance
from prioritizer.errors import Transient
from prioritizer.file_scoring.upload import AT_ONCE, Trial, trial_room
from prioritizer.inference import bundle_card
from prioritizer.ranking.deadlines import Stage
from prioritizer.recalibration import threshold_proposal
from prioritizer.selfcheck import doctor
from prioritizer.simulation import settings_effect
from prioritizer.web.http.context import Page, Proved, SpoolRoom

log = logging.getLogger(__name__)


class PageBackend:
    """The daemon as the page sees it."""

    def __init__(self, daemon: Running, listener: ListenerProcess, workers: Workers) -> None:
        self._daemon, self._listener, self._workers = daemon, listener, workers
        self._trial_room = trial_room(daemon.settings)
        self._trial_turn = threading.Semaphore(AT_ONCE)
        self._threshold_turn = threading.Lock()

    def page(self) -> Page:
        """Everything that a page is given."""
        daemon, now = self._daemon, utc_now
        collector = LedgerCollector(daemon.engine, lambda: self._listener.counters, lambda: not daemon.ai_off, self.marks, self.spool_room)
        return Page(
            engine=daemon.engine,
            settings=daemon.in_force,
            configured=lambda: daemon.settings,
            rules_changed=daemon.in_force.forget,
            propose_threshold=self.propose_threshold,
            simulated=settings_effect.Remembered(daemon.engine, lambda: daemon.settings, now),
            metrics=lambda: exposition(collector),
            ai_off=lambda: (daemon.ai_off, daemon.ai_off_since),
            listening=lambda: self._listener.alive,
            ready=daemon.ready,
            now=now,
            policy=daemon.policy,
            pictures=self.images,
            trying=self.trial,
            settle_identity=self.settle_identity,
            quiet=lambda: quiet_of(daemon.settings),
            stations=lambda: [(one.name, one.last_turn, one.failures) for one in self._workers.threads],
            room=self.spool_room,
            card=self.card,
            conformance=conformance.statement,
            examine=self.examine,
            board=lambda name: dashboard_period.told(daemon.engine, daemon.settings, daemon.policy().bundle_digest, name, now()),
            scale=lambda: daemon.bundle.saliency_scale if daemon.bundle else 1.0,
        )

    def images(self) -> Lightbox | None:
        """Where a page's radiographs and heat maps come from; None without a bundle."""
        bundle = self._daemon.bundle
        if bundle is None:
            return None
        renderer = self._workers.renderer(bundle)
        return Lightbox(
            spool=self._daemon.spool, darkroom=renderer, scale=bundle.saliency_scale, padded=bundle.preprocessing.resize == "pad"
        )

    def trial(self) -> Trial | None:
        """Where files are tried; none while AI is off."""
        daemon = self._daemon
        if daemon.ai_off or daemon.bundle is None or daemon.scorer is None:
            return None
        bundle = daemon.bundle
        return Trial(
            bundle=bundle,
            network=daemon.scorer,
            sandbox=daemon.sandbox,
            settings=lambda: daemon.settings,
            calibration=lambda: calibrations.applying(daemon.engine, daemon.policy()).calibration or bundle.calibration,
            local=lambda: local_calibration.local(daemon.engine, daemon.policy()),
            folder=self._trial_room,
            turn=self._trial_turn,
        )

    def card(self) -> dict[str, Any]:
        """What the bundle says of itself, and which calibration applies."""
        daemon = self._daemon
        if daemon.bundle is None:
            return {}
        applies = calibrations.applying(daemon.engine, daemon.policy()).calibration
        return {**bundle_card.told(daemon.bundle), "calibration": applies.id if applies else ""}

    def propose_threshold(self, wish: ThresholdWish, by: str, activation: int) -> str:
        """A candidate with another threshold; one is made at a time, for each is simulated."""
        daemon = self._daemon
        with self._threshold_turn:
            return threshold_proposal.propose(daemon.engine, daemon.settings, wish, by, utc_now(), expected=activation).id

    def settle_identity(self, study_uid: str, take: bool, who: str, shown: str) -> str:
        """A person's word on whose study it is."""
        daemon = self._daemon
        policy, quiet = daemon.policy(), quiet_of(daemon.settings)
        return identity_confirmation.settle(
            daemon.engine, daemon.spool, study_uid, take=take, who=who, policy=policy, quiet=quiet, shown=shown
        )

    def examine(self, name: str, send: bool) -> list[Proved]:
        """Walk the way to a destination, or with any other name to our own listener."""
        settings = self._daemon.settings
        found = next((one for one in settings.destinations if one.name == name), None)
        ours = settings.listener.ae_title
        return list(doctor.walk(doctor.destination_chain(found, ours, send=send) if found else doctor.listener_chain(settings, send=send)))

    def spool_room(self) -> SpoolRoom:
        """The spool's disk and inbox, for the page."""
        spool = self._daemon.spool
        waiting = spool.waiting()
        return SpoolRoom(
            free_bytes=spool.free_bytes(),
            free_share=spool.free_fraction(),
            inbox=len(waiting),
            oldest=datetime.fromtimestamp(waiting[0][0] / 1e9, UTC) if waiting else None,
        )

    def marks(self) -> bool:
        """Whether studies that are moved up may be shown as such."""
        return self._daemon.in_force().site.stage is not Stage.SHADOW


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
