"""Who may talk to the listener, and how much: its settings and the rule by which an association is admitted."""

from __future__ import annotations

import dataclasses
import ipaddress
import json
import math
import socket
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from prioritizer.dicom.standard.contexts import DEFAULT_IGNORABLE
from prioritizer.errors import ConfigError

ANY: Final = "*"
MEBIBYTE: Final = 1 << 20
MAX_NAMED: Final = 10
"""Peers that a refusal names: who reads it looks for a slip of the pen, not for the whole list."""
NO_TITLE: Final = "calling-ae-unusable"
"""Code of a refusal where the calling AE title cannot be written into a configuration: only a wildcard would admit it."""
BOTH_TITLES: Final = "both-ae"
"""Code of a refusal where neither AE title is right: no line of a configuration admits such a device."""
RESOLVE_AT_START_S: Final = 5.0
RESOLVE_AT_THE_DOOR_S: Final = 0.5
"""Seconds that the start and one association wait for host names: other associations wait with it."""
RESOLVE_AGAIN_S: Final = 60.0
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerRule:
    """One peer: its AE title and its address, network or host name. `*` admits any, and only when written out."""

    ae_title: str
    host: str
    may_send: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerSettings:
    """Everything the listener process is told; it reads no file and no environment."""

    spool: str
    ae_title: str = "PRIORITIZER"
    host: str = "127.0.0.1"
    port: int = 11112
    peers: tuple[PeerRule, ...] = ()
    # True answers to any called AE title, for modalities whose configuration cannot be changed.
    accept_any_called: bool = False
    ignorable: tuple[str, ...] = DEFAULT_IGNORABLE
    # UIDs of the encapsulated transfer syntaxes whose decoder passed the start-up self-test.
    decodable: tuple[str, ...] = ()
    max_associations: int = 32
    max_per_address: int = 16
    # Connections that have not yet sent a whole association request, in all and from one address.
    max_pending: int = 64
    max_pending_per_address: int = 32
    # 128 KiB halves the cost of 16 KiB; more gains nothing, and 0 (no limit) would be a hole in memory.
    pdu_size: int = 131_072
    max_message_bytes: int = 256 * MEBIBYTE
    # Seconds from connection to a whole association request.
    request_timeout: float = 5.0
    # Seconds an association may rest between two messages.
    network_timeout: float = 60.0
    # Seconds from the first to the last byte of one PDU, beyond what its bytes take at `min_rate`; and for a peer to take our answer.
    pdu_timeout: float = 15.0
    # Seconds between two PDUs of one message.
    dimse_timeout: float = 30.0
    # Seconds for the peer to close after a rejection, an abort or a release (ARTIM, PS3.8 9.1.5).
    acse_timeout: float = 2.0
    # Bytes a second a message must keep up with, once it is `rate_grace` seconds old: far below the slowest line that
    # carries images (a few kB/s), far above a drip.
    min_rate: int = 512
    rate_grace: float = 20.0
    # Below either watermark new instances are answered 0xA700.
    min_free_bytes: int = 2048 * MEBIBYTE
    min_free_fraction: float = 0.02
    # Seconds that running associations have to finish after SIGTERM or end of input.
    drain_seconds: float = 5.0
    counters_seconds: float = 5.0

    def to_json(self) -> str:
        """One line, to be written to the listener's standard input."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, line: str) -> ListenerSettings:
        """Settings from such a line; ConfigError names what is wrong."""
        try:
            told = json.loads(line)
            told["peers"] = read_peers(told.get("peers", ()))
            for name in ("ignorable", "decodable"):
                if name in told:
                    told[name] = tuple(told[name])
            settings = cls(**told)
        except (ValueError, TypeError, AttributeError) as exc:
            raise ConfigError((f"the listener's settings are not readable: {exc}",)) from exc
        settings.check()
        return settings

    def check(self) -> None:
        """Refuse, with ConfigError, to listen beyond this machine without a list of peers."""
        faults = []
        if not self.peers and not _is_loopback(self.host):
            faults.append(f"listening on {self.host} without any peer: add a [[peers]] entry or listen on 127.0.0.1")
        if not 4096 <= self.pdu_size <= MEBIBYTE:
            faults.append(f"pdu_size {self.pdu_size} is outside 4096..{MEBIBYTE}")
        if self.max_message_bytes <= 0 or self.max_associations <= 0:
            faults.append("max_message_bytes and max_associations must be positive")
        if faults:
            raise ConfigError(tuple(faults))


def read_peers(told: Iterable[dict[str, Any]]) -> tuple[PeerRule, ...]:
    """Peer rules from their JSON form; ValueError or TypeError when one is malformed."""
    peers = tuple(PeerRule(**each) for each in told)
    if any(not peer.ae_title.strip() or not peer.host.strip() for peer in peers):
        raise ValueError("a peer needs an ae_title and a host; write * to admit any")
    return peers


def plain_address(address: str) -> str:
    """The peer's address as an operator would write it: IPv4 inside IPv6 is unwrapped, a zone dropped."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return str(mapped or parsed)


class PeerPolicy:
    """The peer list, replaced as a whole when peers are reloaded.

    Host names are resolved at the start, and again when a peer is a stranger only by its address: at boot the names may come up later
    than the listener, and an address may change.
    """

    def __init__(self, peers: Iterable[PeerRule]) -> None:
        self._peers = tuple(peers)
        self._networks = {peer.host: _literal(peer.host) for peer in self._peers}
        self._names = tuple(host for host, networks in self._networks.items() if host != ANY and not networks)
        self._resolving: threading.Thread | None = None
        self._resolve(RESOLVE_AT_START_S)
        # The start counts for nothing: the first stranger may be the first who knocks after the names came up.
        self._resolved_at = -math.inf

    def rules(self, calling_ae: str, address: str) -> tuple[PeerRule, ...]:
        """The rules that admit this calling AE title from this address; none means it is a stranger.

        An empty title stands for one that cannot be compared: only a wildcard admits it.
        """
        of_title = [peer for peer in self._peers if peer.ae_title.strip() in (calling_ae, ANY)]
        found = self._at(of_title, address)
        due = time.monotonic() - self._resolved_at >= RESOLVE_AGAIN_S
        if found or not due or not any(peer.host in self._names for peer in of_title):
            return found
        self._resolved_at = time.monotonic()
        self._resolve(RESOLVE_AT_THE_DOOR_S)
        return self._at(of_title, address)

    def _at(self, peers: Iterable[PeerRule], address: str) -> tuple[PeerRule, ...]:
        where = ipaddress.ip_address(address)
        return tuple(peer for peer in peers if peer.host == ANY or any(where in network for network in self._networks[peer.host]))

    def _resolve(self, patience_s: float) -> None:
        """Resolve every name, and wait no longer than this many seconds: a resolver that is down holds up nobody.

        What comes later counts for the next association. A name that cannot be resolved any more keeps its last addresses.
        """
        if not self._names or (self._resolving is not None and self._resolving.is_alive()):
            return
        self._resolving = threading.Thread(target=self._look_up, name="peer-names", daemon=True)
        self._resolving.start()
        self._resolving.join(patience_s)

    def _look_up(self) -> None:
        for host in self._names:
            self._networks[host] = _resolved(host) or self._networks[host]

    def _shown(self, host: str) -> str:
        unresolved = host in self._names and not self._networks[host]
        return f"{host} (its name could not be resolved)" if unresolved else host

    def objection(self, calling_ae: str, address: str, *, is_plain: bool = True) -> tuple[str, str]:
        """Why a stranger is one: a code, and a sentence that names what is configured.

        `is_plain` is False where the title has characters that no AE title may have, shown here as `?`.
        """
        called = f"called as {calling_ae} from {address}" if calling_ae else f"called without an AE title from {address}"
        if calling_ae and not is_plain:
            called += " (with characters that no AE title has)"
        of_title = sorted({self._shown(peer.host) for peer in self._peers if peer.ae_title.strip() == calling_ae})
        if of_title and is_plain:
            return "address", f"{called}; {calling_ae} is configured at {named(of_title)}"
        titles = sorted(
            {
                f"any AE title from {self._shown(peer.host)}" if peer.ae_title.strip() == ANY else peer.ae_title.strip()
                for peer in self._peers
            }
        )
        expected = f"expected {'one of ' if len(titles) > 1 else ''}{named(titles)}" if titles else "no peer is configured"
        return "calling-ae" if calling_ae and is_plain else NO_TITLE, f"{called}; {expected}"


def named(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = len(names) - MAX_NAMED
    return ", ".join(names[:MAX_NAMED]) + (f" and {more} more" if more > 0 else "")


def _literal(host: str) -> tuple[_Network, ...]:
    """The address or network that is written out; empty for a name."""
    try:
        return (ipaddress.ip_network(host, strict=False),)
    except ValueError:
        return ()


def _resolved(host: str) -> tuple[_Network, ...]:
    """The addresses of a host name; empty where it cannot be resolved: it admits nobody, and the refusal says so."""
    try:
        found = {str(entry[4][0]).partition("%")[0] for entry in socket.getaddrinfo(host, None)}
    except (OSError, UnicodeError):
        return ()
    return tuple(ipaddress.ip_network(address) for address in sorted(found))


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
