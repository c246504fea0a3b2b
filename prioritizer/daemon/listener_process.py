"""The listener process as the daemon holds it: started, told its peers, restarted when it dies."""

from __future__ import annotations

import json
import logging
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from prioritizer.config.settings import Settings
from prioritizer.dicom.scp.listener import ListenerSettings, PeerRule, spawn_environment

log = logging.getLogger(__name__)

MEBIBYTE = 1 << 20
IGNORABLE = {
    "sc": ("sc",),
    "gsps": ("gsps",),
    "kos": ("kos",),
    "pdf": ("pdf",),
    "sr": ("sr-basic", "sr-enhanced", "sr-comprehensive", "sr-dose"),
}


def peer_rules(settings: Settings) -> tuple[PeerRule, ...]:
    """The peers as the listener knows them."""
    return tuple(PeerRule(ae_title=peer.ae_title, host=peer.host) for peer in settings.peers)


def listener_settings(settings: Settings, decodable: tuple[str, ...]) -> ListenerSettings:
    """What the listener process is told of the configuration."""
    listener = settings.listener
    accepted = set(listener.accept_and_ignore)
    if any(peer.score_secondary_capture for peer in settings.peers):
        accepted.add("sc")
    return ListenerSettings(
        spool=str(settings.spool_folder),
        ae_title=listener.ae_title,
        host=listener.host,
        port=listener.port,
        peers=peer_rules(settings),
        ignorable=tuple(word for name in sorted(accepted) for word in IGNORABLE[name]),
        decodable=decodable,
        max_associations=listener.max_associations,
        max_per_address=listener.max_per_address,
        pdu_size=listener.pdu_size,
        max_message_bytes=listener.max_message_mib * MEBIBYTE,
        request_timeout=listener.request_timeout_s,
        network_timeout=listener.network_timeout_s,
        min_free_bytes=listener.min_free_mib * MEBIBYTE,
        min_free_fraction=listener.min_free_share,
    )


SILENT_S = 20.0
"""Seconds without a word after which the listener hangs: its accept loop reports every few seconds."""
RECENT_S = 3600.0
GAUGES = ("associations", "pending")
"""What the listener tells of this moment; everything else it counts since it was started."""
GIVEN_UP_S = 40.0
"""Seconds without a word after which it is killed and started again."""
FIRST_WAIT_S, MAX_WAIT_S = 1.0, 10.0
"""Seconds until a listener that the machine could not start is tried again, one second longer each time."""


class ListenerProcess:
    """Keeps one listener process running. `on_arrival` is called when something was stored or reported."""

    def __init__(self, settings: ListenerSettings, on_arrival: Callable[[], None] = lambda: None) -> None:
        self._settings, self.on_arrival = settings, on_arrival
        self._stopping = threading.Event()
        self.listening = threading.Event()
        self.port = settings.port
        self.fault = ""
        self._restarted: list[float] = []
        self._ordered: subprocess.Popen[str] | None = None
        """The process that was ordered to end so that another takes its place."""
        self._counted: Counter[str] = Counter()
        """By listener processes that have ended."""
        self._told: dict[str, int] = {}
        self._heard = time.monotonic()
        self._process: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._keep_running, name="listener", daemon=True)

    def start(self) -> None:
        """Start it, unless it was; `listening` is set when its socket answers."""
        if not self._thread.is_alive():
            self._thread.start()

    def tell_peers(self, peers: tuple[PeerRule, ...]) -> None:
        """Replace the peers without ending an association."""
        with self._lock:
            self._settings = ListenerSettings.from_json(
                json.dumps({**json.loads(self._settings.to_json()), "peers": [_as_dict(peer) for peer in peers]})
            )
            process = self._process
        if process is None or process.stdin is None:
            return
        try:
            process.stdin.write(json.dumps({"peers": [_as_dict(peer) for peer in peers]}) + "\n")
            process.stdin.flush()
        except (OSError, ValueError):
            # It is ending or being started again: the next one reads the new peers at its start.
            log.warning("the listener is being started again; it then takes up the new peers", extra={"event": "peers-later"})

    def restart(self, settings: ListenerSettings) -> None:
        """Start again with other settings, once the associations under way have ended."""
        with self._lock:
            self._settings = settings
            self._ordered = process = self._process
        if process is not None:
            process.terminate()

    def stop(self, timeout_s: float = 8.0) -> None:
        """Refuse new associations, let the running ones finish, end the process."""
        self._stopping.set()
        process = self._process
        if process is not None and process.poll() is None:
            process.terminate()
            try:
                process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                process.kill()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    @property
    def alive(self) -> bool:
        """The process runs, has reported that it listens, and reported something just now."""
        running = self._process is not None and self._process.poll() is None
        return self.listening.is_set() and running and self.silent_s < SILENT_S

    @property
    def silent_s(self) -> float:
        """Seconds since it was heard last."""
        return time.monotonic() - self._heard

    @property
    def restarts(self) -> int:
        """How often it ended by itself or hung, and was started again, in the last hour; an ordered restart is none."""
        return sum(at > time.monotonic() - RECENT_S for at in self._restarted)

    @property
    def counters(self) -> dict[str, int]:
        """What the listener has counted since `serve` was started, over all its processes, and its gauges of this moment."""
        told = {**dict.fromkeys(self._counted, 0), **self._told}
        return {name: number if name in GAUGES else number + self._counted[name] for name, number in told.items()}

    def look(self) -> None:
        """End a listener that hangs; the next one is started in its place. What it had acknowledged is in the spool."""
        process = self._process
        if process is None or process.poll() is not None or self.silent_s < GIVEN_UP_S:
            return
        log.error("the listener was not heard for %.0f s: it is ended and started again", self.silent_s, extra={"event": "listener-hung"})
        process.kill()
        self._heard = time.monotonic()

    def _keep_running(self) -> None:
        wait = FIRST_WAIT_S
        while not self._stopping.is_set():
            started = time.monotonic()
            try:
                process = self._begin()
            except OSError as error:  # no memory, no process, no file left: the machine's fault, which passes
                said, why = "the listener cannot be started (%s); it is tried again in %.0f s", error.strerror or type(error).__name__
                log.error(said, why, wait, extra={"event": "listener-not-started"})
                self._stopping.wait(wait)
                wait = min(MAX_WAIT_S, wait + FIRST_WAIT_S)
                continue
            wait = FIRST_WAIT_S
            self._follow(process)
            self.listening.clear()
            if self._stopping.is_set():
                return
            if self._ended_as_ordered():
                log.info("the listener ended as ordered; starting it with its new settings", extra={"event": "listener-restart-ordered"})
                continue
            self._restarted = [at for at in self._restarted if at > time.monotonic() - RECENT_S] + [time.monotonic()]
            log.error("the listener ended; starting it again", extra={"event": "listener-restart"})
            self._stopping.wait(0.1 if time.monotonic() - started > 10 else 1.0)

    def _ended_as_ordered(self) -> bool:
        """It drained, or was still starting; one that hung instead, and was killed, ended by a fault."""
        process = self._process
        return process is not None and process is self._ordered and process.returncode in (0, -signal.SIGTERM)

    def _begin(self) -> subprocess.Popen[str]:
        """A process with its settings. Raises OSError where the machine starts none now."""
        with self._lock:
            process = subprocess.Popen(
                [sys.executable, "-m", "prioritizer.dicom.scp.listener"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                errors="replace",
                env=spawn_environment(),
            )
            self._process = process
            self._heard = time.monotonic()
            self._count_on()
            settings = self._settings
        assert process.stdin is not None
        with suppress(OSError):  # it ended already
            process.stdin.write(settings.to_json() + "\n")
            process.stdin.flush()
        return process

    def _follow(self, process: subprocess.Popen[str]) -> None:
        """What it tells, until it has ended."""
        assert process.stdin is not None
        assert process.stdout is not None
        for line in process.stdout:
            self._heard = time.monotonic()
            self._hear(line)
        process.wait()
        process.stdin.close()
        process.stdout.close()

    def _count_on(self) -> None:
        """A new process counts from nothing: what the one before counted is kept, and its last moment forgotten."""
        told, self._told = self._told, {}
        self._counted.update({name: number for name, number in told.items() if name not in GAUGES})

    def _hear(self, line: str) -> None:
        try:
            told = json.loads(line)
        except ValueError:
            return
        match told.get("event"):
            case "listening":
                self.port, self.fault = int(told["port"]), ""
                self.listening.set()
                log.info("listening on port %s", self.port, extra={"event": "listening"})
            case "fault":
                self.fault = str(told.get("reason", ""))
                log.error("listener: %s", self.fault, extra={"event": "listener-fault"})
            case "counters":
                self._told = {name: number for name, number in told.items() if type(number) is int}
            case "stored" | "notice":
                self.on_arrival()


def _as_dict(peer: PeerRule) -> dict[str, Any]:
    return {"ae_title": peer.ae_title, "host": peer.host}
