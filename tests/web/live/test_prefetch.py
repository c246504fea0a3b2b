"""The films of the next study are made ready, and nothing else happens by it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta

import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient

from prioritizer.access import Role
from prioritizer.db.accounts import people, sessions
from prioritizer.db.list_order.order import Wanted
from prioritizer.db.worklist import reading
from prioritizer.errors import Unprocessable
from prioritizer.imaging.display import Shown
from prioritizer.web.app import page_app
from prioritizer.web.http.auth import COOKIE
from prioritizer.web.live.prefetch import KEPT_S, Prefetch
from tests.support.ledgers import LEASE, NOW, film, kinds, receive, scored
from tests.support.page_client import backend_of


class Maker:
    """Makes images and remembers which."""

    scale = 1.0

    def __init__(self, size: int = 10) -> None:
        self.made: list[str] = []
        self.size = size
        self.gate = threading.Event()
        self.gate.set()

    def film(self, sop_instance_uid: str) -> Shown:
        self.gate.wait(20)
        self.made.append(f"film {sop_instance_uid}")
        return Shown(png=b"f" * self.size, rows=1, columns=1, low=0.0, high=1.0)

    def display(self, sop_instance_uid: str) -> bytes:
        if sop_instance_uid == "broken":
            raise Unprocessable("pixels", "cannot be read")
        self.made.append(f"display {sop_instance_uid}")
        return b"d" * self.size

    def heat(self, saliency: bytes, rows: int, columns: int) -> bytes:
        return b""


def settled(ahead: Prefetch) -> None:
    """The worker has nothing more to do."""
    ahead._worker.submit(lambda: None).result(20)


def test_a_picture_is_made_once_and_leaves_when_it_is_old_or_there_are_too_many() -> None:
    moment, maker = [0.0], Maker()
    ahead = Prefetch(most_bytes=25, clock=lambda: moment[0])
    assert ahead.display(maker, "1") == ahead.display(maker, "1")
    assert maker.made == ["display 1"]
    ahead.film(maker, "1")
    ahead.film(maker, "2")
    ahead.film(maker, "2")
    assert maker.made == ["display 1", "film 1", "film 2"]
    ahead.display(maker, "1")
    assert maker.made[-1] == "display 1", "the oldest had left"
    moment[0] = KEPT_S
    ahead.display(maker, "1")
    assert maker.made.count("display 1") == 3


def test_one_study_is_prepared_at_a_time_and_a_fault_is_told_to_who_opens_it() -> None:
    maker, ahead = Maker(), Prefetch()
    maker.gate.clear()
    assert ahead.prepare(maker, lambda: ["1"])
    assert not ahead.prepare(maker, lambda: ["2"])
    maker.gate.set()
    settled(ahead)
    assert maker.made == ["display 1", "film 1"]
    assert ahead.prepare(maker, lambda: ["broken", "3"])
    settled(ahead)
    with pytest.raises(Unprocessable):
        ahead.display(maker, "broken")
    assert ahead.prepare(maker, lambda: ["4"])


def opened(ledger: sa.Engine, maker: Maker, look: Callable[[TestClient], object]) -> None:
    people.add(ledger, "ito", Role.READER, "tests", NOW)
    app = page_app(backend_of(ledger, now=lambda: NOW + timedelta(minutes=1), images=lambda: maker))
    client = TestClient(app, base_url="http://127.0.0.1")
    client.cookies.set(COOKIE, sessions.begin(ledger, "ito", "127.0.0.1", NOW))
    look(client)
    settled(app.state.context.prefetch)


def look(client: TestClient) -> None:
    """As the page does: the study, then its film."""
    assert client.get("/study/1.2.1").status_code == 200
    assert client.get("/study/1.2.1/film/1.2.1.1.png").status_code == 200


FILM = {"has_pixels": True, "number_of_frames": 1}


def test_who_opens_a_study_finds_the_next_one_ready_and_nothing_is_claimed(ledger: sa.Engine):
    maker = Maker()
    for number in (1, 2, 3):
        scored(ledger, f"1.2.{number}", 0.1, NOW + timedelta(minutes=number), **FILM)
    reading.claim(ledger, "1.2.2", "berg", LEASE, NOW)
    opened(ledger, maker, look)
    assert maker.made == ["film 1.2.1.1", "display 1.2.3.1", "film 1.2.3.1"], "the film of the open study comes first"
    assert "opened" not in kinds(ledger, "1.2.3")
    assert "claimed" not in kinds(ledger, "1.2.3")
    assert reading.upcoming(ledger, NOW, Wanted(), ["1.2.1"]) == reading.claim_next(ledger, "ito", LEASE, NOW, passing=["1.2.1"])


def test_films_that_wait_for_their_score_go_first(ledger: sa.Engine):
    maker = Maker()
    scored(ledger, "1.2.1", 0.1, **FILM)
    receive(ledger, film(1, "1.2.2", **FILM))
    opened(ledger, maker, look)
    assert maker.made == ["film 1.2.1.1"]
