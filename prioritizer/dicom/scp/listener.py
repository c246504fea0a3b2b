"""The listener process: Verification and Storage SCP that spools and returns.

Started as ``python -m prioritizer.dicom.scp.listener``:

    standard input    first line: the settings; later lines {"peers": [...]} replace the peer list; its end means stop
    standard output   one JSON object a line: listening, stored, notice, counters (the heartbeat), fault

It knows sockets and the spool: no database, no model, no web, no DICOM library. See admission.py for who gets in, acceptor.py for
what a connection may cost before that, association.py for an association, store.py for one C-STORE.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType

from prioritizer.dicom.scp.acceptor import Acceptor
from prioritizer.dicom.scp.admission import ListenerSettings, PeerRule, read_peers
from prioritizer.dicom.scp.store import Announcer, CStore
from prioritizer.dicom.spool.intake import SpoolIntake
from prioritizer.errors import ConfigError
from prioritizer.redaction.exceptions import guard_standard_error

__all__ = ["ListenerSettings", "PeerRule", "main", "spawn_environment"]

# Above glibc's default threshold every PDU buffer would be mapped and faulted in again (PERFORMANCE: CPU 34 -> 25 ms an image).
_MALLOC = {"MALLOC_MMAP_THRESHOLD_": "4194304", "MALLOC_TRIM_THRESHOLD_": "16777216", "MALLOC_TOP_PAD_": "1048576"}


def spawn_environment() -> dict[str, str]:
    """The environment to start the listener process in: the caller's, with glibc's allocator set for intake."""
    return {**os.environ, **_MALLOC, "MALLOC_ARENA_MAX": "2"}


def main() -> int:
    """Serve until told to stop; 0 after an orderly end, 2 when the settings or the port cannot be used."""
    announcer = Announcer(sys.stdout.fileno())
    # Standard error is the daemon's journal.
    guard_standard_error(lambda said: print(f"listener: {said}", file=sys.stderr, flush=True))
    try:
        settings = ListenerSettings.from_json(sys.stdin.readline())
        spool = SpoolIntake(Path(settings.spool))
        spool.sync_folders()
        intake = CStore(settings, spool, announcer)
        gate = Acceptor(intake)
        port = gate.open()
        # Only with the port in hand: a second listener started by mistake must not sweep the first one's files away.
        spool.sweep_partials()
    except (ConfigError, OSError) as exc:
        announcer.tell("fault", reason=str(exc)[:2000])
        print(f"listener: {exc}", file=sys.stderr, flush=True)
        return 2
    _stop_on_signals(gate)
    threading.Thread(target=_follow_input, args=(gate, announcer), name="input", daemon=True).start()
    announcer.tell("listening", port=port, pid=os.getpid())
    gate.serve()
    gate.drain()
    intake.close()
    return 0


def _stop_on_signals(gate: Acceptor) -> None:
    def stop(_signal: int, _frame: FrameType | None) -> None:
        gate.stop()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    # The parent reloads us through standard input; a hang-up meant for it must not kill intake.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def _follow_input(gate: Acceptor, announcer: Announcer) -> None:
    """Replace the peer list as told; stop when the parent closes the pipe or dies."""
    for line in sys.stdin:
        try:
            peers = read_peers(json.loads(line)["peers"])
        except (ValueError, TypeError, KeyError, AttributeError) as exc:
            # The old list stays: a mistyped peer must not lock the modalities out.
            announcer.tell("fault", reason=f"peer list not understood: {exc}"[:2000])
            continue
        gate.reload(peers)
        announcer.tell("reloaded", peers=len(peers))
    gate.stop()


if __name__ == "__main__":
    # The input thread may sit in a read that nothing ends; leave without waiting for it.
    code = main()
    sys.stdout.flush()
    os._exit(code)
