"""The ledger is brought to this version and taken over; until then, and while another daemon serves it, no worker touches it."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress

import sqlalchemy as sa

from prioritizer.clock import utc_now
from prioritizer.daemon import settings_in_force
from prioritizer.daemon.owed_work import Owed
from prioritizer.daemon.running import Running
from prioritizer.db.activity import daemons
from prioritizer.db.decisions import calibrations
from prioritizer.db.in_force.settings import holding
from prioritizer.db.processing import daemon_start, housekeeping
from prioritizer.db.schema import clock_steps, migrations
from prioritizer.errors import CalibrationChanged, Transient

log = logging.getLogger(__name__)
MAX_PREPARING_S = 60.0
"""A start waits for so long for the database to be brought to this version; after that page and alarms come up without it."""
MAX_TAKEOVER_S = 10.0
TAKING_OVER = "taking over the ledger"


class LedgerTakeover:
    """Whether the ledger is this daemon's to write in, and the way there."""

    def __init__(self, daemon: Running, owed: Owed) -> None:
        self._daemon, self._owed = daemon, owed
        self.on_taken: Callable[[], None] = lambda: None
        """Called when the ledger has become this daemon's."""
        self.fault = "not taken over yet"
        """Why no worker touches the ledger now; empty where all may."""
        self._preparing = threading.Thread(target=self._prepare, name="preparing", daemon=True)

    def start(self) -> None:
        """Bring it to this version as early as may be: the verbs wait for it."""
        self._preparing.start()

    def _prepare(self) -> None:
        """What stands in the way is reported, and tried again, when the ledger is taken over."""
        with suppress(Transient):
            migrations.prepare(self._daemon.engine)

    def await_database(self) -> None:
        """A database that takes the connection and never answers holds up neither the page nor an ordered stop."""
        until = time.monotonic() + MAX_PREPARING_S
        while self._preparing.is_alive() and not self._daemon.stopping and time.monotonic() < until:
            self._preparing.join(0.2)

    def owe(self) -> None:
        """It is taken over as soon as it answers."""
        self._owed.owe(TAKING_OVER, self.take_over)

    def await_taken(self) -> None:
        """What starts next begins with the ledger where it can be taken over; a ledger that hangs holds up no page for long."""
        until = time.monotonic() + MAX_TAKEOVER_S
        while self.fault and not self._owed.names and not self._daemon.stopping and time.monotonic() < until:
            time.sleep(0.05)

    def take_over(self) -> None:
        """Bring the ledger to this version, see that nobody else serves it, and place every study by what holds now.

        Until then no worker touches it; intake goes on. Raises Transient with what stands in the way, to be tried again.
        """
        if self._preparing.is_alive():
            self.fault = "the database does not answer while it is brought to this version"
            raise Transient(self.fault)
        engine = self._daemon.engine
        try:
            migrations.prepare(engine)
            another = self._another_serves()
        except Transient as error:
            self.fault = str(error)
            raise
        if another:
            self.fault = another
            raise Transient(another)
        end_claims_of_the_dead(engine)
        policy = self._daemon.policy()
        if again := daemon_start.another_bundle(engine, policy, utc_now()):
            log.warning("another bundle serves: %s open studies are scored again", again, extra={"event": "bundle-changed"})
        clock_steps.hold_to_present(engine, utc_now())
        clock_steps.hold_results_to_present(engine, policy.quiet, utc_now())
        clock_steps.keep_on_the_list(engine, utc_now())
        daemon_start.rerank_open(engine, policy, "prioritizer started", utc_now())
        report_override(self._daemon)
        prove_calibration(self._daemon)
        self.fault = ""
        self.on_taken()

    def _another_serves(self) -> str:
        """Who else serves this ledger, in a sentence; empty where it is this daemon's, which is then written down."""
        daemon = self._daemon
        for other in daemons.serving(daemon.engine):
            if other.worker != daemon.name and is_gone(other.worker):
                daemons.leave(daemon.engine, other.worker)
        digest = daemon.bundle.digest if daemon.bundle is not None else ""
        found = daemons.beat(daemon.engine, daemon.name, digest, str(daemon.settings.spool_folder))
        if found is None:
            return ""
        who = f"{':'.join(found.worker.split(':')[:2])}, bundle {found.bundle_digest[:12] or 'none'}"
        return f"another daemon ({who}) serves this ledger: this one receives, and waits; stop one of them"

    def heartbeat(self) -> None:
        """This daemon serves the ledger. One that stood still so long that another took over receives and waits from now on."""
        if not self.fault and (another := self._another_serves()):
            self.fault = another
            self.owe()
            log.error("%s", another, extra={"event": "ledger-taken"})

    def when_ours(self, step: Callable[[], bool]) -> Callable[[], bool]:
        """A worker's step, done only while the ledger is this daemon's."""
        return lambda: not self.fault and step()

    def leave(self) -> None:
        """Another daemon may serve it from now on."""
        if not self.fault:
            with suppress(Transient):
                daemons.leave(self._daemon.engine, self._daemon.name)


def prove_calibration(daemon: Running) -> None:
    """A calibration that is not the one stored turns AI off before anything is scored with it."""
    applies = calibrations.applying(daemon.engine, daemon.policy())
    if applies.fault:
        daemon.turn_ai_off(CalibrationChanged(applies.fault))
    elif applies.calibration is not None:
        log.info("calibration %s, activation %s", applies.calibration.id, applies.activation, extra={"event": "calibration"})


def report_override(daemon: Running) -> None:
    """A settings override that does not go with this configuration is set aside in every transaction; here it is an alarm."""
    found = holding(daemon.engine, daemon.policy())
    alarm = settings_in_force.alarm_of(found, daemon.settings)
    housekeeping.stand(daemon.engine, (settings_in_force.SET_ASIDE,), [alarm] if alarm else [], utc_now())
    daemon.in_force.forget()
    if alarm:
        log.error("%s. The configuration alone holds", found.fault, extra={"event": "ruling-set-aside"})
    elif found.active is not None:
        log.info("settings override %s lies above the configuration", found.active.id, extra={"event": "ruling"})


def end_claims_of_the_dead(engine: sa.Engine) -> None:
    """What a killed predecessor on this machine was doing is done now, not when its leases run out."""
    gone = [worker for worker in housekeeping.claim_holders(engine) if is_gone(worker)]
    if gone and (ended := housekeeping.end_claims(engine, gone)):
        log.warning("%s claims of a process that is gone were ended", ended, extra={"event": "claims-ended"})


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
