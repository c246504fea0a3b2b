"""The door: connections wait here, in one thread, until they have sent a whole association request and are admitted.

A connection that says nothing costs a socket and a small buffer, never a thread and never an association. When the waiting
places are full the newcomer gets in and the address that holds most places loses its oldest: a listed modality speaks within
milliseconds, so a crowd of silent connections cannot keep it out.
"""

from __future__ import annotations

import selectors
import socket
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from prioritizer.dicom.scp import association_pdu, refusal_reasons
from prioritizer.dicom.scp.admission import BOTH_TITLES, PeerPolicy, PeerRule, plain_address
from prioritizer.dicom.scp.association import Association
from prioritizer.dicom.scp.association_pdu import AbortReason, AssociationRequest, Rejection
from prioritizer.dicom.scp.store import CStore, Party
from prioritizer.dicom.spool import notices
from prioritizer.dicom.standard import contexts

_BACKLOG: Final = 128
_ACCEPTS_A_TURN: Final = 32
_MAX_READ: Final = 64 * 1024


@dataclass(slots=True, eq=False)
class _Pending:
    """A connection without an association: it still owes its request, or, `closing`, was told no and owes its close."""

    connection: socket.socket
    address: str
    deadline: float
    received: bytearray = field(default_factory=bytearray)
    wanted: int = 6
    closing: bool = False


class Acceptor:
    """Owns the listening socket, the waiting places and the threads of admitted associations."""

    def __init__(self, intake: CStore) -> None:
        self._intake, self._settings = intake, intake.settings
        self._offered = contexts.accepted_contexts(self._settings.decodable, self._settings.ignorable)
        self._peer_policy = PeerPolicy(self._settings.peers)
        self._selector = selectors.DefaultSelector()
        self._pending: dict[_Pending, None] = {}
        self._running: dict[Association, str] = {}
        self._lock = threading.Lock()
        # One byte in this pair stops the loop and every idle association; it is never read, so all of them see it.
        self._stopping, self._stop = socket.socketpair()
        self._listening = socket.socket()

    def open(self) -> int:
        """Bind and listen; returns the port, which matters when port 0 was asked for."""
        family, _, _, _, where = socket.getaddrinfo(
            self._settings.host, self._settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(where)
        listening.listen(_BACKLOG)
        listening.setblocking(False)
        self._listening.close()
        self._selector.register(listening, selectors.EVENT_READ)
        self._selector.register(self._stopping, selectors.EVENT_READ)
        self._listening = listening
        return int(listening.getsockname()[1])

    def reload(self, peers: tuple[PeerRule, ...]) -> None:
        """Admit by these rules from now on; running associations are left in peace."""
        self._peer_policy = PeerPolicy(peers)

    def stop(self) -> None:
        """Make `serve` return; may be called from any thread and from a signal handler."""
        with suppress(OSError):
            self._stop.send(b"x")

    def serve(self) -> None:
        """Admit associations until `stop`; `open` comes first."""
        next_counters = 0.0
        while True:
            if time.monotonic() >= next_counters:
                next_counters = time.monotonic() + self._settings.counters_seconds
                self._intake.tell_counters(associations=len(self._running), pending=len(self._pending))
            for key, _ in self._selector.select(self._patience(next_counters)):
                if key.fileobj is self._stopping:
                    return
                if key.fileobj is self._listening:
                    self._accept()
                elif key.data in self._pending:
                    self._advance(key.data)
            self._expire()

    def drain(self) -> None:
        """Close the door, let messages under way finish for `drain_seconds`, then cut what is left."""
        self._selector.unregister(self._listening)
        self._listening.close()
        for pending in list(self._pending):
            self._drop(pending)
        if not self._wait_until_empty(self._settings.drain_seconds):
            with self._lock:
                left = list(self._running)
            for association in left:
                association.cut()
            self._wait_until_empty(1.0)

    def _wait_until_empty(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while self._running and time.monotonic() < deadline:
            time.sleep(0.02)
        return not self._running

    # --- waiting places -----------------------------------------------------------------------------------------

    def _patience(self, next_counters: float) -> float:
        deadlines = [pending.deadline for pending in self._pending]
        return max(0.0, min([next_counters, *deadlines]) - time.monotonic())

    def _accept(self) -> None:
        for _ in range(_ACCEPTS_A_TURN):
            try:
                connection, where = self._listening.accept()
            except BlockingIOError:
                return
            except OSError:
                # Out of descriptors: the oldest silent connection makes room, and nothing spins.
                self._evict(Counter(pending.address for pending in self._pending))
                time.sleep(0.01)
                return
            connection.setblocking(False)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._admit_to_wait(connection, plain_address(where[0]))

    def _admit_to_wait(self, connection: socket.socket, address: str) -> None:
        held = Counter(pending.address for pending in self._pending)
        if held[address] >= self._settings.max_pending_per_address:
            self._evict(Counter({address: held[address]}))
        elif len(self._pending) >= self._settings.max_pending:
            self._evict(held)
        pending = _Pending(connection, address, time.monotonic() + self._settings.request_timeout)
        self._pending[pending] = None
        self._selector.register(connection, selectors.EVENT_READ, pending)
        self._intake.count("connections")

    def _evict(self, held: Counter[str]) -> None:
        """The address with most places loses its oldest connection."""
        if held:
            heaviest = held.most_common(1)[0][0]
            self._drop(next(pending for pending in self._pending if pending.address == heaviest))
            self._intake.count("evicted")

    def _drop(self, pending: _Pending) -> None:
        self._forget(pending)
        pending.connection.close()

    def _forget(self, pending: _Pending) -> None:
        del self._pending[pending]
        self._selector.unregister(pending.connection)

    def _expire(self) -> None:
        now = time.monotonic()
        for pending in [each for each in self._pending if each.deadline <= now]:
            self._intake.count("silent", 0 if pending.closing else 1)
            self._drop(pending)

    def _advance(self, pending: _Pending) -> None:
        """Take what came; act once the request is whole."""
        try:
            data = pending.connection.recv(4096 if pending.closing else min(pending.wanted - len(pending.received), _MAX_READ))
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._drop(pending)
        elif not pending.closing:
            pending.received += data
            if len(pending.received) == pending.wanted:
                self._read_header(pending) if pending.wanted == 6 else self._decide(pending)

    def _read_header(self, pending: _Pending) -> None:
        kind, length = association_pdu.PDU_HEADER.unpack(pending.received)
        if kind != association_pdu.ASSOCIATE_RQ:
            known = association_pdu.ASSOCIATE_RQ < kind <= association_pdu.ABORT
            self._say_no(pending, association_pdu.encode_abort(AbortReason.UNEXPECTED_PDU if known else AbortReason.UNRECOGNISED_PDU))
        elif not 68 <= length <= association_pdu.MAX_REQUEST_BYTES:
            self._refuse_malformed(pending, "the association request claims an impossible length")
        else:
            pending.wanted += length

    # --- the decision -------------------------------------------------------------------------------------------

    def _decide(self, pending: _Pending) -> None:
        try:
            request = association_pdu.parse_request(bytes(pending.received[6:]))
        except ValueError as exc:
            self._refuse_malformed(pending, str(exc))
            return
        rules = self._peer_policy.rules(request.calling_ae if request.calling_is_plain else "", pending.address)
        party = Party(
            calling_ae=request.calling_ae,
            called_ae=request.called_ae,
            address=pending.address,
            may_send=any(rule.may_send for rule in rules),
        )
        refusal = self._objection(request, party, is_listed=bool(rules))
        if refusal is None:
            self._start(pending, request, party)
            return
        rejection, code, reason = refusal
        self._intake.count("rejected")
        self._intake.notice(notices.REFUSED_ASSOCIATION, party, code, reason)
        self._say_no(pending, association_pdu.encode_reject(rejection))

    def _objection(self, request: AssociationRequest, party: Party, *, is_listed: bool) -> tuple[Rejection, str, str] | None:
        """Why this request is rejected: the answer, a code and a sentence for the notice; None when it is welcome."""
        if not request.protocol_version & 1:
            return association_pdu.PROTOCOL_VERSION_NOT_SUPPORTED, "protocol-version", "the peer does not speak protocol version 1"
        if request.application_context != contexts.APPLICATION_CONTEXT:
            return association_pdu.APPLICATION_CONTEXT_NOT_SUPPORTED, "application-context", "not the DICOM application context"
        ours = self._settings.ae_title.strip()
        is_ours = self._settings.accept_any_called or (request.called_is_plain and request.called_ae == ours)
        called = f"it called {party.called_ae or 'no AE title'}, and this listener is {ours}"
        if not is_listed:
            code, reason = self._peer_policy.objection(party.calling_ae, party.address, is_plain=request.calling_is_plain)
            if not is_ours:
                code, reason = BOTH_TITLES, f"{reason}; also {called}: no line here admits it until the device calls {ours}"
            return association_pdu.CALLING_AE_NOT_RECOGNISED, code, reason
        if not is_ours:
            return (
                association_pdu.CALLED_AE_NOT_RECOGNISED,
                "called-ae",
                f"the called AE title is not {ours}: {called}. Set it at the device",
            )
        return self._over_limit(party)

    def _over_limit(self, party: Party) -> tuple[Rejection, str, str] | None:
        with self._lock:
            everywhere, from_here = len(self._running), sum(1 for each in self._running.values() if each == party.address)
        if everywhere >= self._settings.max_associations:
            return association_pdu.LOCAL_LIMIT_EXCEEDED, "limit", "max_associations are running"
        if from_here >= self._settings.max_per_address:
            return association_pdu.LOCAL_LIMIT_EXCEEDED, "limit-address", "max_per_address associations run from this address"
        return None

    def _start(self, pending: _Pending, request: AssociationRequest, party: Party) -> None:
        self._forget(pending)
        accepted = association_pdu.negotiate(request, self._offered)
        if refused := refusal_reasons.refused_contexts(request, accepted, self._offered):
            self._intake.notice(notices.REFUSED_ASSOCIATION, party, *refused)
        pending.connection.setblocking(True)
        association = Association(
            pending.connection,
            request=request,
            accepted=accepted,
            party=party,
            intake=self._intake,
            stopping=self._stopping.fileno(),
        )
        with self._lock:
            self._running[association] = party.address
        self._intake.count("associations_accepted")
        acceptance = association_pdu.encode_accept(request, accepted, self._offered, self._settings.pdu_size)
        try:
            threading.Thread(target=self._serve, args=(association, acceptance), name="association", daemon=True).start()
        except RuntimeError:
            # No thread to be had: this peer is told nothing and tries again; the gate itself must go on.
            del self._running[association]
            association.close()

    def _serve(self, association: Association, acceptance: bytes) -> None:
        try:
            association.run(acceptance)
        finally:
            with self._lock:
                del self._running[association]

    def _refuse_malformed(self, pending: _Pending, reason: str) -> None:
        self._intake.count("rejected")
        stranger = Party(calling_ae="", called_ae="", address=pending.address)
        self._intake.notice(notices.REFUSED_ASSOCIATION, stranger, "malformed", reason)
        self._say_no(pending, association_pdu.encode_abort(AbortReason.INVALID_PARAMETER))

    def _say_no(self, pending: _Pending, pdu: bytes) -> None:
        """Send the last word and give the peer a moment to close: closing first would destroy it on its way."""
        try:
            pending.connection.send(pdu)
            pending.connection.shutdown(socket.SHUT_WR)
        except OSError:
            self._drop(pending)
            return
        pending.closing = True
        pending.deadline = time.monotonic() + self._settings.acse_timeout
