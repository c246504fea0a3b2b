"""The daemon: build the parts, prove them ready, run them, drain them.

Order of a start: listener, engine proved, stations, page, READY. The listener is first up and last down, whatever the ledger says:
the ledger is brought to this version and taken over as soon as it answers. A bundle or engine that cannot be trusted does not stop the
daemon: the list is then STAT and order of arrival, and says so.
"""

from __future__ import annotations

import logging
import os
import random
import signal
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

import sdnotify
import sqlalchemy as sa
from apscheduler.schedulers.background import BackgroundScheduler

from prioritizer import __version__
from prioritizer.access import Role
from prioritizer.calibration.threshold import ThresholdWish
from prioritizer.clock import utc_now
from prioritizer.config import last_good
from prioritizer.config.policy import policy_of, quiet_of
from prioritizer.config.settings import Settings, read_settings
from prioritizer.daemon import dashboard_period, identity_confirmation, settings_in_force
from prioritizer.daemon.alarms import Parts
from prioritizer.daemon.listener_process import SILENT_S, ListenerProcess, listener_settings, peer_rules
from prioritizer.daemon.metrics import LedgerCollector, exposition
from prioritizer.daemon.owed_work import Owed
from prioritizer.daemon.page_images import Lightbox
from prioritizer.daemon.rendering import SandboxedDarkroom
from prioritizer.daemon.scheduled_jobs import NO_ANSWER, Chores
from prioritizer.daemon.worker import Deaths, DeliverStation, PublishStation, Receive, ScoreStation, Station
from prioritizer.db.accounts import people
from prioritizer.db.activity import daemons
from prioritizer.db.decisions import calibrations
from prioritizer.db.in_force import local_calibration
from prioritizer.db.in_force.settings import holding
from prioritizer.db.processing import housekeeping, score
from prioritizer.db.schema import clock_steps, connect, migrations
from prioritizer.dicom import conformance
from prioritizer.dicom.read import sandboxed
from prioritizer.dicom.read.codec_selftest import codec_selftest
from prioritizer.dicom.scu.sender import Destination, Sender
from prioritizer.dicom.spool.spool import Spool
from prioritizer.dicom.standard.contexts import SYNTAX_BY_UID
from prioritizer.errors import CalibrationChanged, ConfigError, ModelError, Transient
from prioritizer.file_scoring.upload import AT_ONCE, Trial, trial_room
from prioritizer.inference import bundle_card
from prioritizer.inference.bundle import Bundle, open_bundle
from prioritizer.inference.sandbox import ChildDied, Sandbox
from prioritizer.inference.worker import EngineProcess
from prioritizer.ranking.deadlines import Policy, Stage
from prioritizer.recalibration import threshold_proposal
from prioritizer.selfcheck import doctor
from prioritizer.simulation import settings_effect
from prioritizer.web.app import page_app
from prioritizer.web.http.context import Page, Proved, SpoolRoom
from prioritizer.web.server import WebServer

log = logging.getLogger(__name__)
MAX_PREPARING_S = 60.0
"""A start waits for so long for the database to be brought to this version; after that page and alarms come up without it."""
MAX_TAKEOVER_S = 10.0

RECYCLE_DECODERS_AFTER = 500
"""Images one sandboxed process reads before it is replaced: native codecs leak."""
CODEC_TEST_TIMEOUT_S = 60.0
LONGEST_TURN_S = 300.0
"""Seconds until a worker that ends no turn hangs: the longest is a destination that takes a connection and never answers."""
NEEDS_RESTART = ("site", "store", "model", "web", "log", "listener", "destinations")


class Daemon:
    """Every running part. `settings` is the configuration, replaced as a whole when it is reloaded; `in_force` has the ruling over it."""

    def __init__(
        self, settings: Settings, config_file: Path | None, *, fault: ConfigError | None = None, listener: ListenerProcess | None = None
    ) -> None:
        self.settings, self.config_file, self.fault = settings, config_file, fault
        self.engine: sa.Engine = connect.open_ledger(settings.database_url)
        self.in_force = settings_in_force.InForce(self.engine, lambda: self.settings)
        self.spool = Spool(settings.spool_folder)
        self.listener = listener or ListenerProcess(listener_settings(settings, tuple(SYNTAX_BY_UID)))
        self.bundle: Bundle | None = None
        self.scorer: EngineProcess | None = None
        self.ai_off = "starting"
        self.ai_off_since: datetime = utc_now()
        # Plain values, written by signal handlers: a handler that sets an Event which the same thread waits for may wait for its lock.
        self.stopping = False
        self._reload_wanted = False
        self.stations: list[Station] = []
        self._senders: list[Sender] = []
        self._works: list[Receive | ScoreStation | PublishStation] = []
        self._owed = Owed()
        self._paying = Station("owed", self._owed.step, idle_s=2.0, on_model_error=self.turn_ai_off)
        self._ledger_fault = "not taken over yet"
        """Why no worker touches the ledger now; empty where all may."""
        self._preparing = threading.Thread(target=self._prepare_ledger, name="preparing", daemon=True)
        self._notifier = sdnotify.SystemdNotifier()
        self._trial_room = trial_room(settings)
        self._threshold_turn = threading.Lock()
        self._trial_turn = threading.Semaphore(AT_ONCE)
        self._worker = f"{socket.gethostname()}:{os.getpid()}"

    def run(self) -> None:
        """Run until SIGTERM or SIGINT."""
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, self._on_signal)
        signal.signal(signal.SIGHUP, self._on_signal)
        self.listener.on_arrival = self._arrived
        self.listener.start()
        self._preparing.start()
        memory = self.settings.model.decode_memory_mib << 20
        self.sandbox = Sandbox(
            self.settings.model.decode_workers,
            memory_bytes=memory,
            recycle_after=RECYCLE_DECODERS_AFTER,
            prepare=sandboxed.warm_up,
        )
        # The engine compiles while images may arrive already: they wait in the spool.
        proving = threading.Thread(target=self._start_model, name="proving")
        proving.start()
        self._try_codecs()
        proving.join()
        self._await_database()
        self._start_stations()
        self._start_page()
        self._start_chores()
        self._await_listener()
        self._say_ready()
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

    # --- the ledger --------------------------------------------------------------------------------------------

    def _prepare_ledger(self) -> None:
        """As early as may be: the verbs wait for it. What stands in the way is reported, and tried again, when the ledger is taken over."""
        with suppress(Transient):
            migrations.prepare(self.engine)

    def _await_database(self) -> None:
        """A database that takes the connection and never answers holds up neither the page nor an ordered stop."""
        until = time.monotonic() + MAX_PREPARING_S
        while self._preparing.is_alive() and not self.stopping and time.monotonic() < until:
            self._preparing.join(0.2)

    def _take_over_ledger(self) -> None:
        """Bring the ledger to this version, see that nobody else serves it, and place every study by what holds now.

        Until then no worker touches it; intake goes on. Raises Transient with what stands in the way, to be tried again.
        """
        if self._preparing.is_alive():
            self._ledger_fault = "the database does not answer while it is brought to this version"
            raise Transient(self._ledger_fault)
        try:
            migrations.prepare(self.engine)
            another = self._another_serves()
        except Transient as error:
            self._ledger_fault = str(error)
            raise
        if another:
            self._ledger_fault = another
            raise Transient(another)
        self._end_claims_of_the_dead()
        policy = self._policy()
        if again := score.another_bundle(self.engine, policy, utc_now()):
            log.warning("another bundle serves: %s open studies are scored again", again, extra={"event": "bundle-changed"})
        clock_steps.hold_to_present(self.engine, utc_now())
        clock_steps.hold_results_to_present(self.engine, quiet_of(self.settings), utc_now())
        clock_steps.keep_on_the_list(self.engine, utc_now())
        score.rerank_open(self.engine, policy, "prioritizer started", utc_now())
        self._judge_ruling()
        self._prove_calibration()
        self._ledger_fault = ""
        for station in self.stations:
            station.wake()

    def _another_serves(self) -> str:
        """Who else serves this ledger, in a sentence; empty where it is this daemon's, which is then written down."""
        for other in daemons.serving(self.engine):
            if other.worker != self._worker and is_gone(other.worker):
                daemons.leave(self.engine, other.worker)
        digest = self.bundle.digest if self.bundle is not None else ""
        found = daemons.beat(self.engine, self._worker, digest, str(self.settings.spool_folder))
        if found is None:
            return ""
        who = f"{':'.join(found.worker.split(':')[:2])}, bundle {found.bundle_digest[:12] or 'none'}"
        return f"another daemon ({who}) serves this ledger: this one receives, and waits; stop one of them"

    def _heartbeat(self) -> None:
        """This daemon serves the ledger. One that stood still so long that another took over receives and waits from now on."""
        if not self._ledger_fault and (another := self._another_serves()):
            self._ledger_fault = another
            self._owed.owe("taking over the ledger", self._take_over_ledger)
            log.error("%s", another, extra={"event": "ledger-taken"})

    def _when_ledger_is_ours(self, step: Callable[[], bool]) -> Callable[[], bool]:
        return lambda: not self._ledger_fault and step()

    # --- start -------------------------------------------------------------------------------------------------

    def _try_codecs(self) -> None:
        """A codec that does not work here is found at the start: its transfer syntax is then refused in the association, by name."""
        try:
            found = self.sandbox.run(codec_selftest, CODEC_TEST_TIMEOUT_S)
        except (ChildDied, Transient) as error:
            log.error("the codecs could not be tried (%s): every syntax is accepted", error, extra={"event": "codec-fault"})
            return
        faults = {uid: fault for uid, fault in found.items() if fault}
        for uid, fault in faults.items():
            log.warning("transfer syntax %s is not accepted: %s", uid, fault, extra={"event": "codec-fault"})
        if faults:
            self.listener.restart(listener_settings(self.settings, tuple(uid for uid in found if uid not in faults)))

    def _arrived(self) -> None:
        for station in self.stations[:1]:
            station.wake()

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
        policy, quiet = self._policy(), quiet_of(self.settings)
        for work in self._works:
            for name, value in (("settings", self.settings), ("policy", policy), ("quiet", quiet)):
                if hasattr(work, name):
                    setattr(work, name, value)
        self.listener.tell_peers(peer_rules(self.settings))
        self._owed.owe("placing every study by the settings of now", lambda: self._rerank(why, actor))
        self._paying.wake()

    def _rerank(self, why: str, actor: str) -> None:
        """Every unread study by what holds now; the taking over of the ledger does the same."""
        if self._ledger_fault:
            return
        moved = score.rerank_open(self.engine, self._policy(), why, utc_now(), actor=actor)
        self._judge_ruling()
        log.info("%s: %s studies moved", why, moved, extra={"event": "reranked"})

    def _start_stations(self) -> None:
        policy, quiet = self._policy(), quiet_of(self.settings)
        receive = Receive(engine=self.engine, spool=self.spool, policy=policy, quiet=quiet, same_pixels=self._same_pixels)
        self._works = [receive]
        score_stations = self._score_stations()

        def wake_scoring() -> None:
            for station in score_stations:
                station.wake()

        receive.entered = wake_scoring
        self._add("receive", receive.step, idle_s=0.25)
        self.stations += score_stations
        if self.bundle is not None:
            self._add("publish", self._publisher(self.bundle).step, idle_s=0.5)
        for destination in self.settings.destinations:
            work = DeliverStation(
                engine=self.engine,
                sender=self._sender(),
                destination=Destination(
                    name=destination.name,
                    ae_title=destination.ae_title,
                    host=destination.host,
                    port=destination.port,
                    calling_ae=destination.calling_ae_title or self.settings.listener.ae_title,
                ),
                worker=f"{self._worker}:send:{destination.name}",
                rng=random.Random(),
            )
            self._add(f"deliver-{destination.name}", work.step, idle_s=1.0)
        self._owed.owe("taking over the ledger", self._take_over_ledger)
        self.stations.append(self._paying)
        for station in self.stations:
            station.start()
        self._await_ledger()

    def _await_ledger(self) -> None:
        """What starts next begins with the ledger where it can be taken over; a ledger that hangs holds up no page for long."""
        until = time.monotonic() + MAX_TAKEOVER_S
        while self._ledger_fault and not self._owed.names and not self.stopping and time.monotonic() < until:
            time.sleep(0.05)

    def _same_pixels(self, one: Path, other: Path) -> bool:
        """Whether two files hold the same image: decoded where a hostile one can do no harm."""
        return self.sandbox.run(sandboxed.same_pixels, self.settings.model.decode_timeout_s * 2, one, other)

    def _prove_calibration(self) -> None:
        """A calibration that is not the one stored turns AI off before anything is scored with it."""
        applies = calibrations.applying(self.engine, self._policy())
        if applies.fault:
            self.turn_ai_off(CalibrationChanged(applies.fault))
        elif applies.calibration is not None:
            log.info("calibration %s, activation %s", applies.calibration.id, applies.activation, extra={"event": "calibration"})

    def _judge_ruling(self) -> None:
        """A ruling that does not go with this configuration is set aside in every transaction; here it is said, with who mends it."""
        found = holding(self.engine, self._policy())
        alarm = settings_in_force.alarm_of(found, self.settings)
        housekeeping.stand(self.engine, (settings_in_force.SET_ASIDE,), [alarm] if alarm else [], utc_now())
        self.in_force.forget()
        if alarm:
            log.error("%s. The configuration alone holds", found.fault, extra={"event": "ruling-set-aside"})
        elif found.active is not None:
            log.info("ruling %s lies above the configuration", found.active.id, extra={"event": "ruling"})

    def _sender(self) -> Sender:
        self._senders.append(Sender())
        return self._senders[-1]

    def _end_claims_of_the_dead(self) -> None:
        """What a killed predecessor on this machine was doing is done now, not when its leases run out."""
        gone = [worker for worker in housekeeping.claim_holders(self.engine) if is_gone(worker)]
        if gone and (ended := housekeeping.end_claims(self.engine, gone)):
            log.warning("%s claims of a process that is gone were ended", ended, extra={"event": "claims-ended"})

    def _add(self, name: str, step: Callable[[], bool], *, idle_s: float) -> Station:
        station = Station(name, self._when_ledger_is_ours(step), idle_s=idle_s, on_model_error=self.turn_ai_off)
        self.stations.append(station)
        return station

    def _score_stations(self) -> list[Station]:
        if self.bundle is None or self.scorer is None:
            return []
        found, deaths = [], Deaths()
        for number in range(self.settings.model.decode_workers):
            work = ScoreStation(
                engine=self.engine,
                spool=self.spool,
                bundle=self.bundle,
                darkroom=self._darkroom(self.bundle),
                scorer=self.scorer,
                settings=self.settings,
                policy=policy_of(self.settings, self.bundle),
                quiet=quiet_of(self.settings),
                worker=f"{self._worker}:score:{number}",
                deaths=deaths,
                reads_others=self._sandbox_reads,
            )
            self._works.append(work)
            step = self._while_ai_is_on(work.step)
            found.append(Station(f"score-{number}", step, idle_s=1.0, on_model_error=self.turn_ai_off))
        return found

    def _while_ai_is_on(self, step: Callable[[], bool]) -> Callable[[], bool]:
        return lambda: not self.ai_off and not self._ledger_fault and step()

    def _sandbox_reads(self) -> bool:
        """Whether the sandbox decodes now, tried on images of our own."""
        try:
            self.sandbox.run(codec_selftest, CODEC_TEST_TIMEOUT_S)
        except (ChildDied, Transient):
            return False
        return True

    def _darkroom(self, bundle: Bundle) -> SandboxedDarkroom:
        return SandboxedDarkroom(self.sandbox, self.settings.model.decode_timeout_s, bundle.preprocessing)

    def _lightbox(self) -> Lightbox | None:
        if self.bundle is None:
            return None
        padded = self.bundle.preprocessing.resize == "pad"
        return Lightbox(spool=self.spool, darkroom=self._darkroom(self.bundle), scale=self.bundle.saliency_scale, padded=padded)

    def _trial(self) -> Trial | None:
        """Where files are tried; none while AI is off."""
        if self.ai_off or self.bundle is None or self.scorer is None:
            return None
        bundle = self.bundle
        return Trial(
            bundle=bundle,
            network=self.scorer,
            sandbox=self.sandbox,
            settings=lambda: self.settings,
            calibration=lambda: calibrations.applying(self.engine, self._policy()).calibration or bundle.calibration,
            local=lambda: local_calibration.local(self.engine, self._policy()),
            folder=self._trial_room,
            turn=self._trial_turn,
        )

    def _card(self) -> dict[str, Any]:
        """What the bundle says of itself, and which calibration applies."""
        if self.bundle is None:
            return {}
        applies = calibrations.applying(self.engine, self._policy()).calibration
        return {**bundle_card.told(self.bundle), "calibration": applies.id if applies else ""}

    def _propose_threshold(self, wish: ThresholdWish, by: str, activation: int) -> str:
        """A candidate with another threshold; one is made at a time, for each is simulated."""
        with self._threshold_turn:
            return threshold_proposal.propose(self.engine, self.settings, wish, by, utc_now(), expected=activation).id

    def _settle_identity(self, study_uid: str, take: bool, who: str, shown: str) -> str:
        """A person's word on whose study it is."""
        policy, quiet = self._policy(), quiet_of(self.settings)
        return identity_confirmation.settle(self.engine, self.spool, study_uid, take=take, who=who, policy=policy, quiet=quiet, shown=shown)

    def _examine(self, name: str, send: bool) -> list[Proved]:
        """Walk the way to a destination, or with any other name to our own listener."""
        found = next((one for one in self.settings.destinations if one.name == name), None)
        ours = self.settings.listener.ae_title
        return list(
            doctor.walk(doctor.destination_chain(found, ours, send=send) if found else doctor.listener_chain(self.settings, send=send))
        )

    def _publisher(self, bundle: Bundle) -> PublishStation:
        work = PublishStation(
            engine=self.engine,
            spool=self.spool,
            bundle=bundle,
            darkroom=self._darkroom(bundle),
            settings=self.settings,
            software_version=__version__,
            worker=f"{self._worker}:publish",
            rng=random.Random(),
        )
        self._works.append(work)
        return work

    def _start_page(self) -> None:
        collector = LedgerCollector(self.engine, lambda: self.listener.counters, lambda: not self.ai_off, self._marks, self._room)
        page = Page(
            engine=self.engine,
            settings=self.in_force,
            configured=lambda: self.settings,
            rules_changed=self.in_force.forget,
            propose_threshold=self._propose_threshold,
            simulated=settings_effect.Remembered(self.engine, lambda: self.settings, utc_now),
            metrics=lambda: exposition(collector),
            ai_off=lambda: (self.ai_off, self.ai_off_since),
            listening=lambda: self.listener.alive,
            ready=self.ready,
            now=utc_now,
            policy=self._policy,
            pictures=self._lightbox,
            trying=self._trial,
            settle_identity=self._settle_identity,
            quiet=lambda: quiet_of(self.settings),
            stations=lambda: [(station.name, station.last_turn, station.failures) for station in self.stations],
            room=self._room,
            card=self._card,
            conformance=conformance.statement,
            examine=self._examine,
            board=lambda name: dashboard_period.told(self.engine, self.settings, self._policy().bundle_digest, name, utc_now()),
            scale=lambda: self.bundle.saliency_scale if self.bundle else 1.0,
        )
        web = self.settings.web
        self.web = WebServer(page_app(page), web.host, web.port, web.tls_certificate, web.tls_key)
        self.web.start()
        self._invite_the_first()

    def _invite_the_first(self) -> None:
        """While there is no administrator, every start prints a new one-time link for the first administrator; the earlier one ends."""
        web = self.settings.web
        if web.auth != "local":
            return
        try:
            if people.has_administrator(self.engine):
                return
            secret = people.invite(self.engine, "", Role.ADMIN, "prioritizer", utc_now())
        except Transient:
            return
        scheme = "https" if web.tls_certificate else "http"
        link = f"{scheme}://{web.host}:{self.web.port}/welcome/{secret}"
        log.warning("no administrator can sign in yet: open %s within 24 hours, it works once", link, extra={"event": "first-link"})

    def _start_chores(self) -> None:
        self.chores = Chores(
            self.engine, self.spool, lambda: self.settings, self, self._policy, self._parts, lambda: not self._ledger_fault
        )
        self.scheduler = BackgroundScheduler(timezone="UTC")
        for job, seconds in [*self.chores.jobs(self._heartbeat), (self.listener.look, 5)]:
            self.scheduler.add_job(job, "interval", seconds=seconds, max_instances=1, coalesce=True, next_run_time=utc_now())
        self.scheduler.start()

    def _parts(self) -> Parts:
        """What the running parts report of themselves, for the alarms."""
        return Parts(
            failing={station.name: station.failures for station in self.stations if station.failures},
            restarts=self.listener.restarts,
            owed=self._owed.names,
        )

    def _policy(self) -> Policy:
        """The site's rules now; without AI nothing is raised."""
        return policy_of(self.settings, None if self.ai_off else self.bundle)

    def _room(self) -> SpoolRoom:
        """The spool's disk and inbox, for the page."""
        waiting = self.spool.waiting()
        return SpoolRoom(
            free_bytes=self.spool.free_bytes(),
            free_share=self.spool.free_fraction(),
            inbox=len(waiting),
            oldest=datetime.fromtimestamp(waiting[0][0] / 1e9, UTC) if waiting else None,
        )

    def _marks(self) -> bool:
        return self.in_force().site.stage is not Stage.SHADOW

    def _await_listener(self) -> None:
        while not self.listener.listening.wait(0.1):
            if self.listener.fault:
                self.drain()
                raise ConfigError((f"listener: {self.listener.fault}",))
            if self.stopping:
                return

    def _say_ready(self) -> None:
        if self.fault is None:
            last_good.remember(self.settings)
        state = f"AI is off: {self.ai_off}" if self.ai_off else f"scoring with {self.bundle.name if self.bundle else '?'}"
        self._notifier.notify(f"READY=1\nSTATUS=port {self.listener.port}, {state}")
        log.info(
            "ready: DICOM %s port %s, page http://%s:%s/, stage %s, %s",
            self.settings.listener.ae_title,
            self.listener.port,
            self.settings.web.host,
            self.web.port,
            self.in_force().site.stage,
            state,
            extra={"event": "ready"},
        )

    # --- while running -----------------------------------------------------------------------------------------

    def ready(self) -> list[str]:
        """What stands in the way of full service; empty when nothing does."""
        faults = [] if self.listener.alive else [f"the listener is not running {self.listener.fault}".strip()]
        if self.listener.listening.is_set() and self.listener.silent_s >= SILENT_S:
            faults = [f"the listener was not heard for {self.listener.silent_s:.0f} s: it hangs"]
        if self.ai_off:
            faults.append(f"AI is off: {self.ai_off}")
        if self._ledger_fault:
            faults.append(self._ledger_fault)
        elif not connect.answers(self.engine):
            faults.append("the database does not answer: intake goes on, the list catches up")
        faults += [f"worker {s.name} has ended no turn for {s.still_s:.0f} s" for s in self.stations if s.still_s > LONGEST_TURN_S]
        if hasattr(self, "chores"):
            faults += [f"the job {name} does not end" for name in self.chores.hanging(utc_now())]
            if (kind := self.chores.failing.get("alarms", NO_ANSWER)) != NO_ANSWER:
                faults.append(f"the alarms cannot be judged ({kind}): what stands may not be shown")
        listener = self.settings.listener
        if self.spool.free_bytes() < listener.min_free_mib << 20 or self.spool.free_fraction() < listener.min_free_share:
            faults.append("every C-STORE is refused with 0xA700: the spool's disk is below its watermark")
        return faults

    def pat_watchdog(self) -> None:
        """Tell systemd that the listener is heard and that every worker ends its turns; one that hangs is ended with the daemon."""
        if self.listener.alive and all(station.still_s <= LONGEST_TURN_S and station.is_alive() for station in self.stations):
            self._notifier.notify("WATCHDOG=1")

    def reload(self) -> None:
        """Take up what of the changed configuration can be taken up; a faulty one leaves the old one running."""
        self._notifier.notify("RELOADING=1")
        try:
            new = read_settings(self.config_file)
        except ConfigError as error:
            log.error("the configuration was not reloaded, the old one runs on:\n%s", error, extra={"event": "reload-failed"})
            self._notifier.notify("READY=1\nSTATUS=configuration not reloaded: it has faults")
            return
        later = [name for name in NEEDS_RESTART if getattr(new, name) != getattr(self.settings, name)]
        taken = new.model_copy(update={name: getattr(self.settings, name) for name in later if name != "site"})
        if new.site.name != self.settings.site.name:
            taken = taken.model_copy(update={"site": new.site.model_copy(update={"name": self.settings.site.name})})
        self.settings = taken
        self._apply("the configuration was reloaded", actor="configuration")
        later = [name for name in later if name != "site" or new.site.name != taken.site.name]
        wants = f"; needs a restart: {', '.join(later)}" if later else ""
        log.info("configuration reloaded%s", wants, extra={"event": "reloaded"})
        self._notifier.notify(f"READY=1\nSTATUS=configuration reloaded{wants}")

    def drain(self) -> None:
        """Stop the workers after the step under way, then the rest, the listener last; seconds, not minutes."""
        self._notifier.notify("STOPPING=1")
        log.info("draining", extra={"event": "draining"})
        for station in self.stations:
            station.stop()
        for station in self.stations:
            station.join(timeout=5)
        self._hang_up()
        if hasattr(self, "scheduler"):
            self.scheduler.shutdown(wait=False)
        if hasattr(self, "web"):
            self.web.stop()
        if self.scorer is not None:
            self.scorer.close()
        self.sandbox.close()
        self.listener.stop()
        if not self._ledger_fault:
            with suppress(Transient):
                daemons.leave(self.engine, self._worker)
        self.engine.dispose()
        log.info("stopped", extra={"event": "stopped"})

    def _hang_up(self) -> None:
        """Release the associations with the destinations, politely but not for long: one may not be answering."""
        threads = [threading.Thread(target=sender.close, daemon=True) for sender in self._senders]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=3)


def is_gone(worker: str) -> bool:
    """True when the worker `host:pid:...` ran on this machine and cannot be running now; call before own work begins."""
    host, _, rest = worker.partition(":")
    pid = rest.partition(":")[0]
    if host != socket.gethostname() or not pid.isdecimal():
        return False
    if int(pid) == os.getpid():
        return True
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False
