"""A reading room under test: people who may sign in, browsers of theirs, films that arrive."""

from __future__ import annotations

import itertools
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from playwright.sync_api import Browser, Page

from prioritizer.access import Role
from prioritizer.calibration.maps import Calibration
from prioritizer.clock import utc_now
from prioritizer.db.accounts import people
from prioritizer.db.decisions import calibrations
from prioritizer.db.decisions.calibrations import CandidateVerdict
from prioritizer.inference.bundle import default_folder, open_bundle
from tests.support.browsers import context_of
from tests.support.daemons import Daemon, phantom, phantom_study_uid, sends

SLOW_MS = int(os.environ.get("SLOW_MS", "30000"))
"""It bounds a hang on a busy machine, and proves nothing about speed."""
PASSWORD = "four grey herons fly"
NUMBERS = itertools.count(5001)
BUNDLE = open_bundle(default_folder())
RAISES_ALL, RAISES_NONE = 1e-12, 1 - 1e-12
FIT = CandidateVerdict(word="fit to activate", said="It separates.", report="")


@dataclass
class Room:
    """A daemon with people."""

    daemon: Daemon
    browser: Browser
    folder: Path
    pages: list[Page] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.daemon.sections['web']['port']}"

    def let_in(self, name: str, role: Role = Role.READER) -> None:
        """A person with a password, as by a one-time link."""
        now = utc_now()
        people.accept(self.daemon.ledger, people.invite(self.daemon.ledger, name, role, "tests", now), name, PASSWORD, now)

    @contextmanager
    def signed_in(self, name: str, url: str = "", **context: object) -> Iterator[Page]:
        """A browser of one's own, signed in by the form. Whatever a script logs as an error fails the test."""
        url = url or self.url
        with context_of(self.browser, base_url=url, **context) as found:
            page, faults = found.new_page(), []
            page.on("pageerror", lambda error: faults.append(str(error)))
            page.on("console", lambda said: faults.append(said.text) if "Content Security Policy" in said.text else None)
            page.goto("/sign-in")
            page.get_by_label("Name").fill(name)
            page.get_by_label("Password").fill(PASSWORD)
            page.get_by_role("button", name="Sign in").click()
            page.wait_for_url(f"{url}/")
            yield page
            assert not faults, faults

    def film(self, *, waits: bool = True, **traits: object) -> str:
        """A phantom that arrives by C-STORE and is scored; its study UID."""
        number = next(NUMBERS)
        sends(self.daemon, phantom(self.folder, number, **traits))
        if waits:
            self.daemon.wait_scored(phantom_study_uid(number))
        return phantom_study_uid(number)

    def candidate(self, t_high: float, verdict: CandidateVerdict = FIT) -> str:
        """A calibration that keeps the map and sets the threshold, so that what it raises is certain."""
        made: Calibration = replace(BUNDLE.calibration, id=f"local-{next(NUMBERS)}", t_high=t_high, t_low=0.0)
        return calibrations.add(self.daemon.ledger, BUNDLE.digest, made, verdict, "anna", utc_now()).id


class Wire:
    """A cable between browsers and the daemon that can be pulled and put back."""

    def __init__(self, to: int) -> None:
        self._to, self._up = to, True
        self._held: list[socket.socket] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listening.accept()
            except OSError:
                return
            if not self._up:
                near.close()
                continue
            far = socket.create_connection(("127.0.0.1", self._to))
            self._held += [near, far]
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=self._carry, args=(one, other), daemon=True).start()

    @staticmethod
    def _carry(one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            while data := one.recv(65536):
                other.sendall(data)
        with suppress(OSError):
            other.shutdown(socket.SHUT_WR)

    def pull(self) -> None:
        """Nothing goes through any more."""
        self._up = False
        held, self._held = self._held, []
        for one in held:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def put_back(self) -> None:
        """It goes through again."""
        self._up = True

    def close(self) -> None:
        """For good."""
        self.pull()
        # A close alone does not end an accept that waits.
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._accepting.join(timeout=10)


def rows(page: Page) -> list[str]:
    """The Study UIDs of the list as it is drawn, in order."""
    return [str(row.get_attribute("data-uid")) for row in page.locator("#rows > tr[data-uid]").all()]
