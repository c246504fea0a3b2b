"""While a message is sent, the thread of its association stands still: it would take the answer off the queue."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from prioritizer.dicom.scu.association import Checkpoint

SECONDS = 20.0


class Reactor(threading.Thread):
    """A thread like pynetdicom's: past the checkpoint it looks at the queue, which here takes until `go`."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.checkpoint = Checkpoint()
        self.past, self.go = threading.Event(), threading.Semaphore(0)
        self.looked, self.ends = 0, False

    def run(self) -> None:
        while not self.ends:
            self.checkpoint.wait()
            self.past.set()
            self.go.acquire()
            self.looked += 1


@pytest.fixture
def reactor() -> Iterator[Reactor]:
    thread = Reactor()
    thread.start()
    yield thread
    thread.ends = True
    thread.checkpoint.set()
    thread.go.release(5)
    thread.join(SECONDS)
    assert not thread.is_alive()


def test_a_thread_that_is_past_the_checkpoint_does_not_count_as_standing_still(reactor: Reactor):
    assert reactor.past.wait(SECONDS)
    assert not reactor.checkpoint.pause(0.2, reactor.is_alive)


def test_a_pause_begins_when_the_thread_came_round_again_and_lasts_until_it_is_ended(reactor: Reactor):
    assert reactor.past.wait(SECONDS)
    with ThreadPoolExecutor() as pool:
        for turn in (1, 2, 3):
            pausing = pool.submit(reactor.checkpoint.pause, SECONDS, reactor.is_alive)
            reactor.go.release(2)
            assert pausing.result(SECONDS)
            assert reactor.looked == turn, "it looked once, before it stood still, and takes nothing while it does"
            reactor.go.acquire()
            reactor.past.clear()
            reactor.checkpoint.set()
            assert reactor.past.wait(SECONDS)


def test_a_thread_that_ended_holds_nobody_up(reactor: Reactor):
    assert reactor.past.wait(SECONDS)
    reactor.ends = True
    reactor.go.release()
    reactor.join(SECONDS)
    assert reactor.checkpoint.pause(SECONDS, reactor.is_alive)
