"""Connections to the page: how many, how many of one address, and how long one may take to ask for something.

The listener of DICOM has the same limits (SAFETY). The page runs in its process: files and sockets that a stranger holds here would be
missing there.
"""

from __future__ import annotations

import asyncio
import ipaddress
import resource
from functools import lru_cache
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from prioritizer.web.http.auth import same_address

MAX_COUNT = 2048
"""Connections in all, or half of the files that the process may open where that is less."""
MAX_OF_ONE_ADDRESS = 256
"""Forty browsers behind one address hold six each. A proxy of the site holds those of everybody and is not counted."""
REQUEST_S = 20.0
"""Seconds from the connection, or from the last answer, to the next whole head of a request. uvicorn ends silent ones after five."""


class Guarded(H11Protocol):
    """uvicorn's, with a count at the door and a clock for the head of a request. What was asked may take as long as it takes."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Let it in, or end it."""
        super().connection_made(transport)
        if self._is_one_too_many():
            transport.abort()
        else:
            self._wait_for_request()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over."""
        self._stop_waiting()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        """Something came; a request whose head is whole is waited for no more."""
        super().handle_events()
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_waiting()

    def on_response_complete(self) -> None:
        """The next request may have begun already."""
        super().on_response_complete()
        if self.cycle.response_complete and not self.transport.is_closing():
            self._wait_for_request()

    def _is_one_too_many(self) -> bool:
        if len(self.connections) > most_connections():
            return True
        address = self.client[0] if self.client else ""
        if any(same_address(address, proxy) for proxy in getattr(getattr(self.config.app, "state", None), "proxies", ())):
            return False
        others = [other.client for other in self.connections if isinstance(other, Guarded) and other.client]
        return [place_of(host) for host, _ in others].count(place_of(address)) > MAX_OF_ONE_ADDRESS

    def _wait_for_request(self) -> None:
        self._stop_waiting()
        self._deadline = self.loop.call_later(REQUEST_S, self.transport.abort)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def most_connections() -> int:
    """In all: what the listener, the ledger and the spool need is left to them."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MAX_COUNT if files == resource.RLIM_INFINITY else min(MAX_COUNT, files // 2)


@lru_cache(maxsize=4096)
def place_of(address: str) -> str:
    """What is counted as one address: of IPv6 the network of 64 bits, whose addresses a machine makes by itself."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if found.version == 4:
        return address
    return str(found.ipv4_mapped or ipaddress.ip_network((int(found), 64), strict=False))
