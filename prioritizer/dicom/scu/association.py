"""Associations that we open: what is proposed in them, and why one was not to be had.

Sources: PS3.8 9.3.4 (A-ASSOCIATE-RJ), PS3.7 annex D (negotiation).
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Final

from pydicom.uid import UID
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext, build_context

from prioritizer.dicom.standard import status
from prioritizer.dicom.standard.contexts import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from prioritizer.errors import PermanentRefusal, Transient

if TYPE_CHECKING:
    from prioritizer.dicom.scu.destination import Destination

CONNECT_SECONDS: Final = 5.0
"""To a TCP connection; pynetdicom alone would hang about 30 s on a dead host."""
IDLE_SECONDS: Final = 20.0
"""An association unused for longer is released: many archives abort idle ones after 30 s, and count them."""
PDU_BYTES: Final = 131072
REJECTED_PERMANENTLY: Final = 0x01
MAX_NAMED: Final = 6
"""Contexts that a refusal names."""
PAUSE_SECONDS: Final = 5.0
"""So long the thread of an association may take to stand still; it looks about once a millisecond."""


class Checkpoint(threading.Event):
    """Where the thread of an association waits while a message is sent and answered; it tells when the thread stands there.

    pynetdicom 3.0.4 takes its thread to stand still a moment before it does. A thread that is overtaken in that moment takes the answer off
    the queue, and the answer is waited for until the time-out (`Association._run_reactor`).
    """

    def __init__(self) -> None:
        super().__init__()
        self._turn = threading.Condition()
        self._pauses = self._seen = 0
        self.set()

    def wait(self, timeout: float | None = None) -> bool:
        """Called by the thread, each time round."""
        with self._turn:
            if not self.is_set():
                self._seen = self._pauses
                self._turn.notify_all()
        return super().wait(timeout)

    def pause(self, seconds: float, is_alive: Callable[[], bool]) -> bool:
        """True once the thread stands here, and stays until `set`, or has ended; False where neither came in that time."""
        with self._turn:
            self._pauses += 1
            self.clear()
            until = time.monotonic() + seconds
            while self._seen != self._pauses and is_alive():
                if time.monotonic() > until:
                    return False
                self._turn.wait(0.05)
        return True


def open_association(destination: Destination, contexts: Iterable[tuple[UID, UID]], reply_seconds: float) -> Association:
    """An established association that proposes each (SOP class, transfer syntax) alone; Transient or PermanentRefusal."""
    entity = AE(ae_title=destination.calling_ae)
    entity.implementation_class_uid = UID(IMPLEMENTATION_CLASS_UID)
    entity.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    entity.connection_timeout = CONNECT_SECONDS
    entity.acse_timeout = entity.dimse_timeout = reply_seconds
    # Of the peer's silence between messages; the idle association is closed by us long before.
    entity.network_timeout = max(reply_seconds, 2 * IDLE_SECONDS)
    # One syntax a context: with several the acceptor would choose, and the bytes would no longer fit.
    requested: list[PresentationContext] = [build_context(sop_class, syntax) for sop_class, syntax in contexts]
    opened: list[datetime] = []
    try:
        association = entity.associate(
            destination.host,
            destination.port,
            contexts=requested,
            ae_title=destination.ae_title,
            max_pdu=PDU_BYTES,
            evt_handlers=[(evt.EVT_CONN_OPEN, _without_delay), (evt.EVT_CONN_OPEN, lambda event: opened.append(event.timestamp))],
        )
    except (OSError, ValueError) as error:
        raise Transient(f"{destination.name} cannot be reached: {getattr(error, 'strerror', None) or type(error).__name__}") from error
    if not association.is_established:
        raise _why_not_established(destination, association, connected=bool(opened))
    # A private name: pynetdicom gives no other way to know that its thread stands still.
    association._reactor_checkpoint = Checkpoint()
    return association


@contextmanager
def standing_still(association: Association) -> Iterator[None]:
    """While a message is sent and answered the thread of the association takes nothing off the queue. Raises Transient."""
    checkpoint = association._reactor_checkpoint
    assert isinstance(checkpoint, Checkpoint)
    try:
        if not checkpoint.pause(PAUSE_SECONDS, association.is_alive):
            raise Transient("the association's own thread does not stand still")
        yield
    finally:
        checkpoint.set()


def accepts(association: Association, sop_class: UID, syntax: UID) -> bool:
    """True where the peer accepted this SOP class in this transfer syntax."""
    return any(context.abstract_syntax == sop_class and syntax in context.transfer_syntax for context in association.accepted_contexts)


def _without_delay(event: evt.Event) -> None:
    """TCP_NODELAY, or Nagle and the peer's delayed ACK cost 40 ms a message."""
    transport = event.assoc.dul.socket
    if transport is not None and transport.socket is not None:
        transport.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _why_not_established(destination: Destination, association: Association, *, connected: bool) -> Transient | PermanentRefusal:
    """A-ASSOCIATE-RJ with result 1 is permanent (a wrong AE title, mostly); all else may pass."""
    if association.is_rejected:
        reply = association.acceptor.primitive
        result = None if reply is None else reply.result
        reason = "" if reply is None else f": {reply.reason_str}"
        if result == REJECTED_PERMANENTLY:
            return PermanentRefusal(status.NOT_AUTHORISED, f"{destination.name} rejected the association{reason}")
        return Transient(f"{destination.name} rejected the association for now{reason}")
    if association.rejected_contexts and not association.accepted_contexts:
        proposed = association.requestor.requested_contexts
        wanted = sorted({f"{UID(cx.abstract_syntax or '').name} in {cx.transfer_syntax[0].name}" for cx in proposed})
        said = f"{destination.name} accepts nothing of what was proposed: {'; '.join(wanted[:MAX_NAMED])}"
        return PermanentRefusal(status.SOP_CLASS_NOT_SUPPORTED, said + (" and more" if len(wanted) > MAX_NAMED else ""))
    if connected:
        return Transient(f"{destination.name} aborted the association or did not answer in time")
    return Transient(f"{destination.name} cannot be reached")
