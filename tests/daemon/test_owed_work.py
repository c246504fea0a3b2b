"""What is owed is tried until it is done; one that cannot be done stops no other."""

from __future__ import annotations

import pytest

from prioritizer.daemon.owed_work import Owed
from prioritizer.errors import Transient


def failing(times: int, done: list[str], name: str = "re-rank"):
    left = [times]

    def work() -> None:
        if left[0]:
            left[0] -= 1
            raise Transient("the database does not answer")
        done.append(name)

    return work


def test_it_is_done_when_it_can_be():
    owed, done = Owed(), list[str]()
    owed.owe("re-rank", failing(2, done))
    owed.step()
    assert owed.names == ("re-rank",)
    owed.step()
    owed.step()
    assert (done, owed.names) == (["re-rank"], ())
    owed.step()
    assert done == ["re-rank"]


def test_what_cannot_be_done_stops_nothing_else():
    owed, done = Owed(), list[str]()
    owed.owe("never", failing(99, done))
    owed.owe("peers", failing(0, done, "peers"))
    owed.step()
    assert (done, owed.names) == (["peers"], ("never",))


def test_the_newest_of_one_name_replaces_the_older():
    owed, done = Owed(), list[str]()
    owed.owe("re-rank", failing(0, done, "old"))
    owed.owe("re-rank", failing(0, done, "new"))
    owed.step()
    assert done == ["new"]


def test_what_is_owed_again_while_it_is_done_is_done_again():
    owed, done = Owed(), list[str]()

    def work() -> None:
        done.append("first")
        owed.owe("re-rank", failing(0, done, "second"))

    owed.owe("re-rank", work)
    owed.step()
    owed.step()
    assert done == ["first", "second"]


@pytest.mark.parametrize("error", [Transient("x"), OSError(5, "EIO"), KeyError("own"), TypeError("x")])
def test_any_fault_keeps_it_owed(error: Exception):
    owed = Owed()

    def work() -> None:
        raise error

    owed.owe("re-rank", work)
    owed.step()
    assert owed.names == ("re-rank",)
