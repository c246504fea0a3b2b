"""All workers of the daemon: built from the configuration, started, given new settings, stopped."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from pathlib import Path

from prioritizer import __version__
from prioritizer.config.policy import SitePolicy
from prioritizer.config.settings import Settings
from prioritizer.daemon.deliver import DeliverWorker
from prioritizer.daemon.ledger_takeover import LedgerTakeover
from prioritizer.daemon.publish import PublishWorker
from prioritizer.daemon.receive import ReceiveWorker
from prioritizer.daemon.rendering import SandboxedRenderer
from prioritizer.daemon.running import Running
from prioritizer.daemon.score import Deaths, ScoreWorker
from prioritizer.daemon.startup_checks import sandbox_reads
from prioritizer.daemon.worker import WorkerThread
from prioritizer.dicom.read import sandboxed
from prioritizer.dicom.scu.destination import Destination
from prioritizer.dicom.scu.sender import Sender
from prioritizer.inference.bundle import Bundle

MAX_TURN_S = 300.0
"""Seconds until a worker that ends no turn hangs: the longest is a destination that takes a connection and never answers."""


class Workers:
    """The threads, and what each of them does."""

    def __init__(self, daemon: Running, ledger: LedgerTakeover, owed: WorkerThread) -> None:
        """`owed`: the thread that does what could not be done when it was due."""
        self._daemon, self._ledger, self._owed = daemon, ledger, owed
        self.threads: list[WorkerThread] = []
        self.works: list[ReceiveWorker | ScoreWorker | PublishWorker] = []
        """What goes by settings and policy, and is given new ones when they change."""
        self._senders: list[Sender] = []

    def build(self) -> None:
        """Every worker that the configuration and the bundle ask for."""
        daemon = self._daemon
        receive = ReceiveWorker(engine=daemon.engine, spool=daemon.spool, policy=daemon.policy(), same_pixels=self._same_pixels)
        self.works.append(receive)
        scoring = self._scoring()

        def wake_scoring() -> None:
            for thread in scoring:
                thread.wake()

        receive.entered = wake_scoring
        self._add("receive", receive.step, idle_s=0.25)
        self.threads += scoring
        if daemon.bundle is not None:
            self._add("publish", self._publisher(daemon.bundle).step, idle_s=0.5)
        self._deliverers()
        self.threads.append(self._owed)

    def _add(self, name: str, step: Callable[[], bool], *, idle_s: float) -> None:
        self.threads.append(WorkerThread(name, self._ledger.when_ours(step), idle_s=idle_s, on_model_error=self._daemon.turn_ai_off))

    def _scoring(self) -> list[WorkerThread]:
        daemon = self._daemon
        if daemon.bundle is None or daemon.scorer is None:
            return []
        found, deaths = [], Deaths()
        for number in range(daemon.settings.model.decode_workers):
            work = ScoreWorker(
                engine=daemon.engine,
                spool=daemon.spool,
                bundle=daemon.bundle,
                renderer=self.renderer(daemon.bundle),
                scorer=daemon.scorer,
                settings=daemon.settings,
                policy=daemon.policy(),
                worker=f"{daemon.name}:score:{number}",
                deaths=deaths,
                reads_others=lambda: sandbox_reads(daemon.sandbox),
            )
            self.works.append(work)
            step = self._ledger.when_ours(self._while_ai_is_on(work.step))
            found.append(WorkerThread(f"score-{number}", step, idle_s=1.0, on_model_error=daemon.turn_ai_off))
        return found

    def _while_ai_is_on(self, step: Callable[[], bool]) -> Callable[[], bool]:
        return lambda: not self._daemon.ai_off and step()

    def _publisher(self, bundle: Bundle) -> PublishWorker:
        daemon = self._daemon
        work = PublishWorker(
            engine=daemon.engine,
            spool=daemon.spool,
            bundle=bundle,
            renderer=self.renderer(bundle),
            settings=daemon.settings,
            software_version=__version__,
            worker=f"{daemon.name}:publish",
            rng=random.Random(),
        )
        self.works.append(work)
        return work

    def _deliverers(self) -> None:
        daemon = self._daemon
        for destination in daemon.settings.destinations:
            self._senders.append(Sender())
            work = DeliverWorker(
                engine=daemon.engine,
                sender=self._senders[-1],
                destination=Destination(
                    name=destination.name,
                    ae_title=destination.ae_title,
                    host=destination.host,
                    port=destination.port,
                    calling_ae=destination.calling_ae_title or daemon.settings.listener.ae_title,
                ),
                worker=f"{daemon.name}:send:{destination.name}",
                rng=random.Random(),
            )
            self._add(f"deliver-{destination.name}", work.step, idle_s=1.0)

    def renderer(self, bundle: Bundle) -> SandboxedRenderer:
        """Where pixels become pictures, in the sandbox."""
        return SandboxedRenderer(self._daemon.sandbox, self._daemon.settings.model.decode_timeout_s, bundle.preprocessing)

    def _same_pixels(self, one: Path, other: Path) -> bool:
        """Whether two files hold the same image: decoded where a hostile one can do no harm."""
        return self._daemon.sandbox.run(sandboxed.same_pixels, self._daemon.settings.model.decode_timeout_s * 2, one, other)

    def apply(self, settings: Settings, policy: SitePolicy) -> None:
        """From its next step on every worker goes by these."""
        for work in self.works:
            for name, value in (("settings", settings), ("policy", policy)):
                if hasattr(work, name):
                    setattr(work, name, value)

    def start(self) -> None:
        """All threads begin."""
        for thread in self.threads:
            thread.start()

    def arrived(self) -> None:
        """An instance lies in the inbox."""
        for thread in self.threads[:1]:
            thread.wake()

    def wake(self) -> None:
        """There may be work for every one."""
        for thread in self.threads:
            thread.wake()

    def hanging(self) -> list[str]:
        """Those that have ended no turn for too long, each in a sentence."""
        return [f"worker {one.name} has ended no turn for {one.still_s:.0f} s" for one in self.threads if one.still_s > MAX_TURN_S]

    def are_alive(self) -> bool:
        """True while every one ends its turns."""
        return all(thread.still_s <= MAX_TURN_S and thread.is_alive() for thread in self.threads)

    def stop(self) -> None:
        """End each after the step under way, then release the associations with the destinations; seconds, not minutes."""
        for thread in self.threads:
            thread.stop()
        for thread in self.threads:
            thread.join(timeout=5)
        self._hang_up()

    def _hang_up(self) -> None:
        """Politely but not for long: one may not be answering."""
        threads = [threading.Thread(target=sender.close, daemon=True) for sender in self._senders]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=3)
