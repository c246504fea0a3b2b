"""`prioritizer doctor`: walk each chain of a live system from the bottom up and stop at the first broken layer, with its mend."""

from __future__ import annotations

import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import sqlalchemy as sa

from prioritizer.config.sections import DestinationSection as ConfiguredDestination
from prioritizer.config.settings import Settings
from prioritizer.db.activity import senders
from prioritizer.db.worklist import counts as worklist_counts
from prioritizer.dicom.result.encodings import proposed_results
from prioritizer.dicom.scu.destination import Destination
from prioritizer.dicom.scu.sender import Sender
from prioritizer.dicom.stand_ins.phantom_files import PhantomPatient, phantom_file
from prioritizer.errors import ConfigError, PermanentRefusal, PrioritizerError, Transient
from prioritizer.selfcheck.check import SET_IT, Proof

CONNECT_S = 5.0
LOOK_EVERY_S = 1.0
ECHOED = "C-ECHO"
TEST_NUMBER = 999_999
"""The phantom patient of the test image: PHANTOM^999999, never a person."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One layer of a chain: what it proves, how, and the mend when it is broken."""

    what: str
    prove: Callable[[], str]
    """Returns what was seen; raises OSError or PrioritizerError."""
    mend: str


def examine(settings: Settings, *, send: bool) -> Iterator[Proof]:
    """Our own chain, then one chain a destination; with `send`, a phantom image travels each of them."""
    yield from walk(our_chain(settings, send=send))
    for destination in settings.destinations:
        yield from walk(destination_chain(destination, settings.listener.ae_title, send=send))


def walk(chain: list[Layer]) -> Iterator[Proof]:
    """The layers up to and including the first broken one."""
    for layer in chain:
        try:
            said = layer.prove()
        except (OSError, PrioritizerError) as error:
            yield Proof(what=layer.what, ok=False, said=str(error), mend=layer.mend)
            return
        yield Proof(what=layer.what, ok=True, said=said)


def our_chain(settings: Settings, *, send: bool) -> list[Layer]:
    """Database, page, listener socket, association, and a test image through to the list."""
    chain = [
        Layer(what="ledger", prove=lambda: _ledger(settings), mend="Run `prioritizer check`"),
        Layer(what="daemon", prove=lambda: _ready(settings), mend="Start it: systemctl start prioritizer; the journal says why it stopped"),
    ]
    return [*chain, *listener_chain(settings, send=send)]


def listener_chain(settings: Settings, *, send: bool) -> list[Layer]:
    """Listener socket, association, and with `send` a test image through to the list."""
    listener = settings.listener
    host = "127.0.0.1" if listener.host in ("0.0.0.0", "") else listener.host
    calling = next((peer.ae_title for peer in settings.peers if peer.ae_title != "*"), "DOCTOR")
    us = Destination(name="listener", ae_title=listener.ae_title, host=host, port=listener.port, calling_ae=calling)
    chain = [
        Layer(
            what="listener: TCP", prove=lambda: _connect(host, listener.port), mend="journalctl -u prioritizer names the listener's fault"
        ),
        Layer(
            what=f"listener: C-ECHO as {calling}",
            prove=lambda: _echo(us),
            mend="`prioritizer status` shows the refusal. From this machine only a peer whose host is this machine's address is admitted",
        ),
    ]
    if send:
        chain.append(
            Layer(what="listener: test image", prove=lambda: _store(us), mend="The status names the reason; see docs/operating.md")
        )
    return chain


def destination_chain(configured: ConfiguredDestination, our_title: str, *, send: bool) -> list[Layer]:
    """Name, TCP, association and, with `send`, a test image to one destination."""
    name = configured.name
    calling = configured.calling_ae_title or our_title
    there = Destination(name=name, ae_title=configured.ae_title, host=configured.host, port=configured.port, calling_ae=calling)
    chain = [
        Layer(what=f"{name}: name", prove=lambda: _resolve(configured.host), mend="Write its address, or mend the DNS"),
        Layer(
            what=f"{name}: TCP",
            prove=lambda: _connect(configured.host, configured.port),
            mend="Is the PACS up, the port right, a firewall or the unit's IPAddressAllow in between?",
        ),
        Layer(
            what=f"{name}: C-ECHO",
            prove=lambda: _echo(there),
            mend=f"The PACS must know {calling} at this machine's address and be called {configured.ae_title}",
        ),
        Layer(
            what=f"{name}: results",
            prove=lambda: _takes_results(there),
            mend=SET_IT,
        ),
    ]
    if send:
        chain.append(
            Layer(what=f"{name}: test image", prove=lambda: _store(there), mend="Let the PACS accept CR images from us for the test")
        )
    return chain


def wait_for(engine: sa.Engine, title: str, seconds: float) -> Iterator[Proof]:
    """What the device of this AE title sends from now on, as it comes: C-ECHO, refusals, and the first image, which ends the wait."""
    began, told = datetime.now(UTC), set[tuple[str, datetime]]()
    last = time.monotonic() + seconds
    while True:
        found = senders.came(engine, title, began)
        for refusal in reversed(found.refusals):
            if (refusal.reason, refusal.at) not in told:
                told.add((refusal.reason, refusal.at))
                mend = f"Add to the configuration and reload:\n{refusal.admitting_toml}" if refusal.admitting_toml else ""
                said = f"{refusal.calling_ae} at {refusal.address} was refused: {refusal.reason}"
                yield Proof(what=title, ok=True, warning=True, said=said, mend=mend)
        for echo in found.echoes:
            if (ECHOED, echo.at) not in told:
                told.add((ECHOED, echo.at))
                yield Proof(what=title, ok=True, said=f"its C-ECHO from {echo.address} was answered at {echo.at.astimezone():%H:%M:%S}")
        if found.images:
            image = found.images[-1]
            said = f"an image from {image.address} was received at {image.received_at.astimezone():%H:%M:%S}, study {image.study_uid}"
            yield Proof(what=title, ok=True, said=said)
            return
        if time.monotonic() >= last:
            mend = "Is the AE title, address and port at the device ours, and a firewall or the unit's IPAddressAllow in between?"
            yield Proof(what=title, ok=False, said=f"no image came in {seconds:g} s", mend=mend)
            return
        time.sleep(LOOK_EVERY_S)


def _ledger(settings: Settings) -> str:
    from prioritizer.db.schema import connect

    if missing := connect.missing_file(settings.database_url):
        raise ConfigError((f"there is no database at {missing}: the daemon makes it at its first start; is store.data right?",))
    counts = worklist_counts.counts(connect.open_ledger(settings.database_url))
    return f"{counts.open} open studies, {counts.unsent} results waiting, {counts.rejected} refused"


def _ready(settings: Settings) -> str:
    web = settings.web
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(web.host, web.host)
    address = f"{f'[{host}]' if ':' in host else host}:{web.port}/readyz"
    trust = None
    if web.tls_certificate is not None:
        # It is ourselves that we ask, by an address: the certificate of the page is what must answer, whatever name it bears.
        trust = ssl.create_default_context(cafile=str(web.tls_certificate))
        trust.check_hostname, trust.verify_flags = False, trust.verify_flags | ssl.VERIFY_X509_PARTIAL_CHAIN
    url = f"https://{address}" if trust else f"http://{address}"
    try:
        with urllib.request.urlopen(url, timeout=CONNECT_S, context=trust):  # noqa: S310 - our own page, either way of HTTP
            return "ready"
    except urllib.error.HTTPError as error:
        raise Transient(error.read().decode("utf-8", "replace")[:500]) from error


def _resolve(host: str) -> str:
    return str(socket.getaddrinfo(host, None)[0][4][0])


def _connect(host: str, port: int) -> str:
    with socket.create_connection((host, port), timeout=CONNECT_S) as connection:
        return f"{connection.getpeername()[0]}:{port} answers"


def _echo(there: Destination) -> str:
    sender = Sender()
    try:
        sender.echo(there)
    finally:
        sender.close()
    return f"{there.ae_title} answers {there.calling_ae}"


def _takes_results(there: Destination) -> str:
    sender = Sender()
    try:
        offer = sender.offer(there)
    finally:
        sender.close()
    if not offer.result_syntaxes:
        raise Transient(f"{there.ae_title} accepts no result: {proposed_results()} was proposed")
    return f"{there.ae_title} takes results in {', '.join(offer.result_syntaxes)}"


def _store(there: Destination) -> str:
    sender = Sender()
    try:
        sender.send(there, phantom_file(PhantomPatient(number=TEST_NUMBER, taken_at=datetime.now(UTC), rows=256, columns=224)))
    except PermanentRefusal as error:
        raise Transient(str(error)) from error
    finally:
        sender.close()
    return f"PHANTOM^{TEST_NUMBER} stored; read it away from the list"
